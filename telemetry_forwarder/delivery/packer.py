"""From the queue of one sink to batches, in slices. What is packed and not sent yet stays held, at every await."""

from collections.abc import Callable

from telemetry_forwarder.clock import Clock
from telemetry_forwarder.delivery.batcher import OpenBatch
from telemetry_forwarder.delivery.encoder import Encoder
from telemetry_forwarder.delivery.queue import SendQueue
from telemetry_forwarder.interfaces import Encoded, Limits
from telemetry_forwarder.records.record import Record
from telemetry_forwarder.turns import Turns

# What has taken this long to pack is sent, though more would fit: writing, compressing and settling a batch are done in
# one go each, and take a tenth of the time; and with a small share of a processor nobody knows how long the rest takes.
LONGEST_PACK_S = 0.2
# So is this many, where the processor is withheld: the AWS SDK takes twice as long to write a request as we to pack it.
MOST_WITHHELD_RECORDS = 500


class Packer:
    """The open batch of one sink, and the record that did not fit into the one before."""

    def __init__(self, queue: SendQueue, encoder: Encoder, limits: Limits, turns: Turns, clock: Clock) -> None:
        self._queue = queue
        self._encoder = encoder
        self._limits = limits
        self._turns = turns
        self._clock = clock
        self._open = OpenBatch(limits)
        self._spare: Encoded | None = None

    @property
    def held(self) -> int:
        return len(self._open) + (self._spare is not None)

    async def pack(self, until: float, may_go_on: Callable[[], bool]) -> list[Encoded]:
        """Return a batch: a full one, or what there is, or what could be packed `until` then on the monotonic clock.

        An empty one where there is nothing, or where `may_go_on` says no more; what is packed by then is for the next.
        """
        while may_go_on() and await self._pack_slice():
            if self._open and (self._clock.monotonic() >= until or self._is_enough):
                break
        if not self._open or not may_go_on():
            return []
        batch, self._open = self._open, OpenBatch(self._limits)
        return batch.close()

    @property
    def _is_enough(self) -> bool:
        return len(self._open) >= MOST_WITHHELD_RECORDS and self._turns.withheld_s > 0.0

    def take(self) -> list[Record]:
        """Remove and return what is packed."""
        taken = [*self._open.records, *([self._spare] if self._spare is not None else [])]
        self._open, self._spare = OpenBatch(self._limits), None
        return [encoded.record for encoded in taken]

    async def _pack_slice(self) -> bool:
        """Pack in one slice; say whether the batch has room for more, and there may be more."""
        async with self._turns:
            refused: list[Record] = []
            try:
                return self._pack(refused)
            finally:
                self._queue.settle(refused)

    def _pack(self, refused: list[Record]) -> bool:
        """Move what fits from the queue to the open batch; what cannot be sent at all is dropped, and `refused`."""
        if self._spare is not None:
            if not self._open.add(self._spare):
                return False
            self._spare = None
        while (record := self._queue.pop()) is not None:
            encoded = self._encoder.encode(record)
            if encoded is None:
                refused.append(record)
            elif not self._open.add(encoded):
                self._spare = encoded
                return False
            if self._turns.is_over():
                return True
        may_read = not self._open or self._queue.is_amid_piece
        return may_read and self._queue.refill(is_over=self._turns.is_over)
