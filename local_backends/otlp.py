"""A strict local OTLP/HTTP receiver, for logs, metrics and traces, in protobuf and in JSON.

It needs the package opentelemetry-proto, whose official classes read every byte. Sources: OTLP 1.11 specification, the
vendors' pages on their OTLP endpoints, and what two real receivers refuse, read and tried 2026-11-27.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Any, ClassVar, Literal

import orjson
from aiohttp import web

from local_backends.aws_json import AwsError, check_signature
from local_backends.encodings import Corrupt, TooLong, Unsupported, decoded
from local_backends.faults import Answer, Fault, ServiceFault, Throttle, TooLarge
from local_backends.otlp_messages import (
    SIGNALS,
    Malformed,
    Rules,
    attributes_of,
    read_any,
    read_json,
    read_protobuf,
    refuse_what_is_lost,
    services,
)
from local_backends.otlp_rules import CHECKS, CUMULATIVE, Refused, Series, items_in, points_in
from local_backends.server import Backend, Call, Reply

PROTOBUF, JSON = "application/x-protobuf", "application/json"
Vendor = Literal["", "cloudwatch", "datadog", "axiom", "rotel"]
_MAX_BYTES = 64 * 1024 * 1024
_AWS = {"logs": "logs", "metrics": "monitoring", "traces": "xray"}
_DAY_NS = 86_400_000_000_000


@dataclass(frozen=True, slots=True)
class RejectItems(ServiceFault):
    """Take the request, but say that `count` of its items were rejected; 0 with a message is a warning."""

    count: int
    message: str = ""
    times: int | None = 1


@dataclass(frozen=True, slots=True)
class RetryAt(ServiceFault):
    """Refuse with `status`, and a Retry-After that is a date `seconds` ahead."""

    seconds: int
    status: int = 503
    times: int | None = 1


@dataclass(frozen=True, slots=True)
class OtlpItem:
    """One log record, metric or span that was taken, in OTLP/JSON's form with integers, and what surrounds it."""

    signal: str
    resource: Mapping[str, Any]  # its attributes, plain
    scope: Mapping[str, Any]
    item: Mapping[str, Any]

    @property
    def attributes(self) -> dict[str, Any]:
        return attributes_of(self.item)


@dataclass(frozen=True, slots=True)
class Export:
    """One request that was read: its body's bytes sent and unpacked; `is_repeated`: the same ones came before."""

    signal: str
    is_json: bool
    size: int
    raw_size: int
    header_names: frozenset[str]
    is_repeated: bool
    items: int = field(default=0)


class OtlpReceiver(Backend):
    """Receives OTLP at `prefix` + `/v1/logs`, `/v1/metrics` and `/v1/traces`. A request is stored whole, or not at all.

    `strict` refuses what only some receivers refuse: snake_case keys, and numbers where JSON should have strings.
    `vendor` adds the rules of one: its limits, its credential (`key`: the value of `dd-api-key`), its success. What
    rotel would lose is refused in its name.
    `empty_success` is the body of a success in JSON: `{}`, or `{"partialSuccess":null}` as a real receiver says.

    `logs`, `metrics` and `spans` are what was taken. `exports` are the requests. `overwritten` counts points that
    another one of the same second replaced, as Datadog does.
    """

    deliveries: ClassVar[frozenset[str]] = frozenset(SIGNALS)
    own_faults: ClassVar[tuple[type, ...]] = (RejectItems, RetryAt)
    wire_limit = _MAX_BYTES

    def __init__(
        self,
        *,
        prefix: str = "",
        strict: bool = True,
        vendor: Vendor = "",
        key: str = "otlp-key",
        region: str | None = None,
        empty_success: bytes = b"{}",
        **listen: Any,
    ) -> None:
        for signal in SIGNALS:
            services(signal)
        super().__init__(**listen)
        self.prefix = prefix
        self.vendor = vendor
        self.key = key
        self.region = region
        self.strict = strict
        self.empty_success = empty_success
        self.items: list[OtlpItem] = []
        self.exports: list[Export] = []
        self.series = Series()
        self.overwritten = 0
        self._seconds: dict[Any, Any] = {}
        self._digests: set[bytes] = set()

    @property
    def kept(self) -> Sequence[OtlpItem]:
        return self.items

    @property
    def logs(self) -> list[OtlpItem]:
        return [one for one in self.items if one.signal == "logs"]

    @property
    def metrics(self) -> list[OtlpItem]:
        return [one for one in self.items if one.signal == "metrics"]

    @property
    def spans(self) -> list[OtlpItem]:
        return [one for one in self.items if one.signal == "traces"]

    def operation(self, request: web.BaseRequest) -> str:
        return next((signal for signal in SIGNALS if request.path == f"{self.prefix}/v1/{signal}"), "unknown")

    def respond(self, call: Call, fault: Fault | None = None) -> Reply:
        is_json = call.headers.get("Content-Type") == JSON
        if isinstance(fault, RetryAt):
            now = self.now()
            dates = {"Retry-After": formatdate(now + fault.seconds, usegmt=True), "Date": formatdate(now, usegmt=True)}
            return _error(fault.status, "as scripted", is_json, dates)
        try:
            return self._take(call, is_json, fault)
        except Refused as error:
            return _error(error.status, str(error), is_json)
        except Malformed as error:
            return _error(400, str(error), is_json)

    def refuse(self, fault: Answer | Throttle | TooLarge, call: Call) -> Reply:
        is_json = call.headers.get("Content-Type") == JSON
        match fault:
            case Answer(status=status, retry_after=wait):
                return _error(status, "as scripted", is_json, _wait("Retry-After", wait))
            case Throttle(retry_after=wait, header=header):
                return _error(429, "too many requests", is_json, _wait(header, wait))
            case TooLarge():
                return _error(413, "the body is too large", is_json)

    # --- one request ------------------------------------------------------------------------------------------------

    def _take(self, call: Call, is_json: bool, fault: Fault | None) -> Reply:
        signal = call.operation
        if signal == "unknown":
            raise Refused("there is nothing at this path", 404)
        if call.method != "POST":
            raise Refused("only POST is taken", 405)
        if call.headers.get("Content-Type") not in (PROTOBUF, JSON):
            raise Refused("the content type has to be one of two, bare", 400 if self.vendor == "rotel" else 415)
        self._check_sender(call, signal, is_json)
        raw = self._unpacked(call, signal)
        found = self._parsed(signal, raw, is_json)
        self._check_vendor(signal, found, raw)
        taken = self._checked(signal, found, call)
        self._note_export(call, signal, is_json, raw, len(taken))
        self.items += taken
        return self._success(signal, is_json, fault)

    def _unpacked(self, call: Call, signal: str) -> bytes:
        sent, limit = _MAX_BYTES, _MAX_BYTES
        if self.vendor == "datadog":
            sent, limit = {"traces": (3_200_000, 3_200_000), "metrics": (500_000, 5_000_000)}.get(signal, (sent, limit))
        if self.vendor == "cloudwatch":
            limit = 5_000_000 if signal == "traces" else 1_000_000
        if len(call.body) > sent:
            raise Refused("the body is too large", 413)
        try:
            encoding = call.headers.get("Content-Encoding", "identity")
            return decoded(call.body, encoding, limit, accepted=frozenset({"identity", "gzip"}))
        except Unsupported as error:
            raise Refused(f"content encoding {error}", 415) from error
        except TooLong as error:
            raise Refused("the body is too large", 413) from error
        except Corrupt as error:
            raise Refused(str(error)) from error

    def _parsed(self, signal: str, raw: bytes, is_json: bool) -> dict[str, Any]:
        if not is_json:
            return read_protobuf(signal, raw)
        if self.vendor == "rotel":
            refuse_what_is_lost(read_any(raw), signal)
        return read_json(signal, raw, Rules(numbers=not self.strict, snake_case=not self.strict))

    def _checked(self, signal: str, request: Mapping[str, Any], call: Call) -> list[OtlpItem]:
        """Return the items of a request, each of which is sound. Raises Refused."""
        found, keep = [], []
        for resource, scope, item in items_in(signal, request):
            CHECKS[signal](item)
            if signal == "metrics":
                keep.append(self.series.check(resource, item))
            found.append(OtlpItem(signal, attributes_of(resource), scope, item))
        for one in keep:
            one()
        if self.vendor == "datadog" and signal == "metrics":
            self._overwrite(found, "resource_attributes_as_tags" in call.headers.get("dd-otel-metric-config", ""))
        return found

    def _overwrite(self, found: Sequence[OtlpItem], has_resource: bool) -> None:
        """Count the points that replace another of their series and second; distributions replace none."""
        for one in found:
            shape, _, points = points_in(one.item)
            for point in points if shape in ("gauge", "sum") else ():
                tags = {**(one.resource if has_resource else {}), **attributes_of(point)}
                key = (one.item["name"], repr(sorted(tags.items(), key=repr)), point["timeUnixNano"] // 1_000_000_000)
                self.overwritten += key in self._seconds and self._seconds[key] != point
                self._seconds[key] = point

    def _note_export(self, call: Call, signal: str, is_json: bool, raw: bytes, items: int) -> None:
        digest = hashlib.sha256(raw).digest()
        names = frozenset(name.lower() for name in call.headers)
        is_repeated = digest in self._digests
        self._digests.add(digest)
        self.exports.append(Export(signal, is_json, len(call.body), len(raw), names, is_repeated, items))

    def _success(self, signal: str, is_json: bool, fault: Fault | None) -> Reply:
        status = 202 if self.vendor == "datadog" else 200
        if isinstance(fault, RejectItems):
            return Reply(status, _partial(signal, fault, is_json), JSON if is_json else PROTOBUF)
        return Reply(status, self.empty_success, JSON) if is_json else Reply(status, b"", PROTOBUF)

    # --- vendors ----------------------------------------------------------------------------------------------------

    def _check_sender(self, call: Call, signal: str, is_json: bool) -> None:
        if self.vendor == "datadog":
            if call.headers.get("dd-api-key") != self.key:
                raise Refused("Forbidden", 403)
            if signal == "logs" and is_json:
                raise Refused("logs are taken in protobuf", 415)
        elif self.vendor == "axiom" and signal == "metrics" and is_json:
            raise Refused("metrics are taken in protobuf", 415)
        elif self.vendor == "cloudwatch":
            self._check_aws(call, signal)

    def _check_aws(self, call: Call, signal: str) -> None:
        given = call.headers.get("Authorization", "")
        if given.startswith("Bearer ") and signal == "traces":
            raise Refused("a bearer token is not taken here", 403)
        if not given.startswith("Bearer "):
            try:
                check_signature(call, _AWS[signal], self.region)
            except AwsError as error:
                raise Refused(f"{error.error_type}: {error.message}", 403) from error
        if signal == "logs" and not {"x-aws-log-group", "x-aws-log-stream"} <= {name.lower() for name in call.headers}:
            raise Refused("x-aws-log-group and x-aws-log-stream have to name what exists")

    def _check_vendor(self, signal: str, request: Mapping[str, Any], raw: bytes) -> None:
        items = list(items_in(signal, request))
        if self.vendor == "datadog" and signal == "metrics":
            for _, _, item in items:
                if points_in(item)[1].get("aggregationTemporality") == CUMULATIVE:
                    raise Refused("cumulative metrics are not taken")
        if self.vendor != "cloudwatch":
            return
        if signal == "metrics":
            count = sum(len(points_in(item)[2]) for _, _, item in items)
            if count > 1_000:
                raise Refused("Maximum number of datapoints per request exceeded: 1000.")
        elif len(items) > 10_000:
            raise Refused("too many items")
        if signal == "traces":
            self._check_spans([item for _, _, item in items], request)

    def _check_spans(self, spans: Sequence[Mapping[str, Any]], request: Mapping[str, Any]) -> None:
        """Refuse the whole call for one bad span, as X-Ray does."""
        now = self.now() * 1e9
        starts = [span.get("startTimeUnixNano", 0) for span in spans]
        if starts and (max(starts) > now + _DAY_NS / 12 or min(starts) < now - 14 * _DAY_NS):
            raise Refused("a span is more than 2 hours ahead or 14 days old")
        if starts and max(starts) - min(starts) > _DAY_NS:
            raise Refused("spans are more than 24 hours apart")
        if any(len(orjson.dumps(span)) > 200_000 for span in spans):
            raise Refused("a span is larger than 200 KB")
        for outer in request["resourceSpans"]:
            scopes = [inner.get("scope", {}) for inner in outer["scopeSpans"]]
            if len(orjson.dumps([outer.get("resource", {}), *scopes])) > 16_384:
                raise Refused("resource and scope are larger than 16 KB")


def _partial(signal: str, fault: RejectItems, is_json: bool) -> bytes:
    """Return the answer that says how many items were rejected."""
    name = {"logs": "rejectedLogRecords", "metrics": "rejectedDataPoints", "traces": "rejectedSpans"}[signal]
    if is_json:
        members = ({name: str(fault.count)} if fault.count else {}) | (
            {"errorMessage": fault.message} if fault.message else {}
        )
        return orjson.dumps({"partialSuccess": members})
    module = services(signal)
    response = getattr(module, f"Export{'Trace' if signal == 'traces' else signal.title()}ServiceResponse")()
    fields = {"logs": "rejected_log_records", "metrics": "rejected_data_points", "traces": "rejected_spans"}
    setattr(response.partial_success, fields[signal], fault.count)
    response.partial_success.error_message = fault.message
    return bytes(response.SerializeToString())


def _error(status: int, message: str, is_json: bool, headers: Mapping[str, str] | None = None) -> Reply:
    """Return an error as google.rpc.Status, in the encoding of the request; JSON if it has none of ours."""
    code = 3 if status == 400 else 13
    if is_json:
        body = orjson.dumps({"code": code, "message": message})
    else:
        text = message.encode()[:100]
        body = bytes((0x08, code, 0x12, len(text))) + text
    return Reply(status, body, JSON if is_json else PROTOBUF, headers=dict(headers or {}))


def _wait(header: str, seconds: float | None) -> dict[str, str]:
    return {} if seconds is None else {header: f"{seconds:g}"}
