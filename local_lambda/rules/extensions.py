"""The extensions as the platform sees them: a registry and a state machine, both pure.

    Started --register--> Registered --/next--> Ready --event--> Running --/next--> Ready …
    Registered --init/error--> InitError          Registered | Ready | Running --exit/error--> ExitError

Every other transition is answered with 403. Source: AWS Runtime Interface Emulator, externalagent_states.go.
"""

import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import orjson

from local_lambda.rules.refusals import Refused

LIMIT = 10  # internal and external together; source: Lambda quotas


class State(StrEnum):
    """A state of an extension, under the name used in `platform.extension`."""

    STARTED = "Started"
    REGISTERED = "Registered"
    READY = "Ready"
    RUNNING = "Running"
    INIT_ERROR = "InitError"
    EXIT_ERROR = "ExitError"
    LAUNCH_ERROR = "LaunchError"
    EXITED = "Exited"
    SHUTDOWN_FAILED = "ShutdownFailed"


@dataclass(frozen=True, slots=True)
class Event:
    """The answer of `/event/next`."""

    type: str  # INVOKE or SHUTDOWN
    body: bytes
    content_type: str
    id: str | None  # Lambda-Extension-Event-Identifier; SHUTDOWN has none


class Extension:
    """One extension. Each method either changes its state, or raises Refused and changes nothing."""

    def __init__(self, name: str, *, external: bool) -> None:
        self.name = name
        self.external = external
        self.id = str(uuid.uuid4())
        self.events: tuple[str, ...] = ()
        self.state = State.STARTED
        self.error_type: str | None = None
        self.received_shutdown = False
        self.asked_at: float | None = None  # the time of the last /event/next
        self._event: Event | None = None

    def wants(self, event: str) -> bool:
        """Whether the extension is registered for `event`."""
        return event in self.events

    @property
    def is_registered(self) -> bool:
        return self.state is not State.STARTED and self.state is not State.LAUNCH_ERROR

    def register(self, events: Iterable[str]) -> None:
        self._move(State.REGISTERED, {State.STARTED})
        self.events = tuple(events)

    def ask_next(self, now: float) -> None:
        """Handle a call of `/event/next` at `now`, in seconds: the last event is done, and the extension waits."""
        self._move(State.READY, {State.REGISTERED, State.RUNNING})
        self.asked_at = now

    @property
    def is_idle(self) -> bool:
        """Whether the extension waits in `/event/next` and no event is ready for it."""
        return self.state is State.READY and self._event is None

    def release(self, event: Event) -> None:
        """Make `event` ready for the extension. If it is busy, it gets the event with its next `/event/next`."""
        self._event = event

    def take(self) -> Event | None:
        """Return the released event once; None if there is none. Raises Refused if the extension ended meanwhile."""
        if self.state is not State.READY:
            raise self._refusal(State.READY, "Concurrent state modification")
        if self._event is None:
            return None
        event, self._event = self._event, None
        self.state = State.RUNNING
        self.received_shutdown = self.received_shutdown or event.type == "SHUTDOWN"
        return event

    @property
    def has_event(self) -> bool:
        """Whether a wait in `/event/next` must end: an event is ready, or the state changed meanwhile."""
        return self._event is not None or self.state is not State.READY

    def report_init_error(self, error_type: str) -> None:
        self._move(State.INIT_ERROR, {State.REGISTERED, State.INIT_ERROR})
        self.error_type = self.error_type or error_type

    def report_exit_error(self, error_type: str) -> None:
        allowed = {State.REGISTERED, State.READY, State.RUNNING, State.EXIT_ERROR}
        self._move(State.EXIT_ERROR, allowed)
        self.error_type = self.error_type or error_type

    def launch_failed(self, error_type: str) -> None:
        self.state = State.LAUNCH_ERROR
        self.error_type = error_type

    def exited(self, code: int, *, in_shutdown: bool) -> None:
        """Record the exit of the process. During a shutdown only exit code 0 is clean."""
        if self.state in (State.INIT_ERROR, State.EXIT_ERROR):
            return
        if in_shutdown:
            self.state = State.EXITED if code == 0 else State.SHUTDOWN_FAILED
        else:
            self.error_type = self.error_type or "Extension.Crash"

    def _move(self, to: State, allowed: set[State]) -> None:
        if self.state not in allowed:
            raise self._refusal(to)
        self.state = to

    def _refusal(self, to: State, reason: str = "State transition is not allowed") -> Refused:
        # AWS's emulator shows the extension's name when it registers, and its identifier afterwards.
        who = self.name if to is State.REGISTERED else self.id
        message = f"State transition from {self.state} to {to} failed for extension {who}. Error: {reason}"
        return Refused(403, "Extension.InvalidExtensionState", message)


class Extensions:
    """All extensions of one generation of processes. External ones are known by file name before they register."""

    def __init__(self, external: Iterable[str], *, managed: bool = False) -> None:
        self._by_name = {name: Extension(name, external=True) for name in external}
        self._managed = managed
        self.is_closed = False

    def __iter__(self) -> Iterator[Extension]:
        return iter(self._by_name.values())

    def __getitem__(self, name: str) -> Extension:
        return self._by_name[name]

    def external(self) -> list[Extension]:
        return [extension for extension in self if extension.external]

    def all_registered(self) -> bool:
        return all(extension.is_registered for extension in self)

    def all_ready(self, event: str | None = None) -> bool:
        """Whether all extensions (or all registered for `event`) wait in `/event/next`."""
        return all(extension.is_idle for extension in self if event is None or extension.wants(event))

    def register(self, name: str, body: bytes) -> Extension:
        """Register the extension `name` for the events that the JSON `body` lists. Raises Refused."""
        if not name:
            raise Refused(403, "Extension.InvalidExtensionName", "Empty extension name")
        events = _events(body)
        extension = self._by_name.get(name)
        if extension is not None and extension.external:
            self._check_events(events, external=True)
            extension.register(events)
            return extension
        return self._register_internal(name, events, extension)

    def _register_internal(self, name: str, events: list[str], known: Extension | None) -> Extension:
        if self.is_closed:
            raise Refused(403, "Extension.RegistrationClosed", "Extension registration closed already")
        if known is not None:
            raise Refused(403, "Extension.InvalidExtensionState", "Extension with this name already registered")
        self._check_events(events, external=False)
        if len(self._by_name) >= LIMIT:
            raise Refused(403, "Extension.TooManyExtensions", f"Extension limit ({LIMIT}) reached")
        extension = Extension(name, external=False)
        extension.register(events)
        self._by_name[name] = extension
        return extension

    def _check_events(self, events: list[str], *, external: bool) -> None:
        if self._managed and not external and events:
            message = "No events allowed for internal extensions"
            raise Refused(403, "Extension.InvalidEventType", message)
        for event in events:
            reason = None
            if event not in ("INVOKE", "SHUTDOWN") or (event == "INVOKE" and self._managed):
                reason = "ErrorInvalidEventType"
            elif event == "SHUTDOWN" and not external:
                reason = "ShutdownEventNotSupportedForInternalExtension"
            if reason:
                raise Refused(403, "Extension.InvalidEventType", f"{event}: {reason}")

    def find(self, identifier: str | None, *, unknown: str = "Unknown extension {}") -> Extension:
        """Return the extension with this `Lambda-Extension-Identifier`. Raises Refused with the text `unknown`."""
        wanted = read_identifier(identifier)
        for extension in self:
            # An unregistered extension has not been given its identifier yet, so it cannot be the caller.
            if extension.id == wanted and extension.is_registered:
                return extension
        raise Refused(403, "Extension.UnknownExtensionIdentifier", unknown.format(wanted))


def read_identifier(identifier: str | None) -> str:
    """Return the value of `Lambda-Extension-Identifier` as a canonical UUID. Raises Refused."""
    if not identifier:
        message = "Missing Lambda-Extension-Identifier header"
        raise Refused(403, "Extension.MissingExtensionIdentifier", message)
    try:
        return str(uuid.UUID(identifier))
    except ValueError:
        message = "Invalid Lambda-Extension-Identifier"
        raise Refused(403, "Extension.InvalidExtensionIdentifier", message) from None


def _events(body: bytes) -> list[str]:
    """Return the list of events in the body of `/extension/register`. Raises Refused."""
    invalid = "InvalidRequestFormat"
    try:
        parsed: Any = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Refused(403, invalid, str(error)) from None
    if not isinstance(parsed, dict):
        raise Refused(403, invalid, "The body is not a JSON object")
    if parsed.get("configurationKeys"):
        raise Refused(403, invalid, "configurationKeys are deprecated; use environment variables instead")
    events = parsed.get("events") or []
    if not isinstance(events, list) or not all(isinstance(event, str) for event in events):
        raise Refused(403, invalid, "events is not a list of strings")
    return events
