"""The Telemetry API to the byte, and the endings of an environment. Numbers are sections of the reference."""

import asyncio
import base64
import hashlib
import os
import re
import signal
import sys
import time
import uuid
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from local_lambda import LocalLambda, Platform
from tests.integration.local_lambda_probe import FUNCTIONS, Probe, eventually, free_port, local_lambda
from tests.integration.puppets import TELEMETRY, Listener, coming_up, play_init, puppet_lambda, up

TIMES = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


def of_type(env: LocalLambda, kind: str) -> list[dict[str, Any]]:
    return [event for event in env.telemetry if event["type"] == kind]


@pytest.mark.fidelity("2.1-ok", "2.1-again", "2.1-other", "2.1-schemas", "2.1-identifier", "2.1-path", "2.1-key-order")
async def test_a_subscription_is_answered_to_the_byte(tmp_path: Path) -> None:
    env = puppet_lambda(tmp_path, "puppet")
    async with Listener() as listener, coming_up(env) as puppets:
        await env.until(lambda: "puppet" in env.pids)
        nobody = await puppets.call("PUT", TELEMETRY, listener.subscription())
        stranger = await puppets.subscribe(str(uuid.uuid4()), listener.subscription())
        identifier = await puppets.registered("puppet")
        schemas = ("2025-01-29", "2022-12-13", "2022-07-01")
        answers = [await puppets.subscribe(identifier, listener.subscription(schema)) for schema in schemas]
        again = await puppets.subscribe(identifier, listener.subscription())
        wrong = await puppets.subscribe(identifier, listener.subscription() | {"types": []})
        wrong_path = await puppets.call("PUT", "/2025-01-29/telemetry", Lambda_Extension_Identifier=identifier)
        await env.until(lambda: "runtime" in env.pids)
        await puppets.call("POST", "/2018-06-01/runtime/init/error", b"{}")
    assert (nobody.status, nobody.json()["errorType"]) == (403, "Extension.MissingExtensionIdentifier")
    assert (stranger.status, stranger.json()["errorType"]) == (403, "Extension.UnknownExtensionIdentifier")
    assert [(answer.status, answer.body) for answer in answers] == [(200, b'"OK"')] * 3
    assert {answer.headers["Content-Length"] for answer in answers} == {"4"}
    assert (again.status, again.body) == (200, b'"AlreadySubscribed"')
    assert (wrong.status, wrong.body) == (
        400,
        b'{"errorType":"Telemetry.ValidationError","errorMessage":"types should not be empty"}',
    )
    assert wrong_path.status == 404
    states = [event["record"]["state"] for event in of_type(env, "platform.telemetrySubscription")]
    assert states == ["Subscribed", "Subscribed", "Subscribed", "Already subscribed"]


@pytest.mark.fidelity(
    "2.3-request", "2.3-array", "2.3-sequence", "2.3-early", "2.4-first-batch", "3.2-captured", "3.3-instance"
)
async def test_a_batch_is_this_to_the_byte_under_each_schema(tmp_path: Path) -> None:
    env = puppet_lambda(tmp_path, "puppet")
    async with Listener() as listener, Listener() as old, coming_up(env) as puppets:
        await env.until(lambda: "puppet" in env.pids)
        identifier = await puppets.registered("puppet", "SHUTDOWN")
        await puppets.subscribe(identifier, listener.subscription())
        await puppets.subscribe(identifier, old.subscription("2022-07-01"))
        await eventually(lambda: bool(listener.requests and old.requests))  # before the init is over
        ready = await _rest_of_init(env, puppets, identifier)
        invoking = ready.invoke(request_id="r-1")
        await ready.runtime
        await puppets.respond("r-1")
        ready.runtime = asyncio.ensure_future(puppets.next_invocation())
        await invoking
        host = f"127.0.0.2:{listener.port}"
    await asyncio.gather(ready.runtime, *ready.waits.values(), return_exceptions=True)
    first, headers, body = listener.requests[0]
    assert first == "POST /in HTTP/1.1"
    expected = ["host", "content-type", "sequence-id", "connection", "user-agent", "content-length"]
    assert list(headers) == expected, "in the order and case that were captured"
    assert [headers[name] for name in ("host", "content-type", "connection", "user-agent", "content-length")] == [
        *(host, "application/json", "keep-alive", "awslambda-worker/1.0"),
        str(len(body)),
    ]
    assert len(base64.b64decode(headers["sequence-id"] + "=")) == 32
    assert base64.b64decode(headers["sequence-id"] + "=") != hashlib.sha256(body).digest()
    assert body.startswith(b'[{"time":"')
    for records in (listener.records, old.records):
        assert [record["type"] for record in records[:2]] == ["platform.initStart", "platform.telemetrySubscription"]
        assert all(list(record) == ["time", "type", "record"] for record in records)
        assert all(TIMES.fullmatch(record["time"]) for record in records)
        assert records[0]["record"]["instanceId"] == env.instance_id
        by_type = {record["type"]: record["record"] for record in records}
        assert by_type["platform.initReport"]["status"] == "success"
        assert len(by_type["platform.runtimeDone"]["spans"]) == 3
    arn = ["functionArn" in _last(records, "platform.start") for records in (listener.records, old.records)]
    assert arn == [True, False]


def _last(records: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    return next(record["record"] for record in reversed(records) if record["type"] == kind)


async def _rest_of_init(env: LocalLambda, puppets: Any, identifier: str) -> Any:
    ready = await play_init(env, puppets)
    ready.waits["puppet"] = asyncio.ensure_future(puppets.next_event(identifier))
    await env.until(lambda: env.init_outcome is not None)
    return ready


@pytest.mark.fidelity("2.4-running")
async def test_a_running_extension_is_sent_the_end_of_the_runtime_in_the_same_invocation(tmp_path: Path) -> None:
    probe = Probe(tmp_path)  # it waits for platform.runtimeDone before it asks for the next event
    async with local_lambda(probe) as env:
        result = await env.invoke({"print": ["one"]})
        types = probe.types()
    assert types[-2:] == ["function", "platform.runtimeDone"]
    assert result.extension_overhead_ms is not None
    assert 20 <= result.extension_overhead_ms < 1000, "not before timeoutMs, nor with the default of 1000"


@pytest.mark.fidelity(
    "2.4-timeout-done", "2.4-timeout-unseen", "3.3-timeout-time", "5.4-report", "5.4-same-environment"
)
async def test_a_timeouts_report_waits_for_the_slow_flush_and_is_all_that_the_successor_is_sent(tmp_path: Path) -> None:
    leftover = tmp_path / "left-in-tmp"
    probe = Probe(tmp_path, port=free_port(), subscribed=[{"child": f"echo x >> {leftover}"}])
    probe.script["shutdown"] = [{"seen": "platform.runtimeDone"}, {"sleep": 0.4}]
    async with local_lambda(probe, timeout_s=0.5) as env:
        began = time.monotonic()
        dead = await env.invoke({"sleep": 5})
        waited = time.monotonic() - began
        await env.invoke()
    assert waited >= 0.9, "the caller heard after the flush"
    shutdown = next(note for note in probe.notes("event") if note["eventType"] == "SHUTDOWN")
    done, report = (of_type(env, f"platform.{kind}")[0] for kind in ("runtimeDone", "report"))
    assert done["record"]["status"] == "timeout"
    began_ms = shutdown["deadlineMs"] - 2000
    assert _ms(done["time"]) <= began_ms
    assert _ms(report["time"]) >= began_ms + 400
    second = probe.notes("start")[1]["pid"]
    sent = [note["records"] for note in probe.notes("batch") if note["pid"] == second]
    of_the_dead = [
        record["type"]
        for records in sent
        for record in records
        if isinstance(record["record"], dict) and record["record"].get("requestId") == dead.request_id
    ]
    assert of_the_dead == ["platform.report"]
    assert leftover.read_text() == "x\nx\n", "/tmp is kept"


def _ms(timestamp: str) -> float:
    return datetime.fromisoformat(timestamp).timestamp() * 1000


@pytest.mark.fidelity("3.1-status")
async def test_an_error_of_the_sandbox_is_a_failure(tmp_path: Path) -> None:
    env = puppet_lambda(tmp_path)
    async with up(env) as ready:
        invoking = ready.invoke()
        await ready.runtime
        await env.kill()
        result = await invoking
    assert (result.status, result.error_type) == ("failure", "Sandbox.Failure")
    assert of_type(env, "platform.runtimeDone")[-1]["record"]["status"] == "failure"


@pytest.mark.fidelity("5.3-internal", "1.5-managed-invoke", "5.3-external")
async def test_on_managed_instances_internal_extensions_ask_for_no_events(tmp_path: Path) -> None:
    env = puppet_lambda(tmp_path, "puppet", init_type="lambda-managed-instances")
    async with coming_up(env) as puppets:
        await env.until(lambda: "puppet" in env.pids)
        external = await puppets.register("puppet", "INVOKE")
        internal = [await puppets.register("inside", event) for event in ("INVOKE", "SHUTDOWN")]
        none = await puppets.register("inside")
        await puppets.registered("puppet", "SHUTDOWN")
        await env.until(lambda: "runtime" in env.pids)
        await puppets.call("POST", "/2018-06-01/runtime/init/error", b"{}")
    assert external.json() == {
        "errorMessage": "INVOKE: ErrorInvalidEventType",
        "errorType": "Extension.InvalidEventType",
    }
    assert [answer.json()["errorType"] for answer in internal] == ["Extension.InvalidEventType"] * 2
    assert none.status == 200


@pytest.mark.fidelity("5.3-shutdown")
async def test_on_managed_instances_the_runtime_has_600_ms_of_the_shutdown(tmp_path: Path) -> None:
    probe = Probe(tmp_path, types=[], events=["SHUTDOWN"])
    ignoring = "import runpy, signal, sys; signal.signal(signal.SIGTERM, signal.SIG_IGN); runpy.run_path(sys.argv[1])"
    command = [sys.executable, "-c", ignoring, str(FUNCTIONS / "at_once.py")]
    async with local_lambda(probe, command=command, init_type="lambda-managed-instances") as env:
        end = await env.shutdown()
    event = probe.notes("event")[0]
    assert (end.runtime_exit_code, event["shutdownReason"]) == (-9, "spindown")
    assert event["deadlineMs"] - end.started_ms == 2000
    assert 1000 < event["left_ms"] <= 1400


@pytest.mark.fidelity("5.3-shutdown", "1.2-reasons", "5.4-crash")
@pytest.mark.parametrize("init_type", ["on-demand", "lambda-managed-instances"])
async def test_after_a_crash_the_others_are_told_failure(tmp_path: Path, init_type: str) -> None:
    witness = Probe(tmp_path, "witness", types=[], events=["SHUTDOWN"])
    clumsy = Probe(tmp_path, "clumsy", types=[], events=["SHUTDOWN"])
    async with local_lambda(witness, clumsy, init_type=init_type, platform=Platform(shutdown_s=0.5)) as env:
        os.kill(env.pids["clumsy"], signal.SIGKILL)
        await env.until(lambda: "clumsy" not in env.pids)
        result = await env.invoke()
    assert witness.notes("event")[0]["shutdownReason"] == "failure"
    assert result.status == "success"
