"""What is stored of a metric is read back, and what is no metric is left out."""

import math
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetry_forwarder.records.derived import body_of, identity_of, records_from, records_of
from telemetry_forwarder.records.record import Signal, decode
from telemetry_forwarder.signals.points import MetricKind, Point, attributes_of, metrics, points_of
from telemetry_forwarder.signals.prices import PER_REQUEST, USUAL, rates
from tests.builders import ORIGIN, record

NUMBERS = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**53), 2**53)
POINTS = st.builds(
    Point,
    st.text(min_size=1),
    NUMBERS | st.lists(NUMBERS, min_size=1, max_size=5),
    st.text(),
    st.sampled_from(MetricKind),
)


@given(st.lists(POINTS, max_size=5), st.dictionaries(st.text(), st.text(), max_size=3), st.integers(0, 2**42))
def test_a_metric_record_comes_back_from_a_body_of_our_own(
    points: list[Point], attributes: dict[str, str], time_ms: int
) -> None:
    made = metrics(points, time_ms, "platform", attributes, request_id="r", cold_start=True)
    (found,) = records_of(ORIGIN, decode(body_of([made]), 0).items, "b" * 24)
    assert found.signal is Signal.METRIC
    assert (found.request_id, found.cold_start, found.time_ms) == ("r", True, time_ms)
    assert points_of(found) == points
    assert attributes_of(found) == attributes
    assert "context" not in found.body


@given(st.lists(st.tuples(st.lists(POINTS, max_size=3), st.integers(0, 2**42)), max_size=4))
def test_records_made_at_once_are_those_that_are_made_of_their_body(many: list[tuple[list[Point], int]]) -> None:
    made = [metrics(points, time_ms, "platform", {"a": "b"}, request_id="r") for points, time_ms in many]
    body = body_of(made)
    assert records_from(ORIGIN, made, "b" * 24, len(body)) == records_of(ORIGIN, decode(body, 0).items, "b" * 24)


@pytest.mark.parametrize(
    "point",
    [
        None, {}, {"name": "x"}, {"name": "", "value": 1, "kind": "count"},
        {"name": "x", "value": "1", "kind": "count"},
        {"name": "x", "value": True, "kind": "count"}, {"name": "x", "value": [], "kind": "distribution"},
        {"name": "x", "value": math.inf, "kind": "gauge"}, {"name": "x", "value": 1, "kind": "summary"},
        {"name": "x", "value": [1, None], "kind": "distribution"},
    ],
)  # fmt: skip
def test_what_is_no_point_is_left_out(point: Any) -> None:
    sound = {"name": "y", "value": 2, "unit": "ms", "kind": "gauge"}
    found = points_of(record({"points": [point, sound]}, type="forwarder.metrics"))
    assert found == [Point("y", 2, "ms", MetricKind.GAUGE)]


def test_the_same_records_make_the_same_body_and_identity() -> None:
    made = [metrics([Point("x", 1.5, "ms", MetricKind.GAUGE)], 1_800_000_000_123, "platform")]
    assert body_of(made) == body_of(made)
    assert orjson.loads(body_of(made))[0]["time"] == "2027-01-15T08:00:00.123Z"
    assert identity_of("a" * 24, "metric") == identity_of("a" * 24, "metric") != identity_of("a" * 24, "span")
    assert len(identity_of("a", "b")) == 24


@pytest.mark.parametrize(
    ("region", "machine", "init_type", "expected"),
    [
        ("eu-west-1", "x86_64", "on-demand", 0.0000166667),
        ("eu-west-1", "aarch64", "on-demand", 0.0000133334),
        ("af-south-1", "aarch64", None, 0.00001768),
        (None, "x86_64", "provisioned-concurrency", 0.0000097222),
    ],
)
def test_the_rate_is_that_of_the_region_and_the_processor(
    region: str | None, machine: str, init_type: str | None, expected: float
) -> None:
    assert rates(region, machine, init_type, None, None).gb_second == expected


def test_the_user_s_own_rates_win() -> None:
    found = rates("eu-west-1", "x86_64", None, 0.0, 0.00001)
    assert (found.request, found.gb_second) == (0.0, 0.00001)
    assert found.cost(1000, 1024) == 0.00001
    assert rates(None, "x86_64", None, None, None).cost(100, 512) == round(PER_REQUEST + 0.05 * USUAL[0], 12)
