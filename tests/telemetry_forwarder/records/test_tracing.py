"""Ids of traces in every form in which they come, and are written."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetry_forwarder.records.tracing import (
    TraceHeader,
    Traces,
    digest,
    from_datadog,
    from_xray,
    header_of,
    read_header,
    span_in,
    to_datadog,
    to_xray,
    trace_id,
    trace_in,
    trace_of,
)
from tests.builders import request_id

ROOT = "1-68c4a1f0-3b2a90d1c7e845f6a0b1c2d3"
TRACE = "68c4a1f03b2a90d1c7e845f6a0b1c2d3"
PARENT = "1a2b3c4d5e6f7081"
NOTHING = TraceHeader()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (f"Root={ROOT};Parent={PARENT};Sampled=1", TraceHeader(TRACE, PARENT, True)),
        (f"Root={ROOT};Parent={PARENT};Sampled=0", TraceHeader(TRACE, PARENT, False)),
        (f"Root={ROOT};Parent={PARENT};Sampled=?", TraceHeader(TRACE, PARENT, None)),
        (f"Root={ROOT}", TraceHeader(TRACE)),
        (f"Root={ROOT};Lineage=a87bd80c:0", TraceHeader(TRACE)),  # as function URLs send it
        (f"Lineage=1:a87bd80c:0;Root={ROOT};Self=1-x;Sampled=1", TraceHeader(TRACE, None, True)),
        (f"Sampled=1;Parent={PARENT};Root={ROOT}", TraceHeader(TRACE, PARENT, True)),
        (f" Root = {ROOT} ; Parent={PARENT} ;; Sampled=1 ;", TraceHeader(TRACE, PARENT, True)),
        (f"Root={ROOT.upper()};Parent={PARENT.upper()};Sampled=1", TraceHeader(TRACE, PARENT, True)),
        (f"Root={ROOT};Root=1-00000001-000000000000000000000001;Sampled=1;Sampled=0", TraceHeader(TRACE, None, True)),
        (f"Root={ROOT};Parent={'0' * 16};Sampled=1", TraceHeader(TRACE, None, True)),
        (f"Root={ROOT};Parent={PARENT[:-1]};Sampled=1", TraceHeader(TRACE, None, True)),
        (f"Root={ROOT[:-1]};Parent={PARENT};Sampled=1", NOTHING),
        (f"Root={ROOT[2:]};Parent={PARENT};Sampled=1", NOTHING),
        (f"Root=2{ROOT[1:]};Parent={PARENT};Sampled=1", NOTHING),
        (f"Root={ROOT.replace('-', '_')};Sampled=1", NOTHING),
        ("Root=1-00000000-000000000000000000000000;Sampled=1", NOTHING),
        (f"Root={ROOT[:-1]}g", NOTHING),
        (f"Root={ROOT[:-2]}+1", NOTHING),
        ("Lineage=a87bd80c:0", NOTHING),
        ("", NOTHING),
        (";=;", NOTHING),
        (f"Root={ROOT};" + "x" * 4096, NOTHING),
        (None, NOTHING),
        (17, NOTHING),
    ],
)
def test_a_header_is_read_in_every_form(text: Any, found: TraceHeader) -> None:
    assert read_header(text) == found


@given(st.text(st.sampled_from("Root=1-68c4a;PrentSmpld0? ")))
def test_no_header_raises_or_gives_an_id_that_is_none(text: str) -> None:
    found = read_header(text)
    assert found.trace_id is None or trace_id(found.trace_id) == found.trace_id
    assert found == NOTHING or found.trace_id is not None


@pytest.mark.parametrize(
    ("event", "found"),
    [
        ({"tracing": {"value": f"Root={ROOT};Sampled=1", "spanId": PARENT.upper()}}, (TRACE, PARENT)),
        ({"tracing": {"value": f"Root={ROOT}"}}, (TRACE, None)),
        ({"tracing": f"Root={ROOT}"}, (None, None)),
        ({"tracing": None}, (None, None)),
        ({}, (None, None)),
    ],
)
def test_a_platform_event_tells_a_header_and_the_segment_of_the_function(event: Any, found: Any) -> None:
    header, segment_id = header_of(event)
    assert (header.trace_id, segment_id) == found


def test_ids_are_converted_to_x_ray_and_back() -> None:
    assert (to_xray(TRACE), from_xray(ROOT)) == (ROOT, TRACE)
    assert from_xray(TRACE) is None


@pytest.mark.parametrize(
    ("written", "found"),
    [
        ("14404642846412850899", f"{14404642846412850899:032x}"),
        (14404642846412850899, f"{14404642846412850899:032x}"),
        (TRACE, TRACE),
        (str(2**64), None),
        ("0", None),
        (0, None),
        (-1, None),
        (True, None),
        ("12a", None),
        ("١٢٣", None),
        (1.5, None),
        (None, None),
    ],
)
def test_ids_of_datadog_are_read(written: Any, found: str | None) -> None:
    assert from_datadog(written) == found


def test_an_id_for_datadog_is_its_lower_half_in_decimal() -> None:
    assert to_datadog(TRACE) == str(0xC7E845F6A0B1C2D3)
    assert from_datadog(to_datadog(TRACE)) == "0" * 16 + TRACE[16:]


def test_a_request_without_a_trace_has_one_of_its_own_which_one_can_tell_from_its_id() -> None:
    assert trace_of(request_id(1)) == request_id(1).replace("-", "")
    assert trace_of("not-a-uuid") == digest("not-a-uuid", digits=32)
    assert trace_id(trace_of("00000000-0000-0000-0000-000000000000")) is not None


def test_a_digest_is_always_the_same() -> None:
    assert digest("a", 1) == "2a094f2f3c5033c9"
    assert digest("a", 1) == digest("a", 1) != digest("a1")


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        ({"trace_id": TRACE}, TRACE),
        ({"trace_id": TRACE.upper()}, TRACE),
        ({"trace_id": ROOT}, TRACE),  # X-Ray's form under W3C's name
        ({"traceId": TRACE}, TRACE),
        ({"TraceId": TRACE}, TRACE),
        ({"otelTraceID": TRACE}, TRACE),
        ({"otelTraceID": "0"}, None),
        ({"xray_trace_id": ROOT}, TRACE),
        ({"trace.id": TRACE}, TRACE),
        ({"trace": {"id": TRACE}}, TRACE),
        ({"trace": TRACE}, None),
        ({"dd.trace_id": "17"}, f"{17:032x}"),
        ({"dd": {"trace_id": "17", "span_id": "18"}}, f"{17:032x}"),
        ({"dd": {"trace_id": TRACE}}, TRACE),
        ({"dd": {"service": "a"}}, None),
        ({"trace_id": "17"}, None),  # Datadog alone writes decimal numbers
        ({"trace_id": "0" * 32, "xray_trace_id": ROOT}, TRACE),
        ({"trace_id": None, "message": "no"}, None),
        ({"message": TRACE}, None),
    ],
)
def test_a_json_line_tells_its_trace_under_the_names_that_loggers_use(fields: Any, found: str | None) -> None:
    assert trace_in(fields) == found


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        ({"span_id": PARENT}, PARENT),
        ({"spanId": PARENT.upper()}, PARENT),
        ({"otelSpanID": PARENT}, PARENT),
        ({"span.id": PARENT}, PARENT),
        ({"span": {"id": PARENT}}, PARENT),
        ({"dd.span_id": "17"}, f"{17:016x}"),
        ({"dd": {"span_id": "17"}}, f"{17:016x}"),
        ({"dd": {"span_id": PARENT}}, None),  # Datadog writes these in decimal alone
        ({"span_id": "0" * 16}, None),
        ({"span": PARENT, "message": PARENT}, None),
        ({}, None),
    ],
)
def test_a_json_line_tells_its_span_under_the_names_that_loggers_use(fields: Any, found: str | None) -> None:
    assert span_in(fields) == found


def test_what_lambda_told_of_a_request_counts_until_it_starts_again_without() -> None:
    traces = Traces([("a", TRACE)])
    assert traces.of("a") == TRACE
    assert traces.of("b") == trace_of("b")
    assert traces.of(None) is None
    traces.start("b", {"tracing": {"value": f"Root={ROOT}"}}, 2)
    assert traces.told == (("a", TRACE), ("b", TRACE))
    traces.start("a", {}, 2)
    assert traces.of("a") == trace_of("a")
    for request in ("c", "d"):
        traces.start(request, {"tracing": {"value": f"Root={ROOT}"}}, 2)
    assert [request for request, _ in traces.told] == ["c", "d"]
