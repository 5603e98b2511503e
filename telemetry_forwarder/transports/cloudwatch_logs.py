"""Send PutLogEvents, and create the groups and streams that it needs. Imported only if CloudWatch Logs is a sink."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

from telemetry_forwarder.errors import ConfigError, NotTheService, TransportError
from telemetry_forwarder.interfaces import AwsResponse, Cause, PutLogEvents
from telemetry_forwarder.transports.addresses import Network
from telemetry_forwarder.transports.aws_environment import NoEndpoint
from telemetry_forwarder.transports.aws_json import AwsClient
from telemetry_forwarder.variables.table import Problem

RETENTION_S = 2.0

# If an answer takes longer than STEP_S, the next step begins without it; a call takes some 10 ms within a region. After
# a slow first answer the others get less time. A timer that fires more than LATE_S late shows that the CPU was busy,
# such as with the first signature, and is restarted.
STEP_S = 0.5
_NEXT_STEP_S = 0.2
LATE_S = 0.05

Pace: TypeAlias = Callable[[Coroutine[Any, Any, AwsResponse]], Coroutine[Any, Any, AwsResponse]]

# The error type of an answer that no AWS service gave.
FOREIGN = "ForeignAnswer"


@asynccontextmanager
async def open_logs(
    network: Network,
    *,
    retention_days: int | None = None,
    connect_s: float = 5.0,
    warn: Callable[[str], None] | None = None,
    pace: Pace | None = None,
) -> "AsyncIterator[_LogsTransport]":
    """Open a transport for PutLogEvents; leaving the context closes its connections.

    Endpoint and credentials, and the region if none is given, come from the variables that `aws_environment` lists. A
    new log group gets `retention_days`; if that fails `warn` is called. `pace` says when a step of a call may be taken.
    Raises ConfigError if a variable names no region or no address.
    """
    try:
        # Without a bound for an answer: the worker limits an attempt. A timer here would fire after a freeze although
        # the answer is in the socket.
        client = AwsClient("logs", network, connect_s=connect_s)
    except NoEndpoint as error:
        unsound = Problem(error.variable, error.reason, error.allowed, "Sink cloudwatch does not run without it.")
        raise ConfigError([unsound]) from error
    try:
        yield _LogsTransport(client, retention_days=retention_days, warn=warn, pace=pace)
    finally:
        await client.aclose()


class _LogsTransport:
    """Sends each `PutLogEvents` once, to a stream that exists or is created.

    `prepare` creates the stream, and the group if it is missing, before the first put. Without `prepare` the first put
    of a stream does that. It is done again if a put finds no stream, followed by one more put. Each step is waited for
    at most `STEP_S`; then the next step begins beside it. An unnecessary step does no harm, and at a service that takes
    a second for each answer, four steps in a row would not fit into the end of an environment.

    If creation fails the put is tried nevertheless: the role may lack the permission while the stream exists. If the
    put then finds no stream, the answer to the creation is returned, because that error must be fixed or retried
    (OperationAbortedException: another environment is creating the same group).

    A call without credentials is not sent, and answered as AWS would (`AwsClient.call`).
    """

    def __init__(
        self,
        client: AwsClient,
        *,
        retention_days: int | None = None,
        warn: Callable[[str], None] | None = None,
        pace: Pace | None = None,
    ) -> None:
        self._client = client
        self._pace = pace
        self._retention_days = retention_days
        self._warn = warn
        self._unsent = 0  # puts that wait for their stream
        self._ready: set[tuple[str, str]] = set()  # streams that need no creation
        self._preparing: dict[tuple[str, str], asyncio.Event] = {}  # set when no more requests follow

    async def prepare(self, request: PutLogEvents) -> None:
        """Create the stream of `request`. Raises TransportError; `send` repeats what failed here."""
        stream = (request.group, request.stream)
        if stream in self._ready or stream in self._preparing:
            return
        is_under_way = self._preparing[stream] = asyncio.Event()
        try:
            await self._create(request, is_under_way)
        finally:
            is_under_way.set()
            del self._preparing[stream]

    async def send(self, request: PutLogEvents) -> AwsResponse:
        stream = (request.group, request.stream)
        self._unsent += 1
        try:
            if stream in self._preparing:
                await self._preparing[stream].wait()
            elif stream not in self._ready:
                await self._create(request)
        finally:
            self._unsent -= 1
        answer = await self._put(request)
        if answer.error is None:
            self._ready.add(stream)
        if answer.error != "ResourceNotFoundException":
            return answer
        self._ready.discard(stream)
        created = await self._create(request)
        answer = await self._put(request)
        return created if answer.error == "ResourceNotFoundException" and created.error else answer

    def is_preparing(self) -> bool:
        """Return whether a put has not been sent yet because its stream is being created."""
        return self._unsent > 0

    def waits_for(self) -> Cause | None:
        """Return the connection step that is waited for; None if it is the answer."""
        return self._client.waits_for()

    async def aclose(self) -> None:
        """Close the connections. `open_logs` does it as well; closing twice does no harm."""
        await self._client.aclose()

    async def _put(self, request: PutLogEvents) -> AwsResponse:
        events = [{"timestamp": time_ms, "message": message} for time_ms, message in request.events]
        return await self._call(
            "PutLogEvents", logGroupName=request.group, logStreamName=request.stream, logEvents=events
        )

    async def _create(self, request: PutLogEvents, is_under_way: asyncio.Event | None = None) -> AwsResponse:
        """Create what is missing, and remember the stream. The status is 200 if the stream can be written to.

        `is_under_way` is set when no more requests follow. Raises TransportError if no answer came.
        """
        async with asyncio.TaskGroup() as group:
            calls = _Calls(group)
            try:
                answer = await self._create_stream_or_group(request, calls, is_under_way or asyncio.Event())
            finally:
                calls.end()
        if isinstance(answer, TransportError):
            raise answer
        if answer.error is None:
            self._ready.add((request.group, request.stream))
        return answer

    async def _create_stream_or_group(
        self, request: PutLogEvents, calls: "_Calls", is_under_way: asyncio.Event
    ) -> "AwsResponse | TransportError":
        # The stream first: its group nearly always exists, so this is usually the only call.
        stream = calls.begin(self._create_stream(request))
        if await calls.answered(stream, STEP_S) and not _is_missing(stream.result()):
            return stream.result()
        step_s = STEP_S if stream.done() else _NEXT_STEP_S
        group = calls.begin(self._create_group(request, calls))
        if await calls.answered(group, step_s) and stream.done() and _is_failed(group.result()):
            return group.result()
        again = calls.begin(self._create_stream(request))
        await calls.answered(again, step_s)
        is_under_way.set()
        answer = await calls.first_good(stream, again)
        if not _is_missing(answer):
            return answer
        # Both attempts at the stream came before the group was there. So wait for the group, and try once more.
        made = await group
        return made if _is_failed(made) else await calls.begin(self._create_stream(request))

    async def _create_group(self, request: PutLogEvents, calls: "_Calls") -> AwsResponse:
        answer = await self._call("CreateLogGroup", logGroupName=request.group)
        if answer.error is None:
            calls.spared = asyncio.current_task()
            await self._retain(request.group)
        return AwsResponse(status=200) if answer.error == "ResourceAlreadyExistsException" else answer

    async def _create_stream(self, request: PutLogEvents) -> AwsResponse:
        answer = await self._call("CreateLogStream", logGroupName=request.group, logStreamName=request.stream)
        return AwsResponse(status=200) if answer.error == "ResourceAlreadyExistsException" else answer

    async def _retain(self, group: str) -> None:
        """Set the retention of a new group, within `RETENTION_S`: delivering the records is more important."""
        if self._retention_days is None:
            return
        try:
            async with asyncio.timeout(RETENTION_S):
                answer = await self._call(
                    "PutRetentionPolicy", logGroupName=group, retentionInDays=self._retention_days
                )
            failure = answer.error and f"{answer.error}: {answer.message}"
        except (TransportError, TimeoutError) as error:
            failure = str(error) or type(error).__name__
        if failure and self._warn:
            self._warn(f"The retention of log group {group} was not set ({failure}); its events are kept for ever.")

    async def _call(self, operation: str, **parameters: Any) -> AwsResponse:
        calling = self._client.call(operation, parameters)
        try:
            return await (self._pace(calling) if self._pace else calling)
        except NotTheService as error:  # the address is wrong, so a retry would not help
            return AwsResponse(status=200, error=FOREIGN, message=str(error))


class _Calls:
    """Concurrent calls, each a task of `group` that does not raise."""

    def __init__(self, group: asyncio.TaskGroup) -> None:
        self.spared: asyncio.Task[Any] | None = None  # this task is not cancelled
        self._group = group
        self._tasks: list[asyncio.Task[AwsResponse | TransportError]] = []

    def begin(self, call: Awaitable[AwsResponse]) -> "asyncio.Task[AwsResponse | TransportError]":
        task = self._group.create_task(outcome(call))
        self._tasks.append(task)
        return task

    async def answered(self, task: "asyncio.Task[Any]", seconds: float) -> bool:
        """Wait for an answer for `seconds`; return whether it came."""
        loop = asyncio.get_running_loop()
        while not task.done():
            due = loop.time() + seconds
            await asyncio.wait([task], timeout=seconds)
            if loop.time() - due < LATE_S:
                break
        return task.done()

    async def first_good(self, *tasks: "asyncio.Task[AwsResponse | TransportError]") -> "AwsResponse | TransportError":
        """Return the first answer that is no failure; if all fail, the last answer."""
        waiting = set(tasks)
        while True:  # not `as_completed`, which loads `inspect` on CPython 3.15
            done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            answers = [task.result() for task in done]
            good = [answer for answer in answers if not _is_failed(answer)]
            if good or not waiting:
                return (good or answers)[0]

    def end(self) -> None:
        for task in self._tasks:
            if task is not self.spared:
                task.cancel()


async def outcome(call: Awaitable[AwsResponse]) -> "AwsResponse | TransportError":
    """Return the answer of `call`, or its TransportError."""
    try:
        return await call
    except TransportError as error:
        return error


def _is_failed(answer: AwsResponse | TransportError) -> bool:
    return isinstance(answer, TransportError) or answer.error is not None


def _is_missing(answer: AwsResponse | TransportError) -> bool:
    """Return whether a stream could not be created because its group is missing."""
    return isinstance(answer, AwsResponse) and answer.error == "ResourceNotFoundException"
