"""The local backends as a command."""

import asyncio
import sys

import aiohttp


async def test_command_serves_until_it_is_stopped() -> None:
    """It says where it listens, takes what a client sends, and counts it at the end."""
    ports = [
        f"--{name}-port=0"
        for name in (
            "splunk",
            "datadog",
            "cloudwatch",
            "ssm",
            "secrets",
            "otlp",
            "firehose",
            "kinesis",
            "s3",
            "axiom",
            "honeycomb",
            "sumologic",
            "newrelic",
            "http",
            "loki",
            "elasticsearch",
        )
    ]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "local_backends",
        *ports,
        "--splunk-token=t",
        "--secret=a=b",
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(20):
            lines = [(await process.stdout.readline()).decode().strip() for _ in range(17)]
            urls = dict(line.split("=", 1) for line in lines)
            async with (
                aiohttp.ClientSession() as client,
                client.post(
                    urls["SPLUNK_HEC_URL"] + "/services/collector",
                    data=b'{"event":1}{"event":2}',
                    headers={"Authorization": "Splunk t"},
                ) as answer,
            ):
                assert answer.status == 200
            process.terminate()
            rest = (await process.stdout.read()).decode().splitlines()
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert set(urls) >= {"DD_LOGS_CONFIG_LOGS_DD_URL", "DD_DD_URL", "TELEMETRY_FORWARDER_OTLP_ENDPOINT", "AXIOM_URL"}
    assert rest == [
        "splunk 2 events", "datadog 0 logs and 0 points", "cloudwatch 0 events",
        "firehose 0 lines", "kinesis 0 lines", "s3 0 lines",
        "axiom 0 records", "honeycomb 0 records", "sumologic 0 records", "newrelic 0 records",
        "http 0 records", "loki 0 records", "elasticsearch 0 records",
        "otlp 0 log records, metrics and spans",
    ]  # fmt: skip
