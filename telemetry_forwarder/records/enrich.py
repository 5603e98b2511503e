"""Enrich telemetry items into records: the request of each line, its level, whether it is a cold start.

A pure fold over batches: Knowledge and the items of a batch come in, records and the new Knowledge come out. The
Knowledge holds above all the running request (`running`); the platform's events update it as the items pass in order.
On Managed Instances requests interleave, so a record there has only the request id that it names itself, or none.
"""

from collections.abc import Generator, Iterator, Mapping, Sequence
from functools import cached_property, lru_cache
from typing import Any

from msgspec.structs import replace

from telemetry_forwarder.records.handover import Handover
from telemetry_forwarder.records.knowledge import (
    Knowledge,
    consult,
    ended_before_any_start,
    handover,
    init_start_in,
    is_in_doubt,
    traces_of,
)
from telemetry_forwarder.records.log_lines import read
from telemetry_forwarder.records.record import Context, Item, Origin, Record
from telemetry_forwarder.records.running import ENDS, Heard, Invocation, Running, is_loss
from telemetry_forwarder.variables.table import MANAGED_INSTANCES, SNAP_START

# Such environments are initialised before a request waits for them, so none of their requests is cold.
_WARMED = frozenset({"provisioned-concurrency", SNAP_START})

# Events of an init, which name no request.
_OF_INIT = frozenset({
    "platform.initStart", "platform.initRuntimeDone", "platform.initReport", "platform.extension",
    "platform.telemetrySubscription",
})  # fmt: skip
_MOST_RUNNING = 4096  # at once, on Managed Instances
_MOST_TRACED = 16  # the most requests whose trace is remembered where they do not interleave
_MOST_KNOWN = 256  # the most requests that are remembered; on Managed Instances more, while that many run


def enrich(
    origin: Origin, knowledge: Knowledge, items: Sequence[Item], batch: str, at_once: int, gaps: Sequence[int] = ()
) -> Generator[list[Record], None, Knowledge]:
    """Yield a record for each item of a batch, `at_once` at a time; return the new Knowledge at the end.

    It is the same object if nothing was learned. `origin` is what was known before any telemetry. `gaps` are the
    indices before which telemetry was lost (`records.Decoded`). A record's id is made of `batch` and its index, so a
    batch that is sent again repeats its ids.
    """
    fold = _Fold(origin, knowledge, items)
    yield from fold.records(items, batch, at_once, gaps)
    return fold.knowledge


def learn(origin: Origin, knowledge: Knowledge, items: Sequence[Item], gaps: Sequence[int] = ()) -> Knowledge:
    """Return the Knowledge after a batch, without making records of it."""
    fold = _Fold(origin, knowledge, items)
    fold.learn(items, gaps)
    return fold.knowledge


class Enricher:
    """Keeps the Knowledge between batches, and the INVOKE events that came beside the telemetry."""

    def __init__(self, origin: Origin, before: Handover | None = None, *, is_traced: bool = False) -> None:
        """Start with `before`, which is what the previous generation in this environment left, if there was one.

        If `is_traced`, records get the trace id of their request.
        """
        left = before or Handover()
        self._origin = origin
        self._heard = Heard()
        self.knowledge = Knowledge(
            instance_id=origin.instance_id or left.instance_id,
            init_type=origin.init_type,
            inherited=left.request_id,
            inherited_first=left.first,
            restored=left.restored,
            is_traced=is_traced,
            traces=((left.request_id, left.trace_id),) if is_traced and left.request_id and left.trace_id else (),
        )

    @property
    def origin(self) -> Origin:
        return environment(self._origin, self.knowledge)

    @property
    def handover(self) -> Handover:
        """What the next generation has to know."""
        return handover(self.knowledge, self._heard)

    @property
    def is_in_doubt(self) -> bool:
        """Whether only an INVOKE event can tell which request runs."""
        return is_in_doubt(self.knowledge)

    def hear(self, invocation: Invocation) -> None:
        """Note an INVOKE event. Call it as soon as the event has come."""
        if self.knowledge.init_type != MANAGED_INSTANCES:
            self._heard = self._heard.and_of(invocation)

    def restore(self, instance_id: str) -> None:
        """Note the environment's name from its restore event on. Call it before that event is enriched."""
        if self.knowledge.restored != instance_id:
            self.knowledge = replace(self.knowledge, restored=instance_id)

    def lose(self) -> None:
        """Note that telemetry was lost at this point, which may have contained a start."""
        if self.knowledge.init_type != MANAGED_INSTANCES and not self.knowledge.is_lost:
            self.knowledge = replace(self.knowledge, is_lost=True)

    def consult(self, items: Sequence[Item], gaps: Sequence[int] = ()) -> None:
        """Learn from the INVOKE events what `items` leave open."""
        self.knowledge = consult(self.knowledge, self._heard, items, gaps)

    def learn(self, items: Sequence[Item], gaps: Sequence[int] = ()) -> None:
        self.knowledge = learn(self._origin, self.knowledge, items, gaps)

    def enrich(
        self, items: Sequence[Item], batch: str, at_once: int, gaps: Sequence[int] = ()
    ) -> Iterator[list[Record]]:
        """Enrich `at_once` items at a time. The Knowledge is updated only after the last step, and then as a whole."""
        self.knowledge = yield from enrich(self._origin, self.knowledge, items, batch, at_once, gaps)


class _Fold:
    """The enriching of one batch: a working copy of the Knowledge before it."""

    _known = cached_property[dict[str, None]](lambda self: dict.fromkeys(self._before.known))  # of use after a start

    def __init__(self, origin: Origin, knowledge: Knowledge, items: Sequence[Item]) -> None:
        """Start, and look ahead in `items` for facts that also apply to items before the event that tells them."""
        self._before = knowledge
        self._has_learned = False
        self._base = origin
        self.origin = environment(origin, knowledge)
        self._is_concurrent = self.origin.init_type == MANAGED_INSTANCES
        self._running = Running(
            knowledge.current, knowledge.started_ms, knowledge.is_lost, knowledge.end,
            tuple([Invocation(*one) for one in knowledge.invocations]),
        )  # fmt: skip
        self._first, self._starts = knowledge.first, knowledge.starts
        self._init_within = knowledge.init_within
        self._ended = dict.fromkeys(knowledge.ended)
        self._restored = knowledge.restored
        self._traces = traces_of(knowledge)
        if self.origin.instance_id is None:  # earlier items are of the same environment
            self._learn_of_environment(init_start_in(items))
        # The contexts of lines since the last platform event, by all that they depend on.
        self._contexts: dict[tuple[Any, ...], Context] = {}
        self._dead: str | None = None  # a request of the previous generation, until another starts
        if knowledge.current is None:
            self._dead = ended_before_any_start(items) or knowledge.inherited

    @property
    def knowledge(self) -> Knowledge:
        if not self._has_learned:
            return self._before
        return replace(
            self._before,
            instance_id=self.origin.instance_id,
            init_type=self.origin.init_type,
            current=self._running.current,
            first=self._first,
            starts=self._starts,
            init_within=self._init_within,
            known=tuple(self._known) if "_known" in self.__dict__ else self._before.known,
            ended=tuple(self._ended),
            restored=self._restored,
            is_lost=self._running.is_lost,
            started_ms=self._running.started_ms,
            end=self._running.end,
            invocations=tuple([(*one,) for one in self._running.announced]),
            traces=self._traces.told if self._traces is not None else (),
        )

    def records(self, items: Sequence[Item], batch: str, at_once: int, gaps: Sequence[int]) -> Iterator[list[Record]]:
        starts = sorted({*range(0, len(items), at_once), *gaps} - {len(items)})
        for start, end in zip(starts, [*starts[1:], len(items)], strict=False):
            if start in gaps:
                self._lose()
            yield self._records(items[start:end], batch, start)
        if len(items) in gaps:
            self._lose()

    def learn(self, items: Sequence[Item], gaps: Sequence[int]) -> None:
        """Learn from `items` the same as `records` does."""
        for index, item in enumerate(items):
            if index in gaps:
                self._lose()
            if item.type.startswith("platform."):
                self._learn(item)
                self._learn_of_loss(item)
        if len(items) in gaps:
            self._lose()

    def _lose(self) -> None:
        self._contexts.clear()
        self._has_learned |= not self._is_concurrent and self._running.lose()

    def _records(self, items: Sequence[Item], batch: str, index: int) -> list[Record]:
        """Make the records of some items, of which the first has `index` in its batch."""
        made = []
        fields: Mapping[str, Any] | None
        # The context of the last line, and what it was made of.
        context = _context(self.origin, "")
        last, last_kind = None, ""
        for item in items:
            kind, body = item.type, item.body
            if kind != last_kind and kind.startswith("platform."):
                fields = body if isinstance(body, dict) else None
                context = self._platform_context(item, fields or {})
                last = None
            else:
                if body.__class__ is str and body[-1:] == "\n":
                    body = body[:-1]
                reading = read(body)
                if reading is not last or kind != last_kind:
                    context = self._context_of_line(item, reading)
                    last, last_kind = None if self._running.is_in_doubt else reading, kind
                fields = reading[0]
            made.append(Record(batch, index, item.time_ms, body, fields, context, item.size_bytes))
            index += 1
        return made

    def _platform_context(self, item: Item, fields: Mapping[str, Any]) -> Context:
        """Learn from a platform event, and return its context."""
        self._contexts.clear()
        self._learn(item)
        request_id, level = self._told_by_platform(item.type, fields)
        trace_id = self._trace_of(request_id)
        context = _context(self.origin, item.type, request_id, self._is_cold(request_id), level, trace_id)
        self._learn_of_loss(item)
        return context

    def _context_of_line(self, item: Item, reading: tuple[Any, str | None, tuple[str, ...], bool]) -> Context:
        """Return the context of a line: the same between two platform events, unless its time has to tell it."""
        fields, level, told, is_sure = reading
        key: tuple[Any, ...] = (item.type, level, told, is_sure)
        own_trace = None
        if self._traces is not None and fields and (own_trace := self._traces.told_by(fields)) is not None:
            key = (*key, own_trace)
        context = self._contexts.get(key)
        if context is None:
            request_id = self._request_id(item, told, is_sure)
            trace_id = own_trace or self._trace_of(request_id)
            context = _context(self.origin, item.type, request_id, self._is_cold(request_id), level, trace_id)
            if not self._running.is_in_doubt:
                self._contexts[key] = context
        return context

    def _learn(self, item: Item) -> None:
        """Learn from a platform event whose body is an object."""
        if not isinstance(item.body, dict):
            return
        request_id = item.body.get("requestId")
        if item.type == "platform.initStart":
            self._learn_of_environment(item.body)
            self._has_learned = True
            current = self._running.current or self._dead
            self._init_within = current if item.body.get("phase") == "invoke" else None
        elif item.type == "platform.restoreStart":
            restored = restored_as(item.body) or self._restored or self.origin.instance_id or ""
            if restored != self._restored:
                self._restored, self._has_learned = restored, True
            self._take_on_name()
        elif item.type == "platform.start" and isinstance(request_id, str):
            self._has_learned = True
            self._take_on_name()
            self._starts += 1
            for missed in self._running.start(request_id, item.time_ms):
                self._remember(missed)
            self._first = self._first or request_id
            self._remember(request_id)
            if self._traces is not None:
                self._traces.start(request_id, item.body, _MOST_RUNNING if self._is_concurrent else _MOST_TRACED)
        elif item.type in ENDS and isinstance(request_id, str):
            self._note_end(request_id, item.time_ms)

    def _trace_of(self, request_id: str | None) -> str | None:
        return self._traces.of(request_id) if self._traces is not None else None

    def _take_on_name(self) -> None:
        """Use the name of the restored environment; up to here the name was the snapshot's."""
        if self._restored and self._restored != self.origin.instance_id:
            self._has_learned = True
            self.origin = _environment(self._base, self._restored, self.origin.init_type)

    def _learn_of_loss(self, item: Item) -> None:
        """Note a loss that a platform event reports. The event itself still belongs to what came before the gap."""
        if is_loss(item):
            self._lose()

    def _note_end(self, request_id: str, time_ms: int) -> None:
        if not self._is_concurrent:
            if self._running.finish(request_id, time_ms):
                self._has_learned = True
        elif request_id in self._known:
            self._has_learned = True
            self._ended[request_id] = None

    def _remember(self, request_id: str) -> None:
        """Add a request. If there are too many, forget the one that ended first, else the oldest.

        On Managed Instances a request may outlast hundreds of others, so running requests are kept.
        """
        self._known[request_id] = None
        self._ended.pop(request_id, None)
        if len(self._known) > _MOST_KNOWN:
            if not self._ended and self._is_concurrent and len(self._known) <= _MOST_RUNNING:
                return
            forgotten = next(iter(self._ended or self._known))
            self._ended.pop(forgotten, None)
            del self._known[forgotten]

    def _learn_of_environment(self, body: Mapping[str, Any]) -> None:
        instance, init_type = body.get("instanceId"), body.get("initializationType")
        if isinstance(instance, str) and instance:
            self._has_learned = True
            self.origin = _environment(self._base, instance, self.origin.init_type)
        if isinstance(init_type, str) and self.origin.init_type is None:
            self._has_learned = True
            self.origin = _environment(self._base, self.origin.instance_id, init_type)
            self._is_concurrent = init_type == MANAGED_INSTANCES

    def _told_by_platform(self, kind: str, fields: Mapping[str, Any]) -> tuple[str | None, str]:
        """Return the request and the level of a platform event, as the event states them.

        Events of an init within an invocation belong to that invocation.
        """
        request_id = fields.get("requestId")
        if not (isinstance(request_id, str) and request_id):
            request_id = self._init_within if kind in _OF_INIT else None
        is_well = fields.get("status", "success") == "success" and not fields.get("errorType")
        return request_id, "warn" if kind == "platform.logsDropped" else "info" if is_well else "error"

    def _request_id(self, item: Item, told: tuple[str, ...], is_sure: bool) -> str | None:
        """Return the request of a line: the first named id that was started here, else the request that runs now.

        A line may hold another id under the same name, such as an API's request id. So an id that was not started here
        is accepted only if `is_sure` and no request is known, as in the last lines of the previous generation. A line
        of an extension belongs to a request only if it names it. On Managed Instances requests interleave, so a line
        that names no request has none.
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
        return any(one.request_id == request_id for one in self._running.announced)

    def _is_cold(self, request_id: str | None) -> bool | None:
        """Return whether a record belongs to the init phase or the first request; None if that cannot be known."""
        if self._is_concurrent:
            return None
        if self.origin.init_type in _WARMED:
            return False
        if request_id is None:
            if self._starts > 1 or not self._running.is_lost:
                return self._starts <= 1
            return True if not self._starts and len(self._running.announced) <= 1 else None
        if request_id == self._first:
            return True
        if request_id == self._running.current or request_id in self._known or self._is_told(request_id):
            return False
        # A request that was never started here ended across a reset: it is the last one of the previous generation.
        if request_id == self._before.inherited:
            return request_id == self._before.inherited_first
        return None


# Equal contexts are one object, because sinks look up what they made of it.
_context = lru_cache(maxsize=512)(Context)


def environment(origin: Origin, knowledge: Knowledge) -> Origin:
    """Return the environment that records come from at the point of `knowledge`; `origin` is what was known before."""
    return _environment(origin, knowledge.instance_id, knowledge.init_type)


@lru_cache(maxsize=8)
def _environment(origin: Origin, instance_id: str | None, init_type: str | None) -> Origin:
    """Return `origin` with both values: the same object each time, because sinks cache what they made of an Origin."""
    return replace(origin, instance_id=instance_id, init_type=init_type)


def restored_as(body: Mapping[str, Any]) -> str | None:
    """Return the environment's name in a `platform.restoreStart`; None in schemas before 2025-01-29."""
    name = body.get("instanceId")
    return name if isinstance(name, str) and name else None
