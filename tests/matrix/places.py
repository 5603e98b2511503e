"""The backends of the sinks beside the first three: how each is opened, what leads there, how its records are read."""

import json
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from local_backends import (
    S3,
    Axiom,
    Backend,
    Bulk,
    Firehose,
    Honeycomb,
    JsonReceiver,
    Kinesis,
    Loki,
    NewRelic,
    SumoLogic,
)


@dataclass(frozen=True, slots=True)
class Place:
    """`open` makes the backend, `environ` says which variables lead to it, `read` tells a kept record's content."""

    open: Callable[[ssl.SSLContext | None], Backend]
    environ: Callable[[Any], Mapping[str, str]]
    read: Callable[[Any], "Content"]


@dataclass(frozen=True, slots=True)
class Content:
    """What is compared of a record: its type, its time, and what the platform wrote for it."""

    type: str
    time_ms: int
    record: Any


def _millis(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1000)


def _object(members: Mapping[str, Any], time_ms: int) -> Content:
    """Read a JSON object with the text in `message`, an event in `record` and what is known in `lambda`."""
    return Content(members["lambda"]["type"], time_ms, members.get("record", members.get("message", "")))


def _flat(members: Mapping[str, Any], time_ms: int) -> Content:
    """Read an object without objects in it: `lambda.type`, `record.requestId`."""
    event = {name.removeprefix("record."): value for name, value in members.items() if name.startswith("record.")}
    return Content(members["lambda.type"], time_ms, event or members.get("message", ""))


def _line(value: Mapping[str, Any]) -> Content:
    """Read a line of a stream or an object of S3."""
    return Content(value["type"], _millis(value["time"]), value.get("record", value.get("message", "")))


def _text(type: str, time_ms: int, text: str, attributes: Mapping[str, Any], prefix: str) -> Content:
    """Read a line with attributes; an event has its members among them, or is the text, as JSON."""
    if type == "function":
        return Content(type, time_ms, text)
    event = {name.removeprefix(prefix): value for name, value in attributes.items() if name.startswith(prefix)}
    return Content(type, time_ms, event or json.loads(text))


def _document(source: Mapping[str, Any]) -> Content:
    """Read a document of a search engine: the text in `message`, an event in `lambda.record`."""
    known = source["lambda"]
    return Content(known["type"], _millis(source["@timestamp"]), known.get("record", source.get("message", "")))


PLACES: Mapping[str, Place] = {
    "axiom": Place(
        lambda tls: Axiom(token="xaat-token", dataset="lambda", tls=tls),
        lambda backend: {"AXIOM_URL": backend.url, "AXIOM_TOKEN": "xaat-token", "AXIOM_DATASET": "lambda"},
        lambda kept: _object(kept.members, kept.time_ms),
    ),
    "honeycomb": Place(
        lambda tls: Honeycomb(key="hcaik-key", dataset="lambda", tls=tls),
        lambda backend: {
            "HONEYCOMB_API_ENDPOINT": backend.url, "HONEYCOMB_API_KEY": "hcaik-key", "HONEYCOMB_DATASET": "lambda",
        },
        lambda kept: _flat(kept.data, kept.time_ms),
    ),
    "sumologic": Place(
        lambda tls: SumoLogic(token="sumo-token", tls=tls),
        lambda backend: {"SUMO_HTTP_ENDPOINT": backend.address},
        lambda kept: _object(kept.members, kept.time_ms),
    ),
    "http": Place(
        lambda tls: JsonReceiver(token="http-token", tls=tls),
        lambda backend: {
            "TELEMETRY_FORWARDER_HTTP_URL": f"{backend.url}/in", "TELEMETRY_FORWARDER_HTTP_TOKEN": "http-token",
        },
        lambda kept: _object(kept, _millis(kept["@timestamp"])),
    ),
    "newrelic": Place(
        lambda tls: NewRelic(key="license-key", tls=tls),
        lambda backend: {"NEW_RELIC_LOG_ENDPOINT": f"{backend.url}/log/v1", "NEW_RELIC_LICENSE_KEY": "license-key"},
        lambda kept: _text(
            kept.attributes["telemetry.type"], kept.timestamp, kept.message, kept.attributes, "record."
        ),
    ),
    "loki": Place(
        lambda tls: Loki(login=("me", "loki-token"), tls=tls),
        lambda backend: {"LOKI_ADDR": backend.url, "LOKI_USERNAME": "me", "LOKI_PASSWORD": "loki-token"},
        lambda kept: _text(
            kept.metadata["type"], kept.time_ns // 1_000_000, kept.line, kept.metadata, "record_"
        ),
    ),
    "elasticsearch": Place(
        lambda tls: Bulk(authorization="ApiKey api-key", tls=tls),
        lambda backend: {"ELASTICSEARCH_URL": backend.url, "ELASTICSEARCH_API_KEY": "api-key"},
        lambda kept: _document(kept.source),
    ),
    "opensearch": Place(
        lambda tls: Bulk(authorization=Bulk.basic("me", "password"), is_old=True, tls=tls),
        lambda backend: {
            "OPENSEARCH_URL": backend.url, "OPENSEARCH_USERNAME": "me", "OPENSEARCH_PASSWORD": "password",
        },
        lambda kept: _document(kept.source),
    ),
    "firehose": Place(
        lambda tls: Firehose(tls=tls),
        lambda backend: {"FIREHOSE_STREAM_NAME": "logs", "AWS_ENDPOINT_URL_FIREHOSE": backend.url},
        lambda kept: _line(kept.value),
    ),
    "kinesis": Place(
        lambda tls: Kinesis(tls=tls),
        lambda backend: {"KINESIS_STREAM_NAME": "logs", "AWS_ENDPOINT_URL_KINESIS": backend.url},
        lambda kept: _line(kept.value),
    ),
    "s3": Place(
        lambda tls: S3(tls=tls),
        lambda backend: {"S3_LOGS_URI": "s3://logs", "AWS_ENDPOINT_URL_S3": backend.url},
        lambda kept: _line(kept.value),
    ),
}  # fmt: skip

# Those that share an environment.
GROUPS: tuple[tuple[str, ...], ...] = (
    ("axiom", "honeycomb", "sumologic", "http"),
    ("newrelic", "loki", "elasticsearch", "opensearch"),
    ("firehose", "kinesis", "s3"),
)
