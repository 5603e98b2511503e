"""What the user's cold start waits for: next to nothing is imported, and Lambda is spoken to rightly."""

import contextlib
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetry_forwarder import bootstrap
from telemetry_forwarder.bootstrap import listen
from telemetry_forwarder.lambda_api import first_event
from telemetry_forwarder.lambda_api.registration import Registration, call, events, idle, register, say, subscribe
from telemetry_forwarder.log import is_own
from telemetry_forwarder.settings import Settings
from telemetry_forwarder.variables import table
from telemetry_forwarder.variables.reading import read_all

ROOT = Path(__file__).parents[2]
HEAVY = (
    "asyncio", "ssl", "_ssl", "socket", "http.client", "json", "dataclasses", "typing", "re", "enum", "collections",
    "logging", "datetime", "aiohttp", "orjson", "msgspec", "botocore", "aiobotocore", "telemetry_forwarder.app",
)  # fmt: skip


EVERYTHING_GIVEN = {
    **dict.fromkeys((variable.name for variable in table.VARIABLES), "x"),
    "HTTPS_PROXY": "http://user:p%23ss@proxy:3128", "NO_PROXY": "10.0.0.0/8,.internal", "DD_TAGS": "a:b,c",
    "TELEMETRY_FORWARDER_SINKS": "datadog,splunk,cloudwatch",
}  # fmt: skip


@pytest.mark.parametrize("environ", [{}, EVERYTHING_GIVEN], ids=["nothing given", "everything given, most unsound"])
def test_until_it_has_registered_nothing_heavy_is_loaded(environ: dict[str, str]) -> None:
    """Lambda starts the runtime when we have registered; a fresh interpreter, so that only our imports count."""
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); before = set(sys.modules)\n"
        "import telemetry_forwarder.bootstrap as bootstrap\n"
        f"values = bootstrap.reading.read_all({environ!r})\n"
        "bootstrap.events(values, can_listen=True); bootstrap.has_sink(values)\n"
        "print(*sorted(set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True)
    loaded = done.stdout.split()
    assert not set(loaded) & set(HEAVY)
    assert [name for name in loaded if not name.startswith("telemetry_forwarder")] == ["_socket"]


# --- which events ---------------------------------------------------------------------------------------------------

SOUND = {"CLOUDWATCH_LOG_GROUP": "/my/group"}


@pytest.mark.parametrize(
    ("environ", "can_listen", "wanted"),
    [
        (SOUND, True, ("INVOKE", "SHUTDOWN")),
        (SOUND, False, ("SHUTDOWN",)),
        ({}, True, ("SHUTDOWN",)),
        ({"SPLUNK_HEC_URL": "https://splunk:8088"}, True, ("SHUTDOWN",)),
        ({"SPLUNK_HEC_URL": "https://splunk:8088", **SOUND}, True, ("INVOKE", "SHUTDOWN")),
        ({"CLOUDWATCH_LOG_GROUP": "no such: name"}, True, ("SHUTDOWN",)),
        ({**SOUND, "TELEMETRY_FORWARDER_SINKS": "datadog"}, True, ("SHUTDOWN",)),
        ({**SOUND, "TELEMETRY_FORWARDER_SINKS": "nobody_has_this"}, True, ("SHUTDOWN",)),
        ({**SOUND, "AWS_LAMBDA_INITIALIZATION_TYPE": "lambda-managed-instances"}, True, ("SHUTDOWN",)),
        ({**SOUND, "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand"}, True, ("INVOKE", "SHUTDOWN")),
    ],
)
def test_invocations_are_registered_for_only_where_there_is_something_to_do(
    environ: dict[str, str], can_listen: bool, wanted: tuple[str, ...]
) -> None:
    assert events(read_all(environ), can_listen=can_listen) == wanted


def test_a_third_party_is_found_in_any_case_of_letters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `sinks.load` finds it; else its records would wait for SHUTDOWN."""
    metadata = tmp_path / "third_party-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: third-party\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[telemetry_forwarder.sinks]\nMine = mine:create\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert events(read_all({"TELEMETRY_FORWARDER_SINKS": "Mine"}), can_listen=True) == ("INVOKE", "SHUTDOWN")


# --- calls ----------------------------------------------------------------------------------------------------------


class RawServer:
    """Answers each connection with the next bytes of its script and closes; keeps what was asked."""

    def __init__(self, *script: bytes) -> None:
        self._script = script
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(10)
        self.asked: list[bytes] = []
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve)

    def _serve(self) -> None:
        for answer in self._script:
            with contextlib.suppress(TimeoutError):
                connection, _ = self._listener.accept()
                with connection:
                    connection.settimeout(10)
                    self.asked.append(self._read(connection))
                    connection.sendall(answer)

    @staticmethod
    def _read(connection: socket.socket) -> bytes:
        data = b""
        while True:
            head, end, body = data.partition(b"\r\n\r\n")
            if end:
                length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
                if len(body) >= length:
                    return data
            data += connection.recv(65536)

    def __enter__(self) -> "RawServer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join(20)
        self._listener.close()


def http(status: str, body: str, *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]
    return ("\r\n".join(lines) + "\r\n\r\n" + body).encode()


REGISTERED = '{"functionName":"orders-worker","accountId":"210987654321"}\n'


def test_registering_sends_what_lambda_asks_for() -> None:
    with RawServer(http("200 OK", REGISTERED, "Lambda-Extension-Identifier: 0f0b6a0e")) as server:
        registration = register(server.address, "my-extension", ("INVOKE", "SHUTDOWN"))
    assert (registration.status, registration.identifier) == (200, "0f0b6a0e")
    assert json.loads(registration.body)["accountId"] == "210987654321"
    head, _, body = server.asked[0].partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    assert lines[0] == "POST /2020-01-01/extension/register HTTP/1.1"
    assert {"Lambda-Extension-Name: my-extension", "Lambda-Extension-Accept-Feature: accountId"} <= set(lines)
    assert json.loads(body) == {"events": ["INVOKE", "SHUTDOWN"]}


def test_a_refusal_is_handed_on() -> None:
    with RawServer(http("403 Forbidden", '{"errorType":"Extension.InvalidExtensionName"}')) as server:
        registration = register(server.address, "x", ("SHUTDOWN",))
    assert (registration.status, registration.identifier) == (403, "")
    assert b"InvalidExtensionName" in registration.body


def test_a_chunked_answer_is_joined() -> None:
    half = len(REGISTERED) // 2
    chunks = (
        "".join(f"{len(part):x};note=1\r\n{part}\r\n" for part in (REGISTERED[:half], REGISTERED[half:])) + "0\r\n\r\n"
    )
    answer = f"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nLambda-Extension-Identifier: i\r\n\r\n{chunks}"
    with RawServer(answer.encode()) as server:
        registration = register(server.address, "x", ("SHUTDOWN",))
    assert registration.body.decode() == REGISTERED
    assert registration.identifier == "i"


def test_an_answer_ends_where_its_length_says() -> None:
    """A runtime proxy of another layer may keep the connection open; the cold start must not wait for its end."""
    closed = threading.Event()
    answer = (
        f"HTTP/1.1 200 OK\r\nContent-Length: {len(REGISTERED)}\r\nLambda-Extension-Identifier: i\r\n\r\n{REGISTERED}"
    )

    def serve(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(65536)
            connection.sendall(answer.encode())
            closed.wait(10)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        registration = register(f"127.0.0.1:{listener.getsockname()[1]}", "x", ("SHUTDOWN",))
        assert not closed.is_set()
        closed.set()
        thread.join(10)
    assert (registration.status, registration.identifier) == (200, "i")
    assert registration.body.decode() == REGISTERED


@pytest.mark.parametrize(
    "answer",
    [b"", b"\r\n\r\n", b"HTTP/1.1\r\n\r\n", b"HTTP/1.1 \xb2\xb2\xb2 odd\r\n\r\n", b"\xff\x00 abc", b"HTTP/1.1 x"],
)
def test_an_answer_that_is_none_has_status_0(answer: bytes) -> None:
    with RawServer(answer) as server:
        assert call(server.address, "GET", "/", "", "")[0] == 0


def test_a_call_with_a_limit_ends_there_though_nobody_answers() -> None:
    """Neither a Lambda that does not accept, nor one that says a little now and then."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        began = time.monotonic()
        status, _, body = call(f"127.0.0.1:{silent.getsockname()[1]}", "POST", "/", "", "", 0.1)
        assert (status, b"timed out" in body) == (0, True)
        assert time.monotonic() - began < 5


@pytest.mark.parametrize("address", ["127.0.0.1:1", "127.0.0.1", "", "127.0.0.1:port"])
def test_nobody_there_has_status_0_and_a_reason(address: str) -> None:
    status, _, body = call(address, "GET", "/", "", "")
    assert status == 0
    assert b"no answer from AWS_LAMBDA_RUNTIME_API" in body


# The process ends there, and its socket with it.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_registration_that_is_refused_ends_with_code_1(capsys: pytest.CaptureFixture[str]) -> None:
    with RawServer(http("403 Forbidden", '{"errorType":"x"}')) as server:
        environ = {"AWS_LAMBDA_RUNTIME_API": server.address, "TELEMETRY_FORWARDER_PORT": str(free_port())}
        assert bootstrap.main("my-extension", environ) == 1
    said = json.loads(capsys.readouterr().out)
    assert "refused to register my-extension: 403" in said["message"]


def test_outside_of_lambda_it_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert bootstrap.main("x", {}) == 1
    assert "AWS_LAMBDA_RUNTIME_API" in json.loads(capsys.readouterr().out)["message"]


# --- subscribing ----------------------------------------------------------------------------------------------------

CLOSED = '{"errorType":"Telemetry.SubscriptionClosed","errorMessage":"because"}'
TOO_NEW = '{"errorType":"Telemetry.DeserializationError","errorMessage":"no such schema"}'


def body_of(asked: bytes) -> dict[str, object]:
    found: dict[str, object] = json.loads(asked.partition(b"\r\n\r\n")[2])
    return found


@pytest.mark.parametrize("word", ["OK", "AlreadySubscribed"])
def test_a_subscription_asks_for_the_newest_schema(word: str) -> None:
    """`AlreadySubscribed`: the generation before a reset subscribed with the same body."""
    environ = {"TELEMETRY_FORWARDER_PORT": "5001", "TELEMETRY_FORWARDER_BUFFERING_MAX_ITEMS": "2000"}
    with registered(http("200 OK", f'"{word}"')) as (registration, server):
        assert subscribe(registration, read_all(environ)) == (200, "2025-01-29", f'"{word}"'.encode())
    assert server.asked[0].startswith(b"PUT /2022-07-01/telemetry HTTP/1.1\r\n")
    assert b"\r\nLambda-Extension-Identifier: the-id\r\n" in server.asked[0]
    assert b"\r\nContent-Type: application/json\r\n" in server.asked[0]
    assert body_of(server.asked[0]) == {
        "schemaVersion": "2025-01-29",
        "types": ["platform", "function"],
        "buffering": {"maxItems": 2000, "maxBytes": 262144, "timeoutMs": 25},
        "destination": {"protocol": "HTTP", "URI": "http://sandbox.localdomain:5001"},
    }


@pytest.mark.parametrize(
    ("given", "types"),
    [("function", ["platform", "function"]), ("extension,platform", ["platform", "extension"]), ("x", None)],
)
def test_platform_events_are_asked_for_whatever_is_forwarded(given: str, types: list[str] | None) -> None:
    """The end of each invocation is seen in them."""
    with registered(http("200 OK", '"OK"')) as (registration, server):
        subscribe(registration, read_all({"TELEMETRY_FORWARDER_TYPES": given}))
    assert body_of(server.asked[0])["types"] == (types or ["platform", "function"])


def test_lambda_gathers_for_no_longer_than_an_invocation_may_be_held() -> None:
    """As the settings have it, which name the problem."""
    environ = {"TELEMETRY_FORWARDER_BUFFERING_TIMEOUT_MS": "1000"}
    asked = []
    for flush in ("end", "continuous"):
        with registered(http("200 OK", '"OK"')) as (registration, server):
            subscribe(registration, read_all({**environ, "TELEMETRY_FORWARDER_FLUSH": flush}))
        asked.append(body_of(server.asked[0])["buffering"])
        settings = Settings.from_values(read_all({**environ, "TELEMETRY_FORWARDER_FLUSH": flush}))
        assert round(settings.buffering_s * 1000) == asked[-1]["timeoutMs"]  # type: ignore[index]
        assert [problem.variable for problem in settings.problems] == list(environ) * (flush == "end")
    assert [buffering["timeoutMs"] for buffering in asked] == [25, 1000]  # type: ignore[index]


def test_a_schema_that_is_refused_is_followed_by_an_older_one() -> None:
    with registered(http("400 Bad Request", TOO_NEW), http("200 OK", '"OK"')) as (registration, server):
        assert subscribe(registration, read_all({})) == (200, "2022-12-13", b'"OK"')
    first, second = map(body_of, server.asked)
    assert {**first, "schemaVersion": "2022-12-13"} == second


def test_the_first_refusal_is_the_one_that_is_told() -> None:
    with registered(http("400 Bad Request", CLOSED), http("400 Bad Request", TOO_NEW)) as (registration, server):
        assert subscribe(registration, read_all({})) == (400, "2025-01-29", CLOSED.encode())
    assert len(server.asked) == 2


@pytest.mark.parametrize("status", [202, 403, 500])
def test_another_answer_is_final(status: int) -> None:
    with registered(http(f"{status} Word", CLOSED)) as (registration, server):
        assert subscribe(registration, read_all({})) == (status, "2025-01-29", CLOSED.encode())
    assert len(server.asked) == 1


def test_nobody_there_is_told_too() -> None:
    registration = Registration("127.0.0.1:1", "x", ("INVOKE", "SHUTDOWN"))
    status, _, reason = subscribe(registration, read_all({}))
    assert status == 0
    assert b"no answer" in reason


@pytest.mark.parametrize(("sink", "calls"), [(SOUND, 3), ({}, 2)])
def test_telemetry_is_subscribed_to_before_anything_else_is_loaded(
    sink: dict[str, str], calls: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A function that cannot be imported fails, and closes the subscriptions, before the rest is there.

    Without a sink there is nothing to subscribe for. Where the rest cannot be loaded, nobody listens any more.
    """

    def broken(environ: object, values: object) -> None:
        raise ImportError("not for this Python")

    monkeypatch.setattr(bootstrap, "load", broken)
    answers = [http("200 OK", REGISTERED, "Lambda-Extension-Identifier: i"), http("200 OK", '"OK"'), SHUTDOWN]
    if not sink:
        del answers[1]
    port = free_port()
    with RawServer(*answers) as server:
        environ = {"AWS_LAMBDA_RUNTIME_API": server.address, "TELEMETRY_FORWARDER_PORT": str(port), **sink}
        assert bootstrap.main("x", environ) == 0
    assert len(server.asked) == calls
    assert (b"PUT /2022-07-01/telemetry" in server.asked[1]) is bool(sink)
    assert "not for this Python" in capsys.readouterr().out
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), 5)


# --- idling ---------------------------------------------------------------------------------------------------------

INVOKE = http("200 OK", '{"eventType":"INVOKE","deadlineMs":1}')
SHUTDOWN = http("200 OK", '{"eventType":"SHUTDOWN","deadlineMs":1,"shutdownReason":"spindown"}')


@contextmanager
def registered(*script: bytes) -> Iterator[tuple[Registration, RawServer]]:
    with RawServer(*script) as server:
        registration = Registration(server.address, "x", ("INVOKE", "SHUTDOWN"))
        registration.status, registration.identifier = 200, "the-id"
        yield registration, server


def test_idling_asks_for_events_until_shutdown() -> None:
    with registered(INVOKE, INVOKE, SHUTDOWN) as (registration, server):
        assert idle(registration, is_strict=False) == 0
    assert len(server.asked) == 3
    for asked in server.asked:
        assert asked.startswith(b"GET /2020-01-01/extension/event/next ")
        assert b"Lambda-Extension-Identifier: the-id\r\n" in asked


def test_idling_survives_a_connection_that_a_freeze_has_killed() -> None:
    """An extension that exits takes the user's function down with it."""
    with registered(INVOKE, b"", SHUTDOWN) as (registration, _):
        assert idle(registration, is_strict=False) == 0


def test_idling_survives_more_than_one_such_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(first_event, "PAUSES", (0.0, 0.001, 0.001, 0.001))
    with registered(b"", b"", b"", b"", SHUTDOWN) as (registration, _):
        assert idle(registration, is_strict=False) == 0


def test_idling_ends_where_lambda_refuses(capsys: pytest.CaptureFixture[str]) -> None:
    with registered(http("403 Forbidden", "{}")) as (registration, _):
        assert idle(registration, is_strict=False) == 1
    assert "403" in json.loads(capsys.readouterr().out)["message"]


def test_in_strict_mode_the_start_fails() -> None:
    with registered(http("202 Accepted", '{"status":"OK"}')) as (registration, server):
        assert idle(registration, is_strict=True) == 1
    assert server.asked[0].startswith(b"POST /2020-01-01/extension/init/error ")
    assert b"Lambda-Extension-Function-Error-Type: Extension." in server.asked[0]


# --- listening and speaking -----------------------------------------------------------------------------------------


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def test_the_port_is_open_for_every_address_before_anything_else() -> None:
    port = free_port()
    listener = listen(port)
    assert listener is not None
    try:
        assert listener.getsockname() == ("0.0.0.0", port)
        socket.create_connection(("127.0.0.1", port), 5).close()
    finally:
        listener.close()


def test_a_port_that_cannot_be_had_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("0.0.0.0", 0)) as taken:
        assert listen(taken.getsockname()[1]) is None
    assert "TELEMETRY_FORWARDER_PORT" in json.loads(capsys.readouterr().out)["message"]


@given(st.text(st.characters(codec=None)))
def test_any_text_is_said_in_one_line_of_json(message: str) -> None:
    written: list[str] = []

    class Output:
        encoding = "ascii"

        def write(self, text: str) -> None:
            written.append(text.encode(self.encoding).decode())

        def flush(self) -> None:
            written.append("")

    with contextlib.redirect_stdout(Output()):  # type: ignore[type-var]
        say(message)
    line, flushed = written
    assert flushed == ""
    assert line.endswith("\n")
    assert line.count("\n") == 1
    assert json.loads(line)["message"] == message.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
    assert is_own(line)
    assert is_own(json.loads(line))


def test_the_default_port_is_not_lambdas_own() -> None:
    assert read_all({})["TELEMETRY_FORWARDER_PORT"] not in table.RESERVED_PORTS
