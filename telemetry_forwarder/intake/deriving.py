"""Derive metrics and spans, of many bodies at a time, and hand them on.

To derive, keep and send what one invocation tells takes a millisecond of CPU, because everything is cold between two
invocations; of a hundred invocations at once it takes a fifth of that for each. So what a body tells waits here while
invocations come often, up to `LINGER_S`, and nobody waits for it. Where they are rare it is derived at once, and leaves
with the log records.

Nothing is lost by that: the spool keeps a body until its metrics and spans are in the spool themselves, so that the
next process derives what this one did not. Only the use of the machine (`usage`) is in no body.
"""

import asyncio
from collections.abc import Callable, Sequence, Set

from msgspec import Struct

from telemetry_forwarder.clock import Clock, Moment
from telemetry_forwarder.intake.intake import Intake
from telemetry_forwarder.log import Log, where
from telemetry_forwarder.records.derived import Derived, identity_of
from telemetry_forwarder.records.handover import Handover
from telemetry_forwarder.records.record import Record, Signal
from telemetry_forwarder.signals.points import Point
from telemetry_forwarder.signals.signals import Signals
from telemetry_forwarder.spool.backlog import Backlog
from telemetry_forwarder.spool.segments import DERIVER
from telemetry_forwarder.spool.spool import Spool

# Metrics and spans wait for so long at most while invocations come often.
LINGER_S = 10.0
# What waits is derived earlier if it is of more bytes, so that it takes little memory, and a successor little time.
_MOST_BYTES = 1024 * 1024
# The end of an invocation, which may be flushed for, and its report, behind which nothing more is told of it.
_DONE, _REPORT = "platform.runtimeDone", "platform.report"
_EVERYTHING = -1  # the mask with a bit for each item
_READ_RECORDS, _READ_BYTES = 1_000, 256 * 1024

Later = Callable[[float, Callable[[], None]], asyncio.TimerHandle]


class _Waiting(Struct):
    """The records of one body that tell something, and the use of the machine that belongs to them."""

    identity: str
    records: Sequence[Record]
    usage: Sequence[Point]


class Deriving:
    """What is still to be derived. `is_frequent` tells whether the next invocation is expected soon.

    `later` is the event loop's `call_later`: where nothing is frozen, nothing waits for the next invocation.
    """

    def __init__(
        self,
        signals: Signals,
        intake: Intake,
        *,
        spool: Spool | None,
        clock: Clock,
        log: Log,
        later: Later,
        is_frequent: Callable[[], bool] = lambda: False,
        before: Handover | None = None,
    ) -> None:
        """Start; `before` is what an earlier process left, which the next one has to know as well."""
        self._signals = signals
        self._intake = intake
        if before is not None:
            intake.measured, intake.traced = before.measured, before.traced
        self._spool = spool
        self._sink = spool.sinks.index(DERIVER) if spool is not None else 0
        self._clock = clock
        self._log = log
        self._later = later
        self._is_frequent = is_frequent
        self._waiting: list[_Waiting] = []
        self._bytes = 0
        self._since = Moment(0.0, 0.0)  # when the first of `_waiting` came
        self._timer: asyncio.TimerHandle | None = None
        self._usage: Sequence[Point] = ()
        self._is_finished = False
        self.telling, self.has_metrics = signals.telling, signals.has_metrics

    def note_usage(self, points: Sequence[Point]) -> None:
        """Note what the invocation that ends next used of the machine."""
        self._usage = points

    def add(self, identity: str, records: Sequence[Record], size_bytes: int) -> None:
        """Take the records of the body `identity` that tell something; derive now if it is time to."""
        kinds = {record.context.type for record in records}
        usage: Sequence[Point] = ()
        if _DONE in kinds:
            usage, self._usage = self._usage, ()
        if not self._waiting:
            self._since = Moment.now(self._clock)
        self._waiting.append(_Waiting(identity, records, usage))
        self._bytes += size_bytes
        if self._is_due(kinds):
            self.derive()
        elif self._timer is None:
            self._timer = self._later(LINGER_S, self.derive)

    def _is_due(self, kinds: Set[str]) -> bool:
        """Return whether to derive now that events of `kinds` have come.

        What lingers is of whole invocations then, so that the next process needs to know of none what came before.
        """
        if self._is_finished or self._bytes > _MOST_BYTES:
            return True
        if self._is_frequent():
            return _REPORT in kinds and self._since.age(self._clock) >= LINGER_S
        return _DONE in kinds or _REPORT in kinds

    def derive(self) -> None:
        """Derive what waits, keep it, and hand it on."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        waiting, self._waiting, self._bytes = self._waiting, [], 0
        if not waiting:
            return
        self._hand_on(waiting, waiting[0].identity)
        self._settle(waiting)

    def _hand_on(self, waiting: Sequence[_Waiting], identity: str) -> None:
        """Make one body of each signal; it has the same identity if the next process makes it again."""
        found: dict[Signal, list[Derived]] = {Signal.METRIC: [], Signal.SPAN: []}
        for one in waiting:
            if one.usage:
                self._signals.note_usage(one.usage)
            try:
                for signal, derived in self._signals.of(one.records):
                    found[signal] += derived
            except Exception as error:  # noqa: BLE001 - one body of many, and the next process must not meet it again
                self._log.error("A bug kept metrics or spans from being made. Please report it.", **where(error))
        for signal, derived in found.items():
            name = identity_of(identity, signal)
            is_there = self._spool is not None and self._spool.find(name) is not None
            if derived and not is_there:
                self._intake.take_derived(signal, derived, name)

    def _settle(self, waiting: Sequence[_Waiting]) -> None:
        """Note that the bodies are needed no longer, and which end the next process must not count again."""
        if self._spool is not None:
            self._spool.settle_masks(self._sink, [(one.identity, _EVERYTHING) for one in waiting])
        ends = [record.request_id for one in waiting for record in one.records if record.context.type == _DONE]
        if ends:
            self._intake.measured = ends[-1]
            self._intake.save_handover()

    def recover(self, backlog: Backlog) -> None:
        """Derive what the process before did not, of the bodies that it left. Call once, before anything is added.

        That process may have ended between writing what it had derived and noting it: then it is there already.
        """
        bodies: dict[str, list[Record]] = {}
        while backlog:
            for record in backlog.read(_READ_RECORDS, _READ_BYTES):
                bodies.setdefault(record.batch, []).append(record)
        self._waiting = [_Waiting(identity, records, ()) for identity, records in bodies.items()]
        self.derive()

    def finish(self, time_ms: int, reason: str | None) -> None:
        """Derive all that is left, also of what is open when the environment ends at `time_ms` for `reason`.

        What comes later is derived at once.
        """
        self._is_finished = True
        self.derive()
        for signal, derived in self._signals.finish(time_ms, reason):
            self._intake.take_unsent(signal, derived)
        if (unfinished := self._signals.unfinished) is not None:
            self._intake.traced = unfinished
            self._intake.save_handover()  # the next process must not tell it again
