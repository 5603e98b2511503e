"""Functions with OpenTelemetry's own SDK, which need no collector: its spans and ours are one tree at the backend."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from local_backends import Hang
from local_backends.otlp import OtlpReceiver
from local_backends.otlp_trees import assert_trees
from local_lambda import LocalLambda
from tests.integration.world import World, free_port, world

pytestmark = pytest.mark.skipif(
    find_spec("opentelemetry") is None or find_spec("opentelemetry.sdk") is None,
    reason="OpenTelemetry's SDK is not installed (the extra `dev` has it)",
)


@asynccontextmanager
async def instrumented(**more: str) -> AsyncIterator[tuple[World[LocalLambda], OtlpReceiver]]:
    """Open a world whose function has the SDK, with an OTLP backend as the only sink."""
    spec = find_spec("opentelemetry.sdk.version")
    assert spec is not None
    assert spec.origin is not None
    port = str(free_port())
    async with OtlpReceiver() as backend:
        environment = {
            "TELEMETRY_FORWARDER_SINKS": "otlp",
            "TELEMETRY_FORWARDER_OTLP_ENDPOINT": backend.url,
            "TELEMETRY_FORWARDER_METRICS": "on",
            "TELEMETRY_FORWARDER_TRACES": "on",
            "TELEMETRY_FORWARDER_OTLP_RECEIVER": "true",
            "TELEMETRY_FORWARDER_OTLP_PORT": port,
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://localhost:{port}",  # for the SDK
            "OTEL_EXPORTER_OTLP_COMPRESSION": "gzip",
            "SDK_PATH": os.pathsep.join([str(Path(spec.origin).parents[3])]),
            **more,
        }
        async with world(environment={**environment}, handler="traced.handler", timeout_s=10.0) as w:
            yield w, backend


def spans_of(backend: OtlpReceiver, trace_id: str) -> dict[str, Any]:
    """Return the spans of a trace by their name."""
    found = {one.item["name"]: one for one in backend.spans if one.item["traceId"] == trace_id}
    assert len(found) == len([one for one in backend.spans if one.item["traceId"] == trace_id])
    return found


async def test_the_spans_of_the_sdk_and_ours_are_one_tree() -> None:
    async with instrumented() as (w, backend):
        result = await w.env.invoke({"queries": 2})
        told = result.json()
        assert told["sent"] is True
        await w.env.shutdown()
        found = spans_of(backend, told["trace_id"])
        assert set(found) >= {"checkout", "query 0", "query 1", "local-function", "init", "invocation"}
        assert found["checkout"].item["spanId"] == told["span_id"]
        assert found["local-function"].item["parentSpanId"] == told["span_id"]
        assert found["query 0"].item["parentSpanId"] == told["span_id"]
        assert found["invocation"].item["parentSpanId"] == found["local-function"].item["spanId"]
        assert_trees(one.item for one in backend.spans)
        of_sdk, ours = found["checkout"], found["local-function"]
        assert (of_sdk.resource["service.name"], of_sdk.scope["name"]) == ("checkout", "checkout")
        assert of_sdk.resource["faas.name"] == ours.resource["faas.name"] == "local-function"
        (paid,) = [one for one in backend.metrics if one.item["name"] == "orders.paid"]
        assert paid.item["sum"]["dataPoints"][0]["asInt"] == 2
        (ledger,) = w.ledgers
        assert not any(book["dropped"] for book in ledger["sinks"].values())


async def test_a_backend_that_hangs_and_is_well_again_gets_every_span_of_the_sdk_through_a_reset() -> None:
    """The function sees a receiver that answers at once; what it sent waits in the spool for the next process."""
    async with instrumented(TELEMETRY_FORWARDER_FLUSH_TIMEOUT_MS="100") as (w, backend):
        backend.faults.always(Hang(None))
        told = [(await w.env.invoke({"queries": 3})).json()]
        await w.env.invoke({"exit": True})  # both processes end
        backend.faults.clear()
        told.append((await w.env.invoke({"queries": 3})).json())
        await w.env.shutdown()
        assert [one["sent"] for one in told] == [True, True]
        for one in told:
            assert {"checkout", "query 0", "query 1", "query 2", "invocation"} <= set(
                spans_of(backend, one["trace_id"])
            )
        assert_trees(one.item for one in backend.spans)
        assert sum(one.item["name"] == "orders.paid" for one in backend.metrics) >= 2
