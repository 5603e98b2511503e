"""The shutdown phase. Source: AWS's emulator, rapid/shutdown.go; docs/fidelity.md, sections 1.8 and 5.4.

The runtime goes first: SIGTERM and its share of the time at a spin-down, SIGKILL at a reset. Then the extensions that
subscribed to SHUTDOWN get the event and must exit before the deadline; all others are killed. No extension ever gets
SIGTERM. The deadline counts from the start of the sequence, so it includes the runtime's share.

Telemetry that is held at the beginning is sent at once, as at each thaw, and what the function still wrote when its
process has ended; everything else in the window waits as the subscription asks. AWS documents none of it.
"""

import asyncio
import time
from typing import Literal

import orjson

from local_lambda.machine.processes import Process
from local_lambda.results import ExtensionEnd, Shutdown
from local_lambda.rules.extensions import Event, Extension
from local_lambda.sandbox import Sandbox
from local_lambda.watch import Condition

Reason = Literal["spindown", "timeout", "failure"]


async def end(sandbox: Sandbox, reason: Reason) -> Shutdown:
    """Run the whole shutdown sequence: afterwards no process runs, and telemetry delivery has stopped."""
    sandbox.is_ending = True
    began, began_ms = time.monotonic(), int(time.time() * 1000)
    budget = _budget(sandbox)
    deadline, deadline_ms = began + budget, began_ms + round(budget * 1000)
    sandbox.thaw()
    period = sandbox.transcript.begin("shutdown", reason)
    await _stop_runtime(sandbox, reason, began, budget)
    body = {"eventType": "SHUTDOWN", "deadlineMs": deadline_ms, "shutdownReason": reason}
    event = Event("SHUTDOWN", orjson.dumps(body), "text/plain; charset=utf-8", None)
    for extension in sandbox.extensions.external():
        _announce(sandbox, extension, event)
    sandbox.watch.notify()
    await _until_gone(sandbox, deadline, sandbox.any_running)
    await kill(sandbox)
    period.ended = time.time()
    sandbox.watch.notify()
    return Shutdown(
        reason=reason,
        started_ms=began_ms,
        deadline_ms=deadline_ms,
        seconds=time.monotonic() - began,
        extensions={
            extension.name: _extension_end(sandbox, extension, began) for extension in sandbox.extensions.external()
        },
        runtime_exit_code=sandbox.runtime_process.exit_code if sandbox.runtime_process else None,
        undelivered_records=sandbox.telemetry.undelivered,
    )


async def kill(sandbox: Sandbox) -> None:
    """Kill all running processes without notice, and wait until they are gone."""
    sandbox.kill()
    await sandbox.watch.until(lambda: not sandbox.any_running())
    sandbox.limits.kill_strays()
    await sandbox.telemetry.stop()
    sandbox.is_up = False


def _budget(sandbox: Sandbox) -> float:
    if sandbox.extensions.external():
        return sandbox.platform.shutdown_s
    return sandbox.platform.internal_shutdown_s if list(sandbox.extensions) else 0.0


async def _stop_runtime(sandbox: Sandbox, reason: Reason, began: float, budget: float) -> None:
    runtime = sandbox.runtime_process
    if runtime is None:
        return
    # Without any extension the runtime gets no SIGTERM either: the budget is 0.
    if reason == "spindown" and budget:
        runtime.terminate()
        platform, managed = sandbox.platform, sandbox.function.is_managed
        share = min(platform.managed_runtime_share_s if managed else platform.runtime_share_s, budget)
        await _until_gone(sandbox, began + share, lambda: runtime.is_running)
    runtime.kill()
    await sandbox.watch.until(lambda: not runtime.is_running)
    sandbox.telemetry.function_ended()


def _announce(sandbox: Sandbox, extension: Extension, event: Event) -> None:
    if extension.wants("SHUTDOWN"):
        extension.release(event)
    elif process := sandbox.processes.get(extension.name):
        process.kill()


async def _until_gone(sandbox: Sandbox, deadline: float, runs: Condition) -> None:
    try:
        async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
            await sandbox.watch.until(lambda: not runs())
    except TimeoutError:
        return  # the caller kills what is left


def _extension_end(sandbox: Sandbox, extension: Extension, began: float) -> ExtensionEnd:
    process: Process | None = sandbox.processes.get(extension.name)
    ended_at = process.ended_at if process and process.ended_at is not None else began
    return ExtensionEnd(
        name=extension.name,
        exit_code=process.exit_code if process else None,
        seconds=max(0.0, ended_at - began),
        killed=process.killed if process else False,
        received_shutdown=extension.received_shutdown,
    )
