"""What an invocation and a shutdown come back with."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Invocation:
    """One finished invocation; the environment is frozen again. Times are in milliseconds.

    `status` is that of `platform.report` (an exception that the runtime handled is a success there);
    `function_error` is what the caller sees, with `error_type` from the payload or the platform.
    `held_ms` says for each INVOKE extension how long after the event it asked for the next one (None: it did not).
    """

    request_id: str
    status: str
    payload: bytes
    function_error: str | None
    error_type: str | None
    duration_ms: float
    billed_ms: int | None  # None on Managed Instances
    init_duration_ms: float | None
    max_memory_mb: int
    response_ms: float | None  # from the start of the invocation until the response was there
    extension_overhead_ms: float | None  # from the end of the runtime until the last extension asked for the next event
    held_ms: Mapping[str, float | None]
    cold_start: bool
    stream_error: bytes | None = None  # what broke off a streamed response, whose beginning is the payload
    restore_duration_ms: float | None = None  # SnapStart

    def json(self) -> Any:
        """Return the payload read as JSON. Raises ValueError when it is none."""
        return json.loads(self.payload)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtensionEnd:
    """How one external extension ended. `exit_code` is negative for a signal, as in `subprocess`.

    `received_shutdown` says whether it fetched the event; `seconds` are from the start of the shutdown to its end.
    """

    name: str
    exit_code: int | None
    seconds: float
    killed: bool
    received_shutdown: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Enforced:
    """What the system enforces: "cgroup v1" or "cgroup v2", else what is done instead and why."""

    memory: str
    cpu: str
    freeze: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Shutdown:
    """How the environment ended. `undelivered_records` is what telemetry the platform still held, in all."""

    reason: str
    started_ms: int
    deadline_ms: int
    seconds: float
    extensions: Mapping[str, ExtensionEnd]
    runtime_exit_code: int | None
    undelivered_records: int
