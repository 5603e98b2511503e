"""What an HTTP status means where a destination gives it no meaning of its own.

Nothing of an answer's body is quoted: it may echo what was sent. Source: a retry table
drawn from the vendors' pages and from the practice of Vector, the OpenTelemetry Collector and Datadog's Agent.
"""

import re
from collections.abc import Mapping

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
LOCATION = re.compile(r"https?://(?:[^/?#@]*@)?([A-Za-z0-9.:\[\]-]{1,253})(?:[/?#]|$)", re.ASCII)

UNAVAILABLE = (408, 425, 429)
NEVER = 501  # the one of the 5xx that another attempt cannot mend
AT_FAULT = {
    401: ("the credential was refused", DropReason.UNAUTHORIZED),
    403: ("the credential was refused", DropReason.UNAUTHORIZED),
    404: ("there is no such address", DropReason.WRONG_ADDRESS),
    405: ("the address takes no POST", DropReason.WRONG_ADDRESS),
    407: ("the proxy wants a credential", DropReason.UNREACHABLE),
}


def read_status(response: HttpResponse) -> Verdict:
    """Return what `response.status` alone says, with the wait that the headers ask for."""
    status = response.status
    detail = f"HTTP {status}"
    if 200 <= status < 300:
        return Delivered()
    if 300 <= status < 400:
        text = f"{detail}: redirected to {location_host(response.headers)}; redirects are not followed"
        return Denied(text, DropReason.WRONG_ADDRESS)
    if status == 413:
        return TooLarge(detail)
    if status in AT_FAULT:
        text, reason = AT_FAULT[status]
        return Denied(f"{detail}: {text}", reason)
    # What is no HTTP status at all came from something broken on the way, not from the destination.
    if status in UNAVAILABLE or (status != NEVER and not 400 <= status < 500):
        return Retry(after=wait_seconds(response.headers, "retry-after"), detail=detail)
    return Rejected(detail)


def wait_seconds(headers: Mapping[str, str], *names: str) -> float:
    """Return the longest wait that the headers `names` ask for; 0.0 where none does.

    Only seconds are read: the other form of Retry-After, a date, would need a clock.
    """
    found = (SECONDS.fullmatch(headers.get(name, "")) for name in names)
    return max((float(match[1]) for match in found if match), default=0.0)


def location_host(headers: Mapping[str, str]) -> str:
    """Return the host that a redirect names; the rest of the address may hold secrets."""
    match = LOCATION.match(headers.get("location", ""))
    return match[1] if match else "another address"
