"""The secrets endpoint before moto and before services that misbehave: routes, errors, forgeries, numbers."""

import asyncio
import base64
import http.client
import json
import re
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
import requests
import urllib3
from aiobotocore.session import get_session

from telemetry_forwarder.clock import SystemClock
from telemetry_forwarder.secrets import fetch as fetching
from telemetry_forwarder.secrets import server as serving_module

from . import secrets_transcript as transcript
from .aws_service import ENDPOINTS, REGION, Service, endpoint, environment, error, moto
from .secrets_world import exchange, from_service, head, open_world, read_reply
from .sockets import Seen, hang, says, serving

# Fixtures are found by name in the module that asks for them.
__all__ = ["endpoint", "environment", "moto"]

GET = "/systemsmanager/parameters/get"
TOKEN = "X-Aws-Parameters-Secrets-Token"


@asynccontextmanager
async def aws(service: str) -> AsyncIterator[Any]:
    async with get_session().create_client(service, region_name=REGION) as client:
        yield client


def value(text: str) -> bytes:
    return json.dumps({"Parameter": {"Value": text}}).encode()


# --- against moto ---------------------------------------------------------------------------------------------------

VALUES = {
    "/exact/plain": "hunter2",
    "/exact/unicode": 'ключ "ü" 🔑\u2028\n\t\\',
    "/exact/json": '{"user": "db", "pass": "p\\u00e4ss", "n": 1.0}',
    "exact.no-slash": " spaces around ",
    "/exact/4k": "x" * 4096,
}


async def test_values_of_parameters_are_exact_on_both_routes(moto, endpoint):
    endpoint(moto)
    async with aws("ssm") as ssm:
        for name, text in VALUES.items():
            await ssm.put_parameter(Name=name, Value=text, Type="SecureString")
        arn = (await ssm.get_parameter(Name="/exact/plain"))["Parameter"]["ARN"]
    async with open_world() as world:
        for name, text in VALUES.items():
            for written in (name, quote(name, safe="")):
                assert (await world.get(f"/?name={written}")).json() == {"value": text}
                reply = await world.get(f"{GET}?name={written}&withDecryption=true")
                assert reply.json()["Parameter"]["Value"] == text
            service = await from_service(moto, "GetParameter", REGION, Name=name, WithDecryption=True)
            assert (reply.status, reply.body) == service, "the service's own JSON, byte for byte"
        assert (await world.get(f"/?name={quote(arn)}")).json() == {"value": "hunter2"}
        undecrypted = (await world.get(f"{GET}?name=/exact/plain")).json()["Parameter"]["Value"]
        assert undecrypted == (await world.get("/?name=/exact/plain&withDecryption=false")).json()["value"] != "hunter2"


async def test_versions_and_labels_of_parameters(moto, endpoint):
    endpoint(moto)
    async with aws("ssm") as ssm:
        for number in (1, 2, 3):
            await ssm.put_parameter(Name="/v/p", Value=f"v{number}", Type="String", Overwrite=number > 1)
        await ssm.label_parameter_version(Name="/v/p", ParameterVersion=2, Labels=["live"])
    async with open_world() as world:
        for query, text in {"": "v3", "&version=1": "v1", "&label=live": "v2", "&version=2": "v2"}.items():
            assert (await world.get(f"/?name=/v/p{query}")).json() == {"value": text}
            assert (await world.get(f"{GET}?name=/v/p{query}")).json()["Parameter"]["Value"] == text
        assert (await world.get("/?name=/v/p:1")).json() == {"value": "v1"}
        assert (await world.get("/?name=/v/p&version=9")).status in (400, 404)


async def test_secrets_of_every_kind_are_exact(moto, endpoint):
    endpoint(moto)
    binary, large = bytes(range(256)), "ä" * 32768
    async with aws("secretsmanager") as manager:
        made = {
            "app/db+1@x": (await manager.create_secret(Name="app/db+1@x", SecretString='{"user": "ü"}')),
            "binary": (await manager.create_secret(Name="binary", SecretBinary=binary)),
            "large": (await manager.create_secret(Name="large", SecretString=large)),
        }
    async with open_world() as world:
        for name, secret in made.items():
            service = await from_service(moto, "GetSecretValue", REGION, SecretId=name)
            for identity in (name, quote(name, safe=""), secret["ARN"]):
                reply = await world.get(f"/secretsmanager/get?secretId={identity}")
                assert (reply.status, reply.body) == service
        assert (await world.get("/?name=secretsmanager:app/db+1@x")).json() == {"value": '{"user": "ü"}'}
        assert (await world.get(f"/?name={made['large']['ARN']}")).json() == {"value": large}
        told = (await world.get("/?name=secretsmanager:binary")).json()
        assert (base64.b64decode(told["value"]), told["encoding"]) == (binary, "base64")


async def test_stages_and_versions_of_secrets(moto, endpoint):
    endpoint(moto)
    async with aws("secretsmanager") as manager:
        first = await manager.create_secret(Name="rotating", SecretString="old")
        await manager.put_secret_value(SecretId="rotating", SecretString="new")
    async with open_world() as world:
        get = "/secretsmanager/get?secretId=rotating"
        assert (await world.get(get)).json()["SecretString"] == "new"
        assert (await world.get(f"{get}&versionStage=AWSPREVIOUS")).json()["SecretString"] == "old"
        assert (await world.get(f"{get}&versionId={first['VersionId']}")).json()["SecretString"] == "old"
        assert (await world.get("/?name=secretsmanager:rotating&versionStage=AWSPREVIOUS")).json() == {"value": "old"}


async def test_the_services_own_errors_pass_through(moto, endpoint):
    endpoint(moto)
    async with open_world() as world:
        missing = await from_service(moto, "GetParameter", REGION, Name="/not/there", WithDecryption=False)
        reply = await world.get(f"{GET}?name=/not/there")
        assert (reply.status, reply.body) == missing
        missing = await from_service(moto, "GetSecretValue", REGION, SecretId="not-there")
        reply = await world.get("/secretsmanager/get?secretId=not-there")
        assert (reply.status, reply.body) == missing
        ours = await world.get("/?name=/not/there")
        assert (ours.status, ours.json()["error"]) == (404, told_missing("SSM parameter /not/there"))


def told_missing(key: str) -> str:
    return f"{key} does not exist or is being deleted (ParameterNotFound); check name, region and account."


async def test_a_forced_fetch_sees_a_change_at_once(moto, endpoint):
    endpoint(moto)
    async with aws("ssm") as ssm, open_world() as world:
        await ssm.put_parameter(Name="/forced", Value="v1", Type="String")
        assert (await world.get("/?name=/forced")).json() == {"value": "v1"}
        await ssm.put_parameter(Name="/forced", Value="v2", Type="String", Overwrite=True)
        assert (await world.get("/?name=/forced")).json() == {"value": "v1"}
        assert (await world.get("/?name=/forced&refreshNow=true")).json() == {"value": "v2"}
        assert (await world.get("/?name=/forced")).json() == {"value": "v2"}


async def test_prefetch_asks_in_batches(moto, endpoint):
    endpoint(moto)
    async with aws("ssm") as ssm, aws("secretsmanager") as manager:
        for number in range(12):
            await ssm.put_parameter(Name=f"/pre/{number}", Value=f"p{number}", Type="SecureString")
            await ssm.put_parameter(Name=f"/tree/a/{number}", Value=f"t{number}", Type="String")
        for number in range(22):
            await manager.create_secret(Name=f"pre-{number}", SecretString=f"s{number}")
    names = [f"/pre/{number}" for number in range(12)] + [f"secretsmanager:pre-{number}" for number in range(22)]
    async with open_world(TELEMETRY_FORWARDER_SECRETS_PREFETCH=",".join([*names, "/tree/*", "/pre/missing"])) as world:
        assert (await world.get("/?name=/pre/11")).json() == {"value": "p11"}
        assert (await world.get("/?name=secretsmanager:pre-21")).json() == {"value": "s21"}
        await world.service.wait_until_warm()
        before = (await world.stats())["calls"]
        for number in range(12):
            assert (await world.get(f"/?name=/pre/{number}")).json() == {"value": f"p{number}"}
            assert (await world.get(f"/?name=/tree/a/{number}")).json() == {"value": f"t{number}"}
        for number in range(22):
            reply = await world.get(f"/secretsmanager/get?secretId=pre-{number}")
            assert (reply.json()["SecretString"], reply.json()["Name"]) == (f"s{number}", f"pre-{number}")
        after = await world.stats()
        # Two pages, two of ten parameters, two of twenty secrets, and the one that is missing, asked for alone.
        assert before == after["calls"] == 7
    assert sum("/pre/missing does not exist" in line for line in world.written) == 1


class MovedClock(SystemClock):
    """The machine's clocks, each of which can be moved on."""

    wall = monotonic_moved = 0.0

    def time(self) -> float:
        return super().time() + self.wall

    def monotonic(self) -> float:
        return super().monotonic() + self.monotonic_moved


@pytest.mark.parametrize(("wall", "monotonic"), [(600.0, 0.0), (0.0, 600.0)])
async def test_after_ten_minutes_of_freeze_no_expired_value_is_given(endpoint, wall, monotonic):
    """Whichever clock stood still meanwhile."""
    values = [says(200, value(text)) for text in ("v1", "v2")]
    async with serving(Service(GetParameter=values)) as server:
        endpoint(server.url())
        clock = MovedClock()
        async with open_world(clock) as world:
            assert [(await world.get("/?name=/a")).json()["value"] for _ in range(2)] == ["v1", "v1"]
            clock.wall, clock.monotonic_moved = wall, monotonic
            assert (await world.get("/?name=/a")).json() == {"value": "v2"}


async def test_a_role_that_may_not_batch_still_prefetches_one_by_one(endpoint):
    service = Service(
        GetParameters=[error("AccessDeniedException")],
        BatchGetSecretValue=[error("AccessDeniedException")],
        GetParametersByPath=[error("AccessDeniedException")],
        GetParameter=[says(200, value("p"))],
        GetSecretValue=[says(200, b'{"SecretString":"s"}')],
    )
    async with serving(service) as server:
        endpoint(server.url())
        async with open_world(TELEMETRY_FORWARDER_SECRETS_PREFETCH="/one,secretsmanager:two,/path/*") as world:
            assert (await world.get("/?name=/one")).json() == {"value": "p"}
            assert (await world.get("/?name=secretsmanager:two")).json() == {"value": "s"}
            await world.service.wait_until_warm()
    assert sorted(service.calls) == [
        "BatchGetSecretValue", "GetParameter", "GetParameters", "GetParametersByPath", "GetSecretValue",
    ]  # fmt: skip
    assert any("Not all of /path/* was fetched beforehand: AccessDeniedException." in line for line in world.written)


async def test_what_is_not_allowed_is_not_prefetched(endpoint):
    async with serving(Service()) as server:
        endpoint(server.url())
        given = {"TELEMETRY_FORWARDER_SECRETS_PREFETCH": "/other", "TELEMETRY_FORWARDER_SECRETS_ALLOW": "/prod/*"}
        async with open_world(**given) as world:
            await world.service.wait_until_warm()
    assert server.requests == []
    assert any("/other is not fetched beforehand" in line for line in world.written)


# --- errors ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "status", "says_what"),
    [
        ("AccessDeniedException", 403, "ssm:GetParameter"),
        ("ParameterVersionNotFound", 404, "does not exist"),
        ("ValidationException", 400, "does not take such a name"),
        ("InvalidKeyId", 403, "kms:Decrypt"),
        ("ExpiredTokenException", 403, "credentials"),
        ("InternalServerError", 500, "cannot be read now"),
    ],
)
async def test_an_error_is_told_with_its_status_on_one_route_and_passes_through_on_the_other(
    endpoint, kind, status, says_what
):
    async with serving(error(kind)) as server:
        endpoint(server.url())
        async with open_world() as world:
            told = await world.get("/?name=/a")
            assert (told.status, list(told.json())) == (status, ["error"])
            assert says_what in told.json()["error"]
            passed = await world.get(f"{GET}?name=/a&withDecryption=true")
            assert (passed.status, passed.json()) == (400, {"__type": kind, "message": f"{kind} it is"})


async def test_a_service_that_hangs_is_a_time_out(endpoint):
    async with serving(hang) as server:
        endpoint(server.url())
        async with open_world(SSM_PARAMETER_STORE_TIMEOUT_MILLIS="300") as world:
            for target in ("/?name=/a", f"{GET}?name=/a"):
                reply = await world.get(target)
                assert (reply.status, list(reply.json())) == (504, ["error"])


async def test_stale_is_given_marked_while_the_service_throttles_and_no_longer_than_allowed(endpoint):
    service = Service(GetParameter=[says(200, value("v1")), *[error("ThrottlingException")] * 100])
    async with serving(service) as server:
        endpoint(server.url())
        async with open_world(SSM_PARAMETER_STORE_TTL="1", SSM_PARAMETER_STORE_TIMEOUT_MILLIS="3000") as world:
            fresh = await world.get("/?name=/a")
            assert (fresh.json(), fresh.headers.get("telemetry-forwarder-stale")) == ({"value": "v1"}, None)
            await asyncio.sleep(1.1)
            stale = await world.get("/?name=/a")
            assert (stale.status, stale.json()) == (200, {"value": "v1"})
            assert int(stale.headers["telemetry-forwarder-stale"]) <= 2
    assert not [line for line in world.written if "v1" in line]


async def test_five_hundred_first_requests_are_one_call(endpoint):
    async def slow(seen: Seen, writer: asyncio.StreamWriter) -> bool:
        await asyncio.sleep(0.3)
        return await says(200, value("v1"))(seen, writer)

    async with serving(slow) as server:
        endpoint(server.url())
        async with open_world() as world:
            replies = await asyncio.gather(*(world.get("/?name=/a") for _ in range(500)))
    assert {(reply.status, reply.body) for reply in replies} == {(200, b'{"value":"v1"}')}
    assert len(server.requests) == 1


async def test_connections_to_the_service_are_bounded(endpoint):
    busy = most = 0

    async def slow(seen: Seen, writer: asyncio.StreamWriter) -> bool:
        nonlocal busy, most
        busy += 1
        most = max(most, busy)
        await asyncio.sleep(0.02)
        busy -= 1
        return await says(200, value("v"))(seen, writer)

    async with serving(slow) as server:
        endpoint(server.url())
        async with open_world(PARAMETERS_SECRETS_EXTENSION_MAX_CONNECTIONS="2") as world:
            replies = await asyncio.gather(*(world.get(f"/?name=/{number}") for number in range(20)))
    assert {reply.status for reply in replies} == {200}
    assert most == 2


# --- who may ask ----------------------------------------------------------------------------------------------------


async def test_the_token_is_asked_for_and_never_told(endpoint):
    async with serving(says(200, value("v1"))) as server:
        endpoint(server.url())
        async with open_world(TELEMETRY_FORWARDER_SECRETS="token", AWS_SESSION_TOKEN="s3ss10n") as world:
            for headers in ((), (f"{TOKEN}: wrong",), (f"{TOKEN}: s3ss10",), (f"{TOKEN}:",)):
                for target in ("/?name=/a", f"{GET}?name=/a", "/secretsmanager/get?secretId=a", "/stats"):
                    reply = await world.get(target, *headers)
                    assert reply.status == 403
                    assert TOKEN in reply.json()["error"]
                    assert "s3ss10n" not in str(reply)
            assert server.requests == []
            assert (await world.get("/?name=/a", f"{TOKEN.lower()}: s3ss10n")).json() == {"value": "v1"}
            assert (await world.get("/ping")).status == 200
    assert "s3ss10n" not in str(world.written)


async def test_without_any_token_nobody_is_let_in(endpoint):
    endpoint("http://127.0.0.1:9")
    async with open_world(TELEMETRY_FORWARDER_SECRETS="token") as world:
        assert (await world.get("/?name=/a", f"{TOKEN}: ")).status == 403
    assert any("there is no AWS_SESSION_TOKEN" in line for line in world.written)


async def test_only_what_is_allowed_may_be_asked_for(endpoint):
    async with serving(says(200, value("v1"))) as server:
        endpoint(server.url())
        async with open_world(TELEMETRY_FORWARDER_SECRETS_ALLOW="/prod/*") as world:
            for target in ("/?name=/other", f"{GET}?name=/other", "/?name=secretsmanager:/prod/x"):
                reply = await world.get(target)
                assert reply.status == 403
                assert "TELEMETRY_FORWARDER_SECRETS_ALLOW" in reply.json()["error"]
            assert server.requests == []
            assert (await world.get("/?name=/prod/x")).status == 200


@pytest.mark.parametrize(
    ("request_head", "status"),
    [
        (head("GET", "/?name=/a", "localhost", "X-Forwarded-For: 10.0.0.1"), 403),
        (head("GET", "/?name=/a", "evil.example"), 403),
        (b"GET /?name=/a HTTP/1.0\r\n\r\n", 403),
        (b"GET /?name=/a HTTP/1.1\r\n\r\n", 400),  # RFC 9112, section 3.2: without Host it is no request
        (head("POST", "/?name=/a", "localhost", "Content-Length: 2") + b"{}", 405),
        (head("PUT", "/?name=/a"), 405),
        (head("OPTIONS", "/?name=/a"), 405),
        (head("GET", "/?name=" + "a" * 100_000), 414),
        (head("GET", "/?name=" + "a" * 9000), 414),
        (head("GET", "/", "localhost", *(f"X-{n}: {'y' * 900}" for n in range(20))), 431),
        (head("GET", "/nowhere"), 404),
        (b"\x16\x03\x01\x00\xa5\x01\x00\r\n\r\n", 400),
    ],
)
async def test_a_forged_request_is_refused_with_a_reason_and_never_reaches_the_service(endpoint, request_head, status):
    async with serving(says(200, value("v1"))) as server:
        endpoint(server.url())
        async with open_world() as world:
            reply = await exchange(world.port, request_head)
            assert (reply.status, list(reply.json())) == (status, ["error"])
            assert reply.headers["cache-control"] == "no-store"
            assert reply.headers["connection"] == ("keep-alive" if status == 404 else "close")
            assert server.requests == []
            assert (await world.get("/?name=/a")).status == 200, "the service goes on"
            assert (await world.stats())["refused"] == 1


async def test_head_is_refused_without_a_body(endpoint):
    endpoint("http://127.0.0.1:9")
    async with open_world() as world:
        reader, writer = await asyncio.open_connection("127.0.0.1", world.port)
        writer.write(head("HEAD", "/?name=/a"))
        answer = await reader.read()
        writer.close()
    assert answer.startswith(b"HTTP/1.1 405 ")
    assert answer.endswith(b"\r\n\r\n")


async def test_a_head_that_does_not_end_is_given_up(endpoint, monkeypatch):
    monkeypatch.setattr(serving_module, "TICK_S", 0.05)
    endpoint("http://127.0.0.1:9")
    async with open_world() as world:
        reader, writer = await asyncio.open_connection("127.0.0.1", world.port)
        writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n")
        async with asyncio.timeout(5):
            reply = await read_reply(reader)
            assert (reply.status, await reader.read()) == (408, b"")
        writer.close()


async def test_a_caller_who_trickles_does_not_win_time(endpoint, monkeypatch):
    monkeypatch.setattr(serving_module, "TICK_S", 0.1)
    endpoint("http://127.0.0.1:9")
    async with open_world() as world:
        reader, writer = await asyncio.open_connection("127.0.0.1", world.port)
        async with asyncio.timeout(5):
            reading = asyncio.ensure_future(read_reply(reader))
            while not reading.done():
                writer.write(b"G")
                await asyncio.wait([reading], timeout=0.02)
            assert reading.result().status == 408
        writer.close()


async def test_callers_beyond_the_bound_push_out_the_silent_ones(endpoint, monkeypatch):
    monkeypatch.setattr(serving_module, "MOST_CONNECTIONS", 20)
    async with serving(says(200, value("v1"))) as server:
        endpoint(server.url())
        async with open_world() as world:
            silent = [await asyncio.open_connection("127.0.0.1", world.port) for _ in range(60)]
            for _, writer in silent:
                writer.write(b"GET /")
            assert (await world.get("/?name=/a")).json() == {"value": "v1"}
            for _, writer in silent:
                writer.close()


async def test_waiting_requests_are_bounded(endpoint, monkeypatch):
    monkeypatch.setattr(serving_module, "MOST_WAITING", 10)
    async with serving(hang) as server:
        endpoint(server.url())
        async with open_world(SSM_PARAMETER_STORE_TIMEOUT_MILLIS="2000") as world:
            asking = [asyncio.ensure_future(world.get(f"/?name=/{number}")) for number in range(30)]
            done, _ = await asyncio.wait(asking, timeout=1.5)
            assert sorted(task.result().status for task in done) == [429] * 20
            assert {task.result().headers["retry-after"] for task in done} == {"1"}
            assert (await world.get("/ping")).status == 200
            assert sorted(reply.status for reply in await asyncio.gather(*asking)) == [429] * 20 + [504] * 10


async def test_a_thousand_keys_leave_a_bounded_cache(endpoint):
    async with serving(says(200, value("v" * 100))) as server:
        endpoint(server.url())
        async with open_world(PARAMETERS_SECRETS_EXTENSION_CACHE_SIZE="100") as world:
            reader, writer = await asyncio.open_connection("127.0.0.1", world.port)
            for number in range(1000):  # each through the whole SDK
                writer.write(head("GET", f"/?name=/{number}"))
                assert (await read_reply(reader)).status == 200
            writer.close()
            stats = await world.stats()
            assert (stats["entries"], stats["evictions"]) == (100, 900)


async def test_requests_on_one_connection_are_answered_in_order(endpoint):
    async with serving(Service(GetParameter=[says(200, value(f"v{n}")) for n in range(3)])) as server:
        endpoint(server.url())
        async with open_world() as world:
            reader, writer = await asyncio.open_connection("127.0.0.1", world.port)
            writer.write(b"".join(head("GET", f"/?name=/{number}") for number in range(3)))
            assert [(await read_reply(reader)).json()["value"] for _ in range(3)] == ["v0", "v1", "v2"]
            writer.write(head("GET", "/?name=/0") + head("GET", "/?name=/1", "localhost", "Connection: close"))
            assert [(await read_reply(reader)).json()["value"] for _ in range(2)] == ["v0", "v1"]
            assert await reader.read() == b""
            writer.close()


async def test_a_caller_who_leaves_while_waiting_costs_nothing(endpoint):
    async with serving(hang) as server:
        endpoint(server.url())
        async with open_world(SSM_PARAMETER_STORE_TIMEOUT_MILLIS="500") as world:
            _, writer = await asyncio.open_connection("127.0.0.1", world.port)
            writer.write(head("GET", "/?name=/a"))
            await server.asked.wait()
            writer.transport.abort()
            reply = await world.get("/?name=/a")
            assert reply.status == 504
            assert (await world.stats())["waiting"] == 0


async def test_statistics_tell_names_and_ages_and_no_values(endpoint):
    async with serving(says(200, value("hunter2"))) as server:
        endpoint(server.url())
        async with open_world() as world:
            for _ in range(3):
                await world.get("/?name=/a")
            stats = await world.stats()
            assert (stats["hits"], stats["misses"], stats["calls"]) == (2, 1, 1)
            assert list(stats["ages"]) == ["SSM parameter /a"]
            assert "hunter2" not in str(stats) + str(world.written)


# --- clients ---------------------------------------------------------------------------------------------------------


def by_requests(url: str, headers: dict[str, str]) -> Any:
    session = requests.Session()
    session.trust_env = False  # a proxy of this machine is not asked
    return [session.get(url, headers=headers, timeout=10).json() for _ in range(3)][-1]


def by_http_client(url: str, headers: dict[str, str]) -> Any:
    where = urlsplit(url)
    connection = http.client.HTTPConnection(where.netloc, timeout=10)
    for _ in range(3):
        connection.request("GET", f"{where.path}?{where.query}", headers=headers)
        body = connection.getresponse().read()
    connection.close()
    return json.loads(body)


def by_urllib3(url: str, headers: dict[str, str]) -> Any:
    with urllib3.PoolManager() as pool:
        return [pool.request("GET", url, headers=headers).json() for _ in range(3)][-1]


def by_node(url: str, headers: dict[str, str]) -> Any:
    program = f"fetch({json.dumps(url)}, {{headers: {json.dumps(headers)}}}).then(a => a.text()).then(console.log)"
    return json.loads(subprocess.run(["node", "-e", program], capture_output=True, check=True, timeout=20).stdout)


def by_curl(url: str, headers: dict[str, str]) -> Any:
    given = [part for name, text in headers.items() for part in ("-H", f"{name}: {text}")]
    return json.loads(subprocess.run(["curl", "-sf", *given, url], capture_output=True, check=True, timeout=20).stdout)


@pytest.mark.parametrize(
    "client",
    [
        by_requests,
        by_http_client,
        by_urllib3,
        pytest.param(by_node, marks=pytest.mark.skipif(shutil.which("node") is None, reason="no node")),
        pytest.param(by_curl, marks=pytest.mark.skipif(shutil.which("curl") is None, reason="no curl")),
    ],
)
async def test_the_clients_that_functions_use_are_understood(endpoint, client):
    """As AWS's documentation asks its own extension: with these libraries, this path and this header."""
    async with serving(says(200, value("v1"))) as server:
        endpoint(server.url())
        async with open_world(TELEMETRY_FORWARDER_SECRETS="token", AWS_SESSION_TOKEN="s3ss10n") as world:
            url = f"http://localhost:{world.port}{GET}?name=%2Fa&withDecryption=true"
            answer = await asyncio.to_thread(client, url, {TOKEN: "s3ss10n"})
    assert answer == {"Parameter": {"Value": "v1"}}


async def test_the_program_of_the_page_runs(endpoint, monkeypatch):
    page = (Path(__file__).parents[2] / "docs/secrets.md").read_text()
    (program,) = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    monkeypatch.setenv("AWS_SESSION_TOKEN", "s3ss10n")
    async with serving(says(200, value("v1"))) as server:
        endpoint(server.url())
        async with open_world(TELEMETRY_FORWARDER_SECRETS="token", AWS_SESSION_TOKEN="s3ss10n") as world:
            names: dict[str, Any] = {}
            await asyncio.to_thread(exec, program.replace(":2773", f":{world.port}"), names)
    assert names["password"] == "v1"


# --- what becomes of the SDK ------------------------------------------------------------------------------------------


async def test_another_accounts_arn_is_asked_for_in_its_own_region(endpoint):
    arn = "arn:aws:secretsmanager:sa-east-1:999988887777:secret:theirs-AbCdEf"
    async with serving(says(200, b'{"SecretString":"theirs"}')) as server:
        endpoint(server.url())
        async with open_world() as world:
            assert (await world.get(f"/?name={arn}")).json() == {"value": "theirs"}
    assert json.loads(server.requests[0].body) == {"SecretId": arn}
    assert "/sa-east-1/secretsmanager/" in server.requests[0].headers["authorization"]


async def test_what_is_dropped_is_released(endpoint):
    """No list, no exception and no log keeps an answer when its entry is gone."""
    import gc

    from telemetry_forwarder.secrets.answers import Answer

    async with serving(says(200, value("hunter2"))) as server:
        endpoint(server.url())
        async with open_world() as world:
            await world.get("/?name=/a")
            gc.collect()
            held = [one for one in gc.get_objects() if isinstance(one, Answer) and b"hunter2" in one.body]
            assert len(held) == 1
            held.clear()
            world.service.cache.drop_all()
            gc.collect()
            assert [one for one in gc.get_objects() if isinstance(one, Answer) and b"hunter2" in one.body] == []


async def test_regions_that_callers_make_up_are_bounded(endpoint, monkeypatch):
    monkeypatch.setattr(fetching, "MOST_CLIENTS", 2)
    async with serving(says(200, b'{"SecretString":"v"}')) as server:
        endpoint(server.url())
        async with open_world() as world:
            arn = "/?name=arn:aws:secretsmanager:{}:1:secret:x-AbCdEf"
            replies = [
                await world.get(arn.format(region)) for region in ("aa-1", "bb-1", "cc-1", "a.example%23", "aa-1")
            ]
    assert [reply.status for reply in replies] == [200, 200, 400, 400, 200]


async def test_a_missing_region_is_said(environment, monkeypatch):
    monkeypatch.delenv("AWS_REGION")
    for name in ENDPOINTS:
        monkeypatch.delenv(name, raising=False)
    async with open_world() as world:
        reply = await world.get("/?name=/a")
        assert reply.status == 500
        assert "check name and region" in reply.json()["error"]


async def test_the_transcript_of_errors_is_what_happens(endpoint):
    """To mend it: python -m tests.integration.secrets_transcript."""
    endpoint("http://127.0.0.1:9")
    assert (await transcript.tell()).split("\n\n") == transcript.FILE.read_text().split("\n\n")


def test_bounds_are_those_of_the_services():
    assert (fetching.MOST_PARAMETERS, fetching.MOST_SECRETS) == (10, 20)
