"""What an invocation uses of the machine: CPU time, network, file descriptors, threads and /tmp, read from /proc.

In Lambda the machine is the environment, so its counters are those of the function, its runtime and its extensions.
Two samples of the counters, at the begin and at the end of an invocation, take about 0.1 ms together.
Source: proc(5), read 2026-11-28.
"""

import os
from collections.abc import Callable

from msgspec import Struct

from telemetry_forwarder.clock import Clock
from telemetry_forwarder.signals.points import MetricKind, Point

_GAUGE, _DISTRIBUTION = MetricKind.GAUGE, MetricKind.DISTRIBUTION
# Processes whose descriptors are counted: an environment has a dozen, another machine may have thousands.
_MOST_PROCESSES = 32
# What is in use is looked at once in so many seconds: it costs more than the counters, and changes slowly.
_STATE_EVERY_S = 10.0
# The first line of `stat` is read, and all of `net/dev`, of which little is usual: a large buffer takes longer.
_FIRST_LINE_BYTES, _USUAL_BYTES, _MOST_BYTES = 512, 4_096, 65_536


class _Sample(Struct):
    """Counters since the machine's start: user and system CPU time in ms, received and sent bytes."""

    user_ms: float | None = None
    system_ms: float | None = None
    received: int | None = None
    sent: int | None = None


class Usage:
    """Samples the machine at the begin and at the end of an invocation. What cannot be read is left out, said once."""

    def __init__(
        self,
        say: Callable[[str], None],
        clock: Clock,
        proc: str = "/proc",
        tmp: str = "/tmp",  # noqa: S108 - what functions write to
    ) -> None:
        self._say = say
        self._clock = clock
        self._state_at: float | None = None  # when the state was looked at, on the monotonic clock
        self._proc = proc
        self._tmp = tmp
        self._begin: _Sample | None = None
        self._files: dict[str, int] = {}  # open files of counters, by name
        self._has_said = False
        self._tick_ms = 1000 / os.sysconf("SC_CLK_TCK")

    def begin(self) -> None:
        self._begin = self._sample()

    def end(self) -> list[Point]:
        """Return what was used since the last `begin`, and at times the state; nothing if there was no `begin`."""
        before, self._begin = self._begin, None
        if before is None:
            return []
        now = self._sample()
        points = [
            *_used("cpu_user_time", before.user_ms, now.user_ms, "ms"),
            *_used("cpu_system_time", before.system_ms, now.system_ms, "ms"),
            *_used("rx_bytes", before.received, now.received, "By"),
            *_used("tx_bytes", before.sent, now.sent, "By"),
        ]
        now_s = self._clock.monotonic()
        if self._state_at is not None and now_s < self._state_at + _STATE_EVERY_S:
            return points
        self._state_at = now_s
        return [*points, *self._state()]

    def _sample(self) -> _Sample:
        found = _Sample()
        try:
            found.user_ms, found.system_ms = self._cpu_ms()
            found.received, found.sent = self._network()
        except (OSError, ValueError, IndexError) as error:
            self._tell(error)
        return found

    def _cpu_ms(self) -> tuple[float, float]:
        """Return the user and the system time of all processors, from the first line of `stat`."""
        user, nice, system = self._read("stat", _FIRST_LINE_BYTES).split(None, 4)[1:4]
        return (int(user) + int(nice)) * self._tick_ms, int(system) * self._tick_ms

    def _network(self) -> tuple[int, int]:
        """Return the bytes received and sent by all interfaces but the loopback, from `net/dev`."""
        received = sent = 0
        found = self._read("net/dev", _USUAL_BYTES)
        if len(found) == _USUAL_BYTES:
            found = self._read("net/dev", _MOST_BYTES)
        for line in found.splitlines()[2:]:
            name, _, counters = line.partition(b":")
            if name.strip() != b"lo":
                columns = counters.split()
                received += int(columns[0])
                sent += int(columns[8])
        return received, sent

    def _state(self) -> list[Point]:
        """Return how much of /tmp, and how many descriptors and threads, are in use."""
        found = []
        try:
            disk = os.statvfs(self._tmp)
            found.append(Point("lambda.tmp_used", (disk.f_blocks - disk.f_bfree) * disk.f_frsize, "By", _GAUGE))
            found.append(Point("lambda.tmp_max", disk.f_blocks * disk.f_frsize, "By", _GAUGE))
            descriptors, threads = self._count()
            found.append(Point("lambda.fd_use", descriptors, "{fd}", _GAUGE))
            found.append(Point("lambda.threads_use", threads, "{thread}", _GAUGE))
        except OSError as error:
            self._tell(error)
        return found

    def _count(self) -> tuple[int, int]:
        """Return the number of open descriptors and of threads of all processes that may be read."""
        descriptors = threads = 0
        for name in [name for name in os.listdir(self._proc) if name.isdigit()][:_MOST_PROCESSES]:
            try:
                threads += len(os.listdir(f"{self._proc}/{name}/task"))
                descriptors += len(os.listdir(f"{self._proc}/{name}/fd"))
            except OSError:
                continue  # it has ended meanwhile, or belongs to somebody else
        return descriptors, threads

    def _read(self, name: str, most_bytes: int) -> bytes:
        """Return the begin of a file of counters. It stays open: opening it costs more than reading it."""
        if (file := self._files.get(name)) is None:
            file = self._files[name] = os.open(f"{self._proc}/{name}", os.O_RDONLY | os.O_CLOEXEC)
        return os.pread(file, most_bytes, 0)

    def _tell(self, error: Exception) -> None:
        if not self._has_said:
            self._has_said = True
            self._say(f"Some metrics of the machine are left out: {type(error).__name__} when {self._proc} was read.")


def _used(name: str, before: float | None, now: float | None, unit: str) -> list[Point]:
    if before is None or now is None or now < before:
        return []
    return [Point(f"lambda.{name}", now - before, unit, _DISTRIBUTION)]
