"""The exceptions of this project. A destination's answer is no exception, but a value (`interfaces.Verdict`)."""

from collections.abc import Iterator, Sequence

from telemetry_forwarder.variables.table import Problem


class _ForwarderError(Exception):
    """The base class of all exceptions of this project."""


class ConfigError(_ForwarderError):
    """The settings in the environment are invalid; `problems` has every problem that was found."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__(" ".join(str(problem) for problem in problems))
        self.problems = tuple(problems)


class ExtensionsApiError(_ForwarderError):
    """The Extensions API or Telemetry API refused a call with an HTTP `status` and the API's own `error_type`."""

    def __init__(self, call: str, status: int, error_type: str, message: str) -> None:
        super().__init__(f"{call} was answered {status} {error_type}: {message}")
        self.status = status
        self.error_type = error_type


class DecodeError(_ForwarderError):
    """Data cannot be read as telemetry records."""


class EncodeError(_ForwarderError):
    """A record cannot be expressed in a sink's wire form, or written as JSON."""


class FilteredOut(EncodeError):
    """A record is not sent to this sink, on the user's request."""


class TransportError(_ForwarderError):
    """No answer to a request came. The request may have arrived nevertheless, so a retry may deliver twice."""


class ConnectFailed(TransportError):
    """No connection was made (name, route, refusal or TLS handshake), so nothing was sent."""


class ConnectionLost(TransportError):
    """The connection ended before the answer was complete."""


class TimedOut(TransportError):
    """The answer did not come within the timeout of one attempt."""


class NotTheService(TransportError):
    """Something other than the service answered: a captive portal, a proxy, another site."""


class CredentialUnavailable(TransportError):
    """The credential of a destination could not be read, so nothing was sent; its `__cause__` is the SecretError."""


class FailoverError(_ForwarderError):
    """The failover's S3 or SQS refused to store records or to return them. `may_pass`: a retry may help."""

    def __init__(self, detail: str, *, may_pass: bool = False) -> None:
        super().__init__(detail)
        self.may_pass = may_pass


class SecretError(_ForwarderError):
    """A secret could not be read. The text names the reference, never the value."""


class SecretNotFound(SecretError):
    """The secret, parameter or JSON member does not exist."""


class SecretDenied(SecretError):
    """The function's role may not read the secret."""


class SecretUnavailable(SecretError):
    """The service did not answer, or asked for a later retry."""


def drop_tracebacks(error: BaseException) -> None:
    """Remove the tracebacks of a library's exception, and of all exceptions that it holds.

    A connection that aiohttp has given up refers to its exception, the traceback to the frames of the request, and
    these to the connection and to the body. Such a cycle would hold the body until the next garbage collection.
    """
    found, rest = set[int](), [error]
    while rest:
        one = rest.pop()
        if id(one) not in found:
            found.add(id(one))
            one.__traceback__ = None
            rest += _held_by(one)


def _held_by(error: BaseException) -> Iterator[BaseException]:
    """Yield the exceptions that `error` refers to; aiohttp and botocore keep some in attributes."""
    for one in (error.__cause__, error.__context__, *vars(error).values(), *error.args):
        if isinstance(one, BaseException):
            yield one
        elif isinstance(one, list | tuple):
            yield from (each for each in one if isinstance(each, BaseException))
