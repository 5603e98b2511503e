"""The init phase: start all processes. Source of the order: AWS's emulator, rapid/handlers.go; docs/fidelity.md 1.7."""

import asyncio
import time
from dataclasses import dataclass
from typing import Literal

import orjson

from local_lambda.rules import telemetry_events as events
from local_lambda.sandbox import Broken, Fault, Sandbox

Phase = Literal["init", "invoke"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How an init or a restore ended. `payload` is the runtime's own error report, for the caller of an invocation."""

    status: str
    duration_ms: float
    error_type: str | None = None
    message: str = ""
    payload: bytes | None = None

    @property
    def is_success(self) -> bool:
        return self.status == "success"


def limit_s(sandbox: Sandbox) -> float:
    """Return the time limit of an init before any invocation, in seconds."""
    function, platform = sandbox.function, sandbox.platform
    if function.init_type == "on-demand":
        return platform.init_limit_s
    return min(900.0, max(platform.long_init_limit_s, function.timeout_s))


async def initialise(sandbox: Sandbox, phase: Phase, limit: float) -> Outcome:
    """Start all processes, wait until they are ready, at most `limit` seconds, and emit the events of an init."""
    sandbox.renew()
    sandbox.transcript.generation += 1
    sandbox.telemetry.begin_init()
    sandbox.limits.init_begins()
    function, telemetry = sandbox.function, sandbox.telemetry
    version = sandbox.runtime_kind.telemetry_version
    began = time.monotonic()
    telemetry.emit("platform.initStart", events.init_start(function, sandbox.instance_id, version, phase))
    outcome = await _outcome(sandbox, limit, began)
    sandbox.limits.init_ends()
    sandbox.extensions.is_closed = True
    telemetry.close_subscriptions(forget=outcome.is_success)  # a failed init is repeated
    status, error_type = outcome.status, outcome.error_type
    telemetry.emit("platform.initRuntimeDone", events.init_runtime_done(function, phase, status, error_type))
    for extension in sandbox.extensions:
        telemetry.emit(
            "platform.extension",
            events.extension(extension.name, extension.state, extension.events, extension.error_type),
        )
    telemetry.emit("platform.initReport", events.init_report(function, phase, status, error_type, outcome.duration_ms))
    sandbox.is_up = outcome.is_success
    return outcome


async def _outcome(sandbox: Sandbox, limit: float, began: float) -> Outcome:
    status, error_type, message, payload = "success", None, "", None
    try:
        async with asyncio.timeout(limit):
            await _bring_up(sandbox)
    except TimeoutError:
        # Source: AWS's emulator, which uses this type for every reason.
        status, error_type, message = "timeout", "Runtime.Unknown", f"{_laggard(sandbox)} within {limit:g} s."
    except Broken as broken:
        status, error_type, message = "error", broken.fault.error_type, _describe(sandbox, broken.fault)
        payload = sandbox.runtime.init_error[1] if sandbox.runtime.init_error else None
    duration_ms = (time.monotonic() - began) * 1000
    return Outcome(status=status, duration_ms=duration_ms, error_type=error_type, message=message, payload=payload)


async def _bring_up(sandbox: Sandbox) -> None:
    extensions, runtime = sandbox.extensions, sandbox.runtime
    await asyncio.gather(*(sandbox.launch_extension(name) for name in sandbox.executables))
    await sandbox.until(extensions.all_registered)
    await sandbox.launch_runtime()  # only now: an extension that registers late delays the runtime
    await sandbox.until(lambda: runtime.is_initialised or runtime.init_error is not None)
    if runtime.init_error is not None:
        error_type, body = runtime.init_error
        raise Broken(Fault(error_type, _message_of(body), "runtime"))
    extensions.is_closed = True
    await sandbox.until(extensions.all_ready)


def _describe(sandbox: Sandbox, fault: Fault) -> str:
    """Return a sentence for people that describes a fault."""
    if fault.error_type not in ("Extension.Crash", "Extension.InitError", "Extension.ExitError"):
        return fault.message
    # What `env` cannot find, the kernel has not refused to execute: the file says more than the exit code.
    has_begun = fault.by not in sandbox.executables or sandbox.extensions[fault.by].is_registered
    why = "" if has_begun else sandbox.flaw_of(fault.by)
    return f"the extension {fault.by} ended with {fault.message}" + (f": {why}" if why else ".")


def _laggard(sandbox: Sandbox) -> str:
    """Return what an init that timed out was waiting for."""
    waiting = [extension.name for extension in sandbox.extensions if not extension.is_registered]
    if waiting:
        return f"the extension {', '.join(waiting)} did not register"
    if not sandbox.runtime.is_initialised:
        return "the runtime did not ask for its first invocation"
    waiting = [extension.name for extension in sandbox.extensions if not extension.is_idle]
    return f"the extension {', '.join(waiting)} did not ask for its first event"


def _message_of(body: bytes) -> str:
    try:
        return str(orjson.loads(body)["errorMessage"])
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return body.decode("utf-8", "replace")
