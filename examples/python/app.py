"""A sample function: `{"lines": 3}` writes text lines, `{"json": 3}` JSON lines, `{"fail": true}` raises."""

import json
import logging
from typing import Any

logger = logging.getLogger()
logger.setLevel(logging.INFO)


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    for number in range(event.get("lines", 1)):
        print(f"line {number}: a plain print")  # noqa: T201 - what a function does
        logger.info("line %d: by way of logging", number)
    for number in range(event.get("json", 1)):
        order = {"id": number, "total": 9.5 * number}
        print(json.dumps({"level": "INFO", "message": "order placed", "order": order}))  # noqa: T201
    if event.get("fail"):
        raise RuntimeError("asked to fail")
    return {"requestId": context.aws_request_id}
