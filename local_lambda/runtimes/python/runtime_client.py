"""The calls of AWS's runtime interface client to the Runtime API, in Python.

awslambdaric brings a compiled module of this name, for one version of Python; this one stands in for it under every
other. Its functions are those that awslambdaric calls. Source: AWS docs "Using the Lambda runtime API".
"""

import http.client
import os

_INVOCATION = "/2018-06-01/runtime/invocation"
_connection: http.client.HTTPConnection | None = None
_user_agent = ""


def initialize_client(user_agent: str) -> None:
    global _user_agent
    _user_agent = user_agent


def next() -> tuple[bytes, http.client.HTTPMessage]:
    """Wait for the next invocation; return its event and its headers, of which those are read that are there."""
    status, headers, body = _call("GET", f"{_INVOCATION}/next", None, {})
    if status != 200:
        raise RuntimeError(f"Failed to get next: {status} {body!r}")
    return body, headers


def post_invocation_result(request_id: str, data: bytes, content_type: str, invocation_id: str | None = None) -> None:
    _post(f"{_INVOCATION}/{request_id}/response", data, {"Content-Type": content_type, **_known(invocation_id)})


def post_error(request_id: str, data: str, xray_cause: str, invocation_id: str | None = None) -> None:
    headers = {"Content-Type": "application/json", "Lambda-Runtime-Function-XRay-Error-Cause": xray_cause}
    _post(f"{_INVOCATION}/{request_id}/error", data.encode(), headers | _known(invocation_id))


def _known(invocation_id: str | None) -> dict[str, str]:
    return {} if invocation_id is None else {"Lambda-Runtime-Invocation-Id": invocation_id}


def _post(path: str, body: bytes, headers: dict[str, str]) -> None:
    status, _, answer = _call("POST", path, body, headers)
    if status >= 300:
        raise RuntimeError(f"Failed to post {path}: {status} {answer!r}")


def _call(
    method: str, path: str, body: bytes | None, headers: dict[str, str]
) -> tuple[int, http.client.HTTPMessage, bytes]:
    global _connection
    if _connection is None:
        _connection = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
    _connection.request(method, path, body, {"User-Agent": _user_agent, **headers})
    answer = _connection.getresponse()
    return answer.status, answer.headers, answer.read()
