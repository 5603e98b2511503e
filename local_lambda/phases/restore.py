"""SnapStart, as far as processes allow: init, stop as for a snapshot, restore before the first invocation.

The restored processes are the initialised ones, not copies. Their clocks do not jump, because a process cannot be given
another monotonic clock. After a reset, new processes run the init and are then restored. Source: platform reference,
section 5.2; AWS docs "Improving startup performance with Lambda SnapStart" (hooks have 10 s).
"""

import asyncio
import time

from local_lambda.phases.init import Outcome
from local_lambda.rules import telemetry_events as events
from local_lambda.sandbox import Broken, Sandbox


async def restore(sandbox: Sandbox) -> Outcome | None:
    """Release a runtime that waits in `/restore/next` and wait for its hooks; None if there is nothing to restore."""
    runtime, function, telemetry = sandbox.runtime, sandbox.function, sandbox.telemetry
    if not function.is_snap_start or runtime.is_restored:
        return None
    began = time.monotonic()
    version = sandbox.runtime_kind.telemetry_version
    telemetry.emit("platform.restoreStart", events.restore_start(function, sandbox.instance_id, version))
    outcome = await _outcome(sandbox, began)
    status, error_type = outcome.status, outcome.error_type
    telemetry.emit("platform.restoreRuntimeDone", events.restore_runtime_done(status, error_type))
    telemetry.emit("platform.restoreReport", events.restore_report(status, error_type, outcome.duration_ms))
    return outcome


async def _outcome(sandbox: Sandbox, began: float) -> Outcome:
    runtime, limit = sandbox.runtime, sandbox.platform.restore_limit_s
    status, error_type, message, payload = "success", None, "", None
    runtime.release_restore()
    sandbox.watch.notify()
    try:
        async with asyncio.timeout(limit):
            await sandbox.until(lambda: runtime.has_asked or runtime.restore_error is not None)
    except TimeoutError:
        # Source: AWS's emulator, which gives an init or restore timeout this type.
        status, error_type, message = "timeout", "Runtime.Unknown", f"Restore timed out after {limit:.2f} seconds"
    except Broken as broken:
        status, error_type, message = "error", broken.fault.error_type, broken.fault.message
    if runtime.restore_error is not None:
        status, message = "error", "The runtime reported a restore error"
        error_type, payload = runtime.restore_error
    duration_ms = (time.monotonic() - began) * 1000
    return Outcome(status=status, duration_ms=duration_ms, error_type=error_type, message=message, payload=payload)
