"""The contract, for the sink of Axiom."""

from typing import Any

from telemetry_forwarder.interfaces import Destination, HttpResponse
from telemetry_forwarder.sinks import load
from telemetry_forwarder.testing.sink_contract import Answers, SinkContract
from telemetry_forwarder.variables.reading import read_all


class TestAxiom(SinkContract):
    answers = Answers(
        accept=HttpResponse(status=200, body=b'{"ingested":1,"failed":0,"failures":[]}'),
        throttle=HttpResponse(status=429),
        reject=HttpResponse(status=400, body=b'{"message":"not JSON"}'),
        deny=HttpResponse(status=403, body=b'{"message":"forbidden"}'),
        too_large=HttpResponse(status=413),
        partial=lambda count: HttpResponse(
            status=200, body=b'{"ingested":1,"failed":1,"failures":[{"timestamp":"","error":"field limit exceeded"}]}'
        ),
    )

    def destination(self) -> Destination[Any, Any]:
        own = {"AXIOM_TOKEN": "t", "AXIOM_DATASET": "d", "AXIOM_URL": "http://127.0.0.1:1"}
        made = load("axiom")(read_all(own))
        assert isinstance(made, Destination)
        return made
