"""A strict local intake for Datadog: logs, and metrics.

Sources: Datadog's API reference, `POST /api/v2/logs`, `POST /api/v2/series` and `POST /api/v1/distribution_points`.
"""

from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Any, ClassVar

import orjson
from aiohttp import web

from local_backends import datadog_metrics
from local_backends.datadog_logs import DatadogLog, Malformed, read_logs
from local_backends.datadog_metrics import DatadogMetrics
from local_backends.encodings import Corrupt, TooLong, Unsupported, decoded
from local_backends.faults import Answer, Fault, Throttle, TooLarge
from local_backends.server import Backend, Call, Reply

PATH = "/api/v2/logs"
_OPERATIONS = {PATH: "logs", "/api/v2/series": "series", "/api/v1/distribution_points": "distributions"}
_PHRASES = {status.value: status.phrase for status in HTTPStatus}
# "5 MB" uncompressed, counted as the Agent does; Datadog's Lambda extension counts 5 * 1024 * 1024.
_MAX_BODY_BYTES = 5_000_000


class Datadog(Backend):
    """The intakes of one Datadog account, for logs and for metrics. The real ones have two hosts; here they have one.

    `strict` also refuses entries that the real intake accepts and repairs, so that bugs of the sender show. `zstd` is a
    decoder for that encoding (from Python 3.14: `compression.zstd.decompress`). Without one the answer is 415, because
    the API reference does not list the encoding, although Datadog's own Agent sends it. `keeps_outside`: whether logs
    more than 18 h old or 2 h ahead are stored (the pipeline page says they are rejected; the answer is 202 either way).
    More than 1,000 entries are answered with 400 (not documented).

    `api_key` may be changed while it runs. `logs` are the stored logs in order; `outside` are those dropped for their
    time. `metrics` are the metrics. A fault applies to both, unless it is scripted `on` one of `logs`, `series` and
    `distributions`.
    """

    deliveries: ClassVar[frozenset[str]] = frozenset(_OPERATIONS.values())
    wire_limit = 2 * _MAX_BODY_BYTES

    def __init__(
        self,
        *,
        api_key: str = "0" * 32,
        strict: bool = True,
        zstd: Callable[[bytes], bytes] | None = None,
        keeps_outside: bool = False,
        **listen: Any,
    ) -> None:
        super().__init__(**listen)
        self.api_key = api_key
        self.strict = strict
        self.logs: list[DatadogLog] = []
        self.outside: list[DatadogLog] = []
        self.metrics = DatadogMetrics()
        self._keeps_outside = keeps_outside
        self._zstd = zstd
        self._encodings = frozenset({"identity", "gzip", "deflate", *(["zstd"] if zstd else [])})

    @property
    def kept(self) -> Sequence[DatadogLog]:
        return self.logs

    def operation(self, request: web.BaseRequest) -> str:
        return _OPERATIONS.get(request.path, "unknown")

    def respond(self, call: Call, fault: Fault | None = None) -> Reply:
        if call.operation == "unknown":
            return _error(404)
        if call.method != "POST":
            return _error(405)
        if "DD-API-KEY" not in call.headers:
            return _error(401)
        if call.headers["DD-API-KEY"] != self.api_key:
            return _error(403)
        if call.operation != "logs":
            return self._take_metrics(call)
        encoding = call.headers.get("Content-Encoding", "identity")
        if self.strict and not _is_json(call.headers.get("Content-Type", "")):
            return _error(415, "this local intake reads application/json only")
        try:
            body = decoded(call.body, encoding, _MAX_BODY_BYTES, accepted=self._encodings, zstd=self._zstd)
            logs = read_logs(body, call.time, strict=self.strict)
        except Unsupported as error:
            return _error(415, f"content encoding {error}")
        except TooLong:
            return _error(413)
        except (Corrupt, Malformed) as error:
            return _error(400, str(error))
        self._store(logs)
        return Reply(202, b"{}")

    def _take_metrics(self, call: Call) -> Reply:
        """Answer what is sent to a metric API. Its errors are texts."""
        is_series = call.operation == "series"
        kinds = ("application/json",) if is_series else ("text/json", "application/json")
        accepted = frozenset({"identity", "deflate", *(["gzip"] if is_series else [])})
        if call.headers.get("Content-Type", "").partition(";")[0].strip().lower() not in kinds:
            return _texts(415, "this local intake reads JSON only")
        if len(call.body) > datadog_metrics.MAX_BYTES:
            return _texts(413)
        try:
            encoding = call.headers.get("Content-Encoding", "identity")
            body = decoded(call.body, encoding, datadog_metrics.MAX_RAW_BYTES, accepted=accepted)
            if is_series:
                points, flaws = datadog_metrics.read_series(body)
                self.metrics.flaws += flaws
            else:
                points = datadog_metrics.read_distributions(body)
        except Unsupported as error:
            return _texts(415, f"content encoding {error}")
        except TooLong:
            return _texts(413)
        except (Corrupt, datadog_metrics.Malformed) as error:
            return _texts(400, str(error))
        self.metrics.store(points, call.time)
        return Reply(202, b'{"errors":[]}' if is_series else b'{"status":"ok"}')

    def refuse(self, fault: Answer | Throttle | TooLarge, call: Call) -> Reply:
        match fault:
            case Answer(status=status, retry_after=wait):
                return _error(status, wait=wait)
            case Throttle(retry_after=wait, header=header):
                return _error(429, wait=wait, header=header)
            case TooLarge():
                return _error(413)

    def _store(self, logs: list[DatadogLog]) -> None:
        for log in logs:
            is_dropped = log.is_outside and not self._keeps_outside
            (self.outside if is_dropped else self.logs).append(log)


def _is_json(content_type: str) -> bool:
    return content_type.partition(";")[0].strip().lower() == "application/json"


def _error(status: int, detail: str = "", *, wait: float | None = None, header: str = "Retry-After") -> Reply:
    """Return an error answer in Datadog's format: string values, one entry."""
    title = _PHRASES.get(status, "Error")
    body = orjson.dumps({"errors": [{"status": str(status), "title": title, "detail": detail or title}]})
    return Reply(status, body, headers={} if wait is None else {header: f"{wait:g}"})


def _texts(status: int, detail: str = "") -> Reply:
    """Return an error answer of the metric APIs."""
    return Reply(status, orjson.dumps({"errors": [detail or _PHRASES.get(status, "Error")]}))
