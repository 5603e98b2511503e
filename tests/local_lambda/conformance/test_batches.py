"""Unusual batches: what a subscriber may be sent, under each API and schema, and nothing that it did not ask for."""

import json
from itertools import combinations
from typing import Any, Literal

import pytest

from local_lambda.conformance.batches import hypothetical_batches, line_batch, rare_batches
from local_lambda.rules.logs_schema import LOGS_SCHEMAS
from local_lambda.rules.subscriptions import Subscription
from local_lambda.settings import SCHEMAS

TYPES = ("platform", "function", "extension")
each_schema = pytest.mark.parametrize("schema", [*LOGS_SCHEMAS, *SCHEMAS])
each_choice = pytest.mark.parametrize("types", [chosen for n in (1, 2, 3) for chosen in combinations(TYPES, n)])


def subscription(schema: str, types: tuple[str, ...], protocol: Literal["HTTP", "TCP"] = "HTTP") -> Subscription:
    return Subscription(
        name="mine",
        schema=schema,
        types=types,
        max_items=1000,
        max_bytes=262144,
        timeout_ms=25,
        protocol=protocol,
        port=1,
        path="/",
        method="POST",
    )


def all_batches(asked: Subscription) -> list[tuple[str, bytes]]:
    once = ("once", line_batch(asked, 0.0, lambda: "marker"))
    return [*rare_batches(asked, 0.0), *hypothetical_batches(asked, 0.0), once]


@each_schema
@each_choice
def test_a_type_that_was_not_asked_for_is_never_in_them(schema: str, types: tuple[str, ...]) -> None:
    for what, body in all_batches(subscription(schema, types)):
        for record in json.loads(body):
            assert record.keys() == {"time", "type", "record"}, what
            assert record["type"].partition(".")[0] in types, what


@pytest.mark.parametrize("schema", [*LOGS_SCHEMAS, "2022-07-01"])
def test_a_line_is_a_string_where_the_schema_says_so(schema: str) -> None:
    for what, body in all_batches(subscription(schema, TYPES)):
        lines = [record["record"] for record in json.loads(body) if record["type"] in ("function", "extension")]
        assert all(isinstance(text, str) for text in lines), what


@pytest.mark.parametrize("schema", LOGS_SCHEMAS)
def test_the_logs_api_is_sent_its_own_events(schema: str) -> None:
    types = [record["type"] for record in json.loads(next(rare_batches(subscription(schema, TYPES), 0.0))[1])]
    assert {"platform.end", "platform.fault", "platform.logsSubscription"} <= set(types)
    assert not {"platform.initStart", "platform.telemetrySubscription", "platform.restoreStart"} & set(types)
    assert ("platform.runtimeDone" in types) is (schema == "2021-03-18")


@each_schema
@each_choice
def test_there_is_one_of_twice_max_bytes_and_one_to_repeat(schema: str, types: tuple[str, ...]) -> None:
    asked = subscription(schema, types)
    *_, (_, largest) = rare_batches(asked, 0.0)
    assert 2 * asked.max_bytes <= len(largest) < 2.1 * asked.max_bytes
    once: list[Any] = json.loads(line_batch(asked, 0.0, lambda: "marker"))
    assert [record["record"] for record in once if record["type"] == "function"] == ["marker\n"] * ("function" in types)
    assert once


def test_what_lambda_does_not_send_is_in_the_hypothetical_ones_alone() -> None:
    asked = subscription("2025-01-29", TYPES)
    rare = b"".join(body for _, body in rare_batches(asked, 0.0))
    hypothetical = [body for _, body in hypothetical_batches(asked, 0.0)]
    assert hypothetical[0] == b"[]"
    for text in (b'"record":null', b"tomorrow", b'"\\ud83d alone"', b'"record":""'):
        assert text not in rare
        assert any(text in body for body in hypothetical), text
