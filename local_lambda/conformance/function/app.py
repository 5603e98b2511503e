"""The suite's own function: each event says what it does. It runs under awslambdaric, outside of the package."""

import importlib
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

HOLDING = "the function waits"
_POLL_S = 0.01


def handler(event: Mapping[str, Any], context: object) -> Any:
    """Print `lines`, `call` another function, wait until the file `hold` exists, `sleep` seconds; in this order."""
    for line in event.get("lines", ()):
        print(line, flush=True)  # noqa: T201 - a function's output is its log
    answer = _call(context, **event["call"]) if "call" in event else None
    if "hold" in event:
        print(HOLDING, flush=True)  # noqa: T201
        gate = Path(event["hold"])
        while not gate.exists():
            time.sleep(_POLL_S)
    time.sleep(event.get("sleep", 0.0))
    return answer


def _call(context: object, *, code: str, handler: str, event: Any) -> Any:
    """Call the user's own handler, to judge the extension beside it."""
    if code not in sys.path:
        sys.path.insert(0, code)
    module, _, name = handler.rpartition(".")
    return getattr(importlib.import_module(module.replace("/", ".")), name)(event, context)
