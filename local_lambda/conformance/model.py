"""The types of the suite: what it is given, its checks, and their results. Pure."""

import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from local_lambda.errors import EmulatorError, InvalidSetting

PORT = "{port}"

# The beginning of a check's `source`: the AWS document that demands it.
EXTENSIONS = "AWS Lambda Extensions API, "
TELEMETRY = "AWS Lambda Telemetry API, "

Delivered = Callable[[], Collection[str]]


class ConformanceError(EmulatorError):
    """The suite could not do its work, and the extension is not the reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnFunction:
    """The user's handler, which every invocation calls in addition to the suite's own function."""

    code: Path
    handler: str = "app.handler"
    event: Any = None


@dataclass(frozen=True, slots=True)
class Subject:
    """The extension to judge, and the environment variables that it gets.

    `shared` are paths of this machine that its environments may read and write, beside a file system of their own.
    `opt` is the directory that stands for /opt, with the contents of the extension's layers. If it has this very file
    in `extensions`, it must have no other extension there: one is judged at a time.

    `{port}` in a variable's value becomes a port that is free now, a different one in each environment. This is for
    extensions with a configurable port, so that several can be judged at once on one machine.
    """

    extension: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    function: OwnFunction | None = None
    shared: Sequence[Path] = ()
    opt: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The thresholds of the checks, in seconds. `init_s` is Lambda's limit, the others are choices.

    `register_s`: from the start of the process to its registration. `hold_s`: the time an extension may add to an
    invocation after the function's end. `uninvoked_s`: the shutdown of an environment that was never invoked, including
    the runtime's share. `freeze_s`: the longest freeze.
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
    """The result of a check.

    FAILED is a fault: on Lambda the function fails, is slowed down or billed for, or data is lost. NOTE is what does no
    harm on Lambda as it is today, but elsewhere: on Managed Instances, in AWS's emulator, with input that is only
    possible. NOT_CHECKED: this machine, or a fault that another check tells of, does not let it be known.
    """

    PASSED = "passed"
    FAILED = "FAILED"
    NOTE = "note"
    NOT_APPLICABLE = "not applicable"
    NOT_CHECKED = "not checked"


@dataclass(frozen=True, slots=True)
class Finding:
    """The observation of a check, in one sentence; for a fault or a note also what Lambda would do.

    `because` names checks before this one: if one of them tells of a fault, that is the reason for this one too.
    """

    outcome: Outcome
    seen: str
    consequence: str = ""
    because: Sequence[str] = ()

    @property
    def is_complaint(self) -> bool:
        """Whether this is a fault or a note."""
        return self.outcome in (Outcome.FAILED, Outcome.NOTE)

    @property
    def is_failure(self) -> bool:
        """Whether this is a fault."""
        return self.outcome is Outcome.FAILED


def passed(seen: str) -> Finding:
    return Finding(Outcome.PASSED, seen)


def failed(seen: str, consequence: str, *, because: Sequence[str] = ()) -> Finding:
    return Finding(Outcome.FAILED, seen, consequence, because)


def noted(seen: str, consequence: str, *, because: Sequence[str] = ()) -> Finding:
    return Finding(Outcome.NOTE, seen, consequence, because)


def not_applicable(why: str) -> Finding:
    return Finding(Outcome.NOT_APPLICABLE, why)


def not_checked(why: str) -> Finding:
    return Finding(Outcome.NOT_CHECKED, why)


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing that a good extension does. `source` is where AWS documents it.

    `judge` is pure. Its parameters (`needs`) are named after what it gets: the scenarios whose observations it reads,
    and `limits`. With `from_the_start` it also gives a verdict if no environment came up.
    """

    name: str
    title: str
    source: str
    needs: tuple[str, ...]
    judge: Callable[..., Finding]
    from_the_start: bool = False


def check(title: str, source: str, *, from_the_start: bool = False) -> Callable[[Callable[..., Finding]], Check]:
    """Return a decorator that makes a check of a judging function; its name gets hyphens."""

    def decorate(judge: Callable[..., Finding]) -> Check:
        return Check(
            name=judge.__name__.replace("_", "-"),
            title=title,
            source=source,
            needs=tuple(inspect.signature(judge).parameters),
            judge=judge,
            from_the_start=from_the_start,
        )

    return decorate


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict(Finding):
    """A check and its result."""

    check: str
    title: str
    source: str

    def __str__(self) -> str:
        text = f"{self.check}: {self.outcome}. {self.seen}"
        return f"{text} {self.consequence} ({self.source})" if self.is_complaint else text

    def as_dict(self) -> dict[str, str]:
        """Return the verdict for JSON; the consequence is included for a fault or a note only."""
        fields = {"check": self.check, "title": self.title, "verdict": str(self.outcome), "seen": self.seen}
        return fields | ({"lambda": self.consequence} if self.is_complaint else {}) | {"source": self.source}
