"""Strict local backends: one for each sink, Parameter Store and Secrets Manager.

Each is an async context manager. It listens on a loopback port, refuses what the real service refuses, keeps what it
accepted for tests to read, and can be told to fail::

    async with SplunkHec(token="…") as hec:
        hec.faults.script(Answer(503, times=3), Reset(stored=True))
        ...                                   # send to hec.url
        await hec.wait_until(lambda: len(hec.events) == 2)

Behaviour that the vendor does not document is an argument of the constructor; its docstring names the default.
"""

from local_backends.axiom import Axiom, AxiomEvent, FailEvents
from local_backends.bulk import Bulk, Document, FailDocuments
from local_backends.cloudwatch_logs import CloudWatchLogs, RejectEvents
from local_backends.datadog import Datadog
from local_backends.datadog_logs import DatadogLog
from local_backends.datadog_metrics import DatadogMetrics, DatadogPoint
from local_backends.embedded_metrics import EmbeddedMetrics, Measurement
from local_backends.faults import (
    ANY,
    Answer,
    Fault,
    Faults,
    HalfAnswer,
    Hang,
    Page,
    Reset,
    Slow,
    Throttle,
    TooLarge,
    Withhold,
)
from local_backends.hec_events import HecEvent, Rules
from local_backends.honeycomb import Honeycomb, HoneycombEvent, RefuseEvents
from local_backends.json_receiver import JsonReceiver
from local_backends.log_groups import LogEvent, LogGroup, LogStream
from local_backends.loki import Blocked, Loki, LokiEntry, RejectEntries, StreamLimit
from local_backends.newrelic import NewRelic, NewRelicLog, NewRelicMetric
from local_backends.otlp import Export, OtlpItem, OtlpReceiver, RejectItems, RetryAt
from local_backends.otlp_trees import assert_trees
from local_backends.s3 import S3, ObjectLine, StoredObject
from local_backends.secrets_manager import SecretsManager
from local_backends.server import Backend, Seen
from local_backends.splunk_hec import BadEvent, NearCapacity, SplunkHec
from local_backends.ssm import Ssm
from local_backends.streams import FailRecords, Firehose, Kinesis, StreamLine, StreamRecord
from local_backends.sumologic import Budget, SumoLogic, SumoMessage

__all__ = [
    "ANY",
    "S3",
    "Answer",
    "Axiom",
    "AxiomEvent",
    "Backend",
    "BadEvent",
    "Blocked",
    "Budget",
    "Bulk",
    "CloudWatchLogs",
    "Datadog",
    "DatadogLog",
    "DatadogMetrics",
    "DatadogPoint",
    "Document",
    "EmbeddedMetrics",
    "Export",
    "FailDocuments",
    "FailEvents",
    "FailRecords",
    "Fault",
    "Faults",
    "Firehose",
    "HalfAnswer",
    "Hang",
    "HecEvent",
    "Honeycomb",
    "HoneycombEvent",
    "JsonReceiver",
    "Kinesis",
    "LogEvent",
    "LogGroup",
    "LogStream",
    "Loki",
    "LokiEntry",
    "Measurement",
    "NearCapacity",
    "NewRelic",
    "NewRelicLog",
    "NewRelicMetric",
    "ObjectLine",
    "OtlpItem",
    "OtlpReceiver",
    "Page",
    "RefuseEvents",
    "RejectEntries",
    "RejectEvents",
    "RejectItems",
    "Reset",
    "RetryAt",
    "Rules",
    "SecretsManager",
    "Seen",
    "Slow",
    "SplunkHec",
    "Ssm",
    "StoredObject",
    "StreamLimit",
    "StreamLine",
    "StreamRecord",
    "SumoLogic",
    "SumoMessage",
    "Throttle",
    "TooLarge",
    "Withhold",
    "assert_trees",
]
