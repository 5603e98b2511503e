"""Batches with unusual contents. Pure. A subscriber is never sent a type that it did not ask for.

`rare_batches` have what Lambda sends today, if seldom, under the subscription's API and schema; they are made as the
platform here makes its own. `hypothetical_batches` have what it does not send today but may, or what only a reading of
the schema allows. Under the Logs API, and under schema 2022-07-01, a line is a string and nothing else.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import orjson

from local_lambda.rules import telemetry_events as events
from local_lambda.rules.logs_schema import is_legacy
from local_lambda.rules.runtime import Request
from local_lambda.rules.subscriptions import Subscription
from local_lambda.rules.telemetry_events import TelemetryEvent
from local_lambda.settings import Function

Batch = tuple[str, bytes]  # what is in it, and its body
_DEEP = 40
_ID = "00000000-0000-4000-8000-000000000000"
_STREAMS = ("function", "extension")
_REPORT = {
    "durationMs": 1.5,
    "billedDurationMs": 2,
    "memorySizeMB": 128,
    "maxMemoryUsedMB": 64,
    "initDurationMs": 100.25,
}


def rare_batches(subscription: Subscription, now: float) -> Iterator[Batch]:
    """Yield the batches that Lambda could send to this subscriber today; `now` is in seconds since the epoch."""
    sender = _Sender(subscription, now)
    yield from sender.batch("every platform event that there is", _platform_events(now))
    texts = ("\n", "x", "\x00\x1b[31m\n", "\u2028 \U0001f980\n", '{"half": \n')
    yield from sender.batch(
        "text of one character, of none but its line end, with control characters", sender.lines(texts)
    )
    if sender.has_objects:
        yield from sender.batch("lines of JSON, which the JSON log format makes objects of", sender.lines(_objects()))
    # AWS docs: "Expect to receive payloads as large as 2 * maxBytes + metadataBytes".
    most = 2 * subscription.max_bytes
    yield f"twice its maxBytes ({most} bytes)", sender.filled(most)


def hypothetical_batches(subscription: Subscription, now: float) -> Iterator[Batch]:
    """Yield batches that Lambda was never seen to send; `now` is in seconds since the epoch."""
    sender = _Sender(subscription, now)
    yield "an empty list", b"[]"
    strange: list[tuple[str, Any]] = [
        ("platform.tomorrow", {"requestId": _ID, "new": True}),
        ("platform.x", None),
    ]
    members: list[tuple[str, Any]] = [
        ("platform.start", {"requestId": _ID, "tomorrow": [1, {"a": None}]}),
        ("platform.report", {"requestId": _ID, "metrics": {"durationMs": 1.5}, "tomorrow": 1}),
    ]
    yield from sender.body("records of types that do not exist yet", strange)
    yield from sender.body("records with members that they do not have today, or without usual ones", members)
    if sender.has_objects:
        values: list[Any] = [0, -1.5e300, 2**53 + 1, True, None, [], [1, "two", None]]
        yield from sender.body("a line's record that is a number, a list, null", [(sender.line, one) for one in values])
    for what, body in sender.body(
        "text that is empty, or has a lone surrogate", [(sender.line, ""), (sender.line, "?")]
    ):
        yield what, body.replace(b'"?"', b'"\\ud83d alone"')  # orjson writes no lone surrogate


def line_batch(subscription: Subscription, now: float, marker: Callable[[], str]) -> bytes:
    """Return the body of a batch of one record; where that is a function's line, its text is a new `marker`."""
    sender = _Sender(subscription, now)
    if "function" not in subscription.types:
        return sender.filled(1)
    ((_, body),) = sender.batch("", sender.lines([marker() + "\n"]))
    return body


class _Sender:
    """Encodes what one subscriber may be sent."""

    def __init__(self, subscription: Subscription, now: float) -> None:
        self._subscription = subscription
        self._now = now
        streams = [stream for stream in _STREAMS if stream in subscription.types]
        self.line = streams[0] if streams else "function"  # what is not subscribed is left out below
        self.has_objects = not (is_legacy(subscription.schema) or subscription.schema == "2022-07-01")

    def lines(self, texts: Sequence[Any]) -> list[TelemetryEvent]:
        """Return an event for each line: a string, or the object that it became."""
        return [
            TelemetryEvent(time=self._now, type=self.line, record=one, text=one if isinstance(one, str) else None)
            for one in texts
        ]

    def batch(self, what: str, happened: Sequence[TelemetryEvent]) -> Iterator[Batch]:
        """Yield the batch of what the subscriber hears of these events, if it is anything."""
        subscription = self._subscription
        wanted = [event for event in happened if event.stream in subscription.types]
        records = [record for event in wanted for record in event.encode_all(subscription.schema, "captured")]
        if records:
            yield what, b"[" + b",".join(records) + b"]"

    def body(self, what: str, records: Sequence[tuple[str, Any]]) -> Iterator[Batch]:
        """Yield the batch of these records as they are, without those that were not asked for."""
        types = self._subscription.types
        time = events.timestamp(self._now)
        wanted = [(type_, record) for type_, record in records if type_.partition(".")[0] in types]
        if wanted:
            yield what, orjson.dumps([{"time": time, "type": type_, "record": record} for type_, record in wanted])

    def filled(self, size_bytes: int) -> bytes:
        """Return a body of at least so many bytes: of lines if they were asked for, else of reports."""
        one = self.lines(["x" * 1000 + "\n"]) if self.line in self._subscription.types else [_report(self._now)]
        ((_, body),) = self.batch("", one)
        record = body[1:-1]
        return b"[" + b",".join([record] * -(-size_bytes // len(record))) + b"]"


def _platform_events(now: float) -> list[TelemetryEvent]:
    """Return one of each event of the Telemetry API's catalogue, or several where it has several forms."""
    function = Function(code=Path("/"), command=["none"])
    request = Request(payload=b"", request_id=_ID, trace="Root=1-68c4a1f0-3b2a90d1c7e845f6a0b1c2d3;Sampled=1")
    runtime = "python:3.13.v60"
    records: list[tuple[str, Any]] = [
        ("platform.initStart", events.init_start(function, "local/[$LATEST]0", runtime, "init")),
        ("platform.initRuntimeDone", events.init_runtime_done(function, "invoke", "error", "Runtime.Unknown")),
        ("platform.initReport", events.init_report(function, "invoke", "timeout", None, 1.5)),
        ("platform.restoreStart", events.restore_start(function, "local/[$LATEST]0", runtime)),
        ("platform.restoreRuntimeDone", events.restore_runtime_done("success", None)),
        ("platform.restoreReport", events.restore_report("success", None, 1.5)),
        ("platform.extension", events.extension("another", "LaunchError", [], "Extension.LaunchError")),
        ("platform.telemetrySubscription", events.subscription("another", ["platform"], again=True)),
        ("platform.logsSubscription", events.subscription("another", ["platform"], again=True)),
        ("platform.start", events.start(function, request)),
        ("platform.runtimeDone", events.ended(request, "timeout", None, {"durationMs": 1.5, "producedBytes": 0}, [])),
        ("platform.logsDropped", events.logs_dropped("a test", 1, 2)),
    ]
    made = [TelemetryEvent(time=now, type=type_, record=record) for type_, record in records]
    return [*made, _report(now), _report(now, "error", "Runtime.ExitError")]


def _report(now: float, status: str = "success", error_type: str | None = None) -> TelemetryEvent:
    spans = [events.span("extensionOverhead", now - 0.001, now)]
    record = events.ended(Request(payload=b"", request_id=_ID), status, error_type, _REPORT, spans)
    return TelemetryEvent(time=now, type="platform.report", record=record)


def _objects() -> list[Any]:
    nested: Any = "deep"
    for _ in range(_DEEP):
        nested = [{"in": nested}]
    return [{}, {"message": None}, {"": {"a.b": 1}, "n": -1.5e300, "big": 2**53 + 1}, {"nested": nested}]
