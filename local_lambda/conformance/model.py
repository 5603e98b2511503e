"""What the suite is given, what it says, and what a check is. Pure."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from local_lambda.errors import EmulatorError, InvalidSetting

if TYPE_CHECKING:
    from local_lambda.conformance.observations import ByScenario

PORT = "{port}"

# Where AWS says what a check asks for: the beginning of its `source`.
EXTENSIONS = "AWS Lambda Extensions API, "
TELEMETRY = "AWS Lambda Telemetry API, "

Delivered = Callable[[], Collection[str]]


class ConformanceError(EmulatorError):
    """The suite could not do its work, through no fault of the extension."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnFunction:
    """A handler that is called in every invocation, beside what the suite's own function does."""

    code: Path
    handler: str = "app.handler"
    event: Any = None


@dataclass(frozen=True, slots=True)
class Subject:
    """The extension to judge, and the customer's variables under which it runs.

    `{port}` in a variable's value becomes a port that is free now, another one for each environment: for extensions
    that are told where to listen, so that several can be judged at once on one machine.
    """

    extension: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    function: OwnFunction | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Where a check draws its line, in seconds. `init_s` is Lambda's, the others are choices.

    `register_s`: from the start of the process to its registration. `hold_s`: what an extension may add to an
    invocation after the function's end. `uninvoked_s`: the end of an environment that was never invoked, the runtime's
    share included. `freeze_s`: the longest of the freezes.
    """

    init_s: float = 10.0
    register_s: float = 1.0
    hold_s: float = 1.0
    uninvoked_s: float = 1.5
    freeze_s: float = 1.5

    def __post_init__(self) -> None:
        for name in ("init_s", "register_s", "hold_s", "uninvoked_s", "freeze_s"):
            value = getattr(self, name)
            if not 0 < value <= 300:
                raise InvalidSetting(f"{name} is {value:g}; it must be above 0 and at most 300 seconds.")

    @property
    def function_timeout_s(self) -> float:
        """The function's timeout: long enough to tell an extension that holds too long from one that never lets go."""
        return max(3.0, self.hold_s + 2.0)


class Outcome(StrEnum):
    """What a check comes to."""

    PASSED = "passed"
    FAILED = "FAILED"
    NOT_APPLICABLE = "not applicable"
    NOT_CHECKED = "not checked"


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check saw, in one sentence, and what Lambda would do about it where that is a fault."""

    outcome: Outcome
    seen: str
    consequence: str = ""


def passed(seen: str) -> Finding:
    return Finding(Outcome.PASSED, seen)


def failed(seen: str, consequence: str) -> Finding:
    return Finding(Outcome.FAILED, seen, consequence)


def not_applicable(why: str) -> Finding:
    return Finding(Outcome.NOT_APPLICABLE, why)


def not_checked(why: str) -> Finding:
    return Finding(Outcome.NOT_CHECKED, why)


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing that a good extension does. `source` is where AWS says so.

    `judge` is pure: it reads what was observed in each of `scenarios`. `from_the_start`: it says something also where
    no environment came up.
    """

    name: str
    title: str
    source: str
    scenarios: tuple[str, ...]
    judge: Callable[["ByScenario", Limits], Finding]
    from_the_start: bool = False


def check(
    *, title: str, source: str, scenarios: tuple[str, ...], from_the_start: bool = False
) -> Callable[[Callable[["ByScenario", Limits], Finding]], Check]:
    """Make a check of the function that judges, under its name with hyphens."""

    def decorate(judge: Callable[["ByScenario", Limits], Finding]) -> Check:
        name = judge.__name__.replace("_", "-")
        return Check(
            name=name, title=title, source=source, scenarios=scenarios, judge=judge, from_the_start=from_the_start
        )

    return decorate


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A check with what it found."""

    check: str
    title: str
    outcome: Outcome
    seen: str
    consequence: str
    source: str

    @property
    def is_failure(self) -> bool:
        return self.outcome is Outcome.FAILED

    def __str__(self) -> str:
        text = f"{self.check}: {self.outcome}. {self.seen}"
        return f"{text} {self.consequence} ({self.source})" if self.is_failure else text

    def as_dict(self) -> dict[str, str]:
        """Return it for JSON; what Lambda would do is there for a failure only."""
        fields = {"check": self.check, "title": self.title, "verdict": str(self.outcome), "seen": self.seen}
        return fields | ({"lambda": self.consequence} if self.is_failure else {}) | {"source": self.source}
