"""The contract, for the sinks of New Relic."""

from typing import Any

from telemetry_forwarder.interfaces import Destination, HttpResponse
from telemetry_forwarder.sinks import load
from telemetry_forwarder.testing.metric_sink_contract import MetricSinkContract
from telemetry_forwarder.testing.sink_contract import Answers, SinkContract
from telemetry_forwarder.variables.reading import read_all

ANSWERS = Answers(
    accept=HttpResponse(status=202, body=b'{"requestId":"c1bb62fc-001a-b000-0000-016bb152e1bb"}'),
    throttle=HttpResponse(status=429, headers={"retry-after": "1"}),
    reject=HttpResponse(status=400, body=b'{"message":"not JSON"}'),
    deny=HttpResponse(status=403, body=b'{"message":"Missing or invalid API key"}'),
    too_large=HttpResponse(status=413),
)


def made(index: int, **more: str) -> Destination[Any, Any]:
    own = {"NEW_RELIC_LICENSE_KEY": "k", "NEW_RELIC_LOG_ENDPOINT": "http://127.0.0.1:1"}
    found = load("newrelic")(read_all({**own, "TELEMETRY_FORWARDER_METRICS": "newrelic", **more}))
    assert isinstance(found, tuple)
    return found[index]


class TestNewRelic(SinkContract):
    answers = ANSWERS

    def destination(self) -> Destination[Any, Any]:
        return made(0)


class TestNewRelicMetrics(MetricSinkContract):
    answers = ANSWERS

    def destination(self) -> Destination[Any, Any]:
        return made(1, NEW_RELIC_METRIC_ENDPOINT="http://127.0.0.1:1")
