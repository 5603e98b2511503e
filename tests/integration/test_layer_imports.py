"""What the layer's own interpreter imports in a real run, and when: CPython 3.15 loads libraries' imports lazily."""

import asyncio
import subprocess
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from layer import bundle
from local_backends import CloudWatchLogs, Datadog, Hang, SecretsManager, SplunkHec
from local_lambda import Function, LocalLambda
from tests import layers
from tests.integration.certificates import Authority
from tests.integration.world import FUNCTIONS, GROUP, open_backends
from tests.sharing import sharing

pytestmark = pytest.mark.timeout(400)  # the first to come may have to build the layer

# Each import is noted as it begins: when a lazy one is first used, and any other when it is met.
TRACER = """
import os, sys
{opening}
noted = os.open({noted!r}, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
def note(event, words):
    if event == "import":
        os.write(noted, (words[0] + "\\n").encode())
sys.addaudithook(note)
from telemetry_forwarder.bootstrap import main
sys.exit(main("telemetry-forwarder", os.environ))
"""


@pytest.fixture(scope="module")
def start(opt: Path) -> str:
    """The command that starts the layer's interpreter where it lies, if that imports lazily."""
    private = opt / layers.PRIVATE
    (program,) = (private / "bin").iterdir()
    minor = int(program.name.rpartition(".")[2])
    if minor < 15:
        pytest.skip(f"this layer carries Python 3.{minor}, which imports nothing lazily")
    loader = next(iter((private / "lib").glob("ld-linux-*")), None)
    return f"{loader} --library-path {private / 'lib'} {program} -IS" if loader else f"{program} -IS"


@pytest.fixture
def opening(opt: Path) -> str:
    """What a program begins with to import the layer's modules."""
    (modules,) = opt.glob(f"{layers.PRIVATE}/lib/python3*/{bundle.NAME}")
    return bundle.OPENING.format(root=modules.parent)


@asynccontextmanager
async def traced(
    start: str, opening: str, folder: Path, *sinks: str, **environment: str
) -> AsyncIterator[tuple[LocalLambda, Path]]:
    """Run the extension with `sinks` over TLS; yield the local Lambda, and the file of what was imported so far.

    A secret is answered only after INIT, so that an invocation meets all that its answer needs.
    """
    noted = folder / "imported"
    (folder / "trace.py").write_text(TRACER.format(opening=opening, noted=str(noted)))
    opt = layers.wrapper(folder / "opt", f"exec {start} {folder / 'trace.py'}")
    authority = Authority(folder)
    tls = authority.server("127.0.0.1", "localhost")
    async with asyncio.timeout(60), AsyncExitStack() as stack:
        splunk = await stack.enter_async_context(SplunkHec(token="hec-token", tls=tls))
        datadog = await stack.enter_async_context(Datadog(api_key="dd-key", tls=tls))
        aws = await stack.enter_async_context(CloudWatchLogs(tls=tls))
        secrets = await stack.enter_async_context(SecretsManager(secrets={"key": "dd-key"}, tls=tls))
        secrets.faults.script(Hang())
        _, _, _, given = await open_backends(stack, {
            "TELEMETRY_FORWARDER_SINKS": ",".join(sinks),
            "SPLUNK_HEC_URL": splunk.url.replace("127.0.0.1", "localhost"),  # a name to look up
            "DD_LOGS_CONFIG_LOGS_DD_URL": datadog.url,
            "AWS_ENDPOINT_URL_CLOUDWATCH_LOGS": aws.url,
            "AWS_ENDPOINT_URL_SECRETS_MANAGER": secrets.url,
            "SSL_CERT_FILE": str(authority.trusted),
            **{name: text.format(secret=secrets.secret_arn("key")) for name, text in environment.items()},
        })  # fmt: skip
        async with LocalLambda(
            Function(code=FUNCTIONS, handler="lines.handler", environment=given), opt=opt, platform=sharing()
        ) as env:
            secrets.faults.release()
            yield env, noted
            await env.shutdown()
        assert ("splunk" in sinks) == bool(splunk.events)
        assert ("datadog" in sinks) == bool(datadog.logs)
        assert ("cloudwatch" in sinks) == bool(GROUP in aws.groups and aws.events(GROUP))


@pytest.mark.parametrize(
    ("sinks", "environment"),
    [
        (("splunk",), {}),
        (("datadog",), {}),
        (("cloudwatch",), {}),
        (("datadog",), {"DD_API_KEY": "", "DD_API_KEY_SECRET_ARN": "{secret}"}),
        (("splunk", "datadog", "cloudwatch"), {}),
    ],
    ids=["splunk", "datadog", "cloudwatch", "datadog-with-a-secret", "all"],
)
async def test_no_invocation_pays_for_an_import(
    start: str, opening: str, tmp_path: Path, sinks: tuple[str, ...], environment: dict[str, str]
) -> None:
    """What INIT has time for is loaded in INIT, also what only the first request of a sink uses."""
    async with traced(start, opening, tmp_path, *sinks, **environment) as (env, noted):
        in_init = noted.read_text().splitlines()
        await env.invoke({"lines": 20})
        await env.invoke({"lines": 20})
        assert noted.read_text().splitlines()[len(in_init) :] == []


async def test_what_a_run_does_not_use_is_not_loaded(start: str, opening: str, tmp_path: Path) -> None:
    """With one HTTP sink: no application server, no session of aiohttp's, no web sockets, no SDK, no introspection."""
    async with traced(start, opening, tmp_path, "splunk") as (env, noted):
        await env.invoke({"lines": 20})
        loaded = set(noted.read_text().splitlines())
    assert {"aiohttp.client_proto", "aiohttp.web_protocol", "asyncio.sslproto"} <= loaded
    unused = {
        "aiobotocore", "aiohttp.client", "aiohttp.connector", "aiohttp.cookiejar", "aiohttp.http_websocket",
        "aiohttp.multipart", "aiohttp.web", "aiohttp.web_urldispatcher", "asyncio.graph", "botocore",
        "http.client", "http.cookies", "inspect", "urllib.request", "zipfile",
    }  # fmt: skip
    assert loaded & unused == set()


def test_our_own_modules_and_foreign_sinks_import_at_once(start: str, opening: str, tmp_path: Path) -> None:
    """A sink of somebody else's that cannot be imported is told when it is opened, not when its first record comes."""
    (tmp_path / "their_sink.py").write_text("import graphlib_of_nobody\n")
    script = (
        f"{opening}import sys; from telemetry_forwarder.bootstrap import _import_lazily; _import_lazily()\n"
        f"sys.path.append({str(tmp_path)!r})\n"
        "import aiohttp; print('aiohttp.client' in sys.modules)\n"
        "import telemetry_forwarder.clock; print(isinstance(vars(telemetry_forwarder.clock)['time'], type(sys)))\n"
        "try:\n    import their_sink\nexcept ImportError as error:\n    print(error)\n"
    )
    (tmp_path / "script.py").write_text(script)
    ended = subprocess.run(
        [*start.split(), str(tmp_path / "script.py")], capture_output=True, text=True, check=True, env={}
    )
    assert ended.stdout.splitlines() == ["False", "True", "No module named 'graphlib_of_nobody'"]
