"""From items to records: what is known of the function, and which request each line belongs to.

The state is which request runs (`running`), moved on by the platform's events as the items pass in order. On Managed
Instances requests interleave, so there an id is taken from the record or not given at all.
"""

from _blake2 import blake2b  # not by `hashlib`, which loads OpenSSL's library
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from telemetry_forwarder.lazy_dataclass import dataclass, replace
from telemetry_forwarder.records.handover import Heritage
from telemetry_forwarder.records.log_lines import read
from telemetry_forwarder.records.record import Item, Origin, Record
from telemetry_forwarder.records.running import ENDS, Invocation, Running, is_loss
from telemetry_forwarder.variables.table import MANAGED_INSTANCES, SNAP_START

# Initialised before anyone waited for them, so that no request of theirs is cold.
_WARMED = frozenset({"provisioned-concurrency", SNAP_START})

# What is told of an init and names no request.
_OF_INIT = frozenset({
    "platform.initStart", "platform.initRuntimeDone", "platform.initReport", "platform.extension",
    "platform.telemetrySubscription",
})  # fmt: skip
_MOST_KNOWN = 256  # requests that are remembered; on Managed Instances more, while that many run


@dataclass(frozen=True, slots=True, kw_only=True)
class Knowledge:
    """What an enricher has learned at one moment: with it, another one makes the same records of the same items."""

    instance_id: str | None
    init_type: str | None
    current: str | None
    first: str | None
    starts: int
    init_within: str | None
    known: tuple[str, ...]
    ended: tuple[str, ...] = ()  # of those known, on Managed Instances
    inherited: str | None = None  # the request that ran last in the generation before, and its first one
    inherited_first: str | None = None
    restored: str | None = None  # the environment's own name, where it was restored from a snapshot that has another
    is_lost: bool = False  # these three: see `Running`
    end: tuple[str, int] | None = None
    invocations: tuple[tuple[str, int, int], ...] = ()


class Enricher:
    """Turns items into records, in the order in which Lambda sent them."""

    def __init__(self, origin: Origin, before: Heritage | None = None) -> None:
        """Begin to enrich; `before` is what the generation before left, where there was one in this environment."""
        self._before = before or Heritage()
        self.origin = replace(origin, instance_id=origin.instance_id or self._before.instance_id)
        self._restored = self._before.restored
        self._running = Running()
        self._dead: str | None = self._before.request_id  # a request of the generation before, until another starts
        self._init_within: str | None = None  # the request that pays for the init that was last begun
        self._first: str | None = None
        self._known: dict[str, None] = {}  # requests that were started, the oldest first
        self._ended: dict[str, None] = {}  # those of them that have ended, on Managed Instances
        self._starts = 0
        self._knowledge: Knowledge | None = None

    @property
    def knowledge(self) -> Knowledge:
        """What has been learned so far: the same object until something is."""
        if self._knowledge is None:
            self._knowledge = Knowledge(
                instance_id=self.origin.instance_id,
                init_type=self.origin.init_type,
                current=self._running.current,
                first=self._first,
                starts=self._starts,
                init_within=self._init_within,
                known=tuple(self._known),
                ended=tuple(self._ended),
                inherited=self._before.request_id,
                inherited_first=self._before.first,
                restored=self._restored,
                is_lost=self._running.is_lost,
                end=self._running.end,
                invocations=tuple((*one,) for one in self._running.told),  # as JSON can hold it
            )
        return self._knowledge

    def recall(self, knowledge: Knowledge) -> None:
        """Go on from `knowledge`, of this enricher or another one of the same function."""
        self.origin = replace(self.origin, instance_id=knowledge.instance_id, init_type=knowledge.init_type)
        self._restored = knowledge.restored
        self._running.current = knowledge.current
        self._running.is_lost = knowledge.is_lost
        self._running.end = knowledge.end
        self._running.told = tuple(Invocation(*one) for one in knowledge.invocations)
        self._first = knowledge.first
        self._starts = knowledge.starts
        self._init_within = knowledge.init_within
        self._known = dict.fromkeys(knowledge.known)
        self._ended = dict.fromkeys(knowledge.ended)
        self._before = Heritage(request_id=knowledge.inherited, first=knowledge.inherited_first)
        self._knowledge = knowledge

    def hear(self, invocation: Invocation) -> None:
        """Note an INVOKE event, as soon as it has come."""
        if not self._is_concurrent:
            self._running.hear(invocation)

    def restore(self, instance_id: str) -> None:
        """Note which name the environment goes by from the sign of its restore on, before that is enriched."""
        if self._restored != instance_id:
            self._restored = instance_id
            self._knowledge = None

    def lose(self) -> None:
        """Note that what stood at this place of the telemetry is lost, and with it perhaps a start."""
        if not self._is_concurrent and self._running.lose():
            self._knowledge = None

    def consult(self, items: Sequence[Item], gaps: Sequence[int] = ()) -> None:
        """Learn from the INVOKE events what `items` leave open, before `knowledge` is asked for and they are enriched.

        Only what is needed, since whoever keeps what was known keeps it anew when something was learned.
        """
        if self._running.consult(items, gaps):
            self._first = self._first or self._running.first_told
            self._knowledge = None

    @property
    def is_in_doubt(self) -> bool:
        """Whether it takes an INVOKE event to tell what runs."""
        return self._running.is_in_doubt

    def learn(self, items: Sequence[Item], gaps: Sequence[int] = ()) -> None:
        """Take from `items` what `enrich` would, without making records."""
        self._look_over(items)
        for index, item in enumerate(items):
            if index in gaps:
                self.lose()
            if item.type.startswith("platform."):
                self._learn(item)
                self._learn_of_loss(item)
        if len(items) in gaps:
            self.lose()

    @property
    def heritage(self) -> Heritage:
        """What the next generation has to know."""
        return Heritage(
            instance_id=self.origin.instance_id,
            request_id=self._running.newest if self._starts or self.is_in_doubt else self._before.request_id,
            first=self._first or self._before.first,
            restored=self._restored,
        )

    def enrich(self, items: Sequence[Item], batch_id: str, gaps: Sequence[int] = ()) -> list[Record]:
        """Return a record for each item; its place is in the batch `batch_id`, so one sent again repeats their ids.

        `gaps` are the indices before which something is lost (`records.Decoded`).
        """
        return [record for some in self.enrich_some(items, batch_id, len(items) or 1, gaps) for record in some]

    def enrich_some(
        self, items: Sequence[Item], batch_id: str, at_once: int, gaps: Sequence[int] = ()
    ) -> Iterator[list[Record]]:
        """Do so for `at_once` items at a time; another batch must not be begun before all are taken."""
        self._look_over(items)
        starts = sorted({*range(0, len(items), at_once), *gaps} - {len(items)})
        for start, end in zip(starts, [*starts[1:], len(items)], strict=False):
            if start in gaps:
                self.lose()
            yield [self._record(item, batch_id, index) for index, item in enumerate(items[start:end], start)]
        if len(items) in gaps:
            self.lose()

    def _look_over(self, items: Sequence[Item]) -> None:
        """Learn what a batch tells of items that stand before its place in it."""
        if self.origin.instance_id is None:  # what stands before the init's own event is of the same environment
            self._learn_of_environment(_init_start_in(items))
        if self._running.current is None:
            self._dead = _ended_before_any_start(items) or self._before.request_id

    def _record(self, item: Item, batch: str, index: int) -> Record:
        time_ms, kind, body, size_bytes = item
        fields: Mapping[str, Any] | None
        level: str | None
        if kind.startswith("platform."):
            fields = body if isinstance(body, dict) else None
            self._learn(item)
            request_id, level = self._told_by_platform(kind, fields or {})
            is_cold = self._is_cold(request_id)
            self._learn_of_loss(item)
        else:
            if body.__class__ is str and body.endswith("\n"):
                body = body[:-1]
            fields, level, told_ids, is_sure = read(body)
            request_id = self._request_id(item, told_ids, is_sure)
            is_cold = self._is_cold(request_id)
        return Record(
            batch=batch,
            index=index,
            time_ms=time_ms,
            type=kind,
            body=body,
            fields=fields,
            origin=self.origin,
            request_id=request_id,
            cold_start=is_cold,
            level=level,
            size_bytes=size_bytes,
        )

    def _learn(self, item: Item) -> None:
        """Take from the platform's own events, which are objects, what only they say."""
        if not isinstance(item.body, dict):
            return
        request_id = item.body.get("requestId")
        if item.type == "platform.initStart":
            self._learn_of_environment(item.body)
            self._knowledge = None
            current = self._running.current or self._dead
            self._init_within = current if item.body.get("phase") == "invoke" else None
        elif item.type == "platform.restoreStart":
            self.restore(restored_as(item.body) or self._restored or self.origin.instance_id or "")
            self._take_on_name()
        elif item.type == "platform.start" and isinstance(request_id, str):
            self._knowledge = None
            self._take_on_name()
            self._starts += 1
            for missed in self._running.start(request_id, item.time_ms):
                self._remember(missed)
            self._first = self._first or request_id
            self._remember(request_id)
        elif item.type in ENDS and isinstance(request_id, str):
            self._note_end(request_id, item.time_ms)

    def _take_on_name(self) -> None:
        """Go by the name of the restored environment: up to here it was the snapshot's."""
        if self._restored and self._restored != self.origin.instance_id:
            self._knowledge = None
            self.origin = replace(self.origin, instance_id=self._restored)

    def _learn_of_loss(self, item: Item) -> None:
        """Take from a platform event what it says of those that do not come; it belongs to what is before the gap."""
        if is_loss(item):
            self.lose()

    def _note_end(self, request_id: str, time_ms: int) -> None:
        if not self._is_concurrent:
            if self._running.finish(request_id, time_ms):
                self._knowledge = None
        elif request_id in self._known:
            self._knowledge = None
            self._ended[request_id] = None

    def _remember(self, request_id: str) -> None:
        """Add a request; when there are too many, forget the one that ended first, else the first one.

        On Managed Instances a request may outlast hundreds of others, so one that runs is kept.
        """
        self._known[request_id] = None
        self._ended.pop(request_id, None)
        if len(self._known) > _MOST_KNOWN:
            if self._ended:
                forgotten = next(iter(self._ended))
                del self._ended[forgotten]
            elif self._is_concurrent and len(self._known) <= 16 * _MOST_KNOWN:
                return
            else:
                forgotten = next(iter(self._known))
            del self._known[forgotten]

    def _learn_of_environment(self, body: Mapping[str, Any]) -> None:
        instance, init_type = body.get("instanceId"), body.get("initializationType")
        if isinstance(instance, str) and instance:
            self._knowledge = None
            self.origin = replace(self.origin, instance_id=instance)
        if isinstance(init_type, str) and self.origin.init_type is None:
            self._knowledge = None
            self.origin = replace(self.origin, init_type=init_type)

    def _told_by_platform(self, kind: str, fields: Mapping[str, Any]) -> tuple[str | None, str]:
        """Return the request and the level of a platform event: what it says is believed.

        Those of an init that is made up for within an invocation belong to that one.
        """
        request_id = fields.get("requestId")
        if not (isinstance(request_id, str) and request_id):
            request_id = self._init_within if kind in _OF_INIT else None
        is_well = fields.get("status", "success") == "success" and not fields.get("errorType")
        return request_id, "warn" if kind == "platform.logsDropped" else "info" if is_well else "error"

    def _request_id(self, item: Item, told: tuple[str, ...], is_sure: bool) -> str | None:
        """Choose the request of a line: the first of those it names that was started here, else the one that runs now.

        A line may hold some other id under the same name (an API's request, say). So what it names is believed without
        that only where it `is_sure` and no request has been heard of, as in the last lines of the generation before.
        An extension's line is a request's only where it names it. On Managed Instances requests interleave: a line
        that names none of them has none.
        """
        is_function = item.type == "function"
        current = self._running.at(item.time_ms, self._dead) if is_function else None
        if not told:
            return None if self._is_concurrent else current
        if told[0] == current:  # nearly always
            return current
        for request_id in told:
            if request_id in self._known or request_id == current or self._is_told(request_id):
                return request_id
        if is_sure and is_function and (not self._known if self._is_concurrent else current is None):
            return told[0]
        return None if self._is_concurrent else current

    def _is_told(self, request_id: str) -> bool:
        return any(one.request_id == request_id for one in self._running.told)

    @property
    def _is_concurrent(self) -> bool:
        return self.origin.init_type == MANAGED_INSTANCES

    def _is_cold(self, request_id: str | None) -> bool | None:
        """Say whether a record belongs to the init phase or the first request; None where that cannot be known."""
        if self._is_concurrent:
            return None
        if self.origin.init_type in _WARMED:
            return False
        if request_id is None:
            if self._starts > 1 or not self._running.is_lost:
                return self._starts <= 1
            return True if not self._starts and len(self._running.told) <= 1 else None
        if request_id == self._first:
            return True
        if request_id == self._running.current or request_id in self._known or self._is_told(request_id):
            return False
        # What was never started here is the end of an invocation from before a reset.
        if request_id == self._before.request_id:
            return request_id == self._before.first
        return None


def batch_id(body: bytes, environment: str | None = None) -> str:
    """Return 24 hexadecimal digits that are the same whenever Lambda sends the same batch again.

    Of the bytes alone: nobody documents whether a batch that is sent again keeps its `sequence-id`. Two batches do not
    have the same bytes by chance. Each record carries its time in ms, and platform records a request id; a batch ends
    by its size or after 25 ms at least (AWS Lambda Developer Guide, Telemetry API, buffering: `maxItems` is 1,000 or
    more, `maxBytes` 256 KiB or more), so that the same lines would have to fill two of them within one millisecond. Of
    the two mistakes, a line that was written a thousand times within it counted once and every line of a batch
    forwarded twice, the first is the smaller one; the ledger shows it as `redelivered_bodies`.

    That holds within one environment. Copies of one snapshot may write the same at the same time, so what they send is
    told apart by the `environment`, too: its name since its restore.
    """
    key = blake2b(environment.encode("utf-8", "replace"), digest_size=32).digest() if environment else b""
    return blake2b(body, digest_size=12, key=key).hexdigest()


def restored_as(body: Mapping[str, Any]) -> str | None:
    """Return the name that a `platform.restoreStart` gives the environment; schemas before 2025-01-29 give none."""
    name = body.get("instanceId")
    return name if isinstance(name, str) and name else None


def _init_start_in(items: Sequence[Item]) -> Mapping[str, Any]:
    bodies = (item.body for item in items if item.type == "platform.initStart" and isinstance(item.body, dict))
    return next(bodies, {})


def _ended_before_any_start(items: Sequence[Item]) -> str | None:
    """Return the request whose end is told before any start.

    The first that a new generation hears of may be the last lines of an invocation that ended the one before it, or an
    init within an invocation whose start came before the subscription: only the end behind them names the request.
    None also where something was lost in between.
    """
    for item in items:
        body = item.body if isinstance(item.body, dict) else {}
        if item.type in ("platform.start", "platform.logsDropped"):
            return None
        if item.type == "platform.initStart" and body.get("phase") != "invoke":
            return None
        if item.type in ENDS and isinstance(request_id := body.get("requestId"), str):
            return request_id
    return None
