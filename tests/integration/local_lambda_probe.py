"""What the tests of the local Lambda share: the scripted extension, and a reader of what it noted."""

import asyncio
import json
import shutil
import socket
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from local_lambda import Function, LocalLambda, Platform
from local_lambda.machine.cgroups import places
from tests.sharing import sharing

HERE = Path(__file__).parent
PROBE = HERE / "extensions" / "probe"
FUNCTIONS = HERE / "functions"
Noted = dict[str, Any]


class Probe:
    """One scripted extension under a name of its own, and its notes."""

    def __init__(self, folder: Path, name: str = "probe", **script: Any) -> None:
        self.name = name
        self.path = folder / name
        shutil.copy(PROBE, self.path)
        self.log = folder / f"{name}.jsonl"
        self.script = {"log": str(self.log), **script}

    @property
    def variable(self) -> tuple[str, str]:
        """What tells the probe its script; a long one is left in a file, since Lambda allows 4 KB in all."""
        script = json.dumps(self.script)
        if len(script) > 2048:
            file = self.log.with_suffix(".script")
            file.write_text(script)
            script = f"@{file}"
        return "PROBE_" + self.name.replace("-", "_").replace(".", "_"), script

    def notes(self, what: str) -> list[Noted]:
        if not self.log.exists():
            return []
        # What stands behind the last line end is still being written.
        lines = self.log.read_text().rpartition("\n")[0].splitlines()
        return [note for note in map(json.loads, lines) if note["what"] == what]

    def batches(self) -> list[list[Noted]]:
        return [note["records"] for note in self.notes("batch")]

    def records(self) -> list[Noted]:
        """What it was sent and acknowledged."""
        accepted = [note for note in self.notes("batch") if note["status"] < 300]
        return [record for note in accepted for record in note["records"]]

    def types(self) -> list[str]:
        return [record["type"] for record in self.records()]

    def calls(self, call: str) -> list[Noted]:
        return [note for note in self.notes("call") if note["call"] == call]


def local_lambda(
    *probes: Probe,
    platform: Platform | None = None,
    opt: Path | None = None,
    layers: Sequence[Path] = (),
    **function: Any,
) -> LocalLambda:
    """Return a local Lambda of the sample function with these extensions."""
    environment = {**function.pop("environment", {}), **dict(probe.variable for probe in probes)}
    described = Function(**{"code": FUNCTIONS, "environment": environment, "timeout_s": 10.0, **function})
    return LocalLambda(described, [probe.path for probe in probes], platform=sharing(platform), opt=opt, layers=layers)


def free_port() -> int:
    """Return a port that is free on all addresses now."""
    with socket.socket() as probe:
        probe.bind(("0.0.0.0", 0))
        return int(probe.getsockname()[1])


def state_of(pid: int) -> str | None:
    """Return the state letter of a process; None when there is none, or only what is left of it.

    "T" is stopped, by a signal or in a frozen control group.
    """
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        groups = Path(f"/proc/{pid}/cgroup").read_text()
    except OSError:
        return None
    if state == "Z":
        return None
    return "T" if any(map(is_frozen, groups.splitlines())) else state


def is_frozen(row: str) -> bool:
    """Whether a row of /proc/PID/cgroup names a frozen control group of a local Lambda, of either version."""
    name = row.rpartition("/")[2]
    place = places().get("freezer")
    if not name.startswith("local-lambda-") or place is None:
        return False
    told = {"freezer.state": "FROZEN", "cgroup.events": "frozen 1"}
    paths = [(place.folder / name / file, word) for file, word in told.items()]
    return any(word in path.read_text() for path, word in paths if path.exists())


async def eventually(condition: Callable[[], bool], *, timeout_s: float = 3.0) -> None:
    """Wait for something outside the local Lambda that nobody announces, such as a process's state."""
    give_up_at = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < give_up_at, "it never came to be"
        await asyncio.sleep(0.005)
