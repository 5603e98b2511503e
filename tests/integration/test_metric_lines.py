"""Metric lines of a real Powertools function, in each mode: one count in CloudWatch, the metric where it is wanted."""

import json
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from local_backends import Answer, OtlpReceiver
from local_lambda import LocalLambda
from tests.integration.test_metrics import assert_balanced, splunk_metrics
from tests.integration.world import FUNCTIONS, GROUP, World, world
from tests.wire.aws_calls import call

pytestmark = pytest.mark.skipif(
    find_spec("aws_lambda_powertools") is None, reason="aws-lambda-powertools is not installed: pip install -e '.[dev]'"
)

OWN_GROUP = "/aws/lambda/local-function"
ORDERS = ({"order": "17", "paid": [3, 4], "refunds": 2}, {"order": "18", "paid": [5]})
INDEX = "numbers"


@pytest.fixture(scope="module")
def code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the function's folder with the packages that it needs, as an upload has them."""
    folder = tmp_path_factory.mktemp("code")
    shutil.copy(FUNCTIONS / "metric_lines.py", folder)
    for package in ("aws-lambda-powertools", "jmespath", "typing-extensions"):
        for file in metadata.files(package) or ():
            if file.suffix == ".py" and ".." not in file.parts:
                target = folder / file
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(file.locate(), target)
    return folder


@asynccontextmanager
async def shop(code: Path, modes: str, log_format: Any = "Text", **more: str) -> AsyncIterator[World[LocalLambda]]:
    """Run the function for two orders, with metrics wanted everywhere, to the end of the environment."""
    environment: dict[str, str | None] = {
        "TELEMETRY_FORWARDER_METRICS": "on",
        "TELEMETRY_FORWARDER_METRIC_LINES": modes,
        "SPLUNK_METRICS_INDEX": INDEX,
        **more,
    }
    function = {"code": code, "handler": "metric_lines.handler", "log_format": log_format}
    async with world(environment=environment, metric_indexes={INDEX}, **function) as w:
        for order in ORDERS:
            assert (await w.env.invoke(order)).status == "success"
        await w.env.shutdown()
        yield w


async def write_as_lambda_does(w: World[LocalLambda]) -> None:
    """Put what the function printed into its own log group, where CloudWatch reads it, too."""
    lines = [event["record"] for event in w.env.telemetry if event["type"] == "function"]
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    place = {"logGroupName": OWN_GROUP, "logStreamName": "s"}
    events = [{"timestamp": round(w.cloudwatch.now() * 1000), "message": text} for text in texts]
    async with aiohttp.ClientSession() as client:
        await call(client, w.cloudwatch, "CreateLogGroup", {"logGroupName": OWN_GROUP})
        await call(client, w.cloudwatch, "CreateLogStream", place)
        assert (await call(client, w.cloudwatch, "PutLogEvents", {**place, "logEvents": events}))[0] == 200


def lines_in(w: World[LocalLambda], sink: str) -> list[Any]:
    """Return the metric lines that a sink's logs have, as objects; those in EMF whatever became of their directives."""
    found = []
    for one in w.arrived(sink):
        raw = one["raw"].message if sink == "datadog" else one["raw"]
        try:
            value = json.loads(raw) if isinstance(raw, str) else raw
        except ValueError:
            continue
        if isinstance(value, dict) and ("Paid" in value or "ColdStart" in value or "m" in value):
            found.append(value)
    return found


def assert_sound(w: World[LocalLambda]) -> None:
    assert not w.cloudwatch.metrics.errors
    for ledger in w.ledgers:
        assert_balanced(ledger)
        for book in ledger["sinks"].values():
            assert set(book["dropped"]) <= {"filtered"}


@pytest.mark.parametrize("log_format", ["Text", "JSON"])
@pytest.mark.parametrize("mode", ["keep", "strip", "drop", "metrics"])
async def test_cloudwatch_counts_once_and_datadog_has_the_metric_whatever_cloudwatch_is_sent(
    code: Path, mode: str, log_format: str
) -> None:
    """Where CloudWatch makes the metric of ours, Lambda may not write its own: that is what the mode is for."""
    async with shop(code, f"cloudwatch:{mode},datadog:metrics", log_format) as w:
        if mode != "metrics":
            await write_as_lambda_does(w)
        metrics = w.cloudwatch.metrics
        assert metrics.total("Paid", service="payment") == 12
        assert metrics.total("ColdStart", function_name="local-function", service="payment") == 1
        assert {one.group for one in metrics.found if one.name == "Paid"} == {GROUP if mode == "metrics" else OWN_GROUP}
        assert sorted(w.datadog.metrics.values("Shop.Paid")) == [3, 4, 5]
        assert w.datadog.metrics.values("Shop.Refunds") == [2]
        assert {tags["service"] for tags in w.datadog.metrics.tags("Shop.Paid")} == {"payment"}
        assert [tags["product"] for tags in w.datadog.metrics.tags("Shop.Refunds")] == ["ticket"]
        assert not lines_in(w, "datadog")
        assert len(lines_in(w, "cloudwatch")) == {"keep": 4, "strip": 4, "drop": 0, "metrics": 3}[mode]
        assert_sound(w)


@pytest.mark.parametrize("mode", ["keep", "strip", "drop", "metrics"])
async def test_each_mode_in_the_sinks_that_extract_nothing(code: Path, mode: str) -> None:
    async with shop(code, f"splunk:{mode},datadog:{mode}") as w:
        await write_as_lambda_does(w)
        assert w.cloudwatch.metrics.total("Paid", service="payment") == 12
        for sink in ("splunk", "datadog"):
            lines = lines_in(w, sink)
            assert len(lines) == (4 if mode in ("keep", "strip") else 0)
            assert sum("_aws" in line for line in lines) == (3 if mode == "keep" else 0)
            assert sum("m" in line for line in lines) == (1 if mode in ("keep", "strip") else 0)
            assert any("a line about _aws and order 17" in one["text"] for one in w.arrived(sink))
        assert sorted(w.datadog.metrics.values("Shop.Paid")) == ([3, 4, 5] if mode == "metrics" else [])
        paid = [(name, value) for name, value, _ in splunk_metrics(w.splunk) if "Shop.Paid" in name]
        assert sum(value for name, value in paid if name in ("Shop.Paid", "Shop.Paid.sum")) == (
            12 if mode == "metrics" else 0
        )
        (ledger,) = w.ledgers
        dropped = {name: book["dropped"].get("filtered", 0) for name, book in ledger["sinks"].items()}
        assert dropped["splunk"] == dropped["datadog"] == (4 if mode in ("drop", "metrics") else 0)
        assert dropped["splunk-metrics"] == dropped["datadog-metrics"] == 0
        assert_sound(w)


@pytest.mark.parametrize("mode", ["keep", "strip", "drop", "metrics"])
async def test_each_mode_by_otlp(code: Path, mode: str) -> None:
    async with OtlpReceiver() as otlp:
        own = {"TELEMETRY_FORWARDER_SINKS": "otlp,cloudwatch", "OTEL_EXPORTER_OTLP_ENDPOINT": otlp.url}
        async with shop(code, f"otlp:{mode}", **own) as w:
            await write_as_lambda_does(w)
            assert w.cloudwatch.metrics.total("Paid", service="payment") == 12
            bodies = [json.dumps(one.item) for one in otlp.logs]
            assert sum('"Paid"' in body for body in bodies) == (2 if mode in ("keep", "strip") else 0)
            assert sum("CloudWatchMetrics" in body for body in bodies) == (3 if mode == "keep" else 0)
            assert any("a line about _aws and order 17" in body for body in bodies)
            paid = [one.item for one in otlp.metrics if one.item["name"] == "Shop.Paid"]
            sums = [point["sum"] for metric in paid for point in metric["histogram"]["dataPoints"]]
            assert sum(sums) == (12 if mode == "metrics" else 0)
            assert_sound(w)


async def test_lines_in_two_generations_are_metrics_once_each(code: Path) -> None:
    """What a process had taken in when the function crashed is sent by the next one, and made into metrics once."""
    environment: dict[str, str | None] = {
        "TELEMETRY_FORWARDER_METRICS": "datadog",
        "TELEMETRY_FORWARDER_METRIC_LINES": "datadog:metrics",
        "TELEMETRY_FORWARDER_SINKS": "datadog",
    }
    async with world(environment=environment, code=code, handler="metric_lines.handler") as w:
        w.datadog.faults.always(Answer(503))
        await w.env.invoke(ORDERS[0])
        assert (await w.env.invoke({"exit": True})).status != "success"
        w.datadog.faults.clear()
        await w.env.invoke(ORDERS[1])
        await w.env.shutdown()
        assert len(w.ledgers) == 2
        assert w.ledgers[0]["sinks"]["datadog-metrics"]["spilled"] > 0
        assert sorted(w.datadog.metrics.values("Shop.Paid")) == [3, 4, 5]
        assert w.datadog.metrics.values("Shop.Refunds") == [2]
