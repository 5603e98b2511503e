"""`telemetry-forwarder local`: run a function and its extensions on a local Lambda and show what happens."""

import asyncio
import dataclasses
import shlex
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TextIO

import click
import orjson

from telemetry_forwarder.emulator import EmulatorError, Function, InitFailed, Invocation, LocalLambda, Shutdown
from telemetry_forwarder.emulator.log_lines import text_of

End = Literal["spindown", "timeout", "failure", "kill"]
_COLOURS = {"function": None, "extension": "cyan"}
_PLATFORM_COLOUR = "bright_black"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What the command was asked to do."""

    function: Function
    extensions: Sequence[Path]
    event: Any
    count: int
    gap_s: float
    end: End


class Printer:
    """Writes lines for people, or one JSON object a line."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._shown = 0

    def events(self, env: LocalLambda) -> None:
        """Show the telemetry that was produced since the last call."""
        new = env.telemetry[self._shown :]
        self._shown += len(new)
        for event in new:
            self._event(event)

    def invocation(self, result: Invocation) -> None:
        if self._as_json:
            fields = dataclasses.asdict(result) | {"payload": _payload(result.payload)}
            self._json("invocation", fields)
            return
        answer = result.payload.decode("utf-8", "replace")
        self._line(f"=> {answer}", "red" if result.function_error else "green")
        for name, held_ms in result.held_ms.items():
            held = "did not ask for the next event" if held_ms is None else f"held the invocation for {held_ms:.1f} ms"
            self._line(f"   {name} {held}", "yellow")

    def shutdown(self, result: Shutdown) -> None:
        if self._as_json:
            self._json("shutdown", dataclasses.asdict(result))
            return
        self._line(f"SHUTDOWN Reason: {result.reason}\tDuration: {result.seconds * 1000:.2f} ms", _PLATFORM_COLOUR)
        for end in result.extensions.values():
            how = "was killed at the deadline" if end.killed else f"exited with code {end.exit_code}"
            self._line(f"   {end.name} {how} after {end.seconds * 1000:.0f} ms", "yellow")
        if result.undelivered_records:
            self._line(f"   {result.undelivered_records} telemetry records were not delivered", "yellow")

    def _event(self, event: Mapping[str, Any]) -> None:
        if self._as_json:
            self._json("telemetry", event)
        elif (text := text_of(event)) is not None:
            self._line(text, _COLOURS.get(event["type"], _PLATFORM_COLOUR))

    def _line(self, text: str, colour: str | None) -> None:
        click.secho(text, fg=colour)  # in a pipe the colours are left out, and tabs stay tabs

    def _json(self, what: str, fields: Mapping[str, Any]) -> None:
        click.echo(orjson.dumps({"what": what, **fields}))


@click.command()
@click.option("--function", "handler", default="app.handler", show_default=True, help="The handler, MODULE.FUNCTION.")
@click.option("--code", type=click.Path(path_type=Path), default=Path(), help="Directory of the code.  [default: .]")
@click.option("--command", help="A runtime to run instead of the Python one: any program that speaks the Runtime API.")
@click.option(
    "--extension", "extensions", type=click.Path(path_type=Path), multiple=True, help="An executable; repeatable."
)
@click.option("--env", "variables", multiple=True, metavar="NAME=VALUE", help="A customer variable; repeatable.")
@click.option("--memory", type=int, default=512, show_default=True, help="MB.")
@click.option("--timeout", type=float, default=3.0, show_default=True, help="Seconds.")
@click.option("--event", type=click.File("r"), help="A file with the event as JSON; - for standard input.")
@click.option("--count", type=click.IntRange(min=0), default=1, show_default=True, help="How often to invoke.")
@click.option("--gap", type=click.FloatRange(min=0), default=0.0, show_default=True, help="Seconds frozen in between.")
@click.option(
    "--end", type=click.Choice(["spindown", "timeout", "failure", "kill"]), default="spindown", show_default=True
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line instead of text.")
def local(
    handler: str,
    code: Path,
    command: str | None,
    extensions: tuple[Path, ...],
    variables: tuple[str, ...],
    memory: int,
    timeout: float,
    event: TextIO | None,
    count: int,
    gap: float,
    end: End,
    as_json: bool,
) -> None:
    """Run a function with its extensions on a local Lambda."""
    try:
        function = Function(
            code=code,
            handler=handler,
            command=shlex.split(command) if command is not None else None,
            memory_mb=memory,
            timeout_s=timeout,
            environment=_variables(variables),
        )
        payload = _event(event)
        plan = Plan(function=function, extensions=extensions, event=payload, count=count, gap_s=gap, end=end)
        asyncio.run(_until_signalled(plan, Printer(as_json=as_json)))
    except EmulatorError as error:
        raise click.ClickException(str(error)) from error
    except asyncio.CancelledError:  # SIGTERM; Ctrl-C is a KeyboardInterrupt, which click knows
        sys.exit(128 + signal.SIGTERM)


async def _until_signalled(plan: Plan, printer: Printer) -> None:
    """Run the plan so that SIGTERM, too, leaves nothing behind: it ends as a cancellation."""
    task = asyncio.current_task()
    if task is not None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    await run(plan, printer)


async def run(plan: Plan, printer: Printer) -> None:
    """Bring the environment up, invoke, and end it as planned."""
    env = LocalLambda(plan.function, plan.extensions)
    try:
        async with env:
            await _invoke_and_end(env, plan, printer)
    except InitFailed:
        printer.events(env)  # the function's own words say why
        raise


async def _invoke_and_end(env: LocalLambda, plan: Plan, printer: Printer) -> None:
    printer.events(env)
    for number in range(plan.count):
        if number and plan.gap_s:
            await asyncio.sleep(plan.gap_s)
        result = await env.invoke(plan.event)
        printer.events(env)
        printer.invocation(result)
    if plan.end == "kill":
        await env.kill()
        return
    ended = await env.shutdown(plan.end)
    printer.events(env)
    printer.shutdown(ended)


def _variables(given: Sequence[str]) -> dict[str, str]:
    pairs = [text.partition("=") for text in given]
    for name, equals, _ in pairs:
        if not (name and equals):
            raise click.BadParameter(f"{name!r} is not of the form NAME=VALUE.", param_hint="--env")
    return {name: value for name, _, value in pairs}


def _event(file: TextIO | None) -> Any:
    if file is None:
        return {}
    try:
        return orjson.loads(file.read())
    except orjson.JSONDecodeError as error:
        raise click.BadParameter(f"{file.name} is not JSON: {error}.", param_hint="--event") from None


def _payload(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return body.decode("utf-8", "replace")
