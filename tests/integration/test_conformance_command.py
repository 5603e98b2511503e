"""`telemetry-forwarder conform`, and the fixtures of the pytest plugin."""

import io
import json
import os
import re
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from xml.etree import ElementTree

import junitparser
import pytest
from click.testing import CliRunner

from local_lambda.cli.conform import conform
from local_lambda.cli.conform_output import as_junit
from local_lambda.conformance import CHECKS, Outcome, Verdict
from local_lambda.conformance.machine import processes_with
from tests.integration.test_conformance import FUNCTIONS, GOOD, ROOT, WRONG, environment_in
from tests.sharing import TMP

QUICK = ["--freeze=0.3"]


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
        ([str(WRONG / "good"), "--only", "starts,stars"], "There is no check 'stars'; the checks are starts, "),
        ([str(WRONG / "good"), "--skip", ""], "There is no check ''; the checks are starts, "),
        ([str(WRONG / "good"), "--only=starts", "--skip=starts"], "No check is left"),
        ([str(WRONG / "good"), "--format", "tap"], "--format"),
        (["--layer", "nowhere.zip"], "The layer nowhere.zip is neither a directory nor a file."),
        (["--layer", str(FUNCTIONS)], "The layers have no extension: there is no file in extensions/ at their root."),
        ([], "There is nothing to judge: give an EXTENSION, or a --layer that has one."),
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


@pytest.fixture
def layer(tmp_path: Path) -> Path:
    """A layer with two extensions that are executable, one that is not, what is no extension, and a runtime."""
    path = tmp_path / "layer.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content, mode in [
            ("extensions/a-shell", (GOOD / "shell").read_bytes(), 0o755),
            ("extensions/b-not-executable", b"#!/bin/sh\n", 0o644),
            ("extensions/lib/notes.txt", b"no extension", 0o644),
            ("bootstrap", b"#!/bin/sh\nexit 1\n", 0o755),  # not for the suite's own function
        ]:
            member = zipfile.ZipInfo(name)
            member.external_attr = (0o100000 | mode) << 16
            archive.writestr(member, content)
    return path


def test_extensions_of_a_layer_are_judged_one_after_the_other_each_alone(layer: Path) -> None:
    options = ["--layer", str(layer), "--only", "starts,registers", "--only=next-once-per-invocation", "--json"]
    result = CliRunner().invoke(conform, [*options, *QUICK])
    assert result.exit_code == 1, result.output
    first, second = map(json.loads, result.output.splitlines())
    assert (first["extension"], first["passed"]) == ("a-shell", True)
    assert {check["verdict"] for check in first["checks"]} == {"passed"}
    assert (second["extension"], second["passed"]) == ("b-not-executable", False)
    assert [check["check"] for check in second["checks"]] == ["starts", "registers", "next-once-per-invocation"]


def test_an_extension_of_a_layer_is_chosen_by_its_file_name(layer: Path) -> None:
    options = ["--layer", str(layer), "--only", "starts,stays-alive"]
    result = CliRunner().invoke(conform, ["a-shell", *options, *QUICK])
    assert result.exit_code == 0, result.output
    assert result.output.splitlines()[0] == "a-shell"
    assert "2 passed." in result.output
    result = CliRunner().invoke(conform, ["c", *options])
    assert result.exit_code == 2
    assert "The layers have no extension 'c'; they have a-shell, b-not-executable." in result.output


def test_junit_is_read_by_others(layer: Path) -> None:
    options = ["--layer", str(layer), "--only", "starts,registers,fits-managed-instances,does-not-feed-itself"]
    result = CliRunner().invoke(conform, [*options, *QUICK, "--format", "junit"])
    assert result.exit_code == 1, result.output
    root = ElementTree.parse(io.BytesIO(result.output.encode())).getroot()
    assert [suite.get("name") for suite in root.findall("testsuite")] == ["a-shell", "b-not-executable"]
    good, bad = junitparser.JUnitXml.fromstring(result.output.encode())
    assert (good.tests, good.failures, good.errors, good.skipped) == (4, 0, 0, 1)
    assert (bad.tests, bad.failures, bad.errors, bad.skipped) == (4, 1, 0, 3)
    cases = {case.name: case for case in good}
    assert all(case.classname == "conform.a-shell" for case in good)
    assert cases["registers"].is_passed
    assert cases["does-not-feed-itself"].is_skipped
    assert cases["fits-managed-instances"].is_passed
    assert cases["fits-managed-instances"].system_out.startswith("note: It registered for ")
    (fault,) = next(case for case in bad if case.name == "starts").result
    assert (type(fault).__name__, fault.type) == ("Failure", "fault")
    assert "not marked as executable" in fault.message
    assert "Lambda fails the init" in fault.text


@pytest.mark.parametrize("outcome", list(Outcome))
def test_junit_is_well_formed_whatever_an_extension_does(outcome: Outcome) -> None:
    seen = "it wrote \x1b[31m \x00 \ud800 ]]> <a&b> \U0001f980"
    verdict = Verdict(check="a", title="T", source="S", outcome=outcome, seen=seen, consequence="C")
    ((case,),) = junitparser.JUnitXml.fromstring(as_junit([("x<\x01>", [verdict])]).encode())
    text = "".join(ElementTree.tostring(case._elem, encoding="unicode"))
    assert case.classname == "conform.x<\\x01>"
    if outcome is not Outcome.PASSED:
        assert "\\x1b[31m \\x00 \\ud800 ]]&gt; &lt;a&amp;b&gt; \U0001f980" in text


def test_an_extension_with_nothing_but_notes_passes(tmp_path: Path) -> None:
    options = ["--only", "starts,fits-managed-instances", *QUICK]
    result = CliRunner().invoke(conform, [str(GOOD / "shell"), *options])
    assert result.exit_code == 0, result.output
    assert re.search(r"^note +fits-managed-instances +It registered for", result.output, re.MULTILINE)
    assert "Managed Instances refuse INVOKE" in result.output
    assert result.output.splitlines()[-1] == "1 passed, 1 note."
    told = json.loads(CliRunner().invoke(conform, [str(GOOD / "shell"), *options, "--format=json"]).output)
    assert told["passed"] is True
    assert [check["verdict"] for check in told["checks"]] == ["passed", "note"]


def test_what_cannot_be_judged_here_is_no_fault_and_is_said_once(tmp_path: Path) -> None:
    result = CliRunner().invoke(conform, [str(GOOD / "opt-layer/extensions/opt-paths"), *QUICK])
    assert result.exit_code == 0, result.output
    assert result.output.count("/opt/opt-paths/main") == 1
    assert "As above." in result.output


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


def run_pytest(folder: Path, *options: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "pytest", "-p", "local_lambda.pytest_plugin", "-p", "no:xdist"]
    command += ["-p", "no:cacheprovider", "-o", "asyncio_default_fixture_loop_scope=function", "--asyncio-mode=auto"]
    command += [*options, "-W", "error", "-q", "."]
    return subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTEST_ADDOPTS": ""},
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )


def test_pytest_plugin_runs_each_check_as_a_test_and_closes_environments(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(PLUGIN_TEST.format(extension=str(WRONG / "exits-with-1")))
    done = run_pytest(tmp_path, "-rA")
    assert done.returncode == 1, done.stdout + done.stderr
    outcomes = dict(
        reversed(line.split(maxsplit=1))
        for line in done.stdout.splitlines()
        if line.startswith(("PASSED ", "FAILED ")) and "::" in line
    )
    skipped = sum(
        map(int, re.findall(r"^SKIPPED \[(\d+)\]", done.stdout, re.MULTILINE))
    )  # those of one reason in one row
    assert sum("test_conformance[" in name for name in outcomes) + skipped == len(CHECKS)
    failed = [name.partition(" ")[0] for name, outcome in outcomes.items() if outcome == "FAILED"]
    assert failed == ["test_it.py::test_conformance[exits-at-shutdown]"]
    assert outcomes["test_it.py::test_environments_close"] == "PASSED"
    pids = (tmp_path / "pids").read_text().split()
    assert len(pids) == 3
    assert not any(Path("/proc", pid, "cmdline").read_bytes() for pid in pids if Path("/proc", pid).exists())


def test_note_passes_and_is_a_property_of_the_test(tmp_path: Path) -> None:
    text = PLUGIN_TEST.format(extension=str(WRONG / "wants-invoke-always")).partition("async def")[0]
    (tmp_path / "test_it.py").write_text(text)
    done = run_pytest(tmp_path, "-k", "fits-managed-instances", "--junit-xml=out.xml", "-rP")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "InvalidEventType" in done.stdout
    (suite,) = junitparser.JUnitXml.fromfile(str(tmp_path / "out.xml"))
    (case,) = suite
    assert case.is_passed
    assert [(one.name, one.value.partition(":")[0]) for one in case.child(junitparser.Properties)] == [
        ("note", "fits-managed-instances")
    ]
