"""The operating system processes of an environment, and their output as messages in the order of each stream.

Each process leads its own session, so that a signal also reaches its children.
"""

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

from local_lambda.machine.framing import Frames, Lines, Message, Splitter
from local_lambda.machine.reaper import reaper
from local_lambda.machine.rooms import Room

OnMessage = Callable[[bytes, float | None], None]
_OnExit = Callable[["Process", int], None]

_CHUNK = 64 * 1024
_LOG_FD = 3  # the descriptor for framed messages in a room; outside of one it has the number that it has here
_STOP_LIMIT_S = 0.05  # a process in an uninterruptible call (a slow disk) stops when the call returns


class _Pipe:
    """One pipe from a process. `drain` reads all available bytes without the event loop.

    Output that a process wrote before it called an API is therefore handled before the effects of the call.
    """

    def __init__(self, splitter: Splitter, on_message: OnMessage) -> None:
        self._read_fd, self.write_fd = os.pipe()
        os.set_blocking(self._read_fd, False)
        self._splitter = splitter
        self._on_message = on_message
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._read_fd, self._read)
        self._is_open = True

    def close_write_end(self) -> None:
        """Close this process's write end; only the child writes."""
        os.close(self.write_fd)

    def drain(self) -> None:
        while self._is_open and self._read():
            pass

    def close(self) -> None:
        """Read the rest, including an unfinished line, and close the pipe."""
        self.drain()
        if self._is_open:
            self._end()

    def _read(self) -> bool:
        try:
            data = os.read(self._read_fd, _CHUNK)
        except BlockingIOError:
            return False
        if not data:
            self._end()
            return False
        self._emit(self._splitter.feed(data))
        return True

    def _end(self) -> None:
        self._is_open = False
        self._loop.remove_reader(self._read_fd)
        os.close(self._read_fd)
        self._emit(self._splitter.close())

    def _emit(self, messages: Sequence[Message]) -> None:
        for text, at in messages:
            self._on_message(text, at)


class Process:
    """One running program. When it ends, the rest of its process group is killed and its output is read to the end.

    `ended` gives its exit code, or the negative number of the signal that killed it.
    """

    def __init__(self, name: str, pid: int, ended: Awaitable[int], pipes: Sequence[_Pipe]) -> None:
        self.name = name
        self.pid = pid
        self.exit_code: int | None = None
        self.ended_at: float | None = None  # monotonic
        self.killed = False
        self.peak_kb = 0
        self._ended = ended
        self._pipes = pipes
        reaper.add("process", str(self.pid))

    @property
    def is_running(self) -> bool:
        return self.exit_code is None

    async def wait(self, on_exit: _OnExit) -> None:
        """Wait for the end of the process and call `on_exit` once."""
        code = await self._ended
        for pipe in self._pipes:
            pipe.close()
        reaper.remove("process", str(self.pid))
        self.exit_code = code
        self.ended_at = time.monotonic()
        on_exit(self, code)

    def drain(self) -> None:
        """Handle all output written so far."""
        for pipe in self._pipes:
            pipe.drain()

    def freeze(self) -> None:
        """Stop the process group; return when its leader has stopped, since the signal itself is asynchronous."""
        self.measure()
        if not self.is_running:
            return
        self._signal(signal.SIGSTOP)
        give_up_at = time.monotonic() + _STOP_LIMIT_S
        while not self._has_stopped() and time.monotonic() < give_up_at:
            time.sleep(0.0001)

    def _has_stopped(self) -> bool:
        """Whether the leader has stopped or ended. The status is not consumed: `wait` needs it."""
        try:
            return os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None
        except ChildProcessError:  # a process in a room is its keeper's child
            return _state(self.pid) in "TtZX"

    def thaw(self) -> None:
        if self.is_running:
            self._signal(signal.SIGCONT)

    def terminate(self) -> None:
        if self.is_running:
            self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """Kill the process group; this also works on stopped processes."""
        if self.is_running:
            self.killed = True
            self._signal(signal.SIGKILL)

    def measure(self) -> int:
        """Return the peak memory of the process in KiB; 0 if the system does not report it."""
        try:
            status = Path(f"/proc/{self.pid}/status").read_text()
        except OSError:
            return self.peak_kb
        for row in status.splitlines():
            if row.startswith("VmHWM:"):
                self.peak_kb = max(self.peak_kb, int(row.split()[1]))
        return self.peak_kb

    def _signal(self, number: signal.Signals) -> None:
        _signal_group(self.pid, number)


def _signal_group(pid: int, number: signal.Signals) -> None:
    try:
        os.killpg(pid, number)
    except (ProcessLookupError, PermissionError):
        # The group is empty. macOS raises EPERM when only zombies are left.
        return


def _state(pid: int) -> str:
    """Return the letter of a process's state; X if it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "X"


class Launcher:
    """Starts processes, in `room` if there is one, and connects their output."""

    def __init__(self, *, max_line_bytes: int) -> None:
        self.room: Room | None = None
        self._max_line_bytes = max_line_bytes

    async def start(
        self,
        name: str,
        argv: Sequence[str],
        *,
        cwd: Path,
        variables: Callable[[int | None], Mapping[str, str]],
        on_message: OnMessage,
        framed: bool = False,
    ) -> Process:
        """Start a program and return its process. Raises OSError if it cannot be executed.

        `variables` returns its environment; it is called with the file descriptor for framed messages, or None without
        one.
        """
        pipes = [_Pipe(Lines(self._max_line_bytes), on_message) for _ in range(2)]
        if framed:
            pipes.append(_Pipe(Frames(), on_message))
        try:
            pid, ended = await self._spawn(argv, cwd, variables, [pipe.write_fd for pipe in pipes])
        except BaseException:
            for pipe in pipes:
                pipe.close_write_end()
                pipe.close()
            raise
        for pipe in pipes:
            pipe.close_write_end()
        return Process(name, pid, ended, pipes)

    async def _spawn(
        self, argv: Sequence[str], cwd: Path, variables: Callable[[int | None], Mapping[str, str]], fds: Sequence[int]
    ) -> tuple[int, Awaitable[int]]:
        """Start a program; its output goes to `fds`: standard output, standard error, framed messages if a third."""
        if self.room is not None:
            log_fd = _LOG_FD if len(fds) > 2 else None
            return await self.room.start(argv, cwd=cwd, variables=variables(log_fd), fds=fds, log_fd=_LOG_FD)
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=fds[0],
            stderr=fds[1],
            pass_fds=fds[2:],
            cwd=cwd,
            env=dict(variables(fds[2] if len(fds) > 2 else None)),
            start_new_session=True,
        )
        return process.pid, _end_of(process)


async def _end_of(process: asyncio.subprocess.Process) -> int:
    code = await process.wait()
    _signal_group(process.pid, signal.SIGKILL)  # kills children that outlived their leader
    return code
