"""The exceptions of this project. An answer of a destination is a value (`interfaces.Verdict`), not one of these."""

from collections.abc import Sequence

from telemetry_forwarder.variables.table import Problem


class ForwarderError(Exception):
    """The root of all of them."""


class ConfigError(ForwarderError):
    """The environment asks for something that cannot be; carries every problem found."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__(" ".join(str(problem) for problem in problems))
        self.problems = tuple(problems)


class ExtensionsApiError(ForwarderError):
    """The Extensions or Telemetry API refused a call: `status` and the API's own `error_type`."""

    def __init__(self, call: str, status: int, error_type: str, message: str) -> None:
        super().__init__(f"{call} was answered {status} {error_type}: {message}")
        self.status = status
        self.error_type = error_type


class DecodeError(ForwarderError):
    """A body that is not a list of telemetry records."""


class EncodeError(ForwarderError):
    """A record that this sink cannot express."""


class TransportError(ForwarderError):
    """No answer came back. What was sent may have arrived all the same (at-least-once)."""


class ConnectFailed(TransportError):
    """No connection was made: name, route, refusal or TLS handshake; nothing was sent."""


class ConnectionLost(TransportError):
    """The connection ended before the answer did."""


class TimedOut(TransportError):
    """The answer did not come within the time of one attempt."""


class NotTheService(TransportError):
    """Something answered that is not who was asked: a captive portal, a proxy, another site."""


class CredentialUnavailable(TransportError):
    """The credential of a destination could not be had, so nothing was sent; the `SecretError` is its cause."""


class FailoverError(ForwarderError):
    """A place that keeps records did not take them, or did not give them; `may_pass` says that another try may help."""

    def __init__(self, detail: str, *, may_pass: bool = False) -> None:
        super().__init__(detail)
        self.may_pass = may_pass


class SecretError(ForwarderError):
    """A secret could not be read. Its text names the reference, never the value."""


class SecretNotFound(SecretError):
    """There is no such secret, parameter or JSON member."""


class SecretDenied(SecretError):
    """The function's role may not read it."""


class SecretUnavailable(SecretError):
    """The service did not answer, or asked to come back later."""
