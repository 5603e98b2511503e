"""A strict local `_bulk` of Elasticsearch, OpenSearch, and OpenSearch Serverless.

Source: Elasticsearch's and OpenSearch's bulk API and data streams, AWS's pages on Serverless; read 2026-11-27.
"""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from typing import Any, ClassVar

import orjson
from aiohttp import web

from local_backends.aws_json import AwsError, check_signature
from local_backends.encodings import Corrupt, TooLong, Unsupported, decoded
from local_backends.faults import Answer, Fault, ServiceFault, Throttle, TooLarge
from local_backends.server import Backend, Call, Reply

_TYPES = ("application/x-ndjson", "application/json")
_ACTIONS = ("index", "create", "update", "delete")
_PARAMETERS = frozenset({"filter_path", "refresh", "pipeline", "timeout", "require_alias"})
_LONGEST_ID = 512


@dataclass(frozen=True, slots=True)
class FailDocuments(ServiceFault):
    """Answer each `every`th document, from the first on, with `status` and `error`; the others are stored."""

    status: int = 429
    error: str = "es_rejected_execution_exception"
    every: int = 2
    reason: str = "rejected execution of coordinating operation"
    times: int | None = 1


@dataclass(frozen=True, slots=True)
class Document:
    """One stored document, as it was sent, and where; `id` is the server's own if the sender gave none."""

    target: str
    id: str
    source: Mapping[str, Any] = field(default_factory=dict)


class _Refused(Exception):
    def __init__(self, status: int, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.kind = kind


class Bulk(Backend):
    """One server. `authorization` is the only header of that name that it takes; None: any.

    `service`: requests have to be signed for it (`es`, `aoss`). `aoss` with `collection` `timeseries` refuses ids.
    `targets`: the only names that there are; () for any. `is_old`: Elasticsearch before 8.18. A name that begins with
    `logs-` is a data stream, which takes `create` alone, and documents with `@timestamp`.
    """

    deliveries: ClassVar[frozenset[str]] = frozenset({"bulk"})
    own_faults: ClassVar[tuple[type, ...]] = (FailDocuments,)

    def __init__(
        self,
        *,
        authorization: str | None = None,
        service: str | None = None,
        collection: str = "timeseries",
        targets: Sequence[str] = (),
        is_old: bool = False,
        max_bytes: int = 10 * 1024 * 1024,
        **listen: Any,
    ) -> None:
        super().__init__(**listen)
        self.authorization = authorization
        self.service = service
        self.has_own_ids = service == "aoss" and collection == "timeseries"
        self.targets = targets
        self.is_old = is_old
        self.max_bytes = max_bytes
        self.documents: list[Document] = []
        self.conflicts = 0
        self._ids: set[tuple[str, str]] = set()

    @staticmethod
    def basic(user: str, password: str) -> str:
        """Return the header of a user name and a password."""
        return f"Basic {b64encode(f'{user}:{password}'.encode()).decode()}"

    @property
    def kept(self) -> Sequence[Document]:
        return self.documents

    def operation(self, request: web.BaseRequest) -> str:
        return "bulk" if request.path.endswith("/_bulk") else "unknown"

    def respond(self, call: Call, fault: Fault | None = None) -> Reply:
        try:
            if call.operation == "unknown":
                raise _Refused(404, "index_not_found_exception", "no such index")
            if call.method not in ("POST", "PUT"):
                raise _Refused(405, "", f"Incorrect HTTP method for uri [{call.path}]")
            self._check_sender(call)
            self._check_query(call)
            items = self._items(self._lines(call), call.path.strip("/").removesuffix("_bulk").strip("/"), fault)
        except _Refused as error:
            return _error(error.status, error.kind, str(error))
        errors = any(item["status"] >= 400 for _, item in items)
        answer = {"errors": errors, "took": 1, "items": [{action: item} for action, item in items]}
        return Reply(200, orjson.dumps(_filtered(answer, call.query.get("filter_path", ""))))

    def refuse(self, fault: Answer | Throttle | TooLarge, call: Call) -> Reply:
        match fault:
            case Answer(status=status, retry_after=wait):
                return _error(status, "as_scripted", "as scripted", wait)
            case Throttle(retry_after=wait, header=header):
                return _error(429, "circuit_breaking_exception", "[parent] Data too large", wait, header)
            case TooLarge():
                return Reply(413, b"", "text/plain")

    def _check_sender(self, call: Call) -> None:
        if self.authorization is not None and call.headers.get("Authorization") != self.authorization:
            raise _Refused(401, "security_exception", "unable to authenticate with provided credentials")
        if self.service is None:
            return
        try:
            check_signature(call, self.service, None)
        except AwsError as error:
            raise _Refused(403, "", error.message) from error
        if self.service == "aoss" and call.headers.get("x-amz-content-sha256") != sha256(call.body).hexdigest():
            raise _Refused(403, "", "x-amz-content-sha256 is missing or wrong")

    def _check_query(self, call: Call) -> None:
        known = _PARAMETERS if self.is_old or self.service else _PARAMETERS | {"include_source_on_error"}
        if odd := next((name for name in call.query if name not in known), None):
            text = f"request [{call.path}] contains unrecognized parameter: [{odd}]"
            raise _Refused(400, "illegal_argument_exception", text)

    def _lines(self, call: Call) -> list[bytes]:
        if call.headers.get("Content-Type", "").partition(";")[0].strip() not in _TYPES:
            raise _Refused(406, "", "Content-Type header is not supported")
        encoding = call.headers.get("Content-Encoding", "identity")
        try:
            body = decoded(call.body, encoding, self.max_bytes, accepted=frozenset({"identity", "gzip", "deflate"}))
        except TooLong:
            raise _Refused(413, "", "Request Entity Too Large") from None
        except (Unsupported, Corrupt):
            raise _Refused(400, "parse_exception", "the body is not in its encoding") from None
        if not body:
            raise _Refused(400, "parse_exception", "request body is required")
        if not body.endswith(b"\n"):
            text = "The bulk request must be terminated by a newline [\\n]"
            raise _Refused(400, "illegal_argument_exception", text)
        return body[:-1].split(b"\n")

    def _items(self, lines: list[bytes], target: str, fault: Fault | None) -> list[tuple[str, dict[str, Any]]]:
        """Carry out the actions of a body. Raises _Refused if it is none: nothing is stored then."""
        if len(lines) % 2:
            raise _Refused(400, "illegal_argument_exception", "Malformed action/metadata line, expected a source")
        pairs = [(*_action_in(action), _object(source)) for action, source in zip(lines[::2], lines[1::2], strict=True)]
        found = []
        for place, (action, about, source) in enumerate(pairs):
            if isinstance(fault, FailDocuments) and place % fault.every == 0:
                error: dict[str, Any] | None = _item(fault.status, fault.error, fault.reason)
            else:
                error = self._store(action, str(about.get("_index", target)), about, source)
            found.append((action, {"_index": target, "_id": str(about.get("_id", "")), **(error or {"status": 201})}))
        return found

    def _store(
        self, action: str, target: str, about: Mapping[str, Any], source: dict[str, Any]
    ) -> dict[str, Any] | None:
        """Store a document; return its status and error if it is refused."""
        id = about.get("_id")
        if self.targets and target not in self.targets:
            return _item(404, "index_not_found_exception", f"no such index [{target}]")
        if self.has_own_ids and id is not None:
            return _item(
                400, "illegal_argument_exception", "Document ID is not supported in create/index operation request"
            )
        if target.startswith("logs-") and action != "create":
            return _item(
                400,
                "illegal_argument_exception",
                "only write ops with an op_type of create are allowed in data streams",
            )
        if target.startswith("logs-") and not _is_time(source.get("@timestamp")):
            return _item(400, "document_parsing_exception", "data stream timestamp field [@timestamp] is missing")
        if id is not None and (not isinstance(id, str) or len(id.encode()) > _LONGEST_ID):
            return _item(400, "illegal_argument_exception", "id is too long, must be no longer than 512 bytes")
        if action == "create" and (target, id) in self._ids:
            self.conflicts += 1
            return _item(409, "version_conflict_engine_exception", f"[{id}]: version conflict, document already exists")
        given = id if isinstance(id, str) else f"server-{len(self.documents)}"
        self._ids.add((target, given))
        self.documents.append(Document(target, given, source))
        return None


def _item(status: int, kind: str, reason: str) -> dict[str, Any]:
    return {"status": status, "error": {"type": kind, "reason": reason}}


def _action_in(line: bytes) -> tuple[str, dict[str, Any]]:
    found = _object(line)
    action, about = next(iter(found.items()), ("", None))
    if len(found) != 1 or action not in _ACTIONS or not isinstance(about, dict):
        raise _Refused(400, "illegal_argument_exception", "Malformed action/metadata line, expected START_OBJECT")
    return action, about


def _object(line: bytes) -> dict[str, Any]:
    try:
        found = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise _Refused(400, "parse_exception", "a line is no JSON") from error
    if not isinstance(found, dict):
        raise _Refused(400, "parse_exception", "a line is no object")
    return found


def _is_time(value: Any) -> bool:
    try:
        datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return False
    return True


def _filtered(answer: dict[str, Any], paths: str) -> dict[str, Any]:
    """Return what of an answer the paths of `filter_path` name: of `errors` and `items`."""
    if not paths:
        return answer
    wanted = [path.split(".") for path in paths.split(",")]
    found: dict[str, Any] = {"errors": answer["errors"]} if ["errors"] in wanted else {}
    of_items = [path[2:] for path in wanted if path[:2] == ["items", "*"]]
    items = [{action: _picked(item, of_items) for action, item in each.items()} for each in answer["items"]]
    items = [item for item in items if all(item.values())]
    return {**found, "items": items} if items else found


def _picked(item: Mapping[str, Any], paths: list[list[str]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, *rest in paths:
        if name not in item:
            continue
        if not rest:
            found[name] = item[name]
        elif rest[0] in item[name]:
            found.setdefault(name, {})[rest[0]] = item[name][rest[0]]
    return found


def _error(status: int, kind: str, reason: str, wait: float | None = None, header: str = "Retry-After") -> Reply:
    body = {"error": {"root_cause": [], "type": kind, "reason": reason}, "status": status}
    return Reply(status, orjson.dumps(body), headers={} if wait is None else {header: f"{wait:g}"})
