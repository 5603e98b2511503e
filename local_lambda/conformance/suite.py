"""The list of checks, and the suite that makes the visits which they need."""

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
from local_lambda.conformance.observations import REGISTER, Visit
from local_lambda.conformance.scenarios import Visits
from local_lambda.errors import ExtensionNotFound
from local_lambda.settings import Function

_EXTENSIONS = "AWS Lambda Extensions API, "
_TELEMETRY = "AWS Lambda Telemetry API, "

CHECKS: Sequence[Check] = (
    Check(
        name="starts",
        title="can be executed",
        source=_EXTENSIONS + "Init phase",
        visits=("warm",),
        judge=starting.starts,
        from_the_start=True,
    ),
    Check(
        name="registers",
        title="registers in time, under the name of its file",
        source=_EXTENSIONS + "Init phase, and Register",
        visits=("warm",),
        judge=starting.registers,
        from_the_start=True,
    ),
    Check(
        name="registers-first",
        title="registers before it does slow work",
        source=_EXTENSIONS + "Init phase",
        visits=("warm",),
        judge=starting.registers_first,
        from_the_start=True,
    ),
    Check(
        name="needs-no-stripped-variable",
        title="does not need variables that Lambda keeps from extensions",
        source=_EXTENSIONS + "Permissions and configuration, Environment variables",
        visits=("warm",),
        judge=starting.needs_no_stripped_variable,
        from_the_start=True,
    ),
    Check(
        name="serves-before-subscribing",
        title="listens before it subscribes",
        source=_TELEMETRY + "Specifying a destination protocol",
        visits=("warm",),
        judge=starting.serves_before_subscribing,
    ),
    Check(
        name="listens-where-lambda-is",
        title="listens where Lambda reaches it",
        source=_TELEMETRY + "Specifying a destination protocol",
        visits=("warm",),
        judge=starting.listens_where_lambda_is,
    ),
    Check(
        name="subscribes-in-time",
        title="subscribes before its first event, with values that the API takes",
        source=_TELEMETRY + "Sending a subscription request, and Configuring memory usage and buffering",
        visits=("warm",),
        judge=starting.subscribes_in_time,
        from_the_start=True,
    ),
    Check(
        name="next-once-per-invocation",
        title="asks for the next event once per invocation",
        source=_EXTENSIONS + "Next, and Invoke phase",
        visits=("warm",),
        judge=invoking.next_once_per_invocation,
        from_the_start=True,
    ),
    Check(
        name="holds-briefly",
        title="does not hold invocations after the function's end",
        source=_EXTENSIONS + "Invoke phase, Performance impact and extension overhead",
        visits=("warm",),
        judge=invoking.holds_briefly,
    ),
    Check(
        name="stays-alive",
        title="does not end by itself",
        source=_EXTENSIONS + "Failure handling",
        visits=("warm",),
        judge=invoking.stays_alive,
        from_the_start=True,
    ),
    Check(
        name="survives-freeze",
        title="goes on after freezes",
        source=_EXTENSIONS + "Lambda execution environment lifecycle",
        visits=("warm",),
        judge=invoking.survives_freeze,
    ),
    Check(
        name="acknowledges-anything",
        title="answers telemetry with 2xx, whatever is in it",
        source=_TELEMETRY + "Specifying a destination protocol, and Configuring memory usage and buffering",
        visits=("fed",),
        judge=receiving.acknowledges_anything,
    ),
    Check(
        name="answers-a-repeated-batch",
        title="answers a batch that comes again",
        source=_TELEMETRY + "Specifying a destination protocol",
        visits=("fed",),
        judge=receiving.answers_a_repeated_batch,
    ),
    Check(
        name="does-not-feed-itself",
        title="does not write lines about its own lines",
        source=_TELEMETRY + "Creating a telemetry listener",
        visits=("fed",),
        judge=receiving.does_not_feed_itself,
    ),
    Check(
        name="delivers-what-it-acknowledged",
        title="loses no record that it acknowledged",
        source=_TELEMETRY + "Specifying a destination protocol",
        visits=("warm", "fed"),
        judge=receiving.delivers_what_it_acknowledged,
    ),
    Check(
        name="survives-reset",
        title="comes up again after a timeout, with the same subscription",
        source=_EXTENSIONS + "Failure handling",
        visits=("reset",),
        judge=invoking.survives_reset,
    ),
    Check(
        name="exits-at-shutdown",
        title="exits with code 0 before the deadline of SHUTDOWN",
        source=_EXTENSIONS + "Shutdown phase",
        visits=("warm", "reset"),
        judge=invoking.exits_at_shutdown,
    ),
    Check(
        name="ends-uninvoked",
        title="ends promptly when it was never invoked",
        source=_EXTENSIONS + "Lambda execution environment lifecycle; provisioned concurrency",
        visits=("uninvoked",),
        judge=invoking.ends_uninvoked,
    ),
    Check(
        name="leaves-no-process",
        title="leaves no process behind",
        source=_EXTENSIONS + "Shutdown phase",
        visits=("warm", "reset"),
        judge=invoking.leaves_no_process,
    ),
    Check(
        name="works-without-telemetry",
        title="works where telemetry is not supported",
        source="AWS Lambda Runtime Interface Emulator; " + _TELEMETRY + "reference, Subscribe (202)",
        visits=("warm", "deaf"),
        judge=invoking.works_without_telemetry,
    ),
    Check(
        name="fits-managed-instances",
        title="registers on Lambda Managed Instances as it may",
        source="AWS Lambda Managed Instances, execution environment, Extensions",
        visits=("managed",),
        judge=invoking.fits_managed_instances,
    ),
)
_BY_NAME = {check.name: check for check in CHECKS}


class Suite:
    """All checks of one extension. Environments are made when the first check needs them, one after the other.

    `delivered` returns the texts that have arrived where the extension delivers to, so far; the suite looks for its
    own markers in them. Without it, nobody can say whether records that were acknowledged arrived. Ask for one
    verdict at a time. Raises ExtensionNotFound, FunctionNotFound; ConformanceError when the suite itself cannot work.
    """

    def __init__(self, subject: Subject, limits: Limits | None = None, delivered: Delivered | None = None) -> None:
        if not subject.extension.is_file():
            raise ExtensionNotFound(f"The extension {subject.extension} is not a file.")
        if subject.function is not None:
            Function(code=subject.function.code, handler=subject.function.handler)  # raises if it cannot be
        self._subject = subject
        self._limits = limits or Limits()
        self._visits = Visits(subject, self._limits, delivered)

    async def verdicts(self) -> list[Verdict]:
        """Return the verdict of every check, in the order of `CHECKS`."""
        found = [await self.verdict(check.name) for check in CHECKS]
        warm = await self._visits.get("warm")
        if not warm.came_up and not any(verdict.is_failure for verdict in found):
            raise ConformanceError(warm.why_not_up)
        return found

    async def verdict(self, name: str) -> Verdict:
        """Return the verdict of the check `name`. Raises KeyError when there is none of that name."""
        check = _BY_NAME[name]
        finding = await self._finding(check)
        return Verdict(
            check=check.name,
            title=check.title,
            outcome=finding.outcome,
            seen=finding.seen,
            consequence=finding.consequence,
            source=check.source,
        )

    async def _finding(self, check: Check) -> Finding:
        warm = await self._visits.get("warm")
        if check.name == "starts" and not warm.calls(REGISTER):
            # The words of the system call are few, and `env` hides them; the file itself says more.
            why = starting.why_it_cannot_start(self._subject.extension)
            finding = check.judge({"warm": warm}, self._limits)
            return failed(why, finding.consequence or f"Lambda fails the init with {warm.crash}.") if why else finding
        if not warm.came_up and not check.from_the_start:
            return not_checked("The environment did not come up.")
        seen = {kind: await self._visits.get(kind) for kind in check.visits}
        if check.name == "needs-no-stripped-variable" and _has_trouble(warm):
            seen["disclosed"] = await self._visits.get("disclosed")
        return check.judge(seen, self._limits)


def _has_trouble(visit: Visit) -> bool:
    """Whether it started, and then something did not go well."""
    return visit.started and not (visit.came_up and all(one.status == "success" for one in visit.invocations))
