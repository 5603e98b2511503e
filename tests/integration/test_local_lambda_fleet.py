"""Several environments at once, and the invoke endpoint in front of them, by boto3 and by the `aws` command."""

import asyncio
import base64
import json
import os
import shutil
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from local_lambda import Fleet, Function, InitFailed, Platform, Throttled
from local_lambda.errors import AddressInUse, EnvironmentClosed, InvalidSetting
from local_lambda.serving.deployment import Deployment
from local_lambda.serving.lambda_api import InvokeEndpoint
from tests.integration.local_lambda_probe import FUNCTIONS, Probe, eventually, state_of
from tests.sharing import sharing

FUNCTION = Function(code=FUNCTIONS, timeout_s=10.0)


def with_probe(probe: Probe, **more: Any) -> Function:
    return Function(code=FUNCTIONS, timeout_s=10.0, environment=dict([probe.variable]), **more)


async def test_each_concurrent_invocation_gets_an_environment_of_its_own_and_idle_ones_are_reused(
    tmp_path: Path,
) -> None:
    probe = Probe(tmp_path)
    async with Fleet(with_probe(probe), [probe.path], concurrency=3, platform=sharing()) as fleet:
        burst = await asyncio.gather(*(fleet.invoke({"n": n}) for n in range(3)))
        assert [result.cold_start for result in burst] == [True] * 3
        again = await fleet.invoke({})
        assert not again.cold_start
        environments = list(fleet.environments.values())
        assert len(environments) == 3
        assert len({env.api for env in environments}) == 3
        assert len({env.instance_id for env in environments}) == 3
        pids = [pid for env in environments for pid in env.pids.values()]
    assert len(pids) == 6
    assert [state_of(pid) for pid in pids] == [None] * 6
    assert {number: end.extensions["probe"].exit_code for number, end in fleet.shutdowns.items()} == {1: 0, 2: 0, 3: 0}


async def test_each_environment_has_the_ports_and_the_directory_that_it_was_given(tmp_path: Path) -> None:
    seen: dict[int, tuple[str, str]] = {}

    def are_there() -> list[bool]:
        return [Path(folder).is_dir() for _, folder in seen.values()]

    async with Fleet(
        FUNCTION,
        concurrency=2,
        port_variables=["MY_PORT"],
        platform=Platform(file_system="shared"),
        on_start=lambda number, env: seen.update(
            {number: (env.function.environment["MY_PORT"], env.function.environment["TMPDIR"])}
        ),
    ) as fleet:
        await asyncio.gather(fleet.invoke({}), fleet.invoke({}))
        assert are_there() == [True, True]
    assert len({port for port, _ in seen.values()}) == len({folder for _, folder in seen.values()}) == 2
    assert are_there() == [False, False]


async def test_provisioned_environments_are_ready_before_the_first_invocation(tmp_path: Path) -> None:
    async with Fleet(FUNCTION, concurrency=2) as fleet:
        await fleet.provision(2)
        assert [len(env.pids) for env in fleet.environments.values()] == [1, 1]
        with pytest.raises(Throttled, match="may be 2 environments, and 2 are there"):
            await fleet.provision(1)
        await asyncio.gather(fleet.invoke({}), fleet.invoke({}))
    path = tmp_path / "second"  # the first environment comes up, the other one does not
    shell = f"mkdir {path} 2>/dev/null || exit 3; exec {sys.executable} {FUNCTIONS}/bootstrap.py"
    function = Function(code=FUNCTIONS, command=["/bin/sh", "-c", shell], timeout_s=10.0)
    async with Fleet(function, concurrency=2, platform=sharing()) as fleet:
        with pytest.raises(InitFailed, match="exit status 3"):
            await fleet.provision(2)
        assert (await fleet.invoke({})).json()["echo"] == {}


async def test_all_busy_is_throttled_or_waited_for() -> None:
    async with Fleet(FUNCTION, concurrency=1) as fleet:
        async with asyncio.TaskGroup() as tasks:
            first = tasks.create_task(fleet.invoke({"sleep": 0.5}))
            await asyncio.sleep(0)  # the first one is taken by now: taking needs no waiting
            with pytest.raises(Throttled, match="All 1 environments are busy"):
                await fleet.invoke({})
            second = tasks.create_task(fleet.invoke({}, wait=True))
        assert first.result().cold_start
        assert not second.result().cold_start


async def test_a_caller_that_leaves_does_not_end_the_invocation() -> None:
    async with Fleet(FUNCTION) as fleet:
        await fleet.invoke({})
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(fleet.invoke({"sleep": 0.5}), 0.1)
        with pytest.raises(Throttled):
            await fleet.invoke({})
        assert not (await fleet.invoke({}, wait=True)).cold_start
        (env,) = fleet.environments.values()
        reports = [event["record"]["status"] for event in env.telemetry if event["type"] == "platform.report"]
        assert reports == ["success"] * 3


async def test_leaving_in_the_middle_of_an_invocation_abandons_it_and_leaves_nothing(tmp_path: Path) -> None:
    probe = Probe(tmp_path)
    async with asyncio.TaskGroup() as tasks:
        async with Fleet(with_probe(probe), [probe.path], platform=sharing()) as fleet:
            await fleet.invoke({})
            (env,) = fleet.environments.values()
            pids = list(env.pids.values())
            call = tasks.create_task(_closed(fleet))
            await env.event(lambda event: event["type"] == "platform.start" and event["record"]["requestId"] == "long")
        await call
    assert [state_of(pid) for pid in pids] == [None] * 2
    assert fleet.shutdowns[1].extensions["probe"].received_shutdown


async def _closed(fleet: Fleet) -> None:
    with pytest.raises(EnvironmentClosed, match="shut down during the invocation"):
        await fleet.invoke({"sleep": 30}, request_id="long")


async def test_what_starting_an_environment_raises_is_the_callers(tmp_path: Path) -> None:
    async with Fleet(Function(code=FUNCTIONS, handler="broken.handler")) as fleet:
        with pytest.raises(InitFailed, match="nothing works"):
            await fleet.invoke({})
        assert fleet.environments == {}
    with pytest.raises(InvalidSetting, match="concurrency is 0"):
        Fleet(FUNCTION, concurrency=0)
    with pytest.raises(EnvironmentClosed):
        await fleet.invoke({})


# The endpoint


@pytest.fixture
async def endpoint() -> AsyncIterator[tuple[Fleet, InvokeEndpoint]]:
    function = Function(code=FUNCTIONS, timeout_s=10.0, name="orders")
    platform = Platform(on_init_failure="retry")
    async with Fleet(function, concurrency=2, platform=platform) as fleet, InvokeEndpoint(Deployment(fleet)) as served:
        yield fleet, served


def client(url: str) -> Any:
    return boto3.client(
        "lambda",
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id="none",
        aws_secret_access_key="none",
        config=Config(retries={"total_max_attempts": 1}, read_timeout=30),
    )


async def call(url: str, **arguments: Any) -> Any:
    """Invoke by boto3, and read the payload."""

    def invoke() -> Any:
        one = client(url)
        try:
            answer = one.invoke(**{"FunctionName": "orders", **arguments})
            return answer | {"Payload": answer["Payload"].read()}
        finally:
            one.close()

    return await asyncio.to_thread(invoke)


async def refused(url: str, **arguments: Any) -> tuple[int, str, str]:
    with pytest.raises(ClientError) as caught:
        await call(url, **arguments)
    answer = caught.value.response
    return answer["ResponseMetadata"]["HTTPStatusCode"], answer["Error"]["Code"], answer["Error"]["Message"]


async def test_boto3_gets_payload_version_and_log_tail(endpoint: tuple[Fleet, InvokeEndpoint]) -> None:
    fleet, served = endpoint
    answer = await call(served.url, Payload=json.dumps({"print": ["hello there"]}), LogType="Tail")
    assert answer["StatusCode"] == 200
    assert answer["ExecutedVersion"] == "$LATEST"
    assert "FunctionError" not in answer
    request_id = answer["ResponseMetadata"]["RequestId"]
    assert json.loads(answer["Payload"])["request_id"] == request_id
    log = base64.b64decode(answer["LogResult"]).decode()
    assert log.startswith(f"START RequestId: {request_id} Version: $LATEST\nhello there\nEND RequestId: {request_id}\n")
    assert log.splitlines()[-1].startswith(f"REPORT RequestId: {request_id}\tDuration: ")
    long = await call(served.url, Payload=json.dumps({"print": ["x" * 5000]}), LogType="Tail")
    assert len(base64.b64decode(long["LogResult"])) == 4096
    assert "LogResult" not in await call(served.url)
    assert len(fleet.environments) == 1


@pytest.mark.parametrize(
    "name", ["orders:$LATEST", "123456789012:function:orders", "arn:aws:lambda:us-east-1:123456789012:function:orders"]
)
async def test_every_form_of_the_functions_name_is_understood(
    name: str, endpoint: tuple[Fleet, InvokeEndpoint]
) -> None:
    assert (await call(endpoint[1].url, FunctionName=name, InvocationType="DryRun"))["StatusCode"] == 204


async def test_an_error_of_the_function_is_an_answer(endpoint: tuple[Fleet, InvokeEndpoint]) -> None:
    answer = await call(endpoint[1].url, Payload=json.dumps({"raise": "no such order"}))
    assert answer["StatusCode"] == 200
    assert answer["FunctionError"] == "Unhandled"
    assert json.loads(answer["Payload"])["errorMessage"] == "no such order"


async def test_event_is_answered_at_once_and_waits_for_room(endpoint: tuple[Fleet, InvokeEndpoint]) -> None:
    fleet, served = endpoint
    for number in range(4):  # more than the fleet has environments: none is throttled
        answer = await call(served.url, Payload=json.dumps({"n": number, "sleep": 0.1}), InvocationType="Event")
        assert (answer["StatusCode"], answer["Payload"]) == (202, b"")

    def reports() -> int:
        events = [event for env in fleet.environments.values() for event in env.telemetry]
        return sum(event["type"] == "platform.report" for event in events)

    await eventually(lambda: reports() == 4, timeout_s=10)
    assert len(fleet.environments) == 2


async def test_the_client_context_reaches_the_function(endpoint: tuple[Fleet, InvokeEndpoint]) -> None:
    context = base64.b64encode(json.dumps({"custom": {"tenant": "é"}}, indent=1).encode()).decode()
    answer = await call(endpoint[1].url, ClientContext=context, Payload=json.dumps({"client_context": True}))
    assert json.loads(answer["Payload"])["client_context"] == {"tenant": "é"}


async def test_refusals_have_the_status_and_the_code_of_the_real_one(endpoint: tuple[Fleet, InvokeEndpoint]) -> None:
    url = endpoint[1].url
    assert await refused(url, FunctionName="other") == (
        404,
        "ResourceNotFoundException",
        "Function not found: arn:aws:lambda:us-east-1:123456789012:function:other",
    )
    assert (await refused(url, Qualifier="7"))[:2] == (404, "ResourceNotFoundException")
    assert (await refused(url, Payload=b"{"))[:2] == (400, "InvalidRequestContentException")
    assert (await refused(url, ClientContext="!"))[:2] == (400, "InvalidRequestContentException")
    assert (await refused(url, InvocationType="Sometimes"))[:2] == (400, "InvalidParameterValueException")
    big = json.dumps("x" * 6291456)
    assert await refused(url, Payload=big) == (
        413,
        "RequestEntityTooLargeException",
        "Request must be smaller than 6291456 bytes for the InvokeFunction operation",
    )
    assert (await refused(url, Payload=json.dumps("x" * 1048576), InvocationType="Event"))[0] == 413
    assert endpoint[0].environments == {}, "nothing of it reached the function"


async def test_more_than_the_concurrency_is_throttled(endpoint: tuple[Fleet, InvokeEndpoint]) -> None:
    fleet, served = endpoint
    payload = json.dumps({"sleep": 1})
    async with asyncio.TaskGroup() as tasks:
        busy = [tasks.create_task(call(served.url, Payload=payload)) for _ in range(2)]
        await eventually(lambda: len(fleet.environments) == 2, timeout_s=10)
        assert await refused(served.url) == (429, "TooManyRequestsException", "Rate Exceeded.")
    assert [one.result()["StatusCode"] for one in busy] == [200, 200]


async def test_an_init_that_fails_is_tried_again_in_the_invocation_and_is_an_error_of_the_function() -> None:
    function = Function(code=FUNCTIONS, handler="broken.handler", name="orders", timeout_s=10.0)
    platform = Platform(on_init_failure="retry")
    async with Fleet(function, platform=platform) as fleet, InvokeEndpoint(Deployment(fleet)) as served:
        answer = await call(served.url)
    assert answer["FunctionError"] == "Unhandled"
    assert json.loads(answer["Payload"])["errorMessage"] == "nothing works"


async def test_a_port_that_is_taken_is_one_sentence(endpoint: tuple[Fleet, InvokeEndpoint]) -> None:
    fleet, served = endpoint
    port = int(served.url.rpartition(":")[2])
    with pytest.raises(AddressInUse, match=rf"cannot listen on 127\.0\.0\.1:{port}"):
        await InvokeEndpoint(Deployment(fleet), port=port).__aenter__()


@pytest.mark.skipif(shutil.which("aws") is None, reason="the AWS CLI is not installed")
async def test_aws_lambda_invoke(tmp_path: Path, endpoint: tuple[Fleet, InvokeEndpoint]) -> None:
    arguments = [
        "lambda",
        "invoke",
        "--endpoint-url",
        endpoint[1].url,
        "--function-name",
        "orders",
        "--log-type",
        "Tail",
    ]
    payload = base64.b64encode(b'{"print": ["by the command"]}').decode()
    if b"aws-cli/1" in await _aws("--version"):
        payload = '{"print": ["by the command"]}'
    out = json.loads(await _aws(*arguments, "--payload", payload, str(tmp_path / "out.json")))
    assert out["StatusCode"] == 200
    assert "by the command" in base64.b64decode(out["LogResult"]).decode()
    assert "request_id" in json.loads((tmp_path / "out.json").read_text())


async def _aws(*arguments: str) -> bytes:
    variables = {"AWS_ACCESS_KEY_ID": "none", "AWS_SECRET_ACCESS_KEY": "none", "AWS_DEFAULT_REGION": "us-east-1"}
    process = await asyncio.create_subprocess_exec(
        "aws", *arguments, stdout=asyncio.subprocess.PIPE, env=os.environ | variables
    )
    out, _ = await process.communicate()
    assert process.returncode == 0
    return out
