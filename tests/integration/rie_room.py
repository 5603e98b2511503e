"""Become a program in a room of its own: private mounts and process ids, laid out as a Lambda environment.

    python rie_room.py PLAN COMMAND [ARGUMENT …]

PLAN is JSON: `binds` maps a path in the room to a directory of the machine, `files` a path to the text of an
executable, `kept` lists directories that everyone in the room must be able to reach under their own paths. /opt and
/var are empty but for these. Nothing of this is seen outside; all processes end with this one, and this one with its
parent. PLAN `--try` only sees whether it can be done.

AWS's emulator looks for extensions in /opt/extensions only, and runs Managed Instances under other user ids, to which a
home directory is closed: a directory on the way to a kept one that others may not search is replaced by an empty one.
Needs root (unshare(2) of mounts and process ids).
"""

import ctypes
import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

# From <sched.h>, <sys/mount.h>, <sys/prctl.h>: Python 3.11 has none of them.
CLONE_NEWNS, CLONE_NEWPID = 0x00020000, 0x20000000
MS_BIND, MS_REC, MS_PRIVATE = 0x1000, 0x4000, 0x40000
PR_SET_PDEATHSIG = 1
EMPTIED = (Path("/opt"), Path("/var"))
OTHERS_MAY_SEARCH = 0o001

libc = ctypes.CDLL(None, use_errno=True)


def check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def mount(source: str, target: Path, kind: str | None, flags: int, data: str | None = None) -> None:
    encoded = [None if text is None else text.encode() for text in (source, str(target), kind, data)]
    check(libc.mount(encoded[0], encoded[1], encoded[2], flags, encoded[3]), f"mount {target}")


def closed(path: Path) -> Path | None:
    """Return the topmost directory above `path` (or itself) that has to be replaced, if there is one."""
    for directory in [*reversed(path.parents), path]:
        if directory in EMPTIED or not directory.stat().st_mode & OTHERS_MAY_SEARCH:
            return directory
    return None


def furnish(plan: dict[str, dict[str, str] | list[str]]) -> None:
    """Lay the room out. Directories are held by descriptors, since their paths go out of sight."""
    mount("none", Path("/"), None, MS_REC | MS_PRIVATE)
    kept = {Path(path) for path in plan["kept"]}
    hidden = {path: top for path in kept if (top := closed(path)) is not None}
    binds = {**{path: path for path in hidden}, **{Path(to): Path(origin) for to, origin in plan["binds"].items()}}
    held = {target: os.open(origin, os.O_PATH | os.O_DIRECTORY) for target, origin in binds.items()}
    for directory in {*EMPTIED, *hidden.values()}:
        mount("tmpfs", directory, "tmpfs", 0, "mode=755")
    for target in sorted(held):  # what lies above first
        target.mkdir(parents=True, exist_ok=True)
        mount(f"/proc/self/fd/{held[target]}", target, None, MS_BIND | MS_REC)
        os.close(held[target])
    for path, text in ((Path(to), text) for to, text in plan["files"].items()):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)


def main(plan: str, command: Sequence[str]) -> int:
    os.umask(0o022)
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    check(libc.unshare(CLONE_NEWNS | CLONE_NEWPID), "unshare")
    if plan == "--try":
        mount("none", Path("/"), None, MS_REC | MS_PRIVATE)
        return 0
    child = os.fork()
    if child == 0:  # process 1 of the room: with it everything in there ends
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        furnish(json.loads(plan))
        mount("proc", Path("/proc"), "proc", 0)
        os.chdir("/var/task")
        os.execv(command[0], command)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda sent, _: os.kill(child, sent))
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status) % 256


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
