"""The list of checks, and the suite that runs the scenarios they need."""

import dataclasses
from collections.abc import Collection, Sequence

from local_lambda.conformance import invoking, receiving, starting
from local_lambda.conformance.model import (
    Check,
    Delivered,
    Finding,
    Limits,
    Subject,
    Verdict,
    not_checked,
)
from local_lambda.conformance.observations import REGISTER, Observations
from local_lambda.conformance.scenarios import Scenarios
from local_lambda.errors import ExtensionNotFound, InvalidSetting
from local_lambda.runtimes import choose
from local_lambda.settings import Function

# A check stands behind those that may tell its cause (`Finding.because`).
CHECKS: Sequence[Check] = (
    starting.starts,
    starting.needs_no_stripped_variable,
    starting.registers,
    starting.registers_first,
    starting.serves_before_subscribing,
    starting.listens_where_lambda_is,
    starting.subscribes_in_time,
    invoking.holds_briefly,
    invoking.next_once_per_invocation,
    invoking.survives_freeze,
    invoking.stays_alive,
    receiving.acknowledges_anything,
    receiving.acknowledges_what_may_come,
    receiving.answers_a_repeated_batch,
    receiving.does_not_feed_itself,
    receiving.delivers_what_it_acknowledged,
    invoking.survives_reset,
    invoking.exits_at_shutdown,
    invoking.ends_uninvoked,
    invoking.leaves_no_process,
    invoking.works_without_telemetry,
    invoking.fits_managed_instances,
)
_BY_NAME = {check.name: check for check in CHECKS}


def selected(only: Collection[str] = (), skip: Collection[str] = ()) -> list[str]:
    """Return the names of the checks in `only`, or of all, without those in `skip`, in the order of `CHECKS`.

    Raises InvalidSetting for a name that is none, and if nothing is left.
    """
    for name in (*only, *skip):
        if name not in _BY_NAME:
            raise InvalidSetting(f"There is no check {name!r}; the checks are {', '.join(_BY_NAME)}.")
    chosen = [name for name in _BY_NAME if (not only or name in only) and name not in skip]
    if not chosen:
        raise InvalidSetting("No check is left: all that were asked for are skipped.")
    return chosen


class Suite:
    """The checks of one extension. Environments are made when a check first needs them, one after the other.

    `delivered` returns the texts that have reached the extension's destination so far; the suite looks for its own
    markers in them. Without it, the suite cannot check whether acknowledged records arrived. `only` and `skip` choose
    checks by name. Request one verdict at a time.
    Raises ExtensionNotFound or FunctionNotFound; InvalidSetting for a name that is no check; ConformanceError if the
    suite itself cannot work.
    """

    def __init__(
        self,
        subject: Subject,
        limits: Limits | None = None,
        delivered: Delivered | None = None,
        *,
        only: Collection[str] = (),
        skip: Collection[str] = (),
    ) -> None:
        if not subject.extension.is_file():
            raise ExtensionNotFound(f"The extension {subject.extension} is not a file.")
        if subject.function is not None:
            own = Function(code=subject.function.code, handler=subject.function.handler)
            choose(own, None)  # raises if it is not valid
        self.checks = selected(only, skip)
        self._subject = subject
        self._limits = limits or Limits()
        self._scenarios = Scenarios(subject, self._limits, delivered)
        self._findings: dict[str, Finding] = {}

    async def verdicts(self) -> list[Verdict]:
        """Return the verdicts of the chosen checks, in the order of `CHECKS`."""
        return [await self.verdict(name) for name in self.checks]

    async def verdict(self, name: str) -> Verdict:
        """Return the verdict of the check `name`. Raises KeyError if there is no such check."""
        check, finding = _BY_NAME[name], await self._finding(name)
        return Verdict(check=check.name, title=check.title, source=check.source, **dataclasses.asdict(finding))

    async def _finding(self, name: str) -> Finding:
        """Return what a check says in the end; one cause is told by one check only."""
        if name not in self._findings:
            finding = await self._judged(_BY_NAME[name])
            if finding.is_complaint and (cause := await self._cause(name, finding)):
                finding = not_checked(f"{cause} says why: {finding.seen}")
            self._findings[name] = finding
        return self._findings[name]

    async def _cause(self, name: str, finding: Finding) -> str:
        """Return the first chosen check before `name` that tells of a fault which explains this one, or ""."""
        for earlier in self.checks[: self.checks.index(name) if name in self.checks else 0]:
            if earlier in finding.because and (await self._finding(earlier)).is_failure:
                return earlier
        return ""

    async def _judged(self, check: Check) -> Finding:
        """Return what a check says by itself. It says nothing where this machine may be the reason."""
        warm = await self._scenarios.get("warm")
        if check.name == "starts" and not warm.calls(REGISTER):
            # The error of the system call says little, and `env` hides it; the file itself says more.
            found = starting.why_it_cannot_start(self._subject.extension, warm.surroundings)
            if found is not None:
                return found
        if not warm.came_up and not check.from_the_start:
            return not_checked(warm.excuse or warm.why_not_up)
        given = {name: await self._given(name, warm) for name in check.needs}
        finding = check.judge(**given)
        excuses = [value.excuse for value in given.values() if isinstance(value, Observations) and value.excuse]
        return not_checked(excuses[0]) if finding.is_complaint and excuses else finding

    async def _given(self, name: str, warm: Observations) -> Observations | Limits | None:
        """Return the value of a parameter of `Check.judge`."""
        if name == "limits":
            return self._limits
        # Only an extension in trouble is run again with the withheld variables: they may be the reason.
        if name == "disclosed" and not _has_trouble(warm):
            return None
        # And only one that then did well is run again without them: it may have been luck.
        if name == "hidden_again" and not (_has_trouble(warm) and (await self._scenarios.get("disclosed")).went_well):
            return None
        # Only one that was slow is started again: this machine may have been busy.
        if name == "started_again" and (starting.registered_after_s(warm) or 0.0) <= self._limits.register_s:
            return None
        return await self._scenarios.get(name)


def _has_trouble(observed: Observations) -> bool:
    """Whether the extension started and then something failed."""
    return observed.started and not observed.went_well
