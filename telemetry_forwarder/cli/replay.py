"""`telemetry-forwarder replay`: send what the extension kept in S3 or SQS when a sink was down."""

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import orjson
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from telemetry_forwarder.cli.replay_journal import Journal, JournalError, default_path, open_journal
from telemetry_forwarder.cli.replay_run import Counts, Replay, count
from telemetry_forwarder.cli.replay_source import Source, open_source
from telemetry_forwarder.clock import SystemClock
from telemetry_forwarder.errors import ConfigError, FailoverError, TransportError
from telemetry_forwarder.interfaces import Destination, HttpDelivery
from telemetry_forwarder.ledger import Statement
from telemetry_forwarder.log import Log
from telemetry_forwarder.places import Bucket, Place, Queue
from telemetry_forwarder.settings import Settings
from telemetry_forwarder.transports.stack import open_transport


class _BadUsage(click.ClickException):
    exit_code = 2


class _PlaceParameter(click.ParamType[Any]):
    name = "place"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return Place().read(value)
        except ValueError:
            raise _BadUsage(f"{value!r} is no place that can be read; allowed: {Place.allowed}.") from None


@click.command()
@click.argument("place", type=_PlaceParameter())
@click.option("--to", required=True, metavar="SINK", help="The sink that gets them: splunk, datadog, cloudwatch, ….")
@click.option("--from", "kept_for", metavar="SINK", help="The sink that they were for.  [default: the same]")
@click.option("--state", type=click.Path(path_type=Path), help="File that remembers what was sent.")
@click.option("--delete", is_flag=True, help="Delete each object when all of it is sent; messages always are.")
@click.option("--dry-run", is_flag=True, help="Count what is there and send nothing.")
@click.option(
    "--patience", type=click.FloatRange(min=0), default=60.0, show_default=True,
    help="Seconds for which the sink may take nothing before the replay ends.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of a table.")
def replay(
    place: Bucket | Queue,
    to: str,
    kept_for: str | None,
    state: Path | None,
    delete: bool,
    dry_run: bool,
    patience: float,
    as_json: bool,
) -> None:
    """Send the records that are kept in PLACE, s3://BUCKET[/PREFIX] or the URL of an SQS queue.

    The sink's settings come from the environment, as for the extension; AWS's from the SDK's own variables and
    profiles. What was sent is remembered, so a replay that ended early goes on where it was, and a second one sends
    nothing twice. Ctrl-C ends it when what is under way has been answered. The exit code is 0 if nothing is left and
    nothing was lost, 1 if something is, 2 if it could not begin.
    """
    settings = _settings(to, os.environ)
    (destination,) = settings.destinations
    target = target_of(destination)
    path = state or default_path(target, os.environ.get("XDG_STATE_HOME"))
    errors = Console(stderr=True, highlight=False)
    try:
        with open_journal(path, target) as journal:
            run = _Run(place, kept_for or to, settings, journal, errors, patience_s=patience, deletes=delete)
            report = asyncio.run(run.count() if dry_run else run.send())
    except JournalError as error:
        raise _BadUsage(str(error)) from error
    except ConfigError as error:
        raise _BadUsage(str(error)) from error
    except asyncio.CancelledError:  # a second Ctrl-C
        sys.exit(1)
    report |= {"to": to, "state": str(path)}
    if as_json:
        click.echo(orjson.dumps(report))
    else:
        _print(Console(highlight=False), report, is_dry=dry_run)
    sys.exit(0 if report["whole"] else 1)


class _Run:
    """One replay as the user asked for it."""

    def __init__(
        self,
        place: Bucket | Queue,
        kept_for: str,
        settings: Settings,
        journal: Journal,
        errors: Console,
        *,
        patience_s: float,
        deletes: bool,
    ) -> None:
        self._place = place
        self._kept_for = kept_for
        self._settings = settings
        self._journal = journal
        self._errors = errors
        self._patience_s = patience_s
        self._deletes = deletes

    async def count(self) -> dict[str, Any]:
        """Count what is there. A queue's messages cannot be read without being taken, so only their number is known."""
        async with self._source() as source:
            if isinstance(self._place, Queue):
                parcels, _ = await self._guarded(source.size(self._kept_for)) or (0, None)
                return _report(Counts(parcels=parcels), None, source, is_whole=not self._failed)
            counting = count(source, self._kept_for, self._journal, self._say)
            counts = await self._guarded(counting) or Counts(unreached=True)
            is_whole = not (counts.unreadable or counts.alien_lines or counts.unreached)
            return _report(counts, None, source, is_whole=is_whole)

    async def send(self) -> dict[str, Any]:
        """Send what is there, with a progress bar where somebody looks at it."""
        (destination,) = self._settings.destinations
        async with (
            self._source() as source,
            open_transport(destination.delivery, self._settings.network, self._say) as transport,
        ):
            total, _ = await self._guarded(source.size(self._kept_for)) or (0, None)
            with self._bar(total) as (on_parcel, on_delivered):
                replay = Replay(
                    source,
                    destination.sink,
                    transport,
                    self._journal,
                    clock=SystemClock(),
                    log=Log("warning", self._say_line),
                    say=self._say,
                    on_delivered=on_delivered,
                    patience_s=self._patience_s,
                    removes=self._deletes,
                )
                with _until_signalled(replay.stop, self._say):
                    await self._guarded(replay.run(self._kept_for, lambda waiting: on_parcel()))
            return _report(replay.counts, replay.statement, source, is_whole=replay.is_whole and not self._failed)

    _failed = False

    async def _guarded(self, work: Any) -> Any:
        """Do `work`; say so where the place cannot be read, or what was sent no longer be remembered."""
        try:
            return await work
        except JournalError as error:
            self._failed = True
            self._say(f"The replay ends: {error}")
            return None
        except (FailoverError, TransportError) as error:
            self._failed = True
            self._say(f"{self._place} cannot be read: {error}.")
            return None

    def _source(self) -> Any:
        network = self._settings.network
        return open_source(self._place, region=network.region, ca_file=network.aws_ca_file)

    def _say(self, sentence: str) -> None:
        self._errors.print(sentence, soft_wrap=True, markup=False)

    def _say_line(self, line: str) -> None:
        """Say what the pipeline says: its lines are JSON, for Lambda's log."""
        self._say(orjson.loads(line)["message"])

    @contextmanager
    def _bar(self, total: int) -> Iterator[tuple[Callable[[], None], Callable[[int], None]]]:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("parcels, {task.fields[records]} records"),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=self._errors, disable=not self._errors.is_terminal) as progress:
            task: TaskID = progress.add_task("Replay", total=total, records=0)
            delivered = 0

            def on_delivered(records: int) -> None:
                nonlocal delivered
                delivered += records
                progress.update(task, records=delivered)

            yield lambda: progress.advance(task), on_delivered


@contextmanager
def _until_signalled(stop: asyncio.Event, say: Callable[[str], None]) -> Iterator[None]:
    """Let Ctrl-C and SIGTERM end the run in order; a second one ends it at once."""
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()

    def on_signal() -> None:
        if stop.is_set() and task is not None:
            task.cancel()
        else:
            say("What is under way is finished first; Ctrl-C again ends it at once.")
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, on_signal)
    try:
        yield
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


def _settings(to: str, environ: Mapping[str, str]) -> Settings:
    """Read the settings as the extension does, for the sink `to` alone."""
    settings = Settings.from_env({**environ, "TELEMETRY_FORWARDER_SINKS": to})
    if len(settings.destinations) != 1:
        reasons = " ".join(map(str, settings.problems)) or "Name one sink."
        raise _BadUsage(f"--to {to}: no such sink can be made of the environment. {reasons}")
    for problem in settings.problems:
        click.echo(str(problem), err=True)
    return settings


def target_of(destination: Destination[Any, Any]) -> str:
    """Return what tells one destination from another: the sink's name and where it leads to."""
    delivery, sink = destination.delivery, destination.sink
    where = delivery.url if isinstance(delivery, HttpDelivery) else getattr(sink, "group", "")
    return f"{sink.name} {where}".strip()


def _report(counts: Counts, statement: Statement | None, source: Source, *, is_whole: bool) -> dict[str, Any]:
    return {
        "whole": is_whole,
        "parcels": {
            "found": counts.parcels,
            "done": counts.done,
            "removed": counts.removed,
            "unreadable": counts.unreadable,
            "others": source.others,
        },
        "records": {
            "read": counts.records,
            "sent_before": counts.sent_before,
            "alien_lines": counts.alien_lines,
        },
        "ended_early": counts.unreached,
        "ledger": statement.snapshot() if statement else None,
    }


def _print(console: Console, report: dict[str, Any], *, is_dry: bool) -> None:
    """Print the ledger as a table, and in words what it does not hold."""
    ledger, parcels, records = report["ledger"], report["parcels"], report["records"]
    if ledger:
        table = Table("sink", "offered", "delivered", "dropped", "held", title="Ledger of this replay, in records")
        reasons = ", ".join(f"{count} {reason}" for reason, count in ledger["dropped"].items()) or "0"
        table.add_row(report["to"], str(ledger["offered"]), str(ledger["delivered"]), reasons, str(ledger["held"]))
        console.print(table)
    lines = [
        f"{parcels['found']} parcels found: {parcels['done']} with nothing left to send, {parcels['removed']} removed, "
        f"{parcels['unreadable']} unreadable; {parcels['others']} of other sinks or programs left alone.",
        f"{records['read']} records read, of which {records['sent_before']} were sent before; "
        f"{records['alien_lines']} lines that are no records.",
    ]
    if not is_dry:
        left = "Nothing is left." if report["whole"] else "Something is left, or was lost: see above."
        lines.append(f"{left} What was sent is remembered in {report['state']}.")
    for line in lines:
        console.print(line, soft_wrap=True, markup=False)
