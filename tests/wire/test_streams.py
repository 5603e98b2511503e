"""What goes to Firehose and to Kinesis over the wire, byte for byte, and how their answers are read."""

import base64
from collections import Counter
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from telemetry_forwarder.errors import ConfigError, EncodeError
from telemetry_forwarder.interfaces import (
    Delivered,
    Denied,
    Destination,
    DropReason,
    Encoded,
    HttpDelivery,
    HttpResponse,
    Partial,
    Rejected,
    Retry,
    Signing,
    TooLarge,
)
from telemetry_forwarder.records.lossless_json import to_json
from telemetry_forwarder.sinks import load
from telemetry_forwarder.sinks.splunk_hec import SplunkHec
from telemetry_forwarder.sinks.streams import MOST_RECORDS, grouped, one_key
from telemetry_forwarder.variables.reading import read_all
from tests.sink_records import GOLDEN, SAMPLES, any_record, encode_all, json_values, make_record, same

LINES = (GOLDEN / "json_lines.ndjson").read_bytes()
KINDS = ("firehose", "kinesis")
each_kind = pytest.mark.parametrize("kind", KINDS)


def made(kind: str, **environ: str) -> Destination[Any, Any]:
    needed = {"AWS_REGION": "eu-west-1", f"{kind.upper()}_STREAM_NAME": "logs"}
    found = load(kind)(read_all({**needed, **environ}))
    assert isinstance(found, Destination)
    return found


def sink_of(kind: str, **environ: str) -> Any:
    return made(kind, **environ).sink


def problem_of(kind: str, **environ: str) -> str:
    with pytest.raises(ConfigError) as caught:
        made(kind, **environ)
    return str(caught.value)


def data_in(request: Any) -> list[bytes]:
    return [base64.b64decode(one["Data"], validate=True) for one in orjson.loads(request.body)["Records"]]


def error(kind: str, message: str = "", status: int = 400, **headers: str) -> HttpResponse:
    body = orjson.dumps({"__type": f"com.amazonaws.x#{kind}", "message": message})
    return HttpResponse(status=status, body=body, headers={k.replace("_", "-"): v for k, v in headers.items()})


# --- requests -------------------------------------------------------------------------------------------------------


def test_a_call_of_firehose_is_the_golden_one() -> None:
    """All lines are in one record, each with its end."""
    sink = sink_of("firehose")
    request = sink.request(encode_all(sink))
    record = b'{"Data":"%b"}' % base64.b64encode(LINES)
    assert request.body == b'{"DeliveryStreamName":"logs","Records":[%b]}' % record
    assert (request.method, request.url) == ("POST", "https://firehose.eu-west-1.amazonaws.com/")
    assert request.headers == {
        "content-type": "application/x-amz-json-1.1",
        "x-amz-target": "Firehose_20150804.PutRecordBatch",
    }


def test_a_call_of_kinesis_is_the_golden_one_by_request() -> None:
    """The lines of a request share a record; those of none share that of their environment."""
    sink = sink_of("kinesis")
    request = sink.request(encode_all(sink))
    lines = LINES.splitlines(keepends=True)
    members = orjson.loads(request.body)
    keys = Counter(one["PartitionKey"] for one in members["Records"])
    assert members["StreamName"] == "logs"
    assert keys == {"5d0c2c7e-8a51-4f0e-9c6b-2f1f6f0b7a11": 1, "orders-worker": 1}
    assert data_in(request) == [b"".join(lines[:4]), b"".join(lines[4:])]
    assert request.headers["x-amz-target"] == "Kinesis_20131202.PutRecords"
    assert request.url == "https://kinesis.eu-west-1.amazonaws.com/"


@each_kind
def test_all_at_once_is_the_same_as_one_by_one(kind: str) -> None:
    for environ in ({}, {f"{kind.upper()}_FORMAT": "hec"}):
        sink = sink_of(kind, **environ)
        assert sink.encode_all(SAMPLES) == [sink.encode(record) for record in SAMPLES]


@each_kind
@settings(deadline=None)
@given(record=any_record(1))
def test_any_record_is_a_line_with_the_same_members(kind: str, record: Any) -> None:
    sink = sink_of(kind)
    try:
        encoded = sink.encode(record)
    except EncodeError:
        return
    assert sink.encode_all([record]) == [encoded]
    line = orjson.loads(encoded.data)
    assert len({"message", "fields"} & line.keys()) + ("record" in line) >= 1
    assert line.keys() >= {"time", "record_id", "type", "function_name"}
    assert line["time"].endswith("Z")


@each_kind
def test_a_line_for_splunk_is_the_event_that_the_sink_splunk_sends(kind: str) -> None:
    sink = sink_of(kind, SPLUNK_INDEX="main", **{f"{kind.upper()}_FORMAT": "hec"})
    expected = [SplunkHec(url="", index="main").encode(record) for record in SAMPLES]
    assert sink.encode_all(SAMPLES) == expected


@each_kind
def test_a_record_for_each_line_where_that_is_wanted(kind: str) -> None:
    sink = sink_of(kind, **{f"{kind.upper()}_RECORD_BYTES": "0"})
    assert data_in(sink.request(encode_all(sink))) == LINES.splitlines(keepends=True)
    assert sink.limits.max_records == MOST_RECORDS


@settings(deadline=None)
@given(sizes=st.lists(st.integers(0, 40), min_size=1, max_size=60), most=st.integers(0, 60), keys=st.integers(1, 4))
def test_every_line_is_in_one_record_and_in_order(sizes: list[int], most: int, keys: int) -> None:
    batch = [Encoded(make_record("", batch=str(index)), b"x" * size) for index, size in enumerate(sizes)]
    number = {id(encoded.record): index for index, encoded in enumerate(batch)}
    groups = grouped(batch, lambda record: str(number[id(record)] % keys), most)
    assert sorted(index for _, members in groups for index in members) == list(range(len(batch)))
    for key in {key for key, _ in groups}:
        own = [index for each, members in groups if each == key for index in members]
        assert own == sorted(own)
        assert {index % keys for index in own} == {int(key)}
    for _, members in groups:
        assert len(members) == 1 or sum(sizes[index] + 1 for index in members) <= most


@pytest.mark.parametrize("record_bytes", ["0", "1", "16383", "16384", "25600", "1000000"])
@pytest.mark.parametrize(("line", "requests"), [(20, 1), (20, 3000), (9_000, 1), (9_000, 3000), (900_000, 5)])
@each_kind
def test_no_call_is_over_a_limit(kind: str, record_bytes: str, line: int, requests: int) -> None:
    """As many lines as a batch may have, of one request or of many."""
    sink = sink_of(kind, **{f"{kind.upper()}_RECORD_BYTES": record_bytes})
    limits = sink.limits
    batch: list[Encoded] = []
    room = limits.max_bytes - limits.framing_bytes
    while len(batch) < limits.max_records:
        encoded = sink.encode(make_record("x" * line, batch=f"{len(batch)}", request_id=f"r-{len(batch) % requests}"))
        room -= len(encoded.data) + limits.overhead_bytes
        if room < 0:
            break
        batch.append(encoded)
    members = orjson.loads(sink.request(batch).body)["Records"]
    sizes = [len(base64.b64decode(one["Data"])) for one in members]
    assert 1 <= len(members) <= 500
    assert sum(sizes) == sum(len(encoded.data) + 1 for encoded in batch)
    if kind == "firehose":
        assert max(sizes) <= 1_024_000
        assert sum(len(one["Data"]) for one in members) <= 4 * 1024 * 1024
    else:
        keys = [len(one["PartitionKey"].encode()) for one in members]
        assert all(1 <= key <= 256 for key in keys)
        assert max(map(sum, zip(sizes, keys, strict=True))) <= 1024 * 1024
        assert sum(sizes) + sum(keys) <= 5 * 1024 * 1024
        of_request: dict[str, set[str]] = {}
        for one in members:
            for text in base64.b64decode(one["Data"]).splitlines():
                of_request.setdefault(orjson.loads(text)["request_id"], set()).add(one["PartitionKey"])
        assert all(len(keys) == 1 for keys in of_request.values())  # a request has one shard


def test_ten_mebibytes_where_they_are_wanted() -> None:
    sink = sink_of("kinesis", KINESIS_MAX_RECORD_MIB="10")
    encoded = sink.encode(make_record("x" * 20_000_000))
    assert encoded.is_cut
    assert 10_000_000 < len(encoded.data) <= sink.limits.max_record_bytes
    request = sink.request([encoded])
    (data,) = data_in(request)
    assert len(data) + 36 <= 10 * 1024 * 1024


# --- answers --------------------------------------------------------------------------------------------------------

NAMES = {"firehose": ("FailedPutCount", "RequestResponses"), "kinesis": ("FailedRecordCount", "Records")}


def answer(kind: str, *errors: str | None, failed: int | None = None) -> HttpResponse:
    count, answers = NAMES[kind]
    told = [{"ErrorCode": one, "ErrorMessage": "m"} if one else {"RecordId": "r"} for one in errors]
    return HttpResponse(status=200, body=orjson.dumps({count: sum(map(bool, errors)) if failed is None else failed,
                                                       answers: told}))  # fmt: skip


@each_kind
def test_only_the_lines_of_the_records_that_failed_are_sent_again_in_order(kind: str) -> None:
    """Three lines fit into a record; the second record fails."""
    sink = sink_of(kind)
    lines = [sink.encode(make_record(f"line {number}")) for number in range(8)]
    sink = sink_of(kind, **{f"{kind.upper()}_RECORD_BYTES": str(3 * (len(lines[0].data) + 1))})
    assert len(data_in(sink.request(lines))) == 3
    verdict = sink.verdict(lines, answer(kind, None, "InternalFailure", None))
    assert isinstance(verdict, Partial)
    assert (verdict.retry, verdict.rejected) == ((3, 4, 5), {})
    assert "InternalFailure" in verdict.detail
    assert verdict.after > 0
    again = [lines[index] for index in verdict.retry]
    assert data_in(sink.request(again)) == [b"".join(one.data + b"\n" for one in lines[3:6])]


@each_kind
def test_a_200_of_which_nothing_was_taken_is_a_retry(kind: str) -> None:
    sink = sink_of(kind, **{f"{kind.upper()}_RECORD_BYTES": "0"})
    code = "ProvisionedThroughputExceededException"
    assert sink.verdict(same(2), answer(kind, code, code)) == Retry(detail=f"2 of 2 records failed: {code}")


@each_kind
def test_a_count_without_a_place_is_a_retry_of_all(kind: str) -> None:
    sink = sink_of(kind, **{f"{kind.upper()}_RECORD_BYTES": "0"})
    for told in (answer(kind, None, failed=1), answer(kind, None, None, None, failed=2), answer(kind, failed=1)):
        verdict = sink.verdict(same(3), told)
        assert isinstance(verdict, Retry)
        assert "does not tell which" in verdict.detail


@each_kind
def test_accepted(kind: str) -> None:
    sink = sink_of(kind)
    assert sink.verdict(same(3), answer(kind, None)) == Delivered()
    unread = sink.verdict(same(3), HttpResponse(status=200, unreadable="its body is no gzip"))
    assert isinstance(unread, Delivered)
    assert unread.warning


@each_kind
@pytest.mark.parametrize(
    "body", [b"", b"{}", b"[]", b'{"FailedPutCount":"0"}', b"<html>Sign in</html>", b'{"FailedRecordCount":0}']
)
def test_a_200_that_no_stream_gives_is_no_success(kind: str, body: bytes) -> None:
    verdict = sink_of(kind).verdict(same(1), HttpResponse(status=200, body=body))
    assert isinstance(verdict, Denied)
    assert verdict.reason is DropReason.WRONG_ADDRESS
    assert f"AWS_ENDPOINT_URL_{kind.upper()}" in verdict.detail


@each_kind
@pytest.mark.parametrize(
    ("kind_of_error", "status", "expected"),
    [
        ("ServiceUnavailableException", 503, Retry), ("ThrottlingException", 400, Retry),
        ("LimitExceededException", 429, Retry),
        ("ProvisionedThroughputExceededException", 400, Retry), ("KMSThrottlingException", 400, Retry),
        ("InternalFailure", 500, Retry), ("ExpiredTokenException", 400, Retry),
        ("RequestEntityTooLarge", 413, TooLarge),
        ("InvalidArgumentException", 400, Rejected), ("SerializationException", 400, Rejected),
        ("ResourceNotFoundException", 400, Denied), ("AccessDeniedException", 400, Denied),
        ("KMSDisabledException", 400, Denied), ("InvalidKMSResourceException", 400, Denied),
        ("UnrecognizedClientException", 400, Denied), ("InvalidSignatureException", 400, Denied),
    ],
)  # fmt: skip
def test_errors_by_their_type(kind: str, kind_of_error: str, status: int, expected: type) -> None:
    verdict = sink_of(kind).verdict(same(2), error(kind_of_error, "it is", status))
    assert isinstance(verdict, expected)
    assert kind_of_error in verdict.detail  # type: ignore[attr-defined]


@each_kind
def test_what_to_do_is_said(kind: str) -> None:
    sink, upper = sink_of(kind), kind.upper()
    missing = sink.verdict(same(1), error("ResourceNotFoundException"))
    assert missing.reason is DropReason.WRONG_ADDRESS
    for part in ("logs in eu-west-1", f"{upper}_STREAM_NAME", f"{upper}_REGION"):
        assert part in missing.detail
    denied = sink.verdict(same(1), error("AccessDeniedException", "User x is not authorized to perform: a:B."))
    action = {"firehose": "firehose:PutRecordBatch", "kinesis": "kinesis:PutRecords"}[kind]
    for part in ("not authorized to perform: a:B;", f"allow {action} on ", "the function's role"):
        assert part in denied.detail
    secret = sink.verdict(same(1), error("UnrecognizedClientException", "The security token IQoJb3JpZ2luX2 is invalid"))
    assert "IQoJb3" not in secret.detail
    expired = sink.verdict(same(1), error("InvalidSignatureException", "Signature expired: 20260302T101530Z is now"))
    assert isinstance(expired, Retry)
    waits = sink.verdict(same(1), error("ThrottlingException", x_amz_retry_after="1500"))
    assert waits.after == 1.5


def test_a_firehose_that_reads_from_kinesis_is_told() -> None:
    verdict = sink_of("firehose").verdict(same(1), error("InvalidSourceException"))
    assert isinstance(verdict, Denied)
    assert verdict.reason is DropReason.WRONG_ADDRESS
    assert "the sink kinesis" in verdict.detail


@each_kind
@pytest.mark.parametrize(
    ("status", "expected"), [(502, Retry), (403, Denied), (404, Denied), (302, Denied), (407, Denied), (413, TooLarge)]
)
def test_what_stands_between_is_read_by_its_status(kind: str, status: int, expected: type) -> None:
    response = HttpResponse(status=status, body=b"<html>no</html>", headers={"content-type": "text/html"})
    assert isinstance(sink_of(kind).verdict(same(1), response), expected)


@each_kind
@settings(deadline=None)
@given(count=st.integers(1, 5), failed=st.integers(-1, 9) | json_values, answers=st.lists(
    json_values | st.fixed_dictionaries({}, optional={"ErrorCode": json_values, "RecordId": json_values}), max_size=6
))  # fmt: skip
def test_no_answer_loses_a_line_or_names_one_that_is_not_there(
    kind: str, count: int, failed: Any, answers: Any
) -> None:
    sink = sink_of(kind, **{f"{kind.upper()}_RECORD_BYTES": "0"})
    body = to_json(dict(zip(NAMES[kind], (failed, answers), strict=True)))
    verdict = sink.verdict(same(count), HttpResponse(status=200, body=body))
    if isinstance(verdict, Partial):
        assert 0 < len(verdict.retry) < count
        assert set(verdict.retry) <= set(range(count))
        assert not verdict.rejected
    elif isinstance(verdict, Delivered):
        assert failed == 0
        assert not any(one.get("ErrorCode") if isinstance(one, dict) else True for one in answers)


# --- settings -------------------------------------------------------------------------------------------------------


@each_kind
def test_the_address_and_the_signature_follow_the_region(kind: str) -> None:
    upper = kind.upper()
    word = {"firehose": "deliverystream", "kinesis": "stream"}[kind]
    arn = f"arn:aws:{kind}:us-east-2:123456789012:{word}/orders"
    for environ, region in (
        ({}, "eu-west-1"),
        ({f"{upper}_REGION": "ap-south-1"}, "ap-south-1"),
        ({f"{upper}_STREAM_NAME": arn, f"{upper}_REGION": "ap-south-1"}, "us-east-2"),
    ):
        delivery = made(kind, **environ).delivery
        assert isinstance(delivery, HttpDelivery)
        assert delivery.url == f"https://{kind}.{region}.amazonaws.com/"
        assert (delivery.signing, delivery.gzip) == (Signing(kind, region), False)
    assert made(kind, AWS_REGION="cn-north-1").sink.url == f"https://{kind}.cn-north-1.amazonaws.com.cn/"
    elsewhere = made(kind, **{f"AWS_ENDPOINT_URL_{upper}": "https://vpce-1.example.com"})
    assert elsewhere.sink.url == "https://vpce-1.example.com/"
    members = orjson.loads(sink_of(kind, **{f"{upper}_STREAM_NAME": arn}).request(same(1)).body)
    assert members.get("StreamARN", members.get("DeliveryStreamName")) == (arn if kind == "kinesis" else "orders")


@each_kind
@pytest.mark.parametrize(
    "name",
    [
        "",
        "a b",
        "x" * 129,
        "arn:aws:firehose:eu-west-1:1:stream/x",
        "arn:aws:s3:eu-west-1:1:stream/x",
        "https://x",
        "ä",
    ],
)
def test_a_wrong_stream_is_told_with_what_is_allowed(kind: str, name: str) -> None:
    text = problem_of(kind, **{f"{kind.upper()}_STREAM_NAME": name})
    for part in (f"{kind.upper()}_STREAM_NAME", f"Sink {kind} does not run without it.", f"arn:aws:{kind}:REGION"):
        assert part in text


@each_kind
def test_without_a_region_it_does_not_run(kind: str) -> None:
    text = problem_of(kind, AWS_REGION="")
    for part in ("AWS_REGION", f"{kind.upper()}_REGION", f"Sink {kind} does not run without it."):
        assert part in text


@each_kind
def test_a_wrong_endpoint_stops_the_sink(kind: str) -> None:
    text = problem_of(kind, **{f"AWS_ENDPOINT_URL_{kind.upper()}": "nowhere"})
    assert f"Sink {kind} does not run, as it would send to another place than was meant." in text


@each_kind
@pytest.mark.parametrize(
    ("name", "value", "used"),
    [("REGION", "europe", "eu-west-1"), ("FORMAT", "xml", "json"), ("RECORD_BYTES", "9999999", "")],
)
def test_other_wrong_settings_are_told_and_left_out(kind: str, name: str, value: str, used: str) -> None:
    destination = made(kind, **{f"{kind.upper()}_{name}": value})
    (problem,) = destination.problems
    assert problem.variable == f"{kind.upper()}_{name}"
    assert destination.sink.region == "eu-west-1"


def test_one_key_is_one_key() -> None:
    assert {one_key(record) for record in SAMPLES} == {""}


@each_kind
def test_a_second_stream_has_a_name_a_region_and_texts_of_its_own(kind: str) -> None:
    upper = kind.upper()
    environ = {
        "AWS_REGION": "eu-west-1",
        f"{upper}_STREAM_NAME": "logs",
        f"{upper}_STREAM_NAME__AUDIT": "audit",
        f"{upper}_REGION__AUDIT": "eu-north-1",
    }
    found = load(f"{kind}:audit")(read_all(environ))
    destination = found[0] if isinstance(found, tuple) else found
    assert destination.sink.name == f"{kind}:audit"
    assert isinstance(destination.delivery, HttpDelivery)
    assert destination.delivery.signing == Signing(kind, "eu-north-1")
    assert b'"audit"' in destination.sink.request(same(1)).body
    verdict = destination.sink.verdict(same(1), error("ResourceNotFoundException"))
    assert f"audit in eu-north-1; check {upper}_STREAM_NAME__AUDIT and {upper}_REGION__AUDIT" in verdict.detail
    with pytest.raises(ConfigError) as caught:
        load(f"{kind}:audit")(read_all({**environ, f"{upper}_STREAM_NAME__AUDIT": "a b"}))
    assert f"Sink {kind}:audit does not run without it." in str(caught.value)
