"""Register, subscribe and idle: raw HTTP, with C modules only, before anything is loaded.

What is sent to Lambda and how its answers are read stands here alone, for calls that block (`call`) and for those of
`lambda_api.client`, which do not: `request_bytes`, `is_whole` and `parse` touch no socket.
"""

import _socket
import sys
from time import monotonic, sleep

from telemetry_forwarder import __version__
from telemetry_forwarder.variables import reading, table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator
    from typing import TypeAlias

    from telemetry_forwarder.lambda_api.first_event import Early

    Answer: TypeAlias = tuple[int, dict[str, str], bytes]  # status, headers with lower-case names, body
    # Method, path, header lines and body of one request after the other; what is sent in are the answers.
    Subscribing: TypeAlias = Generator[tuple[str, str, str, str], Answer, tuple[int, str, bytes]]


API = "/2020-01-01/extension"
TELEMETRY = "/2022-07-01/telemetry"  # the path's version is fixed; the schema's goes into the body
SCHEMAS = ("2025-01-29", "2022-12-13")
SUBSCRIBE_S, REPORT_S = 5.0, 1.0  # for Lambda's answer: INIT waits for the one, the end of this process for the other


class Registration:
    """What came of registering: `status` 200 and an `identifier`, or Lambda's refusal in `body`.

    `subscription` is what came of subscribing to telemetry: status, schema and the body of the answer; None where it
    was not asked for. Status 0: there was no answer, and the body says why. `subscribe_later` are the calls that ask
    for it where that waits until telemetry is served. `early` sees to the first `/event/next` while the application is
    loaded.
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
        self.subscribe_later: Subscribing | None = None
        self.early: Early | None = None


def events(values: reading.Values, *, can_listen: bool) -> "tuple[str, ...]":
    """Return the events to register for.

    With nothing to do for an invocation it is not registered for, so that none ever waits for this process; on
    Managed Instances INVOKE is refused. Source: AWS Lambda Developer Guide, "Lambda Managed Instances".
    """
    if restores(values):
        return ("INVOKE", "SHUTDOWN")
    if not can_listen or values.given("AWS_LAMBDA_INITIALIZATION_TYPE") == table.MANAGED_INSTANCES:
        return ("SHUTDOWN",)
    return ("INVOKE", "SHUTDOWN") if has_sink(values) else ("SHUTDOWN",)


def has_sink(values: reading.Values) -> bool:
    """Say whether any sink has what it needs."""
    return any(may_run(sink, values) for sink in reading.wanted_sinks(values))


def restores(values: reading.Values) -> bool:
    """Say whether secrets are served in an environment that is restored from a snapshot.

    Its first INVOKE is the one sure sign that the snapshot is behind. No invocation waits for us: without sinks the
    next event is asked for at once.
    """
    return (
        values.given("AWS_LAMBDA_INITIALIZATION_TYPE") == table.SNAP_START
        and values["TELEMETRY_FORWARDER_SECRETS"] != "off"
    )


def may_run(sink: str, values: reading.Values) -> bool:
    """Say whether `sink` has what it needs, or is a third party's, which only it can tell."""
    if sink in table.BUILT_IN_SINKS:
        return reading.is_sound(sink, values)
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


def subscribe(registration: Registration, values: reading.Values) -> "tuple[int, str, bytes]":
    """Subscribe to telemetry with calls that block; return as `subscribing`."""
    calls = subscribing(registration, values)
    answer = None
    try:
        while True:
            request = next(calls) if answer is None else calls.send(answer)
            answer = call(registration.runtime_api, *request, SUBSCRIBE_S)
    except StopIteration as end:
        outcome: tuple[int, str, bytes] = end.value
        return outcome


def subscribing(registration: Registration, values: reading.Values) -> "Subscribing":
    """Ask for telemetry, in the newest schema that Lambda takes; return status, schema and answer.

    A generator of requests that is sent the answers, so that whoever makes the calls may block or not. Where every
    schema is refused what is returned is of the first refusal.

    Asked before anything is loaded: a function that cannot be imported fails sooner than the rest of this process is
    there, and with its init Lambda closes the subscriptions, so that nothing of the failure would ever be told. The
    socket listens already; what is sent meanwhile waits in the kernel's queue. After a reset the body has to be the
    same one: another would be a second subscription. Source: AWS Lambda Developer Guide, "Telemetry API".
    """
    # `platform` always, whatever is forwarded: the end of each invocation is seen in it.
    wanted = dict.fromkeys(("platform", *values["TELEMETRY_FORWARDER_TYPES"]))
    types = ",".join(f'"{word}"' for word in wanted)
    buffering = ",".join(
        (
            f'"maxItems":{values["TELEMETRY_FORWARDER_BUFFERING_MAX_ITEMS"]}',
            f'"maxBytes":{values["TELEMETRY_FORWARDER_BUFFERING_MAX_BYTES"]}',
            f'"timeoutMs":{values["TELEMETRY_FORWARDER_BUFFERING_TIMEOUT_MS"]}',
        )
    )
    port = values["TELEMETRY_FORWARDER_PORT"]
    head = f"Lambda-Extension-Identifier: {registration.identifier}\r\n"
    refusal = None
    for schema in SCHEMAS:
        body = (
            f'{{"schemaVersion":"{schema}","types":[{types}],"buffering":{{{buffering}}},'
            f'"destination":{{"protocol":"HTTP","URI":"http://sandbox.localdomain:{port}"}}}}'
        )
        status, _, answer = yield "PUT", TELEMETRY, head, body
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
    from telemetry_forwarder.lambda_api import first_event

    waiting = registration.early.hand_over() if registration.early is not None else None
    while True:
        status, _, body = receive(*waiting) if waiting is not None else (0, {}, b"")
        waiting = None
        for pause in (0.0, *first_event.PAUSES):
            if status == 0:
                sleep(pause)
                status, _, body = call(registration.runtime_api, "GET", f"{API}/event/next", head, "")
        if status != 200:
            say(f"/event/next was answered {status}; the extension ends.")
            return 1
        if b'"SHUTDOWN"' in body:
            return 0


def call(runtime_api: str, method: str, path: str, head: str, body: str, limit_s: "float | None" = None) -> "Answer":
    """Make one HTTP call on a connection of its own; return status, headers (lower-case names) and body.

    The answer is read to the end that it announces, else until Lambda closes, as asked for: a proxy that a layer puts
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
    connection = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM)
    try:
        connection.settimeout(limit_s)
        connection.connect(address_of(runtime_api))
        connection.sendall(request_bytes(runtime_api, method, path, head, body))
    except BaseException:
        connection.close()
        raise
    return connection


def receive(connection: "_socket.socket", received: bytes = b"", until: "float | None" = None) -> "Answer":
    """Read the rest of an answer, of which `received` was read before, and close. Returns and fails as `call`.

    `until` is a point on the monotonic clock; without it there is all the time in the world.
    """
    try:
        chunk = b"-"
        while chunk and not is_whole(received):
            connection.settimeout(None if until is None else max(0.0001, until - monotonic()))
            received += (chunk := connection.recv(65536))
    except OSError as error:
        return 0, {}, f"no answer from AWS_LAMBDA_RUNTIME_API: {error}".encode()
    finally:
        connection.close()
    return parse(received)


def address_of(runtime_api: str) -> "tuple[str, int]":
    """Return host and port. Raises ValueError."""
    host, _, port = runtime_api.rpartition(":")
    return host, int(port)


def request_bytes(runtime_api: str, method: str, path: str, head: str, body: str) -> bytes:
    """Return a request as it is sent; `head` are whole lines of its own headers, each with its line end."""
    content = body.encode()
    return (
        f"{method} {path} HTTP/1.1\r\nHost: {runtime_api}\r\nConnection: close\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n{head}\r\n"
    ).encode() + content


def is_whole(received: bytes, *, is_over: bool = False) -> bool:
    """Say whether an answer has come to the end that it announces; without one, whether it `is_over`."""
    status, headers, content, has_head = _split(received)
    if not has_head or not status:
        return False
    if headers.get("transfer-encoding", "").lower() == "chunked":
        return _join_chunks(content)[1]
    length = headers.get("content-length", "")
    return len(content) >= int(length) if length.isascii() and length.isdigit() else is_over


def parse(received: bytes) -> "Answer":
    """Return status, headers and body of an answer, as far as it came; status 0 where that is no answer."""
    status, headers, content, _ = _split(received)
    if headers.get("transfer-encoding", "").lower() == "chunked":
        content = _join_chunks(content)[0]
    return status, headers, content


def _split(received: bytes) -> "tuple[int, dict[str, str], bytes, bool]":
    """Return status, headers, what follows them, and whether the head is whole. Interim answers (1xx) are left out."""
    top, end, content = received.partition(b"\r\n\r\n")
    status_line, *lines = top.decode("latin-1").split("\r\n")
    words = status_line.split(" ")
    status = int(words[1]) if len(words) > 1 and words[1].isascii() and words[1].isdigit() else 0
    if end and 100 <= status < 200:
        return _split(content)
    headers = {}
    for line in lines:
        field, _, value = line.partition(":")
        headers[field.strip().lower()] = value.strip()
    return status, headers, content, bool(end)


def _join_chunks(content: bytes) -> "tuple[bytes, bool]":
    """Return a chunked body without its framing, as far as it came, and whether that is all of it.

    Source: RFC 9112, section 7.1.
    """
    body = b""
    while content:
        size, end, content = content.partition(b"\r\n")
        try:
            length = int(size.partition(b";")[0], 16)
        except ValueError:
            break
        if end and not length:  # a trailer may follow, which says nothing to us
            return body, True
        body += content[:length]
        content = content[length + 2 :]
    return body, False


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
