"""Several environments of one function, scaled as Lambda does: a request that finds none idle starts a new one.

Each environment has an owner task, which opens and ends it. Invocations are tasks of the fleet, so an invocation
continues when its caller leaves, as on Lambda. The lists of environments are changed by synchronous code only: decide
first, then await.
"""

import asyncio
import contextlib
import dataclasses
import socket
import tempfile
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypedDict, Unpack

from local_lambda.errors import EmulatorError, EnvironmentClosed, InvalidSetting, Throttled
from local_lambda.local_lambda import LocalLambda, TelemetryDict
from local_lambda.machine.code import check_size
from local_lambda.machine.file_system import has_own
from local_lambda.response_stream import ResponseStream
from local_lambda.results import Invocation, Shutdown
from local_lambda.settings import Function, Platform
from local_lambda.watch import Watch

End = Literal["spindown", "timeout", "failure", "kill"]


class Details(TypedDict, total=False):
    """The options of one invocation; see `LocalLambda.invoke`."""

    request_id: str | None
    trace: str | None
    client_context: str | None
    stream: ResponseStream | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """An invocation, the number of the environment that served it, and the telemetry it produced."""

    environment: int
    invocation: Invocation
    telemetry: list[TelemetryDict]


class _Resident:
    """One environment of the fleet and its number; numbers start at 1."""

    def __init__(self, number: int, env: LocalLambda) -> None:
        self.number = number
        self.env = env
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.leave: asyncio.Future[End] = asyncio.get_running_loop().create_future()
        self.task: asyncio.Task[None] | None = None


class Fleet:
    """Up to `concurrency` environments of a function with its extensions.

        async with Fleet(Function(code=Path("src")), [Path("extensions/mine")], concurrency=5) as fleet:
            results = await asyncio.gather(*(fleet.invoke({"n": n}) for n in range(5)))

    Environments are started on demand and reused; the one used last is taken first. Each has its own API ports. The
    emulator cannot choose the ports that an extension itself listens on, so each variable in `port_variables` is set to
    a free port, a different one in each environment. Where environments have no file system of their own and there may
    be several, TMPDIR names a private directory of each; `/tmp` itself is shared. `layers` are those of `LocalLambda`.
    `on_start` is called with the number and the object of each new environment before it is opened.

    Leaving the context ends all environments with a spin-down, or kills them if an exception passes through.
    """

    def __init__(
        self,
        function: Function,
        extensions: Sequence[Path] = (),
        *,
        concurrency: int = 1,
        platform: Platform | None = None,
        layers: Sequence[Path] = (),
        port_variables: Sequence[str] = (),
        on_start: Callable[[int, LocalLambda], None] = lambda number, env: None,
    ) -> None:
        if not 1 <= concurrency <= 1000:
            raise InvalidSetting(f"The concurrency is {concurrency}; 1 to 1000 are possible.")
        check_size(function.code, layers)
        self.function = function
        self.concurrency = concurrency
        self.shutdowns: dict[int, Shutdown] = {}
        self._extensions = extensions
        self._platform = platform if concurrency == 1 else dataclasses.replace(platform or Platform(), own_ports=True)
        self._layers = layers
        self._port_variables = port_variables
        self._on_start = on_start
        self._watch = Watch()
        self._tasks = asyncio.TaskGroup()
        self._stack = contextlib.ExitStack()
        self._residents: list[_Resident] = []
        self._idle: list[_Resident] = []
        self._calls: set[asyncio.Task[None]] = set()
        self._ports: set[int] = set()
        self._started = 0
        self._is_open = False
        self._folder = Path()

    async def __aenter__(self) -> Self:
        self._folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="local-lambda-")))
        await self._tasks.__aenter__()
        self._is_open = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                await self.shutdown()
        finally:
            self._is_open = False
            for task in [*self._calls, *(one.task for one in self._residents if one.task is not None)]:
                task.cancel()  # a resident that is cancelled kills its environment
            # A task group wraps any other exception that it is given; it only needs to know of a cancellation.
            heard = error if isinstance(error, asyncio.CancelledError) else None
            try:
                await self._tasks.__aexit__(type(heard) if heard else None, heard, trace if heard else None)
            finally:
                self._stack.close()

    # The public methods

    def check(self) -> None:
        """Raise what starting an environment raises before any of its processes runs."""
        self._environment(self._started + 1)  # what it has unpacked goes with it

    async def provision(self, count: int) -> None:
        """Start `count` more environments at once; return when all of them wait for an invocation.

        Raises Throttled if that exceeds the concurrency, and whatever starting an environment raises.
        """
        self._check_open()
        if len(self._residents) + count > self.concurrency:
            raise Throttled(f"There may be {self.concurrency} environments, and {len(self._residents)} are there.")
        residents = [self._start() for _ in range(count)]
        opening = (asyncio.shield(resident.opened) for resident in residents)
        outcomes = await asyncio.gather(*opening, return_exceptions=True)
        self._idle += [resident for resident in reversed(residents) if resident in self._residents]
        self._watch.notify()
        for outcome in outcomes:
            if outcome is not None:
                raise outcome

    async def invoke(self, payload: Any = None, *, wait: bool = False, **details: Unpack[Details]) -> Invocation:
        """Invoke the function in an idle environment, or in a new one; see `LocalLambda.invoke`.

        Raises Throttled if all are busy (with `wait` it waits for one instead), and whatever starting one raises.
        """
        return (await self.serve(payload, wait=wait, **details)).invocation

    async def serve(self, payload: Any = None, *, wait: bool = False, **details: Unpack[Details]) -> Served:
        """Invoke the function; return the result, the environment's number and the telemetry. Raises as `invoke`."""
        if wait:
            await self.until_room()
        return await asyncio.shield(self.begin(payload, **details))

    def begin(self, payload: Any = None, **details: Unpack[Details]) -> asyncio.Future[Served]:
        """Begin what `serve` waits for. The future, which must not be cancelled, has its result or its error."""
        resident = self._take()
        done: asyncio.Future[Served] = asyncio.get_running_loop().create_future()
        done.add_done_callback(lambda future: future.cancelled() or future.exception())  # its caller may be gone
        self._own(self._call(resident, done, payload, details))
        return done

    async def until_room(self) -> None:
        """Wait until `begin` would not be throttled. It may be again when the caller has waited for something else."""
        while self._is_open and not self._has_room:
            await self._watch.until(lambda: self._has_room or not self._is_open)

    async def shutdown(self, end: End = "spindown") -> dict[int, Shutdown]:
        """End all environments at once; return how each ended, by number. Running invocations are abandoned."""
        self._is_open = False
        self._watch.notify()
        calls = list(self._calls)
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        residents = list(self._residents)
        for resident in residents:
            if not resident.opened.done() and resident.task is not None:
                resident.task.cancel()
            elif not resident.leave.done():
                resident.leave.set_result(end)
        await self._watch.until(lambda: not self._residents)
        return self.shutdowns

    @property
    def is_open(self) -> bool:
        """Whether it can be invoked: it was entered and not shut down."""
        return self._is_open

    @property
    def environments(self) -> dict[int, LocalLambda]:
        """The environments that are running or starting, by number."""
        return {resident.number: resident.env for resident in self._residents}

    # Invocations

    @property
    def _has_room(self) -> bool:
        return bool(self._idle) or len(self._residents) < self.concurrency

    def _take(self) -> _Resident:
        self._check_open()
        if self._idle:
            return self._idle.pop()
        if not self._has_room:
            raise Throttled(f"All {self.concurrency} environments are busy.")
        return self._start()

    def _own(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._tasks.create_task(work)
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)

    async def _call(self, resident: _Resident, done: asyncio.Future[Served], payload: Any, details: Details) -> None:
        env = resident.env
        try:
            await resident.opened
            before = env.telemetry_count
            result = await env.invoke(payload, **details)
            done.set_result(
                Served(environment=resident.number, invocation=result, telemetry=env.telemetry_since(before))
            )
        except EmulatorError as error:
            done.set_exception(error)
        except asyncio.CancelledError:
            done.set_exception(EnvironmentClosed("The environments were shut down during the invocation."))
            raise
        finally:
            if (stream := details.get("stream")) is not None:
                stream.end()
            if resident in self._residents:
                self._idle.append(resident)
            self._watch.notify()

    def _check_open(self) -> None:
        if not self._is_open:
            raise EnvironmentClosed("The fleet is not open: it was not entered, or it was shut down.")

    # Environments

    def _start(self) -> _Resident:
        number = self._started + 1
        env = self._environment(number)
        self._started = number
        self._on_start(number, env)
        resident = _Resident(number, env)
        self._residents.append(resident)
        resident.task = self._tasks.create_task(self._reside(resident))
        return resident

    async def _reside(self, resident: _Resident) -> None:
        """Own an environment from its start to its end."""
        try:
            async with resident.env as env:
                resident.opened.set_result(None)
                end = await resident.leave
                if end == "kill":
                    await env.kill()
                else:
                    self.shutdowns[resident.number] = await env.shutdown(end)
        except EmulatorError as error:
            if resident.opened.done():
                raise
            resident.opened.set_exception(error)
        finally:
            resident.opened.cancel()  # if it has no outcome yet: otherwise its callers would wait for ever
            self._residents.remove(resident)
            if resident in self._idle:
                self._idle.remove(resident)
            self._watch.notify()

    def _environment(self, number: int) -> LocalLambda:
        return LocalLambda(self._function(number), self._extensions, platform=self._platform, layers=self._layers)

    def _function(self, number: int) -> Function:
        """Return the function with the environment variables that are specific to this environment."""
        own = {name: str(self._free_port()) for name in self._port_variables}
        if self.concurrency > 1 and not has_own(self._platform or Platform()):
            folder = self._folder / f"tmp-{number}"
            folder.mkdir(exist_ok=True)
            own["TMPDIR"] = str(folder)
        return dataclasses.replace(self.function, environment={**self.function.environment, **own})

    def _free_port(self) -> int:
        """Return a port that is free on all addresses and was not given to another environment."""
        while True:
            with socket.socket() as probe:
                probe.bind(("0.0.0.0", 0))  # noqa: S104 - as the extension will
                port: int = probe.getsockname()[1]
            if port not in self._ports:
                self._ports.add(port)
                return port
