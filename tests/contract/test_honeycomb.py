"""The contract, for the sink of Honeycomb."""

from typing import Any

import orjson

from telemetry_forwarder.interfaces import Destination, HttpResponse
from telemetry_forwarder.sinks import load
from telemetry_forwarder.testing.sink_contract import Answers, SinkContract
from telemetry_forwarder.variables.reading import read_all


def statuses(count: int, first: int) -> HttpResponse:
    return HttpResponse(status=200, body=orjson.dumps([{"status": first}, *[{"status": 202}] * (count - 1)]))


class TestHoneycomb(SinkContract):
    answers = Answers(
        accept=HttpResponse(status=200, body=b'[{"status":202}]'),
        throttle=HttpResponse(status=429, body=b'{"error":"request dropped due to rate limiting"}'),
        reject=HttpResponse(status=400, body=b'{"error":"Request body is malformed"}'),
        deny=HttpResponse(status=401, body=b'{"error":"unknown API key - check your credentials"}'),
        too_large=HttpResponse(status=413),
        partial=lambda count: statuses(count, 400),
    )

    def destination(self) -> Destination[Any, Any]:
        own = {"HONEYCOMB_API_KEY": "k", "HONEYCOMB_DATASET": "d", "HONEYCOMB_API_ENDPOINT": "http://127.0.0.1:1"}
        made = load("honeycomb")(read_all(own))
        assert isinstance(made, Destination)
        return made

    def test_an_event_that_is_to_be_sent_again_is_sent_alone(self) -> None:
        statement, stage = self.play(self.records(10), [lambda count: statuses(count, 429)])
        assert (statement.delivered, statement.lost) == (10, 0)
        assert self.arrivals(stage, 10)[1] == 9
