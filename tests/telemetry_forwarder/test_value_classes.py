"""Value classes: what they do not show, what they cost the garbage collector, and that a sink's may be of any kind."""

import dataclasses
import gc
from typing import Any, ClassVar

import pytest
from msgspec import Struct
from msgspec.structs import replace

from telemetry_forwarder.clock import Moment
from telemetry_forwarder.interfaces import (
    AwsResponse,
    Credential,
    Delivered,
    Destination,
    Encoded,
    HttpDelivery,
    HttpRequest,
    Limits,
    Sink,
)
from telemetry_forwarder.records.record import Record
from telemetry_forwarder.secrets.answers import Answer, Outcome
from telemetry_forwarder.secrets.server import Guard
from telemetry_forwarder.transports.addresses import Network
from telemetry_forwarder.transports.auth import authorized
from telemetry_forwarder.variables.types import Secret
from tests.builders import record

WORD = "hush-hush"
CREDENTIAL = Credential(header="authorization", secret=Secret(WORD), prefix="Splunk ")
REQUEST = HttpRequest(url="https://splunk:8088/services/collector", body=b"{}", headers={"x-request": "1"})
PROXIES = {"https": f"http://me:{WORD}@proxy:3128"}


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (AwsResponse(status=200, body={"SecretString": WORD}, retry_after=2.0), "status=200"),
        (Answer(Outcome.FOUND, Moment(1.0, 2.0), 200, WORD.encode(), "fine", None, WORD.encode()), "'fine'"),
        (Network(proxies=PROXIES, ca_file="/ca.pem", region="eu-west-1"), "/ca.pem"),
        (CREDENTIAL, "Splunk "),
        (HttpDelivery(url="https://splunk:8088", credential=CREDENTIAL), "https://splunk:8088"),
        (authorized(REQUEST, CREDENTIAL, Secret(WORD)), "https://splunk:8088"),
        (Guard(tokens=(Secret(WORD),), allow=None), "tokens="),
    ],
    ids=["AWS response", "answer for a secret", "network", "credential", "delivery", "authorised request", "guard"],
)
def test_what_is_secret_is_not_shown(value: object, shown: str) -> None:
    for text in (repr(value), str(value), f"{value}", repr([value])):
        assert shown in text
        assert WORD not in text


def test_a_record_is_nothing_to_the_garbage_collector() -> None:
    """Thousands are held at once, and each that holds a JSON object would be looked at again and again."""
    held = record({"a": [1]})
    assert gc.is_tracked(held.body)
    assert not gc.is_tracked(held)
    assert not gc.is_tracked(Encoded(held, b"{}"))


def test_a_record_cannot_be_changed_and_is_replaced_as_a_whole() -> None:
    held = record("a")
    with pytest.raises(AttributeError):
        held.body = "b"  # type: ignore[misc]
    with pytest.raises(AttributeError):
        held.further = "b"  # type: ignore[attr-defined]
    other = replace(held, body="b")
    assert (held.body, other.body) == ("a", "b")
    assert other != held == replace(other, body="a")


class _Reads:
    def encode(self, record: Record) -> Encoded:
        return Encoded(record, str(record.body).encode())

    def request(self, batch: Any) -> Any:
        return [one.data for one in batch]

    def verdict(self, batch: Any, response: Any) -> Any:
        return Delivered()


LIMITS = Limits(max_records=1, max_bytes=10, max_record_bytes=10)


@dataclasses.dataclass(frozen=True)
class OfTheStandardLibrary(_Reads):
    """A third party's."""

    name: ClassVar[str] = "mine"
    limits: ClassVar[Limits] = LIMITS

    url: str


class OfMsgspec(Struct, _Reads, frozen=True):
    """A third party's."""

    name: ClassVar[str] = "mine"
    limits: ClassVar[Limits] = LIMITS

    url: str


@pytest.mark.parametrize("kind", [OfTheStandardLibrary, OfMsgspec])
def test_a_sink_may_be_of_any_class(kind: Any) -> None:
    sink: Sink[Any, Any] = kind("https://mine")
    destination = Destination[Any, Any](sink=sink, delivery=HttpDelivery(url="https://mine"))
    assert destination == replace(destination) == Destination(sink=kind("https://mine"), delivery=destination.delivery)
    assert destination.sink.request([destination.sink.encode(record("x"))]) == [b"x"]
