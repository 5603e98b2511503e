"""The checks of a telemetry subscription, each with the status and the words of the real API."""

import json
from typing import Any

import pytest

from local_lambda.rules.refusals import Refused
from local_lambda.rules.subscriptions import Subscription, parse
from local_lambda.settings import MANAGED_SCHEMAS, SCHEMAS

GOOD: dict[str, Any] = {
    "schemaVersion": "2025-01-29",
    "types": ["platform", "function"],
    "destination": {"protocol": "HTTP", "URI": "http://sandbox.localdomain:4243/in?x=1"},
}
GONE = object()


def asked(**changes: Any) -> bytes:
    body = {key: value for key, value in (GOOD | changes).items() if value is not GONE}
    return json.dumps(body).encode()


def to(uri: str | None = None, **more: Any) -> dict[str, Any]:
    return {"protocol": "HTTP", **({} if uri is None else {"URI": uri}), **more}


@pytest.mark.fidelity("2.1-items-default")
def test_what_is_not_given_has_the_documented_default() -> None:
    assert parse("mine", asked(), schemas=SCHEMAS) == Subscription(
        name="mine",
        schema="2025-01-29",
        types=("platform", "function"),
        max_items=10000,
        max_bytes=262144,
        timeout_ms=1000,
        protocol="HTTP",
        port=4243,
        path="/in?x=1",
        method="POST",
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"destination": to("http://sandbox:4243")},
        {"destination": to("http://sandbox.localdomain:4243", method="PUT", encoding="JSON")},
        {"destination": {"protocol": "TCP", "port": 4243}},
        {"buffering": {"maxItems": 1000, "maxBytes": 1048576, "timeoutMs": 30000}},
        {"buffering": None},
        {"schemaVersion": "2022-07-01", "types": ["extension"]},
    ],
)
def test_what_is_allowed_is_accepted(changes: dict[str, Any]) -> None:
    assert parse("mine", asked(**changes), schemas=SCHEMAS).port == 4243


INVALID, MALFORMED, DENIED = "Telemetry.ValidationError", "Telemetry.DeserializationError", "Telemetry.AccessDenied"


@pytest.mark.parametrize(
    ("changes", "status", "error_type", "message"),
    [
        ({"buffering": {"timeoutMs": 24}}, 400, INVALID, "timeoutMs should be between 25 and 30000"),
        ({"buffering": {"timeoutMs": 30001}}, 400, INVALID, "timeoutMs should be between 25 and 30000"),
        ({"buffering": {"maxBytes": 262143}}, 400, INVALID, "maxBytes should be between 262144 and 1048576"),
        ({"buffering": {"maxItems": 999}}, 400, INVALID, "maxItems should be between 1000 and 10000"),
        ({"buffering": {"maxItems": "1000"}}, 400, MALFORMED, "maxItems"),
        ({"types": []}, 400, INVALID, "types should not be empty"),
        ({"types": ["platform", "platform"]}, 400, INVALID, "types should be unique"),
        ({"types": ["platform.start"]}, 400, INVALID, "Unrecognized enum variant"),
        ({"types": GONE}, 400, MALFORMED, "missing field `types`"),
        ({"destination": GONE}, 400, MALFORMED, "missing field `destination`"),
        ({"destination": to()}, 400, MALFORMED, "missing field `URI`"),
        ({"destination": {"protocol": "TCP"}}, 400, MALFORMED, "missing field `port`"),
        ({"destination": {"protocol": "UDP"}}, 400, MALFORMED, "unknown variant `UDP`"),
        ({"destination": to("http://sandbox.localdomain:1", method="GET")}, 400, MALFORMED, "unknown variant `GET`"),
        ({"destination": to("http://sandbox.localdomain")}, 400, INVALID, "URI port is not provided"),
        ({"destination": to("http://sandbox.localdomain:9001")}, 400, INVALID, "Port 9001 is reserved"),
        ({"destination": to("http://sandbox.localdomain:99999")}, 400, INVALID, "URI is not valid"),
        ({"destination": to("https://sandbox.localdomain:1")}, 403, DENIED, "Only 'http' scheme is supported."),
        (
            {"destination": to("http://127.0.0.1:4243")},
            403,
            DENIED,
            "Only 'sandbox.localdomain' hostname is supported.",
        ),
        (
            {"schemaVersion": GONE},
            400,
            INVALID,
            "TelemetryAPI only supports the SchemaVersion released after 2021-03-18",
        ),
        (
            {"schemaVersion": "2020-08-15"},
            400,
            INVALID,
            "TelemetryAPI only supports the SchemaVersion released after 2021-03-18",
        ),
        (
            {"schemaVersion": "2030-01-01"},
            400,
            MALFORMED,
            "unknown variant `2030-01-01`, expected one of `2020-08-15`, `2021-03-18`, `2022-07-01`, `2022-12-13`, "
            "`2025-01-29`",
        ),
    ],
)
@pytest.mark.fidelity(
    "2.1-limits",
    "2.1-items-default",
    "2.1-types",
    "2.1-port",
    "2.1-old-schema",
    "2.1-variants",
    "2.1-missing",
    "2.1-denied",
    "2.1-key-order",
)
def test_what_is_not_is_refused(changes: dict[str, Any], status: int, error_type: str, message: str) -> None:
    with pytest.raises(Refused) as caught:
        parse("mine", asked(**changes), schemas=SCHEMAS)
    refusal = caught.value.named("Telemetry.")
    assert (refusal.status, refusal.error_type) == (status, error_type)
    assert message in refusal.message
    assert refusal.body.startswith(b'{"errorType":')


@pytest.mark.parametrize("body", [b"{", b"[]", b""])
def test_what_is_not_a_json_object_is_refused(body: bytes) -> None:
    with pytest.raises(Refused, match="DeserializationError"):
        parse("mine", body, schemas=SCHEMAS)


def test_managed_instances_know_one_schema() -> None:
    assert parse("mine", asked(), schemas=MANAGED_SCHEMAS).schema == "2025-01-29"
    with pytest.raises(Refused) as caught:
        parse("mine", asked(schemaVersion="2022-12-13"), schemas=MANAGED_SCHEMAS)
    assert caught.value.error_type == "DeserializationError"
