"""The other roads: secrets by reference, stand-ins without telemetry, crashes, timeouts, Managed Instances, moto."""

import asyncio
from collections import Counter

import pytest
from moto.server import ThreadedMotoServer

from local_backends import Answer, SecretsManager, Ssm
from local_lambda import Platform
from tests.integration.world import EXTENSION, GROUP, SINKS, assert_arrived, assert_balanced, world


async def test_secrets_are_read_by_reference_and_again_when_they_are_rotated() -> None:
    async with (
        SecretsManager(secrets={"hec": '{"token": "hec-token"}'}) as manager,
        Ssm(parameters={"/dd": "dd-key"}) as ssm,
    ):
        environment = {
            "SPLUNK_HEC_TOKEN": None,
            "SPLUNK_HEC_TOKEN_SECRET_ARN": manager.secret_arn("hec") + "#token",
            "DD_API_KEY": None,
            "DD_API_KEY_SSM_PARAMETER": "/dd",
            "AWS_ENDPOINT_URL_SECRETS_MANAGER": manager.url,
            "AWS_ENDPOINT_URL_SSM": ssm.url,
            "TELEMETRY_FORWARDER_LOG_LEVEL": "debug",
            "TELEMETRY_FORWARDER_FLUSH_TIMEOUT_MS": "8000",  # the AWS SDK is loaded for the first request
        }
        async with world(environment=environment, timeout_s=10.0) as w:
            await w.env.invoke({"lines": 5})
            assert w.numbers("splunk") == w.numbers("datadog") == Counter(range(5))
            manager.put("hec", '{"token": "rotated"}')
            w.splunk.token = "rotated"
            ssm.put("/dd", "rotated-too")
            w.datadog.api_key = "rotated-too"
            await w.env.invoke({"first": 5, "lines": 5})
            await w.env.shutdown()
            assert w.numbers("splunk") == w.numbers("datadog") == Counter(range(10))
            everything = "\n".join(w.env.extension_output(EXTENSION.name))
            assert not any(secret in everything for secret in ("hec-token", "dd-key", "rotated"))
            assert_balanced(w.ledgers[0])


async def test_secret_that_may_not_be_read_is_said_and_holds_the_records_of_its_sink_alone() -> None:
    async with Ssm() as ssm:
        environment = {"DD_API_KEY": None, "DD_API_KEY_SSM_PARAMETER": "/nowhere", "AWS_ENDPOINT_URL_SSM": ssm.url}
        async with world(environment=environment, timeout_s=10.0) as w:
            result = await w.env.invoke({"lines": 5})
            assert result.status == "success"
            end = await w.env.shutdown()
            assert end.extensions[EXTENSION.name].exit_code == 0
            assert w.numbers("splunk") == w.numbers("cloudwatch") == Counter(range(5))
            assert any("/nowhere" in line["message"] for line in w.said)
            ledger = w.ledgers[0]
            assert_balanced(ledger)
            assert ledger["sinks"]["datadog"]["delivered"] == 0


async def test_stand_in_without_telemetry_is_said_once_and_costs_nothing() -> None:
    async with world(platform=Platform(telemetry_supported=False)) as w:
        for _ in range(3):
            result = await w.env.invoke({"lines": 1})
            assert result.status == "success"
            assert result.extension_overhead_ms is not None
            assert result.extension_overhead_ms < 100
        end = await w.env.shutdown()
        assert end.extensions[EXTENSION.name].exit_code == 0
        assert sum("does not support the Telemetry API" in line["message"] for line in w.said) == 1


async def test_older_schema_is_taken_where_the_newest_is_refused() -> None:
    async with world(platform=Platform(schemas=("2022-07-01", "2022-12-13"))) as w:
        await w.env.invoke({"lines": 5})
        await w.env.shutdown()
        assert all(w.numbers(sink) == Counter(range(5)) for sink in SINKS)


async def test_own_lines_never_feed_themselves() -> None:
    environment = {"TELEMETRY_FORWARDER_TYPES": "platform,function,extension", "TELEMETRY_FORWARDER_LOG_LEVEL": "debug"}
    async with world(environment=environment) as w:
        w.splunk.faults.script(Answer(503, times=2))  # something to say
        for number in range(3):
            await w.env.invoke({"first": number, "lines": 1})
        await w.env.shutdown()
        for sink in SINKS:
            assert w.numbers(sink) == Counter(range(3))
            assert not any(
                "telemetry_forwarder" in one["text"] for one in w.arrived(sink) if one["type"] == "extension"
            )
        (ledger,) = w.ledgers
        assert_balanced(ledger)
        assert ledger["door"]["unrouted"]["own_line"] > 0


@pytest.mark.parametrize(("types", "present"), [("platform", False), ("function", True)])
async def test_only_wanted_types_are_forwarded_and_the_ends_are_seen_all_the_same(types: str, present: bool) -> None:
    async with world(environment={"TELEMETRY_FORWARDER_TYPES": types}) as w:
        result = await w.env.invoke({"lines": 5})
        assert result.extension_overhead_ms is not None
        assert result.extension_overhead_ms < 1000
        await w.env.shutdown()
        assert bool(w.numbers("splunk")) is present
        assert bool(w.reports("splunk")) is not present


async def test_lines_of_a_timeout_arrive_at_once_and_its_report_with_the_next_generation() -> None:
    async with world(timeout_s=3.0) as w:
        await w.env.invoke({"lines": 1})
        late = await w.env.invoke({"first": 1, "lines": 4, "sleep": 5})
        assert late.status == "timeout"
        for sink in SINKS:
            assert w.numbers(sink) == Counter(range(5)), "before anybody invokes again"
        after = await w.env.invoke({"first": 5, "lines": 1})
        assert after.status == "success"
        await w.env.shutdown()
        for sink in SINKS:
            assert w.numbers(sink) == Counter(range(6))
            assert w.reports(sink)[late.request_id] == 1
        assert len(w.ledgers) == 2
        for ledger in w.ledgers:
            assert_balanced(ledger)


async def test_lines_of_a_crash_arrive() -> None:
    async with world() as w:
        crashed = await w.env.invoke({"lines": 5, "exit": True})
        assert crashed.function_error
        for sink in SINKS:
            assert w.numbers(sink) == Counter(range(5))
        raised = await w.env.invoke({"first": 5, "lines": 1, "raise": True})
        assert raised.error_type == "ValueError"
        await w.env.shutdown()
        for sink in SINKS:
            assert w.numbers(sink) == Counter(range(6))
            assert any("asked to raise" in one["text"] for one in w.arrived(sink))


async def test_environment_that_is_never_invoked_leaves_at_once() -> None:
    async with world(init_type="provisioned-concurrency") as w:
        end = await w.env.shutdown()
        assert end.extensions[EXTENSION.name].exit_code == 0
        assert end.seconds < 1.2
        assert {one["type"] for one in w.arrived("splunk")} >= {"platform.initStart", "platform.initReport"}


async def test_json_log_format() -> None:
    async with world(log_format="JSON") as w:
        result = await w.env.invoke({"lines": 2, "json": 2, "raise": True})
        await w.env.shutdown()
        structured = [one for one in w.arrived("splunk") if isinstance(one["raw"], dict) and "number" in one["raw"]]
        assert [one["raw"]["number"] for one in structured] == [0, 1]
        assert {one["request_id"] for one in structured} == {result.request_id}
        assert w.numbers("splunk") == Counter(range(2))


async def test_managed_instances_are_flushed_without_invocations_and_ids_are_never_guessed() -> None:
    async with world(init_type="lambda-managed-instances", timeout_s=10.0) as w:
        results = await asyncio.gather(*(w.env.invoke({"first": n * 10, "lines": 10}) for n in range(3)))
        await w.splunk.wait_until(lambda: len(w.numbers("splunk")) == 30, within=8.0)
        await w.env.shutdown()
        for sink in SINKS:
            assert w.numbers(sink) == Counter(range(30))
            assert set(w.reports(sink)) == {result.request_id for result in results}
            lines = [one for one in w.arrived(sink) if one["text"].startswith("line")]
            assert not any(one.get("request_id") for one in lines)
        assert_balanced(w.ledgers[0])


async def test_long_lines_and_many_of_them_are_sent_while_the_function_runs() -> None:
    """More than one request's worth does not wait for the end of the invocation."""
    async with world(timeout_s=20.0) as w:
        await w.env.invoke({"lines": 20_000, "sleep": 0.2})
        await w.env.shutdown()
        for sink in SINKS:
            assert_arrived(w.numbers(sink), range(20_000), w.ledgers[0]["sinks"][sink])
        assert w.ledgers[0]["door"]["lost_before_us"] == 0
        assert_balanced(w.ledgers[0])


async def test_cloudwatch_logs_of_moto_agrees() -> None:
    """A second opinion on the whole road, which we did not write."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        url = f"http://{host}:{port}"
        async with world(environment={"AWS_ENDPOINT_URL_CLOUDWATCH_LOGS": url, "CLOUDWATCH_RETENTION_DAYS": "7"}) as w:
            ids = [(await w.env.invoke({"first": n * 10, "lines": 10})).request_id for n in range(3)]
            await w.env.shutdown()
            stream = w.env.instance_id
            assert_balanced(w.ledgers[0])
            assert w.ledgers[0]["sinks"]["cloudwatch"]["delivered"] == w.ledgers[0]["door"]["received"]
        messages = await asyncio.to_thread(_messages_in_moto, url, stream)
        assert sum('"message":"line ' in message for message in messages) == 30
        assert sum('"type":"platform.report","record"' in message for message in messages) == len(ids)
    finally:
        server.stop()


def _messages_in_moto(url: str, stream: str) -> list[str]:
    import boto3

    client = boto3.client(
        "logs", endpoint_url=url, region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b"
    )
    (group,) = client.describe_log_groups(logGroupNamePrefix=GROUP)["logGroups"]
    assert group["retentionInDays"] == 7
    answer = client.get_log_events(logGroupName=GROUP, logStreamName=stream, startFromHead=True)
    return [event["message"] for event in answer["events"]]
