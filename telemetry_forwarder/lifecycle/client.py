"""The calls to the Extensions API after registration (`bootstrap` registers, and subscribes to telemetry).

Every call goes straight to `AWS_LAMBDA_RUNTIME_API`, never through a proxy, and `/event/next` has no timeout of ours.
Source: AWS Lambda Developer Guide, "Extensions API".
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from types import TracebackType
from typing import Any, TypeAlias

import aiohttp
import orjson

from telemetry_forwarder.errors import ExtensionsApiError

EXTENSIONS = "2020-01-01/extension"


@dataclass(frozen=True, slots=True)
class Invoke:
    """The function is being invoked; `deadline_ms` (since the epoch) is its timeout."""

    request_id: str
    deadline_ms: int


@dataclass(frozen=True, slots=True)
class Shutdown:
    """The environment ends; `reason` is in lower case: `spindown`, `timeout`, `failure` or a word not known yet."""

    reason: str
    deadline_ms: int


Event: TypeAlias = Invoke | Shutdown


class Subscription(Enum):
    """What became of the subscription."""

    SUBSCRIBED = "subscribed"
    NOT_SUPPORTED = "not supported"  # a local stand-in for Lambda: 202


@dataclass(frozen=True, slots=True, kw_only=True)
class Buffering:
    """How Lambda gathers records before it sends them. Ranges: `variables`."""

    timeout_ms: int
    max_bytes: int
    max_items: int


class ExtensionsClient:
    """One registered extension's connection to Lambda. An async context manager."""

    def __init__(self, runtime_api: str, extension_id: str) -> None:
        self._base = f"http://{runtime_api}"
        self._headers = {"Lambda-Extension-Identifier": extension_id}
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> "ExtensionsClient":
        self._session = aiohttp.ClientSession(
            headers=self._headers,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=2.0),
            trust_env=False,
            # No connection is kept: what is idle while the environment is frozen may be dead when it thaws.
            connector=aiohttp.TCPConnector(force_close=True),
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def next_event(self) -> Event:
        """Say that the last event is done with and wait for the next one, however long that takes.

        Raises ExtensionsApiError for a refusal, for an event of an unknown kind, and where the connection fails twice.
        """
        try:
            status, body = await self._call("GET", f"{EXTENSIONS}/event/next")
        except ExtensionsApiError as error:
            if error.status:
                raise
            status, body = await self._call(
                "GET", f"{EXTENSIONS}/event/next"
            )  # the connection did not survive a freeze
        if status != 200:
            raise _refusal("/event/next", status, body)
        return read_event(body)

    async def init_error(self, kind: str, message: str) -> None:
        """Record why the start failed; the process has to end right after."""
        await self._report("init", kind, message)

    async def exit_error(self, kind: str, message: str) -> None:
        """Record why the extension ends; the process has to end right after."""
        await self._report("exit", kind, message)

    async def _report(self, phase: str, kind: str, message: str) -> None:
        body = orjson.dumps({"errorMessage": message, "errorType": kind, "stackTrace": []})
        headers = {"Lambda-Extension-Function-Error-Type": kind}
        status, answer = await self._call("POST", f"{EXTENSIONS}/{phase}/error", body, headers)
        if status != 202:
            raise _refusal(f"/{phase}/error", status, answer)

    async def _call(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, bytes]:
        if self._session is None:
            raise RuntimeError("enter the client first")
        all_headers = {"Content-Type": "application/json", **(headers or {})} if body is not None else headers
        try:
            async with self._session.request(
                method, f"{self._base}/{path}", data=body, headers=all_headers
            ) as response:
                return response.status, await response.read()
        except (aiohttp.ClientError, OSError) as error:
            raise ExtensionsApiError(path, 0, type(error).__name__, str(error)) from error


def read_subscription(status: int, answer: bytes) -> Subscription:
    """Read the answer to the subscription. Raises ExtensionsApiError for a refusal, or where there was none."""
    if status == 202:
        return Subscription.NOT_SUPPORTED
    if status == 200:  # "OK", or "AlreadySubscribed" by the generation before a reset
        return Subscription.SUBSCRIBED
    if status == 0:
        raise ExtensionsApiError("subscribing to telemetry", 0, "NoAnswer", answer.decode("utf-8", "replace"))
    raise _refusal("subscribing to telemetry", status, answer)


def read_event(body: bytes) -> Event:
    """Read the answer of `/event/next`. Raises ExtensionsApiError where it is not an event that is known."""
    event = _object(body)
    kind, deadline_ms, request_id = event.get("eventType"), event.get("deadlineMs"), event.get("requestId")
    if isinstance(deadline_ms, int):
        if kind == "INVOKE" and isinstance(request_id, str):
            return Invoke(request_id, deadline_ms)
        if kind == "SHUTDOWN":
            return Shutdown(str(event.get("shutdownReason", "")).lower(), deadline_ms)
    raise ExtensionsApiError("/event/next", 200, "UnknownEvent", body[:200].decode("utf-8", "replace"))


def _refusal(call: str, status: int, body: bytes) -> ExtensionsApiError:
    answer = _object(body)
    kind, message = answer.get("errorType", "without errorType"), answer.get("errorMessage", "")
    return ExtensionsApiError(call, status, str(kind), str(message))


def _object(body: bytes) -> dict[str, Any]:
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return value if isinstance(value, dict) else {}
