"""The timeline of an environment, made of its telemetry events, its API calls, its freezes and its shutdowns. Pure.

A span is a row, or what changes of one: `lane` says where it is drawn, `kind` what it is (init, restore, invoke,
overhead, frozen, shutdown, extension, request), `began` and `ended` when (seconds since the epoch; `ended` is None
while it lasts).
"""

import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from local_lambda.page.destinations import Request
from local_lambda.transcript import Entry, Exit, Period

Span = dict[str, Any]

_OWN_LANE = ""  # the lane of the environment itself; the others have the names of its extensions
_REGISTER = "POST /2020-01-01/extension/register"
_NEXT = "GET /2020-01-01/extension/event/next"
_EVENT = re.compile(r'"(eventType|requestId)":"([^"]*)"')  # the transcript keeps the beginning of an answer


def seconds_of(timestamp: str) -> float:
    """Return the seconds since the epoch of a timestamp of the platform."""
    return datetime.fromisoformat(timestamp).timestamp()


class Timeline:
    """Takes what happens in one environment, in order, and yields the spans that are new or changed."""

    def __init__(self) -> None:
        self._inits = 0
        self._began: dict[str, float] = {}  # by request: when those that run began
        self._overhead = ""  # the request whose extension overhead began last
        self._work: dict[str, tuple[str, int]] = {}  # by extension: the open span's id, and how many it had

    def event(self, event: Mapping[str, Any]) -> Iterator[Span]:
        """Take a telemetry event in the newest schema."""
        at, kind, record = seconds_of(event["time"]), event["type"], event["record"]
        match kind:
            case "platform.initStart" | "platform.restoreStart":
                self._inits += 1
                name = "INIT" if kind == "platform.initStart" else "RESTORE"
                yield self._init(name, began=at, ended=None, status=None)
            case "platform.initReport" | "platform.restoreReport":
                name = "INIT" if kind == "platform.initReport" else "RESTORE"
                yield self._init(name, ended=at, status=record["status"], detail=_details(record))
            case "platform.start":
                self._began[record["requestId"]] = at
                yield _invoke(record["requestId"], began=at, ended=None, status=None)
            case "platform.runtimeDone":
                yield from self._done(record, at)
            case "platform.report":
                yield from self._report(record, at)

    def _init(self, name: str, **members: Any) -> Span:
        return _span(f"{name} {self._inits}", name.lower(), name, **members)

    def _done(self, record: Mapping[str, Any], at: float) -> Iterator[Span]:
        request, status = record["requestId"], record["status"]
        ended = self._end_of(record, at)
        yield _invoke(request, ended=ended, status=status, detail=_details(record))
        if status == "success" and any(open_ for open_, _ in self._work.values()):
            self._overhead = request
            yield _overhead(request, began=ended, ended=None)

    def _report(self, record: Mapping[str, Any], at: float) -> Iterator[Span]:
        request = record["requestId"]
        if "billedDurationMs" not in record["metrics"]:  # Managed Instances have no platform.runtimeDone
            ended = self._end_of(record, at)
            yield _invoke(request, ended=ended, status=record["status"], detail=_details(record))
        spans = {span["name"]: span for span in record.get("spans", ())}
        if span := spans.get("extensionOverhead"):
            began = seconds_of(span["start"])
            yield _overhead(request, began=began, ended=began + span["durationMs"] / 1000)
        elif request == self._overhead:  # an extension crashed, or the time ran out
            yield _overhead(request, ended=at, status=record["status"])

    def _end_of(self, record: Mapping[str, Any], at: float) -> float:
        """Return when the runtime was done, which is a little before the event that says so."""
        began = self._began.pop(record["requestId"], None)
        return at if began is None else began + record["metrics"]["durationMs"] / 1000

    def call(self, entry: Entry) -> Iterator[Span]:
        """Take an API call, when it begins or when it ends: an extension works from an event until it asks again."""
        if entry.name in ("", "?", "runtime"):
            return
        if entry.call == _REGISTER and entry.ended is not None and entry.status == 200:
            yield from self._begin(entry.name, entry.began, "INIT")
        elif entry.call == _NEXT:
            if entry.ended is None:
                yield from self._end(entry.name, entry.began)
            elif entry.status == 200:
                event = dict(_EVENT.findall(entry.answer))
                yield from self._begin(entry.name, entry.ended, event.get("eventType", ""), event.get("requestId"))

    def exit(self, exit_: Exit) -> Iterator[Span]:
        """Take the exit of an extension."""
        how = "killed" if exit_.killed else f"exit code {exit_.code}"
        yield from self._end(exit_.name, exit_.at, status="success" if exit_.code == 0 else "failure", detail=how)

    def _begin(self, extension: str, at: float, what: str, request: str | None = None) -> Iterator[Span]:
        yield from self._end(extension, at)
        _, count = self._work.get(extension, ("", 0))
        id_ = f"extension {extension} {count}"
        self._work[extension] = (id_, count + 1)
        yield _span(id_, "extension", what, lane=extension, began=at, ended=None, request=request)

    def _end(self, extension: str, at: float, **members: Any) -> Iterator[Span]:
        id_, count = self._work.get(extension, ("", 0))
        if id_:
            self._work[extension] = ("", count)
            yield {"id": id_, "ended": at, **members}


def period(number: int, one: Period) -> Span:
    """Return the span of freeze or shutdown `number` of an environment."""
    name = "frozen" if one.kind == "frozen" else "SHUTDOWN"
    return _span(f"{one.kind} {number}", one.kind, name, began=one.began, ended=one.ended, detail=one.reason)


def request(destination: str, number: int, one: Request) -> Span:
    """Return the span of request `number` to a destination."""
    if one.is_broken_off:
        status, detail = "failure", "no answer: the connection ended"
    elif one.status is None:
        status, detail = None, "no answer yet"
    else:
        status, detail = "success" if 200 <= one.status < 300 else "failure", f"HTTP {one.status}"
    brought = f"{len(one.brought)} record{'s' if len(one.brought) > 1 else ''}" if one.brought else ""
    fault = f"fault: {one.fault}" if one.fault else ""
    words = ", ".join(word for word in (brought, detail, fault) if word)
    return _span(f"{destination} {number}", "request", one.operation, lane=destination, began=one.began,
                 ended=one.ended, status=status, detail=words)  # fmt: skip


def _invoke(request: str, **members: Any) -> Span:
    return _span(f"invoke {request}", "invoke", "INVOKE", request=request, **members)


def _overhead(request: str, **members: Any) -> Span:
    return _span(f"overhead {request}", "overhead", "extension overhead", request=request, **members)


def _span(id_: str, kind: str, name: str, *, lane: str = _OWN_LANE, **members: Any) -> Span:
    return {"id": id_, "kind": kind, "name": name, "lane": lane, **members}


def _details(record: Mapping[str, Any]) -> str:
    duration = f"{record['metrics']['durationMs']:.1f} ms"
    return f"{duration}, {record['errorType']}" if "errorType" in record else duration


def invocation(event: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return what an event says about an invocation, by the members of its row; None if it is of no invocation."""
    record = event["record"]
    match event["type"]:
        case "platform.start":
            return {"request": record["requestId"], "began": seconds_of(event["time"]), "status": "running"}
        case "platform.runtimeDone" | "platform.report":
            metrics = record["metrics"]
            overhead = [one["durationMs"] for one in record.get("spans", ()) if one["name"] == "extensionOverhead"]
            figures = {
                "duration_ms": metrics["durationMs"],
                "billed_ms": metrics.get("billedDurationMs"),
                "init_ms": metrics.get("initDurationMs"),
                "memory_mb": metrics.get("maxMemoryUsedMB"),
                "overhead_ms": overhead[0] if overhead else None,
            }
            known = {name: value for name, value in figures.items() if value is not None}
            error = {"error_type": record["errorType"]} if "errorType" in record else {}
            return {"request": record["requestId"], "status": record["status"], **known, **error}
    return None
