"""Loads everything that the extension loads, from a finished layer only: `python3.X -IS smoke.py MODULES`.

It creates every client of the AWS SDK, because botocore reads its data only then, and calls a closed port, which
exercises endpoints, serialisers, signatures and botocore's own errors. It creates a TLS context, because that needs
OpenSSL and the certificates. It imports the compiled parts by name, because without them the packages would run, but
slower.
"""

import marshal
import os
import sys

MODULES = sys.argv[1]
if MODULES not in sys.path:  # with the runtime's own interpreter
    sys.path.insert(0, MODULES)
file = os.open(f"{MODULES}/modules.bin", os.O_RDONLY)
importer, index = marshal.loads(os.read(file, int.from_bytes(os.read(file, 4), "little")))
exec(importer, {"__name__": "layer", "file": file, "index": index, "root": MODULES})

import asyncio
import contextlib
import importlib
import importlib.metadata
import ssl

_NOBODY = "http://127.0.0.1:9"  # the discard port, on which no service runs; one that did would not answer
CALLS: dict[str, tuple[str, dict[str, object]]] = {
    "sts": ("get_caller_identity", {}),
    "s3": ("put_object", {"Bucket": "bucket", "Key": "x", "Body": b"x"}),
    "sqs": ("send_message", {"QueueUrl": f"{_NOBODY}/1/x", "MessageBody": "x"}),
}
_COMPILED = (
    "aiohttp._http_parser", "aiohttp._http_writer", "multidict._multidict", "yarl._quoting_c", "orjson.orjson",
    "msgspec._core", "isal.isal_zlib",
)  # fmt: skip


async def _make_clients() -> None:
    session = importlib.import_module("aiobotocore.session").get_session()
    once = importlib.import_module("aiobotocore.config").AioConfig(retries={"total_max_attempts": 1}, connect_timeout=5)
    expected = importlib.import_module("botocore.exceptions").ConnectionError
    given = {"region_name": "eu-west-1", "aws_access_key_id": "a", "aws_secret_access_key": "b", "config": once}
    for service, (operation, words) in CALLS.items():
        async with session.create_client(service, **given) as client:
            assert "eu-west-1" in client.meta.endpoint_url, client.meta.endpoint_url
        async with session.create_client(service, endpoint_url=_NOBODY, **given) as client:
            with contextlib.suppress(expected):
                await getattr(client, operation)(**words)


async def _call_without_the_sdk() -> None:
    """Sign a call and send it, as CloudWatch Logs, Secrets Manager and SSM are called."""
    ours = importlib.import_module("telemetry_forwarder.transports.aws_json")
    network = importlib.import_module("telemetry_forwarder.transports.addresses").Network(region="eu-west-1")
    expected = importlib.import_module("telemetry_forwarder.errors").ConnectFailed
    os.environ |= dict.fromkeys(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), "x")
    os.environ["AWS_ENDPOINT_URL_CLOUDWATCH_LOGS"] = _NOBODY
    client = ours.AwsClient("logs", network, connect_s=5.0)
    with contextlib.suppress(expected):
        await client.call("PutRetentionPolicy", {"logGroupName": "x", "retentionInDays": 1})
    await client.aclose()


_own = [name for name in index if name.startswith("telemetry_forwarder.") and not name.endswith(".__main__")]
for name in (*_COMPILED, *_own):
    importlib.import_module(name)
assert len(_own) > 50, f"modules of ours are missing: {_own}"
ssl.create_default_context(cafile=os.path.join(MODULES, "botocore", "cacert.pem"))
asyncio.run(_make_clients())
asyncio.run(_call_without_the_sdk())
assert importlib.metadata.distribution("telemetry-forwarder"), "no metadata: sinks of others could not be found either"
_roots = tuple(entry for entry in sys.path if entry)
foreign = [path for module in list(sys.modules.values()) if (path := getattr(module, "__file__", None))]
foreign = [path for path in foreign if not path.startswith((*_roots, __file__, "/opt/telemetry-forwarder/"))]
assert not foreign, f"loaded from elsewhere: {foreign}"
