"""The work of `telemetry-forwarder local`: start environments, invoke or serve, end them; with --watch, repeat."""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from local_lambda import EmulatorError, Fleet, Function, LocalLambda, Platform
from local_lambda.cli.local_output import Output
from local_lambda.cli.package import Package
from local_lambda.cli.serving import ServingOptions
from local_lambda.cli.watching import changes, forget_bytecode
from local_lambda.errors import EnvironmentClosed
from local_lambda.fleet import End
from local_lambda.serving.deployment import Deployment

if TYPE_CHECKING:
    from local_lambda.page import Show

_LONGEST_WITHDRAWAL_S = 10.0  # how long a change waits for invocations in progress, if their timeout is longer


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to do. `package` reads anew what to run; `name` is the function's at the start.

    `show` is what --page and --report ask for; it is loaded only for them.
    """

    package: Callable[[], Package]
    name: str
    platform: Platform
    extensions: Sequence[Path]
    template: Path | None = None
    port_variables: Sequence[str] = ()
    event: Any
    count: int = 1
    gap_s: float = 0.0
    concurrency: int = 1
    takes_turns: bool = True  # requests from outside that find all environments busy wait; else they are throttled
    end: End = "spindown"
    serving: ServingOptions = field(default_factory=ServingOptions)
    watch: bool = False
    show: "Show | None" = None

    @property
    def has_page(self) -> bool:
        return self.show is not None and self.show.has_page

    @property
    def stays(self) -> bool:
        """Whether the command goes on until Ctrl-C, which then is the normal end."""
        return self.watch or self.serving.serves or self.has_page


class _Interruptions:
    """The reasons to end early: a signal, or a changed file. A second signal ends everything at once."""

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self._changed: set[str] = set()
        self._happened = asyncio.Event()
        self._scope: asyncio.Timeout | None = None
        self._main = asyncio.current_task()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, self.stop, number)

    def stop(self, number: signal.Signals) -> None:
        """End the work in good order; the second call ends it at once."""
        if self.signal is None:
            self.signal = number
            self._interrupt()
        elif self._main is not None:
            self._main.cancel()

    async def listen(self, changes: AsyncIterator[list[str]]) -> None:
        """Take each change for an interruption."""
        async for paths in changes:
            self._changed.update(paths)
            self._interrupt()

    def take_changes(self) -> list[str]:
        """Return which paths changed since the last call; from now on `wait` waits for the next change."""
        paths, self._changed = sorted(self._changed), set()
        if self.signal is None:
            self._happened.clear()
        return paths

    def _interrupt(self) -> None:
        if not self._happened.is_set() and self._scope is not None:
            self._scope.reschedule(asyncio.get_running_loop().time())
        self._happened.set()

    @contextlib.asynccontextmanager
    async def ending(self) -> AsyncIterator[None]:
        """Leave the body as soon as there is an interruption; `wait` must not be called in it."""
        scope = asyncio.timeout(0 if self._happened.is_set() else None)
        try:
            async with scope:
                self._scope = scope
                yield
        except TimeoutError:
            if not scope.expired():
                raise
        finally:
            self._scope = None

    async def wait(self) -> None:
        await self._happened.wait()


async def session(plan: Plan, *, as_json: bool) -> int:
    """Carry out the plan; return the exit code. Raises EmulatorError if that is not possible."""
    interruptions = _Interruptions()
    output = Output(as_json=as_json, numbered=plan.concurrency > 1, on_broken=interruptions.stop)
    run = _Run(plan, output, interruptions)
    async with run.endpoints():
        await (run.again_and_again() if plan.watch else run.once())
    for problem in output.problems:
        output.error(problem)
    if interruptions.signal is not None and not plan.stays:
        return 128 + interruptions.signal
    return 1 if output.problems else 0


class _Run:
    """One run of the command. Its endpoints stay open while environments of changed code replace the earlier ones."""

    def __init__(self, plan: Plan, output: Output, interruptions: _Interruptions) -> None:
        self._plan = plan
        self._output = output
        self._interruptions = interruptions
        self._remarked: set[str] = set()
        self._deployment = Deployment(takes_turns=plan.takes_turns)

    @contextlib.asynccontextmanager
    async def endpoints(self) -> AsyncIterator[None]:
        """Listen wherever the plan says."""
        async with contextlib.AsyncExitStack() as stack:
            await stack.enter_async_context(self._plan.serving.open(self._deployment, self._plan.name, self._output))
            if self._plan.show is not None:
                show = await stack.enter_async_context(self._plan.show)
                if show.has_page:
                    self._output.page(show.url)
            yield

    async def once(self) -> None:
        """Start environments, invoke or serve, and end them."""
        package = self._plan.package()
        self._remark(package.remarks)
        with package.function() as function:
            await self._once_with(function, package.layers)

    async def _once_with(self, function: Function, layers: Sequence[Path]) -> None:
        plan, interruptions = self._plan, self._interruptions
        fleet = Fleet(
            function,
            plan.extensions,
            concurrency=plan.concurrency,
            platform=plan.platform,
            layers=layers,
            port_variables=plan.port_variables,
            on_start=self._follow,
        )
        if plan.show is not None:
            plan.show.act_on(fleet)
        async with fleet:
            if plan.serving.serves:
                await self._serve(fleet)
            else:
                async with interruptions.ending():
                    await self._invoke(fleet)
                if plan.watch or plan.has_page:
                    await interruptions.wait()
            self._output.kills_on_purpose = plan.end == "kill"
            ends = await fleet.shutdown(plan.end if interruptions.signal is None else "spindown")
            for number, end in sorted(ends.items()):
                self._output.shutdown(number, end)

    def _follow(self, number: int, env: LocalLambda) -> None:
        self._output.follow(number, env)
        self._remark(env.remarks)
        if self._plan.show is not None:
            self._plan.show.follow(number, env)

    def _remark(self, sentences: Iterable[str]) -> None:
        """Print what was not printed before: it stays true for each environment, and after each change."""
        for sentence in sentences:
            if sentence not in self._remarked:
                self._remarked.add(sentence)
                self._output.remark(sentence)

    async def again_and_again(self) -> None:
        """Do it again after each change. After an error, print it and wait for the next change."""
        plan, interruptions = self._plan, self._interruptions
        package = plan.package()
        watched = [package.code, *package.layers, *plan.extensions, *([plan.template] if plan.template else [])]
        folders = [path for path in watched if path.is_dir()]
        files = [path for path in watched if path.is_file()]
        written = [plan.serving.on_failure] if plan.serving.on_failure else []
        async with asyncio.TaskGroup() as tasks:
            watchers = [tasks.create_task(interruptions.listen(news)) for news in changes(folders, files, written)]
            while interruptions.signal is None:
                try:
                    await self.once()
                except EmulatorError as error:
                    self._output.error(str(error))
                    if plan.show is not None:
                        plan.show.problem(error)
                    self._deployment.fail(error)
                    await interruptions.wait()
                if interruptions.signal is None:
                    paths = interruptions.take_changes()
                    forget_bytecode(paths)  # now: nothing runs that could write it again
                    self._output.restarting(paths)
            for watcher in watchers:
                watcher.cancel()

    async def _invoke(self, fleet: Fleet) -> None:
        """Start all environments at once, then invoke each of them `count` times, in parallel."""
        plan = self._plan
        await fleet.provision(plan.concurrency)
        for number in range(plan.count):
            if number and plan.gap_s:
                await asyncio.sleep(plan.gap_s)
            for served in await asyncio.gather(*(fleet.serve(plan.event) for _ in range(plan.concurrency))):
                self._output.invocation(served.environment, served.invocation)
                if plan.show is not None:
                    plan.show.invocation(served.invocation)

    async def _serve(self, fleet: Fleet) -> None:
        """Answer requests until there is an interruption. At a change those in progress are answered first."""
        self._deployment.put(fleet)
        await self._interruptions.wait()
        if self._interruptions.signal is None:
            await self._deployment.withdraw(min(_LONGEST_WITHDRAWAL_S, fleet.function.timeout_s))
        else:
            self._deployment.fail(EnvironmentClosed("The endpoint is closing."))
