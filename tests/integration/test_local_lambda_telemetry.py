"""The Telemetry API of the local Lambda: subscribing, batches, retries, losses, schemas."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from local_lambda import Platform, Retry
from tests.integration.local_lambda_probe import FUNCTIONS, Probe, local_lambda

SUBSCRIBE = "PUT /2022-07-01/telemetry"


@pytest.mark.fidelity("2.3-request", "2.3-array")
async def test_a_batch_is_a_json_array_with_the_captured_headers(tmp_path: Path) -> None:
    probe = Probe(tmp_path)
    async with local_lambda(probe) as env:
        await env.invoke({"print": ["é"]})
    batch = probe.notes("batch")[0]
    headers = {name.lower(): value for name, value in batch["headers"]}
    assert batch["first"] == "POST /in HTTP/1.1"
    assert headers.keys() == {"host", "content-type", "sequence-id", "connection", "user-agent", "content-length"}
    assert headers["content-type"] == "application/json"
    assert headers["user-agent"] == "awslambda-worker/1.0"
    assert headers["host"].startswith(f"{env.telemetry_host}:")
    assert len(headers["sequence-id"]) == 43
    assert [record["record"] for record in probe.records() if record["type"] == "function"] == ["é\n"]


@pytest.mark.fidelity("2.3-early", "2.4-first-batch", "3.3-subscriptions", "8-managed-replay")
async def test_a_late_subscriber_gets_what_happened_since_init_start(tmp_path: Path) -> None:
    early = Probe(tmp_path, "early", types=["platform", "extension"], at_start=[{"print": "hello"}])
    late = Probe(tmp_path, "late", types=["platform", "extension"], registered=[{"sleep": 0.3}])
    async with local_lambda(early, late) as env:
        await env.invoke()
    assert late.batches()[0][0]["type"] == "platform.initStart"
    assert {"hello\n"} <= {record["record"] for record in late.records() if record["type"] == "extension"}
    subscribed = [r["record"]["name"] for r in late.records() if r["type"] == "platform.telemetrySubscription"]
    assert subscribed == ["early", "late"], "every subscriber sees the events of all subscriptions"
    assert early.types()[0] == "platform.initStart"


async def test_an_extensions_own_output_becomes_extension_records_and_can_be_read_back(tmp_path: Path) -> None:
    probe = Probe(tmp_path, types=["extension"], waits=False, invoked=[{"print": "mine"}])
    async with local_lambda(probe) as env:
        await env.invoke()
        assert env.extension_output("probe") == ["mine\n"]
        assert [event["record"] for event in env.telemetry if event["type"] == "extension"] == ["mine\n"]
    assert set(probe.types()) <= {"extension"}


async def test_only_the_types_asked_for_are_sent(tmp_path: Path) -> None:
    probe = Probe(tmp_path, types=["function"], waits=False, done=[{"seen": "function"}])
    async with local_lambda(probe) as env:
        await env.invoke({"print": ["a"]})
    assert probe.types() == ["function"]


@pytest.mark.fidelity("2.1-again", "2.1-other", "2.1-closed", "2.1-key-order")
async def test_subscribing_again_and_otherwise_and_too_late(tmp_path: Path) -> None:
    def subscribe(path: str, timeout_ms: int = 25) -> dict[str, Any]:
        wanted = {
            "schemaVersion": "2022-12-13",
            "types": ["platform"],
            "buffering": {"timeoutMs": timeout_ms},
            "destination": {"protocol": "HTTP", "URI": f"http://sandbox.localdomain:4243{path}"},
        }
        return {"call": ["PUT", "/2022-07-01/telemetry", wanted]}

    steps = [subscribe("/a"), subscribe("/a"), subscribe("/b"), subscribe("/a", timeout_ms=24)]
    probe = Probe(tmp_path, types=[], waits=False, subscribed=steps, invoked=[subscribe("/c")])
    async with local_lambda(probe) as env:
        await env.invoke()
    answers = [(call["status"], json.loads(call["answer"])) for call in probe.calls(SUBSCRIBE)]
    assert answers[:3] == [(200, "OK"), (200, "AlreadySubscribed"), (200, "OK")]
    assert answers[3] == (
        400,
        {"errorType": "Telemetry.ValidationError", "errorMessage": "timeoutMs should be between 25 and 30000"},
    )
    assert answers[4] == (
        403,
        {
            "errorType": "Telemetry.SubscriptionClosed",
            "errorMessage": "Telemetry API subscription is closed already",
        },
    )
    assert probe.calls(SUBSCRIBE)[3]["answer"].startswith('{"errorType"'), "the key order that was captured"


@pytest.mark.fidelity("2.1-not-supported", "8-stub")
async def test_the_platform_can_say_that_telemetry_is_not_supported(tmp_path: Path) -> None:
    probe = Probe(tmp_path, waits=False)
    async with local_lambda(probe, platform=Platform(telemetry_supported=False)) as env:
        await env.invoke()
    call = probe.calls(SUBSCRIBE)[0]
    assert (call["status"], json.loads(call["answer"])["errorType"]) == (202, "Telemetry.NotSupported")
    assert probe.batches() == []


async def test_a_schema_can_be_taken_away(tmp_path: Path) -> None:
    probe = Probe(tmp_path, waits=False)
    async with local_lambda(probe, platform=Platform(schemas=("2022-07-01", "2022-12-13"))):
        pass
    call = probe.calls(SUBSCRIBE)[0]
    assert call["status"] == 400
    assert json.loads(call["answer"])["errorType"] == "Telemetry.DeserializationError"
    assert "2025-01-29`, expected" in call["answer"]


@pytest.mark.fidelity("2.1-path")
async def test_the_schema_version_in_the_path_is_not_found(tmp_path: Path) -> None:
    probe = Probe(tmp_path, types=[], registered=[{"call": ["PUT", "/2025-01-29/telemetry", {}]}])
    async with local_lambda(probe):
        pass
    assert probe.calls("PUT /2025-01-29/telemetry")[0]["status"] == 404


@pytest.mark.fidelity("2.2-host")
async def test_a_listener_on_127_0_0_1_is_never_reached(tmp_path: Path) -> None:
    probe = Probe(tmp_path, host="127.0.0.1", waits=False, done=[{"sleep": 0.1}])
    async with local_lambda(probe) as env:
        await env.invoke()
        end = await env.shutdown()
        refused = [entry for entry in env.transcript if entry.direction == "out"]
    assert probe.batches() == []
    assert refused
    assert {entry.status for entry in refused} == {None}
    assert end.undelivered_records > 0


async def test_a_refused_batch_comes_again_unchanged_and_in_order(tmp_path: Path) -> None:
    probe = Probe(tmp_path, answers=[500, 404, 302])
    async with local_lambda(probe) as env:
        await env.invoke({"print": ["a", "b"]})
    notes = probe.notes("batch")
    assert [note["status"] for note in notes[:4]] == [500, 404, 302, 200]
    assert notes[0]["records"] == notes[1]["records"] == notes[2]["records"] == notes[3]["records"]
    sequence = [dict(note["headers"])["sequence-id"] for note in notes[:5]]
    assert len(set(sequence[:4])) == 1
    assert sequence[4] != sequence[0]
    produced = [event["type"] for event in env.telemetry]
    assert probe.types() == produced[: len(probe.types())]


async def test_a_batch_given_up_is_counted_in_logs_dropped(tmp_path: Path) -> None:
    probe = Probe(tmp_path, answers=[500, 500], waits=False, done=[{"seen": "platform.logsDropped"}])
    platform = Platform(retry=Retry(first_s=0.01, attempts=2))
    async with local_lambda(probe, platform=platform) as env:
        await env.invoke({"print": ["a"]})
    lost = probe.notes("batch")[0]["records"]
    dropped = [record["record"] for record in probe.records() if record["type"] == "platform.logsDropped"]
    assert dropped[0]["droppedRecords"] == len(lost)
    assert dropped[0]["droppedBytes"] > 0
    assert dropped[0]["reason"] == "consumer slower than producer"


async def test_what_does_not_fit_into_the_platforms_buffer_is_dropped_and_said(tmp_path: Path) -> None:
    probe = Probe(tmp_path, waits=False, done=[{"seen": "platform.logsDropped"}])
    lines = [f"{number:04d} " + "x" * 500 for number in range(200)]
    async with local_lambda(probe, platform=Platform(buffer_bytes=50_000)) as env:
        await env.invoke({"print": lines})
    dropped = [record["record"]["droppedRecords"] for record in probe.records() if "logsDropped" in record["type"]]
    received = [record for record in probe.records() if record["type"] == "function"]
    assert dropped
    assert len(received) < 200
    lost_lines = 200 - len(received)
    assert lost_lines <= sum(dropped) <= lost_lines + 2, "platform.runtimeDone and another event may be among them"


async def test_max_items_closes_a_batch_before_its_time(tmp_path: Path) -> None:
    probe = Probe(tmp_path, types=["function"], waits=False, buffering={"maxItems": 1000, "timeoutMs": 30000})
    probe.script |= {"done": [{"seen": "function", "count": 2000}], "shutdown": [{"seen": "function", "count": 2500}]}
    async with local_lambda(probe) as env:
        await env.invoke({"print": [str(number) for number in range(2500)]})
        sizes = [len(batch) for batch in probe.batches()]
        await env.shutdown()
    assert sizes == [1000, 1000]
    assert len(probe.batches()[2]) == 500, "what is left comes at the shutdown"


async def test_records_go_over_tcp_one_a_line(tmp_path: Path) -> None:
    probe = Probe(tmp_path, protocol="TCP", waits=False, done=[{"seen": "function"}])
    async with local_lambda(probe) as env:
        await env.invoke({"print": ["a"]})
    assert {"platform.initStart", "platform.start", "function"} <= set(probe.types())


@pytest.mark.fidelity("3.2-captured")
async def test_json_log_format_gives_objects_except_under_the_oldest_schema(tmp_path: Path) -> None:
    new = Probe(tmp_path, "new")
    old = Probe(tmp_path, "old", schema="2022-07-01")
    event = {"log": ["warned"], "print": ['{"mine": 1}', "plain"]}
    async with local_lambda(new, old, log_format="JSON") as env:
        result = await env.invoke(event)
    lines = [record["record"] for record in new.records() if record["type"] == "function"]
    texts = [record["record"] for record in old.records() if record["type"] == "function"]
    logged = next(line for line in lines if "message" in line)
    assert (logged["level"], logged["message"], logged["requestId"]) == ("WARNING", "warned", result.request_id)
    assert {"mine": 1} in lines
    assert "plain\n" in lines
    assert '{"mine": 1}\n' in texts
    assert all(isinstance(text, str) for text in texts)
    starts = [next(r for r in probe.records() if r["type"] == "platform.start")["record"] for probe in (new, old)]
    assert ["functionArn" in start for start in starts] == [True, False]


async def test_a_request_caught_by_the_freeze_is_answered_after_the_thaw(tmp_path: Path) -> None:
    """The sender's own clock stands still too, so that a long freeze is no timeout."""
    probe = Probe(tmp_path, waits=False, answer_after=0.15, done=[{"sleep": 0.05}], shutdown=[{"sleep": 0.4}])
    platform = Platform(retry=Retry(attempt_timeout_s=0.4))
    async with local_lambda(probe, platform=platform) as env:
        await env.invoke()
        await asyncio.sleep(0.6)
        await env.invoke({"sleep": 0.5})
        await env.shutdown()
        attempts = [entry.status for entry in env.transcript if entry.direction == "out"]
    assert None not in attempts
    ids = [dict(note["headers"])["sequence-id"] for note in probe.notes("batch")]
    assert len(ids) == len(set(ids)), "nothing was sent twice"


@pytest.mark.fidelity("1.9-initialization-type")
async def test_managed_instances_have_no_freeze_and_no_runtime_done(tmp_path: Path) -> None:
    probe = Probe(tmp_path, events=["SHUTDOWN"])
    async with local_lambda(probe, init_type="lambda-managed-instances") as env:
        result = await env.invoke()
        report = await env.report(result.request_id)
        await env.until(lambda: "platform.report" in probe.types())  # no thaw is needed
    assert "platform.runtimeDone" not in [event["type"] for event in env.telemetry]
    assert report["record"]["metrics"].keys() == {"durationMs"}
    assert [span["name"] for span in report["record"]["spans"]] == ["responseLatency", "responseDuration"]
    assert probe.notes("start")[0]["environ"]["AWS_LAMBDA_INITIALIZATION_TYPE"] == "lambda-managed-instances"


@pytest.mark.parametrize("script", [{"events": ["INVOKE", "SHUTDOWN"]}, {"schema": "2022-12-13"}])
@pytest.mark.fidelity("5.3-external", "8-managed-errors")
async def test_managed_instances_refuse_invoke_and_older_schemas(tmp_path: Path, script: dict[str, Any]) -> None:
    probe = Probe(tmp_path, **{"events": ["SHUTDOWN"], **script})
    platform = Platform(on_init_failure="retry")
    async with local_lambda(probe, init_type="lambda-managed-instances", platform=platform):
        pass
    refused = [call for call in probe.notes("call") if call["status"] in (400, 403)]
    assert json.loads(refused[0]["answer"])["errorType"] in ("Extension.InvalidEventType", "DeserializationError")


@pytest.mark.fidelity("4-managed-next", "8-managed-timeout")
async def test_managed_instances_serve_several_invocations_at_once(tmp_path: Path) -> None:
    probe = Probe(tmp_path, events=["SHUTDOWN"])
    command = ["python3", str(FUNCTIONS / "at_once.py")]
    async with local_lambda(probe, init_type="lambda-managed-instances", command=command, timeout_s=1) as env:
        results = await asyncio.gather(*(env.invoke({"sleep": 0.3, "number": number}) for number in range(4)))
        late = await env.invoke({"sleep": 1.5})
        after = await env.invoke({"number": 9})
    assert [result.json()["number"] for result in results] == [0, 1, 2, 3]
    assert max(result.duration_ms for result in results) < 900
    assert (late.status, late.error_type) == ("timeout", "Sandbox.Timedout")
    assert after.status == "success", "a request that times out does not end the environment"
    assert len(probe.notes("start")) == 1


async def test_in_the_shutdown_window_batches_are_as_large_as_the_subscription_asks(tmp_path: Path) -> None:
    """An extension that writes a line for each batch, and is sent its own lines, is not sent one by one."""
    probe = Probe(
        tmp_path,
        types=["platform", "extension"],
        buffering={"timeoutMs": 1000},
        waits=False,
        prints_per_batch="a batch",
        shutdown=[{"seen": "platform.report"}, {"sleep": 0.5}],
    )
    async with local_lambda(probe) as env:
        await env.invoke()
        at_shutdown = len(probe.batches())
        await env.shutdown()
    in_the_window = probe.batches()[at_shutdown:]
    assert [record["type"] for batch in in_the_window for record in batch].count("platform.report") == 1
    assert len(in_the_window) <= 2, in_the_window


async def test_what_the_function_writes_at_its_end_does_not_wait_for_the_timeout_of_the_batch(tmp_path: Path) -> None:
    """30 s would be far behind the deadline of SHUTDOWN."""
    probe = Probe(
        tmp_path, types=["function"], buffering={"timeoutMs": 30000}, waits=False, shutdown=[{"seen": "function"}]
    )
    async with local_lambda(probe, command=["python3", str(FUNCTIONS / "last_words.py")]) as env:
        await env.invoke()
        ended = await env.shutdown()
    assert [record["record"] for record in probe.records()] == ["good bye\n"]
    assert not ended.extensions["probe"].killed
