"""What is said of a sink's trouble: each cause once, at WARN, and never so often that it costs anything."""

import pytest

from telemetry_forwarder.delivery.trouble import MOST_KINDS, Reporter, cause_of, describe, no_answer
from telemetry_forwarder.errors import ConnectFailed, ConnectionLost, CredentialUnavailable, TimedOut, TransportError
from telemetry_forwarder.interfaces import (
    Cause,
    Delivered,
    Denied,
    DropReason,
    Partial,
    Rejected,
    Retry,
    TooLarge,
    Verdict,
    cause,
)
from tests.builders import Lines


class WallClock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return 0.0  # as in an environment that is frozen most of the time


class Desk:
    """A reporter, and what people see of it at the default level."""

    def __init__(self) -> None:
        self.clock = WallClock()
        self.lines = Lines()
        self.reporter = Reporter("s", self.lines.log, self.clock, lambda: 7)

    def trouble(self, *details: str) -> None:
        for detail in details:
            self.reporter.trouble(cause_of(Retry(detail=detail)))

    @property
    def seen(self) -> list[str]:
        return [line["message"] for line in self.lines.written if line["level"] == "WARN"]

    def pass_s(self, seconds: float) -> None:
        self.clock.now += seconds


def test_each_new_cause_is_said_whatever_was_said_before() -> None:
    desk = Desk()
    desk.trouble("HTTP 503", "HTTP 403", "host:443: no answer in time", "HTTP 503", "HTTP 403")
    assert desk.seen == ["Sink s: HTTP 503.", "Sink s: HTTP 403.", "Sink s: host:443: no answer in time."]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("HTTP 503 (request 1-5759e988-bd862e3fe1be46a9)", "HTTP 503 (request 1-5759e98a-0badc0de4bad46a9)"),
        ("HTTP 503: try again at 17:03:22", "HTTP 503: try again at 17:05:01"),
        ("HTTP 429: 120 requests too many", "HTTP 429: 3 requests too many"),
        ("127.0.0.1:5341: no connection (connection refused)", "127.0.0.1:60123: no connection (connection refused)"),
        (
            "refused 3 records and wants 2 again: HTTP 400, code 6",
            "refused 1 records and wants 9 again: HTTP 400, code 6",
        ),
    ],
)
def test_the_same_cause_in_other_words_is_not_a_new_one(one: str, other: str) -> None:
    desk = Desk()
    desk.trouble(one, other)
    assert len(desk.seen) == 1


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("HTTP 503", "HTTP 502"),
        ("HTTP 400, code 6: x", "HTTP 400, code 7: x"),
        ("h:443: no connection (connection refused)", "h:443: no connection (network is unreachable)"),
        ("denied: HTTP 403", "HTTP 403"),
    ],
)
def test_another_status_code_or_step_is_a_new_cause(one: str, other: str) -> None:
    desk = Desk()
    desk.trouble(one, other)
    assert len(desk.seen) == 2


def test_recovery_is_said_at_the_level_of_the_trouble_and_once() -> None:
    desk = Desk()
    desk.reporter.recovered()
    assert desk.seen == []
    desk.trouble("HTTP 503")
    desk.reporter.recovered()
    desk.reporter.recovered()
    assert desk.seen == ["Sink s: HTTP 503.", "Sink s is delivering again."]


def test_a_cause_that_comes_back_is_said_again() -> None:
    desk = Desk()
    desk.trouble("HTTP 503")
    desk.reporter.recovered()
    desk.trouble("HTTP 503")
    assert desk.seen == ["Sink s: HTTP 503.", "Sink s is delivering again.", "Sink s: HTTP 503."]


def test_a_destination_that_comes_and_goes_does_not_fill_the_log() -> None:
    """An invocation a second for a day, and every other one fails."""
    desk = Desk()
    hours = []
    for _ in range(24):
        before = len(desk.seen)
        for _ in range(1800):
            desk.trouble("HTTP 503")
            desk.reporter.recovered()
            desk.pass_s(2.0)
        hours.append(len(desk.seen) - before)
    assert hours[0] == 14
    assert set(hours[1:]) <= {0, 2, 4}
    assert desk.seen[-1] == "Sink s is delivering again.", "the last word is true"


def test_an_outage_that_began_unsaid_is_said_when_it_lasts() -> None:
    desk = Desk()
    for _ in range(3):
        desk.trouble("HTTP 503")
        desk.reporter.recovered()
    assert len(desk.seen) == 4
    for _ in range(61):
        desk.trouble("HTTP 503")
        desk.pass_s(1.0)
    assert desk.seen[4:] == ["Sink s: HTTP 503."]


def test_ever_other_causes_are_bounded_too() -> None:
    desk = Desk()
    words = [chr(97 + a) + chr(97 + b) for a in range(26) for b in range(26)]
    desk.trouble(*words)
    assert len(desk.seen) <= MOST_KINDS + 2


def test_a_note_is_said_once_and_is_no_trouble() -> None:
    desk = Desk()
    for lost in (6, 12, 19):
        desk.reporter.note(f"its buffer is full; {lost} records were dropped")
    desk.reporter.recovered()
    assert desk.seen == ["Sink s: its buffer is full; 6 records were dropped."]
    assert desk.reporter.reason is DropReason.DEADLINE


def test_what_only_takes_its_time_is_not_told_at_the_default_level() -> None:
    desk = Desk()
    desk.reporter.waiting(Cause("sdk", "the AWS SDK is being loaded", is_normal=True))
    assert desk.seen == []
    assert desk.lines.said("being loaded") == 1
    desk.reporter.waiting(Cause("secret", "no answer", DropReason.SECRET_UNREADABLE))
    assert desk.seen == ["Sink s: no answer."]
    assert desk.reporter.reason is DropReason.SECRET_UNREADABLE


def test_the_last_cause_is_what_the_records_are_dropped_for() -> None:
    desk = Desk()
    desk.trouble("HTTP 503")
    assert (desk.reporter.reason, desk.reporter.because) == (DropReason.DEADLINE, ": HTTP 503")
    desk.reporter.trouble(cause_of(Denied("HTTP 404", DropReason.WRONG_ADDRESS)))
    assert (desk.reporter.reason, desk.reporter.because) == (DropReason.WRONG_ADDRESS, ": denied: HTTP 404")
    desk.reporter.blame(None)
    assert desk.reporter.reason is DropReason.WRONG_ADDRESS
    desk.reporter.recovered()
    assert (desk.reporter.reason, desk.reporter.because) == (DropReason.DEADLINE, "")


def test_a_text_without_end_is_cut() -> None:
    assert len(cause("x" * 100_000).text) <= 1001


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ConnectFailed("x"), DropReason.UNREACHABLE),
        (CredentialUnavailable("x"), DropReason.SECRET_UNREADABLE),
        (ConnectionLost("x"), DropReason.DEADLINE),
        (TimedOut("x"), DropReason.DEADLINE),
    ],
)
def test_no_answer_keeps_why(error: TransportError, reason: DropReason) -> None:
    assert no_answer(error) == Retry(detail="x", reason=reason)


@pytest.mark.parametrize(
    ("verdict", "words"),
    [
        (Delivered(), "delivered"),
        (Retry(), "asked to come back later"),
        (Retry(detail="503"), "503"),
        (Rejected("bad"), "refused: bad"),
        (TooLarge("413"), "too large: 413"),
        (Denied("401"), "denied: 401"),
        (Partial((1,), {0: DropReason.REJECTED}, 0.0, "x"), "refused 1 records and wants 1 again: x"),
    ],
)
def test_a_verdict_is_said_in_a_few_words(verdict: Verdict, words: str) -> None:
    assert describe(verdict) == words
