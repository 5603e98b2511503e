"""The function behind HTTP: as a function URL and as an HTTP API, called by an HTTP client."""

import asyncio
import io
import json
import shutil
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from local_lambda import Fleet, Function, Platform
from local_lambda.rules import http_routes
from local_lambda.serving.deployment import Deployment
from local_lambda.serving.http_front import HttpFront
from tests.integration.local_lambda_probe import FUNCTIONS

WEB = Function(code=FUNCTIONS, handler="web.handler", timeout_s=10.0)
STREAMING = Function(code=FUNCTIONS, command=[sys.executable, str(FUNCTIONS / "streaming.py")], timeout_s=10.0)
COMMAND = [sys.executable, "-c", "from telemetry_forwarder.cli import main; main()", "local", "--json"]
RETRY = Platform(on_init_failure="retry")


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
async def url() -> AsyncIterator[str]:
    async with Fleet(WEB, platform=RETRY) as fleet, HttpFront(Deployment(fleet)) as front:
        yield front.url


@pytest.fixture
async def streaming_url() -> AsyncIterator[str]:
    # One waits for the next request while the other is still at the end of the last one.
    async with Fleet(STREAMING, platform=RETRY, concurrency=2) as fleet, HttpFront(Deployment(fleet)) as front:
        yield front.url


async def test_the_function_gets_an_event_of_payload_format_2(client: aiohttp.ClientSession, url: str) -> None:
    before = time.time()
    async with client.post(
        url + "a%20b/c?x=1&y=2&x=3%20",
        data="héllo",
        headers={"Cookie": "one=1; two=2", "X-Twice": "a", "Content-Type": "text/plain", "User-Agent": "me"},
    ) as response:
        assert response.status == 200
        assert response.content_type == "application/json"
        event = await response.json()
    assert event["version"] == "2.0"
    assert event["routeKey"] == "$default"
    assert event["rawPath"] == "/a%20b/c"
    assert event["rawQueryString"] == "x=1&y=2&x=3%20"
    assert event["queryStringParameters"] == {"x": "1,3 ", "y": "2"}
    assert event["cookies"] == ["one=1", "two=2"]
    assert "cookie" not in event["headers"]
    assert event["headers"]["x-twice"] == "a"
    assert event["headers"]["x-forwarded-proto"] == "http"
    assert event["headers"]["x-forwarded-for"] == "127.0.0.1"
    assert (event["body"], event["isBase64Encoded"]) == ("héllo", False)
    context = event["requestContext"]
    assert context["accountId"] == "anonymous"
    assert context["http"] == {
        "method": "POST", "path": "/a%20b/c", "protocol": "HTTP/1.1", "sourceIp": "127.0.0.1", "userAgent": "me",
    }  # fmt: skip
    assert before - 1 <= context["timeEpoch"] / 1000 <= time.time()


@pytest.mark.parametrize(
    ("returned", "status", "headers", "body"),
    [
        ("just text", 200, {"content-type": "application/json"}, b"just text"),
        ({"a": 1}, 200, {"content-type": "application/json"}, b'{"a": 1}'),
        ({"statusCode": 201, "headers": {"Content-Type": "text/x", "X-N": 7}, "body": "made"}, 201,
         {"content-type": "text/x", "x-n": "7"}, b"made"),
        ({"statusCode": 200, "body": "AAEC/w==", "isBase64Encoded": True}, 200, {}, b"\x00\x01\x02\xff"),
        ({"statusCode": 302, "headers": {"Location": "/x"}}, 302, {"location": "/x"}, b""),
        ({"statusCode": 200, "body": {"an": "object"}}, 502, {}, b"Internal Server Error"),
        ({"statusCode": "many"}, 502, {}, b"Internal Server Error"),
    ],
)  # fmt: skip
async def test_what_it_returns_is_the_answer(
    client: aiohttp.ClientSession, url: str, returned: Any, status: int, headers: dict[str, str], body: bytes
) -> None:
    async with client.post(url + "said", json={"return": returned}, allow_redirects=False) as response:
        assert response.status == status
        assert {name: response.headers.get(name) for name in headers} == headers
        assert await response.read() == body


async def test_cookies_are_headers_of_their_own(client: aiohttp.ClientSession, url: str) -> None:
    returned = {"statusCode": 200, "cookies": ["a=1; Secure", "b=2"]}
    async with client.post(url + "said", json={"return": returned}) as response:
        assert response.headers.getall("Set-Cookie") == ["a=1; Secure", "b=2"]


async def test_a_function_that_fails_is_a_bad_gateway_without_a_word_of_why(
    client: aiohttp.ClientSession, url: str
) -> None:
    async with client.post(url + "said", json={"raise": "a secret"}) as response:
        assert (response.status, await response.text()) == (502, "Internal Server Error")


async def test_why_an_answer_is_none_is_said_to_whoever_runs_it(client: aiohttp.ClientSession) -> None:
    said: list[str] = []
    async with Fleet(WEB, platform=RETRY) as fleet, HttpFront(Deployment(fleet), on_problem=said.append) as front:
        async with client.post(front.url + "said", json={"return": {"statusCode": 200, "body": {}}}) as response:
            assert response.status == 502
        async with client.post(front.url + "said", json={"raise": "the log has it"}) as response:
            assert response.status == 502
    (sentence,) = said
    assert sentence.startswith(
        "POST /said: what the function returned is no answer: its body is not a text but an object"
    )


async def test_more_than_the_concurrency_and_too_much_to_send(client: aiohttp.ClientSession) -> None:
    async with (
        Fleet(STREAMING, platform=RETRY) as fleet,
        HttpFront(Deployment(fleet)) as front,
    ):
        async with client.post(front.url, json={"chunks": ["a", "b"], "pause_s": 0.5}) as busy:
            async with client.get(front.url) as response:
                assert (response.status, (await response.json())["message"]) == (429, "Rate Exceeded.")
            assert await busy.read() == b"ab"
        async with client.post(front.url, data=io.BytesIO(bytes(6 * 2**20 + 1))) as response:
            assert response.status == 413


async def test_requests_may_take_turns_instead(client: aiohttp.ClientSession) -> None:
    async with Fleet(WEB, platform=RETRY) as fleet, HttpFront(Deployment(fleet, takes_turns=True)) as front:

        async def ask(number: int) -> str:
            async with client.post(front.url + "said", json={"return": str(number)}) as response:
                return await response.text()

        assert await asyncio.gather(*(ask(number) for number in range(8))) == [str(number) for number in range(8)]
        assert len(fleet.environments) == 1


async def test_a_stream_comes_piece_by_piece(client: aiohttp.ClientSession, streaming_url: str) -> None:
    async with client.post(
        streaming_url, json={"chunks": ["one", "two"], "pause_s": 0.5, "type": "text/x"}
    ) as response:
        assert (response.status, response.headers["Content-Type"]) == (200, "text/x")
        assert await response.content.read(3) == b"one"
        began = time.monotonic()
        assert await response.content.read() == b"two"
    assert time.monotonic() - began > 0.3


async def test_status_and_headers_of_a_stream_come_in_its_prelude(
    client: aiohttp.ClientSession, streaming_url: str
) -> None:
    prelude = {"statusCode": 418, "headers": {"Content-Type": "text/x", "X-Mine": "y"}, "cookies": ["a=1", "b=2"]}
    event = {
        "chunks": ["one", "two"],
        "prelude": prelude,
        "type": "application/vnd.awslambda.http-integration-response",
    }
    async with client.post(streaming_url, json=event) as response:
        assert response.status == 418
        assert (response.headers["Content-Type"], response.headers["X-Mine"]) == ("text/x", "y")
        assert response.headers.getall("Set-Cookie") == ["a=1", "b=2"]
        assert await response.read() == b"onetwo"


async def test_a_stream_that_breaks_off_is_not_taken_for_whole(
    client: aiohttp.ClientSession, streaming_url: str
) -> None:
    for end in ({"break": "no more"}, {"exit": 3}):
        async with client.post(streaming_url, json={"chunks": ["one"], "pause_s": 0.2, **end}) as response:
            assert response.status == 200
            with pytest.raises(aiohttp.ClientPayloadError):
                await response.read()
    event = {"chunks": ["{"], "type": "application/vnd.awslambda.http-integration-response"}
    async with client.post(streaming_url, json=event) as response:
        assert (response.status, await response.text()) == (502, "Internal Server Error")


async def test_what_is_not_streamed_is_answered_as_a_whole(client: aiohttp.ClientSession, streaming_url: str) -> None:
    async with client.post(streaming_url, json={"plain": {"statusCode": 201, "body": "made"}}) as response:
        assert (response.status, await response.text()) == (201, "made")


@pytest.mark.skipif(shutil.which("node") is None, reason="Node.js is not installed")
async def test_a_response_stream_of_node_js_as_it_is_written_for_lambda(
    client: aiohttp.ClientSession, tmp_path: Path
) -> None:
    (tmp_path / "index.mjs").write_text("""
export const handler = awslambda.streamifyResponse(async (event, stream) => {
  const metadata = { statusCode: 201, headers: { "Content-Type": "text/x" }, cookies: ["a=1"] };
  stream = awslambda.HttpResponseStream.from(stream, metadata);
  stream.write("one");
  await new Promise((resolve) => setTimeout(resolve, 500));
  stream.end(event.rawPath);
});
""")
    function = Function(code=tmp_path, handler="index.handler", timeout_s=10.0)
    async with (
        Fleet(function, platform=RETRY) as fleet,
        HttpFront(Deployment(fleet)) as front,
        client.get(front.url + "two") as response,
    ):
        assert (response.status, response.headers["Content-Type"]) == (201, "text/x")
        assert response.cookies["a"].value == "1"
        assert await response.content.read(3) == b"one"
        began = time.monotonic()
        assert await response.content.read() == b"/two"
    assert time.monotonic() - began > 0.3


async def test_with_routes_it_is_an_http_api(client: aiohttp.ClientSession) -> None:
    routes = [http_routes.parse(key) for key in ("GET /orders/{id}", "ANY /files/{proxy+}", "POST /said")]
    async with Fleet(WEB, platform=RETRY) as fleet, HttpFront(Deployment(fleet), routes=routes) as front:
        async with client.get(front.url + "orders/8841") as response:
            event = await response.json()
        assert (event["routeKey"], event["pathParameters"]) == ("GET /orders/{id}", {"id": "8841"})
        assert event["requestContext"]["accountId"] == "123456789012"
        async with client.get(front.url + "files/a/b") as response:
            assert (await response.json())["pathParameters"] == {"proxy": "a/b"}
        async with client.put(front.url + "orders/8841") as response:
            assert (response.status, await response.json()) == (404, {"message": "Not Found"})
        async with client.post(front.url + "said", json={"raise": "x"}) as response:
            assert (response.status, await response.json()) == (500, {"message": "Internal Server Error"})


async def test_the_command_serves_the_routes_of_a_template(client: aiohttp.ClientSession, tmp_path: Path) -> None:
    (tmp_path / "template.yaml").write_text(f"""
Resources:
  Web:
    Type: AWS::Serverless::Function
    Properties:
      CodeUri: {FUNCTIONS}
      Handler: web.handler
      Events:
        One: {{Type: HttpApi, Properties: {{Path: '/orders/{{id}}', Method: get}}}}
        Timer: {{Type: Schedule, Properties: {{Schedule: rate(1 day)}}}}
""")
    process = await asyncio.create_subprocess_exec(
        *COMMAND, "--template", str(tmp_path / "template.yaml"), "--url", "0", stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        said = json.loads(await process.stdout.readline())
        assert (said["what"], said["function"], said["routes"]) == ("function_url", "Web", ["GET /orders/{id}"])
        async with client.get(said["url"] + "orders/7") as response:
            assert (await response.json())["pathParameters"] == {"id": "7"}
        async with client.get(said["url"] + "elsewhere") as response:
            assert response.status == 404
        process.terminate()
        await process.communicate()
        assert process.returncode == 0
    finally:
        if process.returncode is None:
            process.kill()
