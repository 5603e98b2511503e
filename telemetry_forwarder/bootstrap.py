"""The part that the user's cold start waits for: listen, register, subscribe, and only then load the rest.

Lambda starts the runtime when every extension has registered, so this module is written for the time until then:
of the standard library it imports C modules that cost nothing (`socket` alone would take as long as the
interpreter's own start), and of the project the import-free `variables`.
Source: lambda-extension ordering as in AWS's Runtime Interface Emulator, `internal/lambda/rapid/handlers.go`.
"""

import _socket
import sys
from time import monotonic, sleep

from telemetry_forwarder import __version__, variables

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, MutableMapping

    from telemetry_forwarder.early import Early

    Run = Callable[["Registration", "_socket.socket | None", Mapping[str, str], "list[_socket.socket]"], int]

API = "/2020-01-01/extension"
TELEMETRY = "/2022-07-01/telemetry"  # the path's version is fixed; the schema's goes into the body
SCHEMAS = ("2025-01-29", "2022-12-13")
BACKLOG = 128
# Records refer to nothing that refers to them: looking for cycles seldom finds any, and may wait for a batch or more.
GC_THRESHOLD = 10_000
SECRETS_BACKLOG = 1024  # hundreds may ask at once, long before they can be answered
SUBSCRIBE_S, REPORT_S = 5.0, 1.0  # for Lambda's answer: INIT waits for the one, the end of this process for the other
CA_VARIABLES = ("SSL_CERT_FILE", "SSL_CERT_DIR")


class Registration:
    """What came of registering: `status` 200 and an `identifier`, or Lambda's refusal in `body`.

    `subscription` is what came of subscribing to telemetry: status, schema and the body of the answer; None where it
    was not asked for. Status 0: there was no answer, and the body says why. `subscribe_later` asks for it when it is to
    wait until telemetry is served. `early` sees to the first `/event/next` while the application is loaded.
    """

    __slots__ = (
        "body", "early", "events", "identifier", "name", "runtime_api", "status", "subscribe_later", "subscription",
    )  # fmt: skip

    def __init__(self, runtime_api: str, name: str, events: "tuple[str, ...]") -> None:
        self.runtime_api = runtime_api
        self.name = name
        self.events = events
        self.status = 0
        self.identifier = ""
        self.body = b""
        self.subscription: tuple[int, str, bytes] | None = None
        self.subscribe_later: Callable[[], tuple[int, str, bytes]] | None = None
        self.early: Early | None = None


def main(name: str, environ: "MutableMapping[str, str]") -> int:
    """Run the extension called `name` until Lambda ends it; return the exit code. `environ` is the process's own."""
    runtime_api = environ.get("AWS_LAMBDA_RUNTIME_API", "")
    if not runtime_api:
        say("AWS_LAMBDA_RUNTIME_API is not set: this program is started by Lambda, or by `telemetry-forwarder local`.")
        return 1
    listener = listen(variables.read("TELEMETRY_FORWARDER_PORT", environ))
    doors = listen_for_secrets(environ)
    registration = register(runtime_api, name, events(environ, can_listen=listener is not None))
    if registration.status != 200 or not registration.identifier:
        reason = registration.body[:500].decode("utf-8", "replace")
        say(f"Lambda refused to register {name}: {registration.status} {reason}")
        return 1
    if listener is not None and has_sink(environ):
        if environ.get("AWS_LAMBDA_INITIALIZATION_TYPE") == variables.MANAGED_INSTANCES:
            # Their core (AWS's emulator of it, at least) sends one batch at a time, gives up the next while that one is
            # not answered, and then gets stuck. There is no hurry either: INIT takes minutes there, if it has to.
            registration.subscribe_later = lambda: subscribe(registration, environ)
        else:
            registration.subscription = subscribe(registration, environ)
            registration.early = begin(registration, environ)
    try:
        run = load(environ)
    except Exception as error:  # noqa: BLE001 - an older Python raises SyntaxError, a broken wheel anything
        # Most likely a layer made for another Python or another processor: the function must not suffer for it.
        say(f"The extension cannot run on Python {sys.version.split()[0]}: {error}. No telemetry is forwarded.")
        for one in (listener, *doors):  # nobody will ever answer there
            if one is not None:
                one.close()
        return idle(registration, is_strict=variables.read("TELEMETRY_FORWARDER_STRICT", environ))
    return run(registration, listener, environ, doors)


def begin(registration: Registration, environ: "Mapping[str, str]") -> "Early | None":
    """See to it that the first event is asked for in time, whatever is still to be loaded then.

    Not in strict mode, where INIT has to wait for the judgement on the settings; and not without a subscription, which
    has to be answered before.
    """
    subscribed = registration.subscription is not None and registration.subscription[0] in (200, 202)
    if not subscribed or variables.read("TELEMETRY_FORWARDER_STRICT", environ):
        return None
    from telemetry_forwarder.early import Early, budget_ms

    early = Early(registration.runtime_api, registration.identifier, environ, send)
    if registration.subscription is not None and registration.subscription[0] == 202:
        early.hold_s = 0.0  # no telemetry will come
    early.start(budget_ms(environ) / 1000)
    return early


def load(environ: "MutableMapping[str, str]") -> "Run":
    """Import the application and what its sinks need. Here and not above: it takes ten times as long as this module.

    botocore's aiohttp loads the system's CA certificates when it is imported, for contexts that are not used here (a
    client makes its own, once). Naming an empty file meanwhile saves a tenth of the import.
    """
    import gc

    gc.disable()  # nothing of what is imported is garbage
    given = {name: environ.get(name) for name in CA_VARIABLES}
    environ.update(dict.fromkeys(CA_VARIABLES, "/dev/null"))
    try:
        from telemetry_forwarder.app import run

        if "cloudwatch" in variables.wanted_sinks(environ):
            import telemetry_forwarder.transports.aws
        if variables.needs_secrets(environ):
            import telemetry_forwarder.secrets.fetch  # noqa: F401 - loaded for the transports
    finally:
        for name, value in given.items():
            if value is None:
                del environ[name]
            else:
                environ[name] = value
        gc.freeze()
        gc.set_threshold(GC_THRESHOLD)
        gc.enable()
    return run


def listen(port: int) -> "_socket.socket | None":
    """Listen for telemetry on every address; None, and a log line, where the port cannot be had.

    Not on loopback alone: `sandbox.localdomain` is a link-local address. Before `/register`, because whoever is
    started after it finds the port open; the kernel queues what comes until the receiver takes the socket over.
    """
    listener = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM)
    try:
        listener.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 1)
        listener.bind(("0.0.0.0", port))  # noqa: S104 - see above; a Lambda environment has no other host in its network
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        say(f"Port {port} cannot be listened on: {error.strerror}. Choose another with TELEMETRY_FORWARDER_PORT.")
        return None
    return listener


def listen_for_secrets(environ: "Mapping[str, str]") -> "list[_socket.socket]":
    """Listen for questions about secrets, on loopback alone; nothing where they are off or the port cannot be had.

    Before `/register` too: the function may ask in the first line of its own init. `localhost` is 127.0.0.1, and ::1
    where the environment has it.
    """
    if variables.read("TELEMETRY_FORWARDER_SECRETS", environ) == "off":
        return []
    port = variables.read("PARAMETERS_SECRETS_EXTENSION_HTTP_PORT", environ)
    doors = []
    for family, address in ((_socket.AF_INET, "127.0.0.1"), (_socket.AF_INET6, "::1")):
        door = None
        try:
            door = _socket.socket(family, _socket.SOCK_STREAM)
            door.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 1)
            door.bind((address, port))
            door.listen(SECRETS_BACKLOG)
            doors.append(door)
        except OSError as error:
            if door is not None:
                door.close()
            if family == _socket.AF_INET:
                say(
                    f"Port {port} cannot be listened on, so no secrets are served: {error.strerror}. Another extension "
                    "may have it; choose another with PARAMETERS_SECRETS_EXTENSION_HTTP_PORT."
                )
                break
    return doors


def events(environ: "Mapping[str, str]", *, can_listen: bool) -> "tuple[str, ...]":
    """Return the events to register for.

    With nothing to do for an invocation it is not registered for, so that none ever waits for this process; on
    Managed Instances INVOKE is refused. Source: AWS Lambda Developer Guide, "Lambda Managed Instances".
    """
    if restores(environ):
        return ("INVOKE", "SHUTDOWN")
    if not can_listen or environ.get("AWS_LAMBDA_INITIALIZATION_TYPE") == variables.MANAGED_INSTANCES:
        return ("SHUTDOWN",)
    return ("INVOKE", "SHUTDOWN") if has_sink(environ) else ("SHUTDOWN",)


def has_sink(environ: "Mapping[str, str]") -> bool:
    """Say whether any sink has what it needs."""
    return any(may_run(sink, environ) for sink in variables.wanted_sinks(environ))


def restores(environ: "Mapping[str, str]") -> bool:
    """Say whether secrets are served in an environment that is restored from a snapshot.

    Its first INVOKE is the one sure sign that the snapshot is behind. No invocation waits for us: without sinks the
    next event is asked for at once.
    """
    return (
        environ.get("AWS_LAMBDA_INITIALIZATION_TYPE") == "snap-start"
        and variables.read("TELEMETRY_FORWARDER_SECRETS", environ) != "off"
    )


def may_run(sink: str, environ: "Mapping[str, str]") -> bool:
    """Say whether `sink` has what it needs, or is a third party's, which only it can tell."""
    if sink in variables.BUILT_IN_SINKS:
        return variables.is_sound(sink, environ)
    from importlib.metadata import entry_points  # slow, and needed for a name that is not ours alone

    return any(entry.name.lower() == sink for entry in entry_points(group="telemetry_forwarder.sinks"))


def register(runtime_api: str, name: str, wanted: "tuple[str, ...]") -> Registration:
    """Register as the extension `name`, which is the executable's own file name."""
    registration = Registration(runtime_api, name, wanted)
    body = '{"events":[' + ",".join(f'"{event}"' for event in wanted) + "]}"
    head = f"Lambda-Extension-Name: {name}\r\nLambda-Extension-Accept-Feature: accountId\r\n"
    answer = call(runtime_api, "POST", f"{API}/register", head, body)
    registration.status, headers, registration.body = answer
    registration.identifier = headers.get("lambda-extension-identifier", "")
    return registration


def subscribe(registration: Registration, environ: "Mapping[str, str]") -> "tuple[int, str, bytes]":
    """Ask for telemetry, in the newest schema that Lambda takes; return status, schema and answer.

    Where every schema is refused they are those of the first refusal.

    Asked before anything is loaded: a function that cannot be imported fails sooner than the rest of this process is
    there, and with its init Lambda closes the subscriptions, so that nothing of the failure would ever be told. The
    socket listens already; what is sent meanwhile waits in the kernel's queue. After a reset the body has to be the
    same one: another would be a second subscription. Source: AWS Lambda Developer Guide, "Telemetry API".
    """
    # `platform` always, whatever is forwarded: the end of each invocation is seen in it.
    wanted = dict.fromkeys(("platform", *variables.read("TELEMETRY_FORWARDER_TYPES", environ)))
    types = ",".join(f'"{word}"' for word in wanted)
    buffering = ",".join(
        (
            f'"maxItems":{variables.read("TELEMETRY_FORWARDER_BUFFERING_MAX_ITEMS", environ)}',
            f'"maxBytes":{variables.read("TELEMETRY_FORWARDER_BUFFERING_MAX_BYTES", environ)}',
            f'"timeoutMs":{variables.buffering_timeout_ms(environ)}',
        )
    )
    port = variables.read("TELEMETRY_FORWARDER_PORT", environ)
    head = f"Lambda-Extension-Identifier: {registration.identifier}\r\n"
    refusal = None
    for schema in SCHEMAS:
        body = (
            f'{{"schemaVersion":"{schema}","types":[{types}],"buffering":{{{buffering}}},'
            f'"destination":{{"protocol":"HTTP","URI":"http://sandbox.localdomain:{port}"}}}}'
        )
        status, _, answer = call(registration.runtime_api, "PUT", TELEMETRY, head, body, SUBSCRIBE_S)
        refusal = refusal or (status, schema, answer)
        if status in (200, 202):
            return status, schema, answer
        if status not in (400, 404):  # no matter of the schema
            break
    return refusal or (0, "", b"")


def idle(registration: Registration, *, is_strict: bool) -> int:
    """Do nothing, as Lambda wants it done: ask for events until SHUTDOWN. In strict mode, fail the start instead."""
    head = f"Lambda-Extension-Identifier: {registration.identifier}\r\n"
    if is_strict:
        error = head + "Lambda-Extension-Function-Error-Type: Extension.CannotRun\r\n"
        call(registration.runtime_api, "POST", f"{API}/init/error", error, "", REPORT_S)
        return 1
    from telemetry_forwarder import early

    waiting = registration.early.hand_over() if registration.early is not None else None
    while True:
        status, _, body = receive(*waiting) if waiting is not None else (0, {}, b"")
        waiting = None
        for pause in (0.0, *early.PAUSES):
            if status == 0:
                sleep(pause)
                status, _, body = call(registration.runtime_api, "GET", f"{API}/event/next", head, "")
        if status != 200:
            say(f"/event/next was answered {status}; the extension ends.")
            return 1
        if b'"SHUTDOWN"' in body:
            return 0


def call(
    runtime_api: str, method: str, path: str, head: str, body: str, limit_s: "float | None" = None
) -> "tuple[int, dict[str, str], bytes]":
    """Make one HTTP call on a connection of its own; return status, headers (lower-case names) and body.

    The answer is read to the length that it names, else until Lambda closes, as asked for: a proxy that a layer puts
    before the Runtime API may keep connections open all the same. Status 0: there was none, or not all of it within
    `limit_s`; the body says why.
    """
    until = limit_s and monotonic() + limit_s
    try:
        connection = send(runtime_api, method, path, head, body, limit_s)
    except (OSError, ValueError) as error:
        return 0, {}, f"no answer from AWS_LAMBDA_RUNTIME_API {runtime_api}: {error}".encode()
    return receive(connection, until=until)


def send(
    runtime_api: str, method: str, path: str, head: str, body: str, limit_s: "float | None" = None
) -> "_socket.socket":
    """Send a request on a connection of its own, which is returned. Raises OSError, ValueError for a bad address."""
    host, _, port = runtime_api.rpartition(":")
    connection = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM)
    try:
        connection.settimeout(limit_s)
        connection.connect((host, int(port)))
        connection.sendall(
            f"{method} {path} HTTP/1.1\r\nHost: {runtime_api}\r\nConnection: close\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n{head}\r\n{body}".encode()
        )
    except BaseException:
        connection.close()
        raise
    return connection


def receive(
    connection: "_socket.socket", answer: bytes = b"", until: "float | None" = None
) -> "tuple[int, dict[str, str], bytes]":
    """Read the rest of an answer, of which `answer` was read before, and close. Returns and fails as `call`.

    `until` is a point on the monotonic clock; without it there is all the time in the world.
    """
    try:
        chunk = b"-"
        while chunk and not _is_whole(answer):
            connection.settimeout(None if until is None else max(0.0001, until - monotonic()))
            answer += (chunk := connection.recv(65536))
    except OSError as error:
        return 0, {}, f"no answer from AWS_LAMBDA_RUNTIME_API: {error}".encode()
    finally:
        connection.close()
    top, _, content = answer.partition(b"\r\n\r\n")
    status_line, *lines = top.decode("latin-1").split("\r\n")
    headers = {}
    for line in lines:
        field, _, value = line.partition(":")
        headers[field.strip().lower()] = value.strip()
    words = status_line.split(" ")
    if headers.get("transfer-encoding", "").lower() == "chunked":
        content = _join_chunks(content)
    return int(words[1]) if len(words) > 1 and words[1].isascii() and words[1].isdigit() else 0, headers, content


def _is_whole(answer: bytes) -> bool:
    """Say whether all of the body is there that the answer announces; never without an announced length."""
    top, end, content = answer.partition(b"\r\n\r\n")
    if not end:
        return False
    for line in top.split(b"\r\n")[1:]:
        field, _, value = line.partition(b":")
        if field.strip().lower() == b"content-length" and value.strip().isdigit():
            return len(content) >= int(value)
    return False


def _join_chunks(content: bytes) -> bytes:
    """Return a chunked body without its framing, as far as it came. Source: RFC 9112, section 7.1."""
    body = b""
    while content:
        size, _, content = content.partition(b"\r\n")
        try:
            length = int(size.partition(b";")[0], 16)
        except ValueError:
            break
        body += content[:length]
        content = content[length + 2 :]
    return body


def say(message: str) -> None:
    """Write an own log line (see `log`), with what is at hand before JSON can be imported."""
    text = "".join(c if " " <= c <= "~" and c not in '"\\' else _escape(ord(c)) for c in message)
    sys.stdout.write(f'{{"telemetry_forwarder":"{__version__}","level":"ERROR","message":"{text}"}}\n')
    sys.stdout.flush()


def _escape(point: int) -> str:
    """Return a code point as JSON's escape: plain ASCII, whatever the encoding of standard output."""
    if point < 0x10000:
        return f"\\u{point:04x}"
    point -= 0x10000
    return f"\\u{0xD800 + (point >> 10):04x}\\u{0xDC00 + (point & 0x3FF):04x}"
