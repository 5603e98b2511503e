"""`telemetry-forwarder replay`: send the records that the extension stored in S3 or SQS when a sink was down."""

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import orjson
from msgspec.structs import replace

from telemetry_forwarder.clock import SystemClock
from telemetry_forwarder.errors import ConfigError, FailoverError, TransportError
from telemetry_forwarder.ledger import Statement
from telemetry_forwarder.log import Log
from telemetry_forwarder.replay.destinations import settings_for_all, target_of
from telemetry_forwarder.replay.engine import Counts, Replay, count
from telemetry_forwarder.replay.file_journal import default_path, open_journal
from telemetry_forwarder.replay.journal import Journal, JournalError
from telemetry_forwarder.replay.sources import Source, open_source
from telemetry_forwarder.settings import Settings
from telemetry_forwarder.transports.stack import open_transport
from telemetry_forwarder.variables.failover_target import FailoverTarget, S3Prefix, SqsQueue
from telemetry_forwarder.wiring import Opened, open_secrets

_ABOUT = """\
Send the records that are kept in PLACE, s3://BUCKET[/PREFIX] or the URL of an SQS queue.

The sink's settings come from the environment, as for the extension; AWS's from the SDK's own variables and profiles.
What was sent is remembered, so a replay that ended early goes on where it was, and a second one sends nothing twice.
Ctrl-C ends it when what is under way has been answered. The exit code is 0 if nothing is left and nothing was lost, 1
if something is, 2 if it could not begin.
"""


def replay(arguments: Sequence[str]) -> None:
    """Run the command with the `arguments` after its name. Raises SystemExit with the exit code."""
    options = _parser().parse_args(arguments)
    try:
        place: S3Prefix | SqsQueue = FailoverTarget().read(options.place)
    except ValueError:
        _refuse(f"{options.place!r} is no place that can be read; allowed: {FailoverTarget.allowed}.")
    settings = _settings(options.to, os.environ)
    (destination,) = settings.destinations
    target = target_of(destination)
    path = options.state or default_path(target, os.environ.get("XDG_STATE_HOME"))
    try:
        with open_journal(path, target) as journal:
            kept_for = options.kept_for or options.to
            run = _Run(place, kept_for, settings, journal, patience_s=options.patience, deletes=options.delete)
            report = asyncio.run(run.count() if options.dry_run else run.send())
    except (JournalError, ConfigError) as error:
        _refuse(str(error))
    except asyncio.CancelledError:  # a second Ctrl-C
        sys.exit(1)
    report |= {"to": options.to, "state": str(path)}
    print(orjson.dumps(report).decode() if options.json else _text(report, is_dry=options.dry_run))
    sys.exit(0 if report["whole"] else 1)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="telemetry-forwarder replay",
        description=_ABOUT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("place", metavar="PLACE")
    parser.add_argument(
        "--to", required=True, metavar="SINK", help="the sink that gets them: splunk, datadog, splunk-metrics, …"
    )
    parser.add_argument(
        "--from", dest="kept_for", metavar="SINK", help="the sink that they were for (default: the same)"
    )
    parser.add_argument("--state", type=Path, metavar="FILE", help="file that remembers what was sent")
    parser.add_argument(
        "--delete", action="store_true", help="delete each object when all of it is sent; messages always"
    )
    parser.add_argument("--dry-run", action="store_true", help="count what is there and send nothing")
    parser.add_argument(
        "--patience",
        type=_seconds,
        default=60.0,
        metavar="SECONDS",
        help="for how long the sink may take nothing before the replay ends (default: 60)",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    return parser


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not seconds >= 0:  # refuses NaN, too
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds from 0")
    return seconds


def _refuse(sentence: str) -> NoReturn:
    _say(f"Error: {sentence}")
    sys.exit(2)


def _say(sentence: str) -> None:
    sys.stderr.write(f"{sentence}\n")


class _Bar:
    """A progress bar: one line on standard error, rewritten at each step; nothing if standard error is no terminal."""

    def __init__(self) -> None:
        self._is_shown = sys.stderr.isatty()
        self._total = self._parcels = self._records = 0

    def begin(self, total: int) -> None:
        self._total = total
        self._draw()

    def parcel(self, _: object) -> None:
        self._parcels += 1
        self._draw()

    def delivered(self, records: int) -> None:
        self._records += records
        self._draw()

    def say(self, sentence: str) -> None:
        self.end()
        _say(sentence)

    def end(self) -> None:
        """Clear the line."""
        if self._is_shown:
            sys.stderr.write("\r\x1b[K")

    def _draw(self) -> None:
        if self._is_shown:
            sys.stderr.write(f"\r\x1b[KReplay: {self._parcels} of {self._total} parcels, {self._records} records")
            sys.stderr.flush()


class _Run:
    """One replay with the user's options: `count` for a dry run, `send` for a real one. Both return the report."""

    def __init__(
        self,
        place: S3Prefix | SqsQueue,
        kept_for: str,
        settings: Settings,
        journal: Journal,
        *,
        patience_s: float,
        deletes: bool,
    ) -> None:
        self._place = place
        self._kept_for = kept_for
        self._settings = settings
        self._journal = journal
        self._bar = _Bar()
        self._patience_s = patience_s
        self._deletes = deletes

    async def count(self) -> dict[str, Any]:
        """Count the parcels and records. For a queue count only messages: reading would take them from the queue."""
        async with self._source() as source:
            if isinstance(self._place, SqsQueue):
                parcels, _ = await self._guarded(source.size(self._kept_for)) or (0, None)
                return _report(Counts(parcels=parcels), None, source, is_whole=not self._failed)
            counting = count(source, self._kept_for, self._journal, self._bar.say)
            counts = await self._guarded(counting) or Counts(unreached=True)
            is_whole = not (counts.unreadable or counts.alien_lines or counts.unreached)
            return _report(counts, None, source, is_whole=is_whole)

    async def send(self) -> dict[str, Any]:
        """Send all stored records that were not sent before."""
        (destination,) = self._settings.destinations
        async with Opened() as opened:
            source = await opened.enter(self._source())
            log = Log("warning", self._say_line)
            secrets = await open_secrets(self._settings, (), opened, SystemClock(), log)
            opening = open_transport(destination.delivery, self._settings.network, self._bar.say, secrets)
            transport = await opened.enter(opening)
            total, _ = await self._guarded(source.size(self._kept_for)) or (0, None)
            replay = Replay(
                source,
                destination.sink,
                transport,
                self._journal,
                clock=SystemClock(),
                log=log,
                say=self._bar.say,
                on_delivered=self._bar.delivered,
                patience_s=self._patience_s,
                removes=self._deletes,
            )
            self._bar.begin(total)
            try:
                with _until_signalled(replay.stop, self._bar.say):
                    await self._guarded(replay.run(self._kept_for, self._bar.parcel))
            finally:
                self._bar.end()
            return _report(replay.counts, replay.statement, source, is_whole=replay.is_whole and not self._failed)

    _failed = False

    async def _guarded(self, work: Any) -> Any:
        """Return the result of `work`; print an error and return None if the place or the journal fails."""
        try:
            return await work
        except JournalError as error:
            self._failed = True
            self._bar.say(f"The replay ends: {error}")
            return None
        except (FailoverError, TransportError) as error:
            self._failed = True
            self._bar.say(f"{self._place} cannot be read: {error}.")
            return None

    def _source(self) -> Any:
        return open_source(self._place, self._settings.network)

    def _say_line(self, line: str) -> None:
        """Print the message of a log line. The pipeline writes them as JSON, for Lambda's log."""
        self._bar.say(orjson.loads(line)["message"])


@contextmanager
def _until_signalled(stop: asyncio.Event, say: Callable[[str], None]) -> Iterator[None]:
    """In this context, Ctrl-C or SIGTERM sets `stop` to end the run in order; a second one cancels it at once."""
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


_ENDINGS = ("-metrics", "-traces")


def _settings(to: str, environ: Mapping[str, str]) -> Settings:
    """Return the settings from the environment, as the extension reads them, with `to` as the only destination.

    What a sink sends elsewhere, as its metrics, is kept under a name of its own: the sink's name and an ending.
    """
    sink = next((to.removesuffix(ending) for ending in _ENDINGS if to.endswith(ending)), to)
    settings = settings_for_all({**environ, "TELEMETRY_FORWARDER_SINKS": sink})
    found = tuple(destination for destination in settings.destinations if destination.sink.name == to)
    settings = replace(settings, destinations=found)
    if len(found) != 1:
        reasons = " ".join(map(str, settings.problems)) or "Name one sink."
        _refuse(f"--to {to}: no such sink can be made of the environment. {reasons}")
    for problem in settings.problems:
        _say(str(problem))
    return settings


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


def _text(report: dict[str, Any], *, is_dry: bool) -> str:
    """Return the report for people: the ledger as a table, then sentences about parcels and lines."""
    ledger, parcels, records = report["ledger"], report["parcels"], report["records"]
    lines = []
    if ledger:
        reasons = ", ".join(f"{count} {reason}" for reason, count in ledger["dropped"].items()) or "0"
        row = (report["to"], str(ledger["offered"]), str(ledger["delivered"]), reasons, str(ledger["held"]))
        head = ("sink", "offered", "delivered", "dropped", "held")
        widths = [max(map(len, pair)) for pair in zip(head, row, strict=True)]
        lines += ["Ledger of this replay, in records:", ""]
        lines += ["  ".join(map(str.ljust, cells, widths)).rstrip() for cells in (head, row)] + [""]
    lines += [
        f"{parcels['found']} parcels found: {parcels['done']} with nothing left to send, {parcels['removed']} removed, "
        f"{parcels['unreadable']} unreadable; {parcels['others']} of other sinks or programs left alone.",
        f"{records['read']} records read, of which {records['sent_before']} were sent before; "
        f"{records['alien_lines']} lines that are no records.",
    ]
    if not is_dry:
        left = "Nothing is left." if report["whole"] else "Something is left, or was lost: see above."
        lines.append(f"{left} What was sent is remembered in {report['state']}.")
    return "\n".join(lines)
