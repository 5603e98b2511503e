"""What a sink writes for many records at once is what it writes for each, and what a plain writer makes of a dict.

`DIFFERENTIAL=N` tries N batches for each sink in place of a few: a million records take some minutes.
"""

import os
from collections.abc import Callable, Mapping
from typing import Any
from zlib import crc32

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from telemetry_forwarder.errors import EncodeError
from telemetry_forwarder.interfaces import Encoded
from telemetry_forwarder.otlp.protobuf import encode
from telemetry_forwarder.records.lossless_json import to_json
from telemetry_forwarder.records.record import Record
from telemetry_forwarder.sinks import (
    axiom,
    bulk,
    cloudwatch_logs,
    datadog,
    honeycomb,
    json_objects,
    loki_push,
    newrelic,
    splunk_hec,
)
from telemetry_forwarder.sinks.http_answers import Advice
from telemetry_forwarder.sinks.otlp import _USUAL
from telemetry_forwarder.sinks.otlp_logs import OtlpLogs, _log_record
from telemetry_forwarder.sinks.otlp_requests import framed
from telemetry_forwarder.sinks.sumologic import _OBJECTS as SUMO_OBJECTS
from telemetry_forwarder.sinks.sumologic import SumoLogic
from telemetry_forwarder.sinks.truncate import present
from tests.builders import record
from tests.telemetry_forwarder.failover.test_parcels import any_record

MANY = settings(
    deadline=None,
    max_examples=int(os.environ.get("DIFFERENTIAL", "150")),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
ADVICE = Advice(who="it", credential="x", address="y")
SPLUNK = splunk_hec.SplunkHec(url="https://splunk.example", index="main")
DATADOG = datadog.Datadog(url="https://datadog.example", tags=(("a", "b"),))
OTLP, OTLP_JSON = (OtlpLogs(url="https://otlp.example", limits=_USUAL, is_json=is_json) for is_json in (False, True))
NEWRELIC = newrelic.NewRelic(url="https://newrelic.example", tags=(("a", "b"),))
HONEYCOMB = honeycomb.Honeycomb(url="https://honeycomb.example", dataset="d")
BULK, BULK_TEXTS = (
    bulk.Bulk(name="x", url="https://elastic.example", target="t", is_parsed=is_parsed, advice=ADVICE)
    for is_parsed in (True, False)
)
LOKI = loki_push.Loki(url="https://loki.example", advice=ADVICE)
AXIOM = axiom.Axiom(url="https://axiom.example", dataset="d")
CLOUDWATCH = cloudwatch_logs.CloudWatchLogs(group="/g", stream=None, fallback_stream="s")


def splunk(record: Record) -> bytes:
    seconds = f"{abs(record.time_ms) // 1000}.{abs(record.time_ms) % 1000:03}"
    function = record.origin.function_name
    return to_json({
        "time": orjson.Fragment("-" * (record.time_ms < 0) + seconds),
        "host": function,
        "source": f"lambda:{function}",
        "sourcetype": f"aws:lambda:{record.type.partition('.')[0]}",
        "index": "main",
        "event": splunk_hec.event(record),
        "fields": {"record_id": record.id, **splunk_hec.fields(record.context, is_cut=False)},
    })  # fmt: skip


def of_datadog(record: Record) -> bytes:
    origin = record.origin
    more = {"platform": {"type": record.type, "record": record.body}} if record.is_event else {}
    log = {
        "message": datadog.message(record),
        "status": datadog.status(record),
        "timestamp": record.time_ms,
        "service": origin.service.lower() if origin.service else origin.function_name,
        "hostname": origin.function_arn or origin.function_name,
        "ddsource": "lambda",
        "ddtags": datadog.ddtags(origin, record.cold_start, (("a", "b"),)),
        "lambda": present({
            "arn": origin.function_arn, "request_id": record.request_id, "instance_id": origin.instance_id
        }),
        **({"dd.trace_id": str(int(trace[16:], 16))} if (trace := record.context.trace_id) else {}),
        "record_id": record.id,
    }  # fmt: skip
    return to_json({**{name: value for name, value in log.items() if (name, value) != ("status", None)}, **more})


def cloudwatch(record: Record) -> bytes:
    return to_json(cloudwatch_logs.content(record))


def otlp(record: Record) -> bytes:
    return framed(encode("LogRecord", _log_record(record)))


def of_bulk(record: Record, sink: bulk.Bulk = BULK) -> bytes:
    ours, others = bulk._known(record.context)
    message, content = sink._content(record)
    said = {**({} if message is None else {"message": message}), **({} if content is None else {"json": content})}
    known = {"record_id": record.id, **ours, **({"record": record.body} if record.is_event else {})}
    return to_json({"@timestamp": json_objects.rfc3339(record.time_ms), **said, "lambda": known, **others})


def of_bulk_texts(record: Record) -> bytes:
    return of_bulk(record, BULK_TEXTS)


def of_loki(record: Record) -> bytes:
    text, more = loki_push._line(record)
    within_ms = (crc32(record.batch.encode("utf-8", "replace")) % 990_000 + (record.index or 0)) % 1_000_000
    known = {"record_id": record.id, **loki_push._known(record.context), **more}
    return to_json([str(record.time_ms * 1_000_000 + within_ms), text, known])


def of_axiom(record: Record) -> bytes:
    return to_json({"_time": json_objects.rfc3339(record.time_ms), **axiom._OBJECTS.content(record)})


def of_honeycomb(record: Record) -> bytes:
    """The members in the order that the sink writes them, from a dict."""
    members, is_cut = honeycomb._shortened(honeycomb._members(record))
    known = {f"lambda.{key}": value for key, value in json_objects.facts_of(record.context).items() if key != "tags"}
    for key, value in record.origin.tags:
        name = f"lambda.tags.{key}"
        known[name] = f"{known[name]},{value}" if name in known else value
    trace = known.pop("lambda.trace_id", None)
    ours = {"lambda.record_id": record.id, **known, **({"trace.trace_id": trace} if trace else {})}
    data = {**ours, **members}
    ordered = {key: data[key] for key in (*members, *(key for key in ours if key not in members))}
    cut = {"lambda.cut": True} if is_cut else {}
    return to_json({"time": json_objects.rfc3339(record.time_ms), "data": {**ordered, **cut}})


def of_newrelic(record: Record) -> bytes:
    message, members = newrelic._parts(record, NEWRELIC._room(record.origin))
    known = present({
        "telemetry.type": record.type, "aws.lambda_request_id": record.request_id, "faas.coldstart": record.cold_start,
        "level": record.level, "trace.id": record.context.trace_id,
    })  # fmt: skip
    ours = {key: value for key, value in known.items() if key not in ("level", "trace.id") or key not in members}
    cut = {"cut": True} if any(newrelic._shortened(str(one))[1] for one in (message, *members.values())) else {}
    short = {key: newrelic._shortened(one)[0] if isinstance(one, str) else one for key, one in members.items()}
    return to_json({
        "timestamp": record.time_ms, "message": newrelic._shortened(message)[0],
        "attributes": {"record_id": record.id, **ours, **short, **cut},
    })  # fmt: skip


def of_sumologic(record: Record) -> bytes:
    return to_json({"@timestamp": json_objects.rfc3339(record.time_ms), **SUMO_OBJECTS.content(record)})


WRITERS: Mapping[str, tuple[Any, Callable[[Record], bytes]]] = {
    "splunk": (SPLUNK, splunk), "datadog": (DATADOG, of_datadog), "cloudwatch": (CLOUDWATCH, cloudwatch),
    "loki": (LOKI, of_loki), "bulk": (BULK, of_bulk), "bulk of texts": (BULK_TEXTS, of_bulk_texts),
    "otlp": (OTLP, otlp), "otlp as JSON": (OTLP_JSON, lambda record: to_json(_log_record(record))),
    "axiom": (AXIOM, of_axiom), "honeycomb": (HONEYCOMB, of_honeycomb),
    "newrelic": (NEWRELIC, of_newrelic),
    "sumologic": (SumoLogic(url="https://sumo.example"), of_sumologic),
}  # fmt: skip


@st.composite
def batches(draw: st.DrawFn) -> list[Record]:
    """Return records of a few contexts and batches, as they come: most are lines of the same request."""
    given_records = draw(st.lists(any_record(), min_size=1, max_size=12))
    found = []
    for one in given_records:
        model = draw(st.sampled_from(given_records))
        index = draw(st.none() | st.integers(0, 2**17))
        found.append(replace(one, context=model.context, batch=model.batch, index=index))
    return found


def alone(sink: Any, record: Record) -> Encoded | str:
    try:
        encoded: Encoded = sink.encode(record)
    except EncodeError as error:
        return str(error)
    return encoded


@pytest.mark.parametrize("name", WRITERS)
@MANY
@given(given_records=batches())
def test_many_at_once_are_written_as_each_alone_and_as_a_plain_writer_does(
    name: str, given_records: list[Record]
) -> None:
    sink, write = WRITERS[name]
    each = [alone(sink, record) for record in given_records]
    for one in each:
        assert isinstance(one, str) or one.data == write(one.record)
    try:
        found = sink.encode_all(given_records)
    except (EncodeError, TypeError):  # each of them is tried alone then: one has something that orjson refuses
        return
    assert found == each


@pytest.mark.parametrize("name", WRITERS)
def test_an_oversize_record_among_others_is_cut(name: str) -> None:
    sink, _ = WRITERS[name]
    line = record("hello")
    small, large = sink.encode_all([line, replace(line, body="x" * 1_100_000)])
    assert (small.is_cut, large.is_cut) == (False, True)
    assert large == sink.encode(large.record)
