"""`telemetry-forwarder local`: what a person reads, and the exit code."""

import asyncio
import json
import os
import pty
import re
import signal
import sys
import zipfile
from pathlib import Path

from tests.integration.local_lambda_probe import FUNCTIONS, Probe, eventually, state_of
from tests.sharing import TMP

COMMAND = [sys.executable, "-c", "from telemetry_forwarder.cli import main; main()", "local"]
COMMAND += ["--code", str(FUNCTIONS), "--share", str(TMP)]


async def run(*arguments: str) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        *COMMAND, *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, error = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), error.decode()


async def test_it_prints_the_familiar_lines_and_how_long_each_extension_held_an_invocation(tmp_path: Path) -> None:
    probe = Probe(tmp_path)
    (tmp_path / "event.json").write_text('{"print": ["hello there"]}')
    code, out, _ = await run(
        *["--extension", str(probe.path), "--env", "=".join(probe.variable), "--count", "2"],
        *["--event", str(tmp_path / "event.json"), "--memory", "256", "--timeout", "5"],
    )
    assert code == 0
    assert len(re.findall(r"^START RequestId: [0-9a-f-]{36} Version: \$LATEST$", out, re.MULTILINE)) == 2
    assert len(re.findall(r"^END RequestId: ", out, re.MULTILINE)) == 2
    reports = re.findall(r"^REPORT RequestId: .*\tMemory Size: 256 MB\tMax Memory Used: \d+ MB.*$", out, re.MULTILINE)
    assert ["Init Duration" in report for report in reports] == [True, False]
    assert out.count("hello there") == 2
    assert len(re.findall(r"^   probe held the invocation for [\d.]+ ms$", out, re.MULTILINE)) == 2
    assert "probe exited with code 0" in out
    assert "\x1b" not in out, "no colours in a pipe"


async def test_json_gives_an_object_a_line(tmp_path: Path) -> None:
    probe = Probe(tmp_path)
    code, out, _ = await run("--json", "--extension", str(probe.path), "--env", "=".join(probe.variable))
    objects = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert [item["what"] for item in objects][-1] == "shutdown"
    invocation = next(item for item in objects if item["what"] == "invocation")
    assert invocation["payload"]["request_id"] == invocation["request_id"]
    assert {item["type"] for item in objects if item["what"] == "telemetry"} >= {"platform.start", "platform.report"}


async def test_it_says_what_each_extension_did_in_each_phase(tmp_path: Path) -> None:
    probe = Probe(tmp_path)
    of_it = ["--extension", str(probe.path), "--env", "=".join(probe.variable)]
    _, out, _ = await run(*of_it)
    # The probe leaves without waiting for its last report, which then may or may not have been sent.
    lines = [line for line in out.splitlines() if line.startswith("   ") and "not delivered" not in line]
    said = [re.sub(r"[\d.]+ ms", "N ms", line) for line in lines]
    assert said == [
        "   probe registered for INVOKE, SHUTDOWN N ms into the init",
        "   probe subscribed to platform, function",
        "   probe was ready N ms into the init",
        "   probe held the invocation for N ms",
        "   probe received SHUTDOWN (spindown)",
        "   probe exited with code 0 N ms after it received SHUTDOWN",
    ]
    _, out, _ = await run(*of_it, "--json")
    did = [item["did"] for item in map(json.loads, out.splitlines()) if item["what"] == "extension"]
    assert did == ["registered", "subscribed", "ready", "received_shutdown", "exited"]


async def test_every_way_to_end(tmp_path: Path) -> None:
    for number, (end, reason) in enumerate({"timeout": "timeout", "failure": "failure", "kill": None}.items()):
        probe = Probe(tmp_path, f"probe-{number}")
        code, out, _ = await run("--extension", str(probe.path), "--env", "=".join(probe.variable), "--end", end)
        assert code == 0
        reasons = [note["shutdownReason"] for note in probe.notes("event") if note["eventType"] == "SHUTDOWN"]
        assert reasons == ([] if reason is None else [reason])
        assert (f"SHUTDOWN Reason: {reason}" in out) is (reason is not None)


async def test_layers_bring_extensions_and_several_environments_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "layer" / "extensions").mkdir(parents=True)
    probe = Probe(tmp_path / "layer" / "extensions")
    archive = tmp_path / "layer.zip"
    with zipfile.ZipFile(archive, "w") as layer:
        layer.write(probe.path, "extensions/probe")
    code, out, _ = await run(
        *["--layer", str(archive), "--env", "=".join(probe.variable), "--concurrency", "3", "--count", "2"]
    )
    assert code == 0
    assert sorted(re.findall(r"^\[(\d)\] START", out, re.MULTILINE)) == ["1", "1", "2", "2", "3", "3"]
    assert len(re.findall(r"^\[\d\] REPORT .*Init Duration", out, re.MULTILINE)) == 3
    assert sorted(re.findall(r"^\[(\d)\]    probe exited with code 0", out, re.MULTILINE)) == ["1", "2", "3"]
    assert len({note["pid"] for note in probe.notes("start")}) == 3


async def test_on_a_terminal_it_is_coloured() -> None:
    master, slave = pty.openpty()
    process = await asyncio.create_subprocess_exec(*COMMAND, stdout=slave)
    os.close(slave)
    assert await process.wait() == 0
    assert b"\x1b[90mSTART RequestId" in os.read(master, 65536)
    os.close(master)


async def test_bad_input_is_one_sentence_and_a_code_that_is_not_0(tmp_path: Path) -> None:
    (tmp_path / "event.json").write_text("{")
    for arguments, words in [
        (["--function", "nothing.handler"], "Error: The handler 'nothing.handler' needs nothing.py"),
        (["--extension", str(tmp_path / "nowhere")], "nowhere is not a file."),
        (["--memory", "1"], "Error: Memory is 1 MB"),
        (["--event", str(tmp_path / "event.json")], "is not JSON"),
        (["--env", "NAME"], "'NAME' is not of the form NAME=VALUE."),
    ]:
        code, out, error = await run(*arguments)
        assert code != 0
        assert words in error
        assert out == ""
        assert "Traceback" not in error


async def test_a_function_that_does_not_come_up_shows_its_own_words() -> None:
    code, out, error = await run("--function", "broken.handler")
    assert code == 1
    assert "RuntimeError: nothing works" in out
    assert error == "Error: The environment did not come up (Runtime.Unknown): nothing works\n"


async def test_an_interrupt_leaves_no_process_behind(tmp_path: Path) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        probe = Probe(tmp_path, f"probe-{number}")
        process = await asyncio.create_subprocess_exec(
            *COMMAND,
            *["--extension", str(probe.path), "--env", "=".join(probe.variable), "--count", "2", "--gap", "60"],
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        await eventually(lambda probe=probe: len(probe.notes("event")) == 1, timeout_s=10)  # type: ignore[misc]
        pid = probe.notes("start")[0]["pid"]
        os.kill(process.pid, number)
        assert await process.wait() != 0
        await eventually(lambda pid=pid: state_of(pid) is None)  # type: ignore[misc]
