"""The table of all environment variables: name, type, default and meaning. docs/settings.md is printed from it.

This module and those that it imports, all of this folder, import nothing else: the environment is read before
registration, while the user's cold start waits. Importing `dataclasses` alone would double the time to `/register`, so
the few classes here are plain.
"""

from telemetry_forwarder.variables.failover_target import FailoverTarget
from telemetry_forwarder.variables.secrets_table import SECRETS
from telemetry_forwarder.variables.signal_types import (
    Attributes,
    Choice,
    HeaderList,
    LineModes,
    Namespace,
    Price,
    Sampling,
    SinkNames,
)
from telemetry_forwarder.variables.types import (
    DirectoryPath,
    FilePath,
    Flag,
    Flush,
    Integer,
    LogGroup,
    LogStream,
    NoProxy,
    OneOf,
    ProxyUrl,
    Region,
    SecretArn,
    SecretText,
    Site,
    SsmParameter,
    Tags,
    Text,
    Url,
    Words,
)
from telemetry_forwarder.variables.variable import Variable as Variable
from telemetry_forwarder.variables.wording import Problem as Problem  # a sink imports it from here

# The numbers of days that PutRetentionPolicy accepts. Source: CloudWatch Logs API Reference, read 2026-11-23.
RETENTION_DAYS = (
    "1", "3", "5", "7", "14", "30", "60", "90", "120", "150", "180", "365", "400", "545", "731",
    "1096", "1827", "2192", "2557", "2922", "3288", "3653",
)  # fmt: skip

# The sinks by the names that TELEMETRY_FORWARDER_SINKS uses, with their modules in the package `sinks`. A module may
# have a table of variables of its own (see `sinks`); those of the first four are here.
BUILT_IN_SINKS = {
    "splunk": "splunk_hec",
    "datadog": "datadog",
    "cloudwatch": "cloudwatch_logs",
    "otlp": "otlp",
    "axiom": "axiom",
    "http": "generic_http",
    "elasticsearch": "elasticsearch",
    "opensearch": "opensearch",
    "firehose": "firehose",
    "kinesis": "kinesis",
    "honeycomb": "honeycomb",
    "s3": "s3",
    "sumologic": "sumologic",
    "loki": "loki",
    "newrelic": "newrelic",
}

# The value of AWS_LAMBDA_INITIALIZATION_TYPE on Lambda Managed Instances.
MANAGED_INSTANCES = "lambda-managed-instances"
SNAP_START = "snap-start"


RESERVED_PORTS = {9001: "the Lambda Runtime API", 2773: "the secrets endpoint"}

# Each variable, by the topic under which users look for it. docs/settings.md has the same order.
TOPICS = {
    "What is sent, and where": (
        Variable(
            "TELEMETRY_FORWARDER_SINKS", SinkNames(*BUILT_IN_SINKS), (),
            "Which sinks run. `splunk:audit` is another one of the kind `splunk`, reading `SPLUNK_HEC_URL__AUDIT` and "
            "so on. Unset: those of `splunk`, `datadog`, `cloudwatch` and `otlp` whose credential or address is given",
        ),
        Variable(
            "TELEMETRY_FORWARDER_TYPES", Words("platform", "function", "extension"), ("platform", "function"),
            "Which telemetry is forwarded",
        ),
        Variable("TELEMETRY_FORWARDER_TAGS", Tags(), (), "Tags added to every record in every sink"),
    ),
    "Splunk": (
        Variable(
            "SPLUNK_HEC_URL", Url(), None,
            "Address of the HTTP Event Collector; the path is added where it is missing", "splunk",
        ),
        Variable(
            "SPLUNK_HEC_TOKEN_SECRET_ARN", SecretArn(), None,
            "Secrets Manager secret that holds the HEC token", "splunk",
        ),
        Variable("SPLUNK_HEC_TOKEN_SSM_PARAMETER", SsmParameter(), None, "SSM parameter with the HEC token", "splunk"),
        Variable("SPLUNK_HEC_TOKEN", SecretText(), None, "HEC token", "splunk"),
        Variable("SPLUNK_INDEX", Text(), None, "Index; unset: the token's default", "splunk"),
        Variable("SPLUNK_SOURCE", Text(), None, "Source; unset: `lambda:FUNCTION`", "splunk"),
        Variable("SPLUNK_SOURCETYPE", Text(), None, "Source type; unset: `aws:lambda:TYPE` of the record", "splunk"),
        Variable("SPLUNK_HOST", Text(), None, "Host; unset: the function's name", "splunk"),
        Variable(
            "SPLUNK_METRICS_INDEX", Text(), None, "Index of metrics, of the type metrics; unset: the token's default",
            "splunk",
        ),
    ),
    "Datadog": (
        Variable(
            "DD_API_KEY_SECRET_ARN", SecretArn(), None, "Secrets Manager secret that holds the API key", "datadog",
        ),
        Variable("DD_API_KEY_SSM_PARAMETER", SsmParameter(), None, "SSM parameter with the API key", "datadog"),
        Variable("DD_API_KEY", SecretText(), None, "API key", "datadog"),
        Variable("DD_SITE", Site(), "datadoghq.com", "Datadog site", "datadog"),
        Variable("DD_SERVICE", Text(), None, "Service, in every sink; unset: the function's name"),
        Variable("DD_ENV", Text(), None, "Environment, in every sink"),
        Variable("DD_VERSION", Text(), None, "Version of the application, in every sink"),
        Variable("DD_TAGS", Tags(spaces=True), (), "Further tags for Datadog alone", "datadog"),
        Variable(
            "DD_LOGS_CONFIG_LOGS_DD_URL", Url(bare_host=True, endpoint="/api/v2/logs"), None,
            "Another logs intake (a proxy, a private link) instead of the site's", "datadog",
        ),
        Variable(
            "DD_ENHANCED_METRICS", Flag(), None,
            "Metrics of invocations, as those of Datadog's own extension; unset: as TELEMETRY_FORWARDER_METRICS says. "
            "Datadog's default is `true`; here they are off unless asked for, since some are billed as custom metrics",
            "datadog",
        ),
        Variable(
            "DD_DD_URL", Url(bare_host=True, endpoint="/api/v1/distribution_points"), None,
            "Where metrics go instead of the site's API", "datadog",
        ),
    ),
    "CloudWatch Logs": (
        Variable("CLOUDWATCH_LOG_GROUP", LogGroup(), None, "Log group; created where it is missing", "cloudwatch"),
        Variable(
            "CLOUDWATCH_LOG_STREAM", LogStream(), None,
            "Log stream; unset: the environment's own stream name, so that environments never share one", "cloudwatch",
        ),
        Variable(
            "CLOUDWATCH_RETENTION_DAYS", OneOf(*RETENTION_DAYS, convert=int), None,
            "Retention set on a group that was created; unset: kept for ever", "cloudwatch",
        ),
        Variable(
            "CLOUDWATCH_METRICS_NAMESPACE", Namespace(), "TelemetryForwarder",
            "Namespace of the metrics of invocations, where TELEMETRY_FORWARDER_METRICS wants them", "cloudwatch",
        ),
    ),
    # Source: OpenTelemetry specification, "OpenTelemetry Protocol Exporter"; read 2026-11-28.
    "OTLP": (
        Variable(
            "OTEL_EXPORTER_OTLP_ENDPOINT", Url(), None,
            "Address that log records, metrics and traces are sent to by OTLP; `/v1/logs` and its like are added. One "
            "on this machine, a collector beside the function, is used only if TELEMETRY_FORWARDER_SINKS names `otlp`",
            "otlp",
        ),
        Variable(
            "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", Url(is_whole=True), None,
            "Address of log records, used as it is; without the general one nothing else is sent", "otlp",
        ),
        Variable("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", Url(is_whole=True), None, "Address of metrics", "otlp"),
        Variable("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", Url(is_whole=True), None, "Address of traces", "otlp"),
        Variable(
            "TELEMETRY_FORWARDER_OTLP_ENDPOINT", Url(), None,
            "As OTEL_EXPORTER_OTLP_ENDPOINT and instead of it, for the extension alone: an SDK in the function reads "
            "that one, too",
            "otlp",
        ),
        Variable(
            "OTEL_EXPORTER_OTLP_HEADERS_SECRET_ARN", SecretArn(), None,
            "Secrets Manager secret that holds further headers, `name=value,name=value`", "otlp",
        ),
        Variable(
            "OTEL_EXPORTER_OTLP_HEADERS_SSM_PARAMETER", SsmParameter(), None, "SSM parameter with further headers",
            "otlp",
        ),
        Variable("OTEL_EXPORTER_OTLP_HEADERS", HeaderList(), None, "Headers of every request", "otlp"),
        Variable("OTEL_EXPORTER_OTLP_LOGS_HEADERS", HeaderList(), None, "Further headers with log records", "otlp"),
        Variable("OTEL_EXPORTER_OTLP_METRICS_HEADERS", HeaderList(), None, "Further headers with metrics", "otlp"),
        Variable("OTEL_EXPORTER_OTLP_TRACES_HEADERS", HeaderList(), None, "Further headers with traces", "otlp"),
        Variable(
            "OTEL_EXPORTER_OTLP_PROTOCOL", OneOf("http/protobuf", "http/json"), "http/protobuf",
            "Encoding. gRPC is not spoken here", "otlp",
        ),
        Variable(
            "OTEL_EXPORTER_OTLP_COMPRESSION", OneOf("gzip", "none"), "gzip",
            "Compression; unset it is `gzip` here, and none in SDKs", "otlp",
        ),
        Variable(
            "OTEL_EXPORTER_OTLP_TIMEOUT", Integer(0, 2_147_483_647), 10000,
            "Has no effect: how long an answer is waited for follows from the invocation's deadline", "otlp",
        ),
        Variable(
            "OTEL_EXPORTER_OTLP_CERTIFICATE", FilePath(), None, "CA certificates instead of those of SSL_CERT_FILE",
            "otlp",
        ),
        Variable(
            "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", FilePath(), None, "Certificate that the extension shows", "otlp",
        ),
        Variable("OTEL_EXPORTER_OTLP_CLIENT_KEY", FilePath(), None, "Key of that certificate", "otlp"),
        Variable(
            "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", OneOf("delta", "cumulative", "lowmemory"), "delta",
            "Metrics are sent as `delta`, whatever it says: an environment that is frozen, reset and one of many has "
            "no sum to tell. A collector's `deltatocumulative` makes one",
            "otlp",
        ),
        Variable("OTEL_SERVICE_NAME", Text(), None, "Service; unset: DD_SERVICE, or the function's name", "otlp"),
        Variable("OTEL_RESOURCE_ATTRIBUTES", Attributes(), (), "Attributes of the resource, before our own", "otlp"),
        Variable("OTEL_SDK_DISABLED", Flag(), False, "`true`: nothing is sent by OTLP", "otlp"),
    ),
    "Metrics and traces": (
        Variable(
            "TELEMETRY_FORWARDER_METRICS", Choice(), (),
            "Which sinks get metrics of invocations: durations, errors, memory, estimated cost. Backends bill metrics "
            "by series or by volume, so they are off unless asked for",
        ),
        Variable(
            "TELEMETRY_FORWARDER_METRIC_LINES", LineModes(), (),
            "What becomes of metrics that functions print (EMF, and lines of Datadog's libraries): they are log lines "
            "(`keep`), lose what only CloudWatch reads (`strip`), are not sent (`drop`), or are metrics of that sink "
            "instead (`metrics`), which are billed as such. Unset: `keep`",
        ),
        Variable(
            "TELEMETRY_FORWARDER_TRACES", Sampling(), "off",
            "Which invocations become traces, where a sink takes traces; those that fail, time out or start cold "
            "always do. In every sink log records get the id of their trace. Backends bill spans, so they are off "
            "unless asked for",
        ),
        Variable(
            "TELEMETRY_FORWARDER_OTLP_RECEIVER", Flag(), False,
            "Whether OpenTelemetry SDKs of functions may send logs, metrics and traces to localhost (OTLP/HTTP)",
        ),
        Variable(
            "TELEMETRY_FORWARDER_OTLP_PORT", Integer(1024, 65535, RESERVED_PORTS), 4318, "Port of that receiver",
        ),
        Variable(
            "DD_USE_DOGSTATSD", Flag(), False,
            "Whether functions may send metrics as DogStatsD datagrams to localhost, for the sinks that get metrics",
        ),
        Variable(
            "DD_DOGSTATSD_PORT", Integer(1, 65535), 8125, "Port of DogStatsD (UDP)",
        ),
        Variable(
            "TELEMETRY_FORWARDER_LEDGER_PERIOD", Integer(10, 86_400), None,
            "Seconds after which the ledger is told while the environment lives: as a record in every sink, and as a "
            "line whose figures CloudWatch takes as metrics (EMF), which it bills. Unset: at the end alone, and each "
            "60 s to the sinks that get metrics",
        ),
        Variable(
            "TELEMETRY_FORWARDER_PRICE_GB_SECOND", Price(), None,
            "USD for each GB-second, for the estimated cost; unset: the list price of the region and the processor",
        ),
        Variable(
            "TELEMETRY_FORWARDER_PRICE_REQUEST", Price(), None,
            "USD for each request, for the estimated cost; unset: the list price",
        ),
    ),
    "When records are sent, and what an invocation or INIT waits for": (
        Variable(
            "TELEMETRY_FORWARDER_FLUSH", Flush(), ("adaptive",),
            "When records are sent: at the `end` of each invocation, which is held until then; `periodic`ally beside "
            "one; `continuous`ly in the background; `adaptive`: `end` for rare calls, in the background for frequent "
            "ones",
        ),
        Variable(
            "TELEMETRY_FORWARDER_FLUSH_TIMEOUT_MS", Integer(0, 10000), 500,
            "Longest time, in ms, that an invocation is held after the function has ended",
        ),
        Variable(
            "TELEMETRY_FORWARDER_DEADLINE_MARGIN_MS", Integer(50, 10000), 200,
            "Time, in ms, before the function's timeout in which an invocation is never held",
        ),
        Variable(
            "TELEMETRY_FORWARDER_INIT_BUDGET_MS", Integer(0, 9000), None,
            "Longest time, in ms, that INIT waits for the extension once it has registered; what is not loaded by then "
            "is loaded behind it. Unset: 300 with less than 708 MB of memory, where secrets are served, and with "
            "provisioned concurrency or SnapStart; else 10",
        ),
        # Source: Lambda Telemetry API Reference, buffering; the wire limits, read 2026-11-23.
        Variable(
            "TELEMETRY_FORWARDER_BUFFERING_TIMEOUT_MS", Integer(25, 30000), 25,
            "Longest time, in ms, that Lambda holds records back before it sends a batch",
        ),
        Variable(
            "TELEMETRY_FORWARDER_BUFFERING_MAX_BYTES", Integer(262144, 1048576), 262144,
            "Bytes at which Lambda sends a batch",
        ),
        Variable(
            "TELEMETRY_FORWARDER_BUFFERING_MAX_ITEMS", Integer(1000, 10000), 1000,
            "Records at which Lambda sends a batch",
        ),
    ),
    "What is kept while a backend is away": (
        Variable(
            "TELEMETRY_FORWARDER_BUFFER_BYTES", Integer(1048576, 1073741824), None,
            "Bytes of telemetry that each sink may hold in memory, its metrics or traces a quarter of it; unset: 1/32 "
            "of the function's memory, 4 to 32 MiB",
        ),
        Variable(
            "TELEMETRY_FORWARDER_BUFFER_RECORDS", Integer(1000, 10000000), None,
            "Records that each sink may hold in memory; unset: one for each 1024 of those bytes",
        ),
        Variable(
            "TELEMETRY_FORWARDER_WHEN_FULL", OneOf("spill", "drop_oldest", "drop_newest"), "spill",
            "What becomes of records that the memory has no room for; `spill`: they wait in the spool, the others do "
            "without one",
        ),
        Variable(
            "TELEMETRY_FORWARDER_SPOOL_BYTES", Integer(8388608, 8589934592), 67108864,
            "Bytes that the spool may take on disk; when it is full, its oldest records are dropped",
        ),
        Variable(
            "TELEMETRY_FORWARDER_SPOOL_DIR", DirectoryPath(), "/tmp/telemetry-forwarder",  # noqa: S108 - for us alone
            "Directory of the spool",
        ),
        Variable(
            "TELEMETRY_FORWARDER_DURABILITY", OneOf("relaxed", "strict"), "relaxed",
            "`strict`: what Lambda sends is in the spool before it is answered; `relaxed`: right after",
        ),
        Variable(
            "TELEMETRY_FORWARDER_FAILOVER", FailoverTarget(), None,
            "Where records are kept that a sink has not taken when the environment ends; "
            "`telemetry-forwarder replay` sends them later",
        ),
    ),
    "How it is reached, and what it says": (
        Variable("HTTPS_PROXY", ProxyUrl(), None, "Proxy for `https` backends; never for the Lambda APIs", "network"),
        Variable("HTTP_PROXY", ProxyUrl(), None, "Proxy for `http` backends; never for the Lambda APIs", "network"),
        Variable("NO_PROXY", NoProxy(), (), "What is reached without a proxy", "network"),
        Variable("SSL_CERT_FILE", FilePath(), None, "CA certificates that backends are checked against", "network"),
        Variable("AWS_REGION", Region(), None, "Region; Lambda sets it"),
        Variable(
            "AWS_ENDPOINT_URL_CLOUDWATCH_LOGS", Url(), None,
            "Another endpoint, as for every AWS SDK; so are `AWS_ENDPOINT_URL_SSM`, "
            "`AWS_ENDPOINT_URL_SECRETS_MANAGER`, `AWS_ENDPOINT_URL_S3` and `AWS_ENDPOINT_URL_SQS`",
            "sdk",
        ),
        Variable(
            "TELEMETRY_FORWARDER_PORT", Integer(1024, 65535, RESERVED_PORTS), 4243,
            "Port on which telemetry is received",
        ),
        Variable(
            "TELEMETRY_FORWARDER_LOG_LEVEL", OneOf("debug", "info", "warning", "error", also={"warn": "warning"}),
            "warning", "How much the extension says of itself, on standard output",
        ),
        Variable(
            "TELEMETRY_FORWARDER_STRICT", Flag(), False,
            "`true`: a wrong setting fails the start of the function instead of leaving that setting out",
        ),
    ),
    "Parameters and secrets for the function": SECRETS,
}  # fmt: skip

VARIABLES = tuple(variable for variables in TOPICS.values() for variable in variables)

# Set by Lambda, so it is not in VARIABLES. Source: AWS Lambda Developer Guide, "Defined runtime environment variables".
MEMORY_SIZE = Variable("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", Integer(1, 1_000_000), None, "Memory, in MB", "lambda")
