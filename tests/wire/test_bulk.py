"""What goes to Elasticsearch and OpenSearch over the wire, byte for byte, and how their answers are read."""

from base64 import b64encode

import orjson
import pytest

from telemetry_forwarder.errors import ConfigError
from telemetry_forwarder.interfaces import (
    Delivered,
    Denied,
    DropReason,
    HttpResponse,
    Partial,
    Rejected,
    Retry,
    Signing,
    TooLarge,
)
from telemetry_forwarder.sinks import load
from telemetry_forwarder.variables.reading import read_all
from telemetry_forwarder.variables.types import Secret, SecretReference
from tests.sink_records import GOLDEN, encode_all, loads, make_record, same

URL = "https://elastic.example.com"
QUERY = "?filter_path=errors,items.*.status,items.*.error.type,items.*.error.reason"


def elastic(**environ):
    return load("elasticsearch")(read_all({"ELASTICSEARCH_URL": URL} | environ))


def opensearch(**environ):
    return load("opensearch")(read_all({"OPENSEARCH_URL": URL} | environ))


SINK = elastic().sink
TIMESERIES = opensearch(OPENSEARCH_URL="https://x.eu-west-1.aoss.amazonaws.com").sink


# --- requests -------------------------------------------------------------------------------------------------------


def test_the_request_is_the_golden_one():
    request = SINK.request(encode_all(SINK))
    assert request.body == (GOLDEN / "bulk.ndjson").read_bytes()
    assert (request.method, request.url) == ("POST", f"{URL}/logs-lambda-default/_bulk{QUERY}")
    assert request.headers == {"content-type": "application/x-ndjson"}


def test_each_document_is_created_with_the_id_of_its_record():
    lines = SINK.request(encode_all(SINK)).body.splitlines()
    for action, document in zip(lines[::2], lines[1::2], strict=True):
        assert loads(action) == {"create": {"_id": loads(document)["lambda"]["record_id"]}}


def test_a_collection_for_time_series_gets_no_ids():
    lines = TIMESERIES.request(encode_all(TIMESERIES)).body.splitlines()
    assert set(lines[::2]) == {b'{"create":{}}'}
    assert TIMESERIES.request(same(1)).url == f"https://x.eu-west-1.aoss.amazonaws.com/logs-lambda/_bulk{QUERY}"


def test_a_request_is_within_what_is_reckoned():
    batch = encode_all(SINK)
    sizes = sum(len(encoded.data) + SINK.limits.overhead_bytes for encoded in batch)
    assert len(SINK.request(batch).body) <= sizes


def document_of(body, sink=SINK, **more):
    return loads(sink.encode(make_record(body, **more)).data)


def test_a_line_of_json_is_one_object_beside_its_message():
    line = {"message": "m", "lambda": 1, "@timestamp": "x", "a": {"b": [1, None]}}
    document = document_of(line)
    assert (document["message"], document["json"], document["@timestamp"]) == ("m", line, "2026-03-02T10:15:30.100Z")
    assert document_of({"msg": "m"})["message"] == "m"
    assert "message" not in document_of({"message": 7})


def test_an_array_is_a_text_since_no_field_takes_numbers_and_texts():
    """A real server answers 400 for `[1, "two"]`: the first value made the field a number."""
    document = document_of([1, "two"])
    assert document["message"] == '[1,"two"]'
    assert "json" not in document


def test_a_line_of_json_may_be_its_text():
    sink = elastic(ELASTICSEARCH_JSON="text").sink
    document = document_of('{"level": "WARN"}', sink, fields={"level": "WARN"})
    assert document["message"] == '{"level": "WARN"}'
    assert "json" not in document
    assert document_of({"a": 1}, sink)["message"] == '{"a":1}'


# --- answers --------------------------------------------------------------------------------------------------------


def answer(*items, errors=True, status=200, **headers):
    found = [
        {"create": {"status": item} if isinstance(item, int) else
         {"status": item[0], "error": {"type": item[1], "reason": item[2] if len(item) > 2 else "r"}}}
        for item in items
    ]  # fmt: skip
    return HttpResponse(status=status, body=orjson.dumps({"errors": errors, "items": found}), headers=headers)


def test_accepted():
    assert SINK.verdict(same(2), answer(201, 201, errors=False)) == Delivered()
    conflict = (409, "version_conflict_engine_exception")
    assert SINK.verdict(same(2), answer(conflict, 201)) == Delivered(), "it was there already"
    assert SINK.verdict(same(2), HttpResponse(status=200, body=b'{"errors":false}')) == Delivered()


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b"null", b'{"took":1}', b'{"errors":"no"}', b"OK", b"<html>"])
def test_a_200_that_does_not_say_so_is_no_delivery(body):
    """With `filter_path` an empty object may be an answer: so `errors` is asked for, and has to be there."""
    verdict = SINK.verdict(same(2), HttpResponse(status=200, body=body))
    assert isinstance(verdict, Denied)
    assert verdict.reason is DropReason.WRONG_ADDRESS
    assert "ELASTICSEARCH_URL" in verdict.detail


BUSY = (429, "es_rejected_execution_exception", "queue is full")
BAD = (400, "document_parsing_exception", "[1:2] failed to parse field [json.n]")


@pytest.mark.parametrize(
    ("items", "retry", "rejected"),
    [
        ([201, BUSY, 201], (1,), []),
        ([BAD, 201, BUSY], (2,), [0]),
        ([BAD, BAD, BAD], (), [0, 1, 2]),
        ([201, BAD], (2,), [1]),
        ([201, (403, "cluster_block_exception"), 201], (1,), []),
        ([201, (503, "unavailable_shards_exception"), (501, "x")], (1, 2), []),
        ([201, (403, "security_exception"), BAD], (1,), [2]),
        ([201, (404, "index_not_found_exception"), 201], (1,), []),
    ],
)
def test_each_document_has_an_answer_of_its_own(items, retry, rejected):
    verdict = SINK.verdict(same(3), answer(*items))
    assert isinstance(verdict, Partial)
    assert (verdict.retry, list(verdict.rejected), verdict.is_final) == (retry, rejected, False)
    assert set(verdict.rejected.values()) <= {DropReason.REJECTED}
    assert f"{len(retry) + len(rejected)} of 3 documents" in verdict.detail


def test_where_all_have_to_wait_the_batch_does():
    busy = answer(BUSY, BUSY)
    verdict = SINK.verdict(same(2), HttpResponse(status=200, body=busy.body, headers={"retry-after": "4"}))
    assert isinstance(verdict, Retry)
    assert verdict.after == 4.0
    assert 'es_rejected_execution_exception ("queue is full")' in verdict.detail


@pytest.mark.parametrize(
    ("item", "reason", "named"),
    [
        ((403, "security_exception", "action [write] is unauthorized"), DropReason.UNAUTHORIZED, "API_KEY"),
        ((404, "index_not_found_exception", "no such index"), DropReason.WRONG_ADDRESS, "ELASTICSEARCH_DATA_STREAM"),
    ],
)  # fmt: skip
def test_what_a_setting_is_to_blame_for_costs_no_record(item, reason, named):
    """An API key without the privilege on the data stream is answered 200, with a 403 for each document."""
    verdict = SINK.verdict(same(2), answer(item, item))
    assert isinstance(verdict, Denied)
    assert verdict.reason is reason
    assert named in verdict.detail


def test_values_of_a_document_are_not_told():
    reason = (
        "failed to parse field [json.n] of type [long] in document with id 'x'. Preview of field's value: 'hunter2'"
    )
    verdict = SINK.verdict(same(2), answer((400, "document_parsing_exception", reason), 201))
    assert "failed to parse field [json.n]" in verdict.detail
    assert "hunter2" not in verdict.detail


def test_of_an_answer_that_is_too_long_to_be_read_the_beginning_counts():
    """The others are sent again: those that are stored are answered 409 then."""
    whole = answer(*[201, BAD] * 400).body
    verdict = SINK.verdict(same(800), HttpResponse(status=200, body=whole[:20_000]))
    assert isinstance(verdict, Partial)
    read = min(verdict.retry)
    assert verdict.retry == tuple(range(read, 800))
    assert 100 < read < 800
    assert set(verdict.rejected) == set(range(1, read, 2))


def test_one_that_cannot_be_read_is_asked_for_again_if_ids_tell_what_is_there():
    broken = HttpResponse(status=200, unreadable="the connection ended before it did")
    assert isinstance(SINK.verdict(same(2), broken), Retry)
    taken = TIMESERIES.verdict(same(2), broken)
    assert isinstance(taken, Delivered)
    assert taken.warning


@pytest.mark.parametrize(
    ("status", "kind"),
    [(302, Denied), (400, Rejected), (401, Denied), (403, Denied), (404, Denied), (406, Rejected), (413, TooLarge),
     (429, Retry), (500, Retry), (502, Retry), (503, Retry), (504, Retry)],
)  # fmt: skip
def test_an_answer_for_the_whole_request(status, kind):
    body = b'{"error":{"type":"x","reason":"said"},"status":400}'
    assert isinstance(SINK.verdict(same(2), HttpResponse(status=status, body=body)), kind)


def test_an_elasticsearch_that_is_too_old_for_a_setting_is_told():
    sink = elastic(ELASTICSEARCH_SOURCE_ON_ERROR="false").sink
    assert sink.request(same(1)).url.endswith(f"/_bulk{QUERY}&include_source_on_error=false")
    body = b'{"error":{"reason":"request [/_bulk] contains unrecognized parameter: [include_source_on_error]"}}'
    verdict = sink.verdict(same(2), HttpResponse(status=400, body=body))
    assert isinstance(verdict, Denied)
    assert "ELASTICSEARCH_SOURCE_ON_ERROR" in verdict.detail


def test_advice_is_for_the_sink_that_asked():
    verdict = TIMESERIES.verdict(same(2), HttpResponse(status=403))
    assert isinstance(verdict, Denied)
    assert "data access policy" in verdict.detail
    domain = opensearch(OPENSEARCH_URL="https://search-x.eu-west-1.es.amazonaws.com").sink
    assert "es:ESHttpPost" in domain.verdict(same(2), HttpResponse(status=403)).detail
    assert "OPENSEARCH_PASSWORD" in opensearch().sink.verdict(same(2), HttpResponse(status=401)).detail


# --- settings -------------------------------------------------------------------------------------------------------


def cloud_id(text):
    return "deployment:" + b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("eu-west-1.aws.found.io$abc$def", "https://abc.eu-west-1.aws.found.io:443"),
        ("eu-west-1.aws.found.io:9243$abc$def", "https://abc.eu-west-1.aws.found.io:9243"),
        ("host$abc:9200", "https://abc.host:9200"),
    ],
)
def test_a_cloud_id_is_an_address(text, url):
    sink = elastic(ELASTICSEARCH_URL="", ELASTIC_CLOUD_ID=cloud_id(text)).sink
    assert sink.url == url


@pytest.mark.parametrize(
    ("own", "prefix", "secret"),
    [
        ({"ELASTICSEARCH_API_KEY": "c29tZTprZXk="}, "ApiKey ", Secret("c29tZTprZXk=")),
        ({"ELASTICSEARCH_API_KEY": "some:key"}, "ApiKey ", Secret("c29tZTprZXk=")),
        ({"ELASTICSEARCH_API_KEY_SSM_PARAMETER": "/k"}, "ApiKey ", SecretReference("ssm", "/k")),
        ({"ELASTICSEARCH_BEARER_TOKEN": "t"}, "Bearer ", Secret("t")),
        ({"ELASTICSEARCH_USERNAME": "u", "ELASTICSEARCH_PASSWORD": "p"}, "Basic ", Secret("p")),
    ],
)
def test_who_sends(own, prefix, secret):
    credential = elastic(**own).delivery.credential
    assert (credential.header, credential.prefix, credential.secret) == ("authorization", prefix, secret)


@pytest.mark.parametrize(
    ("url", "own", "signing"),
    [
        ("https://search-x.eu-west-1.es.amazonaws.com", {}, Signing("es", "eu-west-1")),
        ("https://x.us-east-2.aoss.amazonaws.com", {}, Signing("aoss", "us-east-2")),
        ("https://search-x.aos.eu-west-1.on.aws", {}, Signing("es", "eu-west-1")),
        ("https://vpc-x.cn-north-1.es.amazonaws.com.cn", {}, Signing("es", "cn-north-1")),
        (URL, {}, None),
        (URL, {"OPENSEARCH_AWS_SERVICE": "es", "AWS_REGION": "eu-west-1"}, Signing("es", "eu-west-1")),
        (URL, {"OPENSEARCH_AWS_SERVICE": "aoss", "OPENSEARCH_AWS_REGION": "eu-west-3"}, Signing("aoss", "eu-west-3")),
        ("https://x.eu-west-1.es.amazonaws.com", {"OPENSEARCH_AWS_SERVICE": "none"}, None),
        ("https://x.eu-west-1.es.amazonaws.com", {"OPENSEARCH_USERNAME": "u", "OPENSEARCH_PASSWORD": "p"}, None),
    ],
)
def test_requests_to_aws_are_signed(url, own, signing):
    assert opensearch(OPENSEARCH_URL=url, **own).delivery.signing == signing


def test_only_a_collection_for_time_series_has_no_ids_of_ours():
    serverless = {"OPENSEARCH_URL": "https://x.eu-west-1.aoss.amazonaws.com"}
    assert not opensearch(**serverless).sink.has_ids
    assert opensearch(**serverless, OPENSEARCH_COLLECTION_TYPE="search").sink.has_ids
    assert opensearch().sink.has_ids


@pytest.mark.parametrize(
    ("make", "own", "said"),
    [
        (elastic, {"ELASTIC_CLOUD_ID": cloud_id("h$a")}, "ELASTIC_CLOUD_ID is set as well as ELASTICSEARCH_URL"),
        (elastic, {"ELASTICSEARCH_API_KEY": "k", "ELASTICSEARCH_BEARER_TOKEN": "t"}, "ELASTICSEARCH_BEARER_TOKEN is"),
        (elastic, {"ELASTICSEARCH_DATA_STREAM": "Logs"}, "ELASTICSEARCH_DATA_STREAM"),
        (elastic, {"ELASTICSEARCH_DATA_STREAM": "_logs"}, "ELASTICSEARCH_DATA_STREAM"),
        (opensearch, {"OPENSEARCH_AWS_SERVICE": "es"}, "with a region"),
        (opensearch, {"OPENSEARCH_AWS_SERVICE": "es", "OPENSEARCH_TOKEN": "t"}, "beside a password or a token"),
        (opensearch, {"OPENSEARCH_USERNAME": "u"}, "OPENSEARCH_USERNAME is set without OPENSEARCH_PASSWORD"),
        (opensearch, {"OPENSEARCH_COLLECTION_TYPE": "vectorsearch"}, "OPENSEARCH_COLLECTION_TYPE"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told(make, own, said):
    (problem,) = make(**own).problems
    assert said in str(problem)


@pytest.mark.parametrize(
    "own",
    [{"ELASTICSEARCH_URL": ""}, {"ELASTICSEARCH_URL": "https://u:hunter2@h"},
     {"ELASTICSEARCH_URL": "", "ELASTIC_CLOUD_ID": "no base64!"},
     {"ELASTICSEARCH_URL": "", "ELASTIC_CLOUD_ID": "a:aGk="}],
)  # fmt: skip
def test_without_an_address_it_does_not_run(own):
    with pytest.raises(ConfigError) as caught:
        elastic(**own)
    assert "ELASTIC" in str(caught.value)
    assert "hunter2" not in str(caught.value)
