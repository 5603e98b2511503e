"""HTTP as a function sees it behind a function URL or an HTTP API: payload format 2.0. Pure.

Source: AWS docs "Invoking Lambda function URLs" and "Create AWS Lambda proxy integrations for HTTP APIs".
"""

import base64
import binascii
import time
import urllib.parse
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

STREAMED_WITH_STATUS = "application/vnd.awslambda.http-integration-response"
_END_OF_PRELUDE = bytes(8)
_MAX_PRELUDE_BYTES = 256 * 1024
_TEXT_TYPES = ("application/json", "application/javascript", "application/xml")
# They are about one connection; that to the caller is ours to manage.
_HOP_BY_HOP = frozenset({"connection", "content-length", "keep-alive", "transfer-encoding", "upgrade"})


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpRequest:
    """A request of HTTP; `path` and `query` are as they were sent. `at` is seconds since the epoch."""

    method: str
    path: str
    query: str
    headers: Sequence[tuple[str, str]]
    body: bytes
    source_ip: str
    protocol: str
    scheme: str
    at: float = field(default_factory=time.time)
    request_id: str = field(default_factory=lambda: str(uuid.uuid4()))


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpAnswer:
    """An answer of HTTP. A header may stand there more than once."""

    status: int = 200
    headers: Sequence[tuple[str, str]] = ()
    body: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Front:
    """What a request came through. The defaults are those of a function URL."""

    account_id: str = "anonymous"
    route_key: str = "$default"
    path_parameters: Mapping[str, str] = field(default_factory=dict)


class MalformedAnswer(Exception):
    """What the function returned is no answer of HTTP; the message says why not, as the rest of a sentence."""


def event_of(request: HttpRequest, front: Front) -> dict[str, Any]:
    """Return the event for the function."""
    headers, cookies = _headers_of(request)
    host = headers.get("host", "")
    domain = host.rpartition(":")[0] or host
    event: dict[str, Any] = {
        "version": "2.0",
        "routeKey": front.route_key,
        "rawPath": request.path,
        "rawQueryString": request.query,
        **({"cookies": cookies} if cookies else {}),
        "headers": headers,
    }
    if request.query:
        event["queryStringParameters"] = _joined(urllib.parse.parse_qsl(request.query, keep_blank_values=True))
    if front.path_parameters:
        event["pathParameters"] = dict(front.path_parameters)
    event["requestContext"] = {
        "accountId": front.account_id,
        "apiId": "local",
        "domainName": domain,
        "domainPrefix": domain.partition(".")[0],
        "http": {
            "method": request.method,
            "path": request.path,
            "protocol": request.protocol,
            "sourceIp": request.source_ip,
            "userAgent": headers.get("user-agent", ""),
        },
        "requestId": request.request_id,
        "routeKey": front.route_key,
        "stage": "$default",
        "time": time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime(request.at)),
        "timeEpoch": int(request.at * 1000),
    }
    text = _text_of(request.body, headers.get("content-type", ""))
    if request.body:
        event["body"] = base64.b64encode(request.body).decode() if text is None else text
    event["isBase64Encoded"] = text is None
    return event


def _headers_of(request: HttpRequest) -> tuple[dict[str, str], list[str]]:
    """Return the headers, with lower-case names and those of the front, and the cookies."""
    given = [(name.lower(), value) for name, value in request.headers]
    cookies = [one.strip() for name, value in given if name == "cookie" for one in value.split(";") if one.strip()]
    headers = _joined((name, value) for name, value in given if name != "cookie")
    forwarded = headers.get("x-forwarded-for")
    port = headers.get("host", "").rpartition(":")[2]
    return {
        "x-amzn-trace-id": f"Root=1-{int(request.at):08x}-{uuid.uuid4().hex[:24]}",
        **headers,
        "x-forwarded-for": f"{forwarded}, {request.source_ip}" if forwarded else request.source_ip,
        "x-forwarded-port": port if port.isdigit() else "80",
        "x-forwarded-proto": request.scheme,
    }, cookies


def _joined(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in pairs:
        found[name] = f"{found[name]},{value}" if name in found else value
    return found


def _text_of(body: bytes, content_type: str) -> str | None:
    """Return a body as text; None if it must be encoded: its type is not one of text, or it is not UTF-8."""
    kind = content_type.partition(";")[0].strip().lower()
    if body and not (kind.startswith("text/") or kind in _TEXT_TYPES or kind.endswith(("+json", "+xml"))):
        return None
    try:
        return body.decode()
    except UnicodeDecodeError:
        return None


def answer_of(payload: bytes) -> HttpAnswer:
    """Return the answer that a function's payload stands for. Raises MalformedAnswer."""
    try:
        returned = orjson.loads(payload) if payload else None
    except orjson.JSONDecodeError:
        raise MalformedAnswer("it is not JSON") from None
    if not isinstance(returned, dict) or "statusCode" not in returned:
        # What has no status is the body itself, a text without its quotation marks.
        body = returned.encode() if isinstance(returned, str) else payload
        return HttpAnswer(headers=(("content-type", "application/json"),), body=body)
    text = "" if returned.get("body") is None else returned["body"]
    if not isinstance(text, str):
        raise MalformedAnswer(f"its body is not a text but {_kind(text)}; encode it with json.dumps or JSON.stringify")
    encoded = text.encode()
    if returned.get("isBase64Encoded"):
        try:
            encoded = base64.b64decode(encoded, validate=True)
        except binascii.Error:
            raise MalformedAnswer("isBase64Encoded is true and its body is not base64") from None
    headers = _answered_headers(returned)
    if not any(name.lower() == "content-type" for name, _ in headers):
        headers.insert(0, ("content-type", "application/json"))
    return HttpAnswer(status=_status(returned["statusCode"]), headers=headers, body=encoded)


def prelude_of(received: bytes) -> tuple[HttpAnswer, bytes] | None:
    """Return status and headers of a streamed answer and the first of its body; None if more must come first.

    Raises MalformedAnswer.
    """
    prelude, end, rest = received.partition(_END_OF_PRELUDE)
    if not end:
        if len(received) > _MAX_PRELUDE_BYTES:
            raise MalformedAnswer("its prelude does not end in eight NUL bytes")
        return None
    try:
        said = orjson.loads(prelude)
    except orjson.JSONDecodeError:
        said = None
    if not isinstance(said, dict):
        raise MalformedAnswer("its prelude is not a JSON object")
    return HttpAnswer(status=_status(said.get("statusCode", 200)), headers=_answered_headers(said)), rest


def _answered_headers(returned: Mapping[str, Any]) -> list[tuple[str, str]]:
    headers = {} if returned.get("headers") is None else returned["headers"]
    cookies = [] if returned.get("cookies") is None else returned["cookies"]
    if not isinstance(headers, dict) or not isinstance(cookies, list):
        raise MalformedAnswer(
            f"its headers are {_kind(headers)} and its cookies {_kind(cookies)}, not object and array"
        )
    found = [(name, _scalar(value)) for name, value in headers.items() if name.lower() not in _HOP_BY_HOP]
    found += [("set-cookie", _scalar(cookie)) for cookie in cookies]
    for name, value in found:
        if any(character in name + value for character in "\r\n\0"):
            raise MalformedAnswer(f"its header {name!r} has a line break or NUL in it")
    return found


def _scalar(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, str | int | float):
        raise MalformedAnswer(f"the value of a header or cookie is {_kind(value)}")
    return str(value)


def _kind(value: Any) -> str:
    """Return what JSON calls a value."""
    kinds = {dict: "an object", list: "an array", str: "a text", bool: "a boolean", type(None): "null"}
    return kinds.get(type(value), "a number")


def _status(value: Any) -> int:
    try:
        status = int(value)
    except (TypeError, ValueError):
        status = 0
    if isinstance(value, bool) or not 100 <= status <= 599:
        raise MalformedAnswer(f"its statusCode {value!r} is not between 100 and 599")
    return status
