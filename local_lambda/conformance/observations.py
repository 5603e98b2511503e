"""The observations of an extension in one environment: plain data, on which the checks are based."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from local_lambda.conformance import machine
from local_lambda.conformance.machine import Listener
from local_lambda.conformance.surroundings import Surroundings, explanation
from local_lambda.phases.init import Outcome
from local_lambda.results import ExtensionEnd, Invocation, Shutdown
from local_lambda.rules.subscriptions import Subscription
from local_lambda.transcript import Entry, Transcript

REGISTER = "POST /2020-01-01/extension/register"
NEXT = "GET /2020-01-01/extension/event/next"
_RUNTIME_NEXT = "GET /2018-06-01/runtime/invocation/next"
_TELEMETRY, _LOGS = "PUT /2022-07-01/telemetry", "PUT /2020-08-15/logs"
SUBSCRIBE = (_TELEMETRY, _LOGS)  # to either API; an extension uses one of them
ACCEPTED = range(200, 300)
_SHOWN = 200
# How Go, Node.js, Python and others begin the line that says what ended a process.
_NAMES_ERROR = re.compile(r"(panic: |fatal error: |(Uncaught )?[A-Za-z_.]*(Error|Exception)\b.*: )")


class _Recorder(Transcript):
    """A transcript that also records the listening sockets at the moment of each subscription."""

    def __init__(self) -> None:
        super().__init__()
        self.listeners_at_subscribe: list[frozenset[Listener] | None] = []

    def received(self, name: str, call: str) -> Entry:
        """Begin an entry. The caller still waits here, so it cannot have opened its listener after our answer."""
        if call in SUBSCRIBE:
            self.listeners_at_subscribe.append(machine.listeners())
        return super().received(name, call)


@dataclass(frozen=True, slots=True)
class Post:
    """One batch that the suite itself sent to the listener. `status` is None if no answer came."""

    what: str
    status: int | None
    detail: str = ""
    has_ended: bool = False  # the extension did, after this batch

    @property
    def is_accepted(self) -> bool:
        return self.status in ACCEPTED


@dataclass(slots=True, kw_only=True)
class Observations:
    """One environment with the extension in it, from start to end.

    `listeners` are the listening sockets after the init; `left_behind` are the processes that outlived the environment
    (None: the system does not list them). `posts` and `repeated` are the batches that the suite sent to the listener,
    if there was a moment for it (`was_fed`). `own_lines` counts the lines that the extension wrote in each quarter of
    `quiet_s` seconds without any activity; `unprompted_lines` the same while the platform also sent nothing.
    """

    name: str
    surroundings: Surroundings
    started: bool = False
    transcript: _Recorder = field(default_factory=_Recorder)
    init: Outcome | None = None
    telemetry: Sequence[Mapping[str, Any]] = ()
    output: Sequence[str] = ()
    subscriptions: Sequence[Subscription] = ()
    listeners: frozenset[Listener] | None = None
    invocations: list[Invocation] = field(default_factory=list)
    resets: Sequence[Shutdown] = ()
    end: Shutdown | None = None
    left_behind: Mapping[int, str] | None = None
    posts: list[Post] = field(default_factory=list)
    repeated: Post | None = None
    was_fed: bool = False
    own_lines: list[int] = field(default_factory=list)
    unprompted_lines: list[int] = field(default_factory=list)
    quiet_s: float = 0.0
    markers: list[str] = field(default_factory=list)
    missing: Sequence[str] | None = None  # markers that did not arrive; None: not known

    @property
    def came_up(self) -> bool:
        return self.init is not None and self.init.is_success

    @property
    def why_not_up(self) -> str:
        """The reason why the environment did not come up, as a sentence."""
        if self.init is None:
            return "The environment did not come up."
        message = self.init.message or "no reason was given."
        return f"The environment did not come up: {message[:1].lower()}{message[1:]}"

    def calls(self, call: str | tuple[str, ...], *, generation: int | None = None) -> list[Entry]:
        """Return the calls to the platform that begin with `call`, or one of several, from any caller."""
        entries = [entry for entry in self.transcript if entry.direction == "in" and entry.call.startswith(call)]
        return [entry for entry in entries if generation is None or entry.generation == generation]

    def deliveries(self, *, since: float = 0.0) -> list[Entry]:
        """Return the platform's own deliveries that began after `since`, in seconds since the epoch."""
        return [entry for entry in self.transcript if entry.direction == "out" and entry.began >= since]

    def events(self, type_: str) -> list[Mapping[str, Any]]:
        """Return the records of one event type that the platform produced."""
        return [event["record"] for event in self.telemetry if event["type"] == type_]

    @property
    def registered_for(self) -> list[str]:
        """The events of the extension's last registration."""
        mine = [record for record in self.events("platform.extension") if record["name"] == self.name]
        return list(mine[-1]["events"]) if mine else []

    @property
    def excuse(self) -> str:
        """What of this machine may be why the extension got into trouble, as a sentence; "" if nothing, or no trouble.

        Trouble is that it does not come up, ends by itself, or does not listen where it wants its telemetry sent.
        """
        surroundings = self.surroundings
        for subscription in self.subscriptions:
            if subscription.port in surroundings.taken:
                return f"Port {subscription.port}, where it listens, was taken on this machine before it started."
            addresses = {str(listener.address) for listener in self.listening_on(subscription.port)}
            if surroundings.misled and addresses == {surroundings.machines_host}:
                return surroundings.misled
        if not self.came_up and not self.crash and self.calls(NEXT) and not self.calls(_RUNTIME_NEXT):
            return "The function did not start in time on this machine."
        is_deaf = self.listeners is not None and any(not self.listening_on(one.port) for one in self.subscriptions)
        if self.came_up and not self.crash and not is_deaf:
            return ""
        return explanation(surroundings, self.output)

    @property
    def went_well(self) -> bool:
        """Whether the environment came up and no invocation failed."""
        return self.came_up and all(one.status == "success" for one in self.invocations)

    @property
    def last_words(self) -> str:
        """The last line that the extension wrote, as a sentence behind another; "" if it wrote none.

        Of a stack trace that is the line which names the error.
        """
        lines = [line.rstrip() for line in self.output if line.strip()]
        told = [line for line in lines if _NAMES_ERROR.match(line)]
        words = (told or lines)[-1:]
        return f" It wrote last: {words[0].strip()[:_SHOWN]}" if words else ""

    def listening_on(self, port: int) -> list[Listener]:
        """Return the sockets that listened on `port` after the init."""
        return [listener for listener in self.listeners or () if listener.port == port]

    @property
    def subscribed_types(self) -> set[str]:
        return {type_ for subscription in self.subscriptions for type_ in subscription.types}

    @property
    def crash(self) -> str | None:
        """Lambda's error type if the extension ended by itself, else None."""
        types = [self.init.error_type if self.init else None, *(one.error_type for one in self.invocations)]
        found = [type_ for type_ in types if type_ and type_.startswith("Extension.")]
        return found[0] if found else None

    def ends(self) -> list[tuple[str, ExtensionEnd]]:
        """Return the reason and the extension's end for each shutdown in which it was still running."""
        told = list(self.resets)
        if self.end is not None and (not self.invocations or self.invocations[-1].status == "success"):
            told.append(self.end)
        ends = [(shutdown.reason, shutdown.extensions[self.name]) for shutdown in told]
        return [(reason, end) for reason, end in ends if end.killed or end.received_shutdown]
