"""Control groups of one environment: a memory limit, a CPU quota, a freezer.

They are used where the system allows it; otherwise OSError is raised and the caller reports it. Groups are created
below this process's own group, so its limits also hold for what it starts. Version 1 has one hierarchy per controller,
version 2 one for all.
Source: the kernel's admin guide, cgroup-v1 and cgroup-v2.
"""

import os
import signal
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from local_lambda.machine.reaper import reaper

Controller = Literal["memory", "cpu", "freezer"]

_CONTROLLERS: tuple[Controller, ...] = ("memory", "cpu", "freezer")
_PERIOD_US = 100_000
_FREEZE_LIMIT_S = 0.05
_REMOVE_LIMIT_S = 1.0


@dataclass(frozen=True, slots=True)
class Place:
    """A directory in which groups of one controller can be created."""

    folder: Path
    version: int


def places(proc: Path = Path("/proc/self")) -> Mapping[Controller, Place]:
    """Return the directory of each mounted controller, read from this process's entries in /proc.

    If both versions are mounted, version 1 is taken, as a controller belongs to only one of them. The freezer is the
    exception: every group of version 2 has one, and it is the better one.
    """
    try:
        own = [row.split(":", 2) for row in (proc / "cgroup").read_text().splitlines()]
        mounts = [row.split(" ") for row in (proc / "mountinfo").read_text().splitlines()]
    except OSError:
        return {}
    found: dict[Controller, Place] = {}
    for _, names, path in own:
        for mount in mounts:
            kind, options = mount[mount.index("-") + 1], mount[-1].split(",")
            root, point = mount[3], Path(mount[4])
            below = path.removeprefix(root if root != "/" else "").lstrip("/")
            if not names and kind == "cgroup2":
                found |= {
                    name: Place(point / below, 2) for name in _CONTROLLERS if name not in found or name == "freezer"
                }
            elif kind == "cgroup" and names:
                mine = [name for name in _CONTROLLERS if name in names.split(",") and name in options]
                found |= {name: Place(point / below, 1) for name in mine if name not in found or name != "freezer"}
    return found


class Group:
    """The group of one environment under one controller. Raises OSError if the system does not let it be created."""

    def __init__(self, controller: Controller, place: Place) -> None:
        self.version = place.version
        if self.version == 2 and controller != "freezer":
            _delegate(place.folder, controller)
        self.path = place.folder / f"local-lambda-{uuid.uuid4().hex[:12]}"
        self.path.mkdir()
        reaper.add("cgroup", str(self.path))

    def add(self, pid: int) -> None:
        """Move a process and its current children into the group."""
        try:
            self._write("cgroup.procs", str(pid))
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        except OSError:
            return  # it ended already, or the kernel does not list children
        for child in children:
            self.add(int(child))

    def limit_memory(self, limit_bytes: int) -> None:
        """Limit the memory of all processes together, swap included; beyond it the kernel kills a process."""
        if self.version == 2:
            self._write("memory.max", str(limit_bytes))
            self._write_if_there("memory.swap.max", "0")
        else:
            self._write("memory.limit_in_bytes", str(limit_bytes))
            self._write_if_there("memory.memsw.limit_in_bytes", str(limit_bytes))

    def limit_cpu(self, vcpus: float) -> None:
        """Limit all processes together to `vcpus` processors, and give them priority over the rest of this machine."""
        quota = max(1000, round(vcpus * _PERIOD_US))
        if self.version == 2:
            self._write("cpu.max", f"{quota} {_PERIOD_US}")
            self._write_if_there("cpu.weight", "800")
        else:
            self._write_if_there("cpu.shares", "8192")
            self._write("cpu.cfs_period_us", str(_PERIOD_US))
            self._write("cpu.cfs_quota_us", str(quota))

    def freeze(self) -> None:
        """Stop every process; return when all of them stand still."""
        self._set_frozen(True)
        give_up_at = time.monotonic() + _FREEZE_LIMIT_S
        while not self.is_frozen() and time.monotonic() < give_up_at:
            time.sleep(0.0001)

    def thaw(self) -> None:
        self._set_frozen(False)

    def is_frozen(self) -> bool:
        if self.version == 2:
            return self._number("cgroup.events", "frozen") == 1
        return (self.path / "freezer.state").read_text().strip() == "FROZEN"

    def _set_frozen(self, frozen: bool) -> None:
        if self.version == 2:
            self._write("cgroup.freeze", "1" if frozen else "0")
        else:
            self._write("freezer.state", "FROZEN" if frozen else "THAWED")

    def peak_bytes(self) -> int:
        """Return the peak memory in use, file cache included; 0 if the kernel does not report it."""
        name = "memory.peak" if self.version == 2 else "memory.max_usage_in_bytes"
        try:
            return int((self.path / name).read_text())
        except OSError:
            return 0  # older kernels with version 2 have no memory.peak

    def oom_kills(self) -> int:
        """Return how many processes the kernel killed for lack of memory."""
        return self._number("memory.events" if self.version == 2 else "memory.oom_control", "oom_kill")

    def kill(self) -> None:
        """Kill every process in the group, including one that left its original session."""
        for pid in (self.path / "cgroup.procs").read_text().split():
            try:
                os.kill(int(pid), signal.SIGKILL)
            except ProcessLookupError:
                continue  # it ended in between

    def remove(self) -> None:
        """Remove the group. Its processes have ended, but the kernel may need a moment to notice."""
        give_up_at = time.monotonic() + _REMOVE_LIMIT_S
        while self.path.exists():
            try:
                self.path.rmdir()
            except OSError:
                if time.monotonic() > give_up_at:
                    return  # the reaper tries again when this process ends
                time.sleep(0.002)
        reaper.remove("cgroup", str(self.path))

    def _number(self, name: str, key: str) -> int:
        rows = (row.split() for row in (self.path / name).read_text().splitlines())
        return next((int(row[1]) for row in rows if row[:1] == [key]), 0)

    def _write(self, name: str, value: str) -> None:
        (self.path / name).write_text(value)

    def _write_if_there(self, name: str, value: str) -> None:
        if (self.path / name).exists():
            self._write(name, value)


def _delegate(folder: Path, controller: Controller) -> None:
    """Enable `controller` for groups below `folder`. Version 2 refuses that while `folder` itself holds processes."""
    if controller not in (folder / "cgroup.subtree_control").read_text().split():
        descriptor = os.open(folder / "cgroup.subtree_control", os.O_WRONLY)
        try:
            os.write(descriptor, f"+{controller}".encode())
        finally:
            os.close(descriptor)
