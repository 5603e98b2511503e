"""The steps before a request is sent (name look-up, connection, handshake, proxy); each has a text with advice.

A destination is blamed only for an answer that it owes. Each step has one text, the same while it is waited for and
after its timeout, so that it is logged once.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

from telemetry_forwarder.errors import ConnectFailed
from telemetry_forwarder.interfaces import Cause, DropReason, cause

# What blocks packets of a function in a VPC, in the order to check.
VPC = (
    "if the function is in a VPC, its subnet needs a route there (a NAT gateway, or a VPC endpoint), and its security "
    "group and network ACL have to let it through"
)


# How many texts of each kind are kept: every request has the same ones, and there are few destinations.
_TEXTS = 16

# A step that was cut off sooner than this says nothing about the destination: there was no time left when it began, or
# a small function got no CPU time for it.
TELLING_S = 0.25


class Way:
    """The progress of one request: `waits_for` is None once the request goes to its receiver, and `is_sent` true."""

    __slots__ = ("_since", "_waits_for", "is_sent")

    def __init__(self) -> None:
        self.is_sent = False
        self._waits_for: Cause | None = None
        self._since = 0.0

    @property
    def waits_for(self) -> Cause | None:
        return self._waits_for

    @waits_for.setter
    def waits_for(self, step: Cause | None) -> None:
        self._waits_for = step
        self.is_sent = step is None
        self._since = asyncio.get_running_loop().time()

    @property
    def is_telling(self) -> bool:
        """Whether the step has been waited for long enough to be the reason why nothing gets through."""
        return self._waits_for is not None and asyncio.get_running_loop().time() - self._since >= TELLING_S


class Ways:
    """The requests in progress on one transport, oldest first."""

    def __init__(self) -> None:
        self._under_way: list[Way] = []
        self._cut: Cause | None = None  # the step of the last request that was cut off, until one is sent
        self._failed: Cause | None = None  # why the last that got no connection got none, until one is sent

    @contextmanager
    def begin(self) -> Iterator[Way]:
        way = Way()
        self._under_way.append(way)
        try:
            yield way
        except asyncio.CancelledError:
            if way.is_sent:
                self._cut = self._failed = None
            elif way.is_telling:
                self._cut = way.waits_for
            else:  # it had no time to find out anything new
                self._cut = self._cut or self._failed
            raise
        except ConnectFailed as error:
            self._failed = unreachable(str(error))
            raise
        else:
            self._cut = self._failed = None
        finally:
            self._under_way.remove(way)

    def waits_for(self) -> Cause | None:
        """Return the step that the oldest request waits for, or at which the last was cut off; None for the answer."""
        if not self._under_way:
            return self._cut
        oldest = self._under_way[0]
        if oldest.is_sent:
            return None
        return oldest.waits_for if oldest.is_telling else self._cut


def unreachable(text: str) -> Cause:
    return cause(text, DropReason.UNREACHABLE)


@lru_cache(_TEXTS)
def name_wanted(where: str) -> Cause:
    return unreachable(
        f"{where}: the name look-up (DNS) has not answered in time; if the function is in a VPC, check its DNS support "
        "and the name servers of its DHCP options"
    )


@lru_cache(_TEXTS)
def connection_wanted(where: str) -> Cause:
    return unreachable(f"{where}: no connection in time: nothing answers there (TCP); {VPC}")


@lru_cache(_TEXTS)
def handshake_wanted(where: str) -> Cause:
    return unreachable(
        f"{where}: no connection in time: it was reached (TCP), but does not answer the TLS handshake; check that this "
        "port speaks TLS, and what stands between (a firewall, a proxy)"
    )


@lru_cache(_TEXTS)
def proxy_wanted(where: str, variable: str) -> Cause:
    return unreachable(f"{where}: no connection in time: the proxy does not answer (TCP); check {variable}; {VPC}")


@lru_cache(_TEXTS)
def tunnel_wanted(where: str, variable: str) -> Cause:
    return unreachable(
        f"{where}: no connection in time: the proxy was reached, but does not say whether it lets us through "
        f"(CONNECT); check {variable}, and that the proxy may reach the destination"
    )
