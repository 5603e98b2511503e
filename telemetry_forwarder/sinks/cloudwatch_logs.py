"""The CloudWatch Logs sink: each record becomes one log event holding a JSON object, sent with PutLogEvents.

Sources: the service model, the CloudWatch Logs API reference (PutLogEvents, common errors) and its quota page, and
findings of Vector and Fluent Bit, read 2026-11-23.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, ClassVar
from uuid import uuid4

from msgspec import Struct

from telemetry_forwarder.aws_errors import Meaning, meaning_of, short
from telemetry_forwarder.errors import ConfigError, EncodeError
from telemetry_forwarder.interfaces import (
    AwsResponse,
    Batch,
    Delivered,
    Denied,
    Destination,
    DropReason,
    Encoded,
    Limits,
    LogsDelivery,
    Partial,
    PutLogEvents,
    Rejected,
    Retry,
    TooLarge,
    Verdict,
)
from telemetry_forwarder.records.lossless_json import json_part, to_json
from telemetry_forwarder.records.record import Context, Record, json_ids
from telemetry_forwarder.sinks.http_answers import quoted
from telemetry_forwarder.sinks.platform_lines import platform_text
from telemetry_forwarder.sinks.truncate import fit, grouped, present
from telemetry_forwarder.variables.reading import Values, metric_line_mode, missing, wants_metrics
from telemetry_forwarder.variables.wording import Notice

DAY_MS = 86_400_000

LIMITS = Limits(
    max_records=10_000,
    max_bytes=1_048_576,
    max_record_bytes=1_000_000,  # the event limit is 1 MB since 2025; Fluent Bit uses the same value
    overhead_bytes=26,
    max_span_ms=DAY_MS,
    is_sorted=True,
)

LONGEST_NAME = 512

_CREATING = "logs:CreateLogGroup and logs:CreateLogStream"
ALLOW = f"allow logs:PutLogEvents, {_CREATING} on"
# Errors worth a retry. EXPIRED is one, because each attempt gets a new signature.
PASSING = (Meaning.THROTTLED, Meaning.BUSY, Meaning.EXPIRED)
REFUSED = (Meaning.FORBIDDEN, Meaning.BAD_CREDENTIALS)


class CloudWatchLogs(Struct, frozen=True, kw_only=True):
    """Write records into one log group. If `stream` is None, each environment writes into a stream of its own.

    CloudWatch makes metrics of what functions print in the embedded format (EMF), whatever the group. It does so where
    Lambda itself writes the line, so here the line is changed; unless `embeds`, which makes it count here too.
    """

    name: ClassVar[str] = "cloudwatch"
    limits: ClassVar[Limits] = LIMITS
    extracts_emf: ClassVar[bool] = True

    group: str
    stream: str | None
    embeds: bool = False
    fallback_stream: str  # used while the name of the environment's own stream is unknown

    def encode(self, record: Record) -> Encoded:
        """Return the record as one JSON object; a record that is too large becomes its text, cut.

        Raises EncodeError if the record cannot be sent.
        """
        if record.time_ms < 0:
            raise EncodeError("CloudWatch Logs takes no time before 1970")

        def with_text(text: str, is_cut: bool) -> bytes:
            kind = {"type": record.type} if record.is_event else {}
            return to_json({"message": text, **kind, "lambda": facts(record, is_cut)})

        return fit(record, to_json(content(record, embeds=self.embeds)), LIMITS.max_record_bytes, with_text)

    def encode_all(self, records: Sequence[Record]) -> list[Encoded]:
        """Return the same as `encode` for each of `records`, in a third of the time for lines. Raises EncodeError."""
        found = []
        context = None
        for record, id in zip(records, json_ids(records), strict=True):
            if record.context is not context:
                context = record.context
                known, is_event = _facts_behind_id(context)
            fields, body = record.fields, record.body
            if is_event or record.time_ms < 0:
                found.append(self.encode(record))
                continue
            if fields is None and body.__class__ is str:
                first = b'{"message":' + json_part(body)
            elif fields and "lambda" not in fields and _EMF not in fields:
                first = json_part(fields)[:-1]
            else:
                found.append(self.encode(record))
                continue
            data = b"".join((first, b',"lambda":{"record_id":', id, known))
            found.append(Encoded(record, data) if len(data) <= LIMITS.max_record_bytes else self.encode(record))
        return found

    def request(self, batch: Batch) -> PutLogEvents:
        return PutLogEvents(
            group=self.group,
            stream=self.stream or _stream_name(_instance_of(batch)) or self.fallback_stream,
            events=tuple((encoded.record.time_ms, encoded.data.decode()) for encoded in batch),
        )

    def verdict(self, batch: Batch, response: AwsResponse) -> Verdict:
        """Return what a response means for `batch`. A 200 may still refuse events that are too old or too new."""
        if response.error is None and 200 <= response.status < 300:
            return taken(batch, response.body)
        return refused(batch, response, self.group)


_EMF = "_aws"


def _neutral(fields: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the members of a line; one in EMF with `_aws` renamed to `aws_emf`, so that CloudWatch leaves it alone."""
    about = fields.get(_EMF)
    if not isinstance(about, Mapping) or not isinstance(about.get("CloudWatchMetrics"), list):
        return fields
    name = "aws_emf"
    while name in fields:
        name += "_"
    return {name if key == _EMF else key: value for key, value in fields.items()}


def content(record: Record, *, embeds: bool = False) -> dict[str, Any]:
    """Return the log event as a dict: members of a JSON record at the root, text as `message`, facts as `lambda`."""
    known = facts(record)
    if record.is_event:
        line = platform_text(record.type, record.body)
        first = {} if line is None else {"message": line}
        return {**first, "type": record.type, "record": record.body, "lambda": known}
    if record.fields is not None and "lambda" not in record.fields:
        return {**(record.fields if embeds else _neutral(record.fields)), "lambda": known}
    if record.fields is None and isinstance(record.body, str):
        return {"message": record.body, "lambda": known}
    return {"record": record.body if record.fields is None else record.fields, "lambda": known}


def facts(record: Record, is_cut: bool = False) -> dict[str, Any]:
    return {"record_id": record.id, **_facts(record.context, is_cut)}


def _facts(context: Context, is_cut: bool = False) -> dict[str, Any]:
    origin = context.origin
    return present({
        "type": context.type,
        "request_id": context.request_id,
        **_trace(context.trace_id),
        "function_name": origin.function_name,
        "function_version": origin.function_version,
        "arn": origin.function_arn,
        "memory_mb": origin.memory_mb,
        "cold_start": context.cold_start,
        "init_type": origin.init_type,
        "level": context.level,
        "service": origin.service,
        "env": origin.env,
        "version": origin.version,
        "tags": grouped(origin.tags),
        "cut": is_cut or None,
    })  # fmt: skip


def _trace(trace_id: str | None) -> dict[str, str]:
    """Return a trace's id as the log group `aws/spans` has it, and as X-Ray's console looks for it in logs."""
    if trace_id is None:
        return {}
    from telemetry_forwarder.records.tracing import to_xray  # loaded only where traces are on

    return {"trace_id": trace_id, "xray_trace_id": to_xray(trace_id)}


@lru_cache(maxsize=256)
def _facts_behind_id(context: Context) -> tuple[bytes, bool]:
    """Return the end of a log event behind its record's id, and whether it is an event of the platform.

    Cached, because the records of an invocation have it in common.
    """
    known = json_part(_facts(context))
    return b",%b}" % known[1:], context.is_event


def _instance_of(batch: Batch) -> str | None:
    """Return the id of the environment that the batch comes from; None if no record names one.

    The last id in the batch counts for all its records. The first records may have arrived before the id was known,
    and the id changes when a snapshot is restored.
    """
    return next((name for encoded in reversed(batch) if (name := encoded.record.origin.instance_id)), None)


def _stream_name(instance_id: str | None) -> str | None:
    """Return a valid stream name for an environment (1 to 512 characters, no `:` or `*`); None without an id."""
    return instance_id.replace(":", "-").replace("*", "-")[:LONGEST_NAME] if instance_id else None


def taken(batch: Batch, body: Mapping[str, Any]) -> Verdict:
    """Return the verdict for a 200, from the `rejectedLogEventsInfo` in its body.

    Events before the index of the too old ones, and from the index of the too new ones on, are lost for good. All
    others are stored. Both end indices are exclusive (for expired events the model does not say so); the start index
    is inclusive. Source: service model of PutLogEvents, RejectedLogEventsInfo.
    """
    info = body.get("rejectedLogEventsInfo")
    if not isinstance(info, Mapping):
        return Delivered()
    count = len(batch)
    old_end = max(index(info, "tooOldLogEventEndIndex", 0), index(info, "expiredLogEventEndIndex", 0))
    new_start = index(info, "tooNewLogEventStartIndex", count)
    rejected = dict.fromkeys(range(max(0, new_start), count), DropReason.TOO_NEW)
    rejected |= dict.fromkeys(range(min(old_end, count)), DropReason.TOO_OLD)
    if not rejected:
        return Delivered()
    return Partial(rejected=rejected, detail=f"{len(rejected)} of {count} events are too old or too new")


def index(info: Mapping[str, Any], name: str, default: int) -> int:
    value = info.get(name)
    return value if type(value) is int else default


def refused(batch: Batch, response: AwsResponse, group: str) -> Verdict:
    """Return the verdict for an error, by its type first and then by its HTTP status: throttling comes as a 400."""
    if response.error == "ForeignAnswer":
        return Denied(response.message, DropReason.WRONG_ADDRESS)
    error, meaning, status = short(response.error or ""), meaning_of(response.error), response.status
    detail = response.error or f"HTTP {status}"
    if error == "DataAlreadyAccepted":
        return Delivered()
    if meaning is Meaning.TOO_LARGE or status == 413:
        return TooLarge(detail)
    # A request signed before a freeze may be sent long after it. AWS answers with the same error type as for a wrong
    # key; only the message differs.
    is_stale = error == "InvalidSignature" and response.message.startswith("Signature expired")
    if meaning in PASSING or is_stale or (status in (408, 425, 429) or not 200 <= status < 500):
        return Retry(after=max(0.0, response.retry_after), detail=detail)
    if error == "ResourceNotFound":
        text = f"{detail}: log group {group} or its stream is missing and was not created; check CLOUDWATCH_LOG_GROUP"
        return Denied(f"{text} and AWS_REGION, create it, or allow {_CREATING}", DropReason.WRONG_ADDRESS)
    if error == "AccessDenied":  # this message names the missing action; messages of others may quote a session token
        said = f"{response.message[:300].rstrip('.')}; " if response.message else ""
        return Denied(f"{detail}: {said}{ALLOW} log group {group} (CLOUDWATCH_LOG_GROUP) to the function's role")
    if error == "LimitExceeded":
        return Denied(f"{detail}: log group {group} is missing, and the account may have no more")
    if meaning in REFUSED or status in (401, 403):
        return Denied(f"{detail}: AWS does not accept the credentials of the function's role, or something between")
    if status in (404, 405, 407) or status < 400:
        text = f"{detail}: something that is not CloudWatch Logs answered; check AWS_ENDPOINT_URL_CLOUDWATCH_LOGS and "
        return Denied(text + "the proxy, if they are set", DropReason.WRONG_ADDRESS)
    return Rejected(f"{detail}{quoted(response.message)}")


def create(values: Values) -> Destination[PutLogEvents, AwsResponse]:
    """Make the sink from the `CLOUDWATCH_…` variables. Raises ConfigError if there is no valid log group.

    Each call gives the fallback stream a new random name, in Lambda's own pattern.
    """
    problems = values.problems("cloudwatch")
    group = values["CLOUDWATCH_LOG_GROUP"]
    stream = values["CLOUDWATCH_LOG_STREAM"]
    retention_days = values["CLOUDWATCH_RETENTION_DAYS"]
    if group is None:
        raise ConfigError(problems + missing("cloudwatch", values))
    version = values.given("AWS_LAMBDA_FUNCTION_VERSION") or "$LATEST"
    fallback = f"{datetime.now(UTC):%Y/%m/%d}/[{version}]{uuid4().hex}"
    embeds = metric_line_mode("cloudwatch", values) == "metrics"
    members = {"group": group, "stream": stream, "fallback_stream": fallback, "embeds": embeds}
    sink = CloudWatchLogs(**members)
    if wants_metrics("cloudwatch", values):
        from telemetry_forwarder.sinks.cloudwatch_metrics import CloudWatchMetrics  # loaded only if wanted

        sink = CloudWatchMetrics(namespace=values["CLOUDWATCH_METRICS_NAMESPACE"], **members)
    elif values.given("CLOUDWATCH_METRICS_NAMESPACE"):
        text = "is set, but no metrics are sent: TELEMETRY_FORWARDER_METRICS has to be `on` or name `cloudwatch`."
        problems.append(Notice("CLOUDWATCH_METRICS_NAMESPACE", text))
    return Destination(sink=sink, delivery=LogsDelivery(retention_days=retention_days), problems=tuple(problems))
