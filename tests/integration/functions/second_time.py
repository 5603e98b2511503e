"""A function whose first init fails: what it leaves behind lets the next one through."""

import os
from pathlib import Path

marker = Path(os.environ["MARKER"])
if not marker.exists():
    marker.touch()
    raise RuntimeError("not yet")


def handler(event, context):
    return "ok"
