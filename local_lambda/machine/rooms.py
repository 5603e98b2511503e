"""Rooms: the mount namespaces of environments, each with Lambda's file system, and the processes that run in them.

What is done there is done by `room_program.py`, which this process starts once and talks to over sockets.
"""

import asyncio
import atexit
import contextlib
import functools
import json
import os
import platform
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from local_lambda.machine.addresses import Addresses

_PROGRAM = Path(__file__).with_name("room_program.py")
_PACKET = 64 * 1024
_PROBE_S = 10.0

_Started = tuple[int, asyncio.Future[int]]  # a pid, and what will be its exit code


@dataclass(frozen=True, slots=True, kw_only=True)
class Bind:
    """A file or directory of this machine, and where a room shows it."""

    source: Path
    target: Path
    writable: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a room shows beside the rest of the machine's files, which can only be read.

    `opt`: a directory whose contents are those of /opt. `programs`: what stands in /opt/extensions as well, by name;
    they are links. `hidden`: directories that it shows empty. `names`: other names of programs in /var/lang/bin.
    `address`: where sandbox.localdomain leads. `tmp_mb`: the size of the private /tmp. `own_ports`:
    whether what is bound in the room, at all addresses or at localhost, is kept apart from the rest of the machine.
    """

    address: str
    tmp_mb: int = 512
    own_ports: bool = False
    opt: Path | None = None
    programs: Mapping[str, Path] = field(default_factory=dict)
    binds: Sequence[Bind] = ()
    hidden: Sequence[Path] = ()
    names: Mapping[str, str] = field(default_factory=dict)

    def message(self, root: str) -> bytes:
        return json.dumps(
            {
                "root": root,
                "address": self.address,
                "tmp_mb": self.tmp_mb,
                "own_ports": self.own_ports,
                "opt": None if self.opt is None else str(self.opt.resolve()),
                "links": {name: str(path) for name, path in self.programs.items()},
                "hidden": [str(path) for path in self.hidden],
                "names": dict(self.names),
                "binds": [[str(one.source.resolve()), str(one.target), one.writable] for one in self.binds],
            }
        ).encode()


def _remove(root: str) -> None:
    """Remove the directory at which a room was made. It is empty here: what was mounted on it is the room's alone."""
    with contextlib.suppress(OSError):
        os.rmdir(root)


class _Porter:
    """The connection to the porter, one per Python process. The first room starts it; it ends with Python."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None

    def room(self, plan: Plan) -> tuple[socket.socket, str]:
        """Ask for a room; return the socket of its keeper, and the directory that can be removed once it answered."""
        root = tempfile.mkdtemp(prefix="local-lambda-room-")
        own, keepers = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with keepers, self._lock:
            porter = self._socket
            if porter is None or self._process is None or self._process.poll() is not None:
                porter = self._start()
            socket.send_fds(porter, [plan.message(root)], [keepers.fileno()])
        return own, root

    def _start(self) -> socket.socket:
        atexit.register(self._end)
        own, porters = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with porters:
            # In its own session: Ctrl-C in the terminal reaches this process only.
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(_PROGRAM)],
                stdin=porters.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=None,
                cwd="/",
                start_new_session=True,
            )
        self._socket = own
        return own

    def _end(self) -> None:
        if self._socket is not None and self._process is not None:
            self._socket.close()
            self._process.wait(timeout=5)
            self._process = None


_porter = _Porter()


def why_not() -> str:
    """Return why this machine gives no rooms, as the end of a sentence; "" if it does."""
    return _lacks()[0]


def why_no_ports() -> str:
    """Return why its rooms have no ports of their own; "" if they can."""
    return _lacks()[1]


@functools.cache
def _lacks() -> tuple[str, str]:
    """Make a room, once, and return what could not be had: the room itself, and its ports."""
    if sys.platform != "linux":
        return "only Linux has mount namespaces", ""
    if platform.machine() not in ("x86_64", "aarch64"):
        return f"the processor {platform.machine()} is not known here", ""
    connection, root = _porter.room(Plan(address="127.0.0.2", own_ports=True))
    with connection:
        connection.settimeout(_PROBE_S)
        try:
            answer, fds, _, _ = socket.recv_fds(connection, _PACKET, 1)
        except OSError as failed:
            return str(failed), ""
        finally:
            _remove(root)
    for fd in fds:
        os.close(fd)
    error = _error_in(answer)
    return error, "" if error else json.loads(answer)["ports"]


def _error_in(answer: bytes) -> str:
    if not answer:
        return "the process that makes namespaces ended"
    return str(json.loads(answer).get("error", ""))


async def _readable(connection: socket.socket) -> None:
    """Wait until there is something to read."""
    loop = asyncio.get_running_loop()
    there: asyncio.Future[None] = loop.create_future()
    loop.add_reader(connection, _settle, there)
    try:
        await there
    finally:
        loop.remove_reader(connection)


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


class Room:
    """One room. It lives until `close`, whatever becomes of the processes in it."""

    def __init__(self, connection: socket.socket, addresses: Addresses | None) -> None:
        self._connection = connection
        self._addresses = addresses
        self._loop = asyncio.get_running_loop()
        self._asked: deque[asyncio.Future[_Started]] = deque()  # answers come in the order of the requests
        self._running: dict[int, asyncio.Future[int]] = {}

    @classmethod
    async def open(cls, plan: Plan) -> "Room":
        """Make a room. Raises OSError if the machine does not allow it."""
        connection, root = _porter.room(plan)
        connection.setblocking(False)
        try:
            await _readable(connection)
            data, fds, _, _ = socket.recv_fds(connection, _PACKET, 1)
            if error := _error_in(data):
                raise OSError(error)
        except BaseException:
            connection.close()
            raise
        finally:
            _remove(root)
        room = cls(connection, Addresses(fds[0], plan.address) if fds else None)
        room._loop.add_reader(connection, room._read)
        return room

    async def start(
        self, argv: Sequence[str], *, cwd: Path, variables: Mapping[str, str], fds: Sequence[int], log_fd: int
    ) -> _Started:
        """Start a program; return its pid and the future of its exit code. Raises OSError if it cannot be executed.

        `fds` become its standard output, standard error and, if there is a third, the descriptor `log_fd`.
        """
        message = {"argv": list(argv), "cwd": str(cwd), "env": dict(variables), "log_fd": log_fd}
        socket.send_fds(self._connection, [json.dumps(message).encode()], list(fds))
        started: asyncio.Future[_Started] = self._loop.create_future()
        self._asked.append(started)
        return await started

    def close(self) -> None:
        """Let go of the room: its keeper kills what still runs and ends."""
        if self._addresses is not None:
            self._addresses.close()
        self._loop.remove_reader(self._connection)
        self._connection.close()

    def _read(self) -> None:
        """Handle the messages that are there."""
        while True:
            try:
                data = self._connection.recv(_PACKET)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                self._lost()
                return
            self._handle(json.loads(data))

    def _handle(self, message: Mapping[str, Any]) -> None:
        if "exited" in message:
            self._running.pop(message["exited"]).set_result(message["code"])
            return
        started = self._asked.popleft()
        if "pid" in message:
            self._running[message["pid"]] = ended = self._loop.create_future()
            if not started.done():
                started.set_result((message["pid"], ended))
            else:  # whoever asked is gone
                with contextlib.suppress(ProcessLookupError):  # and so may be the process, by itself
                    os.killpg(message["pid"], signal.SIGKILL)
        elif not started.done():
            started.set_exception(OSError(message["errno"], os.strerror(message["errno"])))

    def _lost(self) -> None:
        """The keeper is gone, and with it what it started: nobody must wait for its word."""
        self._loop.remove_reader(self._connection)
        for ended in self._running.values():
            ended.set_result(-signal.SIGKILL)
        self._running.clear()
        for started in self._asked:
            if not started.done():
                started.set_exception(OSError("the keeper of the environment's room is gone"))
        self._asked.clear()
