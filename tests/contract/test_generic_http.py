"""The contract, for any receiver of JSON by HTTP, in each form of a body."""

from typing import Any

from telemetry_forwarder.interfaces import Destination, HttpResponse
from telemetry_forwarder.sinks import load
from telemetry_forwarder.testing.sink_contract import Answers, SinkContract
from telemetry_forwarder.variables.reading import read_all


def made(**environ: str) -> Destination[Any, Any]:
    given = {f"TELEMETRY_FORWARDER_HTTP_{name}": text for name, text in environ.items()}
    destination = load("http")(read_all({"TELEMETRY_FORWARDER_HTTP_URL": "http://127.0.0.1:1/in", **given}))
    assert isinstance(destination, Destination)
    return destination


class TestGenericHttp(SinkContract):
    answers = Answers(
        accept=HttpResponse(status=200, body=b"ok"),
        throttle=HttpResponse(status=429, headers={"retry-after": "0"}),
        reject=HttpResponse(status=400, body=b'{"error":"no"}'),
        deny=HttpResponse(status=401),
        too_large=HttpResponse(status=413),
    )

    def destination(self) -> Destination[Any, Any]:
        return made()


class TestGenericHttpAsArray(TestGenericHttp):
    """With a page of one's own for a success, and answers of one's own after which it is tried again."""

    answers = Answers(
        accept=HttpResponse(status=202, body=b"<p>ok</p>"),
        throttle=HttpResponse(status=409),
        reject=HttpResponse(status=422),
        deny=HttpResponse(status=403),
        too_large=HttpResponse(status=413),
    )

    def destination(self) -> Destination[Any, Any]:
        return made(FORMAT="json_array:records", SUCCESS_CODES="202", RETRY_CODES="409", METHOD="PUT")
