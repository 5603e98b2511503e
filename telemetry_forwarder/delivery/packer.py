"""Packing of one sink's queued records into batches, in short slices.

Records that are packed but not yet part of a piece count as held, at every await.
"""

from collections.abc import Callable

from telemetry_forwarder.clock import Clock
from telemetry_forwarder.delivery.batcher import OpenBatch
from telemetry_forwarder.delivery.encoder import Encoder
from telemetry_forwarder.delivery.queue import SendQueue
from telemetry_forwarder.interfaces import Encoded, Limits
from telemetry_forwarder.records.record import Record
from telemetry_forwarder.turns import Turns

# A batch that took this long to pack is sent, even if more would fit. Writing, compressing and settling a batch each
# block the loop, for a tenth of the packing time; with a small share of a processor nobody knows how long more takes.
LONGEST_PACK_S = 0.2
# A batch with this many records is sent if the processor is withheld at times. The AWS SDK needs twice as long to write
# a request as the packing took.
_MOST_WITHHELD_RECORDS = 500


class Packer:
    """Packs the open batch of one sink. Keeps the few records that did not fit into the batch before."""

    def __init__(self, queue: SendQueue, encoder: Encoder, limits: Limits, turns: Turns, clock: Clock) -> None:
        self._queue = queue
        self._encoder = encoder
        self._limits = limits
        self._turns = turns
        self._clock = clock
        self._open = OpenBatch(limits)
        self._spare: list[Encoded] = []

    @property
    def held(self) -> int:
        return len(self._open) + len(self._spare)

    async def pack(self, until: float, may_go_on: Callable[[], bool]) -> list[Encoded]:
        """Return a batch: full, or with all records that there are or that could be packed `until` (monotonic clock).

        The batch is empty if there are no records, or once `may_go_on` returns False. Records packed by then stay for
        the next batch.
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
        return len(self._open) >= _MOST_WITHHELD_RECORDS and self._turns.withheld_s > 0.0

    def take(self) -> list[Record]:
        """Remove and return the packed records."""
        taken = self._open.records + self._spare
        self._open, self._spare = OpenBatch(self._limits), []
        return [encoded.record for encoded in taken]

    async def _pack_slice(self) -> bool:
        """Pack for one slice; return whether the batch has room for more and there may be more."""
        async with self._turns:
            refused: list[Record] = []
            try:
                return self._pack(refused)
            finally:
                self._queue.settle(refused)

    def _pack(self, refused: list[Record]) -> bool:
        """Move records that fit from the queue to the open batch; add those that had to be dropped to `refused`.

        Returns the same as `_pack_slice`.
        """
        self._spare = self._spare[self._open.extend(self._spare) :]
        while not self._spare and (records := self._queue.pop_some(self._encoder.at_once)):
            encoded = self._encoder.encode_all(records, refused)
            self._spare = encoded[self._open.extend(encoded) :]
            if self._turns.is_over():
                return not self._spare
        if self._spare:
            return False
        # Memory is empty. Read from disk only for an empty batch, or to finish a read that ended early.
        may_read = not self._open or self._queue.is_amid_piece
        return may_read and self._queue.refill(is_over=self._turns.is_over)
