"""Checks that received spans are trees: for the end of a test, when all of them have come."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from local_backends.otlp_messages import attributes_of

_SERVER = 2
# What Lambda does around a function belongs to the function's own span of a request, and begins before it.
_PLATFORM = "lambda.platform"
_TOLERANCE_NS = 1_000_000


def assert_trees(spans: Iterable[Mapping[str, Any]], external: Iterable[str] = ()) -> None:
    """Check `spans` (as OTLP/JSON has them); raise AssertionError with the first fault.

    Every parent was received, or is in `external` (span ids); a request has exactly one SERVER span; children lie
    within their parent, to a millisecond, but for the platform's part of a request; a span that came twice is the same
    both times.
    """
    known: dict[tuple[str, str], Mapping[str, Any]] = {}
    for span in spans:
        before = known.setdefault((span["traceId"], span["spanId"]), span)
        _check(before == span, f"span {span['spanId']} came twice, and differs")
    outside = frozenset(external)
    servers: Counter[str] = Counter()
    requests = set()
    for span in known.values():
        parent_id = span.get("parentSpanId")
        parent = known.get((span["traceId"], parent_id)) if parent_id else None
        if parent_id and parent is None:
            _check(parent_id in outside, f"the parent {parent_id} of {span['name']!r} never came")
        attributes = attributes_of(span)
        if parent is not None and not attributes.get(_PLATFORM):
            _assert_within(span, parent)
        request = attributes.get("faas.invocation_id")
        if request is not None:
            requests.add(request)
            servers[request] += span.get("kind") == _SERVER
    for request in requests:
        _check(servers[request] == 1, f"{servers[request]} SERVER spans of request {request}")


def _assert_within(span: Mapping[str, Any], parent: Mapping[str, Any]) -> None:
    begins = span["startTimeUnixNano"] >= parent["startTimeUnixNano"] - _TOLERANCE_NS
    ends = span["endTimeUnixNano"] <= parent["endTimeUnixNano"] + _TOLERANCE_NS
    _check(begins and ends, f"{span['name']!r} is not within {parent['name']!r}")


def _check(is_so: bool, otherwise: str) -> None:
    if not is_so:
        raise AssertionError(otherwise)
