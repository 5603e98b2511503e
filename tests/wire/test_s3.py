"""What goes to S3 over the wire, byte for byte, and how its answers are read."""

from typing import Any
from urllib.parse import unquote

import pytest
from botocore.utils import percent_encode
from msgspec.structs import replace

from telemetry_forwarder.errors import ConfigError
from telemetry_forwarder.interfaces import (
    Delivered,
    Denied,
    Destination,
    DropReason,
    HttpDelivery,
    HttpResponse,
    Rejected,
    Retry,
    Signing,
    TooLarge,
)
from telemetry_forwarder.sinks import load
from telemetry_forwarder.variables.reading import read_all
from tests.sink_records import BARE, FULL, GOLDEN, NOW_MS, encode_all, make_record, same

LINES = (GOLDEN / "json_lines.ndjson").read_bytes()
HOUR = "year%3D2026/month%3D03/day%3D02/hour%3D10"


def made(**environ: str) -> Destination[Any, Any]:
    found = load("s3")(read_all({"AWS_REGION": "eu-west-1", "S3_LOGS_URI": "s3://logs/all", **environ}))
    assert isinstance(found, Destination)
    return found


def sink_of(**environ: str) -> Any:
    return made(**environ).sink


def error(code: str, status: int, more: str = "", **headers: str) -> HttpResponse:
    body = f'<?xml version="1.0"?>\n<Error><Code>{code}</Code><Message>it is</Message>{more}</Error>'.encode()
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    return HttpResponse(status=status, body=body, headers={"content-type": "application/xml", **given})


# --- requests -------------------------------------------------------------------------------------------------------


def test_the_request_is_the_golden_one() -> None:
    sink = sink_of()
    request = sink.request(encode_all(sink))
    assert request.body == LINES
    assert request.method == "PUT"
    assert request.url == (
        f"https://logs.s3.eu-west-1.amazonaws.com/all/function%3Dorders-worker/{HOUR}/"
        "1772446530100-unknown-0e7f.ndjson.gz".replace("0e7f", request.url.rpartition("-")[2].partition(".")[0])
    )
    assert request.headers == {"content-type": "application/gzip", "if-none-match": "*"}
    encoding = sink_of(S3_LOGS_CONTENT_ENCODING="gzip").request(encode_all(sink))
    assert encoding.headers == {
        "content-type": "application/x-ndjson", "content-encoding": "gzip", "if-none-match": "*",
    }  # fmt: skip
    assert encoding.url == request.url


def test_equal_batches_have_one_key_and_others_another() -> None:
    sink = sink_of()

    def key(*texts: str) -> str:
        return str(sink.request([sink.encode(make_record(text)) for text in texts]).url)

    assert key("a", "b") == key("a", "b")
    assert len({key("a", "b"), key("b", "a"), key("a"), key("b")}) == 4
    assert "-4f0e9c6b2f1f6f0b7a115d0c2c7e8a51-" in key("a")  # the environment's name


@pytest.mark.parametrize(
    ("time_ms", "hour"),
    [
        (0, "year%3D1970/month%3D01/day%3D01/hour%3D00"),
        (NOW_MS + 13 * 3_600_000, "year%3D2026/month%3D03/day%3D02/hour%3D23"),
        (NOW_MS + 14 * 3_600_000, "year%3D2026/month%3D03/day%3D03/hour%3D00"),
        (-1, "year%3D1969/month%3D12/day%3D31/hour%3D23"),
    ],
)
def test_the_partition_is_that_of_the_first_record(time_ms: int, hour: str) -> None:
    sink = sink_of()
    batch = [sink.encode(make_record("x", time_ms=time_ms)), sink.encode(make_record("y", time_ms=time_ms + 9**9))]
    assert f"/{hour}/{time_ms}-" in sink.request(batch).url


def test_unusual_names_make_valid_keys() -> None:
    sink = sink_of(S3_LOGS_URI="s3://logs")
    for name, part in (("a/b c", "a-b-c"), ("ä" * 300, "-"), ("..", "unknown"), ("x" * 300, "x" * 100)):
        url = sink.request([sink.encode(make_record("x", origin=replace(FULL, function_name=name)))]).url
        assert url.startswith(f"https://logs.s3.eu-west-1.amazonaws.com/function%3D{part}/year")
    assert sink.request([sink.encode(make_record("x", origin=BARE))]).url.count("-unknown-") == 1


@pytest.mark.parametrize("prefix", ["", "a/", "it's(mine)!*/b=c/"])
def test_a_key_is_encoded_as_by_the_sdk(prefix: str) -> None:
    """And so as S3 does itself, when it looks at the signature."""
    sink = sink_of(S3_LOGS_URI=f"s3://logs/{prefix}")
    path = sink.request(encode_all(sink)).url.partition(".com/")[2]
    key = unquote(path)
    assert key.startswith(f"{prefix}function=orders-worker/year=2026/")
    assert path == percent_encode(key, safe="/~")


# --- answers --------------------------------------------------------------------------------------------------------


def test_accepted() -> None:
    sink = sink_of()
    for answer in (
        HttpResponse(status=200, headers={"etag": '"1"'}),
        error("PreconditionFailed", 412),  # an earlier attempt put it there
    ):
        assert sink.verdict(same(2), answer) == Delivered()
    assert isinstance(sink.verdict(same(2), HttpResponse(status=200, unreadable="no gzip")), Delivered)


@pytest.mark.parametrize("body", [b"", b"{}", b"<html>Sign in</html>"])
def test_a_200_without_an_etag_is_no_success(body: bytes) -> None:
    verdict = sink_of().verdict(same(1), HttpResponse(status=200, body=body))
    assert isinstance(verdict, Denied)
    assert verdict.reason is DropReason.WRONG_ADDRESS


def test_412_of_something_else_is_no_success() -> None:
    assert isinstance(sink_of().verdict(same(1), HttpResponse(status=412, body=b"<html>no</html>")), Rejected)


@pytest.mark.parametrize(
    ("code", "status", "expected"),
    [
        ("SlowDown", 503, Retry), ("InternalError", 500, Retry), ("ServiceUnavailable", 503, Retry),
        ("RequestTimeout", 400, Retry), ("ConditionalRequestConflict", 409, Retry), ("OperationAborted", 409, Retry),
        ("TemporaryRedirect", 307, Retry), ("RequestTimeTooSkewed", 403, Retry), ("ExpiredToken", 400, Retry),
        ("EntityTooLarge", 400, TooLarge), ("InvalidRequest", 400, Rejected), ("KeyTooLongError", 400, Rejected),
        ("NotImplemented", 501, Rejected), ("NoSuchBucket", 404, Denied), ("AccessDenied", 403, Denied),
        ("InvalidAccessKeyId", 403, Denied), ("SignatureDoesNotMatch", 403, Denied), ("AllAccessDisabled", 403, Denied),
        ("KMS.DisabledException", 400, Denied), ("KMS.NotFoundException", 400, Denied),
    ],
)  # fmt: skip
def test_errors_by_their_code(code: str, status: int, expected: type) -> None:
    verdict = sink_of().verdict(same(2), error(code, status))
    assert isinstance(verdict, expected)
    assert code in verdict.detail  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("answer", "where"),
    [
        (error("PermanentRedirect", 301, x_amz_bucket_region="us-east-2"), "in us-east-2"),
        (error("AuthorizationHeaderMalformed", 400, "<Region>us-east-2</Region>"), "in us-east-2"),
        (error("PermanentRedirect", 301), "in another region"),
    ],
)
def test_the_region_of_the_bucket_is_named(answer: HttpResponse, where: str) -> None:
    verdict = sink_of().verdict(same(2), answer)
    assert isinstance(verdict, Denied)
    assert verdict.reason is DropReason.WRONG_ADDRESS
    for part in (where, "bucket logs", "not in eu-west-1", "set S3_LOGS_REGION"):
        assert part in verdict.detail


def test_what_to_do_is_said() -> None:
    missing = sink_of().verdict(same(1), error("NoSuchBucket", 404))
    assert missing.reason is DropReason.WRONG_ADDRESS
    for part in ("there is no bucket logs", "S3_LOGS_URI"):
        assert part in missing.detail
    assert "allow s3:PutObject on bucket logs" in sink_of().verdict(same(1), error("AccessDenied", 403)).detail
    assert sink_of().verdict(same(1), error("SlowDown", 503, retry_after="2")).after == 2.0


# --- settings -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environ", "url", "region"),
    [
        ({}, "https://logs.s3.eu-west-1.amazonaws.com", "eu-west-1"),
        ({"S3_LOGS_REGION": "us-east-1"}, "https://logs.s3.us-east-1.amazonaws.com", "us-east-1"),
        ({"S3_LOGS_URI": "s3://my.logs"}, "https://s3.eu-west-1.amazonaws.com/my.logs", "eu-west-1"),
        ({"AWS_REGION": "cn-north-1"}, "https://logs.s3.cn-north-1.amazonaws.com.cn", "cn-north-1"),
        ({"AWS_ENDPOINT_URL_S3": "http://127.0.0.1:9000/"}, "http://127.0.0.1:9000/logs", "eu-west-1"),
    ],
)
def test_the_address_and_the_signature(environ: dict[str, str], url: str, region: str) -> None:
    delivery = made(**environ).delivery
    assert isinstance(delivery, HttpDelivery)
    assert (delivery.url, delivery.signing, delivery.is_file) == (url, Signing("s3", region), True)


@pytest.mark.parametrize("uri", ["", "logs", "s3://", "s3://A", "s3://a b", "https://logs.s3.amazonaws.com",
                                 "https://sqs.eu-west-1.amazonaws.com/123456789012/q"])  # fmt: skip
def test_a_wrong_bucket_is_told(uri: str) -> None:
    with pytest.raises(ConfigError) as caught:
        made(S3_LOGS_URI=uri)
    for part in ("S3_LOGS_URI", "s3://BUCKET[/PREFIX]", "Sink s3 does not run without it."):
        assert part in str(caught.value)


def test_without_a_region_it_does_not_run() -> None:
    with pytest.raises(ConfigError, match=r"AWS_REGION is not set.*S3_LOGS_REGION.*Sink s3 does not run without it"):
        made(AWS_REGION="")


def test_a_wrong_endpoint_stops_it() -> None:
    with pytest.raises(ConfigError, match="as it would send to another place than was meant"):
        made(AWS_ENDPOINT_URL_S3="nowhere")
