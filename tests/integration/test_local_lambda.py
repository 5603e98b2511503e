"""The main road of the local Lambda: init, invocations with freezes, shutdown; over real processes and sockets."""

import asyncio
import re
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from local_lambda import LocalLambda, Platform
from local_lambda.errors import EnvironmentClosed, WaitedTooLong
from tests.integration.local_lambda_probe import FUNCTIONS, Probe, eventually, local_lambda, state_of


async def test_init_invoke_and_shutdown_with_a_real_runtime_and_a_real_extension(tmp_path: Path) -> None:
    probe = Probe(tmp_path)
    async with local_lambda(probe) as env:
        first = await env.invoke({"print": ["hello"]})
        second = await env.invoke({"print": ["again"]})
        end = await env.shutdown()
        with pytest.raises(EnvironmentClosed):
            await env.invoke()
    assert first.json()["request_id"] == first.request_id
    assert (first.status, first.cold_start, second.cold_start) == ("success", True, False)
    assert first.json()["pid"] == second.json()["pid"]
    assert [note["eventType"] for note in probe.notes("event")] == ["INVOKE", "INVOKE", "SHUTDOWN"]
    assert end.extensions["probe"].exit_code == 0
    assert not end.extensions["probe"].killed
    env.transcript.assert_next_once_per_invocation()


async def test_the_answer_to_register_names_the_function_and_the_account_only_when_asked(tmp_path: Path) -> None:
    plain = Probe(tmp_path, "plain", types=[])
    asking = Probe(
        tmp_path, "asking.sh", types=[], register_headers={"Lambda_Extension_Accept_Feature": "x, accountId"}
    )
    async with local_lambda(plain, asking, name="orders", account_id="210987654321"):
        pass
    register = "POST /2020-01-01/extension/register"
    about = '"functionName":"orders","functionVersion":"$LATEST","handler":"app.handler"}\n'
    assert plain.calls(register)[0]["answer"] == "{" + about
    assert asking.calls(register)[0]["answer"] == '{"accountId":"210987654321",' + about
    assert asking.calls(register)[0]["headers"]["Content-Type"] == "application/json"


@pytest.mark.fidelity("1.9-hidden")
async def test_extensions_see_customers_variables_but_not_what_lambda_keeps_back(tmp_path: Path) -> None:
    probe = Probe(tmp_path)
    async with local_lambda(probe, environment={"MINE": "1"}) as env:
        seen = (await env.invoke({"environ": True})).json()["environ"]
        log_stream = env.instance_id
    start = probe.notes("start")[0]["environ"]
    assert start["MINE"] == "1"
    assert start["AWS_LAMBDA_INITIALIZATION_TYPE"] == "on-demand"
    hidden = {"_HANDLER", "AWS_LAMBDA_LOG_STREAM_NAME", "AWS_LAMBDA_LOG_GROUP_NAME", "AWS_EXECUTION_ENV"}
    assert not hidden & set(start)
    assert not {"LAMBDA_TASK_ROOT", "LAMBDA_RUNTIME_DIR", "_LAMBDA_TELEMETRY_LOG_FD", "HOME"} & set(start)
    assert (seen["AWS_LAMBDA_LOG_STREAM_NAME"], seen["LAMBDA_TASK_ROOT"]) == (log_stream, "/var/task")


@pytest.mark.fidelity("1.7-registered-first", "1.7-parallel")
async def test_the_runtime_starts_only_after_every_extension_has_registered(tmp_path: Path) -> None:
    slow = Probe(tmp_path, "slow", types=[], at_start=[{"sleep": 0.3}])
    quick = Probe(tmp_path, "quick", types=[])
    async with local_lambda(slow, quick) as env:
        registered = [call.ended for call in env.transcript.calls("slow", "POST /2020-01-01/extension/register")]
        asked = [call.began for call in env.transcript.calls("runtime", "GET /2018-06-01/runtime/invocation/next")]
        assert registered[0] is not None
        assert asked[0] > registered[0]
        assert env.init_outcome is not None
        assert env.init_outcome.duration_ms >= 300
    started = [probe.notes("start")[0]["at"] for probe in (slow, quick)]
    assert abs(started[0] - started[1]) < 0.25, "extensions start in parallel"


@pytest.mark.fidelity("1.7-init-start", "1.7-init-events", "2.3-array", "3.3-memory")
async def test_events_come_in_the_documented_order(tmp_path: Path) -> None:
    """Sections 1.7 and 2.3: init events, then start, the function's lines, runtimeDone, report."""
    probe = Probe(tmp_path)
    async with local_lambda(probe) as env:
        await env.invoke({"print": ["one"]})
        result = await env.invoke({"print": ["two"]})
        report = await env.report(result.request_id)
    assert [event["type"] for event in env.telemetry] == [
        "platform.initStart",
        "platform.telemetrySubscription",
        "platform.initRuntimeDone",
        "platform.extension",
        "platform.initReport",
        *["platform.start", "function", "platform.runtimeDone", "platform.report"] * 2,
    ]
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", event["time"]) for event in env.telemetry)
    assert env.telemetry[0]["record"]["instanceMaxMemory"] == 512 * 1024 * 1024
    assert report["record"]["metrics"].keys() == {"durationMs", "billedDurationMs", "memorySizeMB", "maxMemoryUsedMB"}
    assert [span["name"] for span in report["record"]["spans"]] == ["extensionOverhead"]
    assert [record["record"] for record in probe.records() if record["type"] == "function"] == ["one\n", "two\n"]


@pytest.mark.fidelity("2.4-report")
async def test_a_report_comes_with_the_next_thaw_in_a_batch_of_its_own_and_the_last_at_shutdown(tmp_path: Path) -> None:
    probe = Probe(tmp_path, shutdown=[{"seen": "platform.report", "count": 2}])
    async with local_lambda(probe) as env:
        first = await env.invoke()
        await asyncio.sleep(0.1)  # ample for the 25 ms of the subscription, were it not frozen
        assert "platform.report" not in probe.types()
        second = await env.invoke()
        await asyncio.sleep(0.1)
        end = await env.shutdown()
    reports = [batch for batch in probe.batches() if any(record["type"] == "platform.report" for record in batch)]
    assert [[record["record"]["requestId"] for record in batch] for batch in reports] == [
        [first.request_id],
        [second.request_id],
    ]
    assert end.undelivered_records == 0


@pytest.mark.fidelity("3.3-init-once", "3.3-billed")
async def test_the_init_is_billed_to_the_first_invocation(tmp_path: Path) -> None:
    async with local_lambda(Probe(tmp_path)) as env:
        first, second = await env.invoke(), await env.invoke()
        report = await env.report(first.request_id)
    assert env.init_outcome is not None
    metrics = report["record"]["metrics"]
    assert metrics["initDurationMs"] == pytest.approx(env.init_outcome.duration_ms, abs=0.001)
    assert metrics["billedDurationMs"] >= metrics["durationMs"] + metrics["initDurationMs"]
    assert second.init_duration_ms is None


async def test_everything_is_stopped_between_invocations(tmp_path: Path) -> None:
    """Real freeze: runtime, extension and a child that it started; thawed for the invocation and for SHUTDOWN."""
    probe = Probe(tmp_path, subscribed=[{"child": "sleep 60"}])
    async with local_lambda(probe) as env:
        pids = [*env.pids.values(), probe.notes("child")[0]["child"]]
        await eventually(lambda: [state_of(pid) for pid in pids] == ["T", "T", "T"])
        await env.invoke()
        await eventually(lambda: [state_of(pid) for pid in pids] == ["T", "T", "T"])
        end = await env.shutdown()
        await eventually(lambda: [state_of(pid) for pid in pids] == [None, None, None])
    assert end.extensions["probe"].exit_code == 0


async def test_without_freezing_they_run_on(tmp_path: Path) -> None:
    async with local_lambda(Probe(tmp_path), platform=Platform(freeze=False)) as env:
        result = await env.invoke()
        assert "T" not in [state_of(pid) for pid in env.pids.values()]
        assert result.status == "success"


@pytest.mark.fidelity("2.4-waiting")
async def test_with_no_extension_running_the_last_events_wait_for_the_next_thaw(tmp_path: Path) -> None:
    """Section 2.4: an extension that asks for the next event at once gets runtimeDone with the next INVOKE."""
    probe = Probe(tmp_path, waits=False, buffering={"timeoutMs": 200})
    async with local_lambda(probe) as env:
        await env.invoke({"print": ["one"]})
        await asyncio.sleep(0.3)
        assert "platform.runtimeDone" not in probe.types()
        result = await env.invoke({"sleep": 0.1})
        assert "platform.runtimeDone" in probe.types()
        assert result.extension_overhead_ms == pytest.approx(0, abs=5)


async def test_an_extension_holds_the_invocation_but_not_the_answer(tmp_path: Path) -> None:
    probe = Probe(tmp_path, done=[{"sleep": 0.2}])
    async with local_lambda(probe) as env:
        result = await env.invoke()
    assert result.extension_overhead_ms is not None
    assert result.extension_overhead_ms >= 200
    assert result.response_ms is not None
    assert result.response_ms < result.duration_ms - 200
    assert result.held_ms["probe"] == pytest.approx(result.duration_ms, abs=10)


@pytest.mark.fidelity("1.7-shutdown-only")
async def test_an_extension_registered_for_shutdown_only_never_holds_an_invocation(tmp_path: Path) -> None:
    probe = Probe(tmp_path, events=["SHUTDOWN"], types=[])
    async with local_lambda(probe) as env:
        result = await env.invoke()
        end = await env.shutdown()
    assert result.held_ms == {}
    assert [note["eventType"] for note in probe.notes("event")] == ["SHUTDOWN"]
    assert end.extensions["probe"].exit_code == 0


@pytest.mark.fidelity("1.2-tracing", "3.3-untraced")
async def test_the_invoke_event_carries_the_deadline_the_arn_and_the_trace(tmp_path: Path) -> None:
    probe = Probe(tmp_path, types=[])
    async with local_lambda(probe, timeout_s=7, region="eu-west-1", name="orders") as env:
        result = await env.invoke({"left": True}, request_id="11111111-2222-4333-8444-555555555555", trace="Root=1-a")
        start = next(event for event in env.telemetry if event["type"] == "platform.start")
        await env.invoke()
    event, untraced = probe.notes("event")[:2]
    assert event["requestId"] == result.request_id == "11111111-2222-4333-8444-555555555555"
    assert event["invokedFunctionArn"] == "arn:aws:lambda:eu-west-1:123456789012:function:orders"
    assert event["tracing"] == start["record"]["tracing"] == {"type": "X-Amzn-Trace-Id", "value": "Root=1-a"}
    assert "tracing" not in untraced
    assert 6500 < event["left_ms"] <= 7001
    assert 6500 < result.json()["left_ms"] <= 7001
    assert event["headers"]["Content-Type"] == "application/json"
    assert len(event["headers"]["Lambda-Extension-Event-Identifier"]) == 36


@pytest.mark.fidelity("1.2-shutdown", "1.2-shutdown-deadline", "1.8-two-seconds")
async def test_shutdown_is_plain_text_with_a_true_deadline_and_no_identifier(tmp_path: Path) -> None:
    probe = Probe(tmp_path)
    async with local_lambda(probe) as env:
        end = await env.shutdown()
    event = probe.notes("event")[0]
    assert event["headers"]["Content-Type"] == "text/plain; charset=utf-8"
    assert "Lambda-Extension-Event-Identifier" not in event["headers"]
    assert (event["shutdownReason"], event["deadlineMs"]) == ("spindown", end.deadline_ms)
    assert end.deadline_ms - end.started_ms == 2000
    assert 1000 < event["left_ms"] <= 2000


@pytest.mark.fidelity("1.2-exit-0", "1.8-no-sigterm")
async def test_an_extension_that_overstays_is_killed_at_the_deadline_without_a_sigterm(tmp_path: Path) -> None:
    probe = Probe(tmp_path, types=[], note_sigterm=True, shutdown=[{"sleep": 30}])
    async with local_lambda(probe, platform=Platform(shutdown_s=0.5, runtime_share_s=0.1)) as env:
        end = await env.shutdown()
    stayed = end.extensions["probe"]
    assert (stayed.killed, stayed.exit_code, stayed.received_shutdown) == (True, -9, True)
    assert 0.5 <= stayed.seconds < 0.9
    assert probe.notes("sigterm") == []


@pytest.mark.fidelity("1.8-unsubscribed")
async def test_an_extension_that_did_not_subscribe_to_shutdown_is_killed_unheard(tmp_path: Path) -> None:
    probe = Probe(tmp_path, types=[], events=["INVOKE"])
    async with local_lambda(probe) as env:
        end = await env.shutdown()
    gone = end.extensions["probe"]
    assert (gone.killed, gone.received_shutdown) == (True, False)
    assert gone.seconds < 1


@pytest.mark.fidelity("1.8-runtime-first")
async def test_a_runtime_that_ignores_sigterm_uses_up_its_share_before_extensions_hear_of_the_end(
    tmp_path: Path,
) -> None:
    probe = Probe(tmp_path, types=[])
    platform = Platform(runtime_share_s=0.4)
    async with local_lambda(probe, handler="stubborn.handler", platform=platform) as env:
        end = await env.shutdown()
    assert end.runtime_exit_code == -9
    assert 1300 < probe.notes("event")[0]["left_ms"] <= 1600


@pytest.mark.fidelity("1.8-bare")
async def test_without_extensions_the_runtime_is_killed_at_once() -> None:
    async with local_lambda(handler="stubborn.handler") as env:
        assert (await env.invoke()).status == "success"
        end = await env.shutdown()
    assert end.runtime_exit_code == -9
    assert end.deadline_ms == end.started_ms
    assert end.seconds < 0.3


@pytest.mark.fidelity("1.7-all-ready")
async def test_an_internal_extension_takes_part_and_gives_half_a_second_of_shutdown() -> None:
    async with local_lambda(handler="internal.handler") as env:
        result = await env.invoke()
        end = await env.shutdown()
    assert result.held_ms.keys() == {"inside"}
    assert end.deadline_ms - end.started_ms == 500
    states = [event["record"] for event in env.telemetry if event["type"] == "platform.extension"]
    assert states == [{"name": "inside", "state": "Ready", "events": ["INVOKE"]}]


async def test_provisioned_concurrency_may_end_without_a_single_invocation(tmp_path: Path) -> None:
    probe = Probe(tmp_path)
    async with local_lambda(probe, init_type="provisioned-concurrency") as env:
        await asyncio.sleep(0.05)
        end = await env.shutdown()
    assert end.extensions["probe"].exit_code == 0
    assert env.telemetry[0]["record"]["initializationType"] == "provisioned-concurrency"


@pytest.mark.fidelity("4-streaming")
async def test_any_command_that_speaks_the_runtime_api_can_be_the_function(tmp_path: Path) -> None:
    probe = Probe(tmp_path)
    async with local_lambda(probe, command=["python3", str(FUNCTIONS / "bootstrap.py")]) as env:
        result = await env.invoke({"a": 1})
    assert result.json() == {"echo": {"a": 1}, "mode": "streaming"}
    assert env.telemetry[0]["record"]["runtimeVersion"] == "provided:al2023.v0"


async def test_a_directory_plays_opt_and_can_switch_extensions_off(tmp_path: Path) -> None:
    (tmp_path / "extensions" / "nested").mkdir(parents=True)
    probe = Probe(tmp_path / "extensions", types=[])
    (tmp_path / "extensions" / "probe.jsonl").unlink(missing_ok=True)
    probe.script["log"] = str(tmp_path / "log.jsonl")
    probe.log = tmp_path / "log.jsonl"
    async with local_lambda(opt=tmp_path, environment=dict([probe.variable])) as env:
        assert env.pids.keys() == {"probe", "runtime"}
    (tmp_path / "disable-extensions-jwigqn8j").touch()
    async with local_lambda(opt=tmp_path) as env:
        assert env.pids.keys() == {"runtime"}


async def test_a_link_to_an_extension_runs_under_the_name_of_the_link(tmp_path: Path) -> None:
    (tmp_path / "lib").mkdir()
    target = Probe(tmp_path / "lib", "main.py")
    link = Probe(tmp_path, "mine", types=[])
    link.path.unlink()
    link.path.symlink_to(target.path)
    async with local_lambda(link) as env:
        await env.invoke()
    assert [note["name"] for note in link.notes("start")] == ["mine"]


async def test_an_abandoned_invocation_is_followed_by_a_fresh_start(tmp_path: Path) -> None:
    probe = Probe(tmp_path, types=[])
    async with local_lambda(probe) as env:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await env.invoke({"sleep": 60})
        result = await env.invoke()
    assert result.status == "success"
    assert [note.get("shutdownReason") for note in probe.notes("event")][:2] == [None, "failure"]


async def test_waiting_for_what_does_not_come_ends_with_one_sentence() -> None:
    async with local_lambda() as env:
        with pytest.raises(WaitedTooLong, match=r"within 0\.1 s"):
            await env.report("never", timeout_s=0.1)


@pytest.fixture
async def environment() -> AsyncIterator[LocalLambda]:
    async with local_lambda() as env:
        yield env


async def test_it_can_be_a_fixture_which_enters_and_leaves_in_tasks_of_their_own(environment: LocalLambda) -> None:
    assert (await environment.invoke()).status == "success"


async def test_several_environments_run_side_by_side(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        probes = [Probe(tmp_path, f"probe-{number}") for number in range(4)]
        envs = [await stack.enter_async_context(local_lambda(probe)) for probe in probes]
        results = await asyncio.gather(*(env.invoke() for env in envs))
        assert len({env.instance_id for env in envs}) == len({env.api for env in envs}) == 4
    assert [result.status for result in results] == ["success"] * 4


async def test_a_warm_invocation_costs_little_beyond_the_handler() -> None:
    async with local_lambda() as env:
        await env.invoke()
        began = time.monotonic()
        for _ in range(20):
            await env.invoke()
        each = (time.monotonic() - began) / 20
    assert each < 0.05  # about 2 ms on a quiet machine
