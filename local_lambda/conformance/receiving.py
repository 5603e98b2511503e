"""Checks of how an extension receives telemetry."""

from collections.abc import Sequence

from local_lambda.conformance.invoking import LIVES
from local_lambda.conformance.model import (
    TELEMETRY,
    Finding,
    check,
    failed,
    not_applicable,
    not_checked,
    noted,
    passed,
)
from local_lambda.conformance.observations import Observations, Post
from local_lambda.conformance.starting import COMES_UP

_REACHED = ("serves-before-subscribing", "listens-where-lambda-is")
_LIVES = (*COMES_UP, *LIVES)


@check(
    "answers telemetry with 2xx, whatever is in it",
    TELEMETRY + "Specifying a destination protocol, and Configuring memory usage and buffering",
)
def acknowledges_anything(flooded: Observations) -> Finding:
    if absent := _absent(flooded):
        return absent
    if refused := _refused(flooded.posts):
        return failed(
            f"It was sent {refused.what}: {_answer(refused)}.",
            "Lambda sends a batch again and again until it is answered 2xx, and meanwhile drops what comes after it.",
            because=_REACHED if refused.status is None and not refused.has_ended else _LIVES,
        )
    platforms = [one for one in flooded.deliveries() if one.status is not None and one.status >= 300]
    if platforms:
        return failed(
            f"It answered {platforms[0].status} to a batch of {platforms[0].sent}.",
            "Lambda sends the batch again and again until it is answered 2xx.",
        )
    return _took(flooded)


@check(
    "answers telemetry of a kind that Lambda does not send today",
    TELEMETRY + "Event schema reference; AWS adds types and members to it",
)
def acknowledges_what_may_come(hypothetical: Observations) -> Finding:
    if absent := _absent(hypothetical):
        return absent
    if refused := _refused(hypothetical.posts):
        return noted(
            f"It was sent {refused.what}: {_answer(refused)}.",
            "Lambda sends nothing like it today. Should it begin to, it repeats the batch until it is answered 2xx.",
            because=(*_REACHED, *_LIVES, "acknowledges-anything"),
        )
    return _took(hypothetical)


@check("answers a batch that comes again", TELEMETRY + "Specifying a destination protocol")
def answers_a_repeated_batch(flooded: Observations) -> Finding:
    if absent := _absent(flooded):
        return absent
    if flooded.subscriptions[0].protocol == "TCP":
        return not_applicable("Over TCP nothing is acknowledged, so nothing is repeated.")
    if flooded.repeated is None:
        return not_checked("It did not take the batches before.")
    if not flooded.repeated.is_accepted:
        return failed(
            f"A batch came again, whose answer nobody had waited for: {_answer(flooded.repeated)}.",
            "Lambda repeats what it has no answer for, and goes on repeating.",
            because=_LIVES,
        )
    return passed(f"It answered {flooded.repeated.status} to a batch that it had been sent before.")


@check("does not write lines about its own lines", TELEMETRY + "Creating a telemetry listener")
def does_not_feed_itself(flooded: Observations) -> Finding:
    if absent := _absent(flooded):
        return absent
    if "extension" not in flooded.subscribed_types:
        return not_applicable("It is not subscribed to the lines of extensions.")
    if not flooded.own_lines:
        return not_checked("It did not take the batches before.")
    lines = sum(flooded.own_lines)
    said = f"In {flooded.quiet_s:g} s in which nothing happened it wrote {lines} lines"
    if all(flooded.own_lines) and not all(flooded.unprompted_lines):
        return failed(
            f"{said}, each of which comes back to it as telemetry.",
            "Lambda sends it every line it writes: one line for each batch or record goes on for ever, and is billed.",
        )
    return passed(f"{said}{', as it does where it is sent nothing' if all(flooded.own_lines) else ''}.")


@check("loses no record that it acknowledged", TELEMETRY + "Specifying a destination protocol")
def delivers_what_it_acknowledged(warm: Observations, flooded: Observations) -> Finding:
    both = [warm, flooded]
    if not any("function" in observed.subscribed_types for observed in both):
        return not_applicable("It is not subscribed to the function's lines.")
    known = [observed for observed in both if observed.missing is not None]
    if not known:
        return not_checked("Only its destination could tell; give the suite `delivered` to ask it.")
    wanted = sum(len(observed.markers) for observed in known)
    missing = [marker for observed in known for marker in observed.missing or ()]
    if missing:
        return failed(
            f"{len(missing)} of {wanted} lines that it acknowledged did not arrive at their destination.",
            "What is acknowledged Lambda forgets.",
            because=("survives-freeze", "stays-alive"),
        )
    return passed(f"All {wanted} lines that it acknowledged arrived at their destination.")


def _absent(observed: Observations) -> Finding | None:
    """Return the reason why nothing could be sent, if any."""
    if not observed.came_up:
        consequence = "An environment comes up each time, or Lambda has none to offer."
        return failed(observed.why_not_up, consequence, because=_LIVES)
    if not observed.subscriptions:
        return not_applicable("It has no telemetry subscription.")
    return None


def _took(observed: Observations) -> Finding:
    posts = observed.posts
    if not observed.was_fed:
        return not_checked("The function did not get to run.")
    if not posts:
        return not_applicable("Nothing of the kind is sent to a subscription like its own.")
    taken = "took (over TCP: outlived)" if observed.subscriptions[0].protocol == "TCP" else "answered 2xx to"
    return passed(f"It {taken} {len(posts)} rare batches, from {posts[0].what} to {posts[-1].what}.")


def _refused(posts: Sequence[Post]) -> Post | None:
    return next((post for post in posts if not post.is_accepted), None)


def _answer(post: Post) -> str:
    return post.detail or "no answer" if post.status is None else f"it answered {post.status}"
