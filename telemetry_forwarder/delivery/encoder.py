"""From a record to what a sink's batch is made of, or to the books where that cannot be."""

from typing import Any, Protocol

from telemetry_forwarder.clock import Clock
from telemetry_forwarder.errors import EncodeError
from telemetry_forwarder.interfaces import DropReason, Encoded, Sink
from telemetry_forwarder.ledger import Account
from telemetry_forwarder.log import where
from telemetry_forwarder.records.record import Record


class Say(Protocol):
    """How trouble is told, once."""

    def __call__(self, detail: str, **members: Any) -> None: ...


class Encoder:
    """One sink's `encode`, with its limits held to. What cannot be sent is entered in `account` as dropped."""

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
        except Exception as error:  # noqa: BLE001 - a sink's bug costs its own records and spares the others
            self._account.drop(1, DropReason.SINK_FAILED)
            self._say("a bug in the sink", **where(error))
            return None
        if is_oversize:
            self._account.drop(1, DropReason.OVERSIZE)
            return None
        return encoded
