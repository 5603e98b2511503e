"""The DogStatsD server: reads datagrams from sockets that the bootstrap has bound. It answers nothing."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from socket import socket

from telemetry_forwarder.ledger import IntakeCounts
from telemetry_forwarder.log import Log
from telemetry_forwarder.records.derived import Derived
from telemetry_forwarder.signals.dogstatsd import Aggregator

_LONGEST_BYTES = 65_536  # no datagram is longer
# Datagrams that are read before other tasks may run: a millisecond.
_AT_ONCE = 100
# And at the end of an invocation: what a full receive buffer holds.
_MOST_AT_END = 4000


class Datagrams:
    """Aggregates what arrives at `sockets` until it is collected."""

    def __init__(self, sockets: Sequence[socket], counts: IntakeCounts, log: Log) -> None:
        self._sockets = sockets
        self._counts = counts
        self._log = log
        self._aggregator = Aggregator()
        self._said: set[str] = set()

    @contextmanager
    def read(self) -> Iterator[None]:
        """Read in this context, whenever something has come."""
        loop = asyncio.get_running_loop()
        for one in self._sockets:
            one.setblocking(False)
            loop.add_reader(one, self._read_some, one, _AT_ONCE)
        try:
            yield
        finally:
            for one in self._sockets:
                loop.remove_reader(one)
                one.close()

    def collect(self, time_ms: int) -> list[Derived]:
        """Return what has come up to now."""
        for one in self._sockets:
            self._read_some(one, _MOST_AT_END)
        found = self._aggregator.collect(time_ms)
        self._count_refused()
        return found

    def _read_some(self, one: socket, most: int) -> None:
        for _ in range(most):
            try:
                data = one.recv(_LONGEST_BYTES)
            except OSError:  # nothing more has come
                return
            self._aggregator.take(data)

    def _count_refused(self) -> None:
        for reason, lines in self._aggregator.refused.items():
            self._counts.refused_metrics += lines
            if reason not in self._said:
                self._said.add(reason)
                self._log.warning(
                    f"DogStatsD: {lines} lines are refused, as they are {reason}. The ledger counts them "
                    "(refused_metrics); further ones are not told again."
                )
        self._aggregator.refused.clear()
