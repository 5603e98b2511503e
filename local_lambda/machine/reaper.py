"""What must not outlive this process, told to a second one that cleans up when this one dies, however it dies.

The second process reads a pipe and acts at its end, so that even SIGKILL of this one leaves no process, stopped or not,
no control group and no private directory. A process that is started in the very moment of the kill, between its fork
and the telling, is the one that it cannot know of.
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
    """One for this Python process; it starts the second with the first thing that it is told, and ends it at exit."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def add(self, kind: Kind, name: str) -> None:
        """Have `name` (a process group's id, or a path) cleaned up should this process die."""
        self._write("+", kind, name)

    def remove(self, kind: Kind, name: str) -> None:
        """Say that `name` is gone."""
        self._write("-", kind, name)

    def _write(self, sign: str, kind: Kind, name: str) -> None:
        with self._lock:
            if self._process is None or self._process.poll() is not None:
                self._process = self._start()
            if self._process.stdin is not None:
                self._process.stdin.write(f"{sign} {kind} {name}\n".encode())

    def _start(self) -> subprocess.Popen[bytes]:
        atexit.register(self._end)
        # A session of its own: a Ctrl-C in the terminal is for this process, which then says what is left.
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
