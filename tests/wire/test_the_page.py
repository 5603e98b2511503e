"""docs/sinks.md and the pages of single sinks show what is really sent, and the example of a sink works."""

import json
import re
from pathlib import Path

import pytest

from telemetry_forwarder.errors import ConfigError
from telemetry_forwarder.interfaces import Delivered, HttpResponse, Rejected, Retry
from telemetry_forwarder.sinks import (
    axiom,
    cloudwatch_logs,
    datadog,
    datadog_metrics,
    honeycomb,
    newrelic,
    splunk_hec,
    sumologic,
)
from tests.sink_records import GOLDEN, SAMPLES, encode_all, loads, make_record

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "sinks.md").read_text()
PAGES = PAGE + "".join(path.read_text() for path in sorted((DOCS / "sinks").glob("*.md")))
EXAMPLE = re.compile(r"<!-- golden: (\S+) (\d+) -->\n```json\n(.*?)```", re.DOTALL)


def envelopes(signal, request):
    """Yield (resource, scope, item) of an OTLP request."""
    outer, inner, items = ENVELOPES[signal]
    for resource in request[outer]:
        for scope in resource[inner]:
            for item in scope[items]:
                yield resource["resource"], scope["scope"], item


ENVELOPES = {
    "logs": ("resourceLogs", "scopeLogs", "logRecords"),
    "metrics": ("resourceMetrics", "scopeMetrics", "metrics"),
    "traces": ("resourceSpans", "scopeSpans", "spans"),
}


def golden(name):
    text = (GOLDEN / name).read_bytes()
    if name.startswith("otlp_"):  # envelopes in envelopes: their items
        signal = name.removeprefix("otlp_").removesuffix(".json")
        return [item for _, _, item in envelopes(signal, json.loads(text))]
    if name.startswith("newrelic"):  # in blocks: each item with what it has in common
        kind = "metrics" if "metrics" in name else "logs"
        return [{"common": block["common"], kind: [item]} for block in loads(text) for item in block[kind]]
    return loads(text) if name.endswith(".json") else [loads(line) for line in text.splitlines()]


def test_the_examples_are_golden():
    found = EXAMPLE.findall(PAGES)
    assert {name for name, _, _ in found} == {path.name for path in GOLDEN.iterdir()}
    for name, index, shown in found:
        assert json.loads(shown) == golden(name)[int(index)]
        assert list(json.loads(shown)) == list(golden(name)[int(index)])  # in this order, too


@pytest.mark.parametrize(
    "sink", [splunk_hec, datadog, datadog_metrics, cloudwatch_logs], ids=lambda module: module.__name__
)
def test_the_limits_are_those_of_the_code(sink):
    limits = sink.LIMITS
    for number in (limits.max_records, limits.max_bytes, limits.max_record_bytes):
        assert f"{number:,}" in PAGE


@pytest.mark.parametrize("sink", [axiom, honeycomb, newrelic, sumologic], ids=lambda module: module.__name__)
def test_the_limits_on_a_page_of_its_own_are_those_of_the_code(sink):
    page = (DOCS / "sinks" / f"{sink.TOPIC.lower().replace(' ', '')}.md").read_text()
    limits = sink.LIMITS
    for number in (limits.max_records, limits.max_bytes, limits.max_record_bytes):
        assert f"{number:,}" in page


def test_the_example_of_a_sink_works():
    code = re.search(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert code
    names = {}
    exec(code[1], names)
    with pytest.raises(ConfigError):
        names["create"]({})
    sink = names["create"]({"LINES_URL": "http://127.0.0.1:9"}).sink
    batch = encode_all(sink)
    assert len(sink.request(batch).body.splitlines()) == len(SAMPLES)
    assert sink.encode(make_record("x" * 200_000)).is_cut
    answers = [sink.verdict(batch, HttpResponse(status=status)) for status in (200, 503, 400)]
    assert [type(answer) for answer in answers] == [Delivered, Retry, Rejected]
