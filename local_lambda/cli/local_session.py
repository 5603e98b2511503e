"""The work of `telemetry-forwarder local`: start environments, invoke or serve, end them; with --watch, repeat."""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from watchfiles import Change, DefaultFilter, awatch

from local_lambda import EmulatorError, Fleet, Function, Platform
from local_lambda.cli.local_output import Output
from local_lambda.fleet import End
from local_lambda.invoke_endpoint import InvokeEndpoint


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The options of the command."""

    function: Function
    platform: Platform
    extensions: Sequence[Path]
    layers: Sequence[Path]
    port_variables: Sequence[str]
    event: Any
    count: int
    gap_s: float
    concurrency: int
    end: End
    serve_port: int | None
    watch: bool


class _Interruptions:
    """The reasons to end early: a signal, or a changed file. A second signal ends everything at once."""

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self.changed: list[str] = []
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

    def change(self, paths: list[str]) -> None:
        self.changed = paths
        self._interrupt()

    def _interrupt(self) -> None:
        self._happened.set()
        if self._scope is not None:
            self._scope.reschedule(asyncio.get_running_loop().time())

    @contextlib.asynccontextmanager
    async def ending(self) -> AsyncIterator[None]:
        """Leave the body as soon as there is an interruption."""
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

    def again(self) -> None:
        """Forget a change and wait for the next one."""
        self.changed = []
        if self.signal is None:
            self._happened.clear()


async def session(plan: Plan, *, as_json: bool) -> int:
    """Carry out the plan; return the exit code. Raises EmulatorError if that is not possible."""
    interruptions = _Interruptions()
    output = Output(as_json=as_json, numbered=plan.concurrency > 1, on_broken=interruptions.stop)
    if plan.watch:
        await _watched(plan, output, interruptions)
    else:
        await _once(plan, output, interruptions)
    for problem in output.problems:
        output.error(problem)
    stays = plan.watch or plan.serve_port is not None  # then Ctrl-C is the normal end
    if interruptions.signal is not None and not stays:
        return 128 + interruptions.signal
    return 1 if output.problems else 0


async def _once(plan: Plan, output: Output, interruptions: _Interruptions) -> None:
    fleet = Fleet(
        plan.function,
        plan.extensions,
        concurrency=plan.concurrency,
        platform=plan.platform,
        layers=plan.layers,
        port_variables=plan.port_variables,
        on_start=output.follow,
    )
    async with fleet:
        async with interruptions.ending():
            if plan.serve_port is None:
                await _invoke(plan, fleet, output)
            else:
                await _serve(plan.serve_port, fleet, output, interruptions)
            if plan.watch:
                await interruptions.wait()
        output.kills_on_purpose = plan.end == "kill"
        ends = await fleet.shutdown(plan.end if interruptions.signal is None else "spindown")
        for number, end in sorted(ends.items()):
            output.shutdown(number, end)
    output.problems += [str(failure) for failure in fleet.failures]


async def _invoke(plan: Plan, fleet: Fleet, output: Output) -> None:
    """Start all environments at once, then invoke each of them `count` times, in parallel."""
    await fleet.provision(plan.concurrency)
    for number in range(plan.count):
        if number and plan.gap_s:
            await asyncio.sleep(plan.gap_s)
        for served in await asyncio.gather(*(fleet.serve(plan.event) for _ in range(plan.concurrency))):
            output.invocation(served.environment, served.invocation)


async def _serve(port: int, fleet: Fleet, output: Output, interruptions: _Interruptions) -> None:
    async with InvokeEndpoint(fleet, port=port) as endpoint:
        output.listening(endpoint.url, fleet.function.name)
        await interruptions.wait()


async def _watched(plan: Plan, output: Output, interruptions: _Interruptions) -> None:
    """Carry out the plan again after each change. Print an error and wait for the next change if it fails."""
    async with asyncio.TaskGroup() as tasks:
        watchers = [tasks.create_task(watcher) for watcher in _watchers(plan, interruptions)]
        while interruptions.signal is None:
            try:
                await _once(plan, output, interruptions)
            except EmulatorError as error:
                output.error(str(error))
                await interruptions.wait()
            if interruptions.signal is None:
                output.restarting(interruptions.changed)
                interruptions.again()
        for watcher in watchers:
            watcher.cancel()


def _watchers(plan: Plan, interruptions: _Interruptions) -> list[Coroutine[Any, Any, None]]:
    """Return tasks that watch the code and the layers (whole directories) and each single file (in its directory)."""
    folders = {plan.function.code, *(layer for layer in plan.layers if layer.is_dir())}
    files = {path.absolute() for path in (*plan.extensions, *plan.layers) if path.is_file()}
    watchers = [_watch(sorted(folders), DefaultFilter(), interruptions, recursive=True)]
    if files:
        # Editors replace a file by a new one of the same name, so the directory must be watched.
        parents = sorted({path.parent for path in files})
        watchers.append(_watch(parents, lambda _, path: Path(path) in files, interruptions, recursive=False))
    return watchers


async def _watch(
    folders: Sequence[Path], wanted: Callable[[Change, str], bool], interruptions: _Interruptions, *, recursive: bool
) -> None:
    changes: set[tuple[Change, str]]
    async for changes in awatch(*folders, watch_filter=wanted, recursive=recursive):
        interruptions.change(sorted(path for _, path in changes))
