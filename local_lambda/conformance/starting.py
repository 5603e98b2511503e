"""Checks of the start: the executable, the registration, and what comes before the first event."""

from datetime import datetime
from pathlib import Path

from local_lambda.conformance.model import (
    Finding,
    Limits,
    failed,
    not_applicable,
    not_checked,
    passed,
)
from local_lambda.conformance.observations import NEXT, REGISTER, SUBSCRIBE, Seen, Visit
from local_lambda.transcript import Entry

_FIRST_LINE_BYTES = 256


def why_it_cannot_start(extension: Path) -> str:
    """Return what is wrong with the file, as a sentence; empty when nothing is to be seen."""
    with extension.open("rb") as file:
        first = file.read(_FIRST_LINE_BYTES).partition(b"\n")[0]
    if not extension.stat().st_mode & 0o111:
        return "The file is not executable (chmod 755; a ZIP made on Windows loses the bit)."
    if first.startswith(b"#!"):
        if first.endswith(b"\r"):
            return "Its first line ends in CR LF, so the kernel looks for an interpreter whose name ends in CR."
        interpreter = first[2:].split()[0].decode("utf-8", "replace") if first[2:].split() else ""
        if not Path(interpreter).is_file():
            return f"Its interpreter {interpreter!r} does not exist."
    elif not first.startswith(b"\x7fELF"):
        return "It is neither a program for Linux nor does its first line name an interpreter."
    return ""


def starts(seen: Seen, limits: Limits) -> Finding:
    visit = seen["warm"]
    if visit.started:
        return passed("It was executed.")
    return failed(
        f"It cannot be executed: {visit.init.message if visit.init else ''}",
        "Lambda fails the init with Extension.LaunchError.",
    )


def registers(seen: Seen, limits: Limits) -> Finding:
    visit = seen["warm"]
    if not visit.started:
        return not_checked("It did not start.")
    calls = visit.calls(REGISTER)
    mine = [call for call in calls if call.name == visit.name]
    if any(call.status == 200 for call in mine):
        return passed(f"It registered as {visit.name}, for {' and '.join(visit.registered_for) or 'no event'}.")
    waits = f"Lambda waits for it until the init fails, after {limits.init_s:g} s."
    if mine:
        return failed(f"Its registration was refused: {mine[0].answer}.", waits)
    if calls:
        consequence = f"Lambda takes any name but the file's own for that of an internal extension. {waits}"
        return failed(f"It registered as {calls[0].name!r}; its file is called {visit.name!r}.", consequence)
    if visit.crash:
        return failed("It ended before it registered.", f"Lambda fails the init with {visit.crash}.")
    return failed(f"It did not register within {limits.init_s:g} s.", waits)


def registers_first(seen: Seen, limits: Limits) -> Finding:
    visit = seen["warm"]
    calls = [call for call in visit.calls(REGISTER) if call.status == 200 and call.name == visit.name]
    if not calls:
        return not_checked("It did not register under its name.")
    began = datetime.fromisoformat(next(e["time"] for e in visit.telemetry if e["type"] == "platform.initStart"))
    after_ms = (calls[0].began - began.timestamp()) * 1000
    said = f"It registered {after_ms:.0f} ms after it was started"
    if after_ms <= limits.register_s * 1000:
        return passed(f"{said}.")
    return failed(
        f"{said}; the bound is {limits.register_s * 1000:.0f} ms.",
        "Lambda starts the runtime only when every extension has registered, so each cold start is longer by that.",
    )


def needs_no_stripped_variable(seen: Seen, limits: Limits) -> Finding:
    visit, disclosed = seen["warm"], seen.get("disclosed")
    if not visit.started:
        return not_checked("It did not start.")
    if disclosed is None:
        return passed("It works without the variables that Lambda keeps from extensions.")
    if disclosed.came_up and all(one.status == "success" for one in disclosed.invocations):
        return failed(
            "It works only when it sees variables such as _HANDLER or LAMBDA_TASK_ROOT.",
            "Lambda does not show it those, nor any whose name begins with an underscore.",
        )
    return passed("It fails with those variables and without: they are not the reason.")


def subscribes_in_time(seen: Seen, limits: Limits) -> Finding:
    visit = seen["warm"]
    calls = visit.calls(SUBSCRIBE)
    if not calls:
        if not visit.came_up:
            return not_checked("The environment did not come up.")
        return not_applicable("It does not subscribe to telemetry.")
    late = _late_subscription(visit)
    if late is not None:
        return failed(
            "It subscribed after it had asked for its first event.",
            "Once all are ready the init is over, and Lambda answers 403 Telemetry.SubscriptionClosed.",
        )
    refused = [call for call in calls if call.status not in (200, 202)]
    invalid = [call for call in refused if "ValidationError" in call.answer]
    if invalid or calls[-1] in refused:
        answer = (invalid or refused)[0].answer
        return failed(f"Its subscription was refused: {answer}.", "Lambda answers the same and sends it nothing.")
    fallback = f", after {len(refused)} refused" if refused else ""
    shown = "; ".join(
        f"{one.schema}, {'+'.join(one.types)}, maxItems {one.max_items}, maxBytes {one.max_bytes},"
        f" timeoutMs {one.timeout_ms}"
        for one in visit.subscriptions
    )
    return passed(f"It subscribed before its first event{fallback}: {shown}.")


def _late_subscription(visit: Visit) -> Entry | None:
    for generation in sorted({entry.generation for entry in visit.transcript}):
        asked = visit.calls(NEXT, generation=generation)
        calls = visit.calls(SUBSCRIBE, generation=generation)
        if asked and (late := [call for call in calls if call.began > asked[0].began]):
            return late[0]
    return None


def serves_before_subscribing(seen: Seen, limits: Limits) -> Finding:
    visit = seen["warm"]
    if not visit.subscriptions:
        return not_applicable("It has no telemetry subscription.")
    at_subscribe = visit.transcript.listeners_at_subscribe
    if not at_subscribe or at_subscribe[-1] is None:
        return not_checked("This system does not say who listens.")
    open_ports = {listener.port for listener in at_subscribe[-1]}
    for subscription in visit.subscriptions:
        if subscription.port not in open_ports:
            return failed(
                f"Nobody listened on port {subscription.port} when the subscription for it came.",
                "Lambda sends at once, possibly before it answers; what meets a closed port is late, and a TCP"
                " subscription may be refused.",
            )
    return passed("Its listener was there when it subscribed.")


def listens_where_lambda_is(seen: Seen, limits: Limits) -> Finding:
    visit = seen["warm"]
    if not visit.subscriptions:
        return not_applicable("It has no telemetry subscription.")
    if visit.listeners is None:
        return not_checked("This system does not say who listens.")
    for subscription in visit.subscriptions:
        here = [listener for listener in visit.listeners if listener.port == subscription.port]
        if not here:
            return failed(
                f"Nobody listens on port {subscription.port} after the init.",
                "Lambda tries again with growing pauses, and in the end drops what it holds.",
            )
        if not any(listener.is_reached_at(_HOST) for listener in here):
            addresses = ", ".join(sorted(str(listener.address) for listener in here))
            return failed(
                f"It listens on {addresses}:{subscription.port} only.",
                "sandbox.localdomain is a link-local address in Lambda, not loopback, so nothing ever arrives: listen"
                " on 0.0.0.0.",
            )
    return passed("It listens on an address at which Lambda reaches it.")


_HOST = "127.0.0.2"  # where sandbox.localdomain leads here: `Platform.telemetry_host`
