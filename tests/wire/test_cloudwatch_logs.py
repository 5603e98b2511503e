"""What PutLogEvents is called with, byte for byte, and how its answers are read."""

import re
from json import dumps

import pytest
from msgspec.structs import replace

from local_backends import EmbeddedMetrics
from telemetry_forwarder.errors import ConfigError, EncodeError
from telemetry_forwarder.interfaces import (
    AwsResponse,
    Delivered,
    Denied,
    DropReason,
    LogsDelivery,
    Partial,
    Rejected,
    Retry,
    TooLarge,
)
from telemetry_forwarder.sinks.cloudwatch_logs import CloudWatchLogs, create
from telemetry_forwarder.variables.reading import read_all
from tests.sink_records import BARE, FULL, GOLDEN, NOW_MS, encode_all, loads, make_record, same

SINK = CloudWatchLogs(group="/acme/orders", stream=None, fallback_stream="fallback")
OLD, NEW = DropReason.TOO_OLD, DropReason.TOO_NEW


def event_of(record, sink=SINK):
    return loads(sink.encode(record).data)


def taken(count, **info):
    return SINK.verdict(same(count), AwsResponse(status=200, body={"rejectedLogEventsInfo": info}))


def refused(error, status=400, count=2, **more):
    return SINK.verdict(same(count), AwsResponse(status=status, error=error, **more))


# --- requests -------------------------------------------------------------------------------------------------------


def test_the_events_are_the_golden_ones():
    request = SINK.request(encode_all(SINK))
    lines = [f'{{"timestamp":{time_ms},"message":{message}}}\n' for time_ms, message in request.events]
    assert "".join(lines).encode() == (GOLDEN / "cloudwatch_logs.ndjson").read_bytes()
    assert request.group == "/acme/orders"


def test_the_stream_is_the_one_given_else_the_environments_else_the_fallback():
    record = make_record("x", origin=replace(FULL, instance_id="a:b*c" + "d" * 600))
    own = SINK.request([SINK.encode(record)]).stream
    assert own.startswith("a-b-cd")
    assert len(own) == 512
    assert SINK.request([SINK.encode(make_record("x", origin=BARE))]).stream == "fallback"
    named = replace(SINK, stream="mine")
    assert named.request([SINK.encode(record)]).stream == "mine"


def test_a_users_own_lambda_key_is_kept():
    event = event_of(make_record({"lambda": "theirs", "x": 1}))
    assert event["record"] == {"lambda": "theirs", "x": 1}
    assert event["lambda"]["record_id"] == "0190f3-1"


EMF = {
    "_aws": {"Timestamp": NOW_MS, "CloudWatchMetrics": [
        {"Namespace": "shop", "Dimensions": [["service"]], "Metrics": [{"Name": "paid"}]}
    ]},
    "service": "orders",
    "paid": 1,
}  # fmt: skip


@pytest.mark.parametrize(
    "record",
    [make_record(EMF), make_record(dumps(EMF), fields=EMF), make_record("INFO " + dumps(EMF), fields=EMF)],
    ids=["object", "text", "behind a prefix"],
)
def test_a_metric_that_lambda_counts_already_is_not_counted_again(record):
    """CloudWatch extracts it from every group, and Lambda has written the line into the function's own."""
    event = event_of(record)
    assert {key: event[key] for key in EMF if key != "_aws"} == {"service": "orders", "paid": 1}
    assert event["aws_emf"] == EMF["_aws"]
    assert "_aws" not in event
    (together,) = SINK.encode_all([record])
    assert loads(together.data) == event
    metrics = EmbeddedMetrics()
    metrics.take("group", SINK.encode(record).data.decode(), NOW_MS)
    assert not metrics.found
    assert not metrics.errors


def test_a_metric_counts_where_the_sink_is_told_so():
    event = event_of(make_record(EMF), replace(SINK, embeds=True))
    assert {key: event[key] for key in EMF} == EMF


@pytest.mark.parametrize("about", [1, "x", {}, {"CloudWatchMetrics": {}}, [EMF["_aws"]]])
def test_a_line_with_the_word_alone_is_never_rewritten(about):
    assert event_of(make_record({"_aws": about, "m": 1}))["_aws"] == about
    assert event_of(make_record("the root key _aws"))["message"] == "the root key _aws"
    nested = {"a": EMF}
    assert event_of(make_record(nested))["a"] == EMF


def test_a_name_that_is_taken_is_not_overwritten():
    event = event_of(make_record({**EMF, "aws_emf": "mine"}))
    assert (event["aws_emf"], event["aws_emf_"]) == ("mine", EMF["_aws"])


@pytest.mark.parametrize("body", ["✓" * 400_000, {"message": "\\" * 700_000}, {"lambda": "x" * 1_000_000}])
def test_a_record_over_the_limit_is_cut_and_marked(body):
    encoded = SINK.encode(make_record(body))
    assert encoded.is_cut
    assert 999_900 < len(encoded.data) <= SINK.limits.max_record_bytes == 1_000_000
    event = loads(encoded.data)
    assert event["message"].endswith(" bytes]")
    assert event["lambda"]["cut"] is True


def test_a_platform_record_over_the_limit_keeps_its_type():
    encoded = SINK.encode(make_record({"name": "x" * 1_000_000}, "platform.extension"))
    assert loads(encoded.data)["type"] == "platform.extension"


def test_a_time_before_1970_cannot_be_expressed():
    with pytest.raises(EncodeError):
        SINK.encode(make_record("x", time_ms=-1))


def test_a_record_at_the_limit_fits_a_request_by_itself():
    assert SINK.limits.max_record_bytes + SINK.limits.overhead_bytes <= SINK.limits.max_bytes == 1_048_576


# --- answers --------------------------------------------------------------------------------------------------------


def test_nothing_rejected():
    assert SINK.verdict(same(3), AwsResponse(status=200)) == Delivered()
    assert (
        SINK.verdict(same(3), AwsResponse(status=200, body={"rejectedEntityInfo": {"errorType": "x"}})) == Delivered()
    )


@pytest.mark.parametrize(
    ("info", "rejected"),
    [
        ({"tooOldLogEventEndIndex": 2}, {0: OLD, 1: OLD}),
        ({"expiredLogEventEndIndex": 3}, {0: OLD, 1: OLD, 2: OLD}),
        ({"tooOldLogEventEndIndex": 1, "expiredLogEventEndIndex": 2}, {0: OLD, 1: OLD}),
        ({"tooNewLogEventStartIndex": 3}, {3: NEW, 4: NEW}),
        ({"tooNewLogEventStartIndex": 0}, dict.fromkeys(range(5), NEW)),
        ({"tooOldLogEventEndIndex": 1, "tooNewLogEventStartIndex": 4}, {0: OLD, 4: NEW}),
        ({"tooOldLogEventEndIndex": 99}, dict.fromkeys(range(5), OLD)),
        ({"tooOldLogEventEndIndex": 1, "tooNewLogEventStartIndex": -9}, {0: OLD, 1: NEW, 2: NEW, 3: NEW, 4: NEW}),
    ],
)
def test_ends_are_exclusive_and_the_start_is_inclusive(info, rejected):
    """The rest is stored; what was rejected is never sent again."""
    verdict = taken(5, **info)
    assert isinstance(verdict, Partial)
    assert verdict.rejected == rejected
    assert verdict.retry == ()


@pytest.mark.parametrize(
    "info",
    [{}, {"tooOldLogEventEndIndex": 0}, {"tooNewLogEventStartIndex": 5}, {"tooOldLogEventEndIndex": -2},
     {"tooOldLogEventEndIndex": None, "tooNewLogEventStartIndex": "0", "expiredLogEventEndIndex": True}],
)  # fmt: skip
def test_an_index_that_names_no_event_rejects_none(info):
    assert taken(5, **info) == Delivered()


@pytest.mark.parametrize(
    ("error", "status"),
    [
        ("ThrottlingException", 400),
        ("Throttling", 400),
        ("TooManyRequestsException", 400),
        ("ServiceUnavailableException", 503),
        ("ServiceUnavailableException", 400),
        ("InternalFailure", 500),
        ("RequestTimeoutException", 408),
        ("RequestExpired", 400),
        ("ExpiredTokenException", 400),
        ("OperationAbortedException", 400),
        ("SomethingNew", 500),
        ("SomethingNew", 429),
        (None, 502),
        (None, 0),
    ],
)
def test_unwell_is_tried_again(error, status):
    verdict = refused(error, status, retry_after=1.5)
    assert verdict == Retry(1.5, error or f"HTTP {status}")


@pytest.mark.parametrize("wait", [-1.0, float("nan")])
def test_an_odd_wait_is_none(wait):
    assert refused("ThrottlingException", retry_after=wait) == Retry(0.0, "ThrottlingException")


@pytest.mark.parametrize(
    ("error", "status"),
    [
        ("AccessDeniedException", 400),
        ("UnrecognizedClientException", 400),
        ("InvalidSignatureException", 403),
        ("SignatureDoesNotMatch", 403),
        ("IncompleteSignatureException", 400),
        ("MissingAuthenticationTokenException", 403),
        ("ResourceNotFoundException", 400),
        ("LimitExceededException", 400),
        ("SomethingNew", 403),
        (None, 404),
        (None, 302),
    ],
)
def test_what_the_role_or_the_address_is_to_blame_for_costs_no_record(error, status):
    assert isinstance(refused(error, status), Denied)


def test_only_the_message_that_names_the_missing_right_is_quoted():
    """The message of a wrong signature may quote the request's headers, the session token among them."""
    assert "logs:PutLogEvents" in refused("AccessDeniedException", message="not authorized: logs:PutLogEvents").detail
    assert "token" not in refused("SignatureDoesNotMatch", 403, message="x-amz-security-token:abc").detail


def test_a_signature_that_a_freeze_made_stale_is_made_anew():
    message = "Signature expired: 20260302T101530Z is now earlier than 20260302T102000Z"
    assert isinstance(refused("InvalidSignatureException", 403, message=message), Retry)


@pytest.mark.parametrize("error", ["InvalidParameterException", "ValidationException", "SerializationException", "New"])
def test_a_request_refused_for_its_content_is_a_refusal_in_the_services_own_words(error):
    for count in (1, 2):
        refusal = refused(error, count=count, message="1 validation error detected")
        assert isinstance(refusal, Rejected)
        assert refusal.detail == f'{error} ("1 validation error detected")'


def test_too_large_and_already_stored():
    assert isinstance(refused("RequestEntityTooLarge", 413, count=1), TooLarge)
    assert isinstance(refused("RequestEntityTooLargeException", 400), TooLarge)
    assert isinstance(refused(None, 413), TooLarge)
    assert refused("DataAlreadyAcceptedException") == Delivered()


# --- settings -------------------------------------------------------------------------------------------------------


def test_settings_reach_the_request():
    own = {"CLOUDWATCH_LOG_GROUP": "/g", "CLOUDWATCH_LOG_STREAM": "s", "CLOUDWATCH_RETENTION_DAYS": "14"}
    destination = create(read_all(own))
    request = destination.sink.request(same(1))
    assert (request.group, request.stream) == ("/g", "s")
    assert destination.delivery == LogsDelivery(retention_days=14)
    assert destination.problems == ()


def test_the_fallback_stream_is_made_once_in_lambdas_pattern():
    environ = {"CLOUDWATCH_LOG_GROUP": "/g", "AWS_LAMBDA_FUNCTION_VERSION": "7"}
    sink = create(read_all(environ)).sink
    batch = [sink.encode(make_record("x", origin=BARE))]
    stream = sink.request(batch).stream
    assert re.fullmatch(r"\d{4}/\d\d/\d\d/\[7\][0-9a-f]{32}", stream)
    assert sink.request(batch).stream == stream
    assert create(read_all(environ)).sink.request(batch).stream != stream


def test_an_unsound_retention_is_left_out_and_said():
    destination = create(read_all({"CLOUDWATCH_LOG_GROUP": "/g", "CLOUDWATCH_RETENTION_DAYS": "2"}))
    assert destination.delivery == LogsDelivery(retention_days=None)
    assert [problem.variable for problem in destination.problems] == ["CLOUDWATCH_RETENTION_DAYS"]


def test_without_a_sound_group_it_does_not_run():
    for environ in ({}, {"CLOUDWATCH_LOG_GROUP": "aws/mine"}):
        with pytest.raises(ConfigError) as caught:
            create(read_all(environ))
        assert [problem.variable for problem in caught.value.problems] == ["CLOUDWATCH_LOG_GROUP"]


def test_an_environment_that_was_restored_writes_into_its_own_stream():
    """Lines of the init, which have the snapshot's name, may be in the same batch."""
    before, after = (make_record("x", origin=replace(BARE, instance_id=name)) for name in ("snapshot", "copy"))
    assert SINK.request([SINK.encode(one) for one in (before, after)]).stream == "copy"
