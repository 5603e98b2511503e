"""The replay function runs as it is built for Lambda, on AWS's runtime client, with nothing but its own packages."""

import json
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from local_lambda import Function, LocalLambda
from tests.layers import REPOSITORY
from tests.sharing import sharing
from tests.surroundings import NETWORK

from .aws_service import REGION
from .one_step_moto import running
from .places import keys
from .test_replay_function import TAG, a_world, event_of, message_of, record

VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"


@pytest.fixture
def code(tmp_path: Path) -> Path:
    """What `make build-ReplayFunction` builds, but for this machine's Python."""
    code = tmp_path / "code"
    command = [sys.executable, "-m", "layer.function", str(code), "--python", VERSION, "--arch", platform.machine()]
    subprocess.run(command, cwd=REPOSITORY, env=NETWORK, check=True, capture_output=True, timeout=250)
    return code


@pytest.mark.timeout(300)
async def test_built_function_delivers_in_a_local_lambda(code: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with running() as url:
        async with a_world(url, "packaged", monkeypatch) as w:
            await w.keep([record(id=f"r{number}") for number in range(10)], 100_000)
            (key,) = await keys(url, "packaged")
            sinks = {name: w.environ[name] for name in ("SPLUNK_HEC_URL",)}
            given = {name: value for name, value in w.environ.items() if name not in sinks and "REGION" not in name}
            function = Function(
                code=code,
                handler="telemetry_forwarder.replay.function.handler",
                runtime=f"python{VERSION}",
                region=REGION,
                timeout_s=30.0,
                environment={**given, "TELEMETRY_FORWARDER_REPLAY_VARIABLES": json.dumps(sinks)},
            )
            async with LocalLambda(function, extensions=[], platform=sharing()) as env:
                result = await env.invoke({"Records": [message_of(event_of("packaged", key))]})
                assert result.status == "success", result
                assert json.loads(result.payload) == {"batchItemFailures": []}
            assert w.arrived == {f"r{number}": 1 for number in range(10)}
            assert await w.tags(key) == [TAG]
