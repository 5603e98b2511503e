"""The results of an invocation and of a shutdown."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Invocation:
    """One finished invocation; the environment is frozen again. Times are in milliseconds.

    `status` is the one in `platform.report`, where an exception that the runtime handled counts as success.
    `function_error` is what the caller sees; `error_type` comes from the payload or from the platform. `held_ms` maps
    each extension registered for INVOKE to the time from the event until it asked for the next one (None: it did not
    ask).
    """

    request_id: str
    status: str
    payload: bytes
    function_error: str | None
    error_type: str | None
    duration_ms: float
    billed_ms: int | None = None  # None on Managed Instances
    init_duration_ms: float | None = None
    max_memory_mb: int
    response_ms: float | None  # from the start of the invocation until the response
    extension_overhead_ms: float | None = None  # from the end of the runtime to the last extension's next call
    held_ms: Mapping[str, float | None] = field(default_factory=dict)
    cold_start: bool = False
    stream_error: bytes | None = None  # the error that ended a streamed response; `payload` is the part before it
    restore_duration_ms: float | None = None  # SnapStart

    def json(self) -> Any:
        """Return the payload parsed as JSON. Raises ValueError if it is not JSON."""
        return json.loads(self.payload)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtensionEnd:
    """How one external extension ended. A negative `exit_code` is a signal, as in `subprocess`.

    `received_shutdown` says whether it fetched the SHUTDOWN event. `seconds` count from the start of the shutdown.
    """

    name: str
    exit_code: int | None
    seconds: float
    killed: bool
    received_shutdown: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Enforced:
    """How each limit is enforced: "cgroup v1" or "cgroup v2", or else what is done instead and why.

    `file_system` begins with "own" or "shared".
    """

    memory: str
    cpu: str
    freeze: str
    file_system: str = "shared"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shutdown:
    """How the environment ended. `undelivered_records` counts the telemetry records that the platform still held."""

    reason: str
    started_ms: int
    deadline_ms: int
    seconds: float
    extensions: Mapping[str, ExtensionEnd]
    runtime_exit_code: int | None
    undelivered_records: int
