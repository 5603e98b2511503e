"""Register, subscribe and idle, over raw HTTP with C modules only, before anything else is loaded.

Only this module builds requests to Lambda and parses answers, for the blocking calls here (`call`) and for the asyncio
calls of `lambda_api.client`: `request_bytes`, `is_whole` and `parse` use no socket.
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
    # Yields method, path, header lines and body of each request, and is sent the answers.
    Subscribing: TypeAlias = Generator[tuple[str, str, str, str], Answer, tuple[int, str, bytes]]


API = "/2020-01-01/extension"
TELEMETRY = "/2022-07-01/telemetry"  # the path's version is fixed; the schema's version is in the body
SCHEMAS = ("2025-01-29", "2022-12-13")
SUBSCRIBE_S, REPORT_S = 5.0, 1.0  # timeouts: INIT waits for the first, the end of this process for the second


class Registration:
    """The result of registering: `status` 200 and an `identifier`, or Lambda's refusal in `body`.

    `subscription` is the result of subscribing to telemetry: status, schema and the body of the answer; None if it was
    not attempted. Status 0 means that no answer came, and the body says why. `subscribe_later` makes the subscription's
    calls if it waits until telemetry is served. `early` asks for the first `/event/next` while the application is
    loaded.
    """

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

    If there is nothing to do in an invocation INVOKE is left out, so that no invocation waits for this process. On
    Managed Instances INVOKE is refused. Source: AWS Lambda Developer Guide, "Lambda Managed Instances".
    """
    if restores(values):
        return ("INVOKE", "SHUTDOWN")
    if not can_listen or values.given("AWS_LAMBDA_INITIALIZATION_TYPE") == table.MANAGED_INSTANCES:
        return ("SHUTDOWN",)
    return ("INVOKE", "SHUTDOWN") if has_sink(values) else ("SHUTDOWN",)


def has_sink(values: reading.Values) -> bool:
    """Return whether any sink has what it needs."""
    return any(_may_run(sink, values) for sink in reading.wanted_sinks(values))


def restores(values: reading.Values) -> bool:
    """Return whether secrets are served in an environment that is restored from a snapshot.

    Its first INVOKE is the only sure sign of the restore. No invocation waits for us: without sinks the next event is
    asked for at once.
    """
    return (
        values.given("AWS_LAMBDA_INITIALIZATION_TYPE") == table.SNAP_START
        and values["TELEMETRY_FORWARDER_SECRETS"] != "off"
    )


def _may_run(sink: str, values: reading.Values) -> bool:
    """Return whether `sink` has what it needs. A third party's sink counts if it is installed, as only it can tell."""
    if (kind := reading.kind_of(sink)) in table.BUILT_IN_SINKS:
        return reading.is_sound(sink, values)
    from importlib.metadata import entry_points  # slow, and only needed for a third party's sink

    return any(entry.name.lower() == kind for entry in entry_points(group="telemetry_forwarder.sinks"))


def register(runtime_api: str, name: str, wanted: "tuple[str, ...]") -> Registration:
    """Register as the extension `name`, which is the executable's file name."""
    registration = Registration(runtime_api, name, wanted)
    body = '{"events":[' + ",".join(f'"{event}"' for event in wanted) + "]}"
    head = f"Lambda-Extension-Name: {name}\r\nLambda-Extension-Accept-Feature: accountId\r\n"
    answer = call(runtime_api, "POST", f"{API}/register", head, body)
    registration.status, headers, registration.body = answer
    registration.identifier = headers.get("lambda-extension-identifier", "")
    return registration


def subscribe(registration: Registration, values: reading.Values) -> "tuple[int, str, bytes]":
    """Subscribe to telemetry with blocking calls; the result is that of `subscribing`."""
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
    """Ask for telemetry in the newest schema that Lambda accepts. Return status, schema and answer.

    This is a generator of requests that is sent the answers, so the caller's calls may block or not. If every schema is
    refused, the result is the first refusal.

    The subscription is made before anything is loaded. A function that cannot be imported may fail sooner than the rest
    of this process is loaded, and Lambda closes subscriptions with its INIT, so the failure would never be told. The
    socket listens already, and telemetry waits in the kernel's queue. After a reset the body must be the same, because
    another body would be a second subscription. Source: AWS Lambda Developer Guide, "Telemetry API".
    """
    # Always `platform`, whatever is forwarded: its events tell the end of each invocation.
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
        if status not in (400, 404):  # not a matter of the schema
            break
    return refusal or (0, "", b"")


def idle(registration: Registration, *, is_strict: bool) -> int:
    """Ask for events until SHUTDOWN and do nothing else; in strict mode report an init error. Return the exit code."""
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
    """Make one HTTP call on a connection of its own. Return status, headers (lower-case names) and body.

    The answer is read to its announced end, else until Lambda closes as requested. A proxy that a layer puts before the
    Runtime API may keep connections open nevertheless. Status 0 means that no complete answer came within `limit_s`;
    the body says why.
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
    """Send a request on a new connection and return that. Raises OSError, or ValueError for a bad address."""
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
    """Read the rest of an answer after `received`, and close the connection. Return values and errors are as in `call`.

    `until` is a point on the monotonic clock; without it there is no timeout.
    """
    try:
        chunk = b"-"
        while chunk:
            if (answer := whole(received)) is not None:
                return answer
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
    """Return a request as bytes; `head` holds its own header lines, each with its line end."""
    content = body.encode()
    return (
        f"{method} {path} HTTP/1.1\r\nHost: {runtime_api}\r\nConnection: close\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n{head}\r\n"
    ).encode() + content


def whole(received: bytes, *, is_over: bool = False) -> "Answer | None":
    """Return an answer that has reached its announced end, else None; if it announces none, it has if `is_over`."""
    status, headers, content, has_head = _split(received)
    if not has_head or not status:
        return None
    if headers.get("transfer-encoding", "").lower() == "chunked":
        content, is_complete = _join_chunks(content)
    else:
        length = headers.get("content-length", "")
        is_complete = len(content) >= int(length) if length.isascii() and length.isdigit() else is_over
    return (status, headers, content) if is_complete else None


def parse(received: bytes) -> "Answer":
    """Return status, headers and body of an answer, as far as it came; status 0 if it is no answer."""
    status, headers, content, _ = _split(received)
    if headers.get("transfer-encoding", "").lower() == "chunked":
        content = _join_chunks(content)[0]
    return status, headers, content


def _split(received: bytes) -> "tuple[int, dict[str, str], bytes, bool]":
    """Return status, headers, what follows them, and whether the head is whole. Interim answers (1xx) are skipped."""
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
    """Return a chunked body without its framing, as far as it came, and whether it is complete.

    Source: RFC 9112, section 7.1.
    """
    body = b""
    while content:
        size, end, content = content.partition(b"\r\n")
        try:
            length = int(size.partition(b";")[0], 16)
        except ValueError:
            break
        if end and not length:  # a trailer may follow, which is not needed
            return body, True
        body += content[:length]
        content = content[length + 2 :]
    return body, False


def say(message: str) -> None:
    """Write one of our log lines (see `log`), without the JSON library, which is not loaded yet."""
    text = "".join(c if " " <= c <= "~" and c not in '"\\' else _escape(ord(c)) for c in message)
    sys.stdout.write(f'{{"telemetry_forwarder":"{__version__}","level":"ERROR","message":"{text}"}}\n')
    sys.stdout.flush()


def _escape(point: int) -> str:
    """Return a code point as JSON's escape, in plain ASCII, whatever the encoding of standard output."""
    if point < 0x10000:
        return f"\\u{point:04x}"
    point -= 0x10000
    return f"\\u{0xD800 + (point >> 10):04x}\\u{0xDC00 + (point & 0x3FF):04x}"
