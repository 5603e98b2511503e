"""`telemetry-forwarder conform`: check whether an extension does what Lambda expects."""

import asyncio
import signal
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import click
import orjson
from rich.console import Console
from rich.markup import escape

from local_lambda.cli.usage import BadUsage, pairs_of
from local_lambda.conformance import Limits, Outcome, OwnFunction, Subject, Suite, Verdict
from local_lambda.errors import EmulatorError

_STYLES = {
    Outcome.PASSED: "green",
    Outcome.FAILED: "bold red",
    Outcome.NOT_APPLICABLE: "bright_black",
    Outcome.NOT_CHECKED: "yellow",
}
_LIMITS = Limits()
_SECONDS = click.FloatRange(min=0.001, max=300)


@click.command()
@click.argument("extension", type=click.Path(path_type=Path))
@click.option("--env", "variables", multiple=True, metavar="NAME=VALUE", help="A customer variable; repeatable.")
@click.option("--function", "handler", help="A handler of yours, MODULE.FUNCTION, to be called in each invocation.")
@click.option("--code", type=click.Path(path_type=Path), default=Path(), help="Directory of its code.  [default: .]")
@click.option("--event", default="{}", show_default=True, help="The event for it, as JSON.")
@click.option(
    "--share", "shared", type=click.Path(path_type=Path), multiple=True, metavar="PATH",
    help="A path of this machine that the extension may read and write; repeatable.",
)  # fmt: skip
@click.option("--hold", type=_SECONDS, default=_LIMITS.hold_s, show_default=True, help="Most seconds to hold.")
@click.option("--freeze", type=_SECONDS, default=_LIMITS.freeze_s, show_default=True, help="Longest freeze, seconds.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of text.")
def conform(
    extension: Path,
    variables: tuple[str, ...],
    handler: str | None,
    code: Path,
    event: str,
    shared: tuple[Path, ...],
    hold: float,
    freeze: float,
    as_json: bool,
) -> None:
    """Judge EXTENSION, any executable, on a local Lambda.

    {port} in the value of a variable becomes a free port. The exit code is 0 if nothing failed, 1 if something did,
    2 if there was nothing to judge.
    """
    console = Console(highlight=False)
    try:
        own = OwnFunction(code=code, handler=handler, event=_event(event)) if handler is not None else None
        subject = Subject(extension, pairs_of("--env", variables), own, [path.absolute() for path in shared])
        suite = Suite(subject, Limits(hold_s=hold, freeze_s=freeze))
        busy = console.status("The extension runs in several environments…") if console.is_terminal else nullcontext()
        with busy if not as_json else nullcontext():
            verdicts = asyncio.run(_until_signalled(suite))
    except EmulatorError as error:
        raise BadUsage(str(error)) from error
    except asyncio.CancelledError:  # SIGTERM; click handles Ctrl-C, a KeyboardInterrupt
        sys.exit(128 + signal.SIGTERM)
    if as_json:
        click.echo(_as_json(extension, verdicts))
    else:
        _print(console, verdicts)
    sys.exit(1 if any(verdict.is_failure for verdict in verdicts) else 0)


async def _until_signalled(suite: Suite) -> list[Verdict]:
    """Run the suite; SIGTERM cancels it, so that nothing is left behind then either."""
    task = asyncio.current_task()
    if task is not None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await suite.verdicts()


def _print(console: Console, verdicts: Sequence[Verdict]) -> None:
    """Print one line for each check; below a failure, its consequence and where AWS documents the rule."""
    names = max(len(verdict.check) for verdict in verdicts)
    words = max(map(len, Outcome))
    for verdict in verdicts:
        outcome = f"[{_STYLES[verdict.outcome]}]{verdict.outcome:<{words}}[/]"
        _line(console, f"{outcome}  {verdict.check:<{names}}  {escape(verdict.seen)}")
        if verdict.is_failure:
            margin = " " * (words + names + 4)
            _line(console, f"{margin}[yellow]{escape(verdict.consequence)}[/]")
            _line(console, f"{margin}[bright_black]{escape(verdict.source)}[/]")
    counts = Counter(verdict.outcome for verdict in verdicts)
    _line(console, "\n" + ", ".join(f"{counts[outcome]} {outcome}" for outcome in Outcome if counts[outcome]) + ".")


def _line(console: Console, text: str) -> None:
    console.print(text, soft_wrap=True)  # no line breaks in a pipe


def _as_json(extension: Path, verdicts: Sequence[Verdict]) -> bytes:
    failed = any(verdict.is_failure for verdict in verdicts)
    checks = [verdict.as_dict() for verdict in verdicts]
    return orjson.dumps({"extension": str(extension), "passed": not failed, "checks": checks})


def _event(text: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise BadUsage(f"--event is not JSON: {error}.") from None
