"""HTTP as a function sees it: payload format 2.0."""

import base64
import json
from typing import Any

import pytest

from local_lambda.rules.http_events import Front, HttpRequest, MalformedAnswer, answer_of, event_of, prelude_of


def request(**given: Any) -> HttpRequest:
    return HttpRequest(
        **{
            "method": "GET", "path": "/", "query": "", "headers": [("Host", "localhost:8080")], "body": b"",
            "source_ip": "127.0.0.1", "protocol": "HTTP/1.1", "scheme": "http", "at": 1_700_000_000.5, **given,
        }
    )  # fmt: skip


def test_a_bare_request_has_no_members_without_a_value() -> None:
    event = event_of(request(request_id="7"), Front())
    assert not {"body", "cookies", "pathParameters", "queryStringParameters"} & set(event)
    assert event["isBase64Encoded"] is False
    assert event["requestContext"]["time"] == "14/Nov/2023:22:13:20 +0000"
    assert event["requestContext"]["timeEpoch"] == 1_700_000_000_500
    assert event["requestContext"]["domainName"] == "localhost"
    assert event["requestContext"]["requestId"] == "7"
    assert event["headers"]["x-forwarded-port"] == "8080"


def test_headers_of_one_name_are_joined_by_commas() -> None:
    event = event_of(request(headers=[("X-A", "1"), ("x-a", "2"), ("Cookie", "a=1"), ("COOKIE", "b=2;c=3")]), Front())
    assert event["headers"]["x-a"] == "1,2"
    assert event["cookies"] == ["a=1", "b=2", "c=3"]
    proxied = event_of(request(headers=[("X-Forwarded-For", "10.0.0.1")]), Front())
    assert proxied["headers"]["x-forwarded-for"] == "10.0.0.1, 127.0.0.1"


@pytest.mark.parametrize(
    ("content_type", "body", "is_text"),
    [
        ("text/html; charset=utf-8", "é".encode(), True),
        ("application/json", b"{}", True),
        ("application/problem+json", b"{}", True),
        ("image/svg+xml", b"<svg/>", True),
        ("application/x-www-form-urlencoded", b"a=1", False),
        ("", b"plain", False),
        ("image/png", b"\x89PNG", False),
        ("text/plain", b"\xff", False),
    ],
)
def test_a_body_that_is_no_text_is_base64(content_type: str, body: bytes, is_text: bool) -> None:
    event = event_of(request(body=body, headers=[("Content-Type", content_type)]), Front())
    assert event["isBase64Encoded"] is not is_text
    assert (event["body"].encode() if is_text else base64.b64decode(event["body"])) == body


def test_an_answer_without_a_status_is_the_body() -> None:
    for payload, body in (
        (b'"text"', b"text"),
        (b'{"a": 1}', b'{"a": 1}'),
        (b"[1]", b"[1]"),
        (b"null", b"null"),
        (b"", b""),
    ):
        answer = answer_of(payload)
        assert (answer.status, answer.body) == (200, body)
        assert answer.headers == (("content-type", "application/json"),)


@pytest.mark.parametrize(
    ("payload", "words"),
    [
        (b"{", "it is not JSON"),
        (b'{"statusCode": "x"}', "its statusCode 'x' is not between 100 and 599"),
        (b'{"statusCode": true}', "its statusCode True is not"),
        (b'{"statusCode": 99}', "its statusCode 99 is not"),
        (b'{"statusCode": null}', "its statusCode None is not"),
        (b'{"statusCode": 200, "body": 7}', "its body is not a text but a number"),
        (b'{"statusCode": 200, "body": {}}', "its body is not a text but an object; encode it with json.dumps"),
        (b'{"statusCode": 200, "body": "!", "isBase64Encoded": true}', "its body is not base64"),
        (b'{"statusCode": 200, "headers": []}', "its headers are an array and its cookies an array"),
        (b'{"statusCode": 200, "headers": {"a": {}}}', "the value of a header or cookie is an object"),
        (b'{"statusCode": 200, "headers": {"a": "b\\r\\nc: d"}}', "its header 'a' has a line break"),
        (b'{"statusCode": 200, "cookies": "a=1"}', "its cookies a text"),
    ],
)
def test_what_is_no_answer_says_why(payload: bytes, words: str) -> None:
    with pytest.raises(MalformedAnswer, match=words):
        answer_of(payload)


def test_headers_about_the_connection_are_not_the_functions() -> None:
    said = {"statusCode": 200, "headers": {"Content-Length": "7", "Transfer-Encoding": "x", "X": True}, "body": "abc"}
    assert list(answer_of(json.dumps(said).encode()).headers) == [("content-type", "application/json"), ("X", "true")]


def test_a_prelude_ends_at_eight_nul_bytes() -> None:
    whole = b'{"statusCode": 201, "cookies": ["a=1"]}' + bytes(8) + bytes(3) + b"body"
    for end in range(len(whole) - 8 - 3 - 4, len(whole) - 7):
        assert prelude_of(whole[:end]) is None
    found = prelude_of(whole)
    assert found is not None
    assert (found[0].status, list(found[0].headers), found[1]) == (201, [("set-cookie", "a=1")], bytes(3) + b"body")
    for wrong in (b"no json" + bytes(8), b"7" + bytes(8), b"x" * 300_000):
        with pytest.raises(MalformedAnswer):
            prelude_of(wrong)
