"""The Sumo Logic sink: each batch becomes lines of JSON, sent to an HTTP source.

The source's URL is the credential. So it is a secret here, which a transport puts into the request at the end; what the
sink makes and says names but the host.
Sources: Sumo Logic, "HTTP Logs and Metrics Source" (upload, troubleshooting), "Search Large Messages"; read 2026-11-28.
"""

from collections.abc import Sequence
from typing import ClassVar
from urllib.parse import urlsplit

import orjson
from msgspec import Struct

from telemetry_forwarder.errors import ConfigError
from telemetry_forwarder.foreign import is_page
from telemetry_forwarder.interfaces import (
    Batch,
    CredentialUrl,
    Delivered,
    Denied,
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
from telemetry_forwarder.records.record import Record
from telemetry_forwarder.sinks.credential import choose
from telemetry_forwarder.sinks.http_answers import Advice, read_status, taken_unread
from telemetry_forwarder.sinks.json_objects import JsonObjects
from telemetry_forwarder.variables.reading import Values, missing
from telemetry_forwarder.variables.types import Secret, SecretArn, SecretText, SsmParameter, Text, Url
from telemetry_forwarder.variables.variable import Variable
from telemetry_forwarder.variables.wording import Problem, only, whole

TOPIC = "Sumo Logic"


class _SecretUrl(SecretText, Url):
    """The URL of an HTTP source: an address and a credential. It is shown nowhere, not even in part."""

    label = "secret URL"
    allowed = "the whole address of an HTTP source, `https://HOST/receiver/v1/http/TOKEN`"

    def __init__(self) -> None:
        """It has none of the options of a Url."""

    def read(self, text: str) -> Secret:  # type: ignore[override]  # it is hidden
        try:
            url = Url().read(super().read(text).reveal())
        except ValueError:
            raise ValueError(self.allowed) from None
        if not url.partition("://")[2].partition("/")[2]:
            raise ValueError(self.allowed)
        return Secret(url)


class _Fields:
    """Fields, as a tuple of pairs. Source: Sumo Logic, "Fields": a name has letters, digits and `_`."""

    label = "fields"
    allowed = "`name=value,name=value`"

    def read(self, text: str) -> "tuple[tuple[str, str], ...]":
        kept, wrong = [], []
        for part in filter(None, map(str.strip, text.split(","))):
            name, equals, value = (one.strip() for one in part.partition("="))
            if equals and name and value and only(name, "_") and value.isprintable():
                kept.append((name, value))
            else:
                wrong.append(part)
        return whole(tuple(kept), wrong)


_URL = "SUMO_HTTP_ENDPOINT"
VARIABLES = (
    Variable(_URL, _SecretUrl(), None, "The address of an HTTP source, which is also its credential", "sumologic"),
    Variable(f"{_URL}_SECRET_ARN", SecretArn(), None, "The same address in Secrets Manager", "sumologic"),
    Variable(f"{_URL}_SSM_PARAMETER", SsmParameter(), None, "The same address in SSM Parameter Store", "sumologic"),
    Variable("SUMO_SOURCE_CATEGORY", Text(), None, "`_sourceCategory`, in place of the source's own", "sumologic"),
    Variable(
        "SOURCE_CATEGORY_OVERRIDE", Text(), None, "The same, as Sumo Logic's Lambda extension has it", "sumologic"
    ),
    Variable("SUMO_SOURCE_NAME", Text(), None, "`_sourceName`. Unset: the name of the function", "sumologic"),
    Variable("SUMO_SOURCE_HOST", Text(), None, "`_sourceHost`, in place of the address of the sender", "sumologic"),
    Variable("SUMO_FIELDS", _Fields(), (), "Fields of each record; they have to be in the fields schema", "sumologic"),
)
NEEDS = ((_URL, f"{_URL}_SECRET_ARN", f"{_URL}_SSM_PARAMETER"),)

LIMITS = Limits(
    max_records=10_000,  # ours: there is none
    max_bytes=1_000_000,  # 100 KB to 1 MB before compression is their advice
    max_record_bytes=999_000,  # what has more than 64 KB is sliced there, and nothing is lost
    overhead_bytes=1,  # the line end
)
_OBJECTS = JsonObjects("@timestamp", LIMITS.max_record_bytes)

ADVICE = Advice(
    who="Sumo Logic",
    credential=f"that {_URL} is the whole address of an HTTP source that exists",
    address=_URL,
)


class SumoLogic(Struct, frozen=True, kw_only=True):
    """Send records to an HTTP source. `url` is a stand-in without its token; `headers` are those of all requests."""

    name: ClassVar[str] = "sumologic"
    limits: ClassVar[Limits] = LIMITS

    url: str
    headers: tuple[tuple[str, str], ...] = ()

    def encode(self, record: Record) -> Encoded:
        """Return the record as one JSON object; one that is too large becomes its text, cut. Raises EncodeError."""
        return _OBJECTS.encode(record)

    def encode_all(self, records: Sequence[Record]) -> list[Encoded]:
        """Return the same as `encode` for each of `records`, faster. Raises EncodeError."""
        return _OBJECTS.encode_all(records)

    def request(self, batch: Batch) -> HttpRequest:
        """Return the request. Its headers count for all its records, so only what these have in common is there.

        Records of several functions (a replay) have no name in common; the records themselves name theirs.
        """
        headers = {"content-type": "application/x-ndjson", **dict(self.headers)}
        if "x-sumo-name" not in headers:
            functions = {encoded.record.context.origin.function_name for encoded in batch}
            if len(functions) == 1 and (function := functions.pop()):
                headers["x-sumo-name"] = function
        return HttpRequest(url=self.url, body=b"\n".join(encoded.data for encoded in batch), headers=headers)

    def verdict(self, batch: Batch, response: HttpResponse) -> Verdict:
        """Return what a response means for `batch`. No body is quoted: one may hold the address."""
        if (taken := taken_unread(response)) is not None:
            return taken
        status = response.status
        if status == 200 and _is_theirs(response):
            return Delivered()
        if status in (401, 403):
            return Denied(f"HTTP {status}: Sumo Logic does not know the address; check {ADVICE.credential}")
        answer = read_status(response, ADVICE)
        if status == 408 and isinstance(answer, Retry):
            return Retry(after=answer.after, detail="HTTP 408: not all was stored in time; a part may come twice")
        if status == 429 and isinstance(answer, Retry):
            return Retry(
                after=answer.after, detail="HTTP 429: the quota of the account is exceeded; nothing was stored"
            )
        return Rejected(f"HTTP {status}") if isinstance(answer, Rejected) else answer


def _is_theirs(response: HttpResponse) -> bool:
    """Return whether a 200 may be Sumo Logic's: its body is empty, or an object."""
    if is_page(response.body, response.headers):
        return False
    if not response.body.strip():
        return True
    try:
        return isinstance(orjson.loads(response.body), dict)
    except orjson.JSONDecodeError:
        return False


def create(values: Values) -> Destination[HttpRequest, HttpResponse]:
    """Make the sink from the `SUMO_…` variables. Raises ConfigError without a valid address."""
    problems: list[Problem] = []
    secret = choose(_URL, values, problems)
    if secret is None:
        raise ConfigError(missing("sumologic", values))
    # Where the address is a reference its host is not known yet; for the choice of a proxy it is one of theirs.
    host = "https://collectors.sumologic.com"
    if isinstance(secret, Secret):
        parts = urlsplit(secret.reveal())
        host = f"{parts.scheme}://{parts.netloc}"
    fields = ",".join(f"{name}={value}" for name, value in values["SUMO_FIELDS"])
    headers = {
        "x-sumo-category": values["SUMO_SOURCE_CATEGORY"] or values["SOURCE_CATEGORY_OVERRIDE"],
        "x-sumo-name": values["SUMO_SOURCE_NAME"],
        "x-sumo-host": values["SUMO_SOURCE_HOST"],
        "x-sumo-fields": fields,
    }
    sink = SumoLogic(url=f"{host}/receiver/v1/http/***", headers=tuple((k, v) for k, v in headers.items() if v))
    delivery = HttpDelivery(url=host, credential=CredentialUrl(secret))
    return Destination(sink=sink, delivery=delivery, problems=tuple(problems))
