"""The output of `telemetry-forwarder local`: lines for people, or one JSON object per line (docs/local-lambda.md)."""

import dataclasses
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import click
import orjson

from local_lambda import Invocation, LocalLambda, Shutdown
from local_lambda.rules.log_lines import text_of
from local_lambda.transcript import Entry, Exit

_COLOURS = {"function": None, "extension": "cyan"}
_PLATFORM_COLOUR = "bright_black"
_EXTENSION_COLOUR = "yellow"
_API = "/2020-01-01/extension/"


class Output:
    """Writes to standard output. `problems` are sentences about extensions that did what Lambda does not allow.

    `on_broken` is called once, when the reader of the output is gone.
    """

    def __init__(self, *, as_json: bool, numbered: bool, on_broken: Callable[[signal.Signals], None]) -> None:
        self.problems: list[str] = []
        self.kills_on_purpose = False
        self._as_json = as_json
        self._numbered = numbered
        self._on_broken = on_broken
        self._is_broken = False

    def follow(self, number: int, env: LocalLambda) -> None:
        """Print everything that happens in an environment, as it happens."""
        env.observe(_Follower(self, number, env).look)

    def telemetry(self, number: int, event: Mapping[str, Any]) -> None:
        self._print("telemetry", number, event, text_of(event), _COLOURS.get(event["type"], _PLATFORM_COLOUR))

    def extension(self, number: int, name: str, did: str, text: str, **more: Any) -> None:
        """Print one action of an extension."""
        self._print("extension", number, {"name": name, "did": did, **more}, f"   {name} {text}", _EXTENSION_COLOUR)

    def invocation(self, number: int, result: Invocation) -> None:
        fields = dataclasses.asdict(result) | {"payload": _payload(result.payload)}
        answer = result.payload.decode("utf-8", "replace")
        self._print("invocation", number, fields, f"=> {answer}", "red" if result.function_error else "green")
        for name, held_ms in result.held_ms.items() if not self._as_json else ():
            held = "did not ask for the next event" if held_ms is None else f"held the invocation for {held_ms:.1f} ms"
            self._text(number, f"   {name} {held}", _EXTENSION_COLOUR)

    def shutdown(self, number: int, result: Shutdown) -> None:
        text = f"SHUTDOWN Reason: {result.reason}\tDuration: {result.seconds * 1000:.2f} ms"
        self._print("shutdown", number, dataclasses.asdict(result), text, _PLATFORM_COLOUR)
        if result.undelivered_records and not self._as_json:
            text = f"   {result.undelivered_records} telemetry records were not delivered"
            self._text(number, text, _EXTENSION_COLOUR)

    def listening(self, url: str, name: str) -> None:
        self._print("listening", None, {"url": url, "function": name}, f"Invoke {name} at {url}", "green")

    def function_url(self, url: str, name: str, routes: Sequence[str]) -> None:
        fields = {"url": url, "function": name, "routes": list(routes)}
        of = f"with the routes {', '.join(routes)}" if routes else "as a function URL"
        self._print("function_url", None, fields, f"{name} answers at {url} {of}", "green")

    def given_up(self, record: Mapping[str, Any]) -> None:
        context = record["requestContext"]
        why, attempts = context["condition"], context["approximateInvokeCount"]
        text = f"Given up after {attempts} attempts ({why}): {context['requestId']}"
        self._print("given_up", None, {"record": record}, text, "red")

    def page(self, url: str) -> None:
        self._print("page", None, {"url": url}, f"The page: {url} (Ctrl-C ends it)", "green")

    def restarting(self, paths: list[str]) -> None:
        more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
        self._print("restart", None, {"changed": paths}, f"Restarting: {paths[0]}{more} changed", "green")

    def remark(self, sentence: str) -> None:
        click.echo(f"Note: {sentence}", err=True)

    def error(self, sentence: str) -> None:
        click.echo(f"Error: {sentence}", err=True)

    def _text(self, number: int | None, text: str, colour: str | None) -> None:
        if self._numbered and number is not None:
            text = "\n".join(f"[{number}] {line}" for line in text.split("\n"))
        self._write(lambda: click.secho(text, fg=colour))  # no colours in a pipe; tabs stay tabs

    def _print(
        self, what: str, number: int | None, fields: Mapping[str, Any], text: str | None, colour: str | None
    ) -> None:
        """Print `fields` as JSON, or `text`, if there is one, in `colour`."""
        if self._as_json:
            place = {} if number is None else {"environment": number}
            self._write(lambda: click.echo(orjson.dumps({"what": what, **place, **fields})))
        elif text is not None:
            self._text(number, text, colour)

    def _write(self, write: Callable[[], None]) -> None:
        if self._is_broken:
            return
        try:
            write()
        except BrokenPipeError:
            self._is_broken = True
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else the last flush fails too
            self._on_broken(signal.SIGPIPE)


class _Follower:
    """Reads new telemetry events and transcript entries of one environment, each once."""

    def __init__(self, output: Output, number: int, env: LocalLambda) -> None:
        self._output = output
        self._number = number
        self._env = env
        self._telemetry_seen = 0
        self._entries_seen = 0
        self._exits_seen = 0
        self._open: list[Entry] = []
        self._ready: set[tuple[str, int]] = set()
        self._events: dict[str, list[str]] = {}  # the events each extension is registered for
        self._told_at: dict[str, float] = {}  # the time when it received SHUTDOWN
        self._init_began = 0.0

    def look(self) -> None:
        self._look_at_transcript()
        if self._env.telemetry_count > self._telemetry_seen:
            new = self._env.telemetry_since(self._telemetry_seen)
            self._telemetry_seen += len(new)
            for event in new:
                self._telemetry(event)
        exits = self._env.transcript.exits
        while self._exits_seen < len(exits):
            self._exits_seen += 1
            self._exited(exits[self._exits_seen - 1])

    def _look_at_transcript(self) -> None:
        entries = self._env.transcript.entries
        if self._entries_seen < len(entries):
            self._open += [entry for entry in entries[self._entries_seen :] if f" {_API}" in entry.call]
            self._entries_seen = len(entries)
        if self._open:
            self._open = [entry for entry in self._open if not self._is_told(entry)]

    def _is_told(self, entry: Entry) -> bool:
        """Print what can be printed about a call; return whether nothing more is to come."""
        call = entry.call.partition(_API)[2]
        if call == "event/next" and entry.name != "?":
            self._asked(entry)
        if entry.ended is None:
            return False
        if entry.status is not None and entry.status >= 400:
            self._refused(entry)
        elif call == "register":
            self._registered(entry)
        elif call == "event/next" and '"eventType":"SHUTDOWN"' in entry.answer:
            self._told_at[entry.name] = entry.ended
            reason = orjson.loads(entry.answer)["shutdownReason"]
            self._tell(entry.name, "received_shutdown", f"received SHUTDOWN ({reason})", reason=reason)
        elif call in ("init/error", "exit/error"):
            self._tell(entry.name, "reported_error", f"reported an error: {call} {entry.sent}", call=call)
        return True

    def _asked(self, entry: Entry) -> None:
        first = (entry.name, entry.generation)
        if first not in self._ready:
            self._ready.add(first)
            after_ms = self._since_init(entry.began)
            self._tell(entry.name, "ready", f"was ready {after_ms:.0f} ms into the init", after_ms=after_ms)

    def _registered(self, entry: Entry) -> None:
        try:
            events = orjson.loads(entry.sent).get("events") or []
        except orjson.JSONDecodeError:  # longer than the transcript keeps, so cut off
            events = []
        self._events[entry.name] = events
        after_ms = self._since_init(entry.began)
        text = f"registered for {', '.join(events) or 'no events'} {after_ms:.0f} ms into the init"
        self._tell(entry.name, "registered", text, events=events, after_ms=after_ms)

    def _refused(self, entry: Entry) -> None:
        error_type = message = ""
        try:
            body = orjson.loads(entry.answer)
            error_type, message = body["errorType"], body["errorMessage"]
        except (orjson.JSONDecodeError, KeyError, TypeError):
            message = entry.answer
        who = f"The extension {entry.name}" if entry.name not in ("", "?") else "An extension"
        self._output.problems.append(f"{who} was refused {entry.call}: {entry.status} {error_type}: {message}.")
        details = {"call": entry.call, "status": entry.status, "error_type": error_type, "message": message}
        self._tell(entry.name, "refused", f"was refused {entry.call}: {entry.status} {error_type}", **details)

    def _telemetry(self, event: Mapping[str, Any]) -> None:
        record = event["record"]
        if event["type"] == "platform.initStart":
            self._init_began = time.time()
        self._output.telemetry(self._number, event)
        if event["type"] == "platform.telemetrySubscription":
            types = list(record["types"])
            self._tell(record["name"], "subscribed", f"subscribed to {', '.join(types)}", types=types)

    def _exited(self, end: Exit) -> None:
        told_at = self._told_at.pop(end.name, None)
        after_ms = None if told_at is None else (end.at - told_at) * 1000
        how = "was killed" if end.killed else f"exited with code {end.code}"
        text = how if after_ms is None else f"{how} {after_ms:.0f} ms after it received SHUTDOWN"
        self._tell(end.name, "exited", text, code=end.code, killed=end.killed, after_ms=after_ms)
        if (problem := self._problem(end)) is not None:
            self._output.problems.append(problem)

    def _problem(self, end: Exit) -> str | None:
        if not end.in_shutdown:
            return f"The extension {end.name} ended with code {end.code} outside of a shutdown."
        if end.killed:
            if self._output.kills_on_purpose or "SHUTDOWN" not in self._events.get(end.name, ()):
                return None  # Lambda ends it this way
            return f"The extension {end.name} had not exited at the deadline of SHUTDOWN and was killed."
        if end.code:
            return f"The extension {end.name} exited with code {end.code} at SHUTDOWN; Lambda expects 0."
        return None

    def _since_init(self, moment: float) -> float:
        return round(max(0.0, moment - self._init_began) * 1000, 3)

    def _tell(self, name: str, did: str, text: str, **more: Any) -> None:
        self._output.extension(self._number, name, did, text, **more)


def _payload(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return body.decode("utf-8", "replace")
