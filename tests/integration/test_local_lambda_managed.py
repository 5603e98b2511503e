"""Managed Instances with awslambdaric's own multi-concurrency mode."""

import asyncio
import time
from pathlib import Path

import pytest

from local_lambda import Function
from local_lambda.errors import InvalidSetting
from tests.integration.local_lambda_probe import FUNCTIONS, Probe, local_lambda

MANAGED = "lambda-managed-instances"


@pytest.mark.fidelity("5.3-concurrency")
async def test_eight_invocations_run_at_once_each_in_a_worker_of_its_own(tmp_path: Path) -> None:
    probe = Probe(tmp_path, events=["SHUTDOWN"], shutdown=[{"seen": "platform.report", "count": 8}])
    async with local_lambda(probe, init_type=MANAGED) as env:
        await env.until(lambda: len(env.transcript.calls("runtime", "GET /2018-06-01/runtime/invocation/next")) >= 8)
        began = time.monotonic()
        results = await asyncio.gather(*(env.invoke({"sleep": 0.5, "print": ["x"], "environ": True}) for _ in range(8)))
        took = time.monotonic() - began
    assert [result.status for result in results] == ["success"] * 8
    assert len({result.json()["pid"] for result in results}) == 8
    assert took < 2, "one after the other they would take four seconds"
    assert results[0].json()["environ"]["AWS_LAMBDA_MAX_CONCURRENCY"] == "8"
    assert "AWS_LAMBDA_MAX_CONCURRENCY" not in probe.notes("start")[0]["environ"]
    kinds = probe.types()
    assert (kinds.count("platform.report"), kinds.count("function")) == (8, 8)
    assert "platform.runtimeDone" not in kinds


async def test_a_worker_that_crashes_takes_only_its_own_request_along(tmp_path: Path) -> None:
    probe = Probe(tmp_path, events=["SHUTDOWN"], types=[])
    async with local_lambda(probe, init_type=MANAGED, max_concurrency=3, timeout_s=1.5) as env:
        await env.until(lambda: len(env.transcript.calls("runtime", "GET /2018-06-01/runtime/invocation/next")) >= 3)
        before = env.pids
        crash, other = await asyncio.gather(env.invoke({"exit": 3}), env.invoke({"sleep": 0.5}))
        after = await env.invoke()
        assert env.pids == before, "the environment is not replaced"
    assert (other.status, after.status) == ("success", "success")
    assert (crash.status, crash.function_error) == ("timeout", "Unhandled"), "nobody is left to answer it"


async def test_when_all_workers_are_gone_the_environment_is_replaced(tmp_path: Path) -> None:
    probe = Probe(tmp_path, events=["SHUTDOWN"], types=[])
    async with local_lambda(probe, init_type=MANAGED, max_concurrency=1, timeout_s=5) as env:
        crash = await env.invoke({"exit": 3})
        again = await env.invoke()
    assert (crash.status, crash.error_type, again.status) == ("error", "Runtime.ExitError", "success")
    assert len(probe.notes("start")) == 2


def test_concurrency_has_a_range() -> None:
    with pytest.raises(InvalidSetting, match="concurrency is 0"):
        Function(code=FUNCTIONS, init_type=MANAGED, max_concurrency=0)
