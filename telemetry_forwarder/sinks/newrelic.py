"""The New Relic sink: each batch becomes blocks of logs, one for each environment, sent to the Log API.

What is known of an environment stands once, in the block's `common` attributes. Attributes are flat, because New Relic
takes no arrays: `order.id`, and an array is its JSON text.
Sources: New Relic, "Introduction to the Log API", its Lambda extension, and its exporters' rules; read 2026-11-28.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, ClassVar, TypeAlias

from msgspec import Struct

from telemetry_forwarder.errors import ConfigError, EncodeError
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
    Verdict,
)
from telemetry_forwarder.otlp.values import flat
from telemetry_forwarder.records.lossless_json import clean, json_part
from telemetry_forwarder.records.record import Context, Origin, Record, json_ids
from telemetry_forwarder.sinks.credential import choose
from telemetry_forwarder.sinks.http_answers import Advice, own_words, read_status, taken_unread
from telemetry_forwarder.sinks.platform_lines import platform_text
from telemetry_forwarder.sinks.truncate import cut, present, text_of
from telemetry_forwarder.variables.reading import Values, missing, wants_metrics
from telemetry_forwarder.variables.types import (
    Secret,
    SecretArn,
    SecretReference,
    SecretText,
    Site,
    SsmParameter,
    Tags,
    Url,
)
from telemetry_forwarder.variables.variable import Variable
from telemetry_forwarder.variables.wording import Problem

TOPIC = "New Relic"

# The hosts of the Log API and the Metric API by region.
REGIONS = {
    "us": ("log-api.newrelic.com", "metric-api.newrelic.com"),
    "eu": ("log-api.eu.newrelic.com", "metric-api.eu.newrelic.com"),
    "jp": ("log-api.jp.nr-data.net", "metric-api.jp.nr-data.net"),
    "gov": ("gov-log-api.newrelic.com", "gov-metric-api.newrelic.com"),
}
LOG_PATH, METRIC_PATH = "/log/v1", "/metric/v1"


class _Region(Site):
    """A region of New Relic. It is an address: a key goes to no other region than it was given for."""

    label = "word"
    allowed = ", ".join(f"`{region}`" for region in REGIONS)

    def read(self, text: str) -> str:
        if text.lower() not in REGIONS:
            raise ValueError(self.allowed)
        return text.lower()


class _Labels(Tags):
    """Tags in New Relic's form, `key:value;key:value`."""

    def __init__(self) -> None:
        super().__init__()
        self.allowed = "`key:value;key:value`"

    def _parts(self, text: str) -> "list[str]":
        return [part.strip() for part in text.replace(";", ",").split(",") if part.strip()]


class _SecretName(SecretArn):
    """A secret of Secrets Manager by name or ARN, whose JSON has the key as `LicenseKey`."""

    label = "name or ARN"
    allowed = "the name or the ARN of a secret; its JSON member `LicenseKey` is the key"

    def read(self, text: str) -> SecretReference:
        if text.startswith("arn:"):
            found = super().read(text)
            return SecretReference(found.service, found.name, found.key or "LicenseKey")
        if len(text) > 512 or not text.isascii() or not all(c.isalnum() or c in "/_+=.@-" for c in text):
            raise ValueError(self.allowed)
        return SecretReference("secretsmanager", text, "LicenseKey")


_KEY = "NEW_RELIC_LICENSE_KEY"
_THEIRS = "The same, as New Relic's Lambda extension has it"
VARIABLES = (
    Variable(_KEY, SecretText(), None, "An ingest license key", "newrelic"),
    Variable(f"{_KEY}_SECRET_ARN", SecretArn(), None, "The key in Secrets Manager", "newrelic"),
    Variable(f"{_KEY}_SSM_PARAMETER", SsmParameter(), None, "The key in SSM Parameter Store", "newrelic"),
    Variable(f"{_KEY}_SECRET", _SecretName(), None, _THEIRS, "newrelic"),
    Variable(f"{_KEY}_SSM_PARAMETER_NAME", SsmParameter(), None, _THEIRS, "newrelic"),
    Variable("NEW_RELIC_REGION", _Region(), None, "The account's region. Unset: by the key, else `us`", "newrelic"),
    Variable(
        "NEW_RELIC_LOG_ENDPOINT", Url(endpoint=LOG_PATH), None, "The address of the Log API, in place of the region's",
        "newrelic",
    ),
    Variable(
        "NEW_RELIC_METRIC_ENDPOINT", Url(endpoint=METRIC_PATH), None,
        "The address of the Metric API, in place of the region's", "newrelic",
    ),
    Variable("NR_TAGS", _Labels(), (), "Attributes of every record", "newrelic"),
)  # fmt: skip
NEEDS = (
    (_KEY, f"{_KEY}_SECRET_ARN", f"{_KEY}_SSM_PARAMETER", f"{_KEY}_SECRET", f"{_KEY}_SSM_PARAMETER_NAME"),
)  # fmt: skip

MOST_ATTRIBUTES = 255  # of a record, with those that it has in common; what is over that is dropped there
LONGEST_NAME = 255
# Of a value 4,094 characters are indexed, and the rest is kept to 128 KB.
LONGEST_VALUE = 128_000
LIMITS = Limits(
    max_records=10_000,  # ours: there is none
    max_bytes=1_000_000,  # whether before or after compression is not said, so before
    max_record_bytes=900_000,
    overhead_bytes=1,  # the comma
    framing_bytes=8_192,  # the blocks around the logs, with what they have in common
    max_age_ms=48 * 3_600_000 - 300_000,  # what is older than 48 h may be dropped after a 202; 5 minutes are spare
)

ADVICE = Advice(
    who="New Relic",
    credential=f"that {_KEY} is an ingest license key of the region (NEW_RELIC_REGION)",
    address="NEW_RELIC_REGION or NEW_RELIC_LOG_ENDPOINT",
)

Destinations: TypeAlias = Destination[HttpRequest, HttpResponse] | tuple[Destination[HttpRequest, HttpResponse], ...]

_MESSAGES = ("message", "msg")
_SCALARS = frozenset({str, int, float, bool})
# Names that mean something else to New Relic, or that it drops.
_RESERVED = frozenset({"timestamp", "accountId", "eventType", "appId", "message"})
_OURS = frozenset({"record_id", "telemetry.type", "aws.lambda_request_id", "faas.coldstart", "cut", *_RESERVED})
_YIELDING = frozenset({"level", "trace.id"})  # a line's own counts for more
_MOST_BYTES_OF_A_LETTER = 6  # in JSON
_ID = b',"attributes":{"record_id":'


class NewRelic(Struct, frozen=True, kw_only=True, cache_hash=True):
    """Send records as logs. `url` is complete; `tags` are added to every record."""

    name: ClassVar[str] = "newrelic"
    limits: ClassVar[Limits] = LIMITS
    advice: ClassVar[Advice] = ADVICE
    items: ClassVar[bytes] = b"logs"
    tells_instance: ClassVar[bool] = True

    url: str
    tags: tuple[tuple[str, str], ...] = ()

    def encode(self, record: Record) -> Encoded:
        """Return the record as one log; texts that are too long are cut. Raises EncodeError.

        A log that is too large for all that becomes its text.
        """
        data, is_cut = _log(record, *_parts(record, self._room(record.origin)))
        if len(data) > LIMITS.max_record_bytes:
            data, is_cut = _log(record, text_of(record), {})
        if len(data) > LIMITS.max_record_bytes:
            raise EncodeError("no room for the record's text beside what is known about it")
        return Encoded(record, data, is_cut)

    def encode_all(self, records: Sequence[Record]) -> list[Encoded]:
        """Return the same as `encode` for each of `records`, faster for lines. Raises EncodeError."""
        found = []
        context = None
        for record, id in zip(records, json_ids(records), strict=True):
            if record.context is not context:
                context = record.context
                is_event = context.is_event
                known, room = _known(context), self._room(context.origin)
            fields, body = record.fields, record.body
            more = b""
            if is_event or (fields is None and body.__class__ is not str):
                found.append(self.encode(record))
                continue
            if fields is None:
                message, around = body, known
            else:
                message, members = _parts(record, room)
                around = known if _YIELDING.isdisjoint(members) else _known(context, _YIELDING.intersection(members))
                if members:
                    more = b"," + json_part(members)[1:-1]
            start = b'{"timestamp":%d,"message":' % record.time_ms
            data = b"".join((start, json_part(message), _ID, id, around, more, b"}}"))
            found.append(Encoded(record, data) if len(data) <= LONGEST_VALUE else self.encode(record))
        return found

    def _room(self, origin: Origin) -> int:
        """Return how many attributes of its own a record may have."""
        return MOST_ATTRIBUTES - len(_OURS | _YIELDING) - len(_common(self, origin))

    def request(self, batch: Batch) -> HttpRequest:
        """Return the request: a block for each environment, in the order of their first records."""
        blocks: dict[Origin, list[bytes]] = {}
        last: Origin | None = None
        for encoded in batch:
            origin = encoded.record.context.origin
            if origin is not last:
                last = origin
                items = blocks.setdefault(origin, [])
            items.append(encoded.data)
        body = b",".join(
            b'{"common":{"attributes":%b},"%b":[%b]}' % (json_part(_common(self, origin)), self.items, b",".join(items))
            for origin, items in blocks.items()
        )
        return HttpRequest(url=self.url, body=b"[%b]" % body, headers={"content-type": "application/json"})

    def verdict(self, batch: Batch, response: HttpResponse) -> Verdict:
        """Return what a response means for `batch`: New Relic takes it as a whole with 202, and looks at it later."""
        if (unread := taken_unread(response)) is not None:
            return unread
        if response.status == 202 and not is_page(response.body, response.headers):
            return Delivered()
        if response.status == 400:
            return Rejected("HTTP 400" + own_words(response.body))
        return read_status(response, self.advice)


# --- one log --------------------------------------------------------------------------------------------------------


def _parts(record: Record, most: int) -> tuple[str, Mapping[str, Any]]:
    """Return the message of a record, and its members as attributes; none if there would be more than `most`.

    Where the message is a JSON text New Relic takes that apart itself.
    """
    if record.is_event:
        line = platform_text(record.type, record.body)
        message = text_of(record) if line is None else line
        members = flat(record.body, "record.") if line is not None and isinstance(record.body, Mapping) else {}
        return message, members if _fits(members, most) else {}
    fields = record.fields
    if fields is None:
        return text_of(record), {}
    name = next((one for one in _MESSAGES if fields.get(one).__class__ is str and fields[one]), None)
    if name is None:
        return text_of(record), {}
    rest = {key: value for key, value in fields.items() if key != name}
    if not {value.__class__ for value in rest.values()} <= _SCALARS:
        rest = flat(rest)
    if not _fits(rest, most):
        return text_of(record), {}
    return fields[name], rest if _OURS.isdisjoint(rest) else _renamed(rest)


def _fits(members: Mapping[str, Any], most: int) -> bool:
    return len(members) <= most and max(map(len, members), default=0) <= LONGEST_NAME


def _renamed(members: Mapping[str, Any]) -> dict[str, Any]:
    """Return members whose names yield to ours, and to New Relic's: `record.timestamp`."""
    found: dict[str, Any] = {}
    for key, value in members.items():
        name = f"record.{key}" if key in _OURS else key
        while name in found or (name != key and name in members):
            name += "_"
        found[name] = value
    return found


def _log(record: Record, message: str, members: Mapping[str, Any]) -> tuple[bytes, bool]:
    """Return a log as JSON, and whether one of its texts was cut."""
    text, is_cut = _shortened(message)
    attributes: dict[str, Any] = {}
    for key, value in members.items():
        if isinstance(value, str):
            value, is_value_cut = _shortened(value)
            is_cut |= is_value_cut
        attributes[key] = value
    known = _known(record.context, _YIELDING.intersection(members))
    more = b"," + json_part(attributes)[1:-1] if attributes else b""
    end = b',"cut":true}}' if is_cut else b"}}"
    head = b'{"timestamp":%d,"message":' % record.time_ms
    data = b"".join((head, json_part(text), _ID, json_part(record.id), known, more, end))
    return data, is_cut


def _shortened(text: str) -> tuple[str, bool]:
    if len(text) * _MOST_BYTES_OF_A_LETTER <= LONGEST_VALUE:
        return text, False
    whole = clean(text)
    kept = cut(whole, LONGEST_VALUE)
    return kept, kept != whole


@lru_cache(maxsize=256)
def _known(context: Context, yielding: frozenset[str] = frozenset()) -> bytes:
    """Return what is known of a record beside its environment, as members behind its id, as JSON.

    Cached, because the records of an invocation have it in common.
    """
    found = present({
        "telemetry.type": context.type,
        "aws.lambda_request_id": context.request_id,
        "faas.coldstart": context.cold_start,
        "level": context.level,
        "trace.id": context.trace_id,
    })  # fmt: skip
    return b"".join(b",%b" % json_part({key: value})[1:-1] for key, value in found.items() if key not in yielding)


@lru_cache(maxsize=64)
def _common(sink: NewRelic, origin: Origin) -> Mapping[str, Any]:
    """Return what is known of an environment. A tag with several values has them as one text."""
    found: dict[str, Any] = {}
    for key, value in (*origin.tags, *sink.tags):
        found[key] = f"{found[key]},{value}" if key in found else value
    return {
        **found,
        **present({
            "instrumentation.provider": "telemetry-forwarder",
            "faas.name": origin.function_name,
            "faas.version": origin.function_version,
            "faas.arn": origin.function_arn,
            "faas.instance": origin.instance_id if sink.tells_instance else None,
            "faas.memory_mb": origin.memory_mb,
            "faas.init_type": origin.init_type,
            "cloud.region": origin.region,
            "cloud.account.id": origin.account_id,
            "service.name": origin.service or origin.function_name,
            "service.version": origin.version,
            "environment": origin.env,
        }),
    }  # fmt: skip


# --- settings -------------------------------------------------------------------------------------------------------


def create(values: Values) -> Destinations:
    """Make the sink from the `NEW_RELIC_…` variables, and if they are wanted another for metrics.

    Raises ConfigError without a valid key.
    """
    problems: list[Problem] = []
    theirs = (values[f"{_KEY}_SECRET"], values[f"{_KEY}_SSM_PARAMETER_NAME"])
    key = choose(_KEY, values, problems) or next((one for one in theirs if one is not None), None)
    if key is None:
        raise ConfigError(missing("newrelic", values))
    hosts = REGIONS[values["NEW_RELIC_REGION"] or _region_of(key)]
    tags = values["NR_TAGS"]
    credential = Credential(header="Api-Key", secret=key)
    sink = NewRelic(url=(values["NEW_RELIC_LOG_ENDPOINT"] or f"https://{hosts[0]}") + LOG_PATH, tags=tags)
    delivery = HttpDelivery(url=sink.url, credential=credential)
    logs = Destination(sink=sink, delivery=delivery, problems=tuple(problems))
    if not wants_metrics("newrelic", values):
        return logs
    from telemetry_forwarder.sinks.newrelic_metrics import metrics_to  # loaded only if wanted

    return logs, metrics_to(
        (values["NEW_RELIC_METRIC_ENDPOINT"] or f"https://{hosts[1]}") + METRIC_PATH, tags, credential
    )


def _region_of(key: Secret | SecretReference) -> str:
    """Return the region that a license key begins with: `eu01xx…`, `jp01xx…`, `gov01xx…`; else `us`."""
    text = key.reveal().lower() if isinstance(key, Secret) else ""
    return next((region for region in REGIONS if text.startswith(f"{region}0")), "us")
