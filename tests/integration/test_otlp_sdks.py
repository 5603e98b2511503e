"""Functions with OpenTelemetry's own SDK, which need no collector: its spans and ours are one tree at the backend."""

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from local_backends import Hang
from local_backends.otlp import OtlpReceiver
from local_backends.otlp_trees import assert_trees
from local_lambda import Function, LocalLambda
from tests.integration.world import EXTENSION, FUNCTIONS, World, free_port, world
from tests.sharing import sharing

needs_sdk = pytest.mark.skipif(
    find_spec("opentelemetry") is None or find_spec("opentelemetry.sdk") is None,
    reason="OpenTelemetry's SDK is not installed (the extra `dev` has it)",
)


NODE_SDK = Path(__file__).parents[2] / "build/node-sdk"  # a layer, made by `make node-sdk`


def variables(backend: OtlpReceiver) -> dict[str, str]:
    """Return the variables of a function whose SDK sends to our receiver, and of ours, which sends to `backend`."""
    port = str(free_port())
    return {
        "TELEMETRY_FORWARDER_SINKS": "otlp",
        "TELEMETRY_FORWARDER_OTLP_ENDPOINT": backend.url,
        "TELEMETRY_FORWARDER_METRICS": "on",
        "TELEMETRY_FORWARDER_TRACES": "on",
        "TELEMETRY_FORWARDER_OTLP_RECEIVER": "true",
        "TELEMETRY_FORWARDER_OTLP_PORT": port,
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://localhost:{port}",  # for the SDK
        "OTEL_EXPORTER_OTLP_COMPRESSION": "gzip",
    }


@asynccontextmanager
async def instrumented(**more: str) -> AsyncIterator[tuple[World[LocalLambda], OtlpReceiver]]:
    """Open a world whose function has the SDK, with an OTLP backend as the only sink."""
    spec = find_spec("opentelemetry.sdk.version")
    assert spec is not None
    assert spec.origin is not None
    async with OtlpReceiver() as backend:
        environment = {
            **variables(backend),
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


@needs_sdk
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


@needs_sdk
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


@pytest.mark.skipif(shutil.which("node") is None, reason="node not installed")
@pytest.mark.skipif(not NODE_SDK.is_dir(), reason="OpenTelemetry's SDK for Node.js is not there: make node-sdk")
async def test_the_spans_of_the_sdk_for_node_and_ours_are_one_tree(tmp_path: Path) -> None:
    async with OtlpReceiver() as backend:
        environment = {
            **variables(backend),
            "TELEMETRY_FORWARDER_PORT": str(free_port()),
            "TELEMETRY_FORWARDER_SPOOL_DIR": str(tmp_path / "spool"),
        }
        code = tmp_path / "code"
        code.mkdir()
        shutil.copy(FUNCTIONS / "traced.cjs", code / "index.cjs")
        function = Function(code=code, handler="index.handler", environment=environment, timeout_s=10.0)
        async with LocalLambda(function, [EXTENSION], layers=[NODE_SDK], platform=sharing()) as env:
            results = [(await env.invoke({"queries": 2})).json() for _ in range(2)]
            await env.shutdown()
        for told in results:
            found = spans_of(backend, told["trace_id"])
            assert {"checkout", "query 0", "query 1", "local-function", "invocation"} <= set(found)
            assert found["local-function"].item["parentSpanId"] == told["span_id"]
        assert_trees(one.item for one in backend.spans)
