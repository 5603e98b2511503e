"""Checks of the start: the executable, the registration, and the time before the first event."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from local_lambda.conformance.model import (
    EXTENSIONS,
    TELEMETRY,
    Finding,
    Limits,
    check,
    failed,
    not_applicable,
    not_checked,
    passed,
)
from local_lambda.conformance.observations import NEXT, REGISTER, SUBSCRIBE, Observations
from local_lambda.conformance.surroundings import Surroundings, paths_in
from local_lambda.machine.executables import HERE, flaw_of, processor_of
from local_lambda.rules.logs_schema import is_legacy
from local_lambda.rules.subscriptions import Subscription
from local_lambda.transcript import Entry

# The checks that tell why an environment did not come up.
COMES_UP = ("starts", "needs-no-stripped-variable", "registers")


def why_it_cannot_start(extension: Path, surroundings: Surroundings) -> Finding | None:
    """Return what is wrong with the file; None if nothing is found."""
    if (processor := processor_of(extension)) not in ("", HERE):
        return not_checked(f"It is a program for {processor}, and this machine is {HERE}.")
    flaw = flaw_of(extension, opt=surroundings.opt)
    if not flaw:
        return None
    if lacking := surroundings.lack_of(paths_in(flaw)):
        return not_checked(lacking)
    return failed(flaw[0].upper() + flaw[1:], "Lambda fails the init with Extension.LaunchError.")


@check("can be executed", EXTENSIONS + "Init phase", from_the_start=True)
def starts(warm: Observations) -> Finding:
    if warm.started:
        return passed("It was executed.")
    return failed(
        f"It cannot be executed: {warm.init.message if warm.init else ''}",
        "Lambda fails the init with Extension.LaunchError.",
    )


@check("registers in time, under the name of its file", EXTENSIONS + "Init phase, and Register", from_the_start=True)
def registers(warm: Observations, limits: Limits) -> Finding:
    if not warm.started:
        return not_checked("It did not start.")
    calls = warm.calls(REGISTER)
    mine = [call for call in calls if call.name == warm.name]
    if any(call.status == 200 for call in mine):
        return passed(f"It registered as {warm.name}, for {' and '.join(warm.registered_for) or 'no event'}.")
    waits = f"Lambda waits for it until the init fails, after {limits.init_s:g} s."
    if mine:
        return failed(f"Its registration was refused: {mine[0].answer}.", waits)
    if calls:
        consequence = f"Lambda takes any name but the file's own for that of an internal extension. {waits}"
        return failed(f"It registered as {calls[0].name!r}; its file is called {warm.name!r}.", consequence)
    causes = ("starts", "needs-no-stripped-variable")
    if warm.crash:
        said = f"It ended before it registered.{warm.last_words}"
        return failed(said, f"Lambda fails the init with {warm.crash}.", because=causes)
    return failed(f"It did not register within {limits.init_s:g} s.{warm.last_words}", waits, because=causes)


def registered_after_s(observed: Observations) -> float | None:
    """Return the seconds from the start of the init to the registration; None without a registration."""
    calls = [call for call in observed.calls(REGISTER) if call.status == 200 and call.name == observed.name]
    if not calls:
        return None
    began = datetime.fromisoformat(next(e["time"] for e in observed.telemetry if e["type"] == "platform.initStart"))
    return calls[0].began - began.timestamp()


@check("registers before it does slow work", EXTENSIONS + "Init phase", from_the_start=True)
def registers_first(warm: Observations, started_again: Observations | None, limits: Limits) -> Finding:
    tries = [observed for observed in (warm, started_again) if observed is not None]
    waits = [after for observed in tries if (after := registered_after_s(observed)) is not None]
    if not waits:
        return not_checked("It did not register under its name.")
    after_ms = min(waits) * 1000
    said = f"It registered {after_ms:.0f} ms after it was started"
    if after_ms <= limits.register_s * 1000:
        return passed(f"{said}.")
    return failed(
        f"{said}; the bound is {limits.register_s * 1000:.0f} ms.",
        "Lambda starts the runtime only when every extension has registered, so each cold start is longer by that.",
    )


@check(
    "does not need variables that Lambda keeps from extensions",
    EXTENSIONS + "Permissions and configuration, Environment variables",
    from_the_start=True,
)
def needs_no_stripped_variable(
    warm: Observations, disclosed: Observations | None, hidden_again: Observations | None
) -> Finding:
    if not warm.started:
        return not_checked("It did not start.")
    if disclosed is None:
        return passed("It works without the variables that Lambda keeps from extensions.")
    if hidden_again is not None and hidden_again.went_well:
        return passed("It works without those variables as well, though not each time: they are not the reason.")
    if disclosed.went_well:
        return failed(
            "It works only when it sees variables such as _HANDLER or LAMBDA_TASK_ROOT.",
            "Lambda does not show it those, nor any whose name begins with an underscore.",
        )
    return passed("It fails with those variables and without: they are not the reason.")


@check(
    "subscribes before its first event, with values that the API takes",
    TELEMETRY + "Sending a subscription request, and Configuring memory usage and buffering",
    from_the_start=True,
)
def subscribes_in_time(warm: Observations) -> Finding:
    calls = warm.calls(SUBSCRIBE)
    if not calls:
        if not warm.came_up:
            return not_checked("The environment did not come up.")
        return not_applicable("It does not subscribe to telemetry.")
    late = _late_subscription(warm)
    if late is not None:
        return failed(
            "It subscribed after it had asked for its first event.",
            "Once all are ready the init is over, and Lambda answers 403 Telemetry.SubscriptionClosed.",
        )
    refused = [call for call in calls if call.status not in (200, 202)]
    if left := [call for call in refused if not _is_made_good(call, calls)]:
        return failed(
            f"Its subscription was refused: {left[0].answer}.",
            "Lambda answers the same and sends it nothing.",
        )
    fallback = f", after {len(refused)} refused" if refused else ""
    shown = "; ".join(map(_shown, warm.subscriptions)) or calls[-1].answer
    return passed(f"It subscribed before its first event{fallback}: {shown}.")


def _is_made_good(refused: Entry, calls: Sequence[Entry]) -> bool:
    """Whether nothing is missing: another attempt was accepted later, or the extension has the other API already."""
    later = any(call.status in (200, 202) and call.began > refused.began for call in calls)
    earlier = any(call.status == 200 and call.began < refused.began for call in calls)
    return later or (earlier and "AccessDenied" in refused.answer)


def _shown(subscription: Subscription) -> str:
    return (
        f"{'Logs API ' if is_legacy(subscription.schema) else ''}{subscription.schema}, {'+'.join(subscription.types)},"
        f" maxItems {subscription.max_items}, maxBytes {subscription.max_bytes}, timeoutMs {subscription.timeout_ms}"
    )


def _late_subscription(observed: Observations) -> Entry | None:
    for generation in sorted({entry.generation for entry in observed.transcript}):
        asked = observed.calls(NEXT, generation=generation)
        calls = observed.calls(SUBSCRIBE, generation=generation)
        if asked and (late := [call for call in calls if call.began > asked[0].began]):
            return late[0]
    return None


@check("listens before it subscribes", TELEMETRY + "Specifying a destination protocol")
def serves_before_subscribing(warm: Observations) -> Finding:
    if not warm.subscriptions:
        return not_applicable("It has no telemetry subscription.")
    at_subscribe = warm.transcript.listeners_at_subscribe
    if not at_subscribe or at_subscribe[-1] is None:
        return not_checked("This system does not say who listens.")
    open_ports = {listener.port for listener in at_subscribe[-1]}
    for subscription in warm.subscriptions:
        if subscription.port not in open_ports:
            return failed(
                f"Nobody listened on port {subscription.port} when the subscription for it came.",
                "Lambda sends at once, possibly before it answers; what meets a closed port is late, and a TCP"
                " subscription may be refused.",
            )
    return passed("Its listener was there when it subscribed.")


@check("listens where Lambda reaches it", TELEMETRY + "Specifying a destination protocol")
def listens_where_lambda_is(warm: Observations) -> Finding:
    if not warm.subscriptions:
        return not_applicable("It has no telemetry subscription.")
    if warm.listeners is None:
        return not_checked("This system does not say who listens.")
    for subscription in warm.subscriptions:
        here = warm.listening_on(subscription.port)
        if not here:
            return failed(
                f"Nobody listens on port {subscription.port} after the init.",
                "Lambda tries again with growing pauses, and in the end drops what it holds.",
                because=("serves-before-subscribing",),
            )
        if not any(listener.is_reached_at(warm.surroundings.host) for listener in here):
            addresses = ", ".join(sorted(str(listener.address) for listener in here))
            return failed(
                f"It listens on {addresses}:{subscription.port} only.",
                "sandbox.localdomain is a link-local address in Lambda, not loopback, so nothing ever arrives: listen"
                " on 0.0.0.0.",
            )
    return passed("It listens on an address at which Lambda reaches it.")
