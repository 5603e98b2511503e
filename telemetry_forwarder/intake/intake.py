"""Process a telemetry body: count, decode, enrich, keep and route it, and tell the lifecycle about its events.

Data problems are counted and answered 200, because Lambda sends a refused batch again and again. Source: lambda
telemetry listeners in the field; AWS documents only that anything but 2xx is retried.
"""

import contextlib
import os
import time
from _blake2 import blake2b  # not from `hashlib`, which loads OpenSSL's library
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from msgspec import Struct
from msgspec.structs import replace

from telemetry_forwarder.clock import Clock
from telemetry_forwarder.errors import DecodeError
from telemetry_forwarder.intake.router import Router
from telemetry_forwarder.ledger import IntakeCounts, Unrouted
from telemetry_forwarder.log import Log
from telemetry_forwarder.records.derived import MOST_ITEMS, Derived, body_of, identity_of, records_from, records_of
from telemetry_forwarder.records.enrich import Enricher, enrich, restored_as
from telemetry_forwarder.records.handover import HandoverFile
from telemetry_forwarder.records.knowledge import Knowledge
from telemetry_forwarder.records.record import (
    Decoded,
    Event,
    Record,
    Signal,
    batch_id,
    decode,
    decode_in_steps,
    events_in,
)
from telemetry_forwarder.spool.frames import OWN, KeptBody, kept_body
from telemetry_forwarder.spool.spool import Spool
from telemetry_forwarder.variables.table import SNAP_START

if TYPE_CHECKING:
    from telemetry_forwarder.intake.deriving import Deriving

# Lambda repeats a batch soon, so this many identities are remembered and handed to the next generation
# (`handover.SIZE`).
_REMEMBERED = 64
# The start of the type of every platform event.
EVENT = b'"platform.'
# A line of the function shows that it runs. The lifecycle is told once for each body that has such a line.
LINE, _LINE = "function", b'"function"'
_LOSS = b'"platform.logsDropped"'
_RESTORED, _RESTORE, _START = "platform.restoreStart", b'"platform.restoreStart"', b'"platform.start"'
# A body up to this length is digested on arrival if none waits before it. That takes less than a slice, and most
# invocations have nothing else.
SMALL_BYTES = 16 * 1024
# Records that are made before other tasks may run: a tenth of a slice.
AT_ONCE = 32


class Arrived(Struct):
    """A body that was admitted and is still to be digested; `decoded` is set if its events had to be read at once.

    `steps` is the unfinished rest of decoding, if the body has to be taken apart.
    """

    body: bytes
    identity: str  # the prefix of its records' ids
    received_ms: int
    decoded: Decoded | None = None
    steps: Generator[None, None, Decoded] | None = None
    is_undecodable: bool = False
    is_judged: bool = False  # whether the lifecycle was told of its unreadable parts
    is_behind_a_loss: bool = False  # whether a body directly before it was lost
    fingerprint: str = ""  # the digest of the bytes alone
    restored_as: str | None = None  # if it reports a restore: the environment's new name


class Intake:
    """Processes bodies: decode, enrich, keep, route, tell the lifecycle. It waits for nothing but the disk.

    `on_loss` is called if something could not be read that may have been the end of the invocation; `on_events` is
    called before with what was valid. `on_interruption` is called if a body breaks off; Lambda may send it again.
    """

    def __init__(
        self,
        *,
        enricher: Enricher,
        router: Router,
        counts: IntakeCounts,
        on_events: Callable[[Sequence[Event]], None],
        clock: Clock,
        log: Log,
        on_loss: Callable[[], None] = lambda: None,
        on_interruption: Callable[[], None] = lambda: None,
        handover_file: HandoverFile | None = None,
        spool: Spool | None = None,
        soon: Callable[[Callable[[], None]], object] | None = None,
        known: Sequence[str] = (),
    ) -> None:
        """Start; `known` are the identities of the bodies that the previous generation took last.

        Bodies are kept in `spool`. `soon` schedules a function to run after the response is sent. Without `soon` a body
        is written to the spool before the response.
        """
        self._enricher = enricher
        self._router = router
        self._counts = counts
        self._on_events = on_events
        self._clock = clock
        self._log = log
        self._on_loss = on_loss
        self.on_interruption = on_interruption
        self._is_unreadable_said = False
        self._has_lost = False  # whether a body was lost since the last one that was admitted
        self._handover_file = handover_file
        self._left = enricher.handover
        self._environment = self._left.restored  # None while it has the name of its init
        self._spool = spool
        self._soon = soon
        self.deriving: Deriving | None = None  # makes metrics and spans, if a sink takes them
        self.traced: str | None = None  # the request whose trace was sent last without its report
        self.measured: str | None = None  # the request whose end was measured last
        self._others = 0  # bodies that Lambda did not send
        kept = spool.identities()[-_REMEMBERED:] if spool else []
        # Identities of the last bodies, oldest first; in a list, to look one up takes as long as to parse a body.
        self._recent = dict.fromkeys([*dict.fromkeys([*known, *kept])][-2 * _REMEMBERED :])

    def take(self, body: bytes, sequence_id: str) -> None:
        """Count and hand on one body, all at once."""
        arrived = self.admit(body, sequence_id)
        if arrived is not None:
            for _ in self.digest(arrived):
                pass

    def admit(self, body: bytes, sequence_id: str) -> Arrived | None:
        """Count a body and tell the lifecycle about its platform events. Return None if the body was taken before.

        This runs at once and is short: the end of an invocation must be noticed however many bodies wait before it.
        """
        self._counts.bodies += 1
        fingerprint = batch_id(body)
        identity = batch_id(body, self._environment) if self._environment else fingerprint
        if fingerprint in self._recent or identity in self._recent:  # our 200 was lost, and Lambda sent the batch again
            self._counts.redelivered_bodies += 1
            self._log.debug(f"Lambda sent a batch again (sequence-id {sequence_id[:64]!r}); it was taken before.")
            return None
        self._recent[fingerprint] = None
        if len(self._recent) > 2 * _REMEMBERED:
            del self._recent[next(iter(self._recent))]
        now_ms = round(self._clock.time() * 1000)
        arrived = Arrived(body, identity, now_ms, is_behind_a_loss=self._has_lost, fingerprint=fingerprint)
        self._has_lost = False
        lines = (Event(arrived.received_ms, LINE, None),) if _LINE in body else ()
        if EVENT not in body and body.startswith(b"[") and body.endswith(b"]"):
            self._on_events(lines)
            return arrived
        with contextlib.suppress(DecodeError):  # the error is reported when the body is digested
            self._begin(arrived)
        self._on_events([*lines, *(events_in(arrived.decoded.items) if arrived.decoded is not None else ())])
        self._judge(arrived)
        self._look_for_restore(arrived)
        return arrived

    def _look_for_restore(self, arrived: Arrived) -> None:
        """Rename the environment if it was restored from a snapshot, because all other data is the same in all copies.

        In a copy that got no restore event, a start also shows that it was restored.
        """
        is_told = _RESTORE in arrived.body
        is_copy = self._enricher.origin.init_type == SNAP_START and self._environment is None
        if not is_told and not (is_copy and _START in arrived.body):
            return
        items = arrived.decoded.items if arrived.decoded is not None else ()
        told = (restored_as(one.body) for one in items if one.type == _RESTORED and isinstance(one.body, dict))
        self._environment = next(filter(None, told), None) or self._environment or self._new_name(arrived)
        arrived.identity = batch_id(arrived.body, self._environment)
        arrived.restored_as = self._environment

    def _new_name(self, arrived: Arrived) -> str:
        """Return a name in Lambda's own pattern, unique among the copies even if their random states are equal."""
        version = self._enricher.origin.function_version or "$LATEST"
        day = time.strftime("%Y/%m/%d", time.gmtime(arrived.received_ms / 1000))
        return f"{day}/[{version}]{blake2b(arrived.body, digest_size=16, key=os.urandom(32)).hexdigest()}"

    @staticmethod
    def _begin(arrived: Arrived) -> None:
        """Decode a body at once, except a long one that has to be taken apart: its events are told later.

        Raises DecodeError.
        """
        steps = decode_in_steps(arrived.body, arrived.received_ms)
        try:
            next(steps)
            while len(arrived.body) <= SMALL_BYTES:
                next(steps)
        except StopIteration as done:
            arrived.decoded = done.value
        else:
            arrived.steps = steps

    def _judge(self, arrived: Arrived) -> None:
        """Tell the lifecycle if a part of a body could not be read: the end of the invocation may have been in it."""
        found = arrived.decoded
        if not arrived.is_judged and (found is None or found.others or found.unreadable):
            self._on_loss()
        arrived.is_judged = True

    def digest(self, arrived: Arrived) -> Iterator[None]:
        """Count and hand on an admitted body. Between steps other tasks may run, but no other body may be digested.

        Nothing is counted before the last step, so a body that is not digested to its end can be given up.
        """
        yield from self._decode(arrived)
        if (decoded := self._decoded(arrived)) is None:
            return
        items, gaps = decoded.items, decoded.gaps
        yield
        self._enricher.consult(items, gaps)
        before = self._enricher.knowledge
        records: list[Record] = []
        for some in self._enricher.enrich(items, arrived.identity, AT_ONCE, gaps):
            records += some
            yield
        if self._left != self._enricher.handover:
            self.save_handover()
        self._count(decoded)
        telling = self.deriving.telling(records) if self.deriving is not None else ()
        self._router.route(
            records, lambda wanted: self._keep(arrived, len(items), wanted, before, derives=bool(telling))
        )
        if telling and self.deriving is not None:
            self.deriving.add(arrived.identity, telling, len(arrived.body))
        for record in records:
            if record.context.type == "platform.logsDropped" and record.fields:
                self._note_loss(record.fields)

    def take_unsent(self, signal: Signal, derived: Sequence[Derived], *, is_received: bool = False) -> None:
        """Take records of which Lambda sent nothing (`is_received`: the function did), as a body that is no other's."""
        self._others += 1
        name = f"{self._enricher.origin.instance_id} {os.getpid()} {self._clock.time()} {self._others}"
        self.take_derived(signal, derived, identity_of(name, signal), is_received=is_received)

    def take_derived(
        self, signal: Signal, derived: Sequence[Derived], identity: str, *, is_received: bool = False
    ) -> None:
        """Count, keep and hand on records of our own, all of one `signal`. `identity` is that of the body they make."""
        origin = self._enricher.origin
        for start in range(0, len(derived), MOST_ITEMS):
            some = derived[start : start + MOST_ITEMS]
            body = body_of(some)
            name = identity_of(identity, str(start)) if start else identity
            now_ms = round(self._clock.time() * 1000)
            if is_received:
                records = records_of(origin, decode(body, now_ms).items, name)
            else:
                records = records_from(origin, some, name, len(body))
            if self._spool is not None:
                kept = kept_body(
                    name, body, now_ms, items=len(records), wanted=range(len(records)), teaches=False, kind=OWN[signal]
                )
                self._add(kept, self._enricher.knowledge, self._enricher.knowledge)
            self._router.route_derived(signal, records)

    def give_up(self, arrived: Arrived, *, keep: bool) -> int:
        """Count an admitted body that will not be digested. With `keep` it goes to the spool, if there is one.

        Return how many records the sinks miss.
        """
        if (decoded := self._decoded(arrived)) is None:
            return 0
        items = decoded.items
        self._enricher.consult(items, decoded.gaps)
        before = self._enricher.knowledge
        self._enricher.learn(items, decoded.gaps)
        self._count(decoded)
        wanted = self._router.count(items)
        # Of the events at least, which are few, metrics and spans are made.
        events = [item for item in items if item.type.startswith("platform.")] if self.deriving is not None else []
        if keep:
            self._keep(arrived, len(items), wanted, before, derives=bool(events))
        if self.deriving is not None and events:
            for records in enrich(self._enricher.origin, before, events, arrived.identity, len(events)):
                self.deriving.add(arrived.identity, records, 0)
        return len(wanted)

    def _decode(self, arrived: Arrived) -> Iterator[None]:
        """Decode in steps, or continue to. A caller may stop at any step, and another may continue."""
        steps = arrived.steps = arrived.steps or decode_in_steps(arrived.body, arrived.received_ms)
        while arrived.decoded is None and not arrived.is_undecodable:
            try:
                next(steps)
            except StopIteration as done:
                arrived.decoded = done.value
                if arrived.is_judged:  # judged as damaged before its events could be told
                    self._on_events(events_in(done.value.items))
            except DecodeError as error:
                arrived.is_undecodable = True
                self._counts.undecodable_bodies += 1
                self._log.warning(f"Lambda sent something that is no telemetry: {error}. It is counted and left out.")
            else:
                yield

    def _decoded(self, arrived: Arrived) -> Decoded | None:
        """Return the content of a body. A body without content is forgotten, so that a repeat of it is taken."""
        for _ in self._decode(arrived):
            pass
        if arrived.is_behind_a_loss or arrived.is_undecodable:
            self._enricher.lose()
        if arrived.restored_as is not None:
            self._enricher.restore(arrived.restored_as)
        self._judge(arrived)
        found = arrived.decoded
        if found is None or not (found.items or found.others):
            self._recent.pop(arrived.fingerprint, None)
        return found

    def _count(self, found: Decoded) -> None:
        self._counts.received += len(found.items) + found.others
        self._counts.unreadable_records += found.unreadable
        if found.others:
            self._counts.unrouted[Unrouted.NOT_A_RECORD] += found.others
            self._log.warning(
                f"{found.others} elements of a telemetry batch are no records; they are counted and left out."
            )
        if found.unreadable and not self._is_unreadable_said:
            self._is_unreadable_said = True
            self._log.warning(
                f"{found.unreadable} records of a telemetry batch are no JSON that can be read (damaged, or nested too "
                "deep). They are forwarded as text, marked, and cut where they are long; the ledger counts them "
                "(unreadable_records)."
            )

    def interrupt(self, what: str) -> None:
        """Count a body that did not come whole, or was no valid HTTP: Lambda sends it again, or gives it up."""
        self._counts.interrupted_bodies += 1
        self._log.info(f"A telemetry body did not come whole: {what}.")
        self.on_interruption()

    def save_handover(self) -> None:
        """Write what the next generation has to know: at the end, and once it changes, before we can be killed."""
        if self._handover_file is not None:
            self._left = self._enricher.handover
            taken = "".join([*self._recent][-_REMEMBERED:])
            left = replace(self._left, taken=taken, measured=self.measured, traced=self.traced)
            self._handover_file.write(left)

    def _keep(self, arrived: Arrived, items: int, wanted: Sequence[int], before: Knowledge, *, derives: bool) -> None:
        """Add the body to the spool. It is written now or after the response, or earlier if a sink has no room for it.

        `wanted` are the indices of the items that the sinks want, `before` is the Knowledge before the body, `derives`
        tells whether metrics or spans are still to be made of it.
        """
        if self._spool is None or not items:
            return
        after = self._enricher.knowledge
        kept = kept_body(
            arrived.identity, arrived.body, arrived.received_ms,
            items=items, wanted=wanted, teaches=after is not before, derives=derives,
        )  # fmt: skip
        self._add(kept, before, after)

    def _add(self, kept: KeptBody, before: Knowledge, after: Knowledge) -> None:
        if self._spool is None:
            return
        self._spool.add(kept, before, after)
        if self._soon is None:
            self._spool.commit()
        else:
            self._soon(self._spool.commit)

    def refuse(self, limit: int) -> None:
        """Count and log a body longer than `limit` bytes. Nobody knows how many records it held."""
        self._counts.oversize_bodies += 1
        self._log.warning(f"Lambda sent a telemetry body of more than {limit} bytes; it is counted and left out.")
        self._has_lost = True
        self._on_loss()

    def is_open(self, body: bytes) -> bool:
        """Return whether an INVOKE event that is still to be read may be needed to assign the lines of `body`."""
        return self._has_lost or self._enricher.is_in_doubt or _LOSS in body

    def _note_loss(self, fields: Mapping[str, Any]) -> None:
        """Count records that Lambda itself dropped: they are no records of ours, but the user has lost them."""
        records, size = _whole(fields.get("droppedRecords")), _whole(fields.get("droppedBytes"))
        self._counts.lost_before_us += records
        self._counts.lost_before_us_bytes += size
        self._log.warning(f"Lambda dropped {records} records ({size} bytes) before they reached the extension.")


def _whole(value: object) -> int:
    """Return `value` if it is a plausible count, else 0, so that the ledger stays sound."""
    return value if isinstance(value, int) and 0 <= value < 2**53 else 0
