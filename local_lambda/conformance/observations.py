"""What was observed of an extension in one environment: plain data, from which the checks judge."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from local_lambda.conformance import machine
from local_lambda.conformance.machine import Listener
from local_lambda.phases.init import InitOutcome
from local_lambda.results import ExtensionEnd, Invocation, Shutdown
from local_lambda.rules.subscriptions import Subscription
from local_lambda.transcript import Entry, Transcript

REGISTER = "POST /2020-01-01/extension/register"
NEXT = "GET /2020-01-01/extension/event/next"
SUBSCRIBE = "PUT /2022-07-01/telemetry"
ACCEPTED = range(200, 300)


class _Recorder(Transcript):
    """A transcript that also notes who listened on this machine at the moment a subscription came in."""

    def __init__(self) -> None:
        super().__init__()
        self.listeners_at_subscribe: list[frozenset[Listener] | None] = []

    def received(self, name: str, call: str) -> Entry:
        """Begin an entry. Here the caller still waits: it cannot have opened its listener in answer to our answer."""
        if call == SUBSCRIBE:
            self.listeners_at_subscribe.append(machine.listeners())
        return super().received(name, call)


@dataclass(frozen=True, slots=True)
class Post:
    """One batch that the suite itself sent to the listener. `status` is None when no answer came."""

    what: str
    status: int | None
    detail: str = ""

    @property
    def is_accepted(self) -> bool:
        return self.status in ACCEPTED


@dataclass(slots=True, kw_only=True)
class Observations:
    """One environment with the extension in it, from its start to its end.

    `listeners` are those after the init, `left_behind` the processes that outlived the environment (None: the system
    does not say). `posts` and `repeated` are what the suite sent to the listener; `own_lines` how many lines the
    extension wrote in each quarter of `quiet_s` seconds in which nothing happened.
    """

    name: str
    started: bool = False
    transcript: _Recorder = field(default_factory=_Recorder)
    init: InitOutcome | None = None
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
    own_lines: list[int] = field(default_factory=list)
    quiet_s: float = 0.0
    markers: list[str] = field(default_factory=list)
    missing: Sequence[str] | None = None  # markers that did not arrive; None: nobody can tell

    @property
    def came_up(self) -> bool:
        return self.init is not None and self.init.is_success

    @property
    def why_not_up(self) -> str:
        """Why the environment did not come up, as a sentence."""
        if self.init is None:
            return "The environment did not come up."
        message = self.init.message or "no reason was given."
        return f"The environment did not come up: {message[:1].lower()}{message[1:]}"

    def calls(self, call: str, *, generation: int | None = None) -> list[Entry]:
        """Return the calls to the platform that begin with `call`, by whomever."""
        entries = [entry for entry in self.transcript if entry.direction == "in" and entry.call.startswith(call)]
        return [entry for entry in entries if generation is None or entry.generation == generation]

    def deliveries(self, *, since: float = 0.0, generation: int | None = None) -> list[Entry]:
        """Return the platform's own deliveries that ended after `since`, in seconds since the epoch."""
        entries = [entry for entry in self.transcript if entry.direction == "out" and entry.began >= since]
        return [entry for entry in entries if generation is None or entry.generation == generation]

    def events(self, type_: str) -> list[Mapping[str, Any]]:
        """Return the records of one type that the platform produced."""
        return [event["record"] for event in self.telemetry if event["type"] == type_]

    @property
    def registered_for(self) -> list[str]:
        """The events of its last registration."""
        mine = [record for record in self.events("platform.extension") if record["name"] == self.name]
        return list(mine[-1]["events"]) if mine else []

    @property
    def subscribed_types(self) -> set[str]:
        return {type_ for subscription in self.subscriptions for type_ in subscription.types}

    @property
    def crash(self) -> str | None:
        """Lambda's name for an end of the extension that was its own doing, if there was one."""
        types = [self.init.error_type if self.init else None, *(one.error_type for one in self.invocations)]
        found = [type_ for type_ in types if type_ and type_.startswith("Extension.")]
        return found[0] if found else None

    def ends(self) -> list[tuple[str, ExtensionEnd]]:
        """Return how the extension took each shutdown of a generation that was alive, with the reason."""
        told = list(self.resets)
        if self.end is not None and (not self.invocations or self.invocations[-1].status == "success"):
            told.append(self.end)
        return [(shutdown.reason, shutdown.extensions[self.name]) for shutdown in told]


ByScenario = Mapping[str, Observations]
