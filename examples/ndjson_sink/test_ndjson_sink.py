"""The contract suite, run by a third party."""

from typing import Any

from ndjson_sink import create

from telemetry_forwarder.plugin import Destination, HttpResponse
from telemetry_forwarder.testing.sink_contract import Answers, SinkContract


class TestNdjsonSink(SinkContract):
    answers = Answers(
        accept=HttpResponse(status=200),
        throttle=HttpResponse(status=429),
        reject=HttpResponse(status=400),
        deny=HttpResponse(status=403),
        too_large=HttpResponse(status=413),
    )

    def destination(self) -> Destination[Any, Any]:
        return create({"NDJSON_URL": "http://127.0.0.1:1/logs"})
