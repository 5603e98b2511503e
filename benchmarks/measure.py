"""Measures a process from outside: CPU and memory, as the kernel counts them. Linux only."""

import os
import signal
import socket
import statistics
import threading
import time
from collections.abc import Sequence
from pathlib import Path

LONGEST_S = 30.0
MARK = "BENCHMARK_ENVIRONMENT"  # a variable of every process of one local Lambda


def median(figures: Sequence[float]) -> float:
    return statistics.median(figures)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def process_of(mark: str, but_not: str) -> int:
    """Return the id of the one process with `mark` in its environment whose command does not contain `but_not`."""
    found = []
    for path in Path("/proc").iterdir():
        if not path.name.isdigit():
            continue
        try:
            environment, command = (path / "environ").read_bytes(), (path / "cmdline").read_bytes()
        except OSError:  # it has ended, or belongs to another user
            continue
        if f"{MARK}={mark}".encode() in environment.split(b"\0") and but_not.encode() not in command:
            found.append(int(path.name))
    if len(found) != 1:
        raise RuntimeError(f"{len(found)} processes instead of one: {found}")
    return found[0]


def cpu_s(pid: int) -> float:
    """Return the CPU time of all threads so far, in seconds."""
    # The kernel counts nanoseconds per thread, but only hundredths of a second per process.
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        total += int((task / "schedstat").read_text().split()[0])
    return total / 1e9


def memory_mb(pid: int, what: str = "VmRSS") -> float:
    """Return resident memory in MiB: `VmRSS` is the current value, `VmHWM` the peak."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(what + ":"):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"no {what}")


def run_cpu_s(command: Sequence[str], environment: dict[str, str] | None = None) -> tuple[float, float]:
    """Run a command to its end; return its CPU seconds and its wall-clock seconds."""
    null = os.open(os.devnull, os.O_RDWR)
    began = time.perf_counter()
    actions = [(os.POSIX_SPAWN_DUP2, null, 1)]
    pid = os.posix_spawn(command[0], list(command), environment or {"PATH": os.environ["PATH"]}, file_actions=actions)
    watch = threading.Timer(LONGEST_S, os.kill, (pid, signal.SIGKILL))
    watch.start()
    _, status, usage = os.wait4(pid, 0)
    watch.cancel()
    if os.WIFSIGNALED(status):
        raise RuntimeError(f"{command[0]} did not end within {LONGEST_S} s")
    wall = time.perf_counter() - began
    os.close(null)
    return usage.ru_utime + usage.ru_stime, wall
