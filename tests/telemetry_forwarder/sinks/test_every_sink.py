"""What holds for each sink, whatever the record and whatever the answer."""

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from telemetry_forwarder.errors import EncodeError
from telemetry_forwarder.interfaces import AwsResponse, HttpResponse, Partial, Verdict
from telemetry_forwarder.records.lossless_json import to_json
from telemetry_forwarder.sinks import load
from telemetry_forwarder.variables.reading import read_all
from telemetry_forwarder.variables.table import BUILT_IN_SINKS
from tests.sink_records import SAMPLES, any_record, json_values, make_record, same

ENVIRON = {
    "SPLUNK_HEC_URL": "https://splunk.example.com",
    "SPLUNK_HEC_TOKEN": "t",
    "DD_API_KEY": "k",
    "CLOUDWATCH_LOG_GROUP": "g",
    "OTEL_EXPORTER_OTLP_ENDPOINT": "https://otlp.example.com",
    "AWS_REGION": "eu-west-1",
    "FIREHOSE_STREAM_NAME": "logs",
    "KINESIS_STREAM_NAME": "logs",
    "S3_LOGS_URI": "s3://logs",
    "OTEL_EXPORTER_OTLP_PROTOCOL": "http/json",  # what it writes as protobuf is compared with that elsewhere
    "AXIOM_TOKEN": "t",
    "AXIOM_DATASET": "d",
    "ELASTICSEARCH_URL": "https://elasticsearch.example.com",
    "OPENSEARCH_URL": "https://opensearch.example.com",
    "LOKI_ADDR": "https://loki.example.com",
    "TELEMETRY_FORWARDER_HTTP_URL": "https://http.example.com",
    "HONEYCOMB_API_KEY": "k",
    "HONEYCOMB_DATASET": "d",
    "SUMO_HTTP_ENDPOINT": "https://sumo.example.com/receiver/v1/http/t",
    "NEW_RELIC_LICENSE_KEY": "k",
}


SINKS = {name: load(name)(read_all(ENVIRON)).sink for name in BUILT_IN_SINKS}
MARKS = {
    "honeycomb": b'"lambda.cut":true',
    "splunk": b'"cut":"true"',
    "loki": b'"cut":"true"',
    "otlp": b'{"key":"cut","value":{"boolValue":true}}',
}  # HEC's fields and Loki's metadata are texts
IDS = {"honeycomb": b'"lambda.record_id":"the-id"', "otlp": b'"log.record.uid","value":{"stringValue":"the-id"}'}
HTTP_SINKS = [sink for sink in SINKS.values() if sink.name != "cloudwatch"]

every_sink = pytest.mark.parametrize("sink", SINKS.values(), ids=SINKS)


@every_sink
@pytest.mark.parametrize("repeat", [1, 50_000])
def test_any_record_is_encoded_within_the_limit_or_not_at_all(sink, repeat):
    @settings(max_examples=100 if repeat == 1 else 25, deadline=None)
    @given(any_record(repeat))
    def check(record):
        try:
            encoded = sink.encode(record)
        except EncodeError:
            return
        assert encoded.record is record
        assert len(encoded.data) <= sink.limits.max_record_bytes
        assert isinstance(orjson.loads(encoded.data), dict | list)
        assert record.id.encode() in encoded.data
        assert b"\n" not in encoded.data
        mark = MARKS.get(sink.name, b'"cut":true')
        assert encoded.is_cut is (mark in encoded.data)

    check()


@every_sink
def test_encoding_is_pure(sink):
    for record in SAMPLES:
        assert sink.encode(record) == sink.encode(record)


@every_sink
def test_the_id_is_in_what_was_cut_too(sink):
    encoded = sink.encode(make_record("x" * 3_000_000, batch="the-id"))
    assert encoded.is_cut
    assert IDS.get(sink.name, b'"record_id":"the-id"') in encoded.data


@every_sink
def test_what_leaves_no_room_for_the_record_cannot_be_expressed(sink):
    with pytest.raises(EncodeError):
        sink.encode(make_record("x", request_id="r" * 1_100_000))


@every_sink
def test_integers_beyond_64_bits_and_lone_surrogates_are_not_lost(sink):
    data = sink.encode(make_record({"order": 2**70, "name": "a\ud800b"})).data
    assert b"1180591620717411303424" in data
    assert "a\ufffdb".encode() in data


headers = st.dictionaries(
    st.sampled_from(["retry-after", "x-ratelimit-reset", "location", "content-type"]),
    st.text(max_size=30) | st.sampled_from(["5", "1e999", "nan", "٣", "-4", "https://", "http://[::1"]),
)
hec_like = st.fixed_dictionaries(
    {}, optional={"text": json_values, "code": st.integers(-1, 30) | json_values, "invalid-event-number": json_values}
)
axiom_like = st.fixed_dictionaries(
    {"ingested": st.integers(-1, 9) | json_values},
    optional={"failed": st.integers(-1, 9) | json_values, "failures": json_values},
)
honeycomb_like = st.lists(
    st.fixed_dictionaries({"status": st.sampled_from([202, 400, 429]) | json_values}, optional={"error": json_values})
)
bodies = st.binary(max_size=200) | (hec_like | axiom_like | honeycomb_like).map(to_json)


def is_sound(verdict, batch):
    assert isinstance(verdict, Verdict)
    assert getattr(verdict, "after", 0.0) >= 0
    if isinstance(verdict, Partial):
        named = [*verdict.retry, *verdict.rejected]
        assert sorted(set(named)) == sorted(named)
        assert all(0 <= index < len(batch) for index in named)
        assert verdict.rejected or len(named) < len(batch)  # else the same batch could come back for ever


@pytest.mark.parametrize("sink", HTTP_SINKS, ids=lambda sink: sink.name)
@settings(deadline=None)
@given(
    count=st.integers(1, 5),
    status=st.sampled_from([200, 202, 400, 401, 413, 429, 503]) | st.integers(-1, 1000),
    body=bodies,
    headers=headers,
)
def test_no_http_answer_makes_it_raise(sink, count, status, body, headers):
    batch = same(count)
    is_sound(sink.verdict(batch, HttpResponse(status=status, body=body, headers=headers)), batch)


@settings(deadline=None)
@given(
    count=st.integers(1, 5),
    status=st.sampled_from([200, 400, 500]) | st.integers(-1, 1000),
    error=st.none() | st.text(max_size=20) | st.sampled_from(["ThrottlingException", "AccessDeniedException"]),
    retry_after=st.floats(),
    body=st.dictionaries(st.just("rejectedLogEventsInfo"), json_values | st.fixed_dictionaries({}, optional={
        "tooOldLogEventEndIndex": st.integers(-3, 9) | json_values,
        "tooNewLogEventStartIndex": st.integers(-3, 9) | json_values,
        "expiredLogEventEndIndex": st.integers(-3, 9) | json_values,
    })),
)  # fmt: skip
def test_no_aws_answer_makes_it_raise(count, status, error, retry_after, body):
    batch = same(count)
    response = AwsResponse(status=status, error=error, message="m", retry_after=retry_after, body=body)
    is_sound(SINKS["cloudwatch"].verdict(batch, response), batch)
