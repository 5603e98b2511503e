"""The runtime as the platform sees it: its invocations and the state of each. Pure.

Started --next--> Ready --invocation--> Running --response | error--> RuntimeResponseSentState --next--> Ready
"""

import re
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from local_lambda.rules.refusals import Refused

if TYPE_CHECKING:
    from local_lambda.response_stream import ResponseStream

MAX_RESPONSE_BYTES = 6 * 1024 * 1024 + 100  # source: AWS Runtime Interface Emulator
_ERROR_TYPE = re.compile(r"(Runtime|Function)\.[A-Z][a-zA-Z]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One invocation request as the caller sends it."""

    payload: bytes
    request_id: str
    trace: str | None = None
    client_context: str | None = None
    cognito_identity: str | None = None
    tenant_id: str | None = None
    stream: "ResponseStream | None" = None  # of a caller that takes a streamed response as it comes


@dataclass(slots=True, kw_only=True)
class Call:
    """One invocation given to the runtime. Times are seconds since the epoch."""

    request: Request
    deadline_ms: int
    arn: str
    released_at: float = field(default_factory=time.time)
    response: bytes | None = None
    error_type: str | None = None  # set when the runtime reported an error
    stream_error: bytes | None = None  # the error that ended a streamed response
    response_began_at: float | None = None
    responded_at: float | None = None
    done_at: float | None = None  # when the runtime asked for the next invocation

    @property
    def is_answered(self) -> bool:
        return self.responded_at is not None

    def headers(self) -> dict[str, str]:
        """Return the headers of `/runtime/invocation/next`, without those that have no value."""
        named = {
            "Lambda-Runtime-Aws-Request-Id": self.request.request_id,
            "Lambda-Runtime-Deadline-Ms": str(self.deadline_ms),
            "Lambda-Runtime-Invoked-Function-Arn": self.arn,
            "Lambda-Runtime-Trace-Id": self.request.trace,
            "Lambda-Runtime-Client-Context": self.request.client_context,
            "Lambda-Runtime-Cognito-Identity": self.request.cognito_identity,
            "Lambda-Runtime-Aws-Tenant-Id": self.request.tenant_id,
            "Content-Type": "application/json",
        }
        return {name: value for name, value in named.items() if value is not None}


class Runtime:
    """One generation of the runtime. If `concurrent` (Managed Instances), it may hold several invocations at once."""

    def __init__(self, *, concurrent: bool = False) -> None:
        self.concurrent = concurrent
        self.has_asked = False
        self.init_error: tuple[str, bytes] | None = None
        self.restore_error: tuple[str, bytes] | None = None
        self.waits_for_restore = False
        self.is_restored = False
        self._queue: deque[Call] = deque()
        self._current: Call | None = None
        self._open: dict[str, Call] = {}
        self._timed_out: deque[str] = deque(maxlen=1000)

    @property
    def state(self) -> str:
        if self.init_error is not None:
            return "InitError"
        if self.restore_error is not None:
            return "RestoreError"
        if not self.has_asked:
            return "Restoring" if self.waits_for_restore else "Started"
        if self._current is None:
            return "Ready"
        return "RuntimeResponseSentState" if self._current.is_answered else "Running"

    def give(self, call: Call) -> None:
        """Make `call` ready for the next `/runtime/invocation/next`."""
        self._queue.append(call)
        self._open[call.request.request_id] = call

    def forget(self, call: Call) -> None:
        """Drop an invocation that timed out; a later answer to it is refused."""
        self._open.pop(call.request.request_id, None)
        self._timed_out.append(call.request.request_id)
        if call in self._queue:
            self._queue.remove(call)

    def ask_next(self) -> None:
        """Handle a call of `/runtime/invocation/next`: an answered invocation is now done."""
        if self.init_error is not None or self.restore_error is not None:
            raise self._refusal("Ready")
        self.has_asked = True
        if self._current is not None and self._current.is_answered:
            self._current.done_at = time.time()
            self._open.pop(self._current.request.request_id, None)
            self._current = None

    def ask_restore(self) -> None:
        """Handle a call of `/runtime/restore/next`: the init is complete, and the runtime waits for the restore."""
        if self.has_asked or self.init_error is not None or self.restore_error is not None:
            raise self._refusal("RestoreReady")
        self.waits_for_restore = True

    def release_restore(self) -> None:
        """Let the runtime continue after the restore."""
        self.is_restored = True

    def fail_restore(self, body: bytes, error_type: str | None) -> None:
        """Handle `/runtime/restore/error`: a hook after the restore failed."""
        if not self.is_restored or self.has_asked or self.restore_error is not None:
            raise self._refusal("RestoreError")
        self.restore_error = (clean_error_type(error_type, "Runtime.Unknown"), body)

    @property
    def is_initialised(self) -> bool:
        """Whether the runtime has reported that its init is complete."""
        return self.has_asked or self.waits_for_restore

    def take(self) -> Call | None:
        """Return the next invocation; while one is unanswered, return that one again, as the real API does."""
        if self._current is not None and not self.concurrent:
            return self._current
        if not self._queue:
            return None
        call = self._queue.popleft()
        if not self.concurrent:
            self._current = call
        return call

    @property
    def has_work(self) -> bool:
        return bool(self._queue) or (self._current is not None and not self.concurrent)

    def check_open(self, request_id: str, to: str = "InvocationResponse") -> Call:
        """Return the invocation if it may be answered now; `to` is the state after the answer. Raises Refused."""
        call = self._open.get(request_id)
        if call is None and self.concurrent and request_id in self._timed_out:
            # Its worker continues to run and gets this answer. Source: AWS's emulator, Managed Instances core, as
            # observed.
            raise Refused(410, "InvokeTimeout", "Invoke timeout")
        if call is None:
            raise Refused(400, "InvalidRequestID", "Invalid request ID")
        if call.is_answered:
            raise self._refusal(to)
        return call

    def answer(self, call: Call, body: bytes, began_at: float, failed: tuple[str, bytes] | None = None) -> None:
        """Record the function's response; `failed` is the type and the body of an error that ended a stream."""
        if failed is not None:
            call.error_type, call.stream_error = clean_error_type(failed[0], "Function.Unknown"), failed[1]
        call.response, call.response_began_at, call.responded_at = body, began_at, time.time()
        self._settle(call)

    def fail(self, call: Call, body: bytes, error_type: str | None) -> None:
        """Record an error that the runtime reported for an invocation."""
        call.error_type = clean_error_type(error_type, "Function.Unknown")
        call.response, call.responded_at = body, time.time()
        self._settle(call)

    def fail_init(self, body: bytes, error_type: str | None) -> None:
        """Handle `/runtime/init/error`."""
        if self.is_initialised or self.init_error is not None:
            raise self._refusal("InitError")
        self.init_error = (clean_error_type(error_type, "Runtime.Unknown"), body)

    def _settle(self, call: Call) -> None:
        if self.concurrent:  # a later next cannot be matched to this invocation, so the answer ends it
            call.done_at = call.responded_at
            self._open.pop(call.request.request_id, None)

    def _refusal(self, to: str) -> Refused:
        return Refused(
            403,
            "InvalidStateTransition",
            f"State transition from {self.state} to {to} failed for runtime. Error: State transition is not allowed",
        )


def clean_error_type(error_type: str | None, otherwise: str) -> str:
    """Return the error type from the runtime if it has the documented form, else `otherwise`."""
    return error_type if error_type and _ERROR_TYPE.fullmatch(error_type) else otherwise
