"""The contract, for Elasticsearch and OpenSearch."""

from typing import Any

import orjson

from telemetry_forwarder.interfaces import Destination, HttpResponse
from telemetry_forwarder.sinks import load
from telemetry_forwarder.testing.sink_contract import Answers, SinkContract
from telemetry_forwarder.variables.reading import read_all

ACCEPT = HttpResponse(status=200, body=b'{"errors":false,"items":[]}')


def one_fails(count: int, **item: Any) -> HttpResponse:
    items = [{"create": item}, *([{"create": {"status": 201}}] * (count - 1))]
    return HttpResponse(status=200, body=orjson.dumps({"errors": True, "items": items}))


def refused(count: int) -> HttpResponse:
    return one_fails(count, status=400, error={"type": "document_parsing_exception", "reason": "no"})


class TestElasticsearch(SinkContract):
    answers = Answers(
        accept=ACCEPT,
        throttle=HttpResponse(status=429, body=b'{"error":{"type":"circuit_breaking_exception"},"status":429}'),
        reject=HttpResponse(status=400, body=b'{"error":{"type":"parse_exception","reason":"x"},"status":400}'),
        deny=HttpResponse(status=401, body=b'{"error":{"type":"security_exception"},"status":401}'),
        too_large=HttpResponse(status=413),
        partial=refused,
    )

    def destination(self) -> Destination[Any, Any]:
        made = load("elasticsearch")(read_all({"ELASTICSEARCH_URL": "http://127.0.0.1:1"}))
        assert isinstance(made, Destination)
        return made

    def count_in(self, request: Any) -> int:
        """The id of a document is in its action, too."""
        return super().count_in(request) // 2


class TestOpenSearchServerless(TestElasticsearch):
    answers = Answers(
        accept=ACCEPT,
        throttle=HttpResponse(status=503),
        deny=HttpResponse(status=403, body=b"no"),
        too_large=HttpResponse(status=413),
        partial=refused,
    )

    def destination(self) -> Destination[Any, Any]:
        environ = {"OPENSEARCH_URL": "https://x.eu-west-1.aoss.amazonaws.com", "OPENSEARCH_JSON": "text"}
        made = load("opensearch")(read_all(environ))
        assert isinstance(made, Destination)
        return made

    def count_in(self, request: Any) -> int:
        """It has no ids but those within its documents."""
        return SinkContract.count_in(self, request)
