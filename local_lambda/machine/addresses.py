"""The addresses that the processes of one environment bind: each environment has its own, on this machine's network.

On Lambda an environment has a network to itself, so its extensions bind fixed ports at all addresses or at localhost.
Here environments share one network. So the kernel asks about each `bind`, `connect` and `sendto` of theirs (seccomp's
user notification), and what is meant for the environment itself is led to two loopback addresses that nobody else has:
one for all addresses, at which the platform reaches it, and one for localhost, at which it does not. The call itself is
then made by the kernel as ever. What is sent by `sendmsg` to a named address is not asked about.
Source: seccomp_unotify(2).
"""

import asyncio
import contextlib
import ctypes
import fcntl
import ipaddress
import os
import platform
import socket
import struct

_RECEIVE, _SEND = 0xC050_2100, 0xC018_2101
_CONTINUE = 1
_NOTICE = struct.Struct("=QII iIQ 6Q")  # id, pid, flags; number, architecture, instruction; arguments
_ANSWER = struct.Struct("=QqiI")  # id, value, error, flags
_BIND = {"x86_64": 49, "aarch64": 200}.get(platform.machine(), -1)
_SENDTO = {"x86_64": 44, "aarch64": 206}.get(platform.machine(), -1)
_SYS_PIDFD_GETFD = 438
_MAPPED = bytes(10) + b"\xff\xff"
_ANY = (bytes(4), bytes(16))
_LOCALHOST = (bytes([127, 0, 0, 1]), bytes(15) + b"\x01")

_libc = ctypes.CDLL(None, use_errno=True)


class Addresses:
    """Answers the kernel's questions about one environment, which come from the descriptor `listener`.

    `address` is that of sandbox.localdomain; the next one stands for localhost.
    """

    def __init__(self, listener: int, address: str) -> None:
        self._listener = listener
        self._everywhere = ipaddress.IPv4Address(address).packed
        self._local = (ipaddress.IPv4Address(address) + 1).packed
        self._bound: dict[int, bytes] = {}  # the address at which a port was bound last
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(listener, self._answer)

    def close(self) -> None:
        self._loop.remove_reader(self._listener)
        os.close(self._listener)

    def _answer(self) -> None:
        notice = bytearray(_NOTICE.size)
        try:
            fcntl.ioctl(self._listener, _RECEIVE, notice, True)
        except OSError:
            return  # who asked is gone
        number, pid, _, call, _, _, *arguments = _NOTICE.unpack(notice)
        with contextlib.suppress(OSError):  # it is gone, or gave a bad address: the kernel will say so
            self._redirect(pid, call, arguments)
        with contextlib.suppress(OSError):
            fcntl.ioctl(self._listener, _SEND, _ANSWER.pack(number, 0, 0, _CONTINUE))

    def _redirect(self, pid: int, call: int, arguments: list[int]) -> None:
        """Write another address into the memory of the caller, if what it names is the environment itself."""
        place, size = (arguments[4], arguments[5]) if call == _SENDTO else (arguments[1], arguments[2])
        with open(f"/proc/{pid}/mem", "r+b", buffering=0) as memory:
            memory.seek(place)
            given = memory.read(min(size, 28))
            changed = self._changed(pid, call, arguments[0], given)
            if changed != given:
                memory.seek(place)
                memory.write(changed)

    def _changed(self, pid: int, call: int, fd: int, given: bytes) -> bytes:
        """Return the socket address to take instead of `given`, or that itself."""
        family = int.from_bytes(given[:2], "little")
        if family == socket.AF_INET and len(given) >= 8:
            at, width = 4, 4
        elif family == socket.AF_INET6 and len(given) >= 24:
            at, width = 8, 16
        else:
            return given
        port, named = int.from_bytes(given[2:4], "big"), given[at : at + width]
        if port == 0 or named not in (*_ANY, *_LOCALHOST):
            return given
        if call != _BIND:
            chosen = self._bound.get(port)
        elif width == 16 and _is_ipv6_only(pid, fd):
            return given[:2] + bytes(2) + given[4:]  # nobody asks there: any port will do
        else:
            chosen = self._bound[port] = self._everywhere if named in _ANY else self._local
        if chosen is None:
            return given
        return given[:at] + (chosen if width == 4 else _MAPPED + chosen) + given[at + width :]


def _is_ipv6_only(pid: int, fd: int) -> bool:
    """Whether a socket of another process takes no IPv4."""
    with open(f"/proc/{pid}/status") as status:  # `pid` may be that of a thread
        leader = next(int(row.split()[1]) for row in status if row.startswith("Tgid:"))
    pidfd = os.pidfd_open(leader)
    try:
        copy = _libc.syscall(_SYS_PIDFD_GETFD, pidfd, ctypes.c_int(fd), 0)
    finally:
        os.close(pidfd)
    if copy < 0:
        return False
    with socket.socket(fileno=copy) as shared:
        return bool(shared.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY))
