"""Calls to AWS without its SDK are those that the SDK would make: signature, address, and how an error is read."""

import json
from functools import cache
from typing import Any

import pytest
from botocore.auth import SIGV4_TIMESTAMP, S3SigV4Auth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.compat import HTTPHeaders, get_current_datetime
from botocore.credentials import Credentials as SdkCredentials
from botocore.parsers import JSONParser
from botocore.session import get_session
from hypothesis import given
from hypothesis import strategies as st

from telemetry_forwarder.transports.addresses import Network
from telemetry_forwarder.transports.aws_answers import error_type
from telemetry_forwarder.transports.aws_environment import NoEndpoint, ca_file_of, endpoint_of, region_of
from telemetry_forwarder.transports.aws_signature import Credentials, signed

SERVICES = ("logs", "secretsmanager", "ssm")
_TEXT = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=20)
_URLS = st.sampled_from(
    [
        "https://logs.eu-central-1.amazonaws.com/",
        "http://127.0.0.1:4566/",
        "https://example.com:443/",
        "http://[::1]:80/",
        "https://proxy.example/a b/~x/",
        "https://UPPER.example:8443/p%20q/",
    ]
)


@given(
    credentials=st.builds(Credentials, _TEXT.filter(bool), _TEXT.filter(bool), _TEXT.map(str.strip)),
    service=st.sampled_from(SERVICES),
    region=st.sampled_from(["eu-central-1", "cn-north-1"]),
    url=_URLS,
    target=_TEXT.filter(str.strip),
    body=st.binary(max_size=200),
)
def test_a_signature_is_the_sdks(
    credentials: Credentials, service: str, region: str, url: str, target: str, body: bytes
) -> None:
    given_headers = {"Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": target}
    now = get_current_datetime()
    ours = signed(credentials, service, region, url, given_headers, body, now.timestamp())
    theirs = AWSRequest(method="POST", url=url, headers=dict(given_headers), data=body)
    signer = SigV4Auth(
        SdkCredentials(credentials.key_id, credentials.secret, credentials.token or None), service, region
    )
    # Signed at the same second: `add_auth` itself looks at the clock.
    theirs.context["timestamp"] = now.strftime(SIGV4_TIMESTAMP)
    signer._modify_request_before_signing(theirs)
    text = signer.string_to_sign(theirs, signer.canonical_request(theirs))
    signer._inject_signature_to_request(theirs, signer.signature(text, theirs))
    assert ours["Authorization"] == theirs.headers["Authorization"]
    assert ours["X-Amz-Date"] == theirs.headers["X-Amz-Date"]
    assert ours.get("X-Amz-Security-Token") == theirs.headers.get("X-Amz-Security-Token")


@pytest.mark.parametrize(
    ("method", "service", "url"),
    [
        ("PUT", "s3", "https://b.s3.eu-west-1.amazonaws.com/logs/function=a%3Ab/day=2026-11-28/x%20y~z.gz"),
        ("PUT", "s3", "http://127.0.0.1:9000/bucket/a//b/../c.gz?tagging="),
        (
            "POST",
            "aoss",
            "https://c.eu-west-1.aoss.amazonaws.com/_bulk?filter_path=errors%2Citems.%2A.error&a=b%20c&A=1",
        ),
        ("POST", "es", "https://d.eu-west-1.es.amazonaws.com/logs%2Da/_bulk?filter_path=errors"),
    ],
)
def test_a_signature_with_a_query_and_a_digest_is_the_sdks(method: str, service: str, url: str) -> None:
    body, now = b"x\n", get_current_datetime()
    ours = signed(
        Credentials("AKID", "hunter2", "t"), service, "eu-west-1", url, {"A": "1"}, body, now.timestamp(), method
    )
    theirs = AWSRequest(method=method, url=url, headers={"A": "1"}, data=body)
    kind = S3SigV4Auth if service == "s3" else SigV4Auth
    signer = kind(SdkCredentials("AKID", "hunter2", "t"), service, "eu-west-1")
    theirs.context["timestamp"] = now.strftime(SIGV4_TIMESTAMP)
    # The SDK tells the digest of S3's bodies alone by itself.
    if "X-Amz-Content-SHA256" in ours:
        theirs.headers["X-Amz-Content-SHA256"] = ours["X-Amz-Content-SHA256"]
    signer._modify_request_before_signing(theirs)
    text = signer.string_to_sign(theirs, signer.canonical_request(theirs))
    signer._inject_signature_to_request(theirs, signer.signature(text, theirs))
    assert ours["Authorization"] == theirs.headers["Authorization"]
    assert ("X-Amz-Content-SHA256" in ours) is (service in ("s3", "aoss"))


def test_credentials_are_shown_without_the_secret() -> None:
    assert "hunter2" not in repr(Credentials("AKID", "hunter2", "hunter2"))


@cache
def sdk() -> Any:
    return get_session()


def regions() -> list[str]:
    """Return every region of every partition that the SDK knows, and some that it does not."""
    session = sdk()
    known = {
        region
        for partition in session.get_available_partitions()
        for service in SERVICES
        for region in session.get_available_regions(service, partition, allow_non_regional=False)
    }
    return sorted(known | {"eu-north-9", "cn-south-9", "us-gov-south-1", "eusc-de-east-1", "us-isof-south-1"})


@pytest.mark.parametrize("service", SERVICES)
def test_an_address_is_the_sdks_in_every_region(service: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ENDPOINT_URL", "AWS_USE_FIPS_ENDPOINT", "AWS_USE_DUALSTACK_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    assert len(regions()) > 35
    rules = sdk().get_component("data_loader").load_service_model(service, "endpoint-rule-set-1")
    partitions = sdk().get_component("data_loader").load_data("partitions")
    from botocore.endpoint_provider import EndpointProvider

    provider = EndpointProvider(rules, partitions)
    for region in regions():
        found = provider.resolve_endpoint(Region=region, UseDualStack=False, UseFIPS=False)
        assert endpoint_of(service, region) == f"{found.url}/"
        for scheme in found.properties.get("authSchemes", []):  # none of the three has one: they sign as themselves
            assert scheme.get("signingName", service) == service


@pytest.mark.parametrize(
    ("given_url", "expected"),
    [
        ("http://127.0.0.1:4566", "http://127.0.0.1:4566/"),
        ("https://vpce.example/logs", "https://vpce.example/logs/"),
        ("ftp://x", None),
        ("no url", None),
        ("http://", None),
        ("http://x:99999", None),
        ("http://x?a=b", None),
    ],
)
def test_the_variable_of_a_service_goes_before_the_rule(
    given_url: str, expected: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://of-the-function:1")
    monkeypatch.setenv("AWS_ENDPOINT_URL_SSM", given_url)
    if expected is None:
        with pytest.raises(NoEndpoint, match="AWS_ENDPOINT_URL_SSM"):
            endpoint_of("ssm", "eu-central-1")
    else:
        assert endpoint_of("ssm", "eu-central-1") == expected
    assert endpoint_of("logs", "eu-central-1") == "https://logs.eu-central-1.amazonaws.com/"


def test_a_region_is_the_callers_then_the_settings_then_the_environments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_REGION", "sa-east-1")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "ca-west-1")
    assert region_of(Network(region="eu-west-1"), "us-east-1") == "us-east-1"
    assert region_of(Network(region="eu-west-1")) == "eu-west-1"
    assert region_of(Network()) == "sa-east-1"
    monkeypatch.delenv("AWS_REGION")
    assert region_of(Network()) == "ca-west-1"
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    for region in (None, "a.example", "-x", "x" * 64, "eu/../west"):
        with pytest.raises(NoEndpoint, match="AWS_REGION"):
            region_of(Network(), region)


def test_authorities_for_aws_alone_count_where_the_settings_name_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/of/the/function")
    monkeypatch.delenv("AWS_CA_BUNDLE", raising=False)
    assert ca_file_of(Network()) is None
    monkeypatch.setenv("AWS_CA_BUNDLE", "/aws.pem")
    assert ca_file_of(Network()) == "/aws.pem"


@given(
    members=st.dictionaries(
        st.sampled_from(["__type", "message", "Message", "expectedSequenceToken"]),
        st.sampled_from(["ThrottlingException", "com.amazonaws.logs#X", "a#b:http://c", "#", "", "Y:z", "a#b#c"]),
    ),
    status=st.sampled_from([301, 400, 403, 429, 500, 503]),
)
def test_the_type_of_an_error_is_read_as_the_sdk_does(members: dict[str, str], status: int) -> None:
    headers = HTTPHeaders()
    read = JSONParser().parse({"status_code": status, "headers": headers, "body": json.dumps(members).encode()}, None)
    expected = read["Error"]["Code"]
    assert error_type(members, status) == (expected or str(status) if members.get("__type") == "" else expected)
