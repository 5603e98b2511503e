"""The limits that the system enforces on one environment: memory, processor time, freezing.

Only control groups limit memory here: RLIMIT_AS limits addresses, not memory, and would break programs that run on
Lambda. Source of the figures: AWS docs "Configure Lambda function memory" (one vCPU at 1,769 MB).
"""

from collections.abc import Iterable, Mapping
from typing import Literal

from local_lambda.errors import LimitsUnavailable
from local_lambda.machine.cgroups import Controller, Group, Place, places
from local_lambda.machine.processes import Process
from local_lambda.results import Enforced
from local_lambda.settings import Function, Platform

_MB_PER_VCPU = 1769
_INIT_VCPUS = 2.0
_Wish = Literal["auto", "cgroup", "off", "signal"]


class Limits:
    """The control groups of one environment, where they are wanted and possible. Raises LimitsUnavailable."""

    def __init__(self, function: Function, platform: Platform, where: Mapping[Controller, Place] | None = None) -> None:
        self._where = places() if where is None else where
        self._groups: dict[Controller, Group] = {}
        self._vcpus = function.memory_mb / _MB_PER_VCPU
        self._oom_kills_seen = 0
        freezes = platform.freeze and not function.is_managed
        try:
            self.enforced = Enforced(
                memory=self._take("memory", platform.memory_limit, "not enforced"),
                cpu=self._take("cpu", platform.cpu_quota, "not enforced"),
                freeze=self._take("freezer", platform.freeze_with, "signals") if freezes else "never frozen",
            )
            if memory := self._groups.get("memory"):
                memory.limit_memory(function.memory_mb * 1024 * 1024)
        except BaseException:
            self.remove()
            raise

    def _take(self, controller: Controller, wish: _Wish, otherwise: str) -> str:
        if wish in ("off", "signal"):
            return f"{otherwise}: as set"
        place = self._where.get(controller)
        reason = f"no {controller} controller is mounted"
        if place is not None and place.version == 1 and (controller, wish) == ("freezer", "auto"):
            reason = "in version 1 of control groups a frozen process cannot even be killed"
        elif place is not None:
            try:
                self._groups[controller] = group = Group(controller, place)
            except OSError as error:
                reason = f"no control group can be made in {place.folder}: {error.strerror or error}"
            else:
                return f"cgroup v{group.version}"
        if wish == "cgroup":
            raise LimitsUnavailable(f"The {controller} control group that was asked for is not to be had: {reason}.")
        return f"{otherwise}: {reason}"

    @property
    def groups(self) -> list[Group]:
        return list(self._groups.values())

    def admit(self, process: Process) -> None:
        """Put a newly started process under the limits."""
        for group in self.groups:
            group.add(process.pid)

    def init_begins(self) -> None:
        """Set the CPU quota of an init: at least two processors, whatever the memory."""
        if cpu := self._groups.get("cpu"):
            cpu.limit_cpu(max(_INIT_VCPUS, self._vcpus))

    def init_ends(self) -> None:
        """Set the CPU quota that belongs to the function's memory."""
        if cpu := self._groups.get("cpu"):
            cpu.limit_cpu(self._vcpus)

    def freeze(self, processes: Iterable[Process]) -> None:
        """Stop all processes; return when they stand still."""
        freezer = self._groups.get("freezer")
        for process in processes:
            process.measure()
            if freezer is None:
                process.freeze()
        if freezer is not None:
            freezer.freeze()

    def thaw(self, processes: Iterable[Process]) -> None:
        freezer = self._groups.get("freezer")
        if freezer is not None:
            freezer.thaw()
            return
        for process in processes:
            process.thaw()

    def memory_mb(self, processes: Iterable[Process]) -> int:
        """Return the peak memory in MB: the sum of the processes' peaks, or the group's peak if that is higher.

        A group is not charged for pages that another process loaded first, such as a Python interpreter that also runs
        elsewhere. On Lambda an environment shares pages with nobody.
        """
        apart = sum(process.measure() for process in processes) * 1024
        memory = self._groups.get("memory")
        return round(max(apart, memory.peak_bytes() if memory is not None else 0) / 1024 / 1024)

    def was_out_of_memory(self) -> bool:
        """Whether a process was killed for lack of memory since the last call."""
        memory = self._groups.get("memory")
        kills = memory.oom_kills() if memory is not None else 0
        seen, self._oom_kills_seen = self._oom_kills_seen, kills
        return kills > seen

    def kill_strays(self) -> None:
        """Kill processes in the groups that a signal to their process group did not reach."""
        self.thaw([])
        for group in self.groups:
            group.kill()

    def remove(self) -> None:
        """Kill what is still in the groups, and remove the groups."""
        self.kill_strays()
        for group in self.groups:
            group.remove()
        self._groups.clear()
