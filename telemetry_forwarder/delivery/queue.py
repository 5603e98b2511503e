"""The queue of one sink: records in memory, the rest in the spool. Also drops records that are never sent."""

from collections.abc import Callable, Sequence

from telemetry_forwarder.delivery.buffer import Buffer
from telemetry_forwarder.interfaces import DropReason
from telemetry_forwarder.ledger import Account
from telemetry_forwarder.records.record import Record
from telemetry_forwarder.spool.backlog import Backlog

# Bytes read from the spool at a time: enough for a request, and few enough not to block the event loop for long.
_READ_BYTES = 256 * 1024
# The same at the end, when nothing else is left to do.
_LARGE_READ_BYTES = 1024 * 1024


class SendQueue:
    """A buffer, and behind it the sink's backlog in the spool, if there is a spool. Oldest first throughout.

    Records that leave without having been sent are entered in `account`; `say` logs what the user should know. What a
    sink does not take (`admits`) is settled at once, so that it takes no room and no invocation is held for it.
    """

    def __init__(
        self,
        buffer: Buffer,
        backlog: Backlog | None,
        account: Account,
        say: Callable[[str], None],
        admits: Callable[[Record], bool] | None = None,
    ) -> None:
        self._admits = admits
        self._buffer = buffer
        self._backlog = backlog
        self._account = account
        self._say = say
        if backlog is not None:
            backlog.on_gone = self._lose
            account.recover(backlog.waiting)
            self.refill()

    def __len__(self) -> int:
        """Return the number of records in memory plus those that are only on disk."""
        return len(self._buffer) + (self._backlog.waiting if self._backlog is not None else 0)

    def __repr__(self) -> str:
        return f"{len(self._buffer)} in memory, {len(self) - len(self._buffer)} on disk"

    @property
    def has_spool(self) -> bool:
        return self._backlog is not None

    def is_above(self, records: int, size_bytes: int) -> bool:
        """Return whether more than `records` or `size_bytes` are in memory, or anything waits on disk."""
        return len(self._buffer) > records or self._buffer.size_bytes > size_bytes or bool(self._backlog)

    def keeps(self, identity: str) -> bool:
        """Return whether the body with this identity is on disk for the next process."""
        return self._backlog is not None and self._backlog.keeps_body(identity)

    def admit(self, records: Sequence[Record]) -> Sequence[Record]:
        """Count `records` as offered. Return those that the sink takes; the others are settled."""
        self._account.offered += len(records)
        if self._admits is None:
            return records
        found = [record for record in records if self._admits(record)]
        if len(found) < len(records):
            self.drop([record for record in records if not self._admits(record)], DropReason.FILTERED)
        return found

    def offer(self, records: Sequence[Record]) -> None:
        """Add the records that fit to memory; let the rest wait on disk, behind those that wait there."""
        if self._backlog is None:
            self._hold(records)
            return
        taken = 0 if self._backlog else self._buffer.take(records)
        rest = records[taken:]
        if rest and not self._backlog:
            self._say("its buffer is full; what comes now waits in the spool")
        if rest and not self._backlog.defer(rest):
            self._hold(rest)

    def pop_some(self, count: int) -> list[Record]:
        """Remove and return the oldest `count` records in memory, or all if there are fewer."""
        return self._buffer.pop_some(count)

    def refill(self, size_bytes: int = _READ_BYTES, is_over: Callable[[], bool] = lambda: False) -> bool:
        """Read the next records that wait on disk into memory, until `is_over` returns True.

        Returns False if nothing waits on disk.
        """
        if not self._backlog:
            return False
        records = self._backlog.read(self._buffer.max_records, min(size_bytes, self._buffer.max_bytes), is_over)
        taken = self._buffer.take(records)
        if taken < len(records):
            self._backlog.put_back(records[taken:])
        return True

    @property
    def is_amid_piece(self) -> bool:
        """Whether the last `refill` ended early because its time was over."""
        return self._backlog is not None and self._backlog.is_cut_short

    def take_piece(self) -> list[Record]:
        """Remove and return the records in memory or, if there are none, the next records from disk.

        The list may be empty, if all that was read from disk was damaged.
        """
        if not self._buffer:
            self.refill(_LARGE_READ_BYTES)
        return self.empty()

    def empty(self) -> list[Record]:
        """Remove and return the records in memory."""
        return self._buffer.pop_some(len(self._buffer))

    def settle(self, records: Sequence[Record]) -> None:
        """Note in the spool that `records` are settled, so that no later process sends them again."""
        if self._backlog is not None and records:
            self._backlog.settle(records)

    def drop(self, records: Sequence[Record], reason: DropReason) -> None:
        """Settle `records`, which are not in the queue any more, as dropped."""
        self._account.drop(len(records), reason)
        self.settle(records)

    def give_up(self, reason: DropReason, *, to_the_last: bool = False) -> None:
        """Drop everything; with `to_the_last`, also settle all records of the sink that are still open in the spool."""
        records = self.empty()
        self._account.drop(len(records), reason)
        if not to_the_last:
            self.settle(records)
        if self._backlog is not None:
            self._account.drop(self._backlog.clear(to_the_last=to_the_last), reason)

    def save_for_next_process(self, records: Sequence[Record]) -> tuple[int, list[Record]]:
        """Leave `records` (all that were in memory) and those that wait on disk to the next process, as spilled.

        Returns the number of spilled records, and those of `records` that are not on disk.
        """
        if self._backlog is None:
            return 0, [*records]
        spilled = self._backlog.let_go()
        kept = [record for record in records if not self._backlog.keeps(record)]
        spilled += len(records) - len(kept)
        self._account.spilled += spilled
        return spilled, kept

    def _hold(self, records: Sequence[Record]) -> None:
        """Add `records` to memory; drop others if it is full."""
        if gone := self._buffer.offer(records):
            self.drop(gone, DropReason.BUFFER_FULL)
            self._say(f"its buffer is full; {len(gone)} records were dropped")

    def _lose(self, records: int, reason: DropReason) -> None:
        """Drop records that cannot be read from the spool any more."""
        self._account.drop(records, reason)
        self._say(f"{records} records in the spool were dropped ({reason})")
