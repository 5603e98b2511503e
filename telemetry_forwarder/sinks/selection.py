"""Which records one sink takes: `TELEMETRY_FORWARDER_TYPES__AUDIT`, `…_LEVEL__AUDIT` and `…_FUNCTIONS__AUDIT`.

The ending is the name of a further sink, as `audit` of `splunk:audit`, else that of its kind, as `__SPLUNK`. What a
sink does not take is counted in its ledger as `filtered`. Loaded only if such a variable is set.
"""

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any

from msgspec.structs import replace

from telemetry_forwarder.errors import FilteredOut
from telemetry_forwarder.interfaces import LOGS, Destination, Encoded, taken_by
from telemetry_forwarder.records.record import Record, Signal
from telemetry_forwarder.variables.reading import Values, ending_of, unsound
from telemetry_forwarder.variables.table import Problem, Variable
from telemetry_forwarder.variables.types import OneOf
from telemetry_forwarder.variables.wording import Notice, only, whole, words

_LEVELS = ("debug", "info", "warn", "error", "critical")
_CLASSES = ("platform", "function", "extension")
_OURS = "forwarder."  # events that tell of losses and of the ledger: whoever filters still wants to know


class Types:
    """Types of records: a class, as `platform`, or one type of it, as `platform.report`."""

    label = "comma list"
    allowed = "of `platform`, `function`, `extension`, and single types such as `platform.report`"

    def read(self, text: str) -> tuple[str, ...]:
        found = words(text)
        kept = tuple(dict.fromkeys(word for word in found if word in _CLASSES or self._is_single(word)))
        return whole(kept, [word for word in found if word not in kept])

    def _is_single(self, word: str) -> bool:
        return word.startswith("platform.") and only(word.removeprefix("platform."), ".") and not word.endswith(".")


class Patterns:
    """Names of functions, with `*` for any text in them."""

    label = "comma list"
    allowed = "names of functions, in which `*` stands for any text"

    def read(self, text: str) -> tuple[str, ...]:
        found = words(text)
        kept = tuple(dict.fromkeys(word for word in found if only(word, "-_*")))
        return whole(kept, [word for word in found if word not in kept])


TOPIC = "What one sink takes"
_TYPES = Variable(
    "TELEMETRY_FORWARDER_TYPES__SINK", Types(), (),
    "Types of records for one sink; unset: all of TELEMETRY_FORWARDER_TYPES. `SINK` stands for its name in capitals: "
    "`SPLUNK`, or of `splunk:audit` the last part, `AUDIT`",
)  # fmt: skip
_LEVEL = Variable(
    "TELEMETRY_FORWARDER_LEVEL__SINK", OneOf(*_LEVELS, also={"warning": "warn", "fatal": "critical"}), None,
    "Lowest level of lines for one sink. A line that names no level is sent, since it may be of a crash, and so is "
    "every event of the platform",
)  # fmt: skip
_FUNCTIONS = Variable(
    "TELEMETRY_FORWARDER_FUNCTIONS__SINK", Patterns(), (),
    "Functions in which one sink runs, for settings that many functions share; unset: all",
)  # fmt: skip
VARIABLES = (_TYPES, _LEVEL, _FUNCTIONS)


class Selection:
    """What a sink takes of log records: `types` (classes or whole names; () for all) from the level `floor` on.

    A line that names no level is taken, since it may be the trace of a crash, and so is every event of the platform.
    """

    def __init__(self, types: Sequence[str], floor: str | None) -> None:
        self._types = frozenset(types)
        self._below = frozenset(_LEVELS[: _LEVELS.index(floor)]) if floor else frozenset[str]()

    def takes(self, record: Record) -> bool:
        context = record.context
        if self._types and not self._has_type(context.type):
            return False
        return context.level not in self._below or context.is_event

    def _has_type(self, type: str) -> bool:
        return type in self._types or type.partition(".")[0] in self._types or type.startswith(_OURS)


class SelectiveSink:
    """`sink`, which takes what `selection` says. What it has beside `encode`, it has here."""

    def __init__(self, sink: Any, selection: Selection) -> None:
        self._sink = sink
        self._selection = selection
        if hasattr(sink, "encode_all"):
            self.encode_all = self._encode_all

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sink, name)

    def admits(self, record: Record) -> bool:
        """Return whether the sink takes `record`; metrics and spans are chosen elsewhere."""
        return record.signal is not Signal.LOG or self._selection.takes(record)

    def encode(self, record: Record) -> Encoded:
        """Return `record` as the sink does. Raises FilteredOut if it is not taken."""
        if not self.admits(record):
            raise FilteredOut("not taken by this sink")
        encoded: Encoded = self._sink.encode(record)
        return encoded

    def _encode_all(self, records: Sequence[Record]) -> list[Encoded]:
        """Return all of `records` encoded. Raises FilteredOut if one is not taken."""
        if not all(map(self.admits, records)):
            raise FilteredOut("not taken by this sink")
        found: list[Encoded] = self._sink.encode_all(records)
        return found


def with_selection(
    name: str, destinations: tuple[Destination[Any, Any], ...], values: Values, problems: list[Problem]
) -> tuple[Destination[Any, Any], ...]:
    """Return the destinations of the sink `name`, with what it takes; none if it is not for this function."""
    types, floor, functions = (_read(variable, name, values, problems) for variable in VARIABLES)
    function = values.given("AWS_LAMBDA_FUNCTION_NAME")
    if functions and not any(fnmatchcase(function, pattern) for pattern in functions):
        problems.append(Notice(_name(_FUNCTIONS, name), f"leaves sink {name} out of {function}.", level="info"))
        return ()
    subscribed = values["TELEMETRY_FORWARDER_TYPES"]
    if missed := [one for one in types if one.partition(".")[0] not in subscribed]:
        classes = ", ".join(dict.fromkeys(f"`{one.partition('.')[0]}`" for one in missed))
        text = f"names {', '.join(missed)}, which is not received: TELEMETRY_FORWARDER_TYPES has to name {classes}."
        problems.append(Notice(_name(_TYPES, name), text, is_wrong=True))
    if not types and floor is None:
        return destinations
    selection = Selection(types, floor)
    return tuple(
        replace(one, sink=SelectiveSink(one.sink, selection)) if taken_by(one.sink) & LOGS else one
        for one in destinations
    )


def _name(variable: Variable, sink: str) -> str:
    return variable.name.removesuffix("__SINK") + ending_of(sink)


def _read(variable: Variable, sink: str, values: Values, problems: list[Problem]) -> Any:
    """Return the value that a variable has for `sink`; its default without a valid one."""
    name = _name(variable, sink)
    if not (text := values.given(name)):
        return variable.default
    try:
        return variable.kind.read(text)
    except ValueError as error:
        problems.append(unsound(variable, text, error, name))
        return getattr(error, "kept", variable.default)
