"""The OTLP receiver over real sockets: what is sound is held before it is answered, all else is refused and told."""

import asyncio
import gzip
import io
import json
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from telemetry_forwarder.intake import otlp_server
from telemetry_forwarder.intake.otlp_records import JSON, PROTOBUF
from telemetry_forwarder.intake.otlp_server import LONGEST_BYTES, LONGEST_INFLATED, Receiver, serving
from telemetry_forwarder.otlp.protobuf import decode, encode
from telemetry_forwarder.records.derived import Derived
from telemetry_forwarder.records.record import Signal
from tests.builders import Lines, ManualClock
from tests.telemetry_forwarder.intake.test_otlp_records import SPAN, TRACE, request

SPANS = request(Signal.SPAN, {"traceId": TRACE, "spanId": SPAN, "name": "a"})
LOGS = request(Signal.LOG, {"body": {"stringValue": "hello"}})


class Held:
    """A receiver on a port of its own, and what it holds."""

    def __init__(self, takes: Sequence[Signal]) -> None:
        self.records: list[tuple[Signal, Derived]] = []
        self.lines = Lines()
        self.receiver = Receiver(self._take, lambda signal: signal in takes, ManualClock(), self.lines.log)
        self.url = ""

    def _take(self, signal: Signal, derived: Sequence[Derived]) -> None:
        self.records += [(signal, one) for one in derived]

    async def post(
        self, path: str, body: bytes, content_type: str = JSON, method: str = "POST", **headers: str
    ) -> tuple[int, bytes, str]:
        given = {"Content-Type": content_type, **{name.replace("_", "-"): value for name, value in headers.items()}}
        async with (
            aiohttp.ClientSession(auto_decompress=False) as session,
            session.request(method, self.url + path, data=io.BytesIO(body), headers=given) as answer,
        ):
            return answer.status, await answer.read(), answer.headers["Content-Type"]


@asynccontextmanager
async def held(*takes: Signal) -> AsyncIterator[Held]:
    one = Held(takes or tuple(Signal))
    listener = socket.create_server(("127.0.0.1", 0))
    one.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    async with serving([listener], one.receiver):
        yield one


@pytest.mark.parametrize("compressed", [False, True])
async def test_both_encodings_are_taken_and_answered_in_their_own(compressed: bool) -> None:
    async with held() as one:
        extra = {"Content_Encoding": "gzip"} if compressed else {}
        for content_type, body, empty in (
            (JSON, json.dumps(SPANS).encode(), b"{}"),
            (PROTOBUF, encode("ExportTraceServiceRequest", SPANS), b""),
        ):
            sent = gzip.compress(body) if compressed else body
            assert await one.post("/v1/traces", sent, content_type, **extra) == (200, empty, content_type)
        assert [(signal, made.fields["name"]) for signal, made in one.records] == [(Signal.SPAN, "a")] * 2


async def test_an_empty_request_is_a_success() -> None:
    async with held() as one:
        assert (await one.post("/v1/logs", b"{}"))[:2] == (200, b"{}")
        assert (await one.post("/v1/logs", b"", PROTOBUF))[:2] == (200, b"")
        assert not one.records


async def test_a_content_type_with_parameters_is_understood() -> None:
    async with held() as one:
        body = json.dumps(LOGS).encode()
        assert (await one.post("/v1/logs", body, "application/json; charset=utf-8"))[0] == 200
        assert len(one.records) == 1


@pytest.mark.parametrize("content_type", [JSON, PROTOBUF])
async def test_what_no_sink_takes_is_rejected_and_told(content_type: str) -> None:
    async with held(Signal.LOG) as one:
        body = json.dumps(SPANS).encode() if content_type == JSON else encode("ExportTraceServiceRequest", SPANS)
        status, answer, _ = await one.post("/v1/traces", body, content_type)
        assert status == 200
        name = "ExportTraceServiceResponse"
        told = (json.loads(answer) if content_type == JSON else decode(name, answer))["partialSuccess"]
        assert told["rejectedSpans"] == "1"
        assert "TELEMETRY_FORWARDER_TRACES" in told["errorMessage"]
        assert not one.records
        assert one.lines.said("no sink takes spans") == 1


REFUSED: list[tuple[int, dict[str, Any]]] = [
    (404, {"path": "/v1/profiles"}),
    (405, {"method": "GET"}),
    (415, {"content_type": "text/plain"}),
    (415, {"content_type": "application/grpc"}),
    (415, {"Content_Encoding": "zstd"}),
    (400, {"body": b"{"}),
    (400, {"body": b"\xff\xff", "content_type": PROTOBUF}),
    (400, {"body": b"no gzip", "Content_Encoding": "gzip"}),
    (400, {"body": gzip.compress(b"{}")[:-4], "Content_Encoding": "gzip"}),
    (413, {"body": gzip.compress(b" " * (LONGEST_INFLATED + 1)), "Content_Encoding": "gzip"}),
    (413, {"body": b" " * (LONGEST_BYTES + 1)}),
    (403, {"Host": "evil.example"}),
    (403, {"Origin": "https://evil.example"}),
    (403, {"X_Forwarded_For": "10.0.0.1"}),
]


@pytest.mark.parametrize(("status", "given"), REFUSED)
async def test_all_else_is_refused_with_a_reason_and_the_next_request_is_taken(
    status: int, given: dict[str, Any]
) -> None:
    async with held() as one:
        asked = {"path": "/v1/logs", "body": b"{}", **given}
        found, answer, content_type = await one.post(asked.pop("path"), asked.pop("body"), **asked)
        assert found == status
        if content_type == JSON:
            assert json.loads(answer)["message"]
        else:
            assert answer.startswith(b"\x12")
        assert one.lines.said("refused") == 1
        assert (await one.post("/v1/logs", json.dumps(LOGS).encode()))[0] == 200
        assert len(one.records) == 1


async def test_a_body_that_does_not_come_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(otlp_server, "_BODY_S", 0.05)
    async with held() as one:
        host, _, port = one.url.removeprefix("http://").partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        head = "POST /v1/logs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 9\r\n"
        writer.write(head.encode() + b"\r\n{")
        assert (await reader.readline()).split()[1] == b"408"
        writer.close()


async def test_connections_are_bounded() -> None:
    async with held() as one:
        host, _, port = one.url.removeprefix("http://").partition(":")
        opened = [await asyncio.open_connection(host, int(port)) for _ in range(otlp_server.MOST_CONNECTIONS + 3)]
        ended = [reader for reader, _ in opened[otlp_server.MOST_CONNECTIONS :]]
        assert [await reader.read() for reader in ended] == [b""] * 3
        for _, writer in opened:
            writer.close()
