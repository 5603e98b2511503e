"""Finds listening sockets and leftover processes in Linux's /proc, without disturbing them.

A listener is looked up, not connected to: one that serves a single connection must not lose it to this check.
"""

import ipaddress
import os
import signal
import socket
from dataclasses import dataclass
from pathlib import Path

_LISTENING = "0A"
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, slots=True)
class Listener:
    """One listening TCP socket on this machine."""

    address: _Address
    port: int

    def is_reached_at(self, host: str) -> bool:
        """Whether a connection to `host` reaches this socket. One on `::` also accepts IPv4, unless it is IPv6-only."""
        mapped = self.address.ipv4_mapped if isinstance(self.address, ipaddress.IPv6Address) else None
        address = mapped or self.address
        return address.is_unspecified or str(address) == host


def listeners() -> frozenset[Listener] | None:
    """Return all listening sockets; None if the system does not list them."""
    found: set[Listener] = set()
    known = False
    for name in ("tcp", "tcp6"):
        try:
            rows = Path("/proc/net", name).read_text().splitlines()[1:]
        except OSError:
            continue
        known = True
        for row in rows:
            _, local, _, state, *_ = row.split()
            if state == _LISTENING:
                address, _, port = local.partition(":")
                found.add(Listener(_address(address), int(port, 16)))
    return frozenset(found) if known else None


def _address(text: str) -> _Address:
    """Parse an address as the kernel writes it: words of four bytes, each in this machine's byte order (little)."""
    words = [bytes.fromhex(text[at : at + 8])[::-1] for at in range(0, len(text), 8)]
    return ipaddress.ip_address(b"".join(words))


def processes_with(variable: str) -> dict[int, str] | None:
    """Return the processes with `NAME=VALUE` in their environment, as a map of pid to command line.

    Return None if the system does not list them. A zombie has no environment any more, so it is not found.
    """
    if not Path("/proc/self/environ").exists():
        return None
    wanted = variable.encode()
    found = {}
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            if wanted in (folder / "environ").read_bytes().split(b"\0"):
                words = (folder / "cmdline").read_bytes().split(b"\0")
                found[int(folder.name)] = b" ".join(words).decode("utf-8", "replace").strip()
        except OSError:
            continue  # it has just ended, or belongs to another user
    return found


def kill(pid: int) -> None:
    """Kill one process, if it still exists."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def free_port() -> int:
    """Return a port on which nothing listens now."""
    with socket.socket() as probe:
        probe.bind(("0.0.0.0", 0))  # noqa: S104 - as an extension will
        port: int = probe.getsockname()[1]
        return port
