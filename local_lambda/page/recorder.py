"""Watches environments and destinations, and puts what happens into the tables of the page."""

import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson

from local_lambda.local_lambda import LocalLambda
from local_lambda.page import timeline
from local_lambda.page.destinations import Destination, ReadLedger, Sighting
from local_lambda.page.sightings import Arrivals, Recognizer, is_lambdas
from local_lambda.page.tables import LIMITS, Row, Tables
from local_lambda.results import Invocation
from local_lambda.rules.log_lines import text_of
from local_lambda.transcript import Entry

_MOST_CHARACTERS = 8_000  # of one record that are kept; the page says how many are not


class Recorder:
    """Fills `tables` with what the followed environments do, and with what arrives at `destinations`.

    `read_ledger` recognizes the line in which an extension accounts for its records.
    """

    def __init__(
        self, destinations: Sequence[Destination] = (), *, read_ledger: ReadLedger = lambda line: None
    ) -> None:
        self.tables = Tables()
        self.destinations = {one.name: one for one in destinations}
        self.recognizer = Recognizer(LIMITS["records"])
        self.read_ledger = read_ledger
        self._environments = 0
        self._notices = 0
        self._watchers = [_DestinationWatcher(self, one) for one in destinations]

    def follow(self, number: int, env: LocalLambda) -> None:
        """Watch an environment from now on; `number` is the one that its fleet calls it by."""
        self._environments += 1
        env.observe(_EnvironmentWatcher(self, str(self._environments), number, env).look)

    def answered(self, invocation: Invocation) -> None:
        """Note what the caller of an invocation got."""
        if self.tables.get("invocations", invocation.request_id) is not None:
            answer, missing = _cut(invocation.payload.decode("utf-8", "replace"))
            more = {"function_error": invocation.function_error, "answer": answer, "answer_missing": missing}
            self.tables.put("invocations", invocation.request_id, **more)

    def notice(self, text: str) -> None:
        """Say on the page that something did not work."""
        self._notices += 1
        self.tables.put("notices", str(self._notices), time=time.time(), text=text)

    def show_destinations(self) -> None:
        """Write anew what is known of the destinations: a fault was set."""
        for watcher in self._watchers:
            watcher.show()

    def refresh(self) -> None:
        """Look again at what gives no sign when it changes: the records that wait on disk."""
        for watcher in self._watchers:
            watcher.look_at_disk()


class _EnvironmentWatcher:
    """Reads each event, call, exit and period of one environment once, or as long as it lasts."""

    def __init__(self, recorder: Recorder, id_: str, number: int, env: LocalLambda) -> None:
        self._recorder = recorder
        self._tables = recorder.tables
        self._id = id_
        self._env = env
        self._timeline = timeline.Timeline()
        self._events = self._entries = self._exits = self._periods = 0
        self._open: list[Entry] = []
        self._emitted: Counter[str] = Counter()
        self._request: str | None = None  # the one that runs; None on Managed Instances, where several do
        self._was_open = False
        function = env.function
        self._tables.put("environments", id_, number=number, function=function.name, memory_mb=function.memory_mb)
        self.look()

    def look(self) -> None:
        """Take in what is new. It is called after every change in the environment."""
        env = self._env
        if env.telemetry_count > self._events:
            new = env.telemetry_since(self._events)
            for number, event in enumerate(new, self._events):
                self._event(number, event)
            self._events += len(new)
        self._look_at_calls()
        for exit_ in env.transcript.exits[self._exits :]:
            self._exits += 1
            self._spans(self._timeline.exit(exit_))
        self._look_at_periods()
        self._was_open = self._was_open or env.is_open
        streams = sorted({name for one in env.subscriptions for name in one.types})
        self._tables.put(
            "environments", self._id,
            state=self._state(), instance=env.instance_id, subscribed=streams, emitted=dict(self._emitted),
        )  # fmt: skip

    def _event(self, number: int, event: Mapping[str, Any]) -> None:
        self._spans(self._timeline.event(event))
        if found := timeline.invocation(event):
            self._tables.put("invocations", found["request"], environment=self._id, **found)
            is_over = event["type"] == "platform.report" or self._env.function.is_managed
            self._request = None if is_over else found["request"]
        self._record(f"{self._id} {number}", event)
        if event["type"] == "extension" and (ledger := self._recorder.read_ledger(text_of(event) or "")):
            books = [{"name": one.name, "counts": one.counts, "balances": one.balances} for one in ledger.books]
            time_ms = _milliseconds(event)
            self._tables.put("ledgers", f"{self._id} {number}", environment=self._id, time=time_ms / 1000,
                             law=ledger.law, books=books)  # fmt: skip

    def _record(self, row: str, event: Mapping[str, Any]) -> None:
        type_, record = event["type"], event["record"]
        stream = type_.partition(".")[0]
        self._emitted[stream] += 1
        time_ms = _milliseconds(event)
        own_request = record.get("requestId") if isinstance(record, dict) and stream == "platform" else None
        is_of_invocation = stream != "platform" and self._request is not None
        shown = _put_record(
            self._tables, row, time_ms, type_, record,
            environment=self._id,
            request=self._request if is_of_invocation else own_request,
            line=text_of(event) if stream == "platform" else None,
        )  # fmt: skip
        self._recorder.recognizer.emitted(row, time_ms, type_, shown["record"])

    def _look_at_calls(self) -> None:
        entries = self._env.transcript.entries
        self._open += entries[self._entries :]
        self._entries = len(entries)
        for entry in self._open:
            self._spans(self._timeline.call(entry))
        self._open = [entry for entry in self._open if entry.ended is None]

    def _look_at_periods(self) -> None:
        periods = self._env.transcript.periods
        for number in range(self._periods, len(periods)):
            self._spans([timeline.period(number, periods[number])])
        while self._periods < len(periods) and periods[self._periods].ended is not None:
            self._periods += 1

    def _spans(self, spans: Iterable[timeline.Span]) -> None:
        for span in spans:
            id_ = f"{self._id}/{span['id']}"
            if "began" in span or self._tables.get("spans", id_) is not None:  # else it is one that is kept no more
                members = {name: value for name, value in span.items() if name != "id"}
                self._tables.put("spans", id_, environment=self._id, **members)

    def _state(self) -> str:
        env = self._env
        if not env.is_open:
            failed = env.init_outcome is not None and not env.init_outcome.is_success
            return "ended" if self._was_open else "failed" if failed else "starting"
        if env.is_frozen:
            return "frozen"
        return "running" if env.pids else "reset"  # then the next invocation starts the processes anew


class _DestinationWatcher:
    """Reads each request to one destination until it has ended, and what waits on disk for it."""

    def __init__(self, recorder: Recorder, destination: Destination) -> None:
        self._recorder = recorder
        self._tables = recorder.tables
        self._destination = destination
        self._requests = 0
        self._open: list[int] = []
        self._counted: set[int] = set()  # open requests whose records were counted
        self._arrivals = Arrivals()
        self._own = Arrivals()  # records that the extension made itself
        self._on_disk: set[str] = set()  # the rows of the records that wait there
        destination.observe(self.look)
        self.show()

    def show(self) -> None:
        """Write the destination's own row."""
        one = self._destination
        self._tables.put(
            "destinations", one.name,
            faults=dict(one.faults), fault=one.fault, requests=self._requests, open=len(self._open),
            arrived=self._arrivals.distinct, repeats=self._arrivals.repeats + self._own.repeats,
            own=self._own.distinct,
        )  # fmt: skip

    def look(self) -> None:
        """Take in what is new. It is called after every request and every answer."""
        self._open += range(self._requests, self._destination.request_count)
        self._requests = self._destination.request_count
        self._open = [number for number in self._open if not self._has_ended(number)]
        self._counted &= set(self._open)
        self.show()

    def _has_ended(self, number: int) -> bool:
        request = self._destination.request(number)
        span = timeline.request(self._destination.name, number, request)
        if request.is_broken_off and request.ended is None:
            span["ended"] = time.time()
        self._tables.put("spans", f"-/{span.pop('id')}", environment=None, **span)
        if request.brought and number not in self._counted:
            self._counted.add(number)
            for sighting in request.brought:
                self._arrived(sighting)
        return span["ended"] is not None

    def _arrived(self, sighting: Sighting) -> None:
        name, now = self._destination.name, time.time()
        row = self._recorder.recognizer.recognize(sighting)
        if not is_lambdas(sighting):
            row = f"own {sighting.id}"
            self._own.add(sighting)
            if self._tables.get("records", row) is None:
                _put_record(self._tables, row, sighting.time_ms, sighting.type, sighting.content)
        else:
            self._arrivals.add(sighting)
        found = self._tables.get("records", row) if row is not None else None
        if row is not None and found is not None:
            at, times = found["arrived"].get(name, (now, 0))
            self._tables.put("records", row, arrived={**found["arrived"], name: (at, times + 1)})

    def look_at_disk(self) -> None:
        """Mark the records that wait on disk for this destination."""
        waiting = self._destination.waiting()
        if waiting is None:
            return
        recognized = (self._recorder.recognizer.recognize(one) for one in waiting)
        rows = {row for row in recognized if row is not None}
        for row in rows ^ self._on_disk:
            if (found := self._tables.get("records", row)) is not None:
                others = [one for one in found["on_disk"] if one != self._destination.name]
                here = [self._destination.name] if row in rows else []
                self._tables.put("records", row, on_disk=[*others, *here])
        self._on_disk = rows
        self._tables.put("destinations", self._destination.name, on_disk=len(waiting))


def _put_record(tables: Tables, row: str, time_ms: int, type_: str, record: Any, **members: Any) -> Row:
    """Add the row of a record; what is longer than the page keeps becomes text, and is cut."""
    text = record if isinstance(record, str) else orjson.dumps(record).decode()
    kept, missing = _cut(text)
    return tables.put(
        "records", row,
        time=time_ms / 1000, type=type_, record=kept if missing else record, missing=missing, arrived={}, on_disk=[],
        **members,
    )  # fmt: skip


def _cut(text: str) -> tuple[str, int]:
    return text[:_MOST_CHARACTERS], max(0, len(text) - _MOST_CHARACTERS)


def _milliseconds(event: Mapping[str, Any]) -> int:
    return round(timeline.seconds_of(event["time"]) * 1000)
