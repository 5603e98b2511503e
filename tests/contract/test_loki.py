"""The contract, for Grafana Loki."""

from typing import Any

from telemetry_forwarder.interfaces import Destination, HttpResponse
from telemetry_forwarder.sinks import load
from telemetry_forwarder.testing.sink_contract import Answers, SinkContract
from telemetry_forwarder.variables.reading import read_all

TOO_OLD = b"1 errors like: entry for stream '{a=\"b\"}' has timestamp too old: 2026-11-01T00:00:00Z, oldest acceptable"


class TestLoki(SinkContract):
    answers = Answers(
        accept=HttpResponse(status=204),
        throttle=HttpResponse(
            status=429, body=b"ingestion rate limit exceeded for user fake (limit: 4194304 bytes/sec)"
        ),
        reject=HttpResponse(status=400, body=b"loghttp.PushRequest.Streams: decode slice: expect [ or n"),
        deny=HttpResponse(status=401, body=b"no org id"),
        too_large=HttpResponse(status=413, body=b"request body too large"),
        partial=lambda count: HttpResponse(status=400, body=TOO_OLD),
    )

    def destination(self) -> Destination[Any, Any]:
        made = load("loki")(read_all({"LOKI_ADDR": "http://127.0.0.1:1"}))
        assert isinstance(made, Destination)
        return made


class TestLokiThatIsBlocked(TestLoki):
    """A tenant that is blocked is answered with a success of HTTP, and one with too many streams in part."""

    answers = Answers(
        accept=HttpResponse(status=200),
        throttle=HttpResponse(status=429, body=b"maximum active stream limit exceeded when trying to create stream {}"),
        deny=HttpResponse(status=260, body=b"ingestion blocked for user 'a' until 'b' with status code '260'"),
        partial=lambda count: HttpResponse(status=400, body=b"user 'a', total ignored: 1 out of 9, too far behind"),
    )
