"""Encoding one record for a sink. A record that cannot be encoded is entered in the books as dropped."""

from typing import Any, Protocol

from telemetry_forwarder.clock import Clock
from telemetry_forwarder.errors import EncodeError
from telemetry_forwarder.interfaces import DropReason, Encoded, Sink
from telemetry_forwarder.ledger import Account
from telemetry_forwarder.log import where
from telemetry_forwarder.records.record import Record


class Say(Protocol):
    """Reports trouble to the user, each kind once."""

    def __call__(self, detail: str, **members: Any) -> None: ...


class Encoder:
    """Calls the sink's `encode` and keeps to its limits. A record that cannot be sent is dropped in `account`."""

    def __init__(self, sink: Sink[Any, Any], account: Account, clock: Clock, say: Say) -> None:
        self._sink = sink
        self._account = account
        self._clock = clock
        self._say = say

    def encode(self, record: Record) -> Encoded | None:
        """Encode `record`, or settle it as dropped and return None."""
        limits = self._sink.limits
        if limits.max_age_ms is not None and self._clock.time() * 1000 - record.time_ms > limits.max_age_ms:
            self._account.drop(1, DropReason.TOO_OLD)
            return None
        try:
            encoded = self._sink.encode(record)
            is_oversize = len(encoded.data) + limits.overhead_bytes + limits.framing_bytes > limits.max_bytes
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
