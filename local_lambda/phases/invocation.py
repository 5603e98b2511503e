"""One invocation, from `platform.start` to the freeze. Source: docs/fidelity.md, sections 1.7, 3.3 and 5.4."""

import asyncio
import math
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass

import orjson

from local_lambda.phases import init, restore, shutdown
from local_lambda.results import Invocation
from local_lambda.rules import telemetry_events as events
from local_lambda.rules.extensions import Event
from local_lambda.rules.runtime import Call, Request
from local_lambda.sandbox import Broken, Sandbox


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why an invocation failed. `status` is the one in its telemetry events."""

    status: str  # timeout, error or failure
    error_type: str
    message: str
    payload: bytes | None = None

    @property
    def reported_type(self) -> str | None:
        """The error type in the telemetry events; those of a timeout have none."""
        return None if self.status == "timeout" else self.error_type


async def invoke(sandbox: Sandbox, request: Request) -> Invocation:
    """Invoke the function; return when the environment is frozen again or was reset.

    If no processes run (after a reset or a failed init), they are started first, and the time counts for the
    invocation.
    """
    if sandbox.is_up and sandbox.fault is not None:  # a process died between invocations
        await shutdown.end(sandbox, "failure")
    if sandbox.is_up:
        sandbox.thaw()
    course = _Course(sandbox, request)
    try:
        return await course.run()
    except asyncio.CancelledError:
        # The caller was cancelled. Nobody owns the running processes now, so the next invocation starts new ones.
        sandbox.break_("Sandbox.Failure", "The invocation was abandoned.", "caller")
        course.abandon()
        raise


class _Course:
    """One invocation, step by step. Times are seconds since the epoch."""

    def __init__(self, sandbox: Sandbox, request: Request) -> None:
        self._sandbox = sandbox
        self._request = request
        self._began = time.time()
        self._init_ms, sandbox.unreported_init_ms = sandbox.unreported_init_ms, None
        self._call: Call | None = None
        self._restore_ms: float | None = None
        self._ended = 0.0
        self._memory_mb = 0

    async def run(self) -> Invocation:
        request, sandbox = self._request, self._sandbox
        failure = await self._restore() if sandbox.is_up else None  # not part of the invocation
        self._began = time.time()
        sandbox.telemetry.emit("platform.start", events.start(sandbox.function, request), at=self._began)
        # A failed restore skips the work, but the invocation is reported like any other failure.
        failure = failure or await self._until_ready()
        self._memory_mb = sandbox.memory_mb()
        self._ended = time.time()
        if failure is not None:
            await self._reset(failure)
        else:
            self._settle()
        self._report(failure)
        if failure is None:
            sandbox.freeze()
        return self._result(failure)

    def abandon(self) -> None:
        """Emit `platform.runtimeDone`, so that no extension waits for it during the shutdown."""
        if self._call is not None and self._call.done_at is None:
            self._runtime_done("failure", "Sandbox.Failure")

    async def _until_ready(self) -> Failure | None:
        """Run init (if needed), function and extensions within the function's timeout; return any failure."""
        sandbox, timeout_s = self._sandbox, self._sandbox.function.timeout_s
        counted_from = self._began
        if not sandbox.is_up:
            outcome = await init.initialise(sandbox, "invoke", timeout_s)
            if outcome.status == "timeout":
                return self._timed_out()
            if not outcome.is_success:
                error_type = outcome.error_type or "Runtime.Unknown"
                fault = sandbox.fault.message if sandbox.fault else outcome.message
                return Failure(status="error", error_type=error_type, message=fault, payload=outcome.payload)
            if failure := await self._restore():
                return failure
            if sandbox.platform.fresh_deadline_after_reinit:
                counted_from = time.time()
        deadline = counted_from + timeout_s
        try:
            async with asyncio.timeout(deadline - time.time()):
                await self._work(events.milliseconds_of(counted_from) + round(timeout_s * 1000))
        except TimeoutError:
            return self._timed_out()
        except Broken as broken:
            kind = "failure" if broken.fault.error_type.startswith("Sandbox.") else "error"
            return Failure(status=kind, error_type=broken.fault.error_type, message=broken.fault.message)
        return None

    async def _restore(self) -> Failure | None:
        outcome = await restore.restore(self._sandbox)
        if outcome is None:
            return None
        self._restore_ms = outcome.duration_ms
        if outcome.is_success:
            return None
        error_type = outcome.error_type or "Runtime.Unknown"
        return Failure(status="error", error_type=error_type, message=outcome.message, payload=outcome.payload)

    async def _work(self, deadline_ms: int) -> None:
        sandbox = self._sandbox
        self._call = call = release(sandbox, self._request, deadline_ms)
        await sandbox.until(lambda: call.done_at is not None)
        if sandbox.runtime_process is not None:
            sandbox.runtime_process.drain()  # its log lines precede platform.runtimeDone
        self._runtime_done("success", None)
        await sandbox.until(lambda: sandbox.extensions.all_ready("INVOKE"))

    def _timed_out(self) -> Failure:
        seconds = self._sandbox.function.timeout_s
        message = f"Task timed out after {seconds:.2f} seconds"
        return Failure(status="timeout", error_type="Sandbox.Timedout", message=message)

    async def _reset(self, failure: Failure) -> None:
        """End the processes of this generation; the next invocation starts new ones in the same environment."""
        for process in self._sandbox.all_processes():
            process.drain()
        if self._call is None or self._call.done_at is None:
            self._runtime_done(failure.status, failure.reported_type)
        reason: shutdown.Reason = "timeout" if failure.status == "timeout" else "failure"
        self._sandbox.resets.append(await shutdown.end(self._sandbox, reason))

    def _settle(self) -> None:
        """Record the end of a successful invocation and pause telemetry: the report is sent after the freeze."""
        sandbox = self._sandbox
        for process in sandbox.all_processes():
            process.drain()
        asked = [extension.asked_at or 0.0 for extension in sandbox.extensions if extension.wants("INVOKE")]
        self._ended = max([self._done_at, *asked])
        if sandbox.freezes:
            sandbox.telemetry.pause()

    @property
    def _done_at(self) -> float:
        call = self._call
        return call.done_at if call is not None and call.done_at is not None else self._ended

    def _runtime_done(self, status: str, error_type: str | None) -> None:
        call = self._call
        spans = []
        produced = 0
        done_at = call.done_at if call is not None and call.done_at is not None else time.time()
        if call is not None and call.response_began_at is not None and call.responded_at is not None:
            produced = len(call.response or b"")
            spans = [
                events.span("responseLatency", call.released_at, call.response_began_at),
                events.span("responseDuration", call.response_began_at, call.responded_at),
                events.span("runtimeOverhead", call.responded_at, done_at),
            ]
        metrics = {"durationMs": round((done_at - self._began) * 1000, 3), "producedBytes": produced}
        record = events.ended(self._request, status, error_type, metrics, spans)
        self._sandbox.telemetry.emit("platform.runtimeDone", record)

    def _report(self, failure: Failure | None) -> None:
        metrics = {
            "durationMs": round(self._duration_ms(failure), 3),
            "billedDurationMs": self._billed_ms(failure),
            "memorySizeMB": self._sandbox.function.memory_mb,
            "maxMemoryUsedMB": self._memory_mb,
        }
        if self._init_ms is not None and self._pays_init:
            metrics["initDurationMs"] = round(self._init_ms, 3)
        if self._restore_ms is not None:
            metrics["restoreDurationMs"] = round(self._restore_ms, 3)
            metrics["billedRestoreDurationMs"] = math.ceil(self._restore_ms)
        spans = []
        if failure is None and any(extension.wants("INVOKE") for extension in self._sandbox.extensions):
            spans = [events.span("extensionOverhead", self._done_at, self._ended)]
        status, error_type = ("success", None) if failure is None else (failure.status, failure.reported_type)
        record = events.ended(self._request, status, error_type, metrics, spans)
        self._sandbox.telemetry.emit("platform.report", record)

    @property
    def _pays_init(self) -> bool:
        return self._sandbox.function.init_type == "on-demand"

    def _duration_ms(self, failure: Failure | None) -> float:
        if failure is not None and failure.status == "timeout":
            return self._sandbox.function.timeout_s * 1000  # exactly the timeout, as captured
        return (self._ended - self._began) * 1000

    def _billed_ms(self, failure: Failure | None) -> int:
        init_ms = self._init_ms if self._init_ms is not None and self._pays_init else 0.0
        restore_ms = math.ceil(self._restore_ms) if self._restore_ms is not None else 0
        return math.ceil(self._duration_ms(failure) + init_ms) + restore_ms

    def _result(self, failure: Failure | None) -> Invocation:
        call, request_id = self._call, self._request.request_id
        answered = call is not None and call.is_answered
        responded_at = call.responded_at if call is not None else None
        failed = failure is not None and not answered
        return Invocation(
            request_id=request_id,
            status="success" if failure is None else failure.status,
            payload=payload(request_id, call, failure),
            function_error="Unhandled" if failed or (call is not None and call.error_type) else None,
            error_type=error_type_of(call) or (failure.error_type if failure is not None else None),
            duration_ms=self._duration_ms(failure),
            billed_ms=self._billed_ms(failure),
            init_duration_ms=self._init_ms if self._pays_init else None,
            restore_duration_ms=self._restore_ms,
            stream_error=call.stream_error if call is not None else None,
            max_memory_mb=self._memory_mb,
            response_ms=None if responded_at is None else (responded_at - self._began) * 1000,
            extension_overhead_ms=None if failure is not None else (self._ended - self._done_at) * 1000,
            held_ms=self._held_ms(),
            cold_start=self._init_ms is not None,
        )

    def _held_ms(self) -> Mapping[str, float | None]:
        extensions = [extension for extension in self._sandbox.extensions if extension.wants("INVOKE")]
        released_at = self._call.released_at if self._call is not None else math.inf
        return {
            extension.name: (extension.asked_at - released_at) * 1000
            if (extension.asked_at or 0.0) >= released_at
            else None
            for extension in extensions
            if extension.asked_at is not None
        }


def release(sandbox: Sandbox, request: Request, deadline_ms: int) -> Call:
    """Give the invocation to the INVOKE extensions and to the runtime at once; they run in parallel."""
    call = Call(request=request, deadline_ms=deadline_ms, arn=sandbox.function.arn)
    body: dict[str, object] = {
        "eventType": "INVOKE",
        "deadlineMs": deadline_ms,
        "requestId": request.request_id,
        "invokedFunctionArn": sandbox.function.arn,
    }
    if request.trace is not None:
        body["tracing"] = {"type": "X-Amzn-Trace-Id", "value": request.trace}
    for extension in sandbox.extensions:
        if extension.wants("INVOKE"):
            extension.release(Event("INVOKE", orjson.dumps(body), "application/json", str(uuid.uuid4())))
    sandbox.runtime.give(call)
    sandbox.watch.notify()
    return call


def payload(request_id: str, call: Call | None, failure: Failure | None) -> bytes:
    """Return the caller's payload: the runtime's response if there is one, else the platform's error."""
    if call is not None and call.response is not None:
        return call.response
    if failure is None:
        return b""
    if failure.payload is not None:
        return failure.payload
    message = f"RequestId: {request_id} Error: {failure.message}"
    return orjson.dumps({"errorType": failure.error_type, "errorMessage": message})


def error_type_of(call: Call | None) -> str | None:
    """Return the type of an error that the runtime reported: from the payload, else from the header."""
    if call is None or call.error_type is None:
        return None
    try:
        return str(orjson.loads(call.stream_error or call.response or b"")["errorType"])
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return call.error_type
