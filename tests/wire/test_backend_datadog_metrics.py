"""The local Datadog refuses of metrics what Datadog refuses, and loses what Datadog loses."""

import gzip
import zlib
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import orjson
import pytest

from local_backends import Answer, Datadog

KEY = "0123456789abcdef0123456789abcdef"  # a made-up one
NOW = 1_791_048_401.679
SECOND = 1_791_048_401
DISTRIBUTIONS, SERIES = "/api/v1/distribution_points", "/api/v2/series"


@pytest.fixture
async def datadog() -> AsyncIterator[Datadog]:
    async with Datadog(api_key=KEY, now=lambda: NOW) as datadog:
        yield datadog


async def post(datadog: Datadog, path: str, body: Any, **headers: str) -> tuple[int, Any]:
    data = body if isinstance(body, bytes) else orjson.dumps({"series": body})
    usual = {"DD-API-KEY": KEY, "Content-Type": "text/json" if path == DISTRIBUTIONS else "application/json"}
    given = usual | {name.replace("_", "-"): value for name, value in headers.items()}
    async with aiohttp.ClientSession() as client, client.post(datadog.url + path, data=data, headers=given) as answer:
        return answer.status, await answer.json()


def distribution(points: Any = ((SECOND, (1, 2.5)),), **more: Any) -> list[dict[str, Any]]:
    return [{"metric": "a.b", "points": points, "tags": ["x:1"], "type": "distribution", **more}]


def series(points: Any = ({"timestamp": SECOND, "value": 1},), **more: Any) -> list[dict[str, Any]]:
    return [{"metric": "a.b", "points": points, "type": 1, "interval": 10, "tags": ["x:1"], **more}]


async def test_values_of_a_distribution_are_added(datadog: Datadog) -> None:
    for _ in range(2):
        assert await post(datadog, DISTRIBUTIONS, distribution()) == (202, {"status": "ok"})
    assert datadog.metrics.values("a.b") == [1, 2.5, 1, 2.5]
    assert datadog.metrics.tags("a.b") == [{"x": "1"}] * 2
    assert not datadog.metrics.overwritten


async def test_of_counts_with_equal_tags_in_a_second_the_last_one_wins(datadog: Datadog) -> None:
    """What two environments count at once: the classic loss."""
    for value in (3, 4):
        body = series([{"timestamp": SECOND, "value": value}])
        assert await post(datadog, SERIES, body) == (202, {"errors": []})
    assert datadog.metrics.values("a.b") == [4]
    assert [point.values for point in datadog.metrics.overwritten] == [(3.0,)]
    await post(datadog, SERIES, series([{"timestamp": SECOND + 1, "value": 5}]))
    await post(datadog, SERIES, series(tags=["x:2"]))
    assert datadog.metrics.values("a.b") == [4, 5, 1]


@pytest.mark.parametrize("path", [DISTRIBUTIONS, SERIES])
async def test_what_is_too_old_or_too_new_is_accepted_and_lost(datadog: Datadog, path: str) -> None:
    for second in (SECOND - 3700, SECOND + 700):
        body = distribution([[second, [1]]]) if path == DISTRIBUTIONS else series([{"timestamp": second, "value": 1}])
        assert (await post(datadog, path, body))[0] == 202
    assert (len(datadog.metrics.lost), datadog.metrics.points) == (2, [])


@pytest.mark.parametrize(
    "body",
    [
        b"{", b"[]", b'{"series":{}}', [1],
        distribution([]), distribution([[SECOND, []]]), distribution([[SECOND, 1]]), distribution([[SECOND, ["1"]]]),
        distribution([[SECOND, [None]]]), distribution([[SECOND, [True]]]), distribution([[float(SECOND), [1]]]),
        distribution([[SECOND * 1000, [1]]]), distribution([[SECOND]]), distribution(type="count"),
        distribution(metric=""), distribution(metric="2xx"), distribution(metric="a b"), distribution(tags="x:1"),
        distribution(tags=[f"t{n}" for n in range(101)]),
    ],
)  # fmt: skip
async def test_a_distribution_that_is_none_is_refused_with_all_beside_it(datadog: Datadog, body: Any) -> None:
    whole = distribution() + body if isinstance(body, list) else body
    status, answer = await post(datadog, DISTRIBUTIONS, whole)
    assert status == 400
    assert isinstance(answer["errors"][0], str)
    assert not datadog.metrics.points


@pytest.mark.parametrize(
    "body",
    [series(type=4), series(type=None), series([]), series([{"timestamp": SECOND}]), series([[SECOND, 1]]),
     series([{"timestamp": SECOND * 1000, "value": 1}]), series([{"timestamp": SECOND + 0.5, "value": 1}])],
)  # fmt: skip
async def test_a_series_that_is_none_is_refused(datadog: Datadog, body: Any) -> None:
    assert (await post(datadog, SERIES, body))[0] == 400


async def test_a_count_without_an_interval_is_taken_and_flagged(datadog: Datadog) -> None:
    (one,) = series()
    del one["interval"]
    assert (await post(datadog, SERIES, [one]))[0] == 202
    assert datadog.metrics.flaws == ["a.b: a count or rate without `interval`"]


async def test_distributions_are_deflated_or_plain_and_nothing_else(datadog: Datadog) -> None:
    body = orjson.dumps({"series": distribution()})
    assert (await post(datadog, DISTRIBUTIONS, zlib.compress(body), Content_Encoding="deflate"))[0] == 202
    assert (await post(datadog, DISTRIBUTIONS, gzip.compress(body), Content_Encoding="gzip"))[0] == 415
    assert (await post(datadog, DISTRIBUTIONS, body, Content_Encoding="deflate"))[0] == 400
    assert (await post(datadog, SERIES, gzip.compress(orjson.dumps({"series": series()})), Content_Encoding="gzip"))[
        0
    ] == 202


async def test_keys_types_and_sizes(datadog: Datadog) -> None:
    assert (await post(datadog, DISTRIBUTIONS, distribution(), DD_API_KEY="x"))[0] == 403
    assert (await post(datadog, DISTRIBUTIONS, distribution(), Content_Type="text/plain"))[0] == 415
    assert (await post(datadog, SERIES, series(), Content_Type="text/json"))[0] == 415
    assert (await post(datadog, DISTRIBUTIONS, b" " * 512_001))[0] == 413
    assert (await post(datadog, DISTRIBUTIONS, zlib.compress(b" " * 5_242_881), Content_Encoding="deflate"))[0] == 413
    assert (await post(datadog, "/api/v1/series", series()))[0] == 404


async def test_a_fault_may_be_of_metrics_alone(datadog: Datadog) -> None:
    datadog.faults.script(Answer(503), on="distributions")
    assert (await post(datadog, SERIES, series()))[0] == 202
    assert (await post(datadog, DISTRIBUTIONS, distribution()))[0] == 503
    assert (await post(datadog, DISTRIBUTIONS, distribution()))[0] == 202
