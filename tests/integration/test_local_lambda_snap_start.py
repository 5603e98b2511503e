"""SnapStart on the local Lambda: init, snapshot, restore; with awslambdaric's own hooks."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from local_lambda import LocalLambda, Platform
from tests.integration.local_lambda_probe import Probe, free_port, local_lambda, state_of

EVENTS = ["platform.restoreStart", "platform.restoreRuntimeDone", "platform.restoreReport"]


def snap_start(*probes: Probe, platform: Platform | None = None, **function: Any) -> LocalLambda:
    return local_lambda(*probes, platform=platform, init_type="snap-start", handler="hooks.handler", **function)


def records(env: LocalLambda, kind: str) -> list[dict[str, Any]]:
    return [event["record"] for event in env.telemetry if event["type"] == kind]


@pytest.mark.fidelity("5.2-no-event")
@pytest.mark.fidelity("5.2-restore-start")
async def test_init_snapshot_restore_and_a_report_with_the_restores_duration(tmp_path: Path) -> None:
    probe = Probe(tmp_path)
    async with snap_start(probe, environment={"RESTORE_HOOK": "0.1"}) as env:
        assert state_of(env.pids["runtime"]) == "T"
        assert "platform.restoreStart" not in [event["type"] for event in env.telemetry]
        first = await env.invoke({})
        second = await env.invoke({})
        report = await env.report(first.request_id)
    kinds = [event["type"] for event in env.telemetry]
    assert kinds[kinds.index(EVENTS[0]) :][:4] == [*EVENTS, "platform.start"]
    assert [kinds.count(kind) for kind in EVENTS] == [1, 1, 1]
    assert records(env, EVENTS[0])[0].keys() == {
        "runtimeVersion",
        "functionName",
        "functionVersion",
        "instanceId",
        "instanceMaxMemory",
    }
    assert records(env, EVENTS[1]) == [{"status": "success"}]
    restored = records(env, EVENTS[2])[0]
    assert restored["metrics"]["durationMs"] >= 100
    metrics = report["record"]["metrics"]
    assert "initDurationMs" not in metrics
    assert (
        metrics["restoreDurationMs"]
        == restored["metrics"]["durationMs"]
        == pytest.approx(first.restore_duration_ms, abs=0.001)
    )
    assert metrics["billedDurationMs"] >= metrics["durationMs"] + metrics["billedRestoreDurationMs"]
    assert first.duration_ms < 1000
    assert first.json()["did"] == ["before", "after"]
    assert second.restore_duration_ms is None
    assert set(EVENTS) <= set(probe.types()), "the extension's only sign of a restore"
    env.transcript.assert_next_once_per_invocation()


@pytest.mark.fidelity("1.9-snapstart")
async def test_keys_come_from_an_address_and_log_names_are_absent(tmp_path: Path) -> None:
    probe = Probe(tmp_path, types=[])
    async with snap_start(probe) as env:
        seen = (await env.invoke({})).json()
        refused = (await env.invoke({"token": "another"})).json()
    absent = {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"}
    absent |= {"AWS_LAMBDA_LOG_GROUP_NAME", "AWS_LAMBDA_LOG_STREAM_NAME"}
    given = probe.notes("start")[0]["environ"]
    for environ in (seen["environ"], given):
        assert not absent & set(environ)
        assert environ["AWS_CONTAINER_CREDENTIALS_FULL_URI"].endswith("/2021-04-23/credentials")
    assert seen["keys"].keys() == {"AccessKeyId", "SecretAccessKey", "Token", "Expiration"}
    assert refused["keys"] == 403


@pytest.mark.parametrize(
    ("hook", "status", "error_type", "words"),
    [
        ("raise", "error", "Runtime.AfterRestoreError", "no network yet"),
        ("exit", "error", "Runtime.ExitError", "exit status 9"),
        ("5", "timeout", "Runtime.Unknown", "Restore timed out after 0.30 seconds"),
    ],
)
async def test_a_restore_that_fails_fails_the_invocation(
    tmp_path: Path, hook: str, status: str, error_type: str, words: str
) -> None:
    probe = Probe(tmp_path, types=[], port=free_port())
    platform = Platform(restore_limit_s=0.3)
    async with snap_start(probe, platform=platform, environment={"RESTORE_HOOK": hook}) as env:
        result = await env.invoke({})
        assert env.pids == {}
    assert result.function_error == "Unhandled"
    assert words in result.json()["errorMessage"]
    assert (result.status, result.error_type) == ("error", error_type)
    assert records(env, EVENTS[2])[0]["status"] == status
    assert [note.get("shutdownReason") for note in probe.notes("event")] == ["failure"]


async def test_after_a_reset_processes_are_started_and_restored_again(tmp_path: Path) -> None:
    probe = Probe(tmp_path, types=[], port=free_port())
    async with snap_start(probe) as env:
        os.kill(env.pids["runtime"], signal.SIGKILL)
        await env.until(lambda: "runtime" not in env.pids)
        result = await env.invoke({})
    assert (result.status, result.json()["did"]) == ("success", ["before", "after"])
    assert len(records(env, EVENTS[0])) == 1
    assert result.restore_duration_ms is not None


async def test_without_snap_start_there_is_nothing_to_restore() -> None:
    async with local_lambda() as env:
        result = await env.invoke()
    assert result.restore_duration_ms is None
    assert not [event for event in env.telemetry if event["type"] in EVENTS]
