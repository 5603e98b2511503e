"""Checks of the lifecycle: events, invocations, freezes, resets, shutdowns."""

from local_lambda.conformance.model import (
    EXTENSIONS,
    TELEMETRY,
    Finding,
    Limits,
    check,
    failed,
    not_applicable,
    not_checked,
    noted,
    passed,
)
from local_lambda.conformance.observations import ACCEPTED, NEXT, REGISTER, SUBSCRIBE, Observations
from local_lambda.conformance.starting import COMES_UP
from local_lambda.results import ExtensionEnd, Invocation

# The checks that tell why invocations do not come to their end, and why the extension does not live to see it.
_ASKS = ("holds-briefly", "next-once-per-invocation")
LIVES = (*_ASKS, "survives-freeze", "stays-alive")
_DIES_OF_A_FREEZE = 2  # an end at the thaw after the first freeze need not have to do with the freeze


@check("asks for the next event once per invocation", EXTENSIONS + "Next, and Invoke phase", from_the_start=True)
def next_once_per_invocation(warm: Observations, limits: Limits) -> Finding:
    calls = [call for call in warm.calls(NEXT) if call.generation == 1]
    if not calls:
        if warm.crash:
            return not_checked(f"It ended ({warm.crash}) before it asked for an event.")
        if not any(call.status == 200 for call in warm.calls(REGISTER)):
            return not_checked("It did not register.")
        return failed(
            f"It never asked for its first event; the init was over after {limits.init_s:g} s.",
            "Lambda counts an extension as ready with its first /event/next, and fails the init at its limit.",
            because=COMES_UP,
        )
    if refused := [call for call in calls if call.status not in (None, 200)]:
        return failed(
            f"It asked for an event while it waited for one, or when it may not: {refused[0].answer}.",
            "Lambda answers 403 Extension.InvalidExtensionState; clients that read this as the end leave.",
        )
    invoked = [call for call in calls if '"eventType":"INVOKE"' in call.answer]
    if warm.crash:
        return not_checked(f"It ended ({warm.crash}) before all events were done.")
    told_to_end = [number for number, call in enumerate(calls) if '"eventType":"SHUTDOWN"' in call.answer]
    asked = told_to_end[0] if told_to_end else len(calls) - 1  # what it asks after SHUTDOWN is another check's
    if asked == len(invoked) and (len(invoked) == len(warm.invocations) or "INVOKE" not in warm.registered_for):
        events = f" and once after each of {len(invoked)} INVOKE events" if invoked else ""
        return passed(f"It asked once after its init{events}.")
    return failed(
        f"It asked {asked} times after its init, for {len(invoked)} INVOKE events in {len(warm.invocations)}"
        " invocations.",
        "Each /event/next says that the event before is done; without it Lambda waits until the function times out.",
        because=("holds-briefly",),
    )


@check(
    "does not hold invocations after the function's end",
    EXTENSIONS + "Invoke phase, Performance impact and extension overhead",
)
def holds_briefly(warm: Observations, limits: Limits) -> Finding:
    if "INVOKE" not in warm.registered_for:
        return not_applicable("It is not registered for INVOKE, so no invocation waits for it.")
    return _held(warm, limits)


def _held(observed: Observations, limits: Limits) -> Finding:
    late = [one for one in observed.invocations if one.status == "timeout"]
    if late:
        return failed(
            "It did not ask for the next event, and the invocation ran into the function's timeout"
            f" ({limits.function_timeout_s:g} s).",
            "Lambda bills the whole timeout, resets the environment, and counts an error.",
            because=("holds-briefly",),
        )
    held = [_overhead_ms(one) for one in observed.invocations]
    longest = max(held, default=0.0)
    said = f"After the function's end it held invocations for up to {longest:.0f} ms"
    if longest <= limits.hold_s * 1000:
        return passed(f"{said}.")
    return failed(
        f"{said}; the bound is {limits.hold_s * 1000:.0f} ms.",
        "Lambda bills that time, freezes later, and takes no other invocation meanwhile.",
        because=("holds-briefly",),
    )


def _overhead_ms(invocation: Invocation) -> float:
    return invocation.extension_overhead_ms or 0.0


@check("does not end by itself", EXTENSIONS + "Failure handling", from_the_start=True)
def stays_alive(warm: Observations) -> Finding:
    restart = "Lambda fails the init or the invocation, whatever the exit code, and starts the environment anew."
    if not warm.started:
        return not_checked("It did not start.")
    if warm.crash:
        words = warm.init.message if warm.init and not warm.came_up else ""
        said = f"It ended by itself ({warm.crash}){': ' + words if words else '.'}{warm.last_words}"
        return failed(said, restart, because=(*COMES_UP, "next-once-per-invocation", "survives-freeze"))
    if warm.transcript.generation > 1:
        return failed("It ended between two invocations.", restart)
    if warm.end is not None:
        end = warm.end.extensions[warm.name]
        if end.exit_code is not None and not end.killed and not end.received_shutdown:
            return failed(f"It ended with exit code {end.exit_code} before it had the SHUTDOWN event.", restart)
    if not warm.came_up:
        return not_checked("The environment did not come up.")
    return passed("It ran from the init to SHUTDOWN.")


@check("goes on after freezes", EXTENSIONS + "Lambda execution environment lifecycle")
def survives_freeze(warm: Observations, limits: Limits) -> Finding:
    done = [one for one in warm.invocations if one.status == "success"]
    if len(warm.invocations) < 2:
        return not_checked("There was no second invocation.")
    if warm.crash and len(done) < _DIES_OF_A_FREEZE:
        return not_checked("It ended before the longer freezes.")
    if warm.transcript.generation > 1 or len(done) < len(warm.invocations):
        return failed(
            f"Invocation {len(done) + 1} went wrong after a freeze.",
            "Lambda freezes after each invocation, for milliseconds or hours: timers, connections and locks of before"
            " must not matter.",
            because=_ASKS,
        )
    last = (warm.calls(NEXT)[-2].ended if len(warm.calls(NEXT)) > 1 else None) or 0.0
    tried = warm.deliveries(since=last)
    took_before = any(one.status in ACCEPTED for one in warm.deliveries() if one.began < last)
    if took_before and tried and not any(one.status in ACCEPTED for one in tried):
        return failed(
            f"After a freeze of {limits.freeze_s:g} s it took no telemetry any more: {_how(tried[-1].status)}.",
            "Lambda tries again for a while and then drops what it holds.",
        )
    return passed(f"It went on after {len(done)} freezes, one of {limits.freeze_s:g} s.")


@check("comes up again after a timeout, with the same subscription", EXTENSIONS + "Failure handling")
def survives_reset(reset: Observations) -> Finding:
    if not reset.came_up:
        consequence = "An environment comes up each time, or Lambda has none to offer."
        return failed(reset.why_not_up, consequence, because=(*COMES_UP, *LIVES))
    statuses = [one.status for one in reset.invocations]
    if statuses[:2] != ["success", "timeout"]:
        return not_checked("The invocation before the timeout did not end well.")
    if statuses[2:] != ["success"]:
        return failed(
            f"After a timeout it did not come up again ({reset.invocations[-1].error_type}).",
            "Lambda starts it anew in the same environment, with /tmp as it was; each invocation fails until it is up.",
            because=LIVES,
        )
    first, second = reset.calls(SUBSCRIBE, generation=1), reset.calls(SUBSCRIBE, generation=2)
    if not first:
        return passed("After a timeout it registered again and the next invocation went well.")
    if not second:
        return failed("After a timeout it did not subscribe again.", "Lambda does not send it anything from then on.")
    if any(call.status == 200 for call in first) and not any("AlreadySubscribed" in call.answer for call in second):
        return failed(
            f"After a timeout it subscribed with another body than before, and was answered {second[-1].answer}.",
            "Lambda keeps the old subscription beside the new one, with its memory; the report of the invocation that"
            " timed out goes to where nobody listens.",
        )
    return passed("After a timeout it registered again and subscribed with the same body (AlreadySubscribed).")


@check("exits with code 0 before the deadline of SHUTDOWN", EXTENSIONS + "Shutdown phase")
def exits_at_shutdown(warm: Observations, reset: Observations) -> Finding:
    both = [warm, reset]
    if "SHUTDOWN" not in both[0].registered_for:
        return not_applicable("It is not registered for SHUTDOWN: Lambda kills it without a word, and what it holds.")
    ends = [end for observed in both if observed.came_up for end in observed.ends()]
    if not ends:
        return not_checked("It was gone before each SHUTDOWN.")
    for reason, end in ends:
        if fault := _end_fault(reason, end):
            return fault
    longest = {reason: max(end.seconds for why, end in ends if why == reason) for reason, _ in ends}
    words = ", ".join(f"{reason} {seconds * 1000:.0f} ms" for reason, seconds in longest.items())
    return passed(f"It exited with code 0, after at most: {words}.")


def _end_fault(reason: str, end: ExtensionEnd) -> Finding | None:
    """Return what is wrong with this end of the extension, if anything."""
    if end.killed:
        how = "" if end.received_shutdown else " and had not asked for the event"
        return failed(
            f"It was still there at the deadline of SHUTDOWN ({reason}){how}.",
            "Lambda kills it with SIGKILL 2 s after the beginning of the shutdown; what it holds is lost.",
            because=("exits-at-shutdown",) if end.received_shutdown else (*LIVES, "exits-at-shutdown"),
        )
    if end.exit_code != 0:
        return failed(
            f"It ended with exit code {end.exit_code} at SHUTDOWN ({reason}).",
            "Lambda takes that for a failed shutdown (AWS's emulator calls the state ShutdownFailed).",
            because=("exits-at-shutdown",),
        )
    return None


@check(
    "ends promptly when it was never invoked",
    EXTENSIONS + "Lambda execution environment lifecycle; provisioned concurrency",
)
def ends_uninvoked(uninvoked: Observations, limits: Limits) -> Finding:
    if not uninvoked.came_up or uninvoked.end is None:
        consequence = "With provisioned concurrency Lambda initialises ahead of any invocation."
        return failed(uninvoked.why_not_up, consequence, because=(*COMES_UP, *LIVES))
    if "SHUTDOWN" not in uninvoked.registered_for:
        return not_applicable("It is not registered for SHUTDOWN.")
    end = uninvoked.end.extensions[uninvoked.name]
    if fault := _end_fault("spindown", end):
        return fault
    said = f"Without any invocation it was gone {end.seconds * 1000:.0f} ms after the beginning of the shutdown"
    if end.seconds <= limits.uninvoked_s:
        return passed(f"{said}.")
    return failed(
        f"{said}; the bound is {limits.uninvoked_s * 1000:.0f} ms.",
        "There is no report to wait for: Lambda may initialise an environment, freeze it, and end it.",
    )


@check("leaves no process behind", EXTENSIONS + "Shutdown phase")
def leaves_no_process(warm: Observations, reset: Observations) -> Finding:
    found: list[str] = []
    for observed in (warm, reset):
        if observed.left_behind is None:
            return not_checked("This system does not say which processes there are.")
        found += observed.left_behind.values()
    if found:
        return failed(
            f"It left a process behind: {found[0]}.",
            "Lambda kills the process group; what left the group lives on after a reset, with its ports and memory.",
        )
    return passed("No process outlived its environment.")


@check(
    "works where telemetry is not supported",
    "AWS Lambda Runtime Interface Emulator; " + TELEMETRY + "reference, Subscribe (202)",
)
def works_without_telemetry(warm: Observations, no_telemetry: Observations, limits: Limits) -> Finding:
    if not warm.calls(SUBSCRIBE):
        return not_applicable("It does not subscribe to telemetry.")
    fault = _trouble_without_telemetry(no_telemetry, limits)
    if fault is None:
        return passed("Where telemetry is not supported (202) it goes on without.")
    return noted(
        f"Where telemetry is not supported (202): {fault.seen}",
        "Lambda supports it; AWS's emulator and sam local do not: no function can be tried there with this extension.",
        because=(*fault.because, *LIVES),
    )


def _trouble_without_telemetry(observed: Observations, limits: Limits) -> Finding | None:
    if not observed.came_up:
        return failed(observed.why_not_up, "", because=COMES_UP)
    if observed.crash or any(one.status not in ("success", "timeout") for one in observed.invocations):
        return failed("an invocation failed.", "", because=LIVES)
    held = _held(observed, limits)
    if held.is_failure:
        return held
    ends = observed.ends() if "SHUTDOWN" in observed.registered_for else []
    return next((fault for reason, end in ends if (fault := _end_fault(reason, end))), None)


@check(
    "registers on Lambda Managed Instances as it may", "AWS Lambda Managed Instances, execution environment, Extensions"
)
def fits_managed_instances(managed: Observations) -> Finding:
    consequence = "Lambda Managed Instances refuse INVOKE with 403 Extension.InvalidEventType, and the init fails."
    if refused := [call for call in managed.calls(REGISTER) if call.status != 200]:
        return noted(f"It registered for {refused[0].sent} and was answered {refused[0].answer}.", consequence)
    if refused := [call for call in managed.calls(SUBSCRIBE)[-1:] if call.status != 200]:
        return noted(
            f"Its subscription was refused: {refused[0].call} was answered {refused[0].status} {refused[0].answer}.",
            "Managed Instances have the Telemetry API only, and of it schema 2025-01-29.",
            because=("subscribes-in-time",),
        )
    if not managed.came_up:
        because = (*COMES_UP, *LIVES)
        return noted(managed.why_not_up, "No environment comes up on Lambda Managed Instances.", because=because)
    for reason, end in managed.ends():
        if "SHUTDOWN" in managed.registered_for and (fault := _end_fault(reason, end)):
            return noted(fault.seen, fault.consequence, because=fault.because)
    events = " and ".join(managed.registered_for) or "no event"
    return passed(f"With AWS_LAMBDA_INITIALIZATION_TYPE=lambda-managed-instances it registers for {events}.")


def _how(status: int | None) -> str:
    return "no answer" if status is None else f"status {status}"
