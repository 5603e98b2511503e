"""Internal extensions, and the endings that need no extension's help: shares of the window, init limits, a kill."""

from pathlib import Path

import pytest

from local_lambda import InitFailed, Platform
from tests.integration.local_lambda_probe import Probe, local_lambda, state_of


async def test_internal_extensions_are_refused_what_they_may_not_have(tmp_path: Path) -> None:
    """Nine of them and one external make ten: the limit counts them together."""
    probe = Probe(tmp_path, types=[])
    async with local_lambda(probe, handler="many_internal.handler") as env:
        result = await env.invoke()
        end = await env.shutdown()
    answers = result.json()
    assert answers["greedy"] == [403, "Extension.InvalidEventType"]
    assert [answers[f"inside-{number}"] for number in range(9)] == [[200, None]] * 9
    assert answers["twice"] == [403, "Extension.InvalidExtensionState"]
    assert answers["one-too-many"] == [403, "Extension.TooManyExtensions"]
    assert answers["late"] == [403, "Extension.RegistrationClosed"]
    assert result.held_ms.keys() == {"probe", "inside-0"}
    assert end.deadline_ms - end.started_ms == 2000, "an external one makes it two seconds"


@pytest.mark.parametrize("share_s", [0.0, 0.6])
async def test_the_runtimes_share_of_the_window_can_be_any(tmp_path: Path, share_s: float) -> None:
    probe = Probe(tmp_path, types=[])
    platform = Platform(runtime_share_s=share_s)
    async with local_lambda(probe, handler="stubborn.handler", platform=platform) as env:
        await env.shutdown()
    left_ms = probe.notes("event")[0]["left_ms"]
    assert left_ms <= 2000 - share_s * 1000
    assert left_ms > 2000 - share_s * 1000 - 300


async def test_provisioned_concurrency_has_the_long_init_limit_and_no_init_duration(tmp_path: Path) -> None:
    probe = Probe(tmp_path, types=[], at_start=[{"sleep": 0.4}])
    platform = Platform(init_limit_s=0.2)
    with pytest.raises(InitFailed, match=r"within 0\.2 s"):
        await local_lambda(probe, platform=platform).__aenter__()
    async with local_lambda(probe, platform=platform, init_type="provisioned-concurrency") as env:
        assert {state_of(pid) for pid in env.pids.values()} == {"T"}
        result = await env.invoke()
        report = await env.report(result.request_id)
    assert "initDurationMs" not in report["record"]["metrics"]
    start = next(event["record"] for event in env.telemetry if event["type"] == "platform.initStart")
    assert (start["phase"], start["initializationType"]) == ("init", "provisioned-concurrency")


async def test_a_kill_before_any_invocation_tells_nobody(tmp_path: Path) -> None:
    probe = Probe(tmp_path, types=[])
    async with local_lambda(probe, init_type="provisioned-concurrency") as env:
        pids = list(env.pids.values())
        await env.kill()
        assert [state_of(pid) for pid in pids] == [None, None]
    assert probe.notes("event") == []
