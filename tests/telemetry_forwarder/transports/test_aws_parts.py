"""How answers and exceptions of the AWS SDK are read."""

import gzip
import tracemalloc

import aiohttp
import pytest
from botocore import exceptions as aws

from telemetry_forwarder.errors import ConnectFailed, ConnectionLost, CredentialUnavailable, TimedOut
from telemetry_forwarder.transports.aws_answers import wait_asked_for
from telemetry_forwarder.transports.aws_calls import refused, translated
from telemetry_forwarder.transports.aws_session import FewServices, QuickFiles


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"x-amz-retry-after": "1500"}, 1.5),
        ({"retry-after": "7"}, 7.0),
        ({"x-amz-retry-after": "250", "retry-after": "7"}, 0.25),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT"}, 0.0),
        ({"retry-after": "-1"}, 0.0),
        ({}, 0.0),
    ],
)
def test_the_wait_asked_for_is_in_seconds(headers, seconds):
    assert wait_asked_for(headers) == seconds


def test_the_namespace_of_an_error_type_is_removed():
    answer = refused({"Error": {"Code": "com.amazonaws.logs#ThrottlingException", "Message": "Rate exceeded"}})
    assert (answer.status, answer.error, answer.message) == (400, "ThrottlingException", "Rate exceeded")


def test_an_answer_without_any_form_is_still_an_answer():
    assert refused({}).error == "Unknown"


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (aws.ReadTimeoutError(endpoint_url="u"), TimedOut),
        (aws.ConnectTimeoutError(endpoint_url="u"), ConnectFailed),
        (aws.SSLError(endpoint_url="u", error="e"), ConnectFailed),
        (aws.ProxyConnectionError(proxy_url="http://user:pass@proxy"), ConnectFailed),
        (aws.ConnectionClosedError(endpoint_url="u"), ConnectionLost),
        (aws.EndpointConnectionError(endpoint_url="u"), ConnectionLost),
        (aws.CredentialRetrievalError(provider="p", error_msg="secret"), CredentialUnavailable),
        (aiohttp.ServerDisconnectedError(), ConnectionLost),
    ],
)
def test_exceptions_become_transport_errors_without_their_texts(error, kind):
    found = translated(error, "logs.eu-central-1.amazonaws.com:443")
    assert type(found) is kind
    assert str(found).startswith("logs.eu-central-1.amazonaws.com:443: ")
    assert not any(word in str(found) for word in ("pass", "secret"))


def test_the_quick_loader_finds_what_botocores_own_finds():
    from botocore.loaders import Loader

    quick, own = FewServices(file_loader=QuickFiles()), Loader()
    for name in ("endpoints", "partitions", "logs/2014-03-28/service-2", "sdk-default-configuration"):
        assert quick.load_data(name) == own.load_data(name)
    assert quick.determine_latest_version("ssm", "service-2") == own.determine_latest_version("ssm", "service-2")
    assert QuickFiles().load_file("/nowhere") is None


def test_the_quick_loader_takes_little_more_memory_than_the_data():
    """A larger peak stays: the C library returns no free memory below twice the largest block that was freed."""
    path = f"{FewServices.BUILTIN_DATA_PATH}/logs/2014-03-28/service-2"
    with gzip.open(f"{path}.json.gz") as file:
        size = len(file.read())
    tracemalloc.start()
    try:
        data = QuickFiles().load_file(path)
        kept, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert data["operations"]
    assert peak - kept < 3 * size  # the file's bytes, and what reading them takes
