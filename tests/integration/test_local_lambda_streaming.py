"""Streamed responses on the local Lambda, and errors in the middle of one."""

import base64
import json

import pytest

from local_lambda.apis.trailers import error_body, parse
from tests.integration.local_lambda_probe import FUNCTIONS, local_lambda

COMMAND = ["python3", str(FUNCTIONS / "bootstrap.py")]


@pytest.mark.fidelity("4-trailers")
async def test_an_error_in_the_middle_of_a_stream_comes_in_its_trailers() -> None:
    async with local_lambda(command=COMMAND) as env:
        whole = await env.invoke({"a": 1})
        broken = await env.invoke({"break": "no more"})
        after = await env.invoke({"a": 2})
    assert broken.json()["mode"] == "streaming", "what was streamed until then"
    assert (broken.function_error, broken.error_type) == ("Unhandled", "Mine")
    assert broken.stream_error is not None
    assert json.loads(broken.stream_error) == {"errorType": "Mine", "errorMessage": "no more"}
    assert broken.status == "success", "the runtime said it itself, as with any handled error"
    for result in (whole, after):
        assert (result.function_error, result.stream_error) == (None, None)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"5\r\nhello\r\n0\r\nA-B: c\r\nD:e:f\r\n\r\n", {"a-b": "c", "d": "e:f"}),
        (b"5\r\nhello\r\n0\r\n\r\n", {}),
        (b"7\r\n\r\n0\r\nx:\r\n0\r\nReal: 1\r\n\r\n", {"real": "1"}),
        (b"no chunks at all", {}),
    ],
)
def test_trailers_are_what_follows_the_last_chunk(data: bytes, expected: dict[str, str]) -> None:
    assert parse(data) == expected


def test_an_error_body_is_base64_or_else_as_it_is() -> None:
    name = "lambda-runtime-function-error-body"
    assert error_body({name: base64.b64encode(b"{}").decode()}) == b"{}"
    assert error_body({name: "not base64!"}) == b"not base64!"
    assert error_body({}) == b""
