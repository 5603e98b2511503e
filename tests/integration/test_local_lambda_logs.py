"""The legacy Logs API, and telemetry over TCP and PUT, on the local Lambda."""

import json
from pathlib import Path
from typing import Any

import pytest

from local_lambda import Platform
from tests.integration.local_lambda_probe import Probe, free_port, local_lambda

LOGS = "/2020-08-15/logs"
TELEMETRY = "/2022-07-01/telemetry"
BUFFERING = {"timeoutMs": 100}


def logs_probe(folder: Path, **script: Any) -> Probe:
    """Return an extension on the Logs API; it does not wait for runtimeDone, which the older schema lacks."""
    asked = {"subscribe_at": LOGS, "schema": "2021-03-18", "buffering": BUFFERING, "waits": False, **script}
    return Probe(folder, **asked)


def wanted(schema: str, **more: Any) -> dict[str, Any]:
    destination = {"protocol": "HTTP", "URI": f"http://sandbox.localdomain:{free_port()}/"}
    return {"schemaVersion": schema, "types": ["platform"], "destination": destination, **more}


async def test_the_logs_api_tells_start_end_and_report_in_its_own_records(tmp_path: Path) -> None:
    last_report = {"seen": "platform.report"}
    probe = logs_probe(tmp_path, shutdown=[last_report])
    async with local_lambda(probe, log_format="JSON") as env:
        result = await env.invoke({"print": ['{"a": 1}']}, trace="Root=1-a")
    records = {record["type"]: record["record"] for record in probe.records()}
    assert [record["type"] for record in probe.records()] == [
        "platform.logsSubscription",
        "platform.extension",
        "platform.start",
        "function",
        "platform.runtimeDone",
        "platform.end",
        "platform.report",
    ]
    state = {"name": "probe", "state": "Subscribed", "types": ["platform", "function"]}
    assert records["platform.logsSubscription"] == state
    assert records["platform.start"] == {"requestId": result.request_id, "version": "$LATEST"}
    assert records["function"] == '{"a": 1}\n', "always a string, whatever the log format"
    assert records["platform.runtimeDone"] == {"requestId": result.request_id, "status": "success"}
    assert records["platform.end"] == {"requestId": result.request_id}
    assert records["platform.report"].keys() == {"requestId", "metrics", "tracing"}
    assert records["platform.report"]["metrics"]["billedDurationMs"] == result.billed_ms


async def test_the_oldest_schema_is_the_default_and_has_no_runtime_done(tmp_path: Path) -> None:
    probe = logs_probe(tmp_path, schema=None, shutdown=[{"seen": "platform.report"}])
    async with local_lambda(probe) as env:
        await env.invoke()
    assert "platform.end" in probe.types()
    assert "platform.runtimeDone" not in probe.types()


async def test_a_crash_is_a_fault(tmp_path: Path) -> None:
    probe = logs_probe(tmp_path, port=free_port(), shutdown=[{"seen": "platform.report"}])
    async with local_lambda(probe) as env:
        result = await env.invoke({"exit": 1})
        await env.invoke()
    faults = [record["record"] for record in probe.records() if record["type"] == "platform.fault"]
    assert faults == [f"RequestId: {result.request_id} Process exited before completing request"]
    done = [record["record"]["status"] for record in probe.records() if record["type"] == "platform.runtimeDone"]
    assert done[0] == "failure"


@pytest.mark.parametrize("types", [["platform"], ["function"], ["extension"], ["function", "extension"]])
@pytest.mark.parametrize("log_format", ["Text", "JSON"])
async def test_a_type_that_was_not_asked_for_is_never_sent(tmp_path: Path, types: list[str], log_format: str) -> None:
    """Neither to a subscriber of the Logs API nor to one of the Telemetry API beside it; not even what was dropped."""
    told = {"platform": "platform.report", "function": "function", "extension": "extension"}
    waits = [{"seen": told[type_]} for type_ in types]
    says = [{"print": '{"mine": 1}'}]
    logs = logs_probe(tmp_path, name="logs", types=types, invoked=says, shutdown=waits)
    telemetry = Probe(tmp_path, "telemetry", types=types, waits=False, invoked=says, shutdown=waits)
    async with local_lambda(logs, telemetry, log_format=log_format, platform=Platform(buffer_bytes=6000)) as env:
        await env.invoke({"print": ["x" * 200] * 60})
        await env.invoke({"print": ['{"a": 1}']})
    for probe in (logs, telemetry):
        assert {type_.partition(".")[0] for type_ in probe.types()} == set(types)
    lines = [record["record"] for record in logs.records() if record["type"] in ("function", "extension")]
    assert all(isinstance(text, str) for text in lines)
    assert bool(lines) is (types != ["platform"])


@pytest.mark.fidelity("2.1-logs-api")
async def test_telemetry_and_logs_cannot_be_combined_in_one_extension(tmp_path: Path) -> None:
    to_logs, to_telemetry = (
        {"call": ["PUT", LOGS, wanted("2021-03-18")]},
        {"call": ["PUT", TELEMETRY, wanted("2025-01-29")]},
    )
    first = Probe(tmp_path, "first", types=[], registered=[to_logs, to_telemetry])
    second = Probe(tmp_path, "second", types=[], registered=[to_telemetry, to_logs])
    async with local_lambda(first, second):
        pass
    denied = [
        json.loads(first.calls(f"PUT {TELEMETRY}")[0]["answer"]),
        json.loads(second.calls(f"PUT {LOGS}")[0]["answer"]),
    ]
    assert [call["status"] for call in first.notes("call")[1:3]] == [200, 403]
    assert [call["status"] for call in second.notes("call")[1:3]] == [200, 403]
    assert [answer["errorType"] for answer in denied] == ["Telemetry.AccessDenied", "Logs.AccessDenied"]


@pytest.mark.parametrize(
    ("body", "error_type", "words"),
    [
        (wanted("2020-08-15", buffering={"timeoutMs": 99}), "Logs.ValidationError", "between 100 and 30000"),
        (wanted("2025-01-29"), "Logs.ValidationError", "does not support the SchemaVersion 2025-01-29"),
        (wanted("1999-01-01"), "Logs.DeserializationError", "unknown variant `1999-01-01`"),
    ],
)
async def test_the_logs_api_checks_what_it_is_asked(
    tmp_path: Path, body: dict[str, Any], error_type: str, words: str
) -> None:
    probe = Probe(tmp_path, types=[], registered=[{"call": ["PUT", LOGS, body]}])
    async with local_lambda(probe):
        pass
    call = probe.calls(f"PUT {LOGS}")[0]
    assert call["status"] == 400
    assert json.loads(call["answer"])["errorType"] == error_type
    assert words in call["answer"]


async def test_managed_instances_have_no_logs_api_and_a_stub_answers_202(tmp_path: Path) -> None:
    probe = logs_probe(tmp_path, events=["SHUTDOWN"])
    async with local_lambda(probe, init_type="lambda-managed-instances"):
        pass
    assert probe.calls(f"PUT {LOGS}")[0]["status"] == 404
    stub = logs_probe(tmp_path, name="stub")
    async with local_lambda(stub, platform=Platform(telemetry_supported=False)):
        pass
    call = stub.calls(f"PUT {LOGS}")[0]
    assert (call["status"], json.loads(call["answer"])["errorType"]) == (202, "Logs.NotSupported")


@pytest.mark.fidelity("2.2-tcp")
@pytest.mark.parametrize(("tcp_connect", "status"), [("subscribe", 400), ("first-batch", 200)])
async def test_a_tcp_destination_where_nobody_listens(tmp_path: Path, tcp_connect: Any, status: int) -> None:
    probe = Probe(tmp_path, protocol="TCP", destination={"port": free_port()}, waits=False)
    async with local_lambda(probe, platform=Platform(tcp_connect=tcp_connect)) as env:
        assert (await env.invoke()).status == "success"
    assert probe.calls(f"PUT {TELEMETRY}")[0]["status"] == status


async def test_a_listener_can_be_sent_put_requests(tmp_path: Path) -> None:
    probe = Probe(tmp_path, destination={"method": "PUT"})
    async with local_lambda(probe) as env:
        await env.invoke()
    assert {note["first"] for note in probe.notes("batch")} == {"PUT /in HTTP/1.1"}
    assert "platform.runtimeDone" in probe.types()
