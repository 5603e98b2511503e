"""The layer as it is deployed: unpacked where /opt is, with nothing of the checkout in reach."""

import sys
from collections import Counter
from pathlib import Path

import pytest

from telemetry_forwarder.emulator import Function, LocalLambda
from telemetry_forwarder.emulator.backends import CloudWatchLogs, Datadog, SplunkHec
from tests.integration.world import FUNCTIONS, GROUP, World, assert_balanced, free_port

OPT = Path(__file__).parents[2] / "build/layer"
VERSION = OPT / "telemetry-forwarder-lib/python-version"


@pytest.mark.skipif(not VERSION.exists(), reason="no layer was built: make layer")
async def test_layer_forwards_from_its_own_dependencies() -> None:
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    if VERSION.read_text().strip() != here:
        pytest.skip(f"the layer was built for Python {VERSION.read_text().strip()}, this is {here}")
    async with SplunkHec(token="t") as splunk, Datadog(api_key="k") as datadog, CloudWatchLogs() as cloudwatch:
        environment = {
            "SPLUNK_HEC_URL": splunk.url,
            "SPLUNK_HEC_TOKEN": "t",
            "DD_API_KEY": "k",
            "DD_LOGS_CONFIG_LOGS_DD_URL": datadog.url,
            "CLOUDWATCH_LOG_GROUP": GROUP,
            "AWS_ENDPOINT_URL_CLOUDWATCH_LOGS": cloudwatch.url,
            "TELEMETRY_FORWARDER_PORT": str(free_port()),
            "TELEMETRY_FORWARDER_LOG_LEVEL": "info",
            # A function's own import path must not reach the extension.
            "PYTHONPATH": "/nowhere",
        }
        function = Function(code=FUNCTIONS, handler="lines.handler", environment=environment)
        async with LocalLambda(function, opt=OPT) as env:
            await env.invoke({"lines": 20})
            await env.shutdown()
            w = World(splunk, datadog, cloudwatch, env)
            for sink in ("splunk", "datadog", "cloudwatch"):
                assert w.numbers(sink) == Counter(range(20))
            assert_balanced(w.ledgers[0])
