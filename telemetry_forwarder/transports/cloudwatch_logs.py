"""PutLogEvents through the AWS SDK, which signs. Imported only where CloudWatch Logs is a sink: botocore is heavy."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError

from telemetry_forwarder.errors import ConfigError, NotTheService, TransportError
from telemetry_forwarder.interfaces import AwsResponse, Cause, PutLogEvents
from telemetry_forwarder.transports.addresses import host_port
from telemetry_forwarder.transports.aws import Road, client_config
from telemetry_forwarder.transports.aws_calls import call
from telemetry_forwarder.transports.aws_session import new_session, open_client, sdk_problem

if TYPE_CHECKING:
    from types_aiobotocore_logs.client import CloudWatchLogsClient

# The worker bounds an attempt. A timer of ours would fire at the thaw, with the answer waiting in the socket.
READ_S = 900.0

RETENTION_S = 2.0

# An answer that takes longer than this is not waited for before the next step: a call takes some 10 ms within a region.
# Where the first was slow the others need not be waited for as long. A timer that comes late tells of a processor that
# had to do something else, such as signing for the first time, and is set anew.
STEP_S = 0.5
NEXT_STEP_S = 0.2
LATE_S = 0.05

# The type of an answer that no service of AWS gave.
FOREIGN = "ForeignAnswer"


@asynccontextmanager
async def open_logs(
    *,
    retention_days: int | None = None,
    region: str | None = None,
    ca_file: str | None = None,
    proxies: Mapping[str, str] | None = None,
    connect_s: float = 5.0,
    warn: Callable[[str], None] | None = None,
) -> "AsyncIterator[LogsTransport]":
    """Open a transport for PutLogEvents; leaving the context closes its connections.

    Endpoint and credentials, and the region where none is given, come by the variables that `aws_session` lists.
    A group that had to be created gets `retention_days`; `warn` is told where that failed. Raises ConfigError where
    no client can be made of these variables.
    """
    road = Road()
    # What is sent is made here, event by event; to look it over again would take the SDK as long as all the rest.
    config = client_config(connect_s=connect_s, read_s=READ_S, proxies=proxies, looks_over_parameters=False, road=road)
    async with AsyncExitStack() as stack:
        try:
            opening = open_client(new_session(), "logs", region=region, ca_file=ca_file, config=config)
            client = await stack.enter_async_context(opening)
        except (BotoCoreError, ValueError) as error:
            raise ConfigError([sdk_problem(error, "logs", "Sink cloudwatch does not run without it.")]) from error
        yield LogsTransport(client, retention_days=retention_days, warn=warn, road=road)


class LogsTransport:
    """Send each `PutLogEvents` once, to a stream that is there or was created.

    `prepare` creates the stream, and the group where it is missing, before anything is put; else that is done before
    the first put of a stream, and again when a put finds no stream, then with one more put. No step is waited for
    longer than `STEP_S` before the next is taken beside it: each does no harm where it is not needed, and at a service
    that takes a second for each answer four of them would not fit into the end of an environment.

    That creation fails keeps no put from being tried: the role may lack the permission while the stream exists. Only if
    the put then finds no stream, the answer is the one that the creation got, because that is what must be mended or
    retried (OperationAbortedException: another environment is creating the same group).

    What the SDK refuses on our side comes as an answer too (`aws_calls.call`).
    """

    def __init__(
        self,
        client: "CloudWatchLogsClient",
        *,
        retention_days: int | None = None,
        warn: Callable[[str], None] | None = None,
        road: Road | None = None,
    ) -> None:
        self._client = client
        self._road = road
        self._retention_days = retention_days
        self._warn = warn
        self._unsent = 0  # puts that wait for their stream
        self._ready: set[tuple[str, str]] = set()  # streams that need no creation
        self._preparing: dict[tuple[str, str], asyncio.Event] = {}  # set when every step has been taken

    async def prepare(self, request: PutLogEvents) -> None:
        """Create the stream of `request`. Raises TransportError; `send` tries what failed here again."""
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
        """Say whether a put has not been sent yet: its stream is being created."""
        return self._unsent > 0

    def waits_for(self) -> Cause | None:
        """Return the step of making a connection that is waited for; None where it is the answer."""
        return self._road.waits_for(host_port(self._client.meta.endpoint_url)) if self._road else None

    async def aclose(self) -> None:
        """Close the connections; `open_logs` does it as well, and twice does no harm."""
        await self._client.close()

    async def _put(self, request: PutLogEvents) -> AwsResponse:
        events = [{"timestamp": time_ms, "message": message} for time_ms, message in request.events]
        return await self._call(
            "put_log_events", logGroupName=request.group, logStreamName=request.stream, logEvents=events
        )

    async def _create(self, request: PutLogEvents, is_under_way: asyncio.Event | None = None) -> AwsResponse:
        """Create what is missing, and remember that it is there; status 200 where the stream can be written to.

        `is_under_way` is set when nothing more is to be sent. Raises TransportError where no answer came.
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
        # The stream first: its group is nearly always there, and then this is the only call.
        stream = calls.begin(self._create_stream(request))
        if await calls.answered(stream, STEP_S) and not is_missing(stream.result()):
            return stream.result()
        step_s = STEP_S if stream.done() else NEXT_STEP_S
        group = calls.begin(self._create_group(request, calls))
        if await calls.answered(group, step_s) and stream.done() and is_failed(group.result()):
            return group.result()
        again = calls.begin(self._create_stream(request))
        await calls.answered(again, step_s)
        is_under_way.set()
        answer = await calls.first_good(stream, again)
        if not is_missing(answer):
            return answer
        made = await group
        return made if is_failed(made) else await calls.begin(self._create_stream(request))

    async def _create_group(self, request: PutLogEvents, calls: "_Calls") -> AwsResponse:
        answer = await self._call("create_log_group", logGroupName=request.group)
        if answer.error is None:
            calls.spared = asyncio.current_task()
            await self._retain(request.group)
        return AwsResponse(status=200) if answer.error == "ResourceAlreadyExistsException" else answer

    async def _create_stream(self, request: PutLogEvents) -> AwsResponse:
        answer = await self._call("create_log_stream", logGroupName=request.group, logStreamName=request.stream)
        return AwsResponse(status=200) if answer.error == "ResourceAlreadyExistsException" else answer

    async def _retain(self, group: str) -> None:
        """Set the retention of a new group, if it can be done soon: the records are worth more than their term."""
        if self._retention_days is None:
            return
        try:
            async with asyncio.timeout(RETENTION_S):
                answer = await self._call(
                    "put_retention_policy", logGroupName=group, retentionInDays=self._retention_days
                )
            failure = answer.error and f"{answer.error}: {answer.message}"
        except (TransportError, TimeoutError) as error:
            failure = str(error) or type(error).__name__
        if failure and self._warn:
            self._warn(f"The retention of log group {group} was not set ({failure}); its events are kept for ever.")

    async def _call(self, operation: str, **parameters: Any) -> AwsResponse:
        try:
            return await call(self._client, operation, parameters)
        except NotTheService as error:  # the address is wrong, which no other attempt changes
            return AwsResponse(status=200, error=FOREIGN, message=str(error))


class _Calls:
    """Calls that are under way beside each other, each a task of `group` that does not raise."""

    def __init__(self, group: asyncio.TaskGroup) -> None:
        self.spared: asyncio.Task[Any] | None = None  # goes on to its end
        self._group = group
        self._tasks: list[asyncio.Task[AwsResponse | TransportError]] = []

    def begin(self, call: Awaitable[AwsResponse]) -> "asyncio.Task[AwsResponse | TransportError]":
        task = self._group.create_task(outcome(call))
        self._tasks.append(task)
        return task

    async def answered(self, task: "asyncio.Task[Any]", seconds: float) -> bool:
        """Wait for an answer as long as one usually takes; say whether it came."""
        loop = asyncio.get_running_loop()
        while not task.done():
            due = loop.time() + seconds
            await asyncio.wait([task], timeout=seconds)
            if loop.time() - due < LATE_S:
                break
        return task.done()

    async def first_good(self, *tasks: "asyncio.Task[AwsResponse | TransportError]") -> "AwsResponse | TransportError":
        """Return the first answer that is none of failure; where there is none, the last one."""
        for task in asyncio.as_completed(tasks):
            answer = await task
            if not is_failed(answer):
                break
        return answer

    def end(self) -> None:
        for task in self._tasks:
            if task is not self.spared:
                task.cancel()


async def outcome(call: Awaitable[AwsResponse]) -> "AwsResponse | TransportError":
    """Return the answer of `call`, or that there was none."""
    try:
        return await call
    except TransportError as error:
        return error


def is_failed(answer: AwsResponse | TransportError) -> bool:
    return isinstance(answer, TransportError) or answer.error is not None


def is_missing(answer: AwsResponse | TransportError) -> bool:
    """Say whether a stream could not be created for lack of its group."""
    return isinstance(answer, AwsResponse) and answer.error == "ResourceNotFoundException"
