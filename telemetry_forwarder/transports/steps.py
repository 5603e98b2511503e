"""What a request waits for before it is sent: a name, a connection, a handshake, a proxy. In words that say what to do.

A destination is blamed only for an answer that it owes. Each step has one sentence, the same while it is waited for and
when its time is over, so that it is said once.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from telemetry_forwarder.interfaces import Cause, DropReason, cause

# What keeps packets from a function in a VPC, in the order in which it is met.
# Source: AWS Lambda Developer Guide, "Giving Lambda functions access to resources in an Amazon VPC".
VPC = (
    "if the function is in a VPC, its subnet needs a route there (a NAT gateway, or a VPC endpoint), and its security "
    "group and network ACL have to let it through"
)


# A step that was cut off sooner than this says nothing of the destination: the time was over as it began, or a small
# function had no processor to take it with.
TELLING_S = 0.25


class Way:
    """How far one request has come: `waits_for` is None once it is on its way to who answers it."""

    __slots__ = ("_since", "_waits_for")

    def __init__(self) -> None:
        self._waits_for: Cause | None = None
        self._since = 0.0

    @property
    def waits_for(self) -> Cause | None:
        return self._waits_for

    @waits_for.setter
    def waits_for(self, step: Cause | None) -> None:
        self._waits_for = step
        self._since = asyncio.get_running_loop().time()

    @property
    def is_telling(self) -> bool:
        """Say whether the step has been waited for long enough to be the reason why nothing gets through."""
        return asyncio.get_running_loop().time() - self._since >= TELLING_S


class Ways:
    """The requests under way on one transport, oldest first."""

    def __init__(self) -> None:
        self._under_way: list[Way] = []
        self._cut: Cause | None = None  # what the last one waited for that was cut off, if none was sent since

    @contextmanager
    def begin(self) -> Iterator[Way]:
        way = Way()
        self._under_way.append(way)
        try:
            yield way
        except asyncio.CancelledError:
            if way.waits_for is None:
                self._cut = None
            elif way.is_telling:
                self._cut = way.waits_for
            raise
        else:
            self._cut = None
        finally:
            self._under_way.remove(way)

    def waits_for(self) -> Cause | None:
        """Return what the oldest request waits for, or the last waited for if it was cut off; None for the answer."""
        if not self._under_way:
            return self._cut
        oldest = self._under_way[0]
        return oldest.waits_for if oldest.is_telling else self._cut


def unreachable(text: str) -> Cause:
    return cause(text, DropReason.UNREACHABLE)


def name_wanted(where: str) -> Cause:
    return unreachable(
        f"{where}: the name look-up (DNS) has not answered in time; if the function is in a VPC, check its DNS support "
        "and the name servers of its DHCP options"
    )


def connection_wanted(where: str) -> Cause:
    return unreachable(f"{where}: no connection in time: nothing answers there (TCP); {VPC}")


def handshake_wanted(where: str) -> Cause:
    return unreachable(
        f"{where}: no connection in time: it was reached (TCP), but does not answer the TLS handshake; check that this "
        "port speaks TLS, and what stands between (a firewall, a proxy)"
    )


def proxy_wanted(where: str, variable: str) -> Cause:
    return unreachable(f"{where}: no connection in time: the proxy does not answer (TCP); check {variable}; {VPC}")


def tunnel_wanted(where: str, variable: str) -> Cause:
    return unreachable(
        f"{where}: no connection in time: the proxy was reached, but does not say whether it lets us through "
        f"(CONNECT); check {variable}, and that the proxy may reach the destination"
    )
