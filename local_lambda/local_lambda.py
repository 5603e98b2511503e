"""The local Lambda: one execution environment as an async context manager."""

import asyncio
import dataclasses
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp
import orjson
from aiohttp import web

from local_lambda.apis.extensions_api import ExtensionsApi
from local_lambda.apis.runtime_api import RuntimeApi
from local_lambda.apis.server import recording, serve
from local_lambda.apis.telemetry_api import TelemetryApi
from local_lambda.errors import EmulatorError, EnvironmentClosed, InitFailed, InvalidSetting, WaitedTooLong
from local_lambda.machine.file_system import FileSystem
from local_lambda.machine.layers import Opt, disables_extensions, executables
from local_lambda.machine.limits import Limits
from local_lambda.machine.rooms import Room
from local_lambda.phases import init, invocation, managed, shutdown
from local_lambda.response_stream import ResponseStream
from local_lambda.results import Enforced, Invocation, Shutdown
from local_lambda.rules.runtime import Request
from local_lambda.rules.subscriptions import Subscription
from local_lambda.runtimes import Runtime, choose
from local_lambda.sandbox import Sandbox
from local_lambda.settings import Function, Platform
from local_lambda.telemetry.telemetry import Telemetry
from local_lambda.transcript import Transcript
from local_lambda.watch import Watch

TelemetryDict = dict[str, Any]


class LocalLambda:
    """One environment of a function with its extensions.

        async with LocalLambda(Function(code=Path("src")), extensions=[Path("extensions/mine")]) as env:
            result = await env.invoke({"order": 8841})
            assert result.json() == "ok"
            await env.shutdown()

    Entering runs the init and then freezes the environment. Leaving shuts it down (spindown), or kills everything at
    once if an exception passes through. Either way no process, stopped or not, and no port is left behind.

    `extensions` are executables. `opt` is a directory that stands for /opt: every regular file in its `extensions` is
    started too. `layers` are directories or ZIP files, lowest first; they are unpacked over `opt` in a private
    directory, which is removed with the environment. Where the system allows it the environment has a file system of
    its own (`Platform.file_system`), in which all this lies at /opt; elsewhere an extension must look for its other
    files next to its executable.

    The constructor raises ExtensionNotFound, TooManyExtensions, InvalidLayer, FunctionNotFound, InvalidSetting or
    LimitsUnavailable. Entering raises AddressInUse, LimitsUnavailable or InitFailed; not InitFailed if the platform is
    set to retry as Lambda does.
    """

    def __init__(
        self,
        function: Function,
        extensions: Sequence[Path] = (),
        *,
        platform: Platform | None = None,
        opt: Path | None = None,
        layers: Sequence[Path] = (),
    ) -> None:
        self.function = function
        self.platform = platform or Platform()
        self.transcript = Transcript()
        self.init_outcome: init.Outcome | None = None
        self.shutdown_result: Shutdown | None = None
        self._opt = Opt(opt, layers)
        try:
            self._executables = executables(extensions, self._opt.path)
            self.runtime: Runtime = choose(function, self._opt.path)
            self._files = FileSystem(
                function, self.platform, self.runtime, self._opt.path, {path.name: path for path in self._executables}
            )
        except EmulatorError:
            self._opt.remove()
            raise
        self._extensions_enabled = not disables_extensions(self._opt.path)
        self._watch = Watch()
        self._turn = asyncio.Lock()  # an environment runs one invocation at a time, except on Managed Instances
        self._tasks = asyncio.TaskGroup()
        self._is_open = False
        self._sandbox: Sandbox | None = None
        self._limits: Limits | None = None
        self._room: Room | None = None
        self._session: aiohttp.ClientSession | None = None
        self._runner: web.AppRunner | None = None

    # Opening and closing

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        try:
            await self._open()
        except BaseException as error:
            await self._close(error)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None and self._is_open:
                await self.shutdown()
        except BaseException as failed:
            await self._close(failed)
            raise
        await self._close(error)

    async def _open(self) -> None:
        timeout = aiohttp.ClientTimeout(total=None)
        self._session = aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(limit=0))
        app = web.Application(middlewares=[recording(self.transcript)])
        self._limits = Limits(self.function, self.platform)
        self._room = await self._files.open()
        # The routes need the sandbox, and the sandbox needs the server's port: hence this order.
        telemetry = Telemetry(
            self.platform,
            self._tasks,
            self._session,
            self._watch,
            self.transcript,
            self.function,
            self.telemetry_host,
        )
        self._sandbox = sandbox = Sandbox(
            self.function,
            self.platform,
            self._executables if self._extensions_enabled else [],
            tasks=self._tasks,
            telemetry=telemetry,
            transcript=self.transcript,
            watch=self._watch,
            limits=self._limits,
            runtime=self.runtime,
            files=self._files,
        )
        sandbox.launcher.room = self._room
        app.add_routes(RuntimeApi(sandbox).routes())
        if self._extensions_enabled:
            app.add_routes([*ExtensionsApi(sandbox).routes(), *TelemetryApi(sandbox).routes()])
        self._runner, port = await serve(app, self.platform.api_port)
        sandbox.api = f"127.0.0.1:{port}"
        await self._init(sandbox)
        self._is_open = True
        self._watch.notify()

    async def _init(self, sandbox: Sandbox) -> None:
        outcome = await init.initialise(sandbox, "init", init.limit_s(sandbox))
        self.init_outcome = outcome
        if outcome.is_success:
            sandbox.unreported_init_ms = outcome.duration_ms
            sandbox.freeze()
            return
        await shutdown.end(sandbox, "spindown")
        if self.platform.on_init_failure == "raise":
            raise InitFailed(outcome.error_type or "Runtime.Unknown", outcome.message)

    async def _close(self, error: BaseException | None) -> None:
        """Release everything. Killing comes first: it needs no event loop and works even if the rest fails."""
        self._is_open = False
        if self._sandbox is not None:
            self._sandbox.kill()
        try:
            if self._sandbox is not None:
                await shutdown.kill(self._sandbox)
            if self._runner is not None:
                await self._runner.cleanup()
        finally:
            if self._room is not None:
                self._room.close()
            if self._limits is not None:
                self._limits.remove()
            self._opt.remove()
            if self._session is not None:
                await self._session.close()
            # A task group wraps any exception that it is given; it only needs to know of a cancellation, maybe its own.
            heard = error if isinstance(error, asyncio.CancelledError) else None
            await self._tasks.__aexit__(type(heard) if heard else None, heard, heard.__traceback__ if heard else None)

    # Invoking and ending

    async def invoke(
        self,
        payload: Any = None,
        *,
        request_id: str | None = None,
        trace: str | None = None,
        client_context: str | None = None,
        cognito_identity: str | None = None,
        tenant_id: str | None = None,
        stream: ResponseStream | None = None,
    ) -> Invocation:
        """Invoke the function; return after its answer, its report and the freeze of the environment.

        `payload` is sent as JSON, or unchanged if it is bytes. `trace` is an X-Amzn-Trace-Id; `client_context` and
        `cognito_identity` are JSON texts, passed to the runtime as they are. `stream` gets a streamed response as it
        comes. A function that fails, times out or
        crashes gives a result, not an exception. Raises EnvironmentClosed.
        """
        request = Request(
            payload=payload if isinstance(payload, bytes) else orjson.dumps(payload),
            request_id=request_id or str(uuid.uuid4()),
            trace=trace,
            client_context=client_context,
            cognito_identity=cognito_identity,
            tenant_id=tenant_id,
            stream=stream,
        )
        try:
            if self.function.is_managed:
                return await managed.invoke(self._open_sandbox(), request)
            async with self._turn:
                return await invocation.invoke(self._open_sandbox(), request)
        finally:
            if stream is not None:
                stream.end()

    async def shutdown(self, reason: shutdown.Reason = "spindown") -> Shutdown:
        """End the environment as Lambda does; return how each extension ended. Raises EnvironmentClosed."""
        async with self._turn:
            sandbox = self._open_sandbox()
            self._is_open = False
            self.shutdown_result = await shutdown.end(sandbox, reason)
            return self.shutdown_result

    async def kill(self) -> None:
        """End the environment without notice, as the loss of a host would. Raises EnvironmentClosed."""
        sandbox = self._open_sandbox()
        self._is_open = False
        sandbox.break_("Sandbox.Failure", "The environment was killed.", "platform")  # ends a running invocation
        await shutdown.kill(sandbox)

    def freeze(self) -> None:
        """Stop all processes now, as Lambda does after an invocation. One that is under way stands still meanwhile.

        Its time goes on. Raises EnvironmentClosed, or InvalidSetting if this environment is never frozen or was reset.
        """
        sandbox = self._open_sandbox()
        if not sandbox.freezes:
            raise InvalidSetting("This environment is never frozen: it is one of Managed Instances, or freeze is off.")
        if not sandbox.any_running():
            raise InvalidSetting("There is nothing to freeze: after a reset the next invocation starts all processes.")
        sandbox.freeze()

    def thaw(self) -> None:
        """Let the processes run, until the next freeze. Raises EnvironmentClosed."""
        sandbox = self._open_sandbox()
        if sandbox.is_frozen:
            sandbox.thaw()

    # Observing

    @property
    def is_open(self) -> bool:
        """Whether it can be invoked: it was entered, and was neither shut down nor killed."""
        return self._is_open

    @property
    def is_frozen(self) -> bool:
        """Whether the processes are stopped now."""
        return self._sandbox is not None and self._sandbox.is_frozen

    @property
    def api(self) -> str:
        """The value of AWS_LAMBDA_RUNTIME_API, host:port."""
        return self._sandbox.api if self._sandbox is not None else ""

    @property
    def instance_id(self) -> str:
        """The environment's id, which is also the name of its log stream."""
        return self._sandbox.instance_id if self._sandbox is not None else ""

    @property
    def telemetry(self) -> list[TelemetryDict]:
        """All telemetry events so far, oldest first, in the newest schema."""
        return self.telemetry_since(0)

    def telemetry_since(self, number: int) -> list[TelemetryDict]:
        """Return the events produced after the first `number` events."""
        produced = self._sandbox.telemetry.events if self._sandbox is not None else []
        return [event.as_dict() for event in produced[number:]]

    @property
    def telemetry_count(self) -> int:
        """The number of events produced so far."""
        return len(self._sandbox.telemetry.events) if self._sandbox is not None else 0

    def observe(self, observer: Callable[[], None]) -> None:
        """Call `observer` after every change in the environment. It must be quick and must not raise."""
        self._watch.observe(observer)

    @property
    def pids(self) -> dict[str, int]:
        """The ids of the running processes of this generation, by extension name or "runtime"."""
        processes = self._sandbox.all_processes() if self._sandbox is not None else []
        return {process.name: process.pid for process in processes if process.is_running}

    @property
    def subscriptions(self) -> list[Subscription]:
        """The current telemetry subscriptions, oldest first."""
        return self._sandbox.telemetry.subscriptions if self._sandbox is not None else []

    @property
    def held_telemetry(self) -> list[bytes]:
        """The records that no subscriber has acknowledged yet, encoded as they would be sent."""
        return self._sandbox.telemetry.held if self._sandbox is not None else []

    @property
    def resets(self) -> list[Shutdown]:
        """The shutdowns of the generations that a timeout or a crash ended during an invocation."""
        return list(self._sandbox.resets) if self._sandbox is not None else []

    @property
    def limits(self) -> Enforced | None:
        """The limits that the system enforces on this environment; None before it is entered."""
        if self._limits is None:
            return None
        return dataclasses.replace(self._limits.enforced, file_system=self._files.enforced)

    @property
    def remarks(self) -> list[str]:
        """Sentences about what is not as it was asked for, or as it is on Lambda."""
        return [text for text in (self.runtime.note, self._files.remark) if text]

    @property
    def why_shared(self) -> str:
        """Why the environment has no file system of its own, without a full stop; "" if it has one."""
        return self._files.why_shared

    @property
    def telemetry_host(self) -> str:
        """The address of sandbox.localdomain."""
        return self._files.places.address

    def extension_output(self, name: str) -> list[str]:
        """Return the lines that an extension wrote to stdout and stderr, over all its generations."""
        return list(self._sandbox.output[name]) if self._sandbox is not None else []

    async def report(self, request_id: str, *, timeout_s: float = 5.0) -> TelemetryDict:
        """Wait for the `platform.report` event of an invocation and return it. Raises WaitedTooLong."""

        def is_it(event: TelemetryDict) -> bool:
            return bool(event["type"] == "platform.report" and event["record"]["requestId"] == request_id)

        return await self.event(is_it, timeout_s=timeout_s)

    async def event(self, wanted: Callable[[TelemetryDict], bool], *, timeout_s: float = 5.0) -> TelemetryDict:
        """Wait for the first event for which `wanted` returns true, and return it. Raises WaitedTooLong."""
        found: list[TelemetryDict] = []
        looked_at = 0

        def is_there() -> bool:  # called often, so it checks each event only once
            nonlocal looked_at
            events = self._sandbox.telemetry.events if self._sandbox is not None else []
            while looked_at < len(events) and not found:
                event = events[looked_at].as_dict()
                looked_at += 1
                if wanted(event):
                    found.append(event)
            return bool(found)

        await self.until(is_there, timeout_s=timeout_s)
        return found[0]

    async def until(self, condition: Callable[[], bool], *, timeout_s: float = 5.0) -> None:
        """Wait until `condition` holds; it is evaluated after every change here. Raises WaitedTooLong."""
        began = time.monotonic()
        try:
            async with asyncio.timeout(timeout_s):
                await self._watch.until(condition)
        except TimeoutError:
            waited = time.monotonic() - began
            raise WaitedTooLong(f"What was waited for did not happen within {waited:.1f} s.") from None

    def _open_sandbox(self) -> Sandbox:
        if not self._is_open or self._sandbox is None:
            raise EnvironmentClosed("The environment is not open: it was not entered, or it was shut down or killed.")
        return self._sandbox
