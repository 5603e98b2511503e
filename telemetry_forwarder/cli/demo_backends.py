"""What the page of the local Lambda shows of the demo: three local backends, the spool, and the extension's ledger.

The page knows none of them; here each becomes what `local_lambda.page` asks for.
"""

import json
import os
import struct
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from local_backends import (
    Answer,
    Backend,
    CloudWatchLogs,
    Datadog,
    DatadogLog,
    Fault,
    Hang,
    HecEvent,
    LogEvent,
    Slow,
    SplunkHec,
)
from local_lambda import Function
from local_lambda.page import Book, Destination, Ledger, Request, Sighting
from telemetry_forwarder.cli.demo import ledger_of
from telemetry_forwarder.errors import DecodeError
from telemetry_forwarder.ledger import Statement
from telemetry_forwarder.records.record import decode
from telemetry_forwarder.spool.frames import BODIES, frames, read_body
from telemetry_forwarder.spool.segments import Owner, read_segment

_FAULTS: Mapping[str, tuple[str, Fault]] = {
    "503": ("answers 503 Service Unavailable", Answer(503, times=None)),
    "hang": ("takes requests, never answers", Hang(times=None)),
    "slow": ("stores at once, answers after 2 s", Slow(2.0, times=None)),
}
_NAMES = {fault: name for name, (_, fault) in _FAULTS.items()}


class _LocalDestination:
    """A local backend as the page's `Destination`; `read` makes what it has stored a `Sighting`."""

    faults: Mapping[str, str] = {name: words for name, (words, _) in _FAULTS.items()}

    def __init__(self, name: str, backend: Backend, read: Callable[..., Sighting], spool: "_SpoolReader") -> None:
        self.name = name
        self.fault: str | None = None
        self.observe = backend.observe
        self._backend = backend
        self._read = read
        self._spool = spool

    @property
    def request_count(self) -> int:
        return len(self._backend.requests)

    def request(self, number: int) -> Request:
        seen = self._backend.requests[number]
        return Request(
            operation=seen.operation,
            began=seen.time,
            ended=seen.answered,
            status=seen.status,
            is_broken_off=seen.is_broken_off,
            fault=_NAMES.get(seen.fault) if seen.fault is not None else None,
            brought=[self._read(self._backend.kept[place]) for place in seen.stored],
        )

    def waiting(self) -> Sequence[Sighting]:
        return self._spool.waiting(self.name)

    def set_fault(self, fault: str | None) -> None:
        self.fault = fault
        self._backend.faults.clear()
        self._backend.faults.release()
        if fault is not None:
            self._backend.faults.always(_FAULTS[fault][1])


def destinations_of(
    function: Function, spool: Path, splunk: SplunkHec, datadog: Datadog, cloudwatch: CloudWatchLogs
) -> list[Destination]:
    """Return the backends for the page, by the names of their sinks; `spool` is the folder of the function's spool."""
    reader = _SpoolReader(spool, function)
    return [
        _LocalDestination("splunk", splunk, _of_splunk, reader),
        _LocalDestination("datadog", datadog, _of_datadog, reader),
        _LocalDestination("cloudwatch", cloudwatch, _of_cloudwatch, reader),
    ]


def _of_splunk(stored: HecEvent) -> Sighting:
    type_ = stored.fields["type"]
    content = stored.event["record"] if "." in type_ else stored.event
    return Sighting(id=stored.fields["record_id"], time_ms=round(stored.time * 1000), type=type_, content=content)


def _of_datadog(stored: DatadogLog) -> Sighting:
    event = stored.attributes.get("platform", {"type": "function", "record": stored.message})  # of lines it has no type
    id_ = stored.attributes["record_id"]
    return Sighting(id=id_, time_ms=stored.timestamp, type=event["type"], content=event["record"])


def _of_cloudwatch(stored: LogEvent) -> Sighting:
    members = json.loads(stored.message)
    known = members.pop("lambda")
    is_event, is_text = "." in known["type"], members.keys() == {"message"}
    content = members["record"] if is_event else members["message"] if is_text else members
    return Sighting(id=known["record_id"], time_ms=stored.timestamp, type=known["type"], content=content)


class _SpoolReader:
    """Reads the spool below `folder` as the next process of `function` would, but leaves it as it is."""

    _SINKS = ("splunk", "datadog", "cloudwatch")

    def __init__(self, folder: Path, function: Function) -> None:
        self._folder = folder
        self._owner = Owner(function=function.name, version=function.version)
        self._state: object = None  # of the files when they were read
        self._waiting: dict[str, list[Sighting]] = {name: [] for name in self._SINKS}

    def waiting(self, sink: str) -> Sequence[Sighting]:
        """Return the records in the spool that `sink` has not settled, oldest first."""
        files = sorted(self._folder.glob("*/*.log"), key=lambda path: (path.parent, int(path.stem)))
        state = [(path, found.st_size, found.st_mtime_ns) for path in files if (found := _stat(path)) is not None]
        if state != self._state:
            self._state = state
            self._waiting = {name: [] for name in self._SINKS}
            for path, _, _ in state:
                for name, sighting in self._read(path):
                    self._waiting[name].append(sighting)
        return self._waiting[sink]

    def _read(self, path: Path) -> Iterator[tuple[str, Sighting]]:
        try:
            data = path.read_bytes()
            segment = read_segment(int(path.stem), data, self._owner, self._SINKS).segment
        except (FileNotFoundError, ValueError, LookupError, TypeError, struct.error):
            return  # it was removed meanwhile, or is just being written
        kept = [read_body(frame) for frame in frames(data) if frame.kind in BODIES]
        for body, one in zip(segment.bodies, kept, strict=True):
            if not body.wanted:
                continue
            try:
                items = decode(one.body, one.received_ms).items
            except DecodeError:
                continue  # no records come of it
            for number, item in enumerate(items):
                id_ = f"{one.identity}{number:04x}"
                sighting = Sighting(id=id_, time_ms=item.time_ms, type=item.type, content=item.body)
                open_ = zip(self._SINKS, body.open, strict=True)
                yield from ((name, sighting) for name, mask in open_ if mask >> number & 1)


def read_ledger(line: str) -> Ledger | None:
    """Return the ledger that the extension wrote as `line`; None if it is another line."""
    members = ledger_of(line)
    if members is None:
        return None
    books = [_book(name, account) for name, account in members["sinks"].items()]
    return Ledger(books=books, law="offered = delivered + dropped + spilled + held, for every sink.")


def _book(name: str, account: Mapping[str, Any]) -> Book:
    statement = Statement(**{**account, "dropped": Counter(account["dropped"])})
    counts = {
        "offered": statement.offered,
        "delivered": statement.delivered,
        "dropped": statement.dropped.total(),
        "spilled": statement.spilled,
        "held": statement.held,
        "requests": statement.attempts,
    }
    return Book(name=name, counts=counts, balances=statement.is_balanced())


def _stat(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except FileNotFoundError:
        return None
