"""Asynchronous invocations: answered at once, repeated if they fail, and recorded when they are given up."""

import asyncio
import contextlib
import json
import signal
import sys
import time
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from local_lambda import Fleet, Function, Platform
from local_lambda.errors import EnvironmentClosed, InvalidSetting
from local_lambda.serving.asynchronous import EventRetries
from local_lambda.serving.deployment import Deployment
from local_lambda.serving.lambda_api import InvokeEndpoint
from tests.integration.local_lambda_probe import eventually

COMMAND = [sys.executable, "-c", "from telemetry_forwarder.cli import main; main()", "local", "--json"]
INVOKE = "/2015-03-31/functions/local-function/invocations"
APP = """
attempts = {}

def handler(event, context):
    attempt = attempts[context.aws_request_id] = attempts.get(context.aws_request_id, 0) + 1
    if attempt < event.get("succeeds_at", 99):
        raise RuntimeError(f"attempt {attempt}")
"""
Record = dict[str, Any]


@pytest.fixture
def code(tmp_path: Path) -> Path:
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "app.py").write_text(APP)
    return tmp_path / "code"


class World:
    """An endpoint, and what came of the invocations."""

    def __init__(self, url: str, deployment: Deployment, fleet: Fleet, records: asyncio.Queue[Record]) -> None:
        self.url, self.deployment, self.fleet, self.records = url, deployment, fleet, records

    async def invoke(self, **event: Any) -> str:
        """Return the request id."""
        headers = {"X-Amz-Invocation-Type": "Event"}
        body = json.dumps(event)
        async with (
            aiohttp.ClientSession() as session,
            session.post(self.url + INVOKE, data=body, headers=headers) as got,
        ):
            assert (got.status, await got.read()) == (202, b"")
            return got.headers["x-amzn-RequestId"]

    def attempts(self) -> list[Record]:
        """Return the platform.start event of each."""
        events = [event for env in self.fleet.environments.values() for event in env.telemetry]
        return [event for event in events if event["type"] == "platform.start"]


@contextlib.asynccontextmanager
async def world(code: Path, retries: EventRetries) -> AsyncIterator[World]:
    records: asyncio.Queue[Record] = asyncio.Queue()
    platform = Platform(on_init_failure="retry")
    async with Fleet(Function(code=code, timeout_s=10.0), platform=platform) as fleet:
        deployment = Deployment(fleet)
        async with InvokeEndpoint(deployment, retries=retries, on_failure=records.put_nowait) as endpoint:
            yield World(endpoint.url, deployment, fleet, records)


async def test_it_is_tried_three_times_and_then_recorded_as_a_destination_gets_it(code: Path) -> None:
    async with world(code, EventRetries(first_wait_s=0.3)) as w:
        request_id = await w.invoke(order=7)
        record = await asyncio.wait_for(w.records.get(), 10)
        attempts = w.attempts()
    assert [attempt["record"]["requestId"] for attempt in attempts] == [request_id] * 3, "its id stays the same"
    first, second, third = (datetime.fromisoformat(attempt["time"]).timestamp() for attempt in attempts)
    assert second - first >= 0.3
    assert third - second >= 0.6
    assert record["version"] == "1.0"
    assert record["requestContext"] == {
        "requestId": request_id,
        "functionArn": "arn:aws:lambda:us-east-1:123456789012:function:local-function:$LATEST",
        "condition": "RetriesExhausted",
        "approximateInvokeCount": 3,
    }
    assert record["requestPayload"] == {"order": 7}
    assert record["responseContext"] == {"statusCode": 200, "executedVersion": "$LATEST", "functionError": "Unhandled"}
    assert record["responsePayload"]["errorMessage"] == "attempt 3"
    assert record["timestamp"].endswith("Z")


@pytest.mark.parametrize("succeeds_at", [1, 2, 3])
async def test_it_is_not_repeated_once_it_succeeded(code: Path, succeeds_at: int) -> None:
    async with world(code, EventRetries(first_wait_s=0.01)) as w:
        await w.invoke(succeeds_at=succeeds_at)
        await eventually(lambda: len(w.attempts()) == succeeds_at, timeout_s=10)
        await asyncio.sleep(0.3)
        assert len(w.attempts()) == succeeds_at
        assert w.records.empty()


async def test_an_event_that_became_too_old_is_not_tried_again(code: Path) -> None:
    async with world(code, EventRetries(first_wait_s=0.5, max_age_s=0.4)) as w:
        await w.invoke()
        record = await asyncio.wait_for(w.records.get(), 10)
        assert len(w.attempts()) == 1
    assert record["requestContext"]["condition"] == "EventAgeExceeded"
    assert record["requestContext"]["approximateInvokeCount"] == 1


async def test_what_is_not_the_functions_fault_is_no_attempt(code: Path) -> None:
    """The code is being mended: the event waits, as it does in Lambda's queue after a system error."""
    async with world(code, EventRetries(first_wait_s=0.1, attempts=0)) as w:
        await w.deployment.withdraw(1.0)
        async with asyncio.TaskGroup() as tasks:
            invoking = tasks.create_task(w.invoke(succeeds_at=1))
            await asyncio.sleep(0.1)
            w.deployment.put(w.fleet)
            await invoking
            w.deployment.fail(EnvironmentClosed("It is being mended."))
            await asyncio.sleep(0.2)
            w.deployment.put(w.fleet)
        await eventually(lambda: len(w.attempts()) == 1, timeout_s=10)
        assert w.records.empty()


def test_lambda_has_its_bounds() -> None:
    with pytest.raises(InvalidSetting, match="are 3; Lambda allows 0 to 2"):
        EventRetries(attempts=3)
    with pytest.raises(InvalidSetting, match="is 21601 s; Lambda allows up to 21600"):
        EventRetries(max_age_s=21601)


async def test_the_command_appends_what_was_given_up_to_a_file(code: Path, tmp_path: Path) -> None:
    """The file lies in the code, where with --watch each line would be a change."""
    target = code / "failed.jsonl"
    process = await asyncio.create_subprocess_exec(
        *COMMAND, "--code", str(code), "--serve", "0", "--watch", "--retries", "1", "--retry-wait", "0.1",
        *["--on-failure", str(target)],
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        url = json.loads(await process.stdout.readline())["url"]
        for number in range(2):
            async with aiohttp.ClientSession() as session:
                body = json.dumps({"number": number})
                async with session.post(
                    url + INVOKE, data=body, headers={"X-Amz-Invocation-Type": "Event"}
                ) as response:
                    assert response.status == 202
            while (said := json.loads(await process.stdout.readline()))["what"] != "given_up":
                assert said["what"] != "restart"
        process.send_signal(signal.SIGINT)
        _, error = await process.communicate()
        assert (process.returncode, error) == (0, b"")
    finally:
        if process.returncode is None:
            process.kill()
    records = [json.loads(line) for line in target.read_text().splitlines()]
    assert [record["requestPayload"]["number"] for record in records] == [0, 1]
    assert {record["requestContext"]["approximateInvokeCount"] for record in records} == {2}
    assert {record["responsePayload"]["errorType"] for record in records} == {"RuntimeError"}


async def test_what_is_still_waiting_at_the_end_is_said(code: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        *COMMAND, "--code", str(code), "--serve", "0", "--retry-wait", "60",
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        url = json.loads(await process.stdout.readline())["url"]
        headers = {"X-Amz-Invocation-Type": "Event"}
        async with aiohttp.ClientSession() as session, session.post(url + INVOKE, data=b"{}", headers=headers):
            pass
        while json.loads(await process.stdout.readline()).get("type") != "platform.report":
            pass
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        _, error = await process.communicate()
        assert time.monotonic() - began < 10
        assert error == b"Note: 1 asynchronous invocations had neither succeeded nor been given up.\n"
        assert process.returncode == 0
    finally:
        if process.returncode is None:
            process.kill()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ["--retries", "1"],
            "--retries, --retry-wait, --max-age and --on-failure are about the endpoint: --serve PORT.",
        ),
        (["--serve", "0", "--retries", "3"], "The retries of an asynchronous invocation are 3; Lambda allows 0 to 2."),
        (["--serve", "0", "--on-failure", "/nowhere/x"], "--on-failure /nowhere/x: No such file or directory."),
        (["--route", "GET /x"], "--route is about the function's URL: --url PORT."),
        (["--url", "0", "--route", "x"], "The route 'x' is neither $default nor a method"),
    ],
)
async def test_what_is_asked_wrongly_is_one_sentence(code: Path, arguments: list[str], sentence: str) -> None:
    process = await asyncio.create_subprocess_exec(
        *COMMAND, "--code", str(code), *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, error = await process.communicate()
    assert (process.returncode, out) == (2, b"")
    assert sentence in error.decode()
    assert error.count(b"\n") == 1
