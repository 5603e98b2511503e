"""`telemetry-forwarder demo`: run a function, the extension and three backends on one machine, and show the result."""

import asyncio
import json
import shlex
import socket
import sys
from collections.abc import Iterable, Mapping
from contextlib import AsyncExitStack, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.table import Table

from local_backends import CloudWatchLogs, Datadog, SplunkHec
from local_lambda import EmulatorError, Function, Invocation, LocalLambda, Platform

if TYPE_CHECKING:
    from local_lambda.page import Show

# A wheel has the sample function beside this module (see pyproject.toml); a checkout has it in `examples`.
_SHIPPED = Path(__file__).parent / "sample"
_SAMPLE = _SHIPPED if _SHIPPED.is_dir() else Path(__file__).parents[2] / "examples" / "python"
GROUP = "/telemetry-forwarder/demo"
# A dozen invocations, each as (title, event, pause before it in seconds). The long pause includes a freeze.
_STORY: tuple[tuple[str, dict[str, Any], float], ...] = (
    ("cold start, text lines", {"lines": 3, "json": 0}, 0.0),
    ("text lines", {"lines": 3, "json": 0}, 0.0),
    ("JSON lines", {"lines": 0, "json": 3}, 0.0),
    ("both", {"lines": 2, "json": 2}, 0.0),
    ("an exception", {"lines": 1, "json": 1, "fail": True}, 0.0),
    ("the one after it", {"lines": 1, "json": 1}, 0.0),
    ("after a second of freeze", {"lines": 2, "json": 0}, 1.0),
    ("no line at all", {"lines": 0, "json": 0}, 0.0),
    ("many lines", {"lines": 200, "json": 100}, 0.0),
    ("both", {"lines": 2, "json": 2}, 0.3),
    ("both", {"lines": 2, "json": 2}, 0.0),
    ("the last one", {"lines": 1, "json": 1}, 0.0),
)
_FIRST_EVENT = {"lines": 2, "json": 1}  # what the page invokes with, unless it is changed


@click.command()
@click.option(
    "--extension",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    show_default="this package",
    help="The executable that plays /opt/extensions/…",
)
@click.option(
    "--code",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=_SAMPLE,
    show_default="the sample function",
    help="The directory with app.py.",
)
@click.option("--function", "handler", default="app.handler", show_default=True, help="The handler, MODULE.FUNCTION.")
@click.option(
    "--page", "page_port", type=click.IntRange(0, 65535), is_flag=False, flag_value=0, metavar="[PORT]",
    help="Show it on a page instead, where you invoke the function, until Ctrl-C.",
)  # fmt: skip
@click.option("--report", type=click.Path(path_type=Path), metavar="FILE", help="Write what happened as one HTML file.")
def demo(extension: Path | None, code: Path, handler: str, page_port: int | None, report: Path | None) -> None:
    """Run a sample function on a local Lambda, with this extension and three strict local backends."""
    with TemporaryDirectory(prefix="telemetry-forwarder-demo-") as folder:
        program = extension or _executable(Path(folder))
        try:
            code_of_exit = asyncio.run(_demo(program, code, handler, page_port, report))
        except EmulatorError as error:
            raise click.ClickException(str(error)) from error
    sys.exit(code_of_exit)


def _executable(folder: Path) -> Path:
    """Write and return an executable that runs this package with the current Python."""
    path = folder / "telemetry-forwarder"
    path.write_text(f"#!/bin/sh\nexec {shlex.quote(sys.executable)} -E -P -m telemetry_forwarder {path.name}\n")
    path.chmod(0o755)
    return path


async def _demo(extension: Path, code: Path, handler: str, page_port: int | None, report: Path | None) -> int:
    """Open the backends, play the story or serve the page; return the exit code. Raises EmulatorError."""
    async with AsyncExitStack() as stack:
        splunk = await stack.enter_async_context(SplunkHec(token="demo-token"))  # noqa: S106 - of a local stand-in
        datadog = await stack.enter_async_context(Datadog(api_key="demo-key"))
        cloudwatch = await stack.enter_async_context(CloudWatchLogs())
        spool = Path(stack.enter_context(TemporaryDirectory(prefix="spool-")))
        platform = Platform(shared_paths=[spool])  # so that the page can look into it
        function = Function(
            name="sample",
            code=code,
            handler=handler,
            environment={
                "SPLUNK_HEC_URL": splunk.url,
                "SPLUNK_HEC_TOKEN": "demo-token",
                "DD_API_KEY": "demo-key",
                "DD_LOGS_CONFIG_LOGS_DD_URL": datadog.url,
                "DD_DD_URL": datadog.url,
                "CLOUDWATCH_LOG_GROUP": GROUP,
                "AWS_ENDPOINT_URL_CLOUDWATCH_LOGS": cloudwatch.url,
                "TELEMETRY_FORWARDER_PORT": str(free_port()),
                "TELEMETRY_FORWARDER_LOG_LEVEL": "info",
                "TELEMETRY_FORWARDER_SPOOL_DIR": str(spool),
                "TELEMETRY_FORWARDER_TAGS": "team:demo",
            },
        )
        show = None
        if page_port is not None or report is not None:  # else nothing of it is loaded
            from local_lambda.page import Show
            from telemetry_forwarder.cli.demo_backends import destinations_of, read_ledger

            destinations = destinations_of(function, spool, splunk, datadog, cloudwatch)
            show = Show(
                port=page_port, file=report, event=_FIRST_EVENT, destinations=destinations, read_ledger=read_ledger
            )
        if show is not None and page_port is not None:
            return await _page(function, platform, extension, show)
        async with show or nullcontext():
            return await _story(function, platform, extension, show, splunk, datadog, cloudwatch)


async def _page(function: Function, platform: Platform, extension: Path, show: "Show") -> int:
    """Serve the page until Ctrl-C, as `telemetry-forwarder local --page` does."""
    from local_lambda.cli.local_session import Plan, session
    from local_lambda.cli.package import Package

    package = Package.of(function)
    plan = Plan(
        package=lambda: package,
        name=function.name,
        platform=platform,
        extensions=[extension],
        event=_FIRST_EVENT,
        show=show,
    )
    return await session(plan, as_json=False)


async def _story(
    function: Function,
    platform: Platform,
    extension: Path,
    show: "Show | None",
    splunk: SplunkHec,
    datadog: Datadog,
    cloudwatch: CloudWatchLogs,
) -> int:
    """Play the invocations, print the books of both sides; return 1 if something is missing."""
    console = Console(highlight=False)
    console.print("A local Lambda with a sample function and this extension, and strict local")
    console.print("stand-ins for Splunk HEC, Datadog and CloudWatch Logs.\n")
    environment = LocalLambda(function, extensions=[extension], platform=platform)
    if show is not None:
        show.follow(1, environment)
    async with environment:
        init_ms = environment.init_outcome.duration_ms if environment.init_outcome else 0.0
        invocations = [await _invoke(environment, *step) for step in _STORY]
        ending = await environment.shutdown()
    if show is not None:
        for _, invocation in invocations:
            show.invocation(invocation)
    _print_invocations(console, init_ms, invocations)
    ledger = _find_ledger(environment.extension_output(extension.name))
    arrived = {
        "splunk": [event.fields["record_id"] for event in splunk.events],
        "datadog": [log.attributes["record_id"] for log in datadog.logs],
        "cloudwatch": [json.loads(event.message)["lambda"]["record_id"] for event in cloudwatch.events(GROUP)],
    }
    held = ", ".join(f"{name} left after {end.seconds * 1000:.0f} ms" for name, end in ending.extensions.items())
    console.print(f"SHUTDOWN: {held}; the limit is 2000 ms.\n")
    if ledger is None:
        console.print("[red]The extension wrote no ledger.[/red] What it said:")
        console.print("\n".join(environment.extension_output(extension.name)))
        return 1
    lost = _print_backends(console, arrived, ledger)
    _print_ways_on(console)
    return 1 if lost else 0


async def _invoke(environment: LocalLambda, what: str, event: dict[str, Any], pause: float) -> tuple[str, Invocation]:
    if pause:
        await asyncio.sleep(pause)  # the environment is frozen meanwhile, as on Lambda between two invocations
    return what, await environment.invoke(event)


def _print_invocations(console: Console, init_ms: float, invocations: Iterable[tuple[str, Invocation]]) -> None:
    console.print(f"INIT, of the runtime and the extension together: {init_ms:.0f} ms.\n")
    table = Table("invocation", "request", "outcome", "answer ms", "then held ms", title="Invocations")
    for what, one in invocations:
        outcome = "raised" if one.error_type else "ok"
        table.add_row(what, one.request_id[:8], outcome, f"{one.response_ms:.1f}", f"{one.extension_overhead_ms:.1f}")
    for column in table.columns[3:]:
        column.justify = "right"
    console.print(table)
    console.print(
        "'answer' is when the caller has it. 'then held' is what the extension adds to\n"
        "the billed time: 25 ms of Lambda's own buffering, and the sending, to all three\n"
        "backends at once; and nothing, once it knows that the function is called often\n"
        "(TELEMETRY_FORWARDER_FLUSH).\n"
    )


def _print_backends(console: Console, arrived: Mapping[str, list[str]], ledger: Mapping[str, Any]) -> int:
    """Print the extension's ledger and what arrived at each backend; return the number of missing records."""
    books = Table("sink", "offered", "delivered", "dropped", "held", "requests", title="The extension's ledger")
    found = Table("backend", "arrived", "twice", "missing", title="What the backends took")
    missing = 0
    for name, ids in arrived.items():
        book = ledger["sinks"][name]
        different = len(set(ids))
        gone = int(ledger["door"]["routed"]) - different
        missing += abs(gone)
        dropped = sum(book["dropped"].values())
        books.add_row(name, *map(str, (book["offered"], book["delivered"], dropped, book["held"], book["attempts"])))
        found.add_row(name, str(len(ids)), str(len(ids) - different), str(gone))
    for column in (*books.columns[1:], *found.columns[1:]):
        column.justify = "right"
    console.print(f"Lambda sent {ledger['door']['received']} records.\n")
    console.print(books)
    console.print("offered = delivered + dropped + held, for every sink.\n")
    console.print(found)
    console.print("Counted by record id, which is the same in every retry and in every backend.\n")
    return missing


def _print_ways_on(console: Console) -> None:
    console.print("To see it happen on a page, and to let a backend fail: `make run PAGE=1`")
    console.print("(`.venv/bin/telemetry-forwarder demo --page`).\n")
    console.print("To send to a real account, set these on your function (docs/settings.md):\n")
    console.print("  Splunk           SPLUNK_HEC_URL=https://http-inputs-….splunkcloud.com")
    console.print("                   SPLUNK_HEC_TOKEN_SECRET_ARN=arn:aws:secretsmanager:…")
    console.print("  Datadog          DD_SITE=datadoghq.eu")
    console.print("                   DD_API_KEY_SECRET_ARN=arn:aws:secretsmanager:…")
    console.print("  CloudWatch Logs  CLOUDWATCH_LOG_GROUP=/my/group\n")
    console.print("and deploy the layer with `sam build && sam deploy --guided`; template.yaml holds")
    console.print("the rights that each of them needs. To run your own function on the local Lambda:")
    console.print("`.venv/bin/telemetry-forwarder local --help`.")


def _find_ledger(lines: Iterable[str]) -> dict[str, Any] | None:
    """Return the last ledger among the lines that an extension wrote to standard output; None if there is none."""
    found = (ledger_of(line) for line in reversed(list(lines)))
    return next((ledger for ledger in found if ledger is not None), None)


def ledger_of(line: str) -> dict[str, Any] | None:
    """Return the members of the extension's line that is its ledger; None if `line` is another."""
    if not (line.startswith('{"telemetry_forwarder"') and '"door"' in line):
        return None
    found: dict[str, Any] = json.loads(line)
    return found


def free_port() -> int:
    """Return a port that is free now, so that two runs on one machine do not collide."""
    with socket.socket() as probe:
        probe.bind(("0.0.0.0", 0))  # noqa: S104 - the extension binds to the same address
        port: int = probe.getsockname()[1]
        return port
