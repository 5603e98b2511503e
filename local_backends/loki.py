"""A strict local Grafana Loki: `POST /loki/api/v1/push` with JSON.

Source: Grafana Loki's source code of August 2026 (push parser, distributor, validation, ingester), read 2026-11-27.
"""

import re
import zlib
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, ClassVar

import orjson
from aiohttp import web

from local_backends.encodings import Corrupt, TooLong, Unsupported, decoded
from local_backends.faults import Answer, Fault, ServiceFault, Throttle, TooLarge
from local_backends.server import Backend, Call, Reply

PATH = "/loki/api/v1/push"
_MAX_BYTES = 100 * 1024 * 1024
_LONGEST_LINE, _MOST_LABELS, _LONGEST_NAME, _LONGEST_VALUE = 256 * 1024, 15, 1_024, 2_048
_MOST_METADATA, _LARGEST_METADATA = 128, 64 * 1024
_OLDEST_S, _NEWEST_S, _BEHIND_S = 7 * 86_400, 600, 3_600
_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*", re.ASCII)
_RATE, _BURST = 4 * 1024 * 1024, 6 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Blocked(ServiceFault):
    """Answer with `status`, a success of HTTP, that the tenant is blocked; nothing is stored."""

    status: int = 260
    times: int | None = 1


@dataclass(frozen=True, slots=True)
class StreamLimit(ServiceFault):
    """Store the first `stored` entries and answer 429, as the tenant has too many streams."""

    stored: int = 1
    times: int | None = 1


@dataclass(frozen=True, slots=True)
class RejectEntries(ServiceFault):
    """Find the first `count` entries too old, store the others, and answer 400."""

    count: int = 1
    times: int | None = 1


@dataclass(frozen=True, slots=True)
class LokiEntry:
    """One stored line: the labels of its stream, its time, and its structured metadata."""

    labels: Mapping[str, str]
    time_ns: int
    line: str
    metadata: Mapping[str, str] = field(default_factory=dict)


class _Refused(Exception):
    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class Loki(Backend):
    """One Loki. `login` is the user name and password that it takes, None: any; `token` a bearer token instead.

    With `tenants` the header `X-Scope-OrgID` has to name one of them. `max_bytes` is the limit of a body, unpacked.
    `kept` are the stored entries in order; an entry with the time and the line of another one of its stream is taken
    and not stored (`repeats`).
    """

    deliveries: ClassVar[frozenset[str]] = frozenset({"push"})
    own_faults: ClassVar[tuple[type, ...]] = (Blocked, StreamLimit, RejectEntries)

    def __init__(
        self,
        *,
        login: tuple[str, str] | None = None,
        token: str | None = None,
        tenants: Sequence[str] = (),
        max_bytes: int = _MAX_BYTES,
        **listen: Any,
    ) -> None:
        super().__init__(**listen)
        self.login = login
        self.token = token
        self.tenants = tenants
        self.max_bytes = max_bytes
        self.entries: list[LokiEntry] = []
        self.repeats = 0
        self._known: set[tuple[str, int, str]] = set()
        self._newest: dict[str, int] = {}

    @property
    def kept(self) -> Sequence[LokiEntry]:
        return self.entries

    def operation(self, request: web.BaseRequest) -> str:
        return "push" if request.path == PATH else "unknown"

    def respond(self, call: Call, fault: Fault | None = None) -> Reply:
        if call.operation == "unknown":
            return _text(404, "404 page not found")
        if call.method != "POST":
            return _text(405, "")
        try:
            self._check_sender(call)
            if isinstance(fault, Blocked):
                until = "2026-12-31T00:00:00Z"
                text = f"ingestion blocked for user 'fake' until '{until}' with status code '{fault.status}'"
                return _text(fault.status, text)
            entries = _entries_in(self._body(call))
            if not entries:
                return _text(422, "error at least one valid stream is required for ingestion")
            return self._ingest(entries, fault)
        except _Refused as error:
            return _text(error.status, str(error))

    def refuse(self, fault: Answer | Throttle | TooLarge, call: Call) -> Reply:
        match fault:
            case Answer(status=status, retry_after=wait):
                return _text(status, "as scripted", wait)
            case Throttle(retry_after=wait, header=header):
                return _text(429, _over_rate(1, _BURST + 1), wait, header)
            case TooLarge():
                return _text(413, f"request body too large: {len(call.body)} bytes, limit: {self.max_bytes} bytes")

    def _check_sender(self, call: Call) -> None:
        given = call.headers.get("Authorization", "")
        if self.token is not None and given != f"Bearer {self.token}":
            raise _Refused(401, '{"status":"error","error":"authentication error: invalid token"}')
        if self.login is not None and given != f"Basic {b64encode(':'.join(self.login).encode()).decode()}":
            raise _Refused(401, '{"status":"error","error":"authentication error: invalid scope requested"}')
        if self.tenants and call.headers.get("X-Scope-OrgID") not in self.tenants:
            raise _Refused(401, "no org id")

    def _body(self, call: Call) -> bytes:
        kind = call.headers.get("Content-Type", "").partition(";")[0].strip()
        if kind != "application/json":
            raise _Refused(400, "snappy: corrupt input" if kind else "mime: no media type")
        encoding = call.headers.get("Content-Encoding", "identity")
        try:
            if encoding == "deflate":  # without zlib's header, unlike what RFC 9110 says
                return zlib.decompress(call.body, -zlib.MAX_WBITS)
            return decoded(call.body, encoding, self.max_bytes, accepted=frozenset({"identity", "gzip"}))
        except Unsupported:
            raise _Refused(400, f'Content-Encoding "{encoding}" not supported') from None
        except TooLong as error:
            text = f"request body too large: {error.args[0]} bytes, limit: {self.max_bytes} bytes"
            raise _Refused(413, text) from None
        except (Corrupt, zlib.error):
            raise _Refused(400, "flate: corrupt input before offset 1") from None

    def _ingest(self, entries: list[LokiEntry], fault: Fault | None) -> Reply:
        """Store what is valid, and answer as Loki does: with a 400 or 429 although others are stored."""
        size = sum(len(entry.line.encode()) for entry in entries)
        if size > _BURST:
            return _text(429, _over_rate(len(entries), size))
        if isinstance(fault, StreamLimit):
            for entry in entries[: fault.stored]:
                self._store(entry)
            name = _name_of(entries[-1].labels)
            return _text(429, f"maximum active stream limit exceeded when trying to create stream {name}, reduce it")
        faults: dict[str, int] = {}
        for place, entry in enumerate(entries):
            is_scripted = isinstance(fault, RejectEntries) and place < fault.count
            wrong = self._too_old(entry) if is_scripted else self._wrong_with(entry)
            if wrong is None:
                self._store(entry)
            else:
                faults[wrong] = faults.get(wrong, 0) + 1
        if faults:
            return _text(400, "; ".join(f"{count} errors like: {text}" for text, count in faults.items()))
        return Reply(204)

    def _store(self, entry: LokiEntry) -> None:
        name = _name_of(entry.labels)
        if (name, entry.time_ns, entry.line) in self._known:
            self.repeats += 1
            return
        self._known.add((name, entry.time_ns, entry.line))
        self._newest[name] = max(entry.time_ns, self._newest.get(name, entry.time_ns))
        self.entries.append(entry)

    def _too_old(self, entry: LokiEntry) -> str:
        times = f"{_time(entry.time_ns)}, oldest acceptable timestamp is: {_time(self._oldest_ns())}"
        return f"entry for stream '{_name_of(entry.labels)}' has timestamp too old: {times}"

    def _oldest_ns(self) -> int:
        return round((self.now() - _OLDEST_S) * 1e9)

    def _wrong_with(self, entry: LokiEntry) -> str | None:
        """Return what Loki says of an entry that it does not store; None if it is valid."""
        name, labels, line = _name_of(entry.labels), entry.labels, len(entry.line.encode())
        metadata = sum(len(f"{key}{value}".encode()) for key, value in entry.metadata.items())
        newest = self._newest.get(name, entry.time_ns)
        if not labels:
            return "error at least one label pair is required per stream"
        if odd := next((label for label in labels if not _LABEL.fullmatch(label)), None):
            return f"error parsing labels '{name}' with error: unexpected {odd!r}"
        if len(labels) > _MOST_LABELS:
            return f"entry for stream '{name}' has {len(labels)} label names; limit {_MOST_LABELS}"
        if odd := next((label for label in labels if len(label) > _LONGEST_NAME), None):
            return f"stream '{name}' has label name too long: '{odd}'"
        if odd := next((label for label in labels if len(labels[label].encode()) > _LONGEST_VALUE), None):
            return f"stream '{name}' has label value too long: '{odd}'"
        if entry.time_ns < self._oldest_ns():
            return self._too_old(entry)
        if entry.time_ns > (self.now() + _NEWEST_S) * 1e9:
            return f"entry for stream '{name}' has timestamp too new: {_time(entry.time_ns)}"
        if newest - entry.time_ns > _BEHIND_S * 1e9:
            acceptable = _time(newest - round(_BEHIND_S * 1e9))
            return f"entry too far behind, entry timestamp is: {_time(entry.time_ns)}, oldest acceptable: {acceptable}"
        if line > _LONGEST_LINE:
            return f"max entry size '{_LONGEST_LINE}' bytes exceeded for stream '{name}' while adding an entry with length '{line}' bytes"  # noqa: E501
        if metadata > _LARGEST_METADATA:
            return f"stream '{name}' has structured metadata too large: '{metadata}' bytes, limit: '{_LARGEST_METADATA}' bytes."  # noqa: E501
        if len(entry.metadata) > _MOST_METADATA:
            return f"stream '{name}' has too many structured metadata labels: '{len(entry.metadata)}', limit: '{_MOST_METADATA}'."  # noqa: E501
        return None


def _entries_in(body: bytes) -> list[LokiEntry]:
    """Return the entries of a push. Raises _Refused if it is none: then nothing is stored."""
    try:
        push = orjson.loads(body)
        found = []
        for stream in push["streams"]:
            labels = _texts(stream["stream"])
            for time, line, *rest in stream["values"]:
                if not isinstance(time, str) or not isinstance(line, str) or len(rest) > 1:
                    raise ValueError("a time and a line are strings")
                found.append(LokiEntry(labels, int(time), line, _texts(rest[0]) if rest else {}))
    except (orjson.JSONDecodeError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise _Refused(400, f"loghttp.PushRequest.Streams: {type(error).__name__}") from error
    return found


def _texts(given: Mapping[str, Any]) -> dict[str, str]:
    if not all(isinstance(value, str) for value in given.values()):
        raise ValueError("labels and metadata are strings")
    return dict(given)


def _name_of(labels: Mapping[str, str]) -> str:
    return "{" + ", ".join(f'{name}="{labels[name]}"' for name in sorted(labels)) + "}"


def _time(ns: int) -> str:
    return f"{datetime.fromtimestamp(ns // 1_000_000_000, UTC):%Y-%m-%dT%H:%M:%SZ}"


def _over_rate(lines: int, size: int) -> str:
    return (
        f"ingestion rate limit exceeded for user fake (limit: {_RATE} bytes/sec) while attempting to ingest '{lines}' "
        f"lines totaling '{size}' bytes, reduce log volume or contact your Loki administrator"
    )


def _text(status: int, text: str, wait: float | None = None, header: str = "Retry-After") -> Reply:
    headers = {} if wait is None else {header: f"{wait:g}"}
    return Reply(status, f"{text}\n".encode(), "text/plain; charset=utf-8", headers)
