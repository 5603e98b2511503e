"""Checks of how an extension takes telemetry."""

from local_lambda.conformance.model import (
    Finding,
    Limits,
    failed,
    not_applicable,
    not_checked,
    passed,
)
from local_lambda.conformance.observations import Post, Seen, Visit

_NO_SUBSCRIPTION = "It has no telemetry subscription."


def acknowledges_anything(seen: Seen, limits: Limits) -> Finding:
    visit = seen["fed"]
    if absent := _absent(visit):
        return absent
    refused = [post for post in visit.posts if not post.is_accepted]
    if refused:
        return failed(
            f"It was sent {refused[0].what}: {_answer(refused[0])}.",
            "Lambda sends a batch again and again until it is answered 2xx, and meanwhile drops what comes after it.",
        )
    platforms = [one for one in visit.deliveries() if one.status is not None and one.status >= 300]
    if platforms:
        return failed(
            f"It answered {platforms[0].status} to a batch of {platforms[0].sent}.",
            "Lambda sends the batch again and again until it is answered 2xx.",
        )
    taken = "took (over TCP: outlived)" if visit.subscriptions[0].protocol == "TCP" else "answered 2xx to"
    return passed(f"It {taken} {len(visit.posts)} rare batches, from {visit.posts[0].what} to {visit.posts[-1].what}.")


def answers_a_repeated_batch(seen: Seen, limits: Limits) -> Finding:
    visit = seen["fed"]
    if absent := _absent(visit):
        return absent
    if visit.subscriptions[0].protocol == "TCP":
        return not_applicable("Over TCP nothing is acknowledged, so nothing is repeated.")
    if visit.repeated is None:
        return not_checked("It did not take the batches before.")
    if not visit.repeated.is_accepted:
        return failed(
            f"A batch came again, whose answer nobody had waited for: {_answer(visit.repeated)}.",
            "Lambda repeats what it has no answer for, and goes on repeating.",
        )
    return passed(f"It answered {visit.repeated.status} to a batch that it had been sent before.")


def does_not_feed_itself(seen: Seen, limits: Limits) -> Finding:
    visit = seen["fed"]
    if absent := _absent(visit):
        return absent
    if "extension" not in visit.subscribed_types:
        return not_applicable("It is not subscribed to the lines of extensions.")
    if not visit.own_lines:
        return not_checked("It did not take the batches before.")
    lines = sum(visit.own_lines)
    said = f"In {visit.quiet_s:g} s in which nothing happened it wrote {lines} lines"
    if all(visit.own_lines):
        return failed(
            f"{said}, each of which comes back to it as telemetry.",
            "Lambda sends it every line it writes: one line for each batch or record goes on for ever, and is billed.",
        )
    return passed(f"{said}.")


def delivers_what_it_acknowledged(seen: Seen, limits: Limits) -> Finding:
    visits = [seen["warm"], seen["fed"]]
    if not any("function" in visit.subscribed_types for visit in visits):
        return not_applicable("It is not subscribed to the function's lines.")
    known = [visit for visit in visits if visit.missing is not None]
    if not known:
        return not_checked("Only its destination could tell; give the suite `delivered` to ask it.")
    wanted = sum(len(visit.markers) for visit in known)
    missing = [marker for visit in known for marker in visit.missing or ()]
    if missing:
        return failed(
            f"{len(missing)} of {wanted} lines that it acknowledged did not arrive at their destination.",
            "What is acknowledged Lambda forgets.",
        )
    return passed(f"All {wanted} lines that it acknowledged arrived at their destination.")


def _absent(visit: Visit) -> Finding | None:
    """Return why nothing could be sent, if so."""
    if not visit.came_up:
        return failed(visit.why_not_up, "An environment comes up each time, or Lambda has none to offer.")
    if not visit.subscriptions:
        return not_applicable(_NO_SUBSCRIPTION)
    return None


def _answer(post: Post) -> str:
    return post.detail or "no answer" if post.status is None else f"it answered {post.status}"
