"""What goes wrong on the local Lambda, and what is left then: the endings of sections 1.7, 1.8 and 5.4."""

import asyncio
import os
import signal
import socket
import time
from pathlib import Path

import pytest

from local_lambda import Function, InitFailed, LocalLambda, Platform
from local_lambda.errors import (
    AddressInUse,
    ExtensionNotFound,
    FunctionNotFound,
    InvalidSetting,
    TooManyExtensions,
)
from tests.integration.local_lambda_probe import FUNCTIONS, Probe, eventually, free_port, local_lambda, state_of

RETRY = Platform(on_init_failure="retry")


def records(env: LocalLambda, kind: str) -> list[dict[str, object]]:
    return [event["record"] for event in env.telemetry if event["type"] == kind]


@pytest.mark.fidelity("3.3-handled", "3.3-newline")
async def test_a_handled_exception_is_a_success_of_the_platform_and_an_error_for_the_caller(tmp_path: Path) -> None:
    probe = Probe(tmp_path)
    async with local_lambda(probe) as env:
        result = await env.invoke({"raise": "oh no"})
    assert (result.status, result.function_error, result.error_type) == ("success", "Unhandled", "ValueError")
    assert result.json()["errorMessage"] == "oh no"
    done = records(env, "platform.runtimeDone")[0]
    assert (done["status"], done["metrics"]["producedBytes"]) == ("success", 0)  # type: ignore[index]
    assert "spans" not in done
    lines = [record["record"] for record in probe.records() if record["type"] == "function"]
    assert len(lines) == 1, "the framed error report is one record"
    assert lines[0].startswith("[ERROR] ValueError: oh no\nTraceback")
    assert not lines[0].endswith("\n")


@pytest.mark.fidelity(
    "2.1-again",
    "2.4-after-reset",
    "3.3-timeout",
    "3.4-timedout",
    "5.4-runtime-done",
    "5.4-nothing-runs",
    "5.4-subscriptions",
    "5.4-counted",
)
async def test_a_timeout_resets_the_environment_and_the_next_invocation_starts_it_again(tmp_path: Path) -> None:
    """Section 5.4: SHUTDOWN timeout, report afterwards, suppressed init, subscriptions kept, the late report first."""
    probe = Probe(tmp_path, port=free_port(), shutdown=[{"sleep": 0.2}])
    async with local_lambda(probe, timeout_s=0.5) as env:
        before = env.instance_id
        first_pids = env.pids
        result = await env.invoke({"sleep": 5})
        assert env.pids == {}
        report = await env.report(result.request_id)
        second = await env.invoke()
        assert env.instance_id == before
        assert not set(first_pids.values()) & set(env.pids.values())
    assert (result.status, result.function_error, result.duration_ms) == ("timeout", "Unhandled", 500.0)
    assert result.json() == {
        "errorType": "Sandbox.Timedout",
        "errorMessage": f"RequestId: {result.request_id} Error: Task timed out after 0.50 seconds",
    }
    assert report["record"]["status"] == "timeout"
    assert report["record"]["metrics"]["durationMs"] == 500
    assert "initDurationMs" in report["record"]["metrics"], "it was a cold start"
    assert not {"errorType", "spans"} & set(report["record"])
    assert records(env, "platform.runtimeDone")[0]["status"] == "timeout"
    shutdown = next(note for note in probe.notes("event") if note["eventType"] == "SHUTDOWN")
    assert shutdown["shutdownReason"] == "timeout"
    # The second generation
    assert second.status == "success"
    assert second.init_duration_ms is None
    assert second.duration_ms > 50, "the init inside it counts"
    assert [record["phase"] for record in records(env, "platform.initStart")] == ["init", "invoke"]
    assert [call["answer"] for call in probe.calls("PUT /2022-07-01/telemetry")] == ['"OK"', '"AlreadySubscribed"']
    assert [record["state"] for record in records(env, "platform.telemetrySubscription")] == [
        "Subscribed",
        "Already subscribed",
    ]
    pid = probe.notes("start")[1]["pid"]
    first_batch = next(note for note in probe.notes("batch") if note["pid"] == pid)
    assert first_batch["records"][0]["type"] == "platform.report"
    assert first_batch["records"][0]["record"]["requestId"] == result.request_id


async def test_a_slow_extension_times_out_a_finished_handler(tmp_path: Path) -> None:
    probe = Probe(tmp_path, types=[], done=[{"sleep": 5}])
    platform = Platform(shutdown_s=0.3)
    async with local_lambda(probe, timeout_s=0.4, platform=platform) as env:
        result = await env.invoke()
    assert result.status == "timeout"
    assert result.json()["request_id"] == result.request_id, "its answer was on its way before"
    assert result.held_ms == {"probe": None}


@pytest.mark.fidelity("1.2-reasons", "3.1-status", "5.4-crash")
async def test_a_runtime_that_exits_fails_the_invocation_and_is_replaced(tmp_path: Path) -> None:
    probe = Probe(tmp_path, port=free_port())
    async with local_lambda(probe) as env:
        result = await env.invoke({"exit": 3, "print": ["last words"]})
        again = await env.invoke()
    assert (result.status, result.error_type, again.status) == ("error", "Runtime.ExitError", "success")
    assert result.json()["errorMessage"].endswith("Error: Runtime exited with error: exit status 3")
    assert [note.get("shutdownReason") for note in probe.notes("event")][:2] == [None, "failure"]
    assert records(env, "platform.report")[0]["errorType"] == "Runtime.ExitError"
    kinds = [event["type"] for event in env.telemetry]
    assert kinds.index("function") < kinds.index("platform.runtimeDone") < kinds.index("platform.report")


@pytest.mark.fidelity("1.7-crash")
async def test_an_extension_that_exits_fails_the_invocation_even_with_code_0(tmp_path: Path) -> None:
    probe = Probe(tmp_path, types=[], invoked=[{"exit": 0}])
    async with local_lambda(probe) as env:
        result = await env.invoke({"sleep": 1})
    assert (result.status, result.error_type) == ("error", "Extension.Crash")
    assert result.json()["errorMessage"] == f"RequestId: {result.request_id} Error: exit code 0"


@pytest.mark.fidelity("1.3-recorded")
async def test_exit_error_gives_the_crash_its_name(tmp_path: Path) -> None:
    call = {
        "call": ["POST", "/2020-01-01/extension/exit/error", {"errorMessage": "sorry"}],
        "headers": {"Lambda_Extension_Function_Error_Type": "Extension.Mine"},
    }
    probe = Probe(tmp_path, types=[], invoked=[call, {"exit": 1}])
    async with local_lambda(probe) as env:
        result = await env.invoke({"sleep": 1})
    assert result.error_type == "Extension.ExitError"
    assert probe.notes("call")[-1]["status"] == 202


@pytest.mark.parametrize(
    ("script", "error_type", "words"),
    [
        ({"at_start": [{"exit": 0}]}, "Extension.Crash", "the extension probe ended with exit code 0"),
        ({"registered": [{"exit": 4}]}, "Extension.Crash", "the extension probe ended with exit status 4"),
        ({"at_start": [{"sleep": 60}]}, "Runtime.Unknown", "the extension probe did not register within 0.6 s"),
        ({"registered": [{"sleep": 60}]}, "Runtime.Unknown", "the extension probe did not ask for its first event"),
        ({"events": ["INVOKE", "NAP"]}, "Extension.Crash", "the extension probe ended with exit status 7"),
    ],
)
@pytest.mark.fidelity("1.7-crash-status", "3.3-init-timeout")
async def test_an_extension_that_does_not_come_up_is_said_in_one_sentence(
    tmp_path: Path, script: dict[str, object], error_type: str, words: str
) -> None:
    probe = Probe(tmp_path, types=[], **script)
    env = local_lambda(probe, platform=Platform(init_limit_s=0.6, shutdown_s=0.3))
    with pytest.raises(InitFailed) as caught:
        await env.__aenter__()
    assert caught.value.error_type == error_type
    assert words in str(caught.value)
    assert env.pids == {}
    assert [state_of(note["pid"]) for note in probe.notes("start")] == [None]


@pytest.mark.fidelity("1.3-recorded")
async def test_init_error_gives_the_failed_init_its_name(tmp_path: Path) -> None:
    call = {
        "call": ["POST", "/2020-01-01/extension/init/error"],
        "headers": {"Lambda_Extension_Function_Error_Type": "Extension.NoConfig"},
    }
    probe = Probe(tmp_path, types=[], registered=[call, {"exit": 1}])
    with pytest.raises(InitFailed, match=r"Extension\.InitError"):
        await local_lambda(probe).__aenter__()


@pytest.mark.parametrize("text", ["#!/nowhere/python3\n", "#!/bin/sh\r\nexit 0\r\n", None])
@pytest.mark.fidelity("1.4-launch-error", "1.6-launch")
async def test_what_cannot_be_executed_is_a_launch_error(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "mine"
    path.write_text(text or "#!/bin/sh\n")
    path.chmod(0o755 if text else 0o644)
    env = LocalLambda(Function(code=FUNCTIONS), [path])
    with pytest.raises(InitFailed, match="cannot be executed") as caught:
        await env.__aenter__()
    assert caught.value.error_type == "Extension.LaunchError"
    assert records(env, "platform.extension")[0]["state"] == "LaunchError"


@pytest.mark.fidelity("1.7-crash-init")
async def test_a_failed_init_is_tried_once_more_inside_the_first_invocation(tmp_path: Path) -> None:
    """Section 1.7, captured: init error, again with phase invoke, then the caller reads Extension.Crash."""
    probe = Probe(tmp_path, at_start=[{"exit": 0}])
    async with local_lambda(probe, platform=RETRY) as env:
        result = await env.invoke()
    reports = records(env, "platform.initReport")
    assert [(report["phase"], report["status"], report["errorType"]) for report in reports] == [
        ("init", "error", "Extension.Crash"),
        ("invoke", "error", "Extension.Crash"),
    ]
    assert result.function_error == "Unhandled"
    assert result.json() == {
        "errorType": "Extension.Crash",
        "errorMessage": f"RequestId: {result.request_id} Error: exit code 0",
    }


async def test_a_module_that_cannot_be_imported_fails_init_with_the_runtimes_own_words(tmp_path: Path) -> None:
    with pytest.raises(InitFailed, match="nothing works"):
        await local_lambda(handler="broken.handler").__aenter__()
    async with local_lambda(Probe(tmp_path), handler="broken.handler", platform=RETRY) as env:
        result = await env.invoke()
    assert result.json()["errorMessage"] == "nothing works"
    assert result.function_error == "Unhandled"


async def test_an_init_that_takes_too_long_is_run_again_with_the_functions_timeout(tmp_path: Path) -> None:
    probe = Probe(tmp_path, types=[], at_start=[{"sleep": 0.4}])
    platform = Platform(init_limit_s=0.2, on_init_failure="retry")
    async with local_lambda(probe, platform=platform, timeout_s=5) as env:
        result = await env.invoke()
    assert [record["status"] for record in records(env, "platform.initReport")] == ["timeout", "success"]
    assert result.status == "success"
    assert result.duration_ms > 400


@pytest.mark.fidelity("4-too-large")
async def test_a_response_over_six_megabytes_is_refused(tmp_path: Path) -> None:
    async with local_lambda() as env:
        result = await env.invoke({"big": 7 * 1024 * 1024})
        calls = env.transcript.calls("runtime", f"POST /2018-06-01/runtime/invocation/{result.request_id}/response")
    assert calls[0].status == 413
    assert "Exceeded maximum allowed payload size (6291556 bytes)." in calls[0].answer
    assert (result.function_error, result.error_type) == ("Unhandled", "Function.ResponseSizeTooLarge")
    assert result.json() == {
        "errorType": "Function.ResponseSizeTooLarge",
        "errorMessage": "Response payload size exceeded maximum allowed payload size (6291556 bytes).",
    }


@pytest.mark.fidelity("1.7-crash")
async def test_a_process_that_dies_while_frozen_is_found_at_the_next_invocation(tmp_path: Path) -> None:
    probe = Probe(tmp_path, types=[])
    async with local_lambda(probe) as env:
        pid = env.pids["probe"]

        os.kill(pid, signal.SIGKILL)
        await env.until(lambda: "probe" not in env.pids)
        result = await env.invoke()
    assert result.status == "success"
    assert len(probe.notes("start")) == 2


async def test_an_exception_in_the_users_code_kills_everything_at_once(tmp_path: Path) -> None:
    probe = Probe(tmp_path, shutdown=[{"sleep": 10}], subscribed=[{"child": "sleep 60"}])
    pids: list[int] = []
    port = 0

    async def use() -> None:
        nonlocal port
        async with local_lambda(probe) as env:
            pids.extend([*env.pids.values(), probe.notes("child")[0]["child"]])
            port = int(env.api.partition(":")[2])
            raise ZeroDivisionError

    began = time.monotonic()
    with pytest.raises(ZeroDivisionError):
        await use()
    await eventually(lambda: [state_of(pid) for pid in pids] == [None] * 3)
    assert time.monotonic() - began < 5
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
    assert probe.notes("event") == []


@pytest.mark.parametrize("moment", ["init", "invoke", "frozen"])
async def test_a_cancellation_leaves_nothing_behind(tmp_path: Path, moment: str) -> None:
    probe = Probe(tmp_path, types=[], at_start=[{"sleep": 60}] if moment == "init" else [])
    reached = asyncio.Event()

    async def use() -> None:
        if moment == "init":
            reached.set()
        async with local_lambda(probe) as env:
            reached.set()
            await (env.invoke({"sleep": 60}) if moment == "invoke" else asyncio.Event().wait())

    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(use())
        await reached.wait()
        await eventually(lambda: bool(probe.notes("event" if moment == "invoke" else "start")))
        task.cancel()
    assert task.cancelled()
    assert [state_of(note["pid"]) for note in probe.notes("start")] == [None]


async def test_kill_ends_without_a_word(tmp_path: Path) -> None:
    probe = Probe(tmp_path)
    async with local_lambda(probe) as env:
        await env.invoke()
        await env.kill()
        assert env.pids == {}
    assert [note["eventType"] for note in probe.notes("event")] == ["INVOKE"]


async def test_a_port_in_use_is_said_in_one_sentence() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(AddressInUse, match=f"127.0.0.1:{port}"):
            await local_lambda(platform=Platform(api_port=port)).__aenter__()


def test_bad_input_is_said_in_one_sentence(tmp_path: Path) -> None:
    function = Function(code=FUNCTIONS)
    with pytest.raises(FunctionNotFound, match="does not exist"):
        Function(code=tmp_path / "nowhere")
    with pytest.raises(FunctionNotFound, match=r"needs nothing\.py"):
        LocalLambda(Function(code=FUNCTIONS, handler="nothing.handler"))
    with pytest.raises(FunctionNotFound, match=r"module\.function"):
        LocalLambda(Function(code=FUNCTIONS, handler="app"))
    with pytest.raises(InvalidSetting, match=r"The runtime ruby3\.4 cannot be run here"):
        LocalLambda(Function(code=FUNCTIONS, runtime="ruby3.4"))
    with pytest.raises(InvalidSetting, match="is not a Python that runs"):
        LocalLambda(Function(code=FUNCTIONS, python=tmp_path))
    with pytest.raises(InvalidSetting, match="not an absolute path"):
        Platform(shared_paths=[Path("here")])
    with pytest.raises(InvalidSetting, match="64 MB"):
        Function(code=FUNCTIONS, memory_mb=64)
    with pytest.raises(InvalidSetting, match="not a loopback address"):
        Platform(telemetry_host="192.0.2.1")
    with pytest.raises(ExtensionNotFound, match="is not a file"):
        LocalLambda(function, [tmp_path / "nowhere"])
    names = [Probe(tmp_path, f"probe-{number}").path for number in range(11)]
    with pytest.raises(TooManyExtensions, match="11 extensions"):
        LocalLambda(function, names)
    with pytest.raises(ExtensionNotFound, match="Two extensions"):
        LocalLambda(function, [names[0], names[0]])
