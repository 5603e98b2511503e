"""Turn HTTP responses into verdicts, for all statuses to which a destination gives no meaning of its own.

A body may echo what was sent, secrets included. So texts quote little of it: the message of a refusal, cut and
cleaned, and what `foreign` allows. Source: a retry table drawn from the vendors' pages and from the practice of
Vector, the OpenTelemetry Collector and Datadog's Agent.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import orjson
from msgspec import Struct

from telemetry_forwarder.foreign import is_page, what_answered
from telemetry_forwarder.interfaces import (
    Delivered,
    Denied,
    DropReason,
    HttpResponse,
    Rejected,
    Retry,
    TooLarge,
    Verdict,
)

SECONDS = re.compile(r"\s*(\d{1,9}(?:\.\d{1,9})?)\s*", re.ASCII)
_LOCATION = re.compile(r"https?://(?:[^/?#@]*@)?([A-Za-z0-9.:\[\]-]{1,253})(?:[/?#]|$)", re.ASCII)

_LONGEST_WORDS = 160
# Members in which services put an error message, the most specific first.
_SAID_IN = ("detail", "text", "message", "error", "title", "reason", "errors")
_MARKUP = re.compile(r"<(script|style)\b.*?</\1\s*>|<[^>]*>", re.DOTALL | re.IGNORECASE)
# A word as long as a token that holds a digit: it may be a token, or part of a record that was sent.
TOKEN = re.compile(r"(?=[A-Za-z_+/=-]*\d)[A-Za-z0-9_+/=-]{20,}", re.ASCII)

UNAVAILABLE = (408, 425, 429)
NEVER = 501  # the only 5xx for which a retry is useless


class Advice(Struct, frozen=True, kw_only=True):
    """The parts of error texts: a destination's name, and what to check if its credential or its address is wrong."""

    who: str
    credential: str
    address: str


def read_status(response: HttpResponse, advice: Advice) -> Verdict:
    """Return the verdict for `response.status`, with the wait that the headers ask for; `advice` is for its text.

    The sink must have looked for success before, by the body, because any web page may come with a 2xx. So a 2xx means
    here that something else answered, unless the body could not be read: then the status alone counts as success.
    """
    status = response.status
    detail = f"HTTP {status}"
    if 200 <= status < 300:
        return taken_unread(response) or not_theirs(response, advice)
    if 300 <= status < 400:
        text = f"{detail}: redirected to {_location_host(response.headers)}; redirects are not followed; "
        return Denied(text + f"check {advice.address}, and the proxy if there is one", DropReason.WRONG_ADDRESS)
    if status == 413:
        return TooLarge(detail)
    if status in (401, 403):
        return refused(response, advice)
    if status in (404, 405):
        what = "there is nothing at this address" if status == 404 else "this address takes no POST"
        return Denied(f"{detail}: {what}; check {advice.address}", DropReason.WRONG_ADDRESS)
    if status == 407:
        text = f"{detail}: the proxy wants a user name and password; check HTTPS_PROXY and HTTP_PROXY"
        return Denied(text, DropReason.UNREACHABLE)
    # A number that is no valid HTTP status comes from something broken on the way, not from the destination: retry.
    if status in UNAVAILABLE or (status != NEVER and not 400 <= status < 500):
        return Retry(after=wait_seconds(response.headers, "retry-after"), detail=detail)
    return Rejected(detail + own_words(response.body))


def own_words(body: bytes) -> str:
    """Return the error message in a response body as ` ("message")`, to append to a sentence; "" if there is none."""
    try:
        said = next(_texts_in(orjson.loads(body)), "")
    except orjson.JSONDecodeError:
        said = _MARKUP.sub(" ", body[:4096].decode("utf-8", "replace"))
    return quoted(said)


def _texts_in(answer: Any) -> Iterator[str]:
    """Yield the error messages in a parsed JSON body, the most specific first."""
    if isinstance(answer, str):
        yield answer
    elif isinstance(answer, list):
        for each in answer[:3]:
            yield from _texts_in(each)
    elif isinstance(answer, dict):
        for name in _SAID_IN:
            yield from _texts_in(answer.get(name))


def quoted(text: str) -> str:
    """Return ` ("text")`, on one line, cut and without possible secrets; "" if `text` is empty."""
    text = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
    text = TOKEN.sub("***", text).replace('"', "'")
    if len(text) > _LONGEST_WORDS:
        text = text[:_LONGEST_WORDS] + "…"
    return f' ("{text}")' if text else ""


def refused(response: HttpResponse, advice: Advice) -> Denied:
    """Return the verdict for a 401 or 403: a wrong credential, or, if the body is a page, perhaps a proxy's refusal."""
    detail = f"HTTP {response.status}: {advice.who} refused the credential; check {advice.credential}"
    if is_page(response.body, response.headers):
        answer = what_answered(response.status, response.body, response.headers)
        detail += f", or what stands between, as it was not {advice.who} that answered {answer}"
    return Denied(detail)


def not_theirs(response: HttpResponse, advice: Advice) -> Denied:
    """Return the verdict for a 2xx that did not come from the destination: nothing was delivered."""
    answer = what_answered(response.status, response.body, response.headers)
    text = f"{answer}: that is not how {advice.who} takes records, so something else answered; check "
    return Denied(f"{text}{advice.address}, and the proxy if there is one", DropReason.WRONG_ADDRESS)


def taken_unread(response: HttpResponse) -> Delivered | None:
    """Return Delivered for a 2xx with an unreadable body: a retry would most likely store the records twice.

    Return None if the response has another status, was read in full, or is seen to be a page.
    """
    if not response.unreadable or not 200 <= response.status < 300 or is_page(response.body, response.headers):
        return None
    return Delivered(
        f"HTTP {response.status} with an answer that cannot be read ({response.unreadable}): by its status the records "
        "were taken, and they are not sent again"
    )


def wait_seconds(headers: Mapping[str, str], *names: str) -> float:
    """Return the longest wait, in seconds, that the headers `names` ask for; 0.0 if none does.

    The other form of Retry-After, a date, is ignored, because it would need a clock.
    """
    found = (SECONDS.fullmatch(headers.get(name, "")) for name in names)
    return max((float(match[1]) for match in found if match), default=0.0)


def _location_host(headers: Mapping[str, str]) -> str:
    """Return only the host that a redirect leads to, because the rest of the URL may hold secrets."""
    match = _LOCATION.match(headers.get("location", ""))
    return match[1] if match else "another address"
