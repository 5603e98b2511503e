"""`telemetry-forwarder local`: run a function and its extensions on a local Lambda and show what happens."""

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TextIO, get_args

import click
import orjson
from click.core import ParameterSource

from local_lambda import EmulatorError, Fleet, InitFailed, Platform
from local_lambda.cli.local_session import Plan, session
from local_lambda.cli.package import FUNCTION_OPTIONS, FunctionOptions
from local_lambda.cli.serving import SERVING_OPTIONS, ServingOptions
from local_lambda.cli.usage import BadUsage, grouped
from local_lambda.errors import AskedWrongly
from local_lambda.fleet import End

if TYPE_CHECKING:
    from local_lambda.page import Show

_PATH = click.Path(path_type=Path)


@click.command()
@grouped("asked", FunctionOptions, FUNCTION_OPTIONS)
@click.option(
    "--file-system", type=click.Choice(["auto", "own", "shared"]), default="auto", show_default=True,
    help="Lambda's file system in a namespace of the environment's own, or this machine's.",
)  # fmt: skip
@click.option(
    "--share", "shared", type=_PATH, multiple=True, metavar="PATH",
    help="A path of this machine to read and write there too; repeatable.",
)  # fmt: skip
@click.option("--event", type=click.File("r"), help="A file with the event as JSON; - for standard input.")
@click.option("--count", type=click.IntRange(min=0), default=1, show_default=True, help="How often to invoke.")
@click.option("--gap", type=click.FloatRange(min=0), default=0.0, show_default=True, help="Seconds frozen in between.")
@click.option(
    "--concurrency", type=int, metavar="N",
    help="Environments side by side, each invoked --count times.  [default: 1; requests from outside take turns]",
)  # fmt: skip
@click.option(
    "--port-variable", "port_variables", multiple=True, metavar="NAME",
    help="A variable to set to a free port, another one in each environment; repeatable.",
)  # fmt: skip
@click.option("--end", type=click.Choice(get_args(End)), default="spindown", show_default=True)
@click.option(
    "--init-limit", type=click.FloatRange(min=0, min_open=True), default=10.0, show_default=True,
    help="Seconds that an init may take.",
)  # fmt: skip
@grouped("serving", ServingOptions, SERVING_OPTIONS)
@click.option(
    "--watch", is_flag=True, help="Start again whenever the code, an extension, a layer or the template changes."
)
@click.option(
    "--page", "page_port", type=click.IntRange(0, 65535), is_flag=False, flag_value=0, metavar="[PORT]",
    help="Serve a page that shows what happens, until Ctrl-C; without PORT at any free one.",
)  # fmt: skip
@click.option("--report", type=_PATH, metavar="FILE", help="Write the same picture into one HTML file at the end.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line instead of text.")
def local(
    asked: FunctionOptions,
    file_system: Literal["auto", "own", "shared"],
    shared: tuple[Path, ...],
    event: TextIO | None,
    count: int,
    gap: float,
    concurrency: int | None,
    port_variables: tuple[str, ...],
    end: End,
    init_limit: float,
    serving: ServingOptions,
    watch: bool,
    page_port: int | None,
    report: Path | None,
    as_json: bool,
) -> None:
    """Run a function with its extensions on a local Lambda."""
    try:
        package = asked.package()
        serving = serving.over(package)
        serving.check()
        _check_used(serving)
        # With an endpoint its caller gets the failed init, as on Lambda; without one it ends the command.
        platform = Platform(
            init_limit_s=init_limit,
            on_init_failure="retry" if serving.serves else "raise",
            file_system=file_system,
            shared_paths=[path.absolute() for path in shared],
        )
        with package.function() as function:  # what is wrong with it ends the command, also with --watch
            name = function.name
            Fleet(
                function, asked.extensions, platform=platform, layers=package.layers, port_variables=port_variables
            ).check()
        payload = _event(event)
        plan = Plan(
            package=asked.package,
            name=name,
            platform=platform,
            extensions=asked.extensions,
            template=asked.template_file(),
            port_variables=port_variables,
            event=payload,
            count=count,
            gap_s=gap,
            concurrency=1 if concurrency is None else concurrency,
            takes_turns=concurrency is None,
            end=end,
            serving=serving,
            watch=watch,
            show=_show(page_port, report, payload),
        )
        code_of_exit = asyncio.run(session(plan, as_json=as_json))
    except EmulatorError as error:
        raise _failure(
            error, plural=(concurrency or 1) > 1 and not port_variables and file_system == "shared"
        ) from error
    except asyncio.CancelledError:  # a second Ctrl-C
        sys.exit(1)
    sys.exit(code_of_exit)


def _failure(error: EmulatorError, *, plural: bool) -> click.ClickException:
    """Return an error for people, in one sentence; exit code 2 for wrong usage, 1 for a failure."""
    if isinstance(error, AskedWrongly):
        return BadUsage(str(error))
    if isinstance(error, InitFailed) and error.error_type.startswith("Extension.") and plural:
        hint = "If it listens on a fixed port, name the variable that holds the port with --port-variable."
        return click.ClickException(f"{error} {hint}")
    return click.ClickException(str(error))


def _check_used(serving: ServingOptions) -> None:
    """Raise BadUsage for options that nothing would come of."""
    given = click.get_current_context().get_parameter_source
    unused = [name for name in ("event", "count", "gap") if given(name) is ParameterSource.COMMANDLINE]
    if serving.serves and unused:
        raise BadUsage(
            f"--{unused[0]} is about invocations of the command's own; with --serve or --url there are none."
        )


def _show(port: int | None, report: Path | None, event: Any) -> "Show | None":
    if port is None and report is None:
        return None
    from local_lambda.page import Show  # loaded by nobody who asks for neither

    return Show(port=port, file=report, event=event)


def _event(file: TextIO | None) -> Any:
    if file is None:
        return {}
    try:
        return orjson.loads(file.read())
    except orjson.JSONDecodeError as error:
        raise BadUsage(f"--event: {file.name} is not JSON: {error}.") from None
    except UnicodeDecodeError:
        raise BadUsage(f"--event: {file.name} is not JSON: it is not UTF-8.") from None
