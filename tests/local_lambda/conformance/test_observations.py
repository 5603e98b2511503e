"""When this machine may be the reason of an extension's trouble, by what was observed of it."""

import ipaddress
from typing import Any

import pytest

from local_lambda.conformance.machine import Listener
from local_lambda.conformance.model import Limits, Outcome
from local_lambda.conformance.observations import NEXT, REGISTER, Observations
from local_lambda.conformance.starting import registers_first
from local_lambda.conformance.surroundings import Surroundings
from local_lambda.phases import init
from local_lambda.rules.telemetry_events import timestamp
from tests.local_lambda.conformance.test_batches import subscription

UNRESOLVED = ["gaierror: Name or service not known\n"]
UP = init.Outcome(status="success", duration_ms=1.0, error_type=None, message="", payload=None)
CRASHED = init.Outcome(status="error", duration_ms=1.0, error_type="Extension.Crash", message="", payload=None)
LATE = init.Outcome(status="timeout", duration_ms=1.0, error_type="Runtime.Unknown", message="", payload=None)


def observed(*, addresses: tuple[str, ...] = (), taken: tuple[int, ...] = (), **changes: Any) -> Observations:
    """Return the observations of an environment whose extension is subscribed to port 1 and listens there."""
    here = Surroundings(why_not_own="a test.", host="127.0.0.2", machines_host="127.0.0.1", taken=frozenset(taken))
    given = {
        "init": UP,
        "subscriptions": [subscription("2025-01-29", ("platform",))],
        "listeners": frozenset(Listener(ipaddress.ip_address(address), 1) for address in addresses),
    }
    return Observations(name="mine", surroundings=here, **{**given, **changes})


def test_without_trouble_there_is_nothing_to_excuse() -> None:
    assert observed(addresses=("0.0.0.0",), output=UNRESOLVED).excuse == ""


@pytest.mark.parametrize("trouble", [{"init": CRASHED}, {"init": LATE}, {"addresses": ()}])
def test_trouble_is_excused_only_with_evidence(trouble: dict[str, Any]) -> None:
    assert "leads to 127.0.0.1" in observed(**{"addresses": ("0.0.0.0",), "output": UNRESOLVED, **trouble}).excuse
    assert observed(**{"addresses": ("0.0.0.0",), "output": ["oh\n"], **trouble}).excuse == ""


def test_who_bound_by_a_name_that_leads_elsewhere_here_is_not_to_be_reached_and_not_to_blame() -> None:
    assert "leads to 127.0.0.1" in observed(addresses=("127.0.0.1",)).excuse
    assert observed(addresses=("127.0.0.1", "127.0.0.3")).excuse == ""


def test_a_port_on_which_another_listened_before_tells_nothing_of_the_extension() -> None:
    assert observed(addresses=("0.0.0.0",), taken=(1,)).excuse.startswith("Port 1, where it listens, was taken")


def test_a_function_that_is_late_is_not_the_fault_of_an_extension_that_was_ready() -> None:
    late = observed(init=LATE, addresses=("0.0.0.0",))
    assert late.excuse == ""
    late.transcript.received("mine", NEXT)
    assert late.excuse == "The function did not start in time on this machine."
    late.transcript.received("runtime", "GET /2018-06-01/runtime/invocation/next")
    assert late.excuse == ""


def test_what_it_wrote_last_is_kept_short() -> None:
    assert observed().last_words == ""
    assert observed(output=["first\n", "x" * 300 + "\n", "\n"]).last_words == f" It wrote last: {'x' * 200}"
    go = ["panic: no such place\n", "\n", "goroutine 1 [running]:\n", "main.main()\n", "\t/src/main.go:57 +0x41b\n"]
    assert observed(output=go).last_words == " It wrote last: panic: no such place"
    node = ["TypeError: fetch is not a function\n", "    at start (/opt/x.js:3:1)\n", "\n", "Node.js v20.20.2\n"]
    assert observed(output=node).last_words == " It wrote last: TypeError: fetch is not a function"
    python = ["Traceback (most recent call last):\n", '  File "x", line 1\n', "ValueError: bad\n"]
    assert observed(output=python).last_words == " It wrote last: ValueError: bad"


@pytest.mark.parametrize(
    ("first_s", "again_s", "outcome"),
    [(0.2, None, Outcome.PASSED), (1.5, 0.2, Outcome.PASSED), (1.5, 1.4, Outcome.FAILED)],
)
def test_a_slow_start_is_held_against_it_if_the_next_one_is_slow_too(
    first_s: float, again_s: float | None, outcome: Outcome
) -> None:
    def started(after_s: float) -> Observations:
        start = {"type": "platform.initStart", "time": timestamp(100.0), "record": {}}
        seen = observed(telemetry=[start])
        entry = seen.transcript.received("mine", REGISTER)
        entry.began = 100.0 + after_s
        entry.close(200)
        return seen

    again = None if again_s is None else started(again_s)
    assert registers_first.judge(started(first_s), again, Limits()).outcome is outcome
