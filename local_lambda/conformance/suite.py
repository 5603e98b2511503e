"""The list of checks, and the suite that runs the scenarios they need."""

import dataclasses
from collections.abc import Sequence

from local_lambda.conformance import invoking, receiving, starting
from local_lambda.conformance.model import (
    Check,
    ConformanceError,
    Delivered,
    Finding,
    Limits,
    Subject,
    Verdict,
    failed,
    not_checked,
)
from local_lambda.conformance.observations import REGISTER, Observations
from local_lambda.conformance.scenarios import Scenarios
from local_lambda.errors import ExtensionNotFound
from local_lambda.machine.executables import flaw_of
from local_lambda.runtimes import choose
from local_lambda.settings import Function

CHECKS: Sequence[Check] = (
    starting.starts,
    starting.registers,
    starting.registers_first,
    starting.needs_no_stripped_variable,
    starting.serves_before_subscribing,
    starting.listens_where_lambda_is,
    starting.subscribes_in_time,
    invoking.next_once_per_invocation,
    invoking.holds_briefly,
    invoking.stays_alive,
    invoking.survives_freeze,
    receiving.acknowledges_anything,
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


class Suite:
    """All checks of one extension. Environments are made when a check first needs them, one after the other.

    `delivered` returns the texts that have reached the extension's destination so far; the suite looks for its own
    markers in them. Without it, the suite cannot check whether acknowledged records arrived. Request one verdict at a
    time.
    Raises ExtensionNotFound or FunctionNotFound; ConformanceError if the suite itself cannot work.
    """

    def __init__(self, subject: Subject, limits: Limits | None = None, delivered: Delivered | None = None) -> None:
        if not subject.extension.is_file():
            raise ExtensionNotFound(f"The extension {subject.extension} is not a file.")
        if subject.function is not None:
            own = Function(code=subject.function.code, handler=subject.function.handler)
            choose(own, None)  # raises if it is not valid
        self._subject = subject
        self._limits = limits or Limits()
        self._scenarios = Scenarios(subject, self._limits, delivered)

    async def verdicts(self) -> list[Verdict]:
        """Return the verdict of every check, in the order of `CHECKS`."""
        found = [await self.verdict(check.name) for check in CHECKS]
        warm = await self._scenarios.get("warm")
        if not warm.came_up and not any(verdict.is_failure for verdict in found):
            raise ConformanceError(warm.why_not_up)
        return found

    async def verdict(self, name: str) -> Verdict:
        """Return the verdict of the check `name`. Raises KeyError if there is no such check."""
        check = _BY_NAME[name]
        finding = await self._finding(check)
        found = dataclasses.asdict(finding)
        return Verdict(check=check.name, title=check.title, source=check.source, **found)

    async def _finding(self, check: Check) -> Finding:
        warm = await self._scenarios.get("warm")
        if check.name == "starts" and not warm.calls(REGISTER):
            # The error of the system call says little, and `env` hides it; the file itself says more.
            why = flaw_of(self._subject.extension)
            finding = check.judge(warm)
            return (
                failed(why[0].upper() + why[1:], finding.consequence or f"Lambda fails the init with {warm.crash}.")
                if why
                else finding
            )
        if not warm.came_up and not check.from_the_start:
            return not_checked("The environment did not come up.")
        return check.judge(**{name: await self._given(name, warm) for name in check.needs})

    async def _given(self, name: str, warm: Observations) -> Observations | Limits | None:
        """Return the value of a parameter of `Check.judge`."""
        if name == "limits":
            return self._limits
        # Only an extension in trouble is run again with the withheld variables: they may be the reason.
        if name == "disclosed" and not _has_trouble(warm):
            return None
        return await self._scenarios.get(name)


def _has_trouble(observed: Observations) -> bool:
    """Whether the extension started and then something failed."""
    return observed.started and not (observed.came_up and all(one.status == "success" for one in observed.invocations))
