"""`telemetry-forwarder conform`: check whether extensions do what Lambda expects."""

import asyncio
import signal
import sys
from collections.abc import Generator, Sequence
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any

import click
import orjson
from rich.console import Console

from local_lambda.cli import conform_output as output
from local_lambda.cli.usage import BadUsage, pairs_of
from local_lambda.conformance import Limits, OwnFunction, Subject, Suite, Verdict
from local_lambda.conformance.layers import Layers
from local_lambda.errors import EmulatorError, ExtensionNotFound

_LIMITS = Limits()
_SECONDS = click.FloatRange(min=0.001, max=300)
_FORMATS = ("text", "json", "junit")
_PATH = click.Path(path_type=Path)


@click.command()
@click.argument("extension", type=_PATH, required=False)
@click.option(
    "--layer", "layers", type=_PATH, multiple=True, help="A layer, ZIP or directory; repeatable, lowest first."
)
@click.option("--env", "variables", multiple=True, metavar="NAME=VALUE", help="A customer variable; repeatable.")
@click.option("--function", "handler", help="A handler of yours, MODULE.FUNCTION, to be called in each invocation.")
@click.option("--code", type=_PATH, default=Path(), help="Directory of its code.  [default: .]")
@click.option("--event", default="{}", show_default=True, help="The event for it, as JSON.")
@click.option(
    "--share", "shared", type=click.Path(path_type=Path), multiple=True, metavar="PATH",
    help="A path of this machine that the extension may read and write; repeatable.",
)  # fmt: skip
@click.option("--only", multiple=True, metavar="CHECKS", help="These checks alone, with commas between; repeatable.")
@click.option("--skip", multiple=True, metavar="CHECKS", help="All but these checks; repeatable.")
@click.option("--hold", type=_SECONDS, default=_LIMITS.hold_s, show_default=True, help="Most seconds to hold.")
@click.option("--freeze", type=_SECONDS, default=_LIMITS.freeze_s, show_default=True, help="Longest freeze, seconds.")
@click.option("--format", "form", type=click.Choice(_FORMATS), default="text", show_default=True, help="What to print.")
@click.option("--json", "form", flag_value="json", help="The same as --format json.")
def conform(
    extension: Path | None,
    layers: tuple[Path, ...],
    variables: tuple[str, ...],
    handler: str | None,
    code: Path,
    event: str,
    shared: tuple[Path, ...],
    only: tuple[str, ...],
    skip: tuple[str, ...],
    hold: float,
    freeze: float,
    form: str,
) -> None:
    """Judge EXTENSION, any executable, on a local Lambda.

    With --layer, EXTENSION is the file name of one in the layers, or a file that runs with them; without it all that
    are in the layers are judged, one after the other.

    {port} in the value of a variable becomes a free port. The exit code is 1 if a fault was found, otherwise 0; 2 if
    there was nothing to judge.
    """
    console = Console(highlight=False)
    judged: list[tuple[str, Sequence[Verdict]]] = []
    try:
        own = OwnFunction(code=code, handler=handler, event=_event(event)) if handler is not None else None
        with closing(_executables(extension, layers)) as executables:
            for executable, opt in executables:
                shares = [path.absolute() for path in shared]
                subject = Subject(executable, pairs_of("--env", variables), own, shares, opt)
                suite = Suite(subject, Limits(hold_s=hold, freeze_s=freeze), only=_names(only), skip=_names(skip))
                words = f"{executable.name} runs in several environments…"
                with console.status(words) if console.is_terminal and form == "text" else nullcontext():
                    verdicts = asyncio.run(_until_signalled(suite))
                # Of a layer the path would be that of its private copy.
                judged.append((executable.name if layers else str(executable), verdicts))
                if form == "text":
                    output.print_text(console, *judged[-1], is_one_of_several=bool(layers))
                elif form == "json":
                    click.echo(output.as_json(*judged[-1]))
    except EmulatorError as error:
        raise BadUsage(str(error)) from error
    except asyncio.CancelledError:  # SIGTERM; click handles Ctrl-C, a KeyboardInterrupt
        sys.exit(128 + signal.SIGTERM)
    if form == "junit":
        click.echo(output.as_junit(judged))
    sys.exit(1 if any(verdict.is_failure for _, verdicts in judged for verdict in verdicts) else 0)


def _executables(extension: Path | None, layers: Sequence[Path]) -> Generator[tuple[Path, Path | None]]:
    """Yield each extension to judge, and the directory that stands for /opt."""
    if not layers:
        if extension is None:
            raise BadUsage("There is nothing to judge: give an EXTENSION, or a --layer that has one.")
        yield extension, None
        return
    with Layers(layers) as given:
        names = given.names
        wanted: Sequence[str | Path] = names
        if extension is not None and str(extension) in names:
            wanted = [str(extension)]
        elif extension is not None:
            if not extension.is_file():
                listed = ", ".join(names)
                raise ExtensionNotFound(f"The layers have no extension {str(extension)!r}; they have {listed}.")
            wanted = [extension]
        for one in wanted:
            with given.alone(one) as place:
                yield place


async def _until_signalled(suite: Suite) -> list[Verdict]:
    """Run the suite; SIGTERM cancels it, so that nothing is left behind then either."""
    task = asyncio.current_task()
    if task is not None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await suite.verdicts()


def _names(given: Sequence[str]) -> list[str]:
    return [name.strip() for text in given for name in text.split(",")]


def _event(text: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise BadUsage(f"--event is not JSON: {error}.") from None
