"""What Lambda sends to a destination of asynchronous invocations. Pure.

Source: AWS docs "Capturing records of Lambda asynchronous invocations".
"""

from typing import Any, Literal

import orjson

from local_lambda.results import Invocation
from local_lambda.rules.telemetry_events import timestamp
from local_lambda.settings import Function

Condition = Literal["RetriesExhausted", "EventAgeExceeded"]


def failure(
    function: Function,
    request_id: str,
    payload: bytes,
    *,
    condition: Condition,
    attempts: int,
    last: Invocation | None,
    at: float,
) -> dict[str, Any]:
    """Return the record of an event that was given up; `last` is its last attempt, if there was one."""
    record: dict[str, Any] = {
        "version": "1.0",
        "timestamp": timestamp(at),
        "requestContext": {
            "requestId": request_id,
            "functionArn": f"{function.arn}:{function.version}",
            "condition": condition,
            "approximateInvokeCount": attempts,
        },
        "requestPayload": orjson.loads(payload),
    }
    if last is not None:
        record["responseContext"] = {
            "statusCode": 200,
            "executedVersion": function.version,
            "functionError": last.function_error,
        }
        record["responsePayload"] = _as_json(last.payload)
    return record


def _as_json(payload: bytes) -> Any:
    try:
        return orjson.loads(payload)
    except orjson.JSONDecodeError:
        return payload.decode("utf-8", "replace")
