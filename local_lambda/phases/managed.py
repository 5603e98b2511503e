"""An invocation on Managed Instances: no freeze, no `platform.runtimeDone`, several invocations at once.

Source: AWS docs "Lambda Managed Instances"; docs/fidelity.md, section 5.3.
"""

import asyncio
import time

from local_lambda.errors import InitFailed
from local_lambda.phases import init, shutdown
from local_lambda.phases.invocation import Failure, error_type_of, payload, release
from local_lambda.results import Invocation
from local_lambda.rules import telemetry_events as events
from local_lambda.rules.runtime import Call, Request
from local_lambda.sandbox import Broken, Sandbox


async def invoke(sandbox: Sandbox, request: Request) -> Invocation:
    """Invoke the function in parallel with others. A timeout ends this request only, not the environment."""
    began = time.time()
    await _ensure_up(sandbox)
    function = sandbox.function
    sandbox.telemetry.emit("platform.start", events.start(function, request), at=began)
    deadline = began + function.timeout_s
    call = release(sandbox, request, events.milliseconds_of(began) + round(function.timeout_s * 1000))
    failure = None
    try:
        async with asyncio.timeout(deadline - time.time()):
            await sandbox.until(lambda: call.done_at is not None)
    except TimeoutError:
        sandbox.runtime.forget(call)
        message = f"Task timed out after {function.timeout_s:.2f} seconds"
        failure = Failure(status="timeout", error_type="Sandbox.Timedout", message=message)
    except Broken as broken:
        failure = Failure(status="error", error_type=broken.fault.error_type, message=broken.fault.message)
    if sandbox.runtime_process is not None:
        sandbox.runtime_process.drain()
    return _report(sandbox, request, call, failure, began)


async def _ensure_up(sandbox: Sandbox) -> None:
    """Replace a broken environment: the crash of one extension makes all of it unhealthy."""
    async with sandbox.repair:
        if sandbox.is_up and sandbox.fault is None:
            return
        if sandbox.is_up:
            await shutdown.end(sandbox, "failure")
        outcome = await init.initialise(sandbox, "init", init.limit_s(sandbox))
        if not outcome.is_success:
            await shutdown.end(sandbox, "spindown")
            raise InitFailed(outcome.error_type or "Runtime.Unknown", outcome.message)


def _report(sandbox: Sandbox, request: Request, call: Call, failure: Failure | None, began: float) -> Invocation:
    ended = call.done_at or time.time()
    spans = []
    if call.response_began_at is not None and call.responded_at is not None:
        spans = [
            events.span("responseLatency", call.released_at, call.response_began_at),
            events.span("responseDuration", call.response_began_at, call.responded_at),
        ]
    status, error_type = ("success", None) if failure is None else (failure.status, failure.reported_type)
    metrics = {"durationMs": round((ended - began) * 1000, 3)}
    sandbox.telemetry.emit("platform.report", events.ended(request, status, error_type, metrics, spans))
    is_error = failure is not None or call.error_type is not None
    return Invocation(
        request_id=request.request_id,
        status=status,
        payload=payload(request.request_id, call, failure),
        function_error="Unhandled" if is_error else None,
        error_type=failure.error_type if failure is not None else error_type_of(call),
        duration_ms=(ended - began) * 1000,
        max_memory_mb=sandbox.memory_mb(),
        response_ms=None if call.responded_at is None else (call.responded_at - began) * 1000,
        stream_error=call.stream_error,
    )
