"""The conformance suite: what it says of our extension, of a small correct one, and of each of many wrong ones."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from local_backends import SplunkHec
from local_lambda.cli.conform import conform
from local_lambda.conformance import (
    CHECKS,
    ConformanceError,
    Limits,
    Outcome,
    OwnFunction,
    Subject,
    Suite,
    Verdict,
)
from local_lambda.conformance.machine import processes_with
from tests.sharing import TMP

ROOT = Path(__file__).parents[2]
WRONG = Path(__file__).parent / "wrong_extensions"
FUNCTIONS = Path(__file__).parent / "functions"
# A few seconds less for those that never get ready, and for the freeze.
QUICK = Limits(init_s=3.0, freeze_s=0.3)


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


@pytest.mark.parametrize(
    ("extension", "check", "said"),
    [
        ("not-executable", "starts", "not marked as executable"),
        ("crlf", "starts", "CR LF"),
        ("no-such-interpreter", "starts", "/opt/python9.9 does not exist"),
        ("registers-another-name", "registers", "'somebody-else'"),
        ("starts-slowly", "registers-first", r"1[5-9]\d\d ms|[2-9]\d\d\d ms"),
        ("needs-the-handler", "needs-no-stripped-variable", "_HANDLER"),
        ("listens-after-subscribing", "serves-before-subscribing", "Nobody listened"),
        ("binds-loopback", "listens-where-lambda-is", "127.0.0.1:"),
        ("subscribes-late", "subscribes-in-time", "after it had asked"),
        ("wants-ten-items", "subscribes-in-time", "maxItems should be between 1000 and 10000"),
        ("asks-twice", "next-once-per-invocation", "Extension.InvalidExtensionState"),
        ("never-asks", "next-once-per-invocation", "never asked"),
        ("never-asks-again", "holds-briefly", "timeout"),
        ("holds-for-a-second", "holds-briefly", r"up to 1[2-9]\d\d ms"),
        ("exits-after-registering", "stays-alive", "exit code 0"),
        ("ends-after-the-first-event", "stays-alive", "It ended"),
        ("dies-of-a-long-freeze", "survives-freeze", "[Aa]fter a freeze"),
        ("answers-500", "acknowledges-anything", "answered 500"),
        ("answers-500-to-an-empty-list", "acknowledges-anything", "an empty list: it answered 500"),
        ("dies-of-unknown-records", "acknowledges-anything", "types that do not exist yet: its process ended"),
        ("refuses-what-comes-again", "answers-a-repeated-batch", "answered 409"),
        ("feeds-itself", "does-not-feed-itself", "comes back|lines"),
        ("forgets", "delivers-what-it-acknowledged", "5 of 5 lines"),
        ("moves-to-another-port", "survives-reset", "another body"),
        ("ignores-shutdown", "exits-at-shutdown", "still there at the deadline"),
        ("exits-with-1", "exits-at-shutdown", "exit code 1"),
        ("waits-for-a-report", "ends-uninvoked", "the bound is 1500 ms|at the deadline"),
        ("leaves-a-daemon", "leaves-no-process", "sleep 60"),
        ("needs-telemetry", "works-without-telemetry", "not supported"),
        ("wants-invoke-always", "fits-managed-instances", "InvalidEventType"),
    ],
)
async def test_wrong_extension_is_caught_by_name(extension: str, check: str, said: str, tmp_path: Path) -> None:
    """Whatever it does, nothing of it is left afterwards."""
    verdict = await suite_of(extension, tmp_path).verdict(check)
    assert verdict.outcome is Outcome.FAILED, verdict
    assert re.search(said, verdict.seen), verdict.seen
    assert verdict.consequence
    assert "AWS" in verdict.source
    assert not processes_with(f"ARRIVED={tmp_path / 'arrived'}")


async def test_every_wrong_extension_is_in_the_table() -> None:
    marks = test_wrong_extension_is_caught_by_name.pytestmark  # type: ignore[attr-defined]
    named = {row[0] for mark in marks for row in mark.args[1]}
    assert named == {path.name for path in WRONG.iterdir() if path.is_file()} - {"good", "good.py"}
    assert {row[1] for mark in marks for row in mark.args[1]} == {check.name for check in CHECKS}


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


def test_command_says_what_failed_and_where_aws_says_so(tmp_path: Path) -> None:
    arguments = [str(WRONG / "not-executable")]
    result = CliRunner().invoke(conform, arguments)
    assert result.exit_code == 1
    lines = result.output.splitlines()
    assert re.fullmatch(r"FAILED +starts +It is not marked as executable.*", lines[0])
    assert "Lambda fails the init with Extension.LaunchError" in lines[1]
    assert "AWS Lambda Extensions API" in lines[2]
    assert "\x1b" not in result.output
    assert lines[-1] == f"1 FAILED, {len(CHECKS) - 1} not checked."
    told = json.loads(CliRunner().invoke(conform, [*arguments, "--json"]).output)
    assert told["passed"] is False
    assert [check["check"] for check in told["checks"]] == [check.name for check in CHECKS]
    assert told["checks"][0]["verdict"] == "FAILED"


def test_command_ends_with_0_for_a_good_one(tmp_path: Path) -> None:
    options = [f"--env={name}={value}" for name, value in environment_in(tmp_path).items()]
    result = CliRunner().invoke(conform, [str(WRONG / "good"), *options, f"--share={TMP}", "--freeze=0.5"])
    assert result.exit_code == 0, result.output
    assert "FAILED" not in result.output


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["nowhere"], "The extension nowhere is not a file."),
        ([str(WRONG / "good"), "--env", "X"], "--env 'X' is not of the form NAME=VALUE."),
        ([str(WRONG / "good"), "--function", "nix.handler"], "The handler 'nix.handler' needs nix.py"),
        ([str(WRONG / "good"), "--function", "a.b", "--event", "{"], "--event is not JSON"),
        ([str(WRONG / "good"), "--hold", "0"], "--hold"),
        ([], "EXTENSION"),
    ],
)
def test_command_says_in_one_sentence_what_it_cannot_use(arguments: list[str], sentence: str) -> None:
    result = CliRunner().invoke(conform, arguments)
    assert result.exit_code == 2
    assert sentence in result.output
    assert "Traceback" not in result.output


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 128 + signal.SIGTERM), (signal.SIGINT, 1)])
def test_command_that_is_stopped_leaves_nothing(number: signal.Signals, code: int, tmp_path: Path) -> None:
    options = [f"--env={name}={value}" for name, value in environment_in(tmp_path).items()]
    program = "import sys; from telemetry_forwarder.cli import main; main(sys.argv[1:])"
    command = [sys.executable, "-c", program, "conform", str(WRONG / "holds-for-a-second"), *options, f"--share={TMP}"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        give_up_at = time.monotonic() + 10
        while not (tmp_path / "arrived").exists():  # it runs, and was sent telemetry
            assert time.monotonic() < give_up_at
            time.sleep(0.02)
        running.send_signal(number)
        assert running.wait(timeout=10) == code
    assert not processes_with(f"ARRIVED={tmp_path / 'arrived'}")


PLUGIN_TEST = """
from pathlib import Path

import pytest

from local_lambda import Platform
from local_lambda.conformance import Limits, Subject


@pytest.fixture(scope="module")
def conformance_subject(tmp_path_factory):
    arrived = tmp_path_factory.mktemp("destination") / "arrived"
    return Subject(Path({extension!r}), {{"PORT": "{{port}}", "ARRIVED": str(arrived)}}, shared=[arrived.parent])


@pytest.fixture(scope="module")
def conformance_limits():
    return Limits(freeze_s=0.3, init_s=4)


def test_conformance(conformance_check):
    conformance_check()


async def test_environments_close(local_lambda, request):
    first = await local_lambda(Path({extension!r}), platform=Platform(freeze=False))
    second = await local_lambda()
    assert (await first.invoke({{"lines": ["a"]}})).status == "success"
    assert (await second.invoke()).status == "success"
    Path("pids").write_text(" ".join(map(str, [*first.pids.values(), *second.pids.values()])))
"""


def test_pytest_plugin_runs_each_check_as_a_test_and_closes_environments(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(PLUGIN_TEST.format(extension=str(WRONG / "wants-invoke-always")))
    command = [sys.executable, "-m", "pytest", "-p", "local_lambda.pytest_plugin", "-p", "no:xdist"]
    command += ["-p", "no:cacheprovider", "-o", "asyncio_default_fixture_loop_scope=function", "--asyncio-mode=auto"]
    command += ["-rA", "-W", "error", "-q", "."]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTEST_ADDOPTS": ""},
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    outcomes = dict(
        reversed(line.split(maxsplit=1))
        for line in done.stdout.splitlines()
        if line.startswith(("PASSED ", "FAILED ")) and "::" in line
    )
    assert sum("test_conformance[" in name for name in outcomes) + done.stdout.count("SKIPPED [1]") == len(CHECKS)
    failed = [name.partition(" ")[0] for name, outcome in outcomes.items() if outcome == "FAILED"]
    assert failed == ["test_it.py::test_conformance[fits-managed-instances]"]
    assert outcomes["test_it.py::test_environments_close"] == "PASSED"
    pids = (tmp_path / "pids").read_text().split()
    assert len(pids) == 3
    assert not any(Path("/proc", pid, "cmdline").read_bytes() for pid in pids if Path("/proc", pid).exists())


def test_page_names_every_check() -> None:
    page = (ROOT / "docs/conformance.md").read_text()
    rows = re.findall(r"^\| `([a-z-]+)` \|", page.partition("## The checks")[2], re.MULTILINE)
    assert rows == [check.name for check in CHECKS]


def environment_in(folder: Path) -> dict[str, str]:
    return {"PORT": "{port}", "ARRIVED": str(folder / "arrived")}


def suite_of(extension: str, folder: Path, limits: Limits = QUICK) -> Suite:
    arrived = folder / "arrived"
    subject = Subject(WRONG / extension, environment_in(folder), shared=[TMP])
    return Suite(subject, limits, delivered=lambda: arrived.read_text().splitlines() if arrived.exists() else [])


def test_verdict_reads_as_a_sentence() -> None:
    verdict = Verdict(
        check="starts", title="", outcome=Outcome.FAILED, seen="It did not.", consequence="Lambda fails.", source="AWS"
    )
    assert str(verdict) == "starts: FAILED. It did not. Lambda fails. (AWS)"
    assert verdict.as_dict()["lambda"] == "Lambda fails."
