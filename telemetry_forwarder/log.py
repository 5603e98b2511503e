"""What the extension says of itself: one JSON object a line on standard output, quiet unless asked.

Lambda turns each line into an `extension` record. `is_own` knows ours again, so that a subscription to `extension`
telemetry can never feed itself. The `level` and `timestamp` members are those that Lambda's log filters read.
Source: AWS Lambda Developer Guide, "Log-level filtering".
"""

import json
import logging
import sys
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import orjson

from telemetry_forwarder import __version__

# First in every line, so that a line can be known by its first bytes. `bootstrap` writes it too.
MARK = "telemetry_forwarder"
_LEVELS = {"debug": ("DEBUG", 10), "info": ("INFO", 20), "warning": ("WARN", 30), "error": ("ERROR", 40)}


def is_own(body: Any) -> bool:
    """Say whether the body of an `extension` record is a line that this module (or `bootstrap`) wrote."""
    if isinstance(body, dict):
        return MARK in body
    return isinstance(body, str) and body.startswith(f'{{"{MARK}":')


class Log:
    """Own log lines from `level` (debug, info, warning, error) upwards."""

    def __init__(self, level: str = "warning", write: Callable[[str], object] | None = None) -> None:
        self._lowest = _LEVELS[level][1]
        self._write = write or _write_line

    def debug(self, message: str, **members: Any) -> None:
        self._say("debug", message, members)

    def info(self, message: str, **members: Any) -> None:
        self._say("info", message, members)

    def warning(self, message: str, **members: Any) -> None:
        self._say("warning", message, members)

    def error(self, message: str, **members: Any) -> None:
        self._say("error", message, members)

    def _say(self, level: str, message: str, members: dict[str, Any]) -> None:
        word, rank = _LEVELS[level]
        if rank < self._lowest:
            return
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        line = {MARK: __version__, "timestamp": now, "level": word, "message": message, **members}
        self._write(_as_json(line))


def _as_json(line: dict[str, Any]) -> str:
    """Return `line` as JSON. What orjson refuses (lone surrogates, integers over 64 bits) must not cost the line."""
    try:
        return orjson.dumps(line, default=str).decode()
    except orjson.JSONEncodeError:
        return json.dumps(line, default=str, separators=(",", ":"))


def _write_line(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def where(error: BaseException) -> dict[str, Any]:
    """Return the kind and the place of an error, without its text: nobody knows what that may hold."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    frames = traceback.extract_tb(error.__traceback__)
    return {"error": type(error).__name__, "trace": [f"{f.filename}:{f.lineno} {f.name}" for f in frames]}


class LibraryLines(logging.Handler):
    """Carries what libraries log (aiohttp, asyncio) into our own lines, so that nothing else is ever printed.

    Of a message the first line only, and of an error no text: asyncio adds what was being done, which may hold a
    proxy's password or a header.
    """

    def __init__(self, log: Log) -> None:
        super().__init__(logging.WARNING)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        said = f"{record.name}: {record.getMessage().partition(chr(10))[0]}"
        self._log.warning(said, **(where(error) if error else {}))
