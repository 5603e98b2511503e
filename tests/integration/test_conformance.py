"""The conformance suite: what it says of our extension, of good ones, and of each of many wrong ones."""

import re
import socket
from pathlib import Path
from typing import Any

import pytest

from local_backends import SplunkHec
from local_lambda.conformance import (
    CHECKS,
    ConformanceError,
    Limits,
    Outcome,
    OwnFunction,
    Subject,
    Suite,
    Verdict,
    machine,
)
from local_lambda.conformance.layers import Layers
from local_lambda.conformance.machine import processes_with
from local_lambda.errors import InvalidSetting
from local_lambda.machine import file_system
from tests.sharing import TMP

ROOT = Path(__file__).parents[2]
WRONG = Path(__file__).parent / "wrong_extensions"
GOOD = Path(__file__).parent / "good_extensions"
FUNCTIONS = Path(__file__).parent / "functions"
# A few seconds less for those that never get ready, and for the freeze.
QUICK = Limits(init_s=3.0, freeze_s=0.3)
FAULT, NOTE = Outcome.FAILED, Outcome.NOTE


async def test_our_extension_passes_everything(tmp_path: Path) -> None:
    """With a local Splunk, which says whether the lines that were acknowledged arrived."""
    async with SplunkHec(token="hec-token") as splunk:
        environment = {
            "SPLUNK_HEC_URL": splunk.url,
            "SPLUNK_HEC_TOKEN": "hec-token",
            "TELEMETRY_FORWARDER_PORT": "{port}",
            "TELEMETRY_FORWARDER_TYPES": "platform,function,extension",
            "TELEMETRY_FORWARDER_LOG_LEVEL": "debug",
            "TELEMETRY_FORWARDER_SPOOL_DIR": str(tmp_path / "spool"),
        }
        subject = Subject(ROOT / "extensions/telemetry-forwarder", environment, shared=[TMP])
        suite = Suite(subject, delivered=lambda: [str(event.event) for event in splunk.events])
        verdicts = await suite.verdicts()
    assert [verdict for verdict in verdicts if verdict.outcome is not Outcome.PASSED] == []
    assert [verdict.check for verdict in verdicts] == [check.name for check in CHECKS]


async def test_small_correct_extension_fails_nothing(tmp_path: Path) -> None:
    """So each of the wrong ones, which differ from it in one thing, fails because of that thing."""
    verdicts = await suite_of("good", tmp_path).verdicts()
    others = {verdict.check: verdict.outcome for verdict in verdicts if verdict.outcome is not Outcome.PASSED}
    assert others == {"does-not-feed-itself": Outcome.NOT_APPLICABLE}


@pytest.fixture(params=["own", "shared"])
def has_own(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether environments have a file system and names of their own, where this machine lets them; and where not."""
    if request.param == "shared":
        monkeypatch.setattr("local_lambda.machine.file_system.why_not", lambda: "a test")
    elif reason := file_system.why_not():
        pytest.skip(f"no file systems of their own: {reason}")
    return bool(request.param == "own")


@pytest.mark.parametrize("extension", ["logs-api", "shell", "tcp"])
async def test_good_extension_is_told_no_fault(extension: str, tmp_path: Path, has_own: bool) -> None:
    """Each after the habits of extensions in the field. None is made for Managed Instances, which is only a note."""
    verdicts = await suite_of(extension, tmp_path, folder=GOOD).verdicts()
    complaints = {verdict.check: verdict.outcome for verdict in verdicts if verdict.is_complaint}
    assert complaints == {"fits-managed-instances": NOTE}
    assert not [verdict for verdict in verdicts if verdict.outcome is Outcome.NOT_CHECKED]


async def test_good_extension_that_binds_by_name(tmp_path: Path, has_own: bool) -> None:
    verdicts = await suite_of("binds-by-name", tmp_path, folder=GOOD).verdicts()
    assert_good_or_unknown(verdicts, set(), is_known=has_own, lacking="sandbox.localdomain leads nowhere")


async def test_good_extension_that_lives_in_opt(has_own: bool) -> None:
    with Layers([GOOD / "opt-layer"]) as layers, layers.alone("opt-paths") as (executable, opt):
        verdicts = await Suite(Subject(executable, opt=opt), QUICK).verdicts()
    notes = {"fits-managed-instances"}
    assert_good_or_unknown(verdicts, notes, is_known=has_own, lacking="/opt/opt-paths/main is not on this machine")


async def test_good_extension_without_the_layer_that_it_needs(has_own: bool) -> None:
    verdicts = await Suite(Subject(GOOD / "opt-layer/extensions/opt-paths"), QUICK).verdicts()
    lacking = f"/opt/opt-paths/main {'was not given' if has_own else 'is not on this machine'}"
    assert_good_or_unknown(verdicts, set(), is_known=False, lacking=lacking)


def assert_good_or_unknown(verdicts: list[Verdict], notes: set[str], *, is_known: bool, lacking: str) -> None:
    """Assert that these notes are all complaints; or, where something is lacking, that nothing is held against it."""
    complaints = {verdict.check: verdict.outcome for verdict in verdicts if verdict.is_complaint}
    unknown = [verdict for verdict in verdicts if verdict.outcome is Outcome.NOT_CHECKED]
    if is_known:
        assert (complaints, unknown) == (dict.fromkeys(notes, NOTE), [])
    else:
        assert complaints == {}
        assert any(lacking in verdict.seen for verdict in unknown), unknown


# What is only a note does no harm on Lambda as it is: Managed Instances are opted into, 202 is an answer of AWS's
# emulator alone, and nobody saw an empty list come.
@pytest.mark.parametrize(
    ("extension", "check", "outcome", "said"),
    [
        ("not-executable", "starts", FAULT, "not marked as executable"),
        ("crlf", "starts", FAULT, "CR LF"),
        ("no-such-interpreter", "starts", FAULT, "/usr/bin/python9.9 does not exist"),
        ("registers-another-name", "registers", FAULT, "'somebody-else'"),
        ("starts-slowly", "registers-first", FAULT, r"1[5-9]\d\d ms|[2-9]\d\d\d ms"),
        ("needs-the-handler", "needs-no-stripped-variable", FAULT, "_HANDLER"),
        ("listens-after-subscribing", "serves-before-subscribing", FAULT, "Nobody listened"),
        ("binds-loopback", "listens-where-lambda-is", FAULT, "127.0.0.1:"),
        ("subscribes-late", "subscribes-in-time", FAULT, "after it had asked"),
        ("wants-ten-items", "subscribes-in-time", FAULT, "maxItems should be between 1000 and 10000"),
        ("asks-twice", "next-once-per-invocation", FAULT, "Extension.InvalidExtensionState"),
        ("never-asks", "next-once-per-invocation", FAULT, "never asked"),
        ("never-asks-again", "holds-briefly", FAULT, "timeout"),
        ("holds-for-a-second", "holds-briefly", FAULT, r"up to 1[1-9]\d\d ms"),  # 1.2 s, less what the function took
        ("exits-after-registering", "stays-alive", FAULT, "exit code 0. It wrote last: it has had enough"),
        ("ends-after-the-first-event", "stays-alive", FAULT, "It ended"),
        ("dies-of-a-long-freeze", "survives-freeze", FAULT, "[Aa]fter a freeze"),
        ("answers-500", "acknowledges-anything", FAULT, "answered 500"),
        ("answers-500-to-an-empty-list", "acknowledges-what-may-come", NOTE, "an empty list: it answered 500"),
        ("dies-of-unknown-records", "acknowledges-anything", FAULT, "every platform event that there is: its process"),
        ("refuses-what-comes-again", "answers-a-repeated-batch", FAULT, "answered 409"),
        ("feeds-itself", "does-not-feed-itself", FAULT, "comes back|lines"),
        ("forgets", "delivers-what-it-acknowledged", FAULT, r"([45]) of \1 lines"),
        ("moves-to-another-port", "survives-reset", FAULT, "another body"),
        ("ignores-shutdown", "exits-at-shutdown", FAULT, "still there at the deadline"),
        ("asks-on-after-shutdown", "exits-at-shutdown", FAULT, "still there at the deadline"),
        ("exits-with-1", "exits-at-shutdown", FAULT, "exit code 1"),
        ("waits-for-a-report", "ends-uninvoked", FAULT, "the bound is 1500 ms|at the deadline"),
        ("leaves-a-daemon", "leaves-no-process", FAULT, "sleep 60"),
        ("needs-telemetry", "works-without-telemetry", NOTE, "not supported"),
        ("wants-invoke-always", "fits-managed-instances", NOTE, "InvalidEventType"),
    ],
)
async def test_wrong_extension_is_told_its_one_fault(
    extension: str, check: str, outcome: Outcome, said: str, tmp_path: Path
) -> None:
    """By the check that it breaks, and by no other. Whatever it does, nothing of it is left afterwards."""
    verdicts = await suite_of(extension, tmp_path).verdicts()
    complaints = [verdict for verdict in verdicts if verdict.is_complaint]
    assert [(verdict.check, verdict.outcome) for verdict in complaints] == [(check, outcome)], complaints
    (verdict,) = complaints
    assert re.search(said, verdict.seen), verdict.seen
    assert verdict.consequence
    assert "AWS" in verdict.source
    assert not processes_with(f"ARRIVED={tmp_path / 'arrived'}")


async def test_every_wrong_extension_is_in_the_table() -> None:
    marks = test_wrong_extension_is_told_its_one_fault.pytestmark  # type: ignore[attr-defined]
    named = {row[0] for mark in marks for row in mark.args[1]}
    assert named == {path.name for path in WRONG.iterdir() if path.is_file()} - {"good", "good.py"}
    assert {row[1] for mark in marks for row in mark.args[1]} == {check.name for check in CHECKS}


async def test_what_has_another_fault_for_its_reason_names_it(tmp_path: Path) -> None:
    """If that other one is not asked for, it is a fault of its own: nothing is hidden by a choice."""
    whole = suite_of("binds-loopback", tmp_path)
    verdict = await whole.verdict("acknowledges-anything")
    assert verdict.outcome is Outcome.NOT_CHECKED
    assert verdict.seen.startswith("listens-where-lambda-is says why: It was sent ")
    alone = suite_of("binds-loopback", tmp_path, only=["acknowledges-anything"])
    assert [(verdict.check, verdict.outcome) for verdict in await alone.verdicts()] == [
        ("acknowledges-anything", FAULT)
    ]


async def test_a_port_that_is_taken_here_is_not_held_against_the_extension(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that the suite chose itself is chosen anew."""
    with socket.socket() as other:
        other.bind(("0.0.0.0", 0))
        other.listen()
        taken = other.getsockname()[1]
        fixed = Subject(WRONG / "good", environment_in(tmp_path) | {"PORT": str(taken)}, shared=[TMP])
        verdict = await Suite(fixed, QUICK).verdict("stays-alive")
        assert (verdict.outcome, "taken on this machine" in verdict.seen) == (Outcome.NOT_CHECKED, True), verdict
        ports = iter([taken, machine.free_port()])
        monkeypatch.setattr(machine, "free_port", lambda: next(ports))
        assert (await suite_of("good", tmp_path).verdict("stays-alive")).outcome is Outcome.PASSED
    assert next(ports, None) is None


async def test_checks_are_chosen_by_name(tmp_path: Path) -> None:
    suite = suite_of("good", tmp_path, only=["stays-alive", "starts", "registers"], skip=["registers"])
    assert [verdict.check for verdict in await suite.verdicts()] == ["starts", "stays-alive"]
    with pytest.raises(InvalidSetting, match=r"no check 'stars'; the checks are starts, needs-no-"):
        suite_of("good", tmp_path, skip=["stars"])
    with pytest.raises(InvalidSetting, match="No check is left"):
        suite_of("good", tmp_path, only=["starts"], skip=["starts"])


async def test_one_that_never_gets_ready_is_not_tried_again_and_again(tmp_path: Path) -> None:
    verdicts = await suite_of("registers-another-name", tmp_path, Limits(init_s=1.0)).verdicts()
    outcomes = {verdict.check: verdict.outcome for verdict in verdicts}
    assert outcomes["registers"] is Outcome.FAILED
    assert outcomes["starts"] is Outcome.PASSED
    assert outcomes["survives-reset"] is outcomes["ends-uninvoked"] is Outcome.NOT_CHECKED


async def test_function_of_the_user_runs_in_each_invocation(tmp_path: Path) -> None:
    own = OwnFunction(code=FUNCTIONS, handler="lines.handler", event={"text": "from the user's own"})
    environment = environment_in(tmp_path)
    # One that stays for 1.6 s at SHUTDOWN, when the last lines come: `good` may end before them.
    suite = Suite(Subject(WRONG / "waits-for-a-report", environment, own, [TMP]), QUICK)
    assert (await suite.verdict("survives-freeze")).outcome is Outcome.PASSED
    assert (tmp_path / "arrived").read_text().count("from the user's own") == 4


async def test_function_that_fails_is_not_held_against_the_extension(tmp_path: Path) -> None:
    own = OwnFunction(code=FUNCTIONS, handler="lines.handler", event={"raise": True})
    suite = Suite(Subject(WRONG / "good", environment_in(tmp_path), own, [TMP]), QUICK)
    with pytest.raises(ConformanceError, match="asked to raise"):
        await suite.verdict("survives-freeze")


def test_page_names_every_check() -> None:
    page = (ROOT / "docs/conformance.md").read_text()
    rows = re.findall(r"^\| `([a-z-]+)` \|", page.partition("## The checks")[2], re.MULTILINE)
    assert rows == [check.name for check in CHECKS]


def environment_in(folder: Path) -> dict[str, str]:
    return {"PORT": "{port}", "ARRIVED": str(folder / "arrived")}


def suite_of(extension: str, tmp_path: Path, limits: Limits = QUICK, *, folder: Path = WRONG, **chosen: Any) -> Suite:
    arrived = tmp_path / "arrived"

    def delivered() -> list[str]:
        return arrived.read_text().splitlines() if arrived.exists() else []

    return Suite(Subject(folder / extension, environment_in(tmp_path), shared=[TMP]), limits, delivered, **chosen)


def test_verdict_reads_as_a_sentence() -> None:
    verdict = Verdict(
        check="starts", title="", outcome=Outcome.FAILED, seen="It did not.", consequence="Lambda fails.", source="AWS"
    )
    assert str(verdict) == "starts: FAILED. It did not. Lambda fails. (AWS)"
    assert verdict.as_dict()["lambda"] == "Lambda fails."
