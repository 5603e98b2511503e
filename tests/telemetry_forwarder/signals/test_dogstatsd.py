"""What a function sends as DogStatsD is aggregated as Datadog's Agent does it, and a hostile sender gains nothing."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetry_forwarder.signals.dogstatsd import Aggregator

NOW_MS = 1_800_000_000_000


def collected(*datagrams: str | bytes) -> dict[tuple[Any, ...], Any]:
    """Return the values by name and tags."""
    one = Aggregator()
    for datagram in datagrams:
        one.take(datagram if isinstance(datagram, bytes) else datagram.encode())
    return {
        (point["name"], *sorted(made.fields["attributes"].items())): point["value"]
        for made in one.collect(NOW_MS)
        for point in made.fields["points"]
    }


@pytest.mark.parametrize(
    ("datagrams", "value"),
    [
        (["orders:1|c", "orders:2|c"], 3),
        (["orders:1|c|@0.5"], 2),
        (["orders:1:2:3|c"], 6),
        (["orders:3|g", "orders:7|g"], 7),
        (["orders:-1.5|g"], -1.5),
        (["orders:3|d"], 3),
        (["orders:3:5:8|d", "orders:1|d"], [3, 5, 8, 1]),
        (["orders:3|ms|@0.5"], [3, 3]),
        (["orders:a|s", "orders:b|s", "orders:a|s"], 2),
        (["orders:1|c\norders:4|c\n"], 5),
        (["orders:1|c|c:container-id", "orders:1|c|e:external|card:low"], 2),
    ],
)
def test_values_of_one_series_are_aggregated(datagrams: list[str], value: Any) -> None:
    assert collected(*datagrams) == {("orders",): value}


def test_tags_make_series_whatever_their_order() -> None:
    found = collected("a:1|c|#env:prod,region:eu", "a:2|c|#region:eu,env:prod", "a:4|c|#env:test", "a:8|c|#bare")
    assert found == {
        ("a", ("env", "prod"), ("region", "eu")): 3, ("a", ("env", "test")): 4, ("a", ("bare", "")): 8,
    }  # fmt: skip


def test_a_time_of_its_own_is_kept_for_counts_and_gauges() -> None:
    one = Aggregator()
    one.take(b"a:1|c|T1795860000")
    one.take(b"b:1|d|T1795860000")
    assert {made.fields["points"][0]["name"]: made.time_ms for made in one.collect(NOW_MS)} == {
        "a": 1_795_860_000_000, "b": NOW_MS,
    }  # fmt: skip


def test_what_was_collected_is_not_collected_again() -> None:
    one = Aggregator()
    one.take(b"a:1|c")
    assert len(one.collect(NOW_MS)) == 1
    assert one.collect(NOW_MS) == []


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("a", "form"), ("a:1", "form"), (":1|c", "form"), ("a:1|x", "type"), ("a:x|c", "no number"),
        ("a:nan|g", "not finite"), ("a:inf|d", "not finite"), ("a:1|c|@0", "sample rate"), ("a:1|c|@2", "sample rate"),
        ("_e{5,4}:title|text", "event"), ("_sc|name|0", "service check"), ("x" * 300 + ":1|c", "form"),
        ("a:1|c|#" + "t" * 5000, "tags"),
    ],
)  # fmt: skip
def test_a_line_that_is_none_is_refused_with_a_reason_and_costs_no_other(line: str, reason: str) -> None:
    one = Aggregator()
    one.take(f"{line}\nb:1|c".encode())
    ((told, count),) = one.refused.items()
    assert reason in told
    assert count == 1
    assert [made.fields["points"][0]["name"] for made in one.collect(NOW_MS)] == ["b"]


def test_a_hostile_sender_meets_bounds() -> None:
    one = Aggregator()
    for number in range(10_000):
        one.take(f"series{number}:1|c".encode())
    for _ in range(60):
        one.take(b"series0:" + b":".join([b"1"] * 1000) + b"|d")
    assert one.refused
    points = [point for made in one.collect(NOW_MS) for point in made.fields["points"]]
    assert len(points) == 2000
    one.take(b"again:1|c")
    assert len(one.collect(NOW_MS)) == 1, "the next invocation begins anew"


def test_distributions_are_bounded_too() -> None:
    one = Aggregator()
    for _ in range(60):
        one.take(b"a:" + b":".join([b"1"] * 1000) + b"|d")
    ((reason, lines),) = one.refused.items()
    assert "values" in reason
    assert lines == 10
    assert sum(len(p["value"]) for made in one.collect(NOW_MS) for p in made.fields["points"]) == 50_000


@given(st.binary(max_size=200))
def test_no_bytes_raise(data: bytes) -> None:
    one = Aggregator()
    one.take(data)
    one.collect(NOW_MS)
