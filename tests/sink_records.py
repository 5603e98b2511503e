"""Records as the pipeline hands them to a sink: one of each kind, a factory, and any at all."""

from pathlib import Path
from typing import Any

import orjson
from hypothesis import strategies as st

from telemetry_forwarder.delivery.loss_event import loss_record
from telemetry_forwarder.interfaces import DropReason, Encoded, Sink
from telemetry_forwarder.records.derived import body_of, records_of
from telemetry_forwarder.records.record import SPAN, Context, Origin, Record, decode
from telemetry_forwarder.signals.points import MetricKind, Point, metrics

GOLDEN = Path(__file__).parent / "wire" / "golden"

ARN = "arn:aws:lambda:eu-west-1:210987654321:function:Orders-Worker"
REQUEST_ID = "5d0c2c7e-8a51-4f0e-9c6b-2f1f6f0b7a11"
INSTANCE_ID = "2026/03/02/[$LATEST]4f0e9c6b2f1f6f0b7a115d0c2c7e8a51"
NOW_MS = 1_772_446_530_100  # 2026-03-02T10:15:30.100Z

BARE = Origin(function_name="orders-worker")
FULL = Origin(
    function_name="Orders-Worker",
    function_version="$LATEST",
    function_arn=ARN,
    region="eu-west-1",
    account_id="210987654321",
    memory_mb=512,
    instance_id=INSTANCE_ID,
    init_type="on-demand",
    service="Orders",
    env="prod",
    version="1.4.2",
    tags=(("team", "shop"), ("costs", "a"), ("costs", "b"), ("type", "batch,nightly")),
)


def make_record(body: Any, type: str = "function", **more: Any) -> Record:
    """Make a record around `body`; a JSON object (also one in a text) becomes its `fields`, as decoding does it."""
    fields = body if isinstance(body, dict) and not type.startswith("platform.") else None
    context: dict[str, Any] = {"origin": FULL, "type": type, "request_id": REQUEST_ID, "cold_start": True}
    members: dict[str, Any] = {
        "batch": "0190f3-1",
        "index": None,
        "time_ms": NOW_MS,
        "body": body,
        "fields": fields,
        "size_bytes": 100,
    }
    of_context = {name: more.pop(name) for name in Context.__struct_fields__ if name in more}
    return Record(**members | more, context=Context(**context | of_context))


REPORT = {
    "requestId": REQUEST_ID,
    "status": "timeout",
    "metrics": {
        "durationMs": 3000.0,
        "billedDurationMs": 3609,
        "memorySizeMB": 512,
        "maxMemoryUsedMB": 97,
        "initDurationMs": 608.27,
    },
}

LOSS = loss_record(
    BARE,
    {"splunk": {DropReason.DEADLINE: 10, DropReason.BUFFER_FULL: 2}, "datadog": {}},
    time_ms=NOW_MS + 903,
    lost_before_us=1800,
    lost_before_us_bytes=412300,
)
assert LOSS is not None

# What a golden request carries: every kind of record, in ascending order of time.
SAMPLES = (
    make_record("paid order 17 — ✓", batch="0190f3-1"),
    make_record(
        {"level": "ERROR", "message": "no stock", "order": 17, "items": ["a", None]},
        batch="0190f3-2",
        time_ms=NOW_MS + 1,
        level="error",
    ),
    make_record(
        '{"level":"WARN", "msg":"slow"}',
        batch="0190f3-3",
        time_ms=NOW_MS + 2,
        fields={"level": "WARN", "msg": "slow"},
        level="warn",
        cold_start=False,
    ),
    make_record(REPORT, "platform.report", batch="0190f3-4", time_ms=NOW_MS + 900),
    make_record(
        {"reason": "consumer slower than producer", "droppedRecords": 1800, "droppedBytes": 412300},
        "platform.logsDropped",
        batch="0190f3-5",
        time_ms=NOW_MS + 900,
        request_id=None,
        cold_start=None,
        origin=BARE,
    ),
    make_record("", batch="0190f3-6", time_ms=NOW_MS + 901, request_id=None, cold_start=None, origin=BARE),
    make_record([1, "two"], batch="0190f3-7", time_ms=NOW_MS + 902, request_id=None, cold_start=None, origin=BARE),
    LOSS,
)


NOW_NS = NOW_MS * 1_000_000


def make_span(**fields: Any) -> Record:
    """Make the record of a span, as `signals` derives it; None leaves a member out."""
    usual: dict[str, Any] = {
        "trace_id": "68c4a1f03b2a90d1c7e845f6a0b1c2d3",
        "span_id": "7f3e1d2c4b5a6978",
        "name": "orders-worker",
        "kind": "server",
        "start_ns": NOW_NS,
        "end_ns": NOW_NS + 3_000_000_000,
        "attributes": {"faas.invocation_id": REQUEST_ID, "faas.coldstart": True, "faas.trigger": "other"},
    }
    found = {name: value for name, value in {**usual, **fields}.items() if value is not None}
    return make_record(found, SPAN, fields=found, trace_id=found.get("trace_id"))


SPAN_SAMPLES = (
    make_span(error=True, message="timed out after 3.00 s", flags=1, trace_state="a=b",
              links=[{"trace_id": "1" * 32, "span_id": "2" * 16}]),
    make_span(parent_id="7f3e1d2c4b5a6978", span_id="0102030405060708", name="invocation", kind="internal",
              attributes={"aws.lambda.response_latency": 0.25, "n": 3}),
)  # fmt: skip


# What a golden request of metrics carries: an invocation's counts, its report, and what a function printed.
METRIC_SAMPLES = tuple(
    records_of(
        FULL,
        decode(
            body_of(
                [
                    metrics(
                        [
                            Point("lambda.invocations", 1, "1", MetricKind.COUNT),
                            Point("lambda.errors", 1, "1", MetricKind.COUNT),
                            Point("lambda.runtime_duration", 2999.5, "ms", MetricKind.DISTRIBUTION),
                        ],
                        NOW_MS,
                        "platform",
                        {"error.type": "timeout"},
                        request_id=REQUEST_ID,
                        cold_start=True,
                    ),
                    metrics(
                        [
                            Point("lambda.duration", 3000.0, "ms", MetricKind.DISTRIBUTION),
                            Point("lambda.billed_duration", 3609, "ms", MetricKind.DISTRIBUTION),
                            Point("lambda.memory_used", 97, "MiBy", MetricKind.DISTRIBUTION),
                            Point("lambda.memory_size", 512, "MiBy", MetricKind.GAUGE),
                            Point("lambda.estimated_cost", 0.000030275067, "USD", MetricKind.DISTRIBUTION),
                            Point("lambda.extension_overhead", 7.25, "ms", MetricKind.DISTRIBUTION),
                        ],
                        NOW_MS + 900,
                        "platform",
                        request_id=REQUEST_ID,
                        cold_start=True,
                    ),
                    metrics(
                        [Point("Orders paid", [3, 0.5], "", MetricKind.DISTRIBUTION)],
                        NOW_MS + 901,
                        "emf",
                        {"service": "payment", "region": "eu"},
                        request_id=REQUEST_ID,
                    ),
                ]
            ),
            NOW_MS,
        ).items,
        "0190f3" * 4,
    )
)


def encode_all(sink: Sink[Any, Any], records: tuple[Record, ...] = SAMPLES) -> list[Encoded]:
    return [sink.encode(record) for record in records]


def same(count: int, data: bytes = b"{}") -> list[Encoded]:
    """Make a batch of `count`, for answers that are read by position alone."""
    return [Encoded(SAMPLES[0], data)] * count


def loads(data: bytes) -> Any:
    return orjson.loads(data)


# --- any record at all: surrogates, control characters, huge integers, NaN, nesting ---------------------------------

any_text = st.text(st.characters(), max_size=60)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | any_text | st.just(2**70),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(any_text, inner, max_size=4),
    max_leaves=12,
)
types = st.sampled_from(
    ["function", "extension", "platform.report", "platform.start", "platform.news", "forwarder.recordsLost"]
)


@st.composite
def any_record(draw: st.DrawFn, repeat: int = 1) -> Record:
    """Draw a record; `repeat` multiplies its text, or the text inside a JSON object, to exceed a limit."""
    text = draw(any_text) * repeat
    body = draw(json_values | st.just(text) | st.just({"message": text, "lambda": 1}) | st.just({"requestId": text}))
    return make_record(
        body,
        draw(types),
        time_ms=draw(st.integers(0, 4_102_444_800_000)),
        level=draw(st.sampled_from([None, "debug", "error"])),
        cold_start=draw(st.sampled_from([None, True, False])),
        request_id=draw(st.none() | any_text),
        origin=draw(st.sampled_from([BARE, FULL])),
    )
