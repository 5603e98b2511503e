"""The contract, for the sink of Sumo Logic."""

from typing import Any

from telemetry_forwarder.interfaces import Destination, HttpResponse
from telemetry_forwarder.sinks import load
from telemetry_forwarder.testing.sink_contract import Answers, SinkContract
from telemetry_forwarder.variables.reading import read_all


class TestSumoLogic(SinkContract):
    answers = Answers(
        accept=HttpResponse(status=200),
        throttle=HttpResponse(status=429, body=b"You have temporarily exceeded your Sumo Logic quota"),
        reject=HttpResponse(status=400),
        deny=HttpResponse(status=401),
        too_large=HttpResponse(status=413),
    )

    def destination(self) -> Destination[Any, Any]:
        made = load("sumologic")(read_all({"SUMO_HTTP_ENDPOINT": "http://127.0.0.1:1/receiver/v1/http/t0ken"}))
        assert isinstance(made, Destination)
        return made
