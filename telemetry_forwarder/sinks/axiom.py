"""The Axiom sink: each batch becomes lines of JSON, sent to the ingest endpoint of one dataset.

Sources: Axiom's API reference ("Ingest data", "Ingest data to edge deployment", "Limits") and its client for Go, read
2026-11-28.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

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
    Verdict,
)
from telemetry_forwarder.records.record import Record
from telemetry_forwarder.sinks.credential import choose
from telemetry_forwarder.sinks.http_answers import (
    Advice,
    own_words,
    quoted,
    read_status,
    taken_unread,
    wait_seconds,
)
from telemetry_forwarder.sinks.json_objects import JsonObjects
from telemetry_forwarder.variables.reading import Values, missing
from telemetry_forwarder.variables.types import Secret, SecretArn, SecretText, SsmParameter, Text, Url
from telemetry_forwarder.variables.variable import Variable
from telemetry_forwarder.variables.wording import Notice, Problem, only

TOPIC = "Axiom"


class _Dataset:
    """The name of a dataset. Source: Axiom, "Datasets": letters, digits, `-`, `_` and `.`, at most 128."""

    label = "name"
    allowed = "1 to 128 of letters, digits, `-`, `_`, `.`"

    def read(self, text: str) -> str:
        if len(text) > 128 or not only(text, "-_."):
            raise ValueError(self.allowed)
        return text


VARIABLES = (
    Variable("AXIOM_DATASET", _Dataset(), None, "The dataset to ingest into; it has to exist", "axiom"),
    Variable("AXIOM_TOKEN", SecretText(), None, "An API token that may ingest, or a personal token", "axiom"),
    Variable("AXIOM_TOKEN_SECRET_ARN", SecretArn(), None, "The token in Secrets Manager", "axiom"),
    Variable("AXIOM_TOKEN_SSM_PARAMETER", SsmParameter(), None, "The token in SSM Parameter Store", "axiom"),
    Variable("AXIOM_ORG_ID", Text(), None, "The organisation, which a personal token needs", "axiom"),
    Variable(
        "AXIOM_URL", Url(), "https://api.axiom.co",
        "The API's address; `https://api.eu.axiom.co` for an organisation in the EU", "axiom",
    ),
    Variable(
        "AXIOM_EDGE", Url(bare_host=True), None,
        "The domain of an edge deployment, as `eu-central-1.aws.edge.axiom.co`; used instead of AXIOM_URL", "axiom",
    ),
)  # fmt: skip
NEEDS = (("AXIOM_TOKEN", "AXIOM_TOKEN_SECRET_ARN", "AXIOM_TOKEN_SSM_PARAMETER"), ("AXIOM_DATASET",))

LIMITS = Limits(
    max_records=10_000,
    max_bytes=4_000_000,  # ours: none is documented, and a 413 halves the batch
    # A field of more than 1 MB is replaced by `<invalid string: too long>`; none is in a record of this size.
    max_record_bytes=1_000_000,
    overhead_bytes=1,  # the line end
)
# Source: Axiom, "System requirements", fields that Axiom itself adds.
_RESERVED = frozenset({"_sysTime", "_rowId", "_blockInfo"})
_OBJECTS = JsonObjects("_time", LIMITS.max_record_bytes, _RESERVED)

ADVICE = Advice(
    who="Axiom",
    credential="that AXIOM_TOKEN is a valid token, and may ingest into AXIOM_DATASET",
    address="AXIOM_URL (or AXIOM_EDGE)",
)
# What Axiom answers when the limit of a month's data is reached, besides 429. Its X-…Limit-Reset headers are points in
# time, not waits.
_LIMIT_EXCEEDED = 430


class Axiom(Struct, frozen=True, kw_only=True):
    """Send records into one dataset. `url` is complete; `organisation` is for a personal token."""

    name: ClassVar[str] = "axiom"
    limits: ClassVar[Limits] = LIMITS

    url: str
    dataset: str
    organisation: str | None = None

    def encode(self, record: Record) -> Encoded:
        """Return the record as one JSON object; one that is too large becomes its text, cut. Raises EncodeError."""
        return _OBJECTS.encode(record)

    def encode_all(self, records: Sequence[Record]) -> list[Encoded]:
        """Return the same as `encode` for each of `records`, faster. Raises EncodeError."""
        return _OBJECTS.encode_all(records)

    def request(self, batch: Batch) -> HttpRequest:
        headers = {"content-type": "application/x-ndjson"}
        if self.organisation is not None:
            headers["x-axiom-org-id"] = self.organisation
        return HttpRequest(url=self.url, body=b"\n".join(encoded.data for encoded in batch), headers=headers)

    def verdict(self, batch: Batch, response: HttpResponse) -> Verdict:
        """Return what a response means for `batch`. A 200 says how many events failed, and why; they are lost."""
        if (unread := taken_unread(response)) is not None:
            return unread
        if response.status == 200 and (answer := _ingested(response.body)) is not None:
            return _taken(batch, answer)
        if response.status == 400:
            return Rejected("HTTP 400" + own_words(response.body))
        if response.status == 404:
            text = f"HTTP 404{own_words(response.body)}: check that the dataset {self.dataset} (AXIOM_DATASET) exists, "
            return Denied(f"{text}and {ADVICE.address}", DropReason.WRONG_ADDRESS)
        if response.status == _LIMIT_EXCEEDED:
            detail = f"HTTP 430: the limit of the plan is reached{own_words(response.body)}"
            return Retry(after=wait_seconds(response.headers, "retry-after"), detail=detail)
        return read_status(response, ADVICE)


def _ingested(body: bytes) -> Mapping[str, Any] | None:
    """Return the answer to an ingest; None if the body is none."""
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(answer, dict) or type(answer.get("ingested")) is not int:
        return None
    return answer


def _taken(batch: Batch, answer: Mapping[str, Any]) -> Verdict:
    """Return the verdict for a 200. What failed is not sent again, unless it was all: a setting may be the cause.

    Which records they were is not known, as a failure names but the time of its event: the others would come twice.
    """
    failed = answer.get("failed")
    if type(failed) is not int or failed <= 0:
        return Delivered()
    failures = answer.get("failures")
    listed = failures if isinstance(failures, list) else []
    errors = (one.get("error") for one in listed if isinstance(one, dict))
    why = next((error for error in errors if isinstance(error, str) and error), "")
    detail = f"HTTP 200: it took the others, and failed to ingest {failed} of {len(batch)}{quoted(why)}"
    rejected = dict.fromkeys(range(min(failed, len(batch))), DropReason.REJECTED)
    return Partial(rejected=rejected, detail=detail, is_final=len(rejected) < len(batch))


def create(values: Values) -> Destination[HttpRequest, HttpResponse]:
    """Make the sink from the `AXIOM_…` variables. Raises ConfigError without a valid token or dataset."""
    problems: list[Problem] = []
    token = choose("AXIOM_TOKEN", values, problems)
    dataset, edge = values["AXIOM_DATASET"], values["AXIOM_EDGE"]
    if token is None:
        raise ConfigError(missing("axiom", values))
    base = edge or values["AXIOM_URL"]
    is_edge = edge is not None or ".edge." in base.partition("://")[2].partition("/")[0]
    path = f"v1/ingest/{dataset}" if is_edge else f"v1/datasets/{dataset}/ingest"
    organisation = values["AXIOM_ORG_ID"]
    if isinstance(token, Secret) and token.reveal().startswith("xapt-"):
        if is_edge:
            problems.append(Notice("AXIOM_TOKEN", "is a personal token, which an edge deployment refuses."))
        elif organisation is None:
            problems.append(Notice("AXIOM_TOKEN", "is a personal token, which needs AXIOM_ORG_ID, too."))
    sink = Axiom(url=f"{base}/{path}", dataset=dataset, organisation=organisation)
    credential = Credential(header="Authorization", secret=token, prefix="Bearer ")
    return Destination(sink=sink, delivery=HttpDelivery(url=sink.url, credential=credential), problems=tuple(problems))
