"""Streamed responses reach their caller as they come: InvokeWithResponseStream, read by the AWS SDK."""

import asyncio
import base64
import json
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from local_lambda import Fleet, Function, LocalLambda, Platform
from local_lambda.response_stream import ResponseStream
from local_lambda.serving.deployment import Deployment
from local_lambda.serving.lambda_api import InvokeEndpoint
from tests.integration.local_lambda_probe import FUNCTIONS, Probe
from tests.sharing import sharing

RUNTIME = [sys.executable, str(FUNCTIONS / "streaming.py")]
Event = tuple[float, dict[str, Any]]


@pytest.fixture
async def url() -> AsyncIterator[str]:
    function = Function(code=FUNCTIONS, command=RUNTIME, timeout_s=10.0, name="orders")
    platform = Platform(on_init_failure="retry")
    async with Fleet(function, platform=platform) as fleet, InvokeEndpoint(Deployment(fleet)) as endpoint:
        yield endpoint.url


async def streamed(url: str, event: dict[str, Any], **arguments: Any) -> tuple[dict[str, Any], list[Event]]:
    """Invoke by boto3; return the answer, and each event with the time when it was read."""

    def invoke() -> tuple[dict[str, Any], list[Event]]:
        client = boto3.client(
            "lambda", endpoint_url=url, region_name="us-east-1", aws_access_key_id="none", aws_secret_access_key="none",
            config=Config(retries={"total_max_attempts": 1}, read_timeout=30),
        )  # fmt: skip
        try:
            answer = client.invoke_with_response_stream(
                **{"FunctionName": "orders", "Payload": json.dumps(event), **arguments}
            )
            return answer, [(time.monotonic(), one) for one in answer["EventStream"]]
        finally:
            client.close()

    return await asyncio.to_thread(invoke)


def body_of(events: list[Event]) -> bytes:
    return b"".join(one["PayloadChunk"]["Payload"] for _, one in events if "PayloadChunk" in one)


@pytest.mark.fidelity("4-as-it-comes")
async def test_the_sdk_reads_each_piece_when_the_function_sends_it(url: str) -> None:
    answer, events = await streamed(url, {"chunks": ["one", "two", "three"], "pause_s": 0.4})
    assert answer["StatusCode"] == 200
    assert answer["ExecutedVersion"] == "$LATEST"
    assert body_of(events) == b"onetwothree"
    assert events[-1][1] == {"InvokeComplete": {}}
    assert events[-1][0] - events[0][0] >= 1.0, "the first one was there long before the last"


async def test_the_log_and_an_error_in_the_middle_are_in_the_last_event(url: str) -> None:
    answer, events = await streamed(url, {"chunks": ["one"], "break": "no more"}, LogType="Tail")
    assert body_of(events) == b"one"
    complete = events[-1][1]["InvokeComplete"]
    assert complete["ErrorCode"] == "Mine"
    assert json.loads(complete["ErrorDetails"]) == {"errorType": "Mine", "errorMessage": "no more"}
    request_id = answer["ResponseMetadata"]["RequestId"]
    assert f"START RequestId: {request_id}" in base64.b64decode(complete["LogResult"]).decode()


async def test_a_runtime_that_ends_in_the_middle(url: str) -> None:
    _, events = await streamed(url, {"chunks": ["one"], "pause_s": 0.2, "exit": 3})
    assert body_of(events) == b"one"
    complete = events[-1][1]["InvokeComplete"]
    assert complete["ErrorCode"] == "Runtime.ExitError"
    assert "exit status 3" in complete["ErrorDetails"]


async def test_an_answer_that_is_not_streamed_is_one_piece(url: str) -> None:
    _, events = await streamed(url, {"plain": {"a": 1}})
    assert [list(one) for _, one in events] == [["PayloadChunk"], ["InvokeComplete"]]
    assert json.loads(body_of(events)) == {"a": 1}


async def test_refusals_have_a_status(url: str) -> None:
    for arguments, status in (({"FunctionName": "other"}, 404), ({"Payload": b"{"}, 400)):
        with pytest.raises(ClientError) as caught:
            await streamed(url, {}, **arguments)
        assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == status
    answer, events = await streamed(url, {}, InvocationType="DryRun")
    assert (answer["StatusCode"], events) == (204, [])


async def test_a_caller_that_leaves_does_not_hold_the_function(tmp_path: Path) -> None:
    """Far more than can lie in buffers: the runtime would wait for ever for a caller who reads no more."""
    function = Function(code=FUNCTIONS, command=RUNTIME, timeout_s=20.0, name="orders")
    platform = Platform(stream_burst_bytes=2**30)
    async with Fleet(function, platform=platform) as fleet, InvokeEndpoint(Deployment(fleet)) as endpoint:
        port = int(endpoint.url.rpartition(":")[2])
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        body = json.dumps({"size": 64 * 2**20}).encode()
        path = "/2021-11-15/functions/orders/response-streaming-invocations"
        writer.write(b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (path.encode(), len(body), body))
        await writer.drain()
        await asyncio.sleep(1.0)
        writer.transport.abort()
        served = await fleet.serve({"plain": 1}, wait=True)
        assert served.environment == 1, "in the same environment, once the stream is out"
        (env,) = fleet.environments.values()
        reports = [event for event in env.telemetry if event["type"] == "platform.report"]
        assert [report["record"]["status"] for report in reports] == ["success", "success"]


@pytest.mark.fidelity("4-shaping")
async def test_a_stream_has_a_burst_and_then_a_rate() -> None:
    platform = Platform(stream_burst_bytes=2 * 2**20, stream_bytes_per_s=4 * 2**20)
    stream = ResponseStream()
    function = Function(code=FUNCTIONS, command=RUNTIME, timeout_s=20.0)

    async def read(began: float) -> list[tuple[float, int]]:
        return [(time.monotonic() - began, len(chunk)) async for chunk in stream]

    async with LocalLambda(function, platform=platform) as env, asyncio.TaskGroup() as tasks:
        reading = tasks.create_task(read(time.monotonic()))
        result = await env.invoke({"size": 8 * 2**20}, stream=stream)
        seen = await reading
    assert sum(size for _, size in seen) == len(result.payload) == 8 * 2**20
    at_once = sum(size for at, size in seen if at < 0.5)
    assert at_once + 65536 >= 2 * 2**20
    assert at_once < 5 * 2**20
    assert 1.4 < seen[-1][0] < 5.0, "six of the eight MiB at four a second"


def test_lambdas_own_figures_are_the_defaults() -> None:
    assert (Platform().stream_burst_bytes, Platform().stream_bytes_per_s) == (6 * 2**20, 2 * 2**20)


async def test_the_stream_ends_before_an_extension_lets_go(tmp_path: Path) -> None:
    """The caller has its response while the environment still waits for the extension."""
    probe = Probe(tmp_path, invoked=[{"sleep": 1.0}])
    stream = ResponseStream()
    function = Function(code=FUNCTIONS, command=RUNTIME, timeout_s=20.0, environment=dict([probe.variable]))
    async with LocalLambda(function, [probe.path], platform=sharing()) as env, asyncio.TaskGroup() as tasks:
        began = time.monotonic()
        invoking = tasks.create_task(env.invoke({"chunks": ["one"]}, stream=stream))
        assert [chunk async for chunk in stream] == [b"one"]
        took = time.monotonic() - began
        result = await invoking
    assert stream.is_complete
    assert took < 0.8 < 1.0 <= result.duration_ms / 1000
