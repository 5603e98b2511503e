"""The Extensions API to the byte, with the test speaking for the extensions. Numbers are sections of the reference."""

import asyncio
import json
import re
import uuid
from datetime import datetime
from pathlib import Path
from typing import Literal

import pytest

from local_lambda import Function, LocalLambda, Platform
from local_lambda.machine.rooms import why_not
from local_lambda.rules.telemetry_events import timestamp
from tests.integration.local_lambda_probe import FUNCTIONS, Probe, eventually, local_lambda, state_of
from tests.integration.puppets import (
    BRISK,
    EXTENSION,
    RUNTIME,
    TELEMETRY,
    Listener,
    Puppets,
    coming_up,
    play_init,
    puppet_lambda,
    up,
)
from tests.sharing import sharing

OK = b'{"status":"OK"}\n'


@pytest.mark.fidelity("1.1-answer", "1.1-account", "1.1-content-type", "1.1-events-missing", "1.1-name")
async def test_a_registration_is_answered_to_the_byte(tmp_path: Path) -> None:
    env = puppet_lambda(tmp_path, "puppet.sh", name="orders", account_id="210987654321")
    about = b'"functionName":"orders","functionVersion":"$LATEST","handler":"app.handler"}\n'
    async with coming_up(env) as puppets:
        await env.until(lambda: "puppet.sh" in env.pids)
        first = await puppets.register("puppet.sh", "INVOKE", Lambda_Extension_Accept_Feature="naps,accountId")
        # Any other name, even the file's without its suffix, is an internal extension.
        vendor = await puppets.call(
            "POST",
            f"{EXTENSION}/register",
            b"{}",
            Lambda_Extension_Name="puppet",
            Content_Type="application/vnd.aws.lambda.extension+json",
        )
        plain = await puppets.register("inside", Content_Type="application/json")
        for answer, body in [(first, b'{"accountId":"210987654321",' + about), (vendor, b"{" + about)]:
            assert (answer.status, answer.body) == (200, body)
            assert answer.headers["Content-Type"] == "application/json"
            identifier = answer.headers["Lambda-Extension-Identifier"]
            assert str(uuid.UUID(identifier)) == identifier
        assert plain.status == 200
        refused = await puppets.register("else", "SHUTDOWN")
        assert refused.json()["errorMessage"] == "SHUTDOWN: ShutdownEventNotSupportedForInternalExtension"
        await env.until(lambda: "runtime" in env.pids)
        await _fail_init(puppets)


async def _fail_init(puppets: Puppets) -> None:
    await puppets.call("POST", f"{RUNTIME}/init/error", b"{}")


@pytest.mark.fidelity("1.2-invoke", "1.2-deadline", "1.2-tracing", "3.3-untraced")
async def test_invoke_is_this_to_the_byte(tmp_path: Path) -> None:
    env = puppet_lambda(tmp_path, "puppet", region="eu-west-1", timeout_s=5.0)
    trace = "Root=1-68c4a1f0-3b2a90d1c7e845f6a0b1c2d3;Parent=7f3e1d2c4b5a6978;Sampled=0;Lineage=1:0399f0f7:0"
    async with up(env, "puppet") as ready:
        invoking = ready.invoke({"secret": 1}, request_id="r-1", trace=trace)
        event = await ready.waits["puppet"]
        start = next(event for event in env.telemetry if event["type"] == "platform.start")
        deadline_ms = event.json()["deadlineMs"]
        assert event.status == 200
        assert event.body == (
            b'{"eventType":"INVOKE","deadlineMs":%d,"requestId":"r-1",'
            b'"invokedFunctionArn":"arn:aws:lambda:eu-west-1:123456789012:function:local-function",'
            b'"tracing":{"type":"X-Amzn-Trace-Id","value":"%b"}}' % (deadline_ms, trace.encode())
        )
        assert timestamp((deadline_ms - 5000) / 1000) == start["time"]
        assert event.headers.keys() - {"Date"} == {
            "Content-Type",
            "Content-Length",
            "Lambda-Extension-Event-Identifier",
        }
        assert event.headers["Content-Type"] == "application/json"
        assert uuid.UUID(event.headers["Lambda-Extension-Event-Identifier"])
        invoking.cancel()


@pytest.mark.fidelity("1.2-shutdown", "1.2-reasons")
async def test_shutdown_is_this_to_the_byte_and_spindown_after_a_failed_init(tmp_path: Path) -> None:
    env = puppet_lambda(tmp_path, "puppet")
    async with coming_up(env) as puppets:
        await env.until(lambda: "puppet" in env.pids)
        identifier = await puppets.registered("puppet", "INVOKE", "SHUTDOWN")
        waiting = asyncio.ensure_future(puppets.next_event(identifier))
        await env.until(lambda: "runtime" in env.pids)
        await _fail_init(puppets)
        event = await waiting
    body = rb'\{"eventType":"SHUTDOWN","deadlineMs":\d{13},"shutdownReason":"spindown"\}'
    assert re.fullmatch(body, event.body)
    assert event.headers.keys() - {"Date"} == {"Content-Type", "Content-Length"}
    assert event.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert event.headers["Content-Length"] == "79"


@pytest.mark.fidelity("1.2-busy", "5.4-told")
async def test_a_busy_extension_hears_of_the_timeout_late_with_the_same_deadline(tmp_path: Path) -> None:
    platform = Platform(shutdown_s=0.8, runtime_share_s=0.1)
    env = puppet_lambda(tmp_path, "idle", "busy", timeout_s=0.2, platform=platform)
    async with up(env, "idle", "busy") as ready:
        invoking = ready.invoke()
        await ready.waits["busy"]
        await ready.waits["idle"]
        idle = await ready.puppets.next_event(ready.ids["idle"])
        await asyncio.sleep(0.3)  # the busy one is at something else
        busy = await ready.puppets.next_event(ready.ids["busy"])
        result = await invoking
    done = next(event for event in env.telemetry if event["type"] == "platform.runtimeDone")
    assert idle.json() == busy.json()
    assert idle.json()["shutdownReason"] == "timeout"
    assert result.status == done["record"]["status"] == "timeout"
    cut_off_ms = datetime.fromisoformat(done["time"]).timestamp() * 1000
    assert idle.json()["deadlineMs"] == pytest.approx(cut_off_ms + 800, abs=30)


@pytest.mark.fidelity("1.3-accepted", "1.3-recorded", "1.3-init-error")
async def test_init_error_only_records_until_the_process_ends(tmp_path: Path) -> None:
    env = puppet_lambda(tmp_path, "puppet")
    async with coming_up(env) as puppets:
        await env.until(lambda: "puppet" in env.pids)
        identifier = await puppets.registered("puppet")
        headers = {
            "Lambda_Extension_Identifier": identifier,
            "Lambda_Extension_Function_Error_Type": "Extension.Mine",
        }
        for _ in range(2):
            answer = await puppets.call("POST", f"{EXTENSION}/init/error", {"errorMessage": "no"}, **headers)
            assert (answer.status, answer.headers["Content-Type"], answer.body) == (202, "application/json", OK)
        await env.until(lambda: "runtime" in env.pids)
        assert env.init_outcome is None, "nothing has ended yet"
        await _fail_init(puppets)
    record = next(event["record"] for event in env.telemetry if event["type"] == "platform.extension")
    assert (record["state"], record["errorType"]) == ("InitError", "Extension.InitError")


@pytest.mark.fidelity("1.5-unknown", "5.4-same-environment")
async def test_an_identifier_from_before_a_reset_is_unknown(tmp_path: Path) -> None:
    env = puppet_lambda(tmp_path, "puppet", timeout_s=0.2)
    async with up(env, "puppet") as ready:
        instance, old = env.instance_id, ready.ids["puppet"]
        await env.invoke()
        assert env.pids == {}
        again = ready.invoke()
        second = await play_init(env, ready.puppets, "puppet")
        await second.waits["puppet"]
        refused = await ready.puppets.next_event(old)
        assert await again
    assert second.ids["puppet"] != old
    assert env.instance_id == instance
    assert refused.status == 403
    assert refused.body == (
        b'{"errorMessage":"Unknown extension %b","errorType":"Extension.UnknownExtensionIdentifier"}\n' % old.encode()
    )
    await asyncio.gather(second.runtime, return_exceptions=True)


@pytest.mark.fidelity("1.5-disabled")
async def test_with_the_disabling_file_every_extension_route_is_not_found(tmp_path: Path) -> None:
    (tmp_path / "disable-extensions-jwigqn8j").touch()
    function = Function(code=FUNCTIONS, command=["/bin/sleep", "600"])
    env = LocalLambda(function, opt=tmp_path, platform=BRISK)
    async with up(env) as ready:
        call = ready.puppets.call
        answers = [
            await call("POST", f"{EXTENSION}/register", b"{}", Lambda_Extension_Name="x"),
            await call("GET", f"{EXTENSION}/event/next"),
            await call("POST", f"{EXTENSION}/init/error"),
            await call("POST", f"{EXTENSION}/exit/error"),
            await call("PUT", TELEMETRY, b"{}"),
        ]
    assert [answer.status for answer in answers] == [404] * 5


@pytest.mark.fidelity("1.6-regular-files")
@pytest.mark.parametrize("file_system", ["auto", "shared"])
async def test_every_regular_file_is_executed_without_arguments(
    tmp_path: Path, file_system: Literal["auto", "shared"]
) -> None:
    folder = tmp_path / "extensions"
    places = folder if file_system == "shared" or why_not() else Path("/opt/extensions")
    (folder / "directory").mkdir(parents=True)
    (folder / "directory" / "inner").write_text("#!/bin/sh\nexit 1\n")
    for name in ["one", "two.sh", ".hidden"]:
        (folder / name).write_text(f'#!/bin/sh\necho "$0 has $#" > {tmp_path}/{name}.txt\nexec sleep 600\n')
        (folder / name).chmod(0o755)
    env = LocalLambda(
        Function(code=FUNCTIONS, command=["/bin/sleep", "600"]),
        opt=tmp_path,
        platform=sharing(Platform(shutdown_s=0.1, runtime_share_s=0.05, freeze=False, file_system=file_system)),
    )
    names = {"one", "two.sh", ".hidden"}
    async with up(env, *names):
        assert env.pids.keys() == {"runtime", *names}
        await eventually(lambda: all((tmp_path / f"{name}.txt").exists() for name in names))
        await eventually(lambda: all((tmp_path / f"{name}.txt").read_text() for name in names))
    assert {name: (tmp_path / f"{name}.txt").read_text() for name in names} == {
        name: f"{places / name} has 0\n" for name in names
    }


@pytest.mark.fidelity("1.6-architecture", "1.4-launch-error")
async def test_a_program_for_another_processor_is_a_launch_error(tmp_path: Path) -> None:
    header = b"\x7fELF\x02\x01\x01" + bytes(9) + (2).to_bytes(2, "little") + (8).to_bytes(2, "little")  # 8: MIPS
    (tmp_path / "mips").write_bytes(header + bytes(44))
    (tmp_path / "mips").chmod(0o755)
    env = LocalLambda(Function(code=FUNCTIONS), [tmp_path / "mips"], platform=BRISK)
    async with env:
        assert env.init_outcome is not None
        assert env.init_outcome.error_type == "Extension.LaunchError"
    state = next(event["record"]["state"] for event in env.telemetry if event["type"] == "platform.extension")
    assert state == "LaunchError"


@pytest.mark.fidelity("1.7-runtime-asks", "1.7-all-ready", "1.7-subscription-closes", "1.5-closed", "1.7-init-events")
async def test_registration_closes_with_the_runtimes_first_call_and_subscribing_with_the_last_wait(
    tmp_path: Path,
) -> None:
    env = puppet_lambda(tmp_path, "puppet")
    async with Listener() as listener, coming_up(env) as puppets:
        await env.until(lambda: "puppet" in env.pids)
        assert "runtime" not in env.pids
        external = await puppets.registered("puppet")
        await env.until(lambda: "runtime" in env.pids)
        internal = await puppets.registered("inside", "INVOKE")
        runtime = asyncio.ensure_future(puppets.next_invocation())
        await env.until(lambda: len(env.transcript.calls("runtime", "GET ")) == 1)
        late = await puppets.register("late", "INVOKE")
        first = asyncio.ensure_future(puppets.next_event(external))
        await env.until(lambda: len(env.transcript.next_calls("puppet")) == 1)
        subscribed = await puppets.subscribe(internal, listener.subscription())
        assert env.init_outcome is None, "the internal one has not asked yet"
        second = asyncio.ensure_future(puppets.next_event(internal))
        await env.until(lambda: env.init_outcome is not None)
        too_late = await puppets.subscribe(internal, listener.subscription("2022-07-01"))
        order = [event["type"] for event in env.telemetry]
        for wait in (first, second, runtime):
            wait.cancel()
    assert (late.status, late.json()["errorType"]) == (403, "Extension.RegistrationClosed")
    assert (subscribed.status, too_late.status) == (200, 403)
    assert order == [
        "platform.initStart",
        "platform.telemetrySubscription",
        "platform.initRuntimeDone",
        "platform.extension",
        "platform.extension",
        "platform.initReport",
    ]


@pytest.mark.fidelity(
    "1.7-release", "1.7-runtime-done", "1.7-wait-invoke", "1.7-report-after-next", "1.7-shutdown-only", "3.3-spans"
)
async def test_an_invocation_ends_with_the_last_wait_of_those_subscribed_to_invoke(tmp_path: Path) -> None:
    def produced() -> list[str]:
        return [event["type"] for event in env.telemetry][types_before:]

    env = puppet_lambda(tmp_path, "puppet", platform=Platform(shutdown_s=0.1, runtime_share_s=0.05, freeze=False))
    async with up(env, "puppet") as ready:
        types_before = len(env.telemetry)
        invoking = ready.invoke()
        event, call = await ready.waits["puppet"], await ready.runtime
        assert produced() == ["platform.start"]
        request_id = call.headers["Lambda-Runtime-Aws-Request-Id"]
        assert request_id == event.json()["requestId"]
        await ready.puppets.respond(request_id)
        assert produced() == ["platform.start"], "the runtime has answered, not asked again"
        asking = asyncio.ensure_future(ready.puppets.next_invocation())
        await env.until(lambda: "platform.runtimeDone" in produced())
        assert not invoking.done()
        waiting = asyncio.ensure_future(ready.puppets.next_event(ready.ids["puppet"]))
        result = await invoking
        assert produced() == ["platform.start", "platform.runtimeDone", "platform.report"]
        spans = [[span["name"] for span in event["record"].get("spans", [])] for event in env.telemetry[types_before:]]
        asking.cancel()
        waiting.cancel()
    assert spans == [[], ["responseLatency", "responseDuration", "runtimeOverhead"], ["extensionOverhead"]]
    assert result.status == "success"


@pytest.mark.fidelity("1.8-share", "1.8-runtime-first", "1.2-shutdown-deadline")
async def test_the_runtimes_share_can_be_that_of_the_source(tmp_path: Path) -> None:
    probe = Probe(tmp_path, types=[])
    async with local_lambda(probe, handler="stubborn.handler", platform=Platform(runtime_share_s=0.6)) as env:
        end = await env.shutdown()
    event = probe.notes("event")[0]
    assert end.runtime_exit_code == -9
    assert event["deadlineMs"] - end.started_ms == 2000
    assert 1000 < event["left_ms"] <= 1400


@pytest.mark.fidelity("1.8-group", "1.8-no-sigterm")
async def test_at_the_deadline_a_whole_process_group_is_killed(tmp_path: Path) -> None:
    probe = Probe(tmp_path, types=[], subscribed=[{"child": "exec sleep 60"}], shutdown=[{"sleep": 30}])
    async with local_lambda(probe, platform=Platform(shutdown_s=0.3, runtime_share_s=0.1)) as env:
        child = probe.notes("child")[0]["child"]
        end = await env.shutdown()
    await eventually(lambda: state_of(child) is None)
    assert end.extensions["probe"].killed


@pytest.mark.fidelity("1.9-visible", "1.9-managed", "1.9-initialization-type", "1.9-hidden", "1.9-underscore")
@pytest.mark.parametrize("init_type", ["on-demand", "lambda-managed-instances"])
async def test_an_extension_sees_just_these_variables(tmp_path: Path, init_type: str) -> None:
    probe = Probe(tmp_path, types=[], events=["SHUTDOWN"])
    mine = {"MINE": "1"}
    async with local_lambda(probe, environment=mine, init_type=init_type, region="eu-west-1", memory_mb=256) as env:
        api = env.api
    seen = probe.notes("start")[0]["environ"]
    assert json.loads(seen.pop("PROBE_probe"))
    secrets = {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "PATH"}
    assert seen.pop("LD_LIBRARY_PATH", "/opt/lib").endswith("/opt/lib")  # where the file system is Lambda's
    assert all(seen.pop(name) for name in secrets)
    seen.pop("LC_CTYPE", None)  # Python's own doing (PEP 538)
    assert seen.pop("AWS_LAMBDA_LOG_LEVEL", "INFO") == "INFO"  # only where there are log levels
    assert seen == {
        "AWS_REGION": "eu-west-1",
        "AWS_DEFAULT_REGION": "eu-west-1",
        "AWS_LAMBDA_FUNCTION_NAME": "local-function",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "256",
        "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
        "AWS_LAMBDA_RUNTIME_API": api,
        "AWS_LAMBDA_INITIALIZATION_TYPE": init_type,
        "AWS_LAMBDA_LOG_FORMAT": "JSON" if init_type == "lambda-managed-instances" else "Text",
        "LANG": "en_US.UTF-8",
        "TZ": ":UTC",
        "MINE": "1",
    }
