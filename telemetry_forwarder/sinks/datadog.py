"""The Datadog sink: each batch becomes a JSON array of log objects, sent to `/api/v2/logs` of the logs intake.

Sources: Datadog's Logs API reference and pipeline pages; the source code of Datadog's Lambda extension and Agent and
of Vector, read 2026-11-23.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, ClassVar, TypeAlias

import orjson
from msgspec import Struct

from telemetry_forwarder.errors import ConfigError
from telemetry_forwarder.foreign import is_page
from telemetry_forwarder.interfaces import (
    Batch,
    Credential,
    Delivered,
    Destination,
    Encoded,
    HttpDelivery,
    HttpRequest,
    HttpResponse,
    Limits,
    Rejected,
    Retry,
    Verdict,
)
from telemetry_forwarder.records.lossless_json import json_part
from telemetry_forwarder.records.record import Context, Origin, Record, json_ids
from telemetry_forwarder.sinks.credential import choose
from telemetry_forwarder.sinks.http_answers import Advice, own_words, read_status, taken_unread, wait_seconds
from telemetry_forwarder.sinks.platform_lines import platform_text
from telemetry_forwarder.sinks.truncate import fit, present, text_of
from telemetry_forwarder.variables.reading import Values, missing, stops, wants_metrics
from telemetry_forwarder.variables.types import Site
from telemetry_forwarder.variables.wording import Notice

HOUR_MS = 3_600_000


LIMITS = Limits(
    max_records=1_000,
    # The limit is 5 MB before compression; whether a MB is 10^6 or 2^20 is not said. Vector aims for this value, too.
    max_bytes=4_250_000,
    max_record_bytes=1_000_000,  # Datadog accepts a longer record, but cuts it without a mark
    overhead_bytes=1,  # the comma
    framing_bytes=2,  # the brackets
    # Datadog answers 202 for records older than 18 h and then drops them. 5 minutes are spare, for transfer time and
    # clock differences.
    max_age_ms=18 * HOUR_MS - 300_000,
)

ADVICE = Advice(
    who="Datadog",
    credential="that DD_API_KEY is a valid API key (no application key) of the organisation at DD_SITE",
    address="DD_SITE",
)

Destinations: TypeAlias = Destination[HttpRequest, HttpResponse] | tuple[Destination[HttpRequest, HttpResponse], ...]

_RATE_LIMIT_HEADERS = ("retry-after", "x-ratelimit-reset")  # both in seconds


class Datadog(Struct, frozen=True, kw_only=True, cache_hash=True):
    """Send records as Datadog logs. `url` is the intake's URL without path; `tags` are added to every record."""

    name: ClassVar[str] = "datadog"
    limits: ClassVar[Limits] = LIMITS
    named_by: ClassVar[str] = "DD_LOGS_CONFIG_LOGS_DD_URL"  # the variable that leads elsewhere

    url: str
    tags: tuple[tuple[str, str], ...] = ()
    is_elsewhere: bool = False  # `url` is not Datadog's intake, but e.g. Observability Pipelines, Vector or a proxy

    def encode(self, record: Record) -> Encoded:
        """Return the record as one log object; a record that is too large becomes its text, cut.

        Raises EncodeError if the record cannot be sent.
        """
        data = self._log(record, message(record), _structure(record))

        def with_text(text: str, is_cut: bool) -> bytes:
            return self._log(record, text, {"cut": True} if is_cut else {})

        return fit(record, data, LIMITS.max_record_bytes, with_text)

    def request(self, batch: Batch) -> HttpRequest:
        return HttpRequest(
            url=f"{self.url}/api/v2/logs",
            body=b"[" + b",".join(encoded.data for encoded in batch) + b"]",
            headers={"content-type": "application/json"},
        )

    def verdict(self, batch: Batch, response: HttpResponse) -> Verdict:
        """Return what a response means for `batch`, mainly by its status.

        Datadog accepts or refuses a batch as a whole; a 400 does not say which record is at fault.
        """
        if (taken := taken_unread(response) or self._taken(response)) is not None:
            return taken
        if response.status == 400:
            return Rejected("HTTP 400" + own_words(response.body))
        answer = read_status(response, _elsewhere(self.named_by) if self.is_elsewhere else ADVICE)
        if isinstance(answer, Retry):
            return Retry(after=wait_seconds(response.headers, *_RATE_LIMIT_HEADERS), detail=answer.detail)
        return answer

    def _taken(self, response: HttpResponse) -> Delivered | None:
        """Return Delivered if the response says, as Datadog does, that the records were accepted; else None.

        Datadog answers 202; in the past it answered 200 with `{}`. Vector's datadog_agent source, and with it Datadog's
        own Observability Pipelines, answer 200 with an empty body.
        Source: vectordotdev/vector, src/sources/datadog_agent, read 2026-11-27.
        """
        if response.status == 202 and not is_page(response.body, response.headers):
            return Delivered()
        if response.status == 200 and says_well(response.body):
            return Delivered()
        if (
            response.status == 200
            and self.is_elsewhere
            and not response.body
            and not response.headers.get("content-type")
        ):
            return Delivered(
                f"{self.named_by} answers 200 and nothing else, as Vector does; Datadog itself answers 202"
            )
        return None

    def encode_all(self, records: Sequence[Record]) -> list[Encoded]:
        """Return the same as `encode` for each of `records`, in a third of the time for lines. Raises EncodeError."""
        found = []
        context = None
        for record, id in zip(records, json_ids(records), strict=True):
            if record.context is not context:
                context = record.context
                head, tail = _frame(self, context, context.level)
            if context.is_event:
                found.append(self.encode(record))
                continue
            body = record.body
            text = body if record.fields is None and body.__class__ is str else text_of(record)
            data = b"".join((b'{"message":', orjson.dumps(text), head, b"%d" % record.time_ms, tail, id, b"}"))
            found.append(Encoded(record, data) if len(data) <= LIMITS.max_record_bytes else self.encode(record))
        return found

    def _log(self, record: Record, message: str, more: Mapping[str, Any]) -> bytes:
        head, tail = _frame(self, record.context, status(record))
        end = b"," + json_part(more)[1:] if more else b"}"
        values = (json_part(message), head, record.time_ms, tail, json_part(record.id), end)
        return b'{"message":%b%b%d%b%b%b' % values


def _elsewhere(named_by: str) -> Advice:
    return Advice(
        who="Datadog",
        credential="that DD_API_KEY is a valid API key (no application key) of the organisation that "
        f"{named_by} leads to; DD_SITE is not used beside it",
        address=f"{named_by} (DD_SITE is not used beside it)",
    )


@lru_cache(maxsize=256)
def _frame(sink: Datadog, context: Context, status: str | None) -> tuple[bytes, bytes]:
    """Return what stands between message and time of a log, and between time and the record's id, as JSON.

    Cached, because the records of an invocation have it in common.
    """
    origin = context.origin
    known: dict[str, Any] = {
        "service": origin.service.lower() if origin.service else origin.function_name,
        "hostname": origin.function_arn or origin.function_name,
        "ddsource": "lambda",
        "ddtags": ddtags(origin, context.cold_start, sink.tags),
        "lambda": present(
            {
                "arn": origin.function_arn,
                "request_id": context.request_id,
                "instance_id": origin.instance_id,  # a failed init has no request id to search for
            }
        ),
    }
    if context.trace_id is not None:
        from telemetry_forwarder.records.tracing import to_datadog  # loaded only where traces are on

        known["dd.trace_id"] = to_datadog(context.trace_id)
    # Without the member, Datadog derives the status from the log itself.
    told = b'"status":%b,' % json_part(status) if status is not None else b""
    return b',%b"timestamp":' % told, b',%b,"record_id":' % json_part(known)[1:-1]


def says_well(body: bytes) -> bool:
    """Return whether a response body reports success: the JSON `{}`, or an object with the status `ok`."""
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        return False
    return answer == {} or (isinstance(answer, dict) and answer.get("status") == "ok")


def message(record: Record) -> str:
    """Return the record's text, or its JSON text: Datadog parses JSON in a message."""
    line = platform_text(record.type, record.body) if record.is_event else None
    return text_of(record) if line is None else line


def _structure(record: Record) -> dict[str, Any]:
    """Return the members that hold a platform event in full, beside its message; none for other records."""
    return {"platform": {"type": record.type, "record": record.body}} if record.is_event else {}


def status(record: Record) -> str | None:
    """Return the record's level, None if unknown. The report of an invocation that did not succeed is an `error`."""
    if record.type == "platform.report" and isinstance(record.body, Mapping):
        outcome = record.body.get("status")
        if isinstance(outcome, str) and outcome != "success":
            return "error"
    return record.level


def ddtags(origin: Origin, cold_start: bool | None, more: tuple[tuple[str, str], ...]) -> str:
    """Return `ddtags`: what is known, then the user's tags. A comma in a tag becomes `_`."""
    pairs = [*present(known_tags(origin, cold_start)).items(), *origin.tags, *more]
    return ",".join(tag_text(key, value).replace(",", "_") for key, value in pairs)


def tag_text(key: str, value: object) -> str:
    return key if value == "" else f"{key}:{value}"


def known_tags(origin: Origin, cold_start: bool | None) -> dict[str, Any]:
    """Return what is known of an environment by the names of Datadog's own extension; None is unknown."""
    return {
        "functionname": origin.function_name,
        "function_arn": origin.function_arn.lower() if origin.function_arn else None,
        "region": origin.region,
        "account_id": origin.account_id,
        "aws_account": origin.account_id,
        "executedversion": origin.function_version,
        "memorysize": origin.memory_mb,
        "init_type": origin.init_type,
        "cold_start": None if cold_start is None else str(cold_start).lower(),
        "env": origin.env,
        "version": origin.version,
        "service": origin.service.lower() if origin.service else origin.function_name,
    }


def create(values: Values) -> Destinations:
    """Make the sink from the `DD_…` variables, and if they are wanted another for metrics.

    Raises ConfigError if there is no valid API key.
    """
    problems = values.problems("datadog")
    key = choose("DD_API_KEY", values, problems)
    url = values["DD_LOGS_CONFIG_LOGS_DD_URL"]
    site = values["DD_SITE"]
    tags = values["DD_TAGS"]
    if key is None or stops(values):
        raise ConfigError(problems + missing("datadog", values))
    wants = wants_metrics("datadog", values)
    uses_site = url is None or (wants and not values.given("DD_DD_URL"))
    if uses_site and not site.endswith(Site.families):
        from telemetry_forwarder.variables.advice import unknown_site  # loaded only to explain a doubt

        problems.append(Notice("DD_SITE", unknown_site(site)))
    sink = Datadog(url=url or f"https://http-intake.logs.{site}", tags=tags, is_elsewhere=url is not None)
    credential = Credential(header="DD-API-KEY", secret=key)
    delivery = HttpDelivery(url=sink.url, credential=credential)
    logs = Destination(sink=sink, delivery=delivery, problems=tuple(problems))
    if not wants or values.is_unsound("DD_DD_URL" if values.given("DD_DD_URL") else "DD_SITE"):
        return logs
    from telemetry_forwarder.sinks.datadog_metrics import metrics_to  # loaded only if wanted

    return (logs, metrics_to(values["DD_DD_URL"], site, tags, credential))
