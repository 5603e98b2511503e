"""Idle means idle: between invocations nothing of the extension runs, not even where nobody freezes it."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from local_lambda import Platform
from tests.integration.world import EXTENSION, world


def switches(pid: int) -> int:
    """Return how often the threads of a process have been given the processor: one that sleeps never is."""
    total = 0
    for status in Path(f"/proc/{pid}/task").glob("*/status"):
        for line in status.read_text().splitlines():
            if line.partition(":")[0] in ("voluntary_ctxt_switches", "nonvoluntary_ctxt_switches"):
                total += int(line.split()[1])
    return total


def extension_of(port: str) -> int:
    """Return the process that has the extension's settings and is named after it."""
    mark = f"TELEMETRY_FORWARDER_PORT={port}".encode()
    for path in Path("/proc").glob("[0-9]*"):
        try:
            environ, command = (path / "environ").read_bytes(), (path / "cmdline").read_bytes()
        except OSError:
            continue
        if mark in environ.split(b"\0") and command.rstrip(b"\0").endswith(EXTENSION.name.encode()):
            return int(path.name)
    raise AssertionError("no such process")


# The numbers of `epoll_wait` and `epoll_pwait`. Source: Linux, arch/x86/entry/syscalls/syscall_64.tbl, and
# include/uapi/asm-generic/unistd.h for arm64.
EPOLL = {"232", "281"} if os.uname().machine == "x86_64" else {"22"}


def sleeps_for_ever(pid: int) -> bool:
    """Return whether a process waits for events without a time limit: no timer is set, however late it would fire.

    Source: proc(5), /proc/pid/syscall: the number of the system call, then its arguments; the fourth is the limit.
    """
    number, *arguments = Path(f"/proc/{pid}/syscall").read_text().split()
    return number in EPOLL and int(arguments[3], 16) & 0xFFFFFFFF == 0xFFFFFFFF


async def until(holds: Callable[[], bool], pause_s: float) -> None:
    """Wait until `holds()`, asking every `pause_s` seconds, 30 s at most."""
    async with asyncio.timeout(30):
        for _ in range(1000):
            if holds():
                return
            await asyncio.sleep(pause_s)


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="counts as Linux does")
@pytest.mark.parametrize("flush", ["end", "continuous", "adaptive"])
async def test_nothing_runs_while_nothing_happens(flush: str) -> None:
    settings = {"TELEMETRY_FORWARDER_FLUSH": flush, "TELEMETRY_FORWARDER_SINKS": "splunk,datadog"}
    async with world(environment={**settings}, platform=Platform(freeze=False)) as w:
        await w.env.invoke({"lines": 5})
        pid = extension_of(w.env.function.environment["TELEMETRY_FORWARDER_PORT"])
        await until(lambda: len(w.numbers("splunk")) == len(w.numbers("datadog")) == 5, 0.1)
        seen = [0]

        def is_quiet() -> bool:
            seen.append(switches(pid))
            return seen[-1] == seen[-2]

        await until(is_quiet, 1.0)  # the last answer is read, the last report sent
        await asyncio.sleep(1.5)
        assert switches(pid) == seen[-1]
        if os.access(f"/proc/{pid}/syscall", os.R_OK):
            assert sleeps_for_ever(pid)
