"""The part that the user's cold start waits for: listen, register, subscribe, and only then load the rest.

Lambda starts the runtime when every extension has registered, so this module has to be fast until then. From the
standard library it imports only C modules that cost nothing (`socket` alone would take as long as the interpreter's own
start), and from the project only `variables`, which imports nothing.
Source: lambda-extension ordering as in AWS's Runtime Interface Emulator, `internal/lambda/rapid/handlers.go`.
"""

import _socket
import sys

from telemetry_forwarder.lambda_api.registration import (
    Registration,
    events,
    has_sink,
    idle,
    register,
    say,
    send,
    subscribe,
    subscribing,
)
from telemetry_forwarder.variables import reading, table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, MutableMapping

    from telemetry_forwarder.lambda_api.first_event import Early

    Local = dict[str, list[_socket.socket]]  # by what the function uses them for: secrets, datagrams, otlp
    Run = Callable[["Registration", "_socket.socket | None", reading.Values, Local], int]

BACKLOG = 128
# Records are not part of reference cycles, so the garbage collector rarely finds any, and may run less often.
_GC_THRESHOLD = 10_000
_LOCAL_BACKLOG = 1024  # hundreds of requests may come at once, long before they can be answered
_DATAGRAM_BYTES = 1024 * 1024  # of datagrams that may wait while others work; the system may allow less
_CA_VARIABLES = ("SSL_CERT_FILE", "SSL_CERT_DIR")
# The packages whose own imports are lazy, beside the standard library's, where Python can do that.
_LAZY_PACKAGES = frozenset(
    (
        "aiobotocore", "aiohappyeyeballs", "aiohttp", "aiosignal", "attr", "botocore", "dateutil", "frozenlist", "idna",
        "jmespath", "msgspec", "multidict", "propcache", "urllib3", "wrapt", "yarl",
    )
)  # fmt: skip


def main(name: str, environ: "MutableMapping[str, str]") -> int:
    """Run the extension `name` until Lambda ends it; return the exit code. `environ` is the process's environment."""
    runtime_api = environ.get("AWS_LAMBDA_RUNTIME_API", "")
    if not runtime_api:
        say("AWS_LAMBDA_RUNTIME_API is not set: this program is started by Lambda, or by `telemetry-forwarder local`.")
        return 1
    values = reading.read_all(environ)
    listener = listen(values["TELEMETRY_FORWARDER_PORT"])
    local = {
        "secrets": listen_for_secrets(values),
        "datagrams": listen_for_datagrams(values),
        "otlp": listen_for_otlp(values),
    }
    registration = register(runtime_api, name, events(values, can_listen=listener is not None))
    if registration.status != 200 or not registration.identifier:
        reason = registration.body[:500].decode("utf-8", "replace")
        say(f"Lambda refused to register {name}: {registration.status} {reason}")
        return 1
    if listener is not None and has_sink(values):
        if values.given("AWS_LAMBDA_INITIALIZATION_TYPE") == table.MANAGED_INSTANCES:
            # With managed instances, Lambda (at least AWS's emulator of it) sends one batch at a time, drops the next
            # while that one is not answered, and then gets stuck. There is no hurry: INIT may take minutes there.
            registration.subscribe_later = subscribing(registration, values)
        else:
            registration.subscription = subscribe(registration, values)
            registration.early = begin(registration, values)
    try:
        run = load(environ, values)
    except Exception as error:  # noqa: BLE001 - an older Python raises SyntaxError, a broken wheel any exception
        # Most likely the layer was made for another Python or another processor. The function must not fail for that.
        say(f"The extension cannot run on Python {sys.version.split()[0]}: {error}. No telemetry is forwarded.")
        for one in (
            listener,
            *(one for some in local.values() for one in some),
        ):  # so that nobody waits there for an answer
            if one is not None:
                one.close()
        return idle(registration, is_strict=values["TELEMETRY_FORWARDER_STRICT"])
    return run(registration, listener, values, local)


def begin(registration: Registration, values: reading.Values) -> "Early | None":
    """Start a timer that asks for the first event in time, even if the app is still being loaded then.

    Returns None, without a timer, in strict mode, where INIT has to wait until the settings are checked; and without a
    subscription, which must be answered before.
    """
    subscribed = registration.subscription is not None and registration.subscription[0] in (200, 202)
    if not subscribed or values["TELEMETRY_FORWARDER_STRICT"]:
        return None
    from telemetry_forwarder.lambda_api.first_event import Early, budget_ms

    early = Early(registration.runtime_api, registration.identifier, values, send)
    if registration.subscription is not None and registration.subscription[0] == 202:
        early.hold_s = 0.0  # no telemetry will come
    early.start(budget_ms(values) / 1000)
    return early


def load(environ: "MutableMapping[str, str]", values: reading.Values) -> "Run":
    """Import the app and the modules that its sinks need; return `app.run`. It takes ten times as long as this module.

    aiohttp loads the system's CA certificates when it is imported, for SSL contexts that are not used here (a transport
    makes its own, once). Naming an empty file during the import saves 40 to 55 ms.
    """
    import gc

    gc.disable()  # imports make no garbage
    _import_lazily()
    given = {name: environ.get(name) for name in _CA_VARIABLES}
    environ.update(dict.fromkeys(_CA_VARIABLES, "/dev/null"))
    try:
        from telemetry_forwarder.app import run

        sinks = set(map(reading.kind_of, reading.wanted_sinks(values)))
        if sinks - {"cloudwatch"}:
            import telemetry_forwarder.transports.http
        if "cloudwatch" in sinks:
            import telemetry_forwarder.transports.cloudwatch_logs
        if reading.needs_secrets(values) or values["TELEMETRY_FORWARDER_SECRETS"] != "off":
            import telemetry_forwarder.secrets.service  # noqa: F401 - loaded for `wiring`
    finally:
        for name, value in given.items():
            if value is None:
                del environ[name]
            else:
                environ[name] = value
        gc.freeze()
        gc.set_threshold(_GC_THRESHOLD)
        gc.enable()
    return run


def _import_lazily() -> None:
    """Let libraries load what they import when they first use it, which most of it never is; from Python 3.15 on.

    Our own modules load what they import at once: so all that a run needs is loaded here, and not while an invocation
    is held. So do third-party sinks, whose errors are to be seen when they are opened.
    """
    if sys.version_info >= (3, 15):
        sys.set_lazy_imports_filter(_is_lazy)
        sys.set_lazy_imports("all")


def _is_lazy(importer: str, name: str, members: "tuple[str, ...] | None") -> bool:
    """Return whether `importer`, a module, may import lazily."""
    package = importer.partition(".")[0]
    return package in _LAZY_PACKAGES or package in sys.stdlib_module_names


def listen(port: int) -> "_socket.socket | None":
    """Listen for telemetry on all addresses; log and return None if the port is not available.

    Loopback alone is not enough: `sandbox.localdomain` is a link-local address. This is done before `/register`, so
    that everything that is started after it finds the port open. The kernel queues connections until the receiver
    serves the socket.
    """
    try:
        return _listening(_socket.AF_INET, "0.0.0.0", port, BACKLOG)  # noqa: S104 - no other host is in Lambda's network
    except OSError as error:
        say(f"Port {port} cannot be listened on: {error.strerror}. Choose another with TELEMETRY_FORWARDER_PORT.")
        return None


def listen_for_secrets(values: reading.Values) -> "list[_socket.socket]":
    """Listen for requests for secrets; [] if they are off or the port is not available.

    This is also done before `/register`, because the function may send a request in the first line of its own init.
    """
    if values["TELEMETRY_FORWARDER_SECRETS"] == "off":
        return []
    return _listen_locally(values, "PARAMETERS_SECRETS_EXTENSION_HTTP_PORT", "so no secrets are served")


def listen_for_otlp(values: reading.Values) -> "list[_socket.socket]":
    """Listen for OTLP of the function, whose SDK may send in its init; [] if it is off or the port is not available."""
    if not values["TELEMETRY_FORWARDER_OTLP_RECEIVER"]:
        return []
    return _listen_locally(values, "TELEMETRY_FORWARDER_OTLP_PORT", "so no OTLP of the function is taken")


def _listen_locally(values: reading.Values, variable: str, consequence: str) -> "list[_socket.socket]":
    """Listen on loopback only: `localhost` is 127.0.0.1, and also ::1 if the environment has it."""
    port, found = values[variable], []
    for family, address in ((_socket.AF_INET, "127.0.0.1"), (_socket.AF_INET6, "::1")):
        try:
            found.append(_listening(family, address, port, _LOCAL_BACKLOG))
        except OSError as error:
            if family == _socket.AF_INET:
                say(
                    f"Port {port} cannot be listened on, {consequence}: {error.strerror}. Another extension may "
                    f"have it; choose another with {variable}."
                )
                break
    return found


def listen_for_datagrams(values: reading.Values) -> "list[_socket.socket]":
    """Bind the sockets of DogStatsD, on loopback only. Returns [] if it is off or the port is not available.

    Before `/register`, too: what is sent to a port that nobody has bound is lost.
    """
    if not values["DD_USE_DOGSTATSD"]:
        return []
    port, found = values["DD_DOGSTATSD_PORT"], []
    for family, address in ((_socket.AF_INET, "127.0.0.1"), (_socket.AF_INET6, "::1")):
        one = None
        try:
            one = _socket.socket(family, _socket.SOCK_DGRAM)
            one.setsockopt(_socket.SOL_SOCKET, _socket.SO_RCVBUF, _DATAGRAM_BYTES)
            one.bind((address, port))
        except OSError as error:
            if one is not None:
                one.close()
            if family == _socket.AF_INET:
                say(
                    f"UDP port {port} cannot be bound, so no DogStatsD metrics are taken: {error.strerror}. Another "
                    "extension may have it; choose another with DD_DOGSTATSD_PORT."
                )
                break
        else:
            found.append(one)
    return found


def _listening(family: int, address: str, port: int, backlog: int) -> _socket.socket:
    """Return a socket that listens. Raises OSError."""
    listener = _socket.socket(family, _socket.SOCK_STREAM)
    try:
        listener.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
        listener.listen(backlog)
    except OSError:
        listener.close()
        raise
    return listener
