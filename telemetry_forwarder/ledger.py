"""The ledger: counts of records that were received, offered, delivered and dropped. Two laws hold at every moment:

    received + derived = routed + unrouted                          on the way in
    offered  = delivered + Σ dropped[reason] + spilled + held       for every sink, and held = 0 at exit

`held` is not a counter. A worker counts the records that it really holds (`worker.Worker.held`); if `held` were
computed from the other numbers, the equation could never fail.
"""

from collections import Counter
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from msgspec import Struct, field
from msgspec.structs import asdict

from telemetry_forwarder.interfaces import (
    Batch,
    Delivered,
    Denied,
    DropReason,
    Encoded,
    Partial,
    Rejected,
    Retry,
    TooLarge,
    Verdict,
)


class Unrouted(StrEnum):
    """The reason why a received record was not offered to any sink."""

    TYPE_NOT_WANTED = "type_not_wanted"  # TELEMETRY_FORWARDER_TYPES does not include its type
    OWN_LINE = "own_line"  # the extension's own log line
    NOT_A_RECORD = "not_a_record"  # an element of a batch that is no telemetry item
    NO_SINK = "no_sink"  # no sink takes records of its signal


class IntakeCounts(Struct):
    """Counts of what Lambda sent, before any sink."""

    bodies: int = 0
    undecodable_bodies: int = 0
    oversize_bodies: int = 0
    interrupted_bodies: int = 0  # incomplete; Lambda sends them again, or reports what it dropped
    redelivered_bodies: int = 0  # sent again although they had been answered; their records are not counted twice
    received: int = 0
    unreadable_records: int = 0  # part of `received`: not readable as JSON, forwarded as text
    refused_metrics: int = 0  # lines of DogStatsD that are malformed, or beyond a bound
    derived: int = 0  # metrics and spans that were made of what was received
    routed: int = 0
    unrouted: Counter[Unrouted] = field(default_factory=Counter)
    lost_before_us: int = 0  # records that Lambda reports in platform.logsDropped
    lost_before_us_bytes: int = 0
    unseen_ends: int = 0  # invocations without any telemetry, so the extension did not wait for their end

    def is_balanced(self) -> bool:
        return self.received + self.derived == self.routed + self.unrouted.total()

    def snapshot(self) -> dict[str, Any]:
        return {**asdict(self), "unrouted": {str(why): count for why, count in self.unrouted.items()}}


class _SinkCounts(Struct, kw_only=True):
    """The counts of one sink's records and requests."""

    offered: int = 0
    delivered: int = 0
    dropped: Counter[DropReason] = field(default_factory=Counter)
    spilled: int = 0  # safely stored in the spool or the fallback, and sent from there
    recovered: int = 0  # part of `offered`: records that an earlier generation left in the spool
    cut: int = 0
    attempts: int = 0
    copies: int = 0  # part of `attempts`: begun while another attempt with the same records waited for a late answer
    failed_attempts: int = 0
    told: int = 0  # part of `offered`: loss notices, which are records made by the extension itself


class Statement(_SinkCounts, kw_only=True):
    """A snapshot of one sink's account, with the number of records that its worker holds."""

    held: int

    def is_balanced(self) -> bool:
        return self.offered == self.delivered + sum(self.dropped.values()) + self.spilled + self.held

    @property
    def lost(self) -> int:
        """The number of records that were dropped unintentionally."""
        return sum(count for reason, count in self.dropped.items() if not reason.is_intentional)

    def snapshot(self) -> dict[str, Any]:
        return {**asdict(self), "dropped": {str(reason): count for reason, count in self.dropped.items()}}


class Account(_SinkCounts):
    """The counters of one sink. Each record is settled exactly once: by `settle`, or by `drop` if it was not sent."""

    def statement(self, held: int) -> Statement:
        return Statement(**{**asdict(self), "dropped": self.dropped.copy(), "held": held})

    def drop(self, records: int, reason: DropReason) -> None:
        if records:
            self.dropped[reason] += records

    def recover(self, records: int) -> None:
        """Count records that were offered to an earlier generation and not delivered by it."""
        self.offered += records
        self.recovered += records

    def settle(self, batch: Batch, verdict: Verdict) -> list[Encoded]:
        """Count the records of `batch` for which `verdict` is final; return the others, in order."""
        match verdict:
            case Delivered():
                self._deliver(batch)
                return []
            case Rejected():
                self.drop(len(batch), DropReason.REJECTED)
                return []
            case TooLarge() if len(batch) == 1:
                self.drop(1, DropReason.OVERSIZE)
                return []
            case Partial(retry, rejected):
                return self._settle_partly(batch, set(retry), rejected)
            case Retry() | TooLarge() | Denied():
                return list(batch)

    def _settle_partly(self, batch: Batch, retry: set[int], rejected: Mapping[int, DropReason]) -> list[Encoded]:
        left: list[Encoded] = []
        accepted: list[Encoded] = []
        for index, encoded in enumerate(batch):
            if index in rejected:
                self.drop(1, rejected[index])
            else:
                (left if index in retry else accepted).append(encoded)
        self._deliver(accepted)
        return left

    def _deliver(self, batch: Batch) -> None:
        self.delivered += len(batch)
        self.cut += sum([encoded.is_cut for encoded in batch])
