"""The transcript: all API calls and telemetry deliveries of one environment, in order."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from local_lambda.rules.telemetry_events import timestamp

_SHOWN_BYTES = 200


@dataclass(slots=True, kw_only=True)
class Entry:
    """One call. `began` and `ended` are seconds since the epoch; `ended` and `status` are None while it is pending.

    `direction` is "in" for a call to the platform, "out" for a delivery by the platform. `name` is the extension or
    "runtime". `sent` and `answer` hold the first bytes of the request and of the answer.
    """

    direction: Literal["in", "out"]
    name: str
    call: str
    generation: int
    began: float = field(default_factory=time.time)
    ended: float | None = None
    status: int | None = None
    sent: str = ""
    answer: str = ""

    def close(self, status: int | None, answer: bytes = b"") -> None:
        """Record the end of the call: its status and its answer."""
        self.ended = time.time()
        self.status = status
        self.answer = summary(answer)

    def __str__(self) -> str:
        arrow = "->" if self.direction == "in" else "<-"
        status = "…" if self.ended is None else str(self.status)
        return f"{timestamp(self.began)} {self.name} {arrow} {self.call} {status} {self.sent} {self.answer}".rstrip()


@dataclass(frozen=True, slots=True, kw_only=True)
class Exit:
    """The exit of an extension's process, at `at` seconds since the epoch. A negative `code` is a signal."""

    name: str
    code: int
    at: float
    generation: int
    killed: bool  # by the platform
    in_shutdown: bool


@dataclass(slots=True, kw_only=True)
class Period:
    """A time in which the whole environment was frozen, or was being shut down; `ended` is None while it lasts."""

    kind: Literal["frozen", "shutdown"]
    reason: str = ""  # of a shutdown: spindown, timeout or failure
    began: float = field(default_factory=time.time)
    ended: float | None = None


def summary(body: bytes) -> str:
    """Return the first bytes of a body as text."""
    text = body[:_SHOWN_BYTES].decode("utf-8", "replace").rstrip("\n")
    return text if len(body) <= _SHOWN_BYTES else f"{text}… ({len(body)} bytes)"


class Transcript:
    """The entries of one environment, over all generations of its processes."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.exits: list[Exit] = []
        self.periods: list[Period] = []
        self.generation = 0  # counts inits

    def __iter__(self) -> Iterator[Entry]:
        return iter(self.entries)

    def __str__(self) -> str:
        return "\n".join(map(str, self.entries))

    def received(self, name: str, call: str) -> Entry:
        """Add and return a pending entry for a call to the platform."""
        entry = Entry(direction="in", name=name, call=call, generation=self.generation)
        self.entries.append(entry)
        return entry

    def sent(self, name: str, call: str, status: int | None, what: str) -> None:
        """Add a finished entry for a delivery."""
        entry = Entry(direction="out", name=name, call=call, generation=self.generation, sent=what)
        entry.close(status)
        self.entries.append(entry)

    def begin(self, kind: Literal["frozen", "shutdown"], reason: str = "") -> Period:
        """Add and return a period that begins now."""
        period = Period(kind=kind, reason=reason)
        self.periods.append(period)
        return period

    def calls(self, name: str, call: str) -> list[Entry]:
        """Return the calls that begin with `call`, such as "PUT " or "POST /2020-01-01/extension/register"."""
        return [entry for entry in self.entries if entry.name == name and entry.call.startswith(call)]

    def next_calls(self, name: str) -> list[Entry]:
        """Return the calls of `/event/next` by one extension."""
        return self.calls(name, "GET /2020-01-01/extension/event/next")

    def assert_next_once_per_invocation(self, name: str | None = None) -> None:
        """Raise AssertionError unless each extension called next once at init and once per INVOKE, never refused."""
        callers = {entry.name for entry in self.entries if "/extension/event/next" in entry.call}
        names = callers if name is None else {name}
        if not names:
            raise AssertionError("No extension ever asked for the next event.")
        for extension in sorted(names):
            for generation in sorted({entry.generation for entry in self.entries}):
                self._assert_one_generation(extension, generation)

    def _assert_one_generation(self, name: str, generation: int) -> None:
        calls = [entry for entry in self.next_calls(name) if entry.generation == generation]
        if refused := [entry for entry in calls if entry.status not in (None, 200)]:
            raise AssertionError(f"{name} was refused the next event: {refused[0]}")
        waiting = [entry for entry in calls if entry.ended is None]
        invoked = [entry for entry in calls if '"eventType":"INVOKE"' in entry.answer]
        # The first call follows the init; each later one says that an event is done. The last may still wait.
        done = len(calls) - 1
        if calls and (done != len(invoked) or len(waiting) > 1):
            raise AssertionError(
                f"{name} asked for the next event {done} times after its init, but was invoked {len(invoked)} times."
            )
