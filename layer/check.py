"""Load what the extension loads from a built layer: `python3.X -I -S -B layer/check.py telemetry-forwarder-lib`.

Nothing but that directory and the standard library may be needed; every AWS client is made, because botocore reads
its data files only then.
"""

import asyncio
import importlib.metadata
import sys
from pathlib import Path

LIB = Path(sys.argv[1]).resolve()
sys.path.insert(0, str(LIB))

import aiobotocore.session  # noqa: E402 - found by the line above
import aiohttp._http_parser  # noqa: E402 - compiled; aiohttp would go on without it, slower
import aiohttp.web  # noqa: E402
import orjson  # noqa: E402

import telemetry_forwarder  # noqa: E402


async def make_clients() -> None:
    session = aiobotocore.session.get_session()
    keys = {"aws_access_key_id": "a", "aws_secret_access_key": "b"}  # makes no request, so signs nothing
    for service in ("logs", "ssm", "secretsmanager", "sts"):
        async with session.create_client(service, region_name="eu-west-1", **keys) as client:
            assert client.meta.endpoint_url.startswith(f"https://{service}.eu-west-1.amazonaws.com")  # noqa: S101


foreign = [path for path in sys.path[1:] if "site-packages" in path]
assert not foreign, f"run with -I -S: {foreign}"  # noqa: S101
for module in (aiobotocore, aiohttp, aiohttp._http_parser, orjson, telemetry_forwarder):
    assert LIB in Path(str(module.__file__)).parents, f"{module.__name__} is not the layer's"  # noqa: S101
asyncio.run(make_clients())
sinks = importlib.metadata.entry_points(group="telemetry_forwarder.sinks")
assert {"splunk", "datadog", "cloudwatch"} <= {sink.name for sink in sinks}, "the sinks' entry points are missing"  # noqa: S101
sys.stdout.write(f"Python {sys.version.split()[0]}: everything loads\n")
