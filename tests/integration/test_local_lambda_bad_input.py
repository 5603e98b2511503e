"""What goes wrong with `telemetry-forwarder local` is one sentence, a code that is not 0, and leaves nothing behind."""

import asyncio
import json
import os
import shutil
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.integration.local_lambda_probe import FUNCTIONS, Probe, eventually, state_of
from tests.sharing import TMP

COMMAND = [sys.executable, "-c", "from telemetry_forwarder.cli import main; main()", "local"]
CODE = ["--code", str(FUNCTIONS), "--share", str(TMP)]


def of(probe: Probe) -> list[str]:
    return [*CODE, "--extension", str(probe.path), "--env", "=".join(probe.variable)]


async def run(*arguments: str) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        *COMMAND, *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, error = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), error.decode()


def pids_of(probe: Probe) -> list[int]:
    return [note["pid"] for note in probe.notes("start")]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            [*CODE, "--function", "nothing.handler"],
            f"The handler 'nothing.handler' needs nothing.py, which is not in {FUNCTIONS}.",
        ),
        ([*CODE, "--function", "app"], "The handler 'app' is not of the form module.function."),
        (["--code", "/nowhere"], "The function's code directory /nowhere does not exist."),
        ([*CODE, "--extension", "/nowhere/mine"], "The extension /nowhere/mine is not a file."),
        ([*CODE, "--layer", "/nowhere.zip"], "The layer /nowhere.zip is neither a directory nor a file."),
        ([*CODE, "--layer", f"{FUNCTIONS}/app.py"], "cannot be unzipped: File is not a zip file."),
        ([*CODE, "--memory", "1"], "Memory is 1 MB; Lambda allows 128 to 10240."),
        ([*CODE, "--timeout", "901"], "The timeout is 901.0 s; Lambda allows up to 900, and it must be above 0."),
        ([*CODE, "--event", f"{FUNCTIONS}/app.py"], f"--event: {FUNCTIONS}/app.py is not JSON: "),
        ([*CODE, "--env", "NAME"], "--env 'NAME' is not of the form NAME=VALUE."),
        ([*CODE, "--command", "'"], '--command "\'" cannot be split into words: No closing quotation.'),
        ([*CODE, "--concurrency", "0"], "The concurrency is 0; 1 to 1000 are possible."),
    ],
)
async def test_what_is_asked_wrongly_is_one_sentence_and_code_2(arguments: list[str], sentence: str) -> None:
    code, out, error = await run(*arguments)
    assert code == 2
    assert out == ""
    assert error.startswith("Error: ")
    assert sentence in error
    assert error.count("\n") == 1


async def test_a_handler_that_the_module_does_not_have() -> None:
    code, _, error = await run(*CODE, "--function", "app.nothing")
    assert code == 1
    assert error.startswith("Error: The environment did not come up (")
    assert "Handler 'nothing' missing on module 'app'" in error
    assert error.count("\n") == 1


async def test_a_port_in_use() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, _, error = await run(*CODE, "--serve", str(port))
    assert code == 1
    assert error == f"Error: The API cannot listen on 127.0.0.1:{port}: address already in use.\n"


async def test_an_extension_that_never_registers(tmp_path: Path) -> None:
    probe = Probe(tmp_path, at_start=[{"sleep": 60}])
    code, _, error = await run(*of(probe), "--init-limit", "1")
    assert code == 1
    assert error == (
        "Error: The environment did not come up (Runtime.Unknown): the extension probe did not register within 1 s.\n"
    )
    assert [state_of(pid) for pid in pids_of(probe)] == [None]


async def test_an_extension_that_registers_twice(tmp_path: Path) -> None:
    register = ["POST", "/2020-01-01/extension/register", {"events": ["INVOKE"]}]
    probe = Probe(tmp_path, registered=[{"call": register, "headers": {"Lambda_Extension_Name": "probe"}}])
    code, out, error = await run(*of(probe))
    assert code == 1
    assert error == (
        "Error: The extension probe was refused POST /2020-01-01/extension/register: 403 "
        "Extension.InvalidExtensionState: State transition from Registered to Registered failed for extension probe. "
        "Error: State transition is not allowed.\n"
    )
    assert "=> {" in out, "the function ran all the same, as on Lambda"


async def test_an_extension_that_ignores_shutdown_and_sigterm(tmp_path: Path) -> None:
    probe = Probe(tmp_path, note_sigterm=True, shutdown=[{"sleep": 60}])
    code, out, error = await run(*of(probe))
    assert code == 1
    assert error == "Error: The extension probe had not exited at the deadline of SHUTDOWN and was killed.\n"
    assert "probe was killed" in out
    assert [state_of(pid) for pid in pids_of(probe)] == [None]


async def test_an_extension_that_exits_badly_at_shutdown(tmp_path: Path) -> None:
    code, _, error = await run(*of(Probe(tmp_path, exit_code=3)))
    assert (code, error) == (1, "Error: The extension probe exited with code 3 at SHUTDOWN; Lambda expects 0.\n")


async def test_an_extension_that_is_killed_by_request_is_no_failure(tmp_path: Path) -> None:
    code, _, error = await run(*of(Probe(tmp_path)), "--end", "kill")
    assert (code, error) == (0, "")
    code, _, error = await run(*of(Probe(tmp_path, events=["INVOKE"])))
    assert (code, error) == (0, ""), "who is not registered for SHUTDOWN is killed on Lambda, too"


async def test_an_extension_that_ends_in_an_invocation(tmp_path: Path) -> None:
    (tmp_path / "event.json").write_text('{"sleep": 5}')
    probe = Probe(tmp_path, invoked=[{"exit": 5}])
    code, out, error = await run(*of(probe), "--timeout", "10", "--event", str(tmp_path / "event.json"))
    assert code == 1
    assert error == "Error: The extension probe ended with code 5 outside of a shutdown.\n"
    assert '"errorType":"Extension.Crash"' in out


async def test_two_environments_with_a_fixed_port_are_told_of_the_option(tmp_path: Path) -> None:
    with socket.socket() as probe_socket:
        probe_socket.bind(("0.0.0.0", 0))
        port = probe_socket.getsockname()[1]
    probe = Probe(tmp_path, port=port)
    code, _, error = await run(*of(probe), "--concurrency", "2", "--file-system", "shared")
    assert code == 1
    assert "(Extension.Crash): the extension probe ended with exit status 1." in error
    assert error.endswith("name the variable that holds the port with --port-variable.\n")
    assert [state_of(pid) for pid in pids_of(probe)] == [None] * len(pids_of(probe))


# What is left behind


@asynccontextmanager
async def started(*arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *COMMAND, *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


def is_free(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) != 0


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)], ids=["int", "term", "kill"]
)
@pytest.mark.parametrize("moment", ["frozen", "busy"])
async def test_an_end_in_the_middle_leaves_no_process_and_no_port(
    number: signal.Signals, code: int, moment: str, tmp_path: Path
) -> None:
    """SIGKILL stands for a crash of the emulator itself."""
    probe = Probe(tmp_path, invoked=[{"child": "sleep 60"}])
    (tmp_path / "event.json").write_text(json.dumps({"sleep": 60 if moment == "busy" else 0}))
    arguments = [*of(probe), "--count", "2", "--gap", "60", "--timeout", "90", "--event", str(tmp_path / "event.json")]
    async with started(*arguments) as process:
        await eventually(lambda: bool(probe.notes("child")), timeout_s=10)
        pids = [*pids_of(probe), probe.notes("child")[0]["child"]]
        if moment == "frozen":
            await eventually(lambda: state_of(pids[0]) == "T", timeout_s=10)
        api = int(probe.notes("start")[0]["environ"]["AWS_LAMBDA_RUNTIME_API"].rpartition(":")[2])
        group = os.getpgid(pids[0])
        process.send_signal(number)
        assert await process.wait() == code
        await eventually(lambda: [state_of(pid) for pid in pids] == [None, None], timeout_s=5)
        with pytest.raises(ProcessLookupError):
            await eventually(lambda: os.killpg(group, 0) is not None, timeout_s=5)
        assert is_free(api)
    if number is not signal.SIGKILL:
        assert [note["eventType"] for note in probe.notes("event")] == ["INVOKE", "SHUTDOWN"]


async def test_a_second_interrupt_does_not_wait(tmp_path: Path) -> None:
    probe = Probe(tmp_path, shutdown=[{"sleep": 60}])
    async with started(*of(probe), "--count", "2", "--gap", "60") as process:
        await eventually(lambda: len(probe.notes("event")) == 1, timeout_s=10)
        # Frozen, so the invocation is over: an extension that is still at it may be killed before it sees SHUTDOWN.
        await eventually(lambda: state_of(pids_of(probe)[0]) == "T", timeout_s=10)
        process.send_signal(signal.SIGINT)
        await eventually(lambda: len(probe.notes("event")) == 2, timeout_s=10)
        process.send_signal(signal.SIGINT)
        assert await process.wait() != 0
        assert state_of(pids_of(probe)[0]) is None


async def test_a_reader_that_leaves_ends_it(tmp_path: Path) -> None:
    probe = Probe(tmp_path)
    command = " ".join([*map(_quoted, [*COMMAND, *of(probe), "--count", "3"]), "| head -n 1"])
    process = await asyncio.create_subprocess_exec(
        "bash", "-c", f"{command}; exit ${{PIPESTATUS[0]}}",
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, error = await process.communicate()
    assert out.startswith(b"INIT_START")
    assert b"Traceback" not in error
    assert [state_of(pid) for pid in pids_of(probe)] == [None]


def _quoted(word: str) -> str:
    return "'" + word.replace("'", "'\\''") + "'"


# The endpoint and --watch


async def test_serve_ends_with_shutdown_events_at_ctrl_c(tmp_path: Path) -> None:
    probe = Probe(tmp_path)
    async with started(*of(probe), "--serve", "0", "--json") as process:
        assert process.stdout is not None
        told = json.loads(await process.stdout.readline())
        assert (told["what"], told["function"]) == ("listening", "local-function")
        host, port = told["url"].removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        path = "/2015-03-31/functions/local-function/invocations"
        writer.write(f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{{}}".encode())
        assert await reader.readline() == b"HTTP/1.1 200 OK\r\n"
        process.send_signal(signal.SIGINT)
        out, error = await process.communicate()
        writer.close()
    assert (process.returncode, error) == (0, b"")
    assert json.loads(out.splitlines()[-1])["what"] == "shutdown"
    assert [note["eventType"] for note in probe.notes("event")] == ["INVOKE", "SHUTDOWN"]
    assert is_free(int(port))


async def test_watch_starts_again_when_code_or_extension_changes(tmp_path: Path) -> None:
    code = tmp_path / "code"
    shutil.copytree(FUNCTIONS, code, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "extensions").mkdir()
    probe = Probe(tmp_path / "extensions")

    async def until(wanted: str) -> None:
        async with asyncio.timeout(20):
            while wanted not in (await stdout.readline()).decode():
                pass

    arguments = [
        "--code",
        str(code),
        "--share",
        str(TMP),
        "--extension",
        str(probe.path),
        "--env",
        "=".join(probe.variable),
    ]
    async with started(*arguments, "--watch") as process:
        assert process.stdout is not None
        stdout = process.stdout
        await until("held the invocation")
        (code / "app.py").write_text("def handler(event, context):\n    return 'the second'\n")
        await until(f"Restarting: {code / 'app.py'}")
        await until('=> "the second"')
        (code / "app.py").write_text("not python")
        await until("Status: error")
        (code / "app.py").write_text("def handler(event, context):\n    return 'the third'\n")
        await until('=> "the third"')
        probe.path.write_text(probe.path.read_text() + "\n")
        await until(f"Restarting: {probe.path}")
        await until('=> "the third"')
        process.send_signal(signal.SIGINT)
        _, error = await process.communicate()
    assert process.returncode == 0
    assert b"The environment did not come up (" in error
    assert [state_of(pid) for pid in pids_of(probe)] == [None] * 5
