"""The reaper: a second process that cleans up after this one dies, however it dies.

It is told what must not outlive this process, over a pipe, and acts when the pipe ends. So even SIGKILL leaves no
process, stopped or not, no control group and no private directory. One gap remains: a process that is being started at
the moment of the kill, after its fork and before the reaper is told.
"""

import atexit
import subprocess
import sys
import threading
from pathlib import Path
from typing import Literal

Kind = Literal["process", "cgroup", "tree"]

_PROGRAM = Path(__file__).with_name("reaper_program.py")


class Reaper:
    """The connection to the reaper, one per Python process. The first call starts the reaper; it ends with Python."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def add(self, kind: Kind, name: str) -> None:
        """Register `name` (a process group's id, or a path) for clean-up if this process dies."""
        self._write("+", kind, name)

    def remove(self, kind: Kind, name: str) -> None:
        """Unregister `name`: it is gone."""
        self._write("-", kind, name)

    def _write(self, sign: str, kind: Kind, name: str) -> None:
        with self._lock:
            if self._process is None or self._process.poll() is not None:
                self._process = self._start()
            if self._process.stdin is not None:
                self._process.stdin.write(f"{sign} {kind} {name}\n".encode())

    def _start(self) -> subprocess.Popen[bytes]:
        atexit.register(self._end)
        # In its own session: Ctrl-C in the terminal reaches this process only, which then reports what is left.
        return subprocess.Popen(
            [sys.executable, "-I", "-S", str(_PROGRAM)],
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,
        )

    def _end(self) -> None:
        process = self._process
        if process is not None and process.stdin is not None:
            process.stdin.close()
            process.wait(timeout=5)
            self._process = None


reaper = Reaper()
