"""What a run needs is opened by its settings."""

import subprocess
import sys

import pytest

from telemetry_forwarder.records.handover import Handover
from telemetry_forwarder.settings import Settings
from telemetry_forwarder.signals.signals import Signals
from telemetry_forwarder.variables.reading import read_all
from telemetry_forwarder.wiring import signals_of
from tests.telemetry_forwarder.signals.test_measuring import ONE
from tests.telemetry_forwarder.signals.test_spans import PARENT, SEGMENT, done, made, report, start, tracing

XRAY = "https://xray.eu-west-1.amazonaws.com/v1/traces"
ELSEWHERE = "https://otlp.example/v1/traces"


def of(endpoint: str, traces: str, left: Handover | None = None) -> Signals | None:
    environ = {
        "TELEMETRY_FORWARDER_SINKS": "otlp",
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": endpoint,
        "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": "https://otlp.example/v1/logs",
        "TELEMETRY_FORWARDER_TRACES": traces,
    }
    settings = Settings.from_values(read_all(environ))
    return signals_of(settings, settings.destinations, left or Handover())


@pytest.mark.parametrize(("endpoint", "parent"), [(XRAY, PARENT), (ELSEWHERE, None)])
def test_lambdas_own_span_is_the_parent_where_spans_go_to_x_ray(endpoint: str, parent: str | None) -> None:
    signals = of(endpoint, "on")
    assert signals is not None
    assert signals._spans is not None
    root, *_ = made(signals._spans, start(tracing=tracing()), done(), report())
    assert root.get("parent_id") == parent
    assert (root["span_id"] == SEGMENT) is (parent is not None)


def test_how_traces_are_sampled_and_what_a_process_has_left_arrive_at_the_spans() -> None:
    assert of(ELSEWHERE, "off") is None, "no sink takes spans then"
    few = of(ELSEWHERE, "0")
    assert few is not None
    assert [one for record in (start(), done(), report()) for one in few.of([record])] == []
    left = of(ELSEWHERE, "on", Handover(request_id=ONE, started="1000", traced=ONE))
    assert left is not None
    assert list(left.of([report()])) == []


def test_where_traces_are_off_nothing_of_them_is_loaded() -> None:
    program = """
import sys
from telemetry_forwarder.records.enrich import Enricher
from telemetry_forwarder.records.record import Item, Origin, Signal
from telemetry_forwarder.signals.measuring import Prices
from telemetry_forwarder.signals.signals import Signals
from telemetry_forwarder.sinks import cloudwatch_logs, datadog, splunk_hec
events = [Item("platform.start", {"requestId": "a", "tracing": {"value": "Root=1-x"}}, 1), Item("function", "b", 2)]
for is_traced in (False, True):
    enricher = Enricher(Origin(function_name="f"), is_traced=is_traced)
    records = next(enricher.enrich(events, "b", 9))
    list(Signals({Signal.METRIC}, Prices()).of(records))
    for sink in (datadog.Datadog(url="u"), cloudwatch_logs.CloudWatchLogs(group="g", stream=None, fallback_stream="s")):
        [sink.encode(one) for one in records]
    print(sorted(name for name in sys.modules if name.endswith((".tracing", ".spans", ".tree"))))
"""
    ran = subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines() == ["[]", "['telemetry_forwarder.records.tracing']"]
