"""What the system enforces on a local Lambda: each test says aloud where the system does not let it be tried."""

import time
from pathlib import Path
from typing import Any

import pytest

from local_lambda import LocalLambda, Platform
from local_lambda.errors import LimitsUnavailable
from local_lambda.machine.cgroups import Group, Place, places
from local_lambda.machine.limits import Limits
from tests.integration.local_lambda_probe import FUNCTIONS, Probe, eventually, local_lambda, state_of


def can_have(controller: Any) -> bool:
    place = places().get(controller)
    try:
        if place is not None:
            Group(controller, place).remove()
    except OSError:
        return False
    return place is not None


needs_memory = pytest.mark.skipif(not can_have("memory"), reason="no memory control group can be made here")
needs_cpu = pytest.mark.skipif(not can_have("cpu"), reason="no cpu control group can be made here")
needs_freezer = pytest.mark.skipif(not can_have("freezer"), reason="no freezer control group can be made here")


def groups_left() -> list[Path]:
    return [path for place in places().values() for path in place.folder.glob("local-lambda-*")]


def groups_of(pid: int) -> list[str]:
    return [row for row in Path(f"/proc/{pid}/cgroup").read_text().splitlines() if "local-lambda-" in row]


@needs_memory
@pytest.mark.parametrize("error_type", ["Runtime.ExitError", "Runtime.OutOfMemory"])
async def test_a_handler_out_of_memory_is_killed_and_the_environment_reset(tmp_path: Path, error_type: Any) -> None:
    probe = Probe(tmp_path, types=[])
    platform = Platform(oom_error_type=error_type)
    async with local_lambda(probe, memory_mb=128, platform=platform) as env:
        assert env.limits is not None
        assert env.limits.memory.startswith("cgroup v")
        fits = await env.invoke({"allocate_mb": 20})
        result = await env.invoke({"allocate_mb": 400})
        report = await env.report(result.request_id)
        again = await env.invoke()
    assert (fits.status, again.status) == ("success", "success")
    assert 20 <= fits.max_memory_mb <= 128
    assert (result.status, result.error_type, result.function_error) == ("error", error_type, "Unhandled")
    words = f"RequestId: {result.request_id} Error: Runtime exited with error: signal: killed"
    assert result.json() == {"errorType": error_type, "errorMessage": words}
    assert report["record"]["errorType"] == error_type
    assert report["record"]["metrics"]["maxMemoryUsedMB"] == 128
    assert [note.get("shutdownReason") for note in probe.notes("event")][2] == "failure"


@needs_memory
async def test_the_limit_can_be_off_and_then_nothing_is_killed() -> None:
    async with local_lambda(memory_mb=128, platform=Platform(memory_limit="off")) as env:
        assert env.limits is not None
        assert env.limits.memory == "not enforced: as set"
        result = await env.invoke({"allocate_mb": 200})
    assert result.status == "success"
    assert result.max_memory_mb > 200


@needs_cpu
async def test_a_quota_slows_a_busy_handler_but_not_its_init() -> None:
    """128 MB are 128/1769 of a processor: a tenth of a second of work takes over one; an init has two processors."""

    async def busy(env: LocalLambda) -> float:
        began = time.monotonic()
        await env.invoke({"busy": 0.1})
        return time.monotonic() - began

    async with local_lambda(memory_mb=128, platform=Platform(cpu_quota="cgroup")) as env:
        slow = await busy(env)
        assert env.init_outcome is not None
        init_s = env.init_outcome.duration_ms / 1000
    async with local_lambda(memory_mb=1769, platform=Platform(cpu_quota="cgroup")) as env:
        quick = await busy(env)
    assert slow > 0.7
    assert slow > 2 * quick
    assert init_s < 2, "some tenths of a second of work"


@needs_freezer
async def test_the_freezer_also_stops_what_left_its_session(tmp_path: Path) -> None:
    probe = Probe(tmp_path, types=[], subscribed=[{"child": "exec setsid sleep 60"}])
    async with local_lambda(probe, platform=Platform(freeze_with="cgroup")) as env:
        pids = [*env.pids.values(), probe.notes("child")[0]["child"]]
        await eventually(lambda: [state_of(pid) for pid in pids] == ["T"] * 3)
        assert all(groups_of(pid) for pid in pids)
        assert (await env.invoke()).status == "success"
        await eventually(lambda: [state_of(pid) for pid in pids] == ["T"] * 3)
    await eventually(lambda: [state_of(pid) for pid in pids] == [None] * 3)


async def test_signals_can_be_asked_for() -> None:
    async with local_lambda(platform=Platform(freeze_with="signal")) as env:
        pid = env.pids["runtime"]
        assert state_of(pid) == "T"
        assert groups_of(pid) == [row for row in groups_of(pid) if "memory" in row], "no group of a freezer"
        assert env.limits is not None
        assert env.limits.freeze == "signals: as set"
        assert (await env.invoke()).status == "success"


async def test_groups_are_removed_at_every_ending(tmp_path: Path) -> None:
    async def fail() -> None:
        async with local_lambda(Probe(tmp_path, types=[])) as env:
            mine.extend(group.path for group in env._limits.groups)  # type: ignore[union-attr]
            raise ZeroDivisionError

    mine: list[Path] = []
    with pytest.raises(ZeroDivisionError):
        await fail()
    async with local_lambda(Probe(tmp_path, types=[])) as env:
        mine.extend(group.path for group in env._limits.groups)  # type: ignore[union-attr]
        await env.invoke()
    assert not set(mine) & set(groups_left())
    assert not any(path.exists() for path in mine)


def test_what_cannot_be_had_is_said(tmp_path: Path) -> None:
    nowhere = {"memory": Place(tmp_path / "nowhere", 1)}
    function = local_lambda(code=FUNCTIONS).function
    enforced = Limits(function, Platform(), nowhere).enforced  # type: ignore[arg-type]
    assert enforced.memory.startswith(f"not enforced: no control group can be made in {tmp_path / 'nowhere'}: ")
    assert enforced.freeze == "signals: no freezer controller is mounted"
    assert enforced.cpu == "not enforced: as set"
    assert Limits(function, Platform(freeze=False), {}).enforced.freeze == "never frozen"
    with pytest.raises(LimitsUnavailable, match="no freezer controller is mounted"):
        Limits(function, Platform(freeze_with="cgroup"), {})


def test_places_are_read_from_what_the_kernel_says(tmp_path: Path) -> None:
    (tmp_path / "cgroup").write_text("4:memory:/outer/mine\n1:cpu,cpuacct:/\n2:freezer:/\n0::/slice/scope\n")
    (tmp_path / "mountinfo").write_text(
        "30 1 0:1 /outer /cg/memory rw shared:1 - cgroup cgroup rw,memory\n"
        "31 1 0:2 / /cg/cpu rw - cgroup cgroup rw,cpu,cpuacct\n"
        "33 1 0:4 / /cg/freezer rw - cgroup cgroup rw,freezer\n"
        "32 1 0:3 / /cg/unified rw - cgroup2 cgroup2 rw\n"
    )
    assert places(tmp_path) == {
        "memory": Place(Path("/cg/memory/mine"), 1),
        "cpu": Place(Path("/cg/cpu"), 1),
        "freezer": Place(Path("/cg/unified/slice/scope"), 2),
    }
    assert places(tmp_path / "nowhere") == {}


async def test_limits_hold_for_children_too(tmp_path: Path) -> None:
    probe = Probe(tmp_path, types=[], at_start=[{"child": "sleep 60"}])
    async with local_lambda(probe) as env:
        child = probe.notes("child")[0]["child"]
        assert groups_of(child) == groups_of(env.pids["probe"])
