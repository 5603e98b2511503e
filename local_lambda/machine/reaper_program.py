"""The program of the reaper process: read registrations from standard input; when it ends, clean up what is left.

It is a script of its own, uses only the standard library, and is started with -I -S.
"""

import os
import shutil
import signal
import sys
import time
from collections.abc import Callable

_LIMIT_S = 3.0


def main() -> None:
    left: dict[tuple[str, str], None] = {}
    for row in sys.stdin:
        sign, kind, name = row.rstrip("\n").split(" ", 2)
        if sign == "+":
            left[kind, name] = None
        else:
            left.pop((kind, name), None)
    groups = [name for kind, name in left if kind == "cgroup"]
    for group in groups:
        thaw(group)  # in version 1 a frozen process dies only after it is thawed
    for kind, name in left:
        if kind == "process":
            kill(os.killpg, int(name))
    for group in groups:
        end(group)
    for kind, name in left:
        if kind == "tree":
            shutil.rmtree(name, ignore_errors=True)


def thaw(group: str) -> None:
    for name, value in (("freezer.state", "THAWED"), ("cgroup.freeze", "0")):
        path = os.path.join(group, name)
        if os.path.exists(path):
            with open(path, "w") as file:
                file.write(value)


def end(group: str) -> None:
    """Kill every process in a group and remove the group."""
    give_up_at = time.monotonic() + _LIMIT_S
    while os.path.exists(group) and time.monotonic() < give_up_at:
        with open(os.path.join(group, "cgroup.procs")) as file:
            for row in file:
                kill(os.kill, int(row))
        try:
            os.rmdir(group)
        except OSError:
            time.sleep(0.01)


def kill(send: Callable[[int, int], None], pid: int) -> None:
    try:
        send(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return  # it has ended already


if __name__ == "__main__":
    main()
