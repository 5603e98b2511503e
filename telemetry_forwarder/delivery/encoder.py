"""Encoding one record for a sink. A record that cannot be encoded is entered in the books as dropped."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from msgspec.structs import replace

from telemetry_forwarder.clock import Clock
from telemetry_forwarder.errors import EncodeError, FilteredOut
from telemetry_forwarder.interfaces import DropReason, Encoded, Sink
from telemetry_forwarder.ledger import Account
from telemetry_forwarder.log import where
from telemetry_forwarder.records.record import Record

# A tenth of a slice, for the sinks here.
_AT_ONCE = 32


class Say(Protocol):
    """Reports trouble to the user, each kind once."""

    def __call__(self, detail: str, **members: Any) -> None: ...


class Encoder:
    """Calls the sink's `encode` and keeps to its limits. A record that cannot be sent is dropped in `account`."""

    def __init__(self, sink: Sink[Any, Any], account: Account, clock: Clock, say: Say) -> None:
        self._sink = sink
        self._encode_all: Callable[[Sequence[Record]], list[Encoded]] | None = getattr(sink, "encode_all", None)
        # The records to encode between two looks at the clock. Nobody knows how long a sink takes that has no fast way.
        self.at_once = 1 if self._encode_all is None else _AT_ONCE
        self._account = account
        self._clock = clock
        self._say = say

    def encode_all(self, records: Sequence[Record], refused: list[Record]) -> list[Encoded]:
        """Encode `records`. Those that cannot be sent are settled as dropped, and added to `refused`."""
        if (found := self._all_at_once(records)) is not None:
            return found
        found = []
        for record in records:
            encoded = self.encode(record)
            if encoded is None:
                refused.append(record)
            else:
                found.append(encoded)
        return found

    def _all_at_once(self, records: Sequence[Record]) -> list[Encoded] | None:
        """Encode `records` by the sink's `encode_all`; None if it has none, or if something is wrong with one."""
        limits = self._sink.limits
        if self._encode_all is None:
            return None
        if limits.max_age_ms is not None:
            oldest_ms = self._clock.time() * 1000 - limits.max_age_ms
            if min([record.time_ms for record in records]) < oldest_ms:
                return None
        try:
            found = self._encode_all(records)
            longest = max([len(encoded.data) for encoded in found])
        except Exception:  # noqa: BLE001 - `encode` tells of which record, and why
            return None
        fits = longest + limits.overhead_bytes + limits.framing_bytes <= limits.max_bytes
        return found if fits and len(found) == len(records) else None

    def encode(self, record: Record) -> Encoded | None:
        """Encode `record`, or settle it as dropped and return None."""
        limits = self._sink.limits
        now_ms = round(self._clock.time() * 1000)
        if limits.max_age_ms is not None and now_ms - record.time_ms > limits.max_age_ms:
            if limits.redated_ms is None or now_ms - record.time_ms > limits.redated_ms:
                self._account.drop(1, DropReason.TOO_OLD)
                return None
            record = replace(record, time_ms=now_ms)
        try:
            encoded = self._sink.encode(record)
            is_oversize = len(encoded.data) + limits.overhead_bytes + limits.framing_bytes > limits.max_bytes
        except FilteredOut:
            self._account.drop(1, DropReason.FILTERED)
            return None
        except EncodeError as error:
            self._account.drop(1, DropReason.UNENCODABLE)
            self._say(f"a record cannot be expressed: {error}")
            return None
        except Exception as error:  # noqa: BLE001 - a sink's bug loses its own records, not those of other sinks
            self._account.drop(1, DropReason.SINK_FAILED)
            self._say("a bug in the sink", **where(error))
            return None
        if is_oversize:
            self._account.drop(1, DropReason.OVERSIZE)
            return None
        return encoded
