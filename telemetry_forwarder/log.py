"""The extension's own log: one JSON object per line on standard output, only warnings and errors by default.

Lambda turns each line into an `extension` record. `is_own` recognizes our lines, so that a subscription to `extension`
telemetry cannot feed itself in a loop. Lambda's log filters read the members `level` and `timestamp`.
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

# The first member of every line, so that a line is recognized by its first bytes. `bootstrap` writes it, too.
MARK = "telemetry_forwarder"
_LEVELS = {"debug": ("DEBUG", 10), "info": ("INFO", 20), "warning": ("WARN", 30), "error": ("ERROR", 40)}


def is_own(body: Any) -> bool:
    """Return whether the body of an `extension` record is a line that this module or `bootstrap` wrote."""
    if isinstance(body, dict):
        return MARK in body
    return isinstance(body, str) and body.startswith(f'{{"{MARK}":')


class Log:
    """Write log lines of `level` (debug, info, warning, error) and above, to standard output or with `write`."""

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

    def note(self, message: str, **members: Any) -> None:
        """Write a line that the user asked for, whatever the level."""
        self._write_line("INFO", message, members)

    def _say(self, level: str, message: str, members: dict[str, Any]) -> None:
        word, rank = _LEVELS[level]
        if rank >= self._lowest:
            self._write_line(word, message, members)

    def _write_line(self, word: str, message: str, members: dict[str, Any]) -> None:
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        line = {MARK: __version__, "timestamp": now, "level": word, "message": message, **members}
        self._write(_as_json(line))


def _as_json(line: dict[str, Any]) -> str:
    """Return `line` as JSON. The slow encoder writes what orjson refuses: lone surrogates, integers over 64 bits."""
    try:
        return orjson.dumps(line, default=str).decode()
    except orjson.JSONEncodeError:
        return json.dumps(line, default=str, separators=(",", ":"))


def _write_line(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def where(error: BaseException) -> dict[str, Any]:
    """Return the type and the stack of an error as log members, without its text, because that may hold a secret."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    frames = traceback.extract_tb(error.__traceback__)
    return {"error": type(error).__name__, "trace": [f"{f.filename}:{f.lineno} {f.name}" for f in frames]}


class LibraryLines(logging.Handler):
    """A logging handler that writes messages of libraries (aiohttp, asyncio) as our own lines; nothing else is printed.

    Only the first line of a message is used, and no text of an error: asyncio adds what was being done, which may hold
    a proxy's password or a header.
    """

    def __init__(self, log: Log) -> None:
        super().__init__(logging.WARNING)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        said = f"{record.name}: {record.getMessage().partition(chr(10))[0]}"
        self._log.warning(said, **(where(error) if error else {}))
