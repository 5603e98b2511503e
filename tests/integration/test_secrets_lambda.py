"""The secrets endpoint of the real executable, asked by functions on the local Lambda; SSM is moto's."""

import asyncio
import json
import shutil
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiobotocore.session import get_session

from local_lambda import Function, InitFailed, LocalLambda
from tests.sharing import sharing

from .aws_service import Service, environment, error, moto
from .secrets_world import exchange, head
from .sockets import Answer, Seen, says, serving
from .world import EXTENSION, FUNCTIONS, assert_balanced, free_port, world

# Fixtures are found by name in the module that asks for them.
__all__ = ["environment", "moto"]

EXAMPLES = Path(__file__).parents[2] / "examples"
REGION = "us-east-1"  # the local Lambda's
NAME = "/prod/db/pass"
SECRET = "s3cr3t-hunter2"


@dataclass
class Counted:
    """A service that others wrote, and how often each operation of it was called."""

    url: str = ""
    calls: Counter[str] = field(default_factory=Counter)


@asynccontextmanager
async def counted(url: str) -> AsyncIterator[Counted]:
    """Pass every call on to `url` and count it."""
    found = Counted()
    async with aiohttp.ClientSession() as session:

        async def pass_on(seen: Seen, writer: asyncio.StreamWriter) -> bool:
            found.calls[seen.headers["x-amz-target"].rpartition(".")[2]] += 1
            headers = {name: seen.headers[name] for name in ("x-amz-target", "authorization", "content-type")}
            async with session.post(url, data=seen.body, headers=headers) as answer:
                return await says(answer.status, await answer.read())(seen, writer)

        async with serving(pass_on) as server:
            found.url = server.url().rstrip("/")
            yield found


async def put(url: str, value: str, name: str = NAME) -> None:
    async with get_session().create_client("ssm", region_name=REGION, endpoint_url=url) as ssm:
        await ssm.put_parameter(Name=name, Value=value, Type="SecureString", Overwrite=True)


def variables(url: str, mode: str = "open", **more: str) -> dict[str, str]:
    return {
        "TELEMETRY_FORWARDER_SECRETS": mode,
        "TELEMETRY_FORWARDER_PORT": str(free_port()),
        "PARAMETERS_SECRETS_EXTENSION_HTTP_PORT": str(free_port()),
        "AWS_ENDPOINT_URL_SSM": url,
        "AWS_ENDPOINT_URL_SECRETS_MANAGER": url,
        "PARAMETER_NAME": NAME,
        **more,
    }


def tutorial(language: str, given: dict[str, str]) -> Function:
    folder, handler = {"python": ("python", "app.handler"), "node": ("nodejs", "index.handler")}[language]
    return Function(code=EXAMPLES / "secrets" / folder, handler=handler, environment=given)


def core_limit(pid: int) -> str:
    """Return the largest core file that a process may leave."""
    lines = Path(f"/proc/{pid}/limits").read_text().splitlines()
    return next(line for line in lines if line.startswith("Max core file size")).split()[4]


def asking(given: dict[str, str], **function: Any) -> Function:
    return Function(code=FUNCTIONS, handler="asks.handler", environment=given, **function)


def in_node() -> Any:
    return pytest.param("node", marks=pytest.mark.skipif(shutil.which("node") is None, reason="node not installed"))


@pytest.mark.parametrize("language", ["python", in_node()])
async def test_the_tutorials_function_makes_one_call_in_a_hundred_invocations(moto, environment, language):
    """It asks in its first line too: INIT would fail if that were refused."""
    await put(moto, SECRET)
    async with (
        counted(moto) as service,
        LocalLambda(tutorial(language, variables(service.url)), [EXTENSION], platform=sharing()) as env,
    ):
        results = [(await env.invoke({})).json() for _ in range(100)]
        await env.shutdown()
    assert results == [{"characters": len(SECRET), "changed": False}] * 100
    assert service.calls == {"GetParameter": 1}
    assert not [line for line in env.extension_output(EXTENSION.name) if "ERROR" in line]


@pytest.mark.parametrize("language", ["python", in_node()])
async def test_with_a_ttl_of_a_second_a_changed_parameter_is_seen_after_it(moto, environment, language):
    """The environment is frozen between the invocations: its processes stand still, and only the clocks go on."""
    await put(moto, SECRET)
    given = variables(moto, SSM_PARAMETER_STORE_TTL="1")
    async with LocalLambda(tutorial(language, given), [EXTENSION], platform=sharing()) as env:
        assert not (await env.invoke({})).json()["changed"]
        await put(moto, "another")
        await asyncio.sleep(1.1)
        assert (await env.invoke({})).json() == {"characters": len("another"), "changed": True}


async def test_an_invocation_does_not_wait_for_an_extension_that_only_serves_secrets(moto, environment):
    await put(moto, SECRET)
    async with LocalLambda(asking(variables(moto)), [EXTENSION], platform=sharing()) as env:
        result = await env.invoke({"targets": [f"/?name={NAME}"]})
        assert result.json()["asked"] == [[200, json.dumps({"value": SECRET}, separators=(",", ":"))]]
        longest_core = core_limit(env.pids[EXTENSION.name])
        await env.shutdown()
    assert longest_core == "0"
    assert EXTENSION.name not in result.held_ms, "it is registered for SHUTDOWN alone"
    assert len(env.transcript.next_calls(EXTENSION.name)) == 1


async def test_what_is_to_be_fetched_beforehand_is_there_when_init_ends(moto, environment):
    await put(moto, SECRET)
    await put(moto, "below", "/prod/app/one")
    async with counted(moto) as service:
        given = variables(service.url, TELEMETRY_FORWARDER_SECRETS_PREFETCH=f"{NAME},/prod/app/*")
        async with LocalLambda(asking(given), [EXTENSION], platform=sharing()) as env:
            assert service.calls == {"GetParameters": 1, "GetParametersByPath": 1}
            asked = (await env.invoke({"targets": [f"/?name={NAME}", "/?name=/prod/app/one"]})).json()["asked"]
    assert [json.loads(body)["value"] for _, body in asked] == [SECRET, "below"]
    assert sum(service.calls.values()) == 2


async def test_with_the_token_of_the_functions_session(moto, environment):
    await put(moto, SECRET)
    get = f"/systemsmanager/parameters/get?name={NAME}&withDecryption=true"
    async with LocalLambda(asking(variables(moto, "token")), [EXTENSION], platform=sharing()) as env:
        admitted = (await env.invoke({"targets": [get], "token": "AWS_SESSION_TOKEN"})).json()["asked"]
        refused = (await env.invoke({"targets": [get, f"/?name={NAME}"]})).json()["asked"]
    assert json.loads(admitted[0][1])["Parameter"]["Value"] == SECRET
    assert [status for status, _ in refused] == [403, 403]


async def test_a_restore_drops_what_was_fetched_before_the_snapshot(moto, environment):
    """With the container's token, and credentials from its address: SnapStart has no others."""
    await put(moto, SECRET)
    target = f"/?name={NAME}"
    async with counted(moto) as service:
        function = asking(variables(service.url, ASK_AT_INIT=target), init_type="snap-start")
        async with LocalLambda(function, [EXTENSION], platform=sharing()) as env:
            assert service.calls == {"GetParameter": 1}
            await put(moto, "after the restore")
            first = (await env.invoke({"targets": [target] * 3})).json()
            second = (await env.invoke({"targets": [target]})).json()
            await env.shutdown()
    assert json.loads(first["at_init"][1]) == {"value": SECRET}
    assert {json.loads(body)["value"] for _, body in first["asked"] + second["asked"]} == {"after the restore"}
    assert service.calls["GetParameter"] <= 3, "what came after the restore is kept again"


async def test_a_restore_with_the_containers_token(moto, environment):
    await put(moto, SECRET)
    function = asking(variables(moto, "token"), init_type="snap-start")
    async with LocalLambda(function, [EXTENSION], platform=sharing()) as env:
        asked = {"targets": [f"/?name={NAME}"], "token": "AWS_CONTAINER_AUTHORIZATION_TOKEN"}
        assert [status for status, _ in (await env.invoke(asked)).json()["asked"]] == [200]


async def test_a_port_that_is_taken_is_said_and_telemetry_goes_on(environment):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        more = {"TELEMETRY_FORWARDER_SECRETS": "open", "PARAMETERS_SECRETS_EXTENSION_HTTP_PORT": port}
        async with world(environment=more) as here:
            await here.env.invoke({"lines": 5})
            await here.env.shutdown()
    said = [line["message"] for line in here.said if f"Port {port} cannot be listened on" in line["message"]]
    assert len(said) == 1
    assert "PARAMETERS_SECRETS_EXTENSION_HTTP_PORT" in said[0]
    assert_balanced(here.ledgers[-1])
    assert len(here.numbers("splunk")) == 5


async def test_in_strict_mode_a_taken_port_fails_the_start(environment):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        given = variables("http://127.0.0.1:9", TELEMETRY_FORWARDER_STRICT="true")
        given["PARAMETERS_SECRETS_EXTENSION_HTTP_PORT"] = str(taken.getsockname()[1])
        env = LocalLambda(asking(given), [EXTENSION], platform=sharing())
        with pytest.raises(InitFailed):
            await env.__aenter__()


FORGED = [
    ("forwarded", head("GET", f"/?name={NAME}", "localhost", "X-Forwarded-For: 10.0.0.1"), 403),
    ("host", head("GET", f"/?name={NAME}", "evil.example"), 403),
    ("method", head("POST", f"/?name={NAME}", "localhost", "Content-Length: 0"), 405),
    ("no token", head("GET", f"/?name={NAME}"), 403),
    ("wrong token", head("GET", f"/?name={NAME}", "localhost", "X-Aws-Parameters-Secrets-Token: x"), 403),
    ("huge URL", head("GET", "/?name=" + "a" * 200_000), 414),
    ("huge head", head("GET", "/ping", "localhost", *(f"X-{n}: {'y' * 4000}" for n in range(50))), 431),
    ("slow-loris", b"GET / HTTP/1.1\r\nX-Slow: ", 408),
]


async def test_forged_requests_are_refused_while_telemetry_is_taken_and_nothing_shows_a_value(
    moto, environment, tmp_path
):
    """Eight kinds of forgery, and ten thousand keys, during an invocation; then all that was written is searched."""
    await put(moto, SECRET)
    given = variables(moto, "token", TELEMETRY_FORWARDER_SECRETS_ALLOW="/prod/*", TELEMETRY_FORWARDER_LOG_LEVEL="debug")
    ask = {"targets": [f"/?name={NAME}", "/?name=/prod/missing", "/?name=/other"], "token": "AWS_SESSION_TOKEN"}
    forged = [data.decode("latin-1") for _, data, _ in FORGED]
    # Whatever comes is written to the disk before it is answered: what there is of values would be there too.
    spool = {"TELEMETRY_FORWARDER_SPOOL_DIR": str(tmp_path), "TELEMETRY_FORWARDER_DURABILITY": "strict"}
    more: dict[str, str | None] = {**given, **spool}
    async with world(environment=more, handler="asks.handler", timeout_s=60) as here:
        first = (await here.env.invoke({**ask, "lines": 500, "raw": forged, "keys": 10_000, "below": "/other"})).json()
        second = (await here.env.invoke({**ask, "lines": 500, "first": 500, "keys": 300, "below": "/prod"})).json()
        spooled = written_below(tmp_path)
        await here.env.shutdown()
    assert first["raw"] == [status for _, _, status in FORGED]
    assert first["many"] == {"403": 10_000}
    assert second["many"] == {"404": 300}
    for one in (first, second):
        assert [status for status, _ in one["asked"]] == [200, 404, 403]
        assert json.loads(one["asked"][0][1]) == {"value": SECRET}
    for sink in ("splunk", "datadog", "cloudwatch"):
        assert here.numbers(sink) == Counter(range(1000)), "no telemetry was lost meanwhile"
    for ledger in here.ledgers:
        assert_balanced(ledger)
    said = "\n".join(here.env.extension_output(EXTENSION.name))
    sent = str([here.arrived(sink) for sink in ("splunk", "datadog", "cloudwatch")])
    assert b"line 0000" in spooled, "the search would find what is there"
    assert "ledger" in said
    for value in (SECRET, "local-session-token"):
        assert value not in said
        assert value not in sent
        assert value.encode() not in spooled + written_below(tmp_path)


def written_below(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.glob("**/*") if path.is_file())


# --- off ------------------------------------------------------------------------------------------------------------


async def test_when_it_is_off_nothing_listens(environment):
    given = variables("http://127.0.0.1:9", "off", TELEMETRY_FORWARDER_SECRETS_PREFETCH=NAME)
    async with LocalLambda(asking(given), [EXTENSION], platform=sharing()) as env:
        asked = (await env.invoke({"targets": ["/ping"]})).json()["asked"]
        assert (asked[0][0], "refused" in asked[0][1]) == (0, True)
        with pytest.raises(ConnectionRefusedError):
            await exchange(int(given["PARAMETERS_SECRETS_EXTENSION_HTTP_PORT"]), head("GET", "/ping"))


def test_when_it_is_off_nothing_of_it_is_imported():
    code = (
        "import sys; import telemetry_forwarder.app; from telemetry_forwarder.settings import Settings\n"
        "from telemetry_forwarder.variables.reading import read_all\n"
        "environ = {'DD_API_KEY': 'k', 'SPLUNK_HEC_URL': 'http://x', 'SPLUNK_HEC_TOKEN': 't'}\n"
        "Settings.from_values(read_all(environ))\n"
        "print(*(name for name in sys.modules if 'forwarder.secrets' in name or 'botocore' in name))"
    )
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


# --- the forwarder's own settings -------------------------------------------------------------------------------------


async def test_the_forwarders_own_references_and_the_function_share_one_fetch(moto, environment):
    await put(moto, "hec-token", "/hec/token")
    async with counted(moto) as service:
        given = variables(service.url, SPLUNK_HEC_TOKEN_SSM_PARAMETER="/hec/token", ASK_AT_INIT="/?name=/hec/token")
        more: dict[str, str | None] = {**given, "SPLUNK_HEC_TOKEN": None}
        async with world(environment=more, handler="asks.handler") as here:
            result = (await here.env.invoke({"lines": 5, "targets": ["/?name=/hec/token"]})).json()
            await here.env.shutdown()
    assert json.loads(result["asked"][0][1]) == {"value": "hec-token"}
    assert len(here.numbers("splunk")) == 5
    assert service.calls["GetParameter"] == 1


async def test_a_service_that_is_away_in_init_costs_the_function_its_answer_and_nothing_else(environment):
    answers: list[Answer] = [error("InternalServerError", 500)] * 20
    async with serving(Service(GetParameter=answers)) as server:
        given = variables(server.url().rstrip("/"), ASK_AT_INIT=f"/?name={NAME}")
        async with world(environment=dict(given), handler="asks.handler") as here:
            result = (await here.env.invoke({"lines": 5})).json()
            await here.env.shutdown()
    assert result["at_init"][0] == 500
    assert len(here.numbers("splunk")) == 5
    assert_balanced(here.ledgers[-1])
