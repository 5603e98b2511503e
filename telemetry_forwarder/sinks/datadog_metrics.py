"""The Datadog sink for metrics: every point is a value of a distribution, sent to `/api/v1/distribution_points`.

Only distributions are safe on Lambda: of two environments' counts or gauges with equal tags in one second, Datadog
keeps the last. What Datadog's own extension measures has its names, units and tags here, so that the serverless view
fills; the rest keeps its name.
Sources: Datadog's API reference ("Submit distribution points") and pages on Lambda's enhanced metrics; the source code
of Datadog's Lambda extension; read 2026-11-28.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from os import uname
from typing import ClassVar

from telemetry_forwarder.errors import EncodeError
from telemetry_forwarder.interfaces import (
    Batch,
    Credential,
    Destination,
    Encoded,
    HttpDelivery,
    HttpRequest,
    HttpResponse,
    Limits,
)
from telemetry_forwarder.records.lossless_json import json_part
from telemetry_forwarder.records.record import Context, Record, Signal
from telemetry_forwarder.signals.points import Point, attributes_of, points_of
from telemetry_forwarder.sinks.datadog import Datadog, known_tags, tag_text
from telemetry_forwarder.sinks.truncate import present

HOUR_MS = 3_600_000

LIMITS = Limits(
    max_records=1_000,
    # The limits of this endpoint are not documented; those of `/api/v2/series` are 512,000 bytes compressed and 5 MiB
    # raw. The smaller one counts here for what is raw.
    max_bytes=500_000,
    max_record_bytes=250_000,
    overhead_bytes=1,  # the comma
    framing_bytes=13,  # {"series":[]}
    # Points that are more than an hour old are answered 202 and dropped. 5 minutes are spare.
    max_age_ms=HOUR_MS - 300_000,
    # A report comes with the next invocation, which may be hours later. What it tells of (duration, memory, cost) is
    # worth more an hour off than not at all. But yesterday's figures are none of today's, e.g. those of a replay.
    redated_ms=24 * HOUR_MS,
)

_ENHANCED = "aws.lambda.enhanced."
# Our names, Datadog's, and by what a value is divided. Source: Datadog's Lambda extension, where `duration`,
# `billed_duration` and what an init takes are in seconds, but `runtime_duration` and `post_runtime_duration` in ms.
_NAMES = {
    **{
        f"lambda.{name}": (f"{_ENHANCED}{name}", 1)
        for name in (
            "invocations", "errors", "timeouts", "out_of_memory", "runtime_duration", "post_runtime_duration",
            "response_latency", "response_duration", "produced_bytes", "estimated_cost", "cpu_user_time",
            "cpu_system_time", "rx_bytes", "tx_bytes", "tmp_used", "tmp_max", "fd_use", "threads_use",
        )
    },
    **{f"lambda.{name}": (f"{_ENHANCED}{name}", 1000) for name in ("duration", "billed_duration", "init_duration")},
    "lambda.restore_duration": (f"{_ENHANCED}snapstart_restore_duration", 1000),
    "lambda.memory_used": (f"{_ENHANCED}max_memory_used", 1),
    "lambda.memory_size": (f"{_ENHANCED}memorysize", 1),
}  # fmt: skip
# Datadog has them as `invocations` without `errors`, and as the tag `cold_start`; each name is billed.
_LEFT_OUT = ("lambda.successes", "lambda.cold_starts")

# Source: Datadog, "Custom metrics", naming: letters, digits, `_` and `.`, beginning with a letter, 200 characters.
_NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9_.]")
_LONGEST_NAME = 200
_MOST_TAGS = 100  # as in Datadog's own extension


class DatadogMetrics(Datadog, frozen=True, kw_only=True, cache_hash=True):
    """Send metric records as distributions. `url` is the API's URL without path; `architecture` is a tag."""

    name: ClassVar[str] = "datadog-metrics"
    limits: ClassVar[Limits] = LIMITS
    takes: ClassVar[frozenset[Signal]] = frozenset({Signal.METRIC})
    named_by: ClassVar[str] = "DD_DD_URL"

    architecture: str | None = None

    def encode(self, record: Record) -> Encoded:
        """Return a record as series, parted by commas. Raises EncodeError if it has no point, or is too large."""
        points = points_of(record)
        if not points:
            raise EncodeError("a metric record without points")
        tags = _tags(self, record.context, tuple(attributes_of(record).items()))
        second = record.time_ms // 1000
        series = [_series(point, second, tags) for point in points if point.name not in _LEFT_OUT]
        data = b",".join(series)
        if len(data) > LIMITS.max_record_bytes:
            raise EncodeError(f"a metric record of {len(data)} bytes")
        if not data:
            raise EncodeError("a metric record with nothing for Datadog")
        return Encoded(record, data)

    def encode_all(self, records: Sequence[Record]) -> list[Encoded]:
        return [self.encode(record) for record in records]

    def request(self, batch: Batch) -> HttpRequest:
        return HttpRequest(
            url=f"{self.url}/api/v1/distribution_points",
            body=b'{"series":[' + b",".join(encoded.data for encoded in batch) + b"]}",
            headers={"content-type": "text/json"},
        )


def _series(point: Point, second: int, tags: bytes) -> bytes:
    name, divisor = _NAMES.get(point.name) or (_name(point.name), 1)
    values = json_part([float(value) / divisor for value in point.values])
    return b'{"metric":%b,"points":[[%d,%b]],"tags":%b,"type":"distribution"}' % (json_part(name), second, values, tags)


def _name(name: str) -> str:
    """Return a name that Datadog takes; it drops others without a word."""
    name = _NOT_IN_A_NAME.sub("_", name)
    return (name if name[0].isalpha() else f"metric_{name}")[:_LONGEST_NAME]


@lru_cache(maxsize=256)
def _tags(sink: DatadogMetrics, context: Context, attributes: tuple[tuple[str, str], ...]) -> bytes:
    """Return the tags as JSON: what is known of the environment, then the record's attributes.

    What the function names itself counts for more: a metric of `service:payment` is not one of this environment's.
    Cached, because the records of an invocation have them in common.
    """
    origin, name = context.origin, context.origin.function_name.lower()
    version = None if origin.function_version == "$LATEST" else origin.function_version
    known = {
        **known_tags(origin, context.cold_start),
        "functionname": name,
        "resource": f"{name}:{version}" if version else name,
        "executedversion": version,
        "architecture": sink.architecture,
    }
    pairs = [*present(known).items(), *origin.tags, *sink.tags]
    given = dict(attributes)
    tags = [tag_text(key, value) for key, value in pairs if key not in given]
    tags += [tag_text(key, value) for key, value in attributes]
    return json_part(tags[:_MOST_TAGS])


def metrics_to(
    url: str | None, site: str, tags: tuple[tuple[str, str], ...], credential: Credential
) -> Destination[HttpRequest, HttpResponse]:
    """Return the destination of metrics: the API of the site, or `url` instead of it."""
    machine = uname().machine
    sink = DatadogMetrics(
        url=url or f"https://api.{site}",
        tags=tags,
        is_elsewhere=url is not None,
        architecture="arm64" if machine == "aarch64" else machine,
    )
    return Destination(sink=sink, delivery=HttpDelivery(url=sink.url, credential=credential, encoding="deflate"))
