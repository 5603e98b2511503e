"""The Splunk sink: each batch becomes JSON objects, one after the other, sent to `/services/collector/event`.

Sources: Splunk's HEC REST reference, `inputs.conf` and `limits.conf` specifications, and measurements of other
projects against Splunk Enterprise 9.3 to 10.4 and Splunk Cloud 10.5, read 2026-11-23.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from os import urandom
from typing import Any, ClassVar, TypeAlias

import orjson
from msgspec import Struct

from telemetry_forwarder.errors import ConfigError
from telemetry_forwarder.interfaces import (
    Batch,
    Credential,
    Delivered,
    Denied,
    Destination,
    DropReason,
    Encoded,
    HttpDelivery,
    HttpRequest,
    HttpResponse,
    Limits,
    Partial,
    Rejected,
    Retry,
    TooLarge,
    Verdict,
)
from telemetry_forwarder.records.lossless_json import json_part
from telemetry_forwarder.records.record import Context, Record, json_ids
from telemetry_forwarder.sinks.credential import choose
from telemetry_forwarder.sinks.http_answers import Advice, not_theirs, own_words, read_status, taken_unread
from telemetry_forwarder.sinks.truncate import fit, grouped, present
from telemetry_forwarder.variables.reading import Values, missing, wants_metrics
from telemetry_forwarder.variables.wording import Notice, split_port

# Older releases and Splunk Cloud's documentation limit a request to 1 MB (newer servers take more). Whether that is
# the compressed or the raw size is not known; we assume the raw one, as Vector's default does.
MAX_BYTES = 1_000_000

LIMITS = Limits(
    max_records=10_000,  # HEC has no limit, but one bad record causes the records after it to be sent again
    max_bytes=MAX_BYTES,
    max_record_bytes=MAX_BYTES - 1,
    overhead_bytes=1,  # the newline between records
)

_ENDPOINT = re.compile(r"(/+services(/+collector(/(event|raw|health|ack|mint))?(/1\.0)?)?/*)+$")

_NO_CHANNEL = (
    "the header X-Splunk-Request-Channel, which is sent, did not arrive, and the token has indexer acknowledgement: "
    "let it through on the way, or turn useACK off"
)
# HEC's error codes, with texts of our own. Source: Splunk, HEC troubleshooting, "Possible error codes".
CODES = {
    1: "the token is disabled", 2: "no token was sent", 3: "the authorization is malformed", 4: "the token is unknown",
    5: "no data", 6: "malformed data", 7: "the token may not write to the index",
    10: _NO_CHANNEL,
    11: "malformed channel", 12: "an event is missing", 13: "an event is blank", 14: "acknowledgement is off",
    15: "malformed time or fields", 16: "tokens in the query are off", 21: "the token is unknown",
    22: "the token is disabled", 24: "its queue is nearly full", 25: "its acknowledgement channels are nearly full",
    28: _NO_CHANNEL,
}  # fmt: skip

# For a token with indexer acknowledgement (`useACK`) HEC refuses requests without a channel; else it ignores channels.
# Source: Splunk, "About HTTP Event Collector Indexer Acknowledgment".
HOUR_MS = 3_600_000
CHANNEL = "x-splunk-request-channel"

METADATA = ("time", "host", "source", "sourcetype", "index", "event")

ADVICE = Advice(
    who="Splunk HEC",
    credential="SPLUNK_HEC_TOKEN: it has to be a token, enabled, of the HEC at SPLUNK_HEC_URL",
    address="SPLUNK_HEC_URL: it has to lead to an HTTP Event Collector",
)

TAKEN = (200, 202)  # only older releases of the OpenTelemetry Collector answer 202
_NEARLY_FULL = (24, 25)
_UNWELL = (8, 9, 18, 19, 20, 23, 26, 27)
_TOKEN_AT_FAULT = (1, 2, 3, 4, 10, 21, 22, 28)
_ONE_IS_BAD = (6, 12, 13, 15)
_BAD_INDEX = 7


Destinations: TypeAlias = Destination[HttpRequest, HttpResponse] | tuple[Destination[HttpRequest, HttpResponse], ...]


class SplunkHec(Struct, frozen=True, kw_only=True, cache_hash=True):
    """Send records as HEC events. `url` has no `/services/…`. A member that is None gets HEC's or our default."""

    name: ClassVar[str] = "splunk"
    limits: ClassVar[Limits] = LIMITS
    index_named_by: ClassVar[str] = "SPLUNK_INDEX"

    url: str
    index: str | None = None
    source: str | None = None
    sourcetype: str | None = None
    host: str | None = None
    channel: str | None = None  # a GUID without its last twelve digits; `_channel` adds them

    def encode(self, record: Record) -> Encoded:
        """Return the record as one HEC object; a record that is too large becomes its text, cut. Raises EncodeError."""

        data = self._object(record, event(record))
        if len(data) <= LIMITS.max_record_bytes:  # the usual case, kept fast
            return Encoded(record, data)

        def with_text(text: str, is_cut: bool) -> bytes:
            return self._object(record, _not_blank(text), is_cut)

        return fit(record, data, LIMITS.max_record_bytes, with_text)

    def request(self, batch: Batch) -> HttpRequest:
        return HttpRequest(
            url=f"{self.url}/services/collector/event",
            body=b"\n".join([encoded.data for encoded in batch]),
            headers={"content-type": "application/json"} | self._channel(batch[0].record.time_ms),
        )

    def verdict(self, batch: Batch, response: HttpResponse) -> Verdict:
        """Return what a response means for `batch`, by its status and `code`; its text may be HTML or empty."""
        code, number = _code_and_number(response.body)
        if response.status in TAKEN:
            if code in _NEARLY_FULL:
                return Delivered(warning=f"Splunk HEC took the records, but {CODES[code]} (code {code})")
            if code in _UNWELL:
                return Retry(detail=f"HTTP {response.status}, code {code}")
            if code == 0 or says_well(response.body):
                return Delivered()
            return taken_unread(response) or not_theirs(response, ADVICE)
        if response.status == 400:
            return _bad_request(batch, code, number, own_words(response.body), self.index_named_by)
        if response.status in (401, 403) and code in CODES:
            return Denied(f"HTTP {response.status}, code {code}: {CODES[code]}; check {ADVICE.credential}")
        return read_status(response, ADVICE)

    def _channel(self, time_ms: int) -> dict[str, str]:
        """Return the channel header, which a token with indexer acknowledgement needs; {} without a channel.

        We never poll for acknowledgements; a 200 is enough. HEC refuses a channel with a million acknowledgements that
        nobody polled for, and forgets a channel that is not used for ten minutes. So each hour has a new channel. The
        hour is that of the batch's first record, so a retried request keeps its channel.
        """
        return {CHANNEL: f"{self.channel}{max(0, time_ms) // HOUR_MS:012x}"} if self.channel else {}

    def encode_all(self, records: Sequence[Record]) -> list[Encoded]:
        """Return the same as `encode` for each of `records`, in half the time for lines of text. Raises EncodeError."""
        found = []
        context = None
        second, second_ms = b"", _NEVER_MS  # of the record before
        for record, id in zip(records, json_ids(records), strict=True):
            if record.context is not context:
                context = record.context
                head, tail, is_event = frame(self, context)
            body = record.body
            if is_event or record.fields is not None or body.__class__ is not str or not body or body.isspace():
                value = json_part(event(record))
            else:
                value = orjson.dumps(body)
            rest = record.time_ms - second_ms
            if not 0 <= rest < 1000:
                second, second_ms, rest = _split(record.time_ms)
            time = _THOUSANDTHS[rest]
            data = b"".join((b'{"time":', second, time, head, value, b',"fields":{"record_id":', id, tail))
            found.append(Encoded(record, data) if len(data) <= LIMITS.max_record_bytes else self.encode(record))
        return found

    def _object(self, record: Record, event: Any, is_cut: bool = False) -> bytes:
        head, tail, _ = frame(self, record.context, is_cut)
        values = (seconds(record.time_ms), head, json_part(event), json_part(record.id), tail)
        return b'{"time":%b%b%b,"fields":{"record_id":%b%b' % values


@lru_cache(maxsize=256)
def frame(sink: SplunkHec, context: Context, is_cut: bool = False) -> tuple[bytes, bytes, bool]:
    """Return what surrounds an event and its record's id in an HEC object, and whether the event is the platform's.

    That is, as JSON, the metadata and the rest of the `fields`. They are cached, because the records of an invocation
    have them in common: that costs a tenth of making them.
    """
    origin, kind = context.origin, context.type
    # Every object has every key, because Splunk may apply metadata of one object to the next. There must be no other
    # keys: at an unknown one HEC stops reading, answers 200 and loses the rest.
    members = {
        "host": sink.host or origin.function_name,
        "source": sink.source or f"lambda:{origin.function_name}",
        "sourcetype": sink.sourcetype or f"aws:lambda:{kind.partition('.')[0]}",
    }
    if sink.index is not None:
        members["index"] = sink.index
    known = fields(context, is_cut)
    return b',%b,"event":' % json_part(members)[1:-1], b",%b}" % json_part(known)[1:], context.is_event


def seconds(time_ms: int) -> bytes:
    """Return a time as seconds with three decimals: HEC takes no exponent, and a float may lose the milliseconds."""
    whole, _, thousandths = _split(time_ms)
    return whole + _THOUSANDTHS[thousandths]


def _split(time_ms: int) -> tuple[bytes, int, int]:
    """Return the digits of the whole seconds of a time with its sign, those seconds in ms, and the ms behind the point.

    Before 1970 the digits count backwards, so no later time shares them: then the seconds are those of `_NEVER_MS`.
    """
    whole, thousandths = divmod(abs(time_ms), 1000)
    return (
        (b"%d" % whole, time_ms - thousandths, thousandths)
        if time_ms >= 0
        else (b"-%d" % whole, _NEVER_MS, thousandths)
    )


_NEVER_MS = 2**63  # later than any time


class _Thousandths(dict[int, bytes]):
    """What stands behind the seconds, by the ms: `.007`."""

    def __missing__(self, number: int) -> bytes:
        found = self[number] = b".%03d" % number
        return found


_THOUSANDTHS = _Thousandths()


def event(record: Record) -> Any:
    """Return the value of `event`: a JSON record as it is, text as text, a platform event together with its type.

    Blank texts and empty objects or arrays are wrapped in an object, because HEC refuses them.
    """
    if record.is_event:
        return {"type": record.type, "record": record.body}
    return _not_blank(record.body if record.fields is None else record.fields)


def _not_blank(value: Any) -> Any:
    if isinstance(value, str):
        return value if value.strip() else {"message": value}
    return {"record": value} if value is None or value in ({}, []) else value


def fields(context: Context, is_cut: bool) -> dict[str, str | list[str]]:
    """Return the indexed fields except `record_id`. HEC requires a flat object of texts or lists of texts.

    A tag with the name of another field, or of metadata, is renamed to `tag_…`.
    Source: Splunk, "Automate indexed field extractions with HTTP Event Collector".
    """
    origin = context.origin
    ours = {
        "type": context.type,
        "request_id": context.request_id,
        "function_name": origin.function_name,
        "function_version": origin.function_version,
        "function_arn": origin.function_arn,
        "region": origin.region,
        "account_id": origin.account_id,
        "memory_mb": origin.memory_mb,
        "instance_id": origin.instance_id,
        "cold_start": context.cold_start,
        "init_type": origin.init_type,
        "service": origin.service,
        "env": origin.env,
        "version": origin.version,
        "level": context.level,
        "cut": is_cut or None,
    }
    if context.trace_id is not None:  # only where traces are on, so that a user's tag keeps its name elsewhere
        ours["trace_id"] = context.trace_id
    found: dict[str, str | list[str]] = {
        key: value if value.__class__ is str else _as_text(value) for key, value in present(ours).items()
    }
    for key, value in grouped(origin.tags).items():
        while key in ours or key in METADATA or key in found or key == "record_id":
            key = f"tag_{key}"
        found[key] = value
    return found


def _as_text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _code_and_number(body: bytes) -> tuple[int | None, int | None]:
    """Return `code` and `invalid-event-number` of a response body; each is None if missing or no integer."""
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None, None
    if not isinstance(answer, dict):
        return None, None
    code, number = answer.get("code"), answer.get("invalid-event-number")
    return (code if type(code) is int else None), (number if type(number) is int else None)


def says_well(body: bytes) -> bool:
    """Return whether a body without a code is the success of a compatible receiver: `OK`, or a text `Success`.

    Source: older releases of the OpenTelemetry Collector's splunkhecreceiver answer `OK`, read 2026-11-27.
    """
    if body.strip() in (b"OK", b'"OK"'):
        return True
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        return False
    return isinstance(answer, dict) and "code" not in answer and str(answer.get("text")).lower() in ("success", "ok")


def _bad_request(batch: Batch, code: int | None, number: int | None, said: str, index_named_by: str) -> Verdict:
    """Return the verdict for a 400 with `code` and invalid event `number`; `said` is HEC's own message.

    HEC reads the body as a stream, so all records before the bad one are stored already. The bad record is rejected,
    and the records after it are sent again. For a bad index HEC's number is one too high. If no record precedes the
    bad index, the record is not at fault, because all records name the same index.
    Source: measured on Enterprise 9.3 to 10.4 and Cloud 10.5 by other projects.
    """
    if code is None:
        return Rejected(f"HTTP 400{said}")
    detail = f"HTTP 400, code {code}: {CODES.get(code, 'unknown')}{said}"
    if code == _BAD_INDEX and (number is None or number <= 1):
        return Denied(f"{detail}; {index_named_by}, or else the token, names it")
    if code in _TOKEN_AT_FAULT:
        return Denied(f"{detail}; check {ADVICE.credential}")
    body_bytes = sum(len(encoded.data) + 1 for encoded in batch)
    if code == 6 and number == 0 and len(batch) > 1 and body_bytes > MAX_BYTES / 2:
        return TooLarge(f"{detail}; Splunk Cloud says so of a body that is too large")
    if code == _BAD_INDEX and number:
        number -= 1
    if (code in _ONE_IS_BAD or code == _BAD_INDEX) and number is not None and 0 <= number < len(batch):
        behind = tuple(range(number + 1, len(batch)))
        return Partial(retry=behind, rejected={number: DropReason.REJECTED}, detail=detail)
    return Rejected(detail)


# Splunk's ports that accept no events. Source: Splunk, "Configure ports", read 2026-11-27.
_OTHER_PORTS = {"8000": "Splunk's web pages", "8089": "Splunk's management API", "9997": "Splunk's forwarders"}


def _doubts(url: str) -> list[Notice]:
    """Return notices about a URL that is allowed, but hardly ever leads to an HEC."""
    authority = url.partition("://")[2].partition("/")[0]
    host, port = split_port(authority)
    if port in _OTHER_PORTS:
        text = f"has port {port}, which is that of {_OTHER_PORTS[port]}. An HEC has 8088, or 443 on Splunk Cloud."
    elif re.search(r"/[a-z]{2}-[A-Z]{2}(/|$)", url):
        text = "leads to Splunk's web pages: leave the path out."
    elif re.fullmatch(r"[\w-]+\.splunkcloud\.com", host) and port != "8088" and not host.startswith("http-inputs"):
        text = f"leads to Splunk's web pages. The HEC is most likely at `https://http-inputs-{host}:443`."
    else:
        return []
    return [Notice("SPLUNK_HEC_URL", f"{text} It is used as it is.")]


def _new_channel() -> str:
    """Return a random GUID without its last twelve digits."""
    digits = urandom(10).hex()
    return f"{digits[:8]}-{digits[8:12]}-4{digits[12:15]}-a{digits[15:18]}-"


def create(values: Values) -> Destinations:
    """Make the sink from the `SPLUNK_…` variables, and if they are wanted another for metrics.

    Raises ConfigError if there is no valid URL or no valid token. Each call chooses a new random channel.
    """
    problems = values.problems("splunk")
    url = values["SPLUNK_HEC_URL"]
    token = choose("SPLUNK_HEC_TOKEN", values, problems)
    sink_settings = {
        setting: values[f"SPLUNK_{setting.upper()}"] for setting in ("index", "source", "sourcetype", "host")
    }
    if url is None or token is None:
        raise ConfigError(problems + missing("splunk", values))
    problems.extend(_doubts(url))
    sink = SplunkHec(url=_ENDPOINT.sub("", url).rstrip("/"), channel=_new_channel(), **sink_settings)
    health = HttpRequest(url=f"{sink.url}/services/collector/health", body=b"", headers={}, method="GET")
    credential = Credential(header="Authorization", secret=token, prefix="Splunk ")
    delivery = HttpDelivery(url=sink.url, credential=credential, health=health)
    wants = wants_metrics("splunk", values)
    if values["SPLUNK_METRICS_INDEX"] is not None and not wants:
        text = "is set, but no metrics are sent to Splunk: TELEMETRY_FORWARDER_METRICS has to be `on` or name `splunk`."
        problems.append(Notice("SPLUNK_METRICS_INDEX", text))
    logs = Destination(sink=sink, delivery=delivery, problems=tuple(problems))
    if not wants:
        return logs
    from telemetry_forwarder.sinks.splunk_metrics import SplunkMetrics  # loaded only if wanted

    index = values["SPLUNK_METRICS_INDEX"]
    metrics = SplunkMetrics(url=sink.url, channel=_new_channel(), **(sink_settings | {"index": index}))
    return (logs, Destination(sink=metrics, delivery=HttpDelivery(url=sink.url, credential=credential)))
