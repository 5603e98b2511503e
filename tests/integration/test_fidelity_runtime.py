"""The Runtime API to the byte, with the test speaking for the runtime. Numbers are sections of the reference."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from local_lambda import Function, LocalLambda
from tests.integration.local_lambda_probe import FUNCTIONS, Probe, local_lambda
from tests.integration.puppets import RUNTIME, coming_up, puppet_lambda, up

OK = b'{"status":"OK"}\n'
ARN = "arn:aws:lambda:us-east-1:123456789012:function:local-function"


def refused(message: str, error_type: str) -> bytes:
    return json.dumps({"errorMessage": message, "errorType": error_type}, separators=(",", ":")).encode() + b"\n"


# Messages and states were recorded from aws-lambda-rie (in the aws-sam-cli wheel) on 2026-11-23.


@pytest.mark.fidelity("4-headers", "4-accepted", "8-client-context")
async def test_an_invocation_arrives_and_is_answered_to_the_byte(tmp_path: Path) -> None:
    async with up(puppet_lambda(tmp_path)) as ready:
        more = {"request_id": "r-1", "trace": "Root=1-a", "client_context": "e30="}
        invoking = ready.invoke({"a": 1}, **more)
        call = await ready.runtime
        answer = await ready.puppets.respond("r-1", b'"done"')
        ready.runtime = asyncio.ensure_future(ready.puppets.next_invocation())
        result = await invoking
        bare = ready.invoke()
        without = await ready.runtime
        bare.cancel()
    assert (call.status, call.body) == (200, b'{"a":1}')
    given = dict(call.headers)
    assert given.pop("Date", None)
    assert int(given.pop("Lambda-Runtime-Deadline-Ms"))
    assert given == {
        "Lambda-Runtime-Aws-Request-Id": "r-1",
        "Lambda-Runtime-Invoked-Function-Arn": ARN,
        "Lambda-Runtime-Trace-Id": "Root=1-a",
        "Lambda-Runtime-Client-Context": "e30=",
        "Content-Type": "application/json",
        "Content-Length": "7",
    }
    assert call.headers.keys() - without.headers.keys() == {"Lambda-Runtime-Trace-Id", "Lambda-Runtime-Client-Context"}
    assert (answer.status, answer.headers["Content-Type"], answer.body) == (202, "application/json", OK)
    assert result.payload == b'"done"'


@pytest.mark.fidelity("4-next-again", "4-state", "4-unknown-request", "4-mode", "3.3-handled-report")
async def test_calls_at_the_wrong_moment_are_refused_to_the_byte(tmp_path: Path) -> None:
    env = puppet_lambda(tmp_path)
    async with up(env) as ready:
        invoking = ready.invoke({"a": 1}, request_id="r-1")
        first = await ready.runtime
        again = await ready.puppets.next_invocation()
        unknown = await ready.puppets.respond("r-2")
        mode = await ready.puppets.respond("r-1", Lambda_Runtime_Function_Response_Mode="slow")
        error = await ready.puppets.respond("r-1", {"errorType": "E", "errorMessage": "m"}, "error")
        twice = await ready.puppets.respond("r-1")
        init_error = await ready.puppets.call("POST", f"{RUNTIME}/init/error", b"{}")
        ready.runtime = asyncio.ensure_future(ready.puppets.next_invocation())
        result = await invoking
        report = await env.report("r-1")
    assert again.body == first.body
    assert again.headers["Lambda-Runtime-Aws-Request-Id"] == "r-1"
    assert (unknown.status, unknown.body) == (400, refused("Invalid request ID", "InvalidRequestID"))
    assert (mode.status, mode.body) == (400, refused("Invalid function response mode", "InvalidFunctionResponseMode"))
    assert (error.status, error.body) == (202, OK)
    failed = "State transition from {} to {} failed for runtime. Error: State transition is not allowed"
    late = failed.format("RuntimeResponseSentState", "InvocationResponse")
    assert (twice.status, twice.body) == (403, refused(late, "InvalidStateTransition"))
    late = failed.format("RuntimeResponseSentState", "InitError")
    assert (init_error.status, init_error.body) == (403, refused(late, "InvalidStateTransition"))
    assert (result.status, result.function_error, result.error_type) == ("success", "Unhandled", "E")
    assert report["record"]["status"] == "success"
    assert "errorType" not in report["record"]


@pytest.mark.fidelity("4-accepted", "4-ping", "4-restore")
async def test_init_error_ping_and_the_routes_of_snapstart(tmp_path: Path) -> None:
    env = puppet_lambda(tmp_path)
    async with coming_up(env) as puppets:
        ping = await puppets.call("GET", "/2018-06-01/ping")
        restore = await puppets.call("GET", f"{RUNTIME}/restore/next")
        restore_error = await puppets.call("POST", f"{RUNTIME}/restore/error")
        failed = await puppets.call(
            "POST",
            f"{RUNTIME}/init/error",
            {"errorMessage": "no"},
            Lambda_Runtime_Function_Error_Type="Runtime.NoSuchHandler",
        )
    assert (ping.status, ping.body) == (200, b"pong")
    assert [restore.status, restore_error.status] == [404, 404]
    assert (failed.status, failed.body) == (202, OK)
    assert env.init_outcome is not None
    assert env.init_outcome.error_type == "Runtime.NoSuchHandler"


CAUSE = "application/vnd.aws.lambda.error.cause+json"


@pytest.mark.fidelity("4-cause")
@pytest.mark.parametrize(
    ("body", "payload"),
    [
        (
            {"errorMessage": "m", "errorType": "E", "stackTrace": ["a"], "errorCause": {"exceptions": []}},
            {"errorMessage": "m", "errorType": "E", "stackTrace": ["a"]},
        ),
        (b"{", "Invalid error body"),
    ],
)
async def test_the_caller_of_an_error_with_a_cause_gets_the_error_without_it(
    tmp_path: Path, body: Any, payload: Any
) -> None:
    async with up(puppet_lambda(tmp_path)) as ready:
        invoking = ready.invoke(request_id="r-1")
        await ready.runtime
        await ready.puppets.respond("r-1", body, "error", Content_Type=CAUSE)
        ready.runtime = asyncio.ensure_future(ready.puppets.next_invocation())
        result = await invoking
    assert (result.function_error, result.json()) == ("Unhandled", payload)


async def test_a_body_that_ends_early_is_no_answer(tmp_path: Path) -> None:
    env = puppet_lambda(tmp_path)
    async with up(env) as ready:
        invoking = ready.invoke(request_id="r-1")
        await ready.runtime
        assert await _truncated(env.api) == b""
        assert not invoking.done()
        await ready.puppets.respond("r-1", b'"whole"')
        ready.runtime = asyncio.ensure_future(ready.puppets.next_invocation())
        assert (await invoking).payload == b'"whole"'


async def _truncated(api: str) -> bytes:
    host, _, port = api.partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    path = f"{RUNTIME}/invocation/r-1/response"
    writer.write(f"POST {path} HTTP/1.1\r\nHost: {api}\r\nContent-Length: 100\r\n\r\nshort".encode())
    writer.write_eof()
    answer = await reader.read()
    writer.close()
    return answer


@pytest.mark.fidelity("4-streaming")
async def test_a_response_may_come_in_chunks(tmp_path: Path) -> None:
    async with up(puppet_lambda(tmp_path)) as ready:
        invoking = ready.invoke(request_id="r-1")
        await ready.runtime
        answer = await ready.puppets.respond(
            "r-1",
            b"5\r\nfirst\r\n7\r\n second\r\n0\r\n\r\n",
            Transfer_Encoding="chunked",
            Lambda_Runtime_Function_Response_Mode="streaming",
        )
        ready.runtime = asyncio.ensure_future(ready.puppets.next_invocation())
        result = await invoking
    assert answer.status == 202
    assert result.payload == b"first second"


@pytest.mark.fidelity("4-managed-next", "4-managed-late", "4-managed-error", "8-managed-timeout", "5.3-init")
async def test_managed_instances_take_several_and_refuse_late_answers_without_harm(tmp_path: Path) -> None:
    env = puppet_lambda(tmp_path, "puppet", init_type="lambda-managed-instances", timeout_s=0.5)
    async with up(env, "puppet", events=("SHUTDOWN",)) as ready:
        assert len(env.transcript.calls("runtime", "GET ")) == 1, "one worker is enough for the init"
        second = asyncio.ensure_future(ready.puppets.next_invocation())
        invoking = [ready.invoke(number) for number in range(2)]
        calls = await asyncio.gather(ready.runtime, second)
        assert sorted(call.body for call in calls) == [b"0", b"1"]
        late, failing = [call.headers["Lambda-Runtime-Aws-Request-Id"] for call in calls]
        too_large = await ready.puppets.respond(failing, b"x" * (1024 * 1024 + 1), "error")
        await ready.puppets.respond(failing, {"errorType": "E"}, "error")
        results = await asyncio.gather(*invoking)
        refused_late = await ready.puppets.respond(late)
        assert "runtime" in env.pids
    assert too_large.status == 413
    assert sorted(result.status for result in results) == ["success", "timeout"]
    assert 400 <= refused_late.status < 500
    assert len([event for event in env.telemetry if event["type"] == "platform.initStart"]) == 1


async def test_a_call_that_is_open_at_the_end_does_not_keep_the_environment_from_closing(tmp_path: Path) -> None:
    async with asyncio.timeout(5):
        async with coming_up(puppet_lambda(tmp_path)) as puppets:
            strangers = asyncio.ensure_future(puppets.next_invocation())
        with pytest.raises(asyncio.IncompleteReadError):
            await strangers


@pytest.mark.fidelity("4-identity")
async def test_identity_and_tenant_reach_the_function_and_the_telemetry() -> None:
    async with LocalLambda(Function(code=FUNCTIONS, handler="identity.handler")) as env:
        identity = '{"cognitoIdentityId": "pool:1", "cognitoIdentityPoolId": "pool"}'
        known = await env.invoke({}, cognito_identity=identity, tenant_id="blue")
        nobody = await env.invoke({})
    assert known.json() == {"identity": "pool:1", "tenant": "blue"}
    assert nobody.json()["tenant"] is None
    told = {"platform.start", "platform.runtimeDone", "platform.report"}
    tenants = [event["record"].get("tenantId") for event in env.telemetry if event["type"] in told]
    assert tenants == ["blue"] * 3 + [None] * 3


@pytest.mark.fidelity("1.9-log-level")
async def test_managed_instances_tell_extensions_the_log_level(tmp_path: Path) -> None:
    probe = Probe(tmp_path, events=["SHUTDOWN"])
    async with local_lambda(probe, init_type="lambda-managed-instances", application_log_level="WARN") as env:
        await env.invoke({})
    assert probe.notes("start")[0]["environ"]["AWS_LAMBDA_LOG_LEVEL"] == "WARN"
