"""What people log, a table for each ecosystem: the line, what is known of it, and what each destination is sent.

The rows are the forms of public loggers; where they are from stands in `levels` and `log_lines`.
"""

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from telemetry_forwarder.records.levels import level_of
from telemetry_forwarder.records.log_lines import fields_in, read
from telemetry_forwarder.records.lossless_json import Restated
from telemetry_forwarder.records.record import Record
from telemetry_forwarder.sinks.cloudwatch_logs import CloudWatchLogs
from telemetry_forwarder.sinks.datadog import Datadog
from telemetry_forwarder.sinks.splunk_hec import SplunkHec
from telemetry_forwarder.variables.table import MANAGED_INSTANCES
from tests.builders import ORIGIN, WholeBatches, item, request_id
from tests.telemetry_forwarder.records.test_record import JSON

ID, OTHER, STRANGER = request_id(1), request_id(2), request_id(99)
TIME = "2026-03-02T10:15:30.100Z"

SPLUNK = SplunkHec(url="http://127.0.0.1:1")
DATADOG = Datadog(url="http://127.0.0.1:1")
CLOUDWATCH = CloudWatchLogs(group="g", stream="s", fallback_stream="f")


def logged(body: object, *started: str, init_type: str | None = None) -> Record:
    """Return the record of a line, after these requests were started."""
    starts = [item("platform.start", {"requestId": one}) for one in started]
    return WholeBatches(replace(ORIGIN, init_type=init_type)).enrich_all([*starts, item("function", body)], "b")[-1]


def sent(record: Record) -> tuple[Any, Any, Any]:
    """Return what each sink sends: an HEC event, a Datadog log, the message of a CloudWatch Logs event."""
    return (
        orjson.loads(SPLUNK.encode(record).data),
        orjson.loads(DATADOG.encode(record).data),
        orjson.loads(CLOUDWATCH.encode(record).data),
    )


# --- JSON: who wrote it, the line, its level -------------------------------------------------------------------------

JSON_LINES = [
    # Lambda's own JSON format, and its runtimes' reports
    ("Lambda, Node.js", {"timestamp": TIME, "level": "WARN", "requestId": ID, "message": "m"}, "warn"),
    ("Lambda, Python", {"timestamp": TIME, "level": "CRITICAL", "message": "m", "logger": "root"}, "critical"),
    ("Lambda, Python, an exception", {"timestamp": TIME, "log_level": "ERROR", "errorType": "KeyError"}, "error"),
    ("Lambda, Java", {"timestamp": TIME, "message": "m", "level": "TRACE", "AWSRequestId": ID}, "debug"),
    ("Lambda, .NET", {"timestamp": TIME, "level": "Information", "requestId": ID, "message": "m"}, "info"),
    ("Lambda, Ruby", {"timestamp": TIME, "level": "FATAL", "message": "m", "requestId": ID}, "critical"),
    ("Powertools", {"level": "INFO", "location": "f:7", "message": "m", "function_request_id": ID}, "info"),
    ("Powertools for .NET, Pascal case", {"Level": "Warning", "FunctionRequestId": ID, "Message": "m"}, "warn"),
    # PHP
    ("Monolog", {"message": "boom", "level": 400, "level_name": "ERROR"}, "error"),
    ("Monolog", {"message": "m", "context": {}, "level": 550, "level_name": "ALERT", "extra": {}}, "critical"),
    ("Monolog", {"message": "m", "level": 250, "level_name": "NOTICE", "channel": "app"}, "info"),
    ("Monolog, a level with a name of its own", {"message": "m", "level": 300, "level_name": "LOUD"}, "warn"),
    ("Monolog for Logstash", {"@timestamp": TIME, "level": "ERROR", "monolog_level": 400, "message": "m"}, "error"),
    ("Monolog for Logstash", {"@timestamp": TIME, "monolog_level": 300, "message": "m"}, "warn"),
    # Python
    ("python-json-logger", {"message": "boom", "levelname": "ERROR"}, "error"),
    ("python-json-logger", {"asctime": TIME, "levelname": "WARNING", "message": "m"}, "warn"),
    ("python-json-logger, numbers too", {"levelno": 40, "levelname": "ERROR", "message": "m"}, "error"),
    ("logging, numbers only", {"levelno": 40, "message": "m"}, "error"),
    ("logging, numbers only", {"level": 50, "lineno": 7, "message": "m"}, "critical"),
    ("structlog", {"event": "m", "level": "exception"}, "error"),
    ("structlog, numbers", {"event": "m", "level_number": 30}, "warn"),
    ("loguru", {"text": "t", "record": {"level": {"name": "SUCCESS", "no": 25}, "message": "m"}}, "info"),
    ("loguru, the record alone", {"level": {"name": "ERROR", "no": 40, "icon": "x"}, "message": "m"}, "error"),
    # Node.js
    ("pino", {"level": 40, "time": 1772446530100, "pid": 8, "hostname": "h", "msg": "m"}, "warn"),
    ("pino", {"level": 10, "time": 1772446530100, "msg": "m"}, "debug"),
    ("pino, words", {"level": "fatal", "time": 1772446530100, "msg": "m"}, "critical"),
    ("bunyan", {"name": "a", "hostname": "h", "pid": 8, "level": 50, "msg": "m", "time": TIME, "v": 0}, "error"),
    ("winston", {"level": "silly", "message": "m"}, "debug"),
    ("winston", {"level": "http", "message": "m"}, "debug"),
    ("winston, coloured", {"level": "\x1b[31merror\x1b[39m", "message": "m"}, "error"),
    ("lambda-log", {"_logLevel": "warn", "msg": "m", "_tags": []}, "warn"),
    ("tslog", {"0": "m", "_meta": {"logLevelName": "ERROR", "logLevelId": 5}}, "error"),
    # Java
    ("log4j2", {"level": "ERROR", "loggerName": "a.B", "message": "m", "contextMap": {"AWSRequestId": ID}}, "error"),
    ("logback for Logstash", {"@timestamp": TIME, "level": "WARN", "level_value": 30000, "message": "m"}, "warn"),
    ("logback for Logstash, numbers", {"@timestamp": TIME, "level_value": 40000, "message": "m"}, "error"),
    ("java.util.logging", {"level": "SEVERE", "message": "m"}, "error"),
    ("java.util.logging", {"level": "FINEST", "message": "m"}, "debug"),
    # .NET
    (".NET console", {"EventId": 7, "LogLevel": "Critical", "Category": "c", "Message": "m"}, "critical"),
    ("Serilog", {"Timestamp": TIME, "Level": "Fatal", "MessageTemplate": "m"}, "critical"),
    ("Serilog, compact", {"@t": TIME, "@mt": "m {N}", "@l": "Verbose", "N": 7}, "debug"),
    ("Serilog, compact, which leaves Information out", {"@t": TIME, "@mt": "m {N}", "N": 7}, "info"),
    ("Serilog, compact and rendered", {"@t": TIME, "@m": "m", "@i": "ab", "@l": "Warning"}, "warn"),
    ("NLog", {"time": TIME, "level": "Warn", "message": "m"}, "warn"),
    # Go
    ("slog", {"time": TIME, "level": "ERROR+2", "msg": "m"}, "error"),
    ("slog", {"time": TIME, "level": "DEBUG-4", "msg": "m"}, "debug"),
    ("zap", {"level": "dpanic", "ts": 1772446530.1, "msg": "m"}, "critical"),
    ("zap, development", {"L": "WARN", "T": TIME, "M": "m"}, "warn"),
    ("zerolog", {"level": "panic", "time": TIME, "message": "m"}, "critical"),
    ("logrus", {"level": "warning", "msg": "m", "time": TIME}, "warn"),
    ("log15", {"lvl": "eror", "msg": "m", "t": TIME}, "error"),
    ("hclog", {"@level": "warn", "@message": "m", "@timestamp": TIME}, "warn"),
    # Ruby, Rust
    ("semantic_logger", {"level": "error", "level_index": 4, "message": "m"}, "error"),
    ("ougai", {"name": "a", "hostname": "h", "pid": 8, "level": 60, "msg": "m", "v": 0}, "critical"),
    ("logstash-logger", {"severity": "WARN", "message": "m"}, "warn"),
    ("tracing", {"timestamp": TIME, "level": "ERROR", "fields": {"message": "m"}, "span": {"requestId": ID}}, "error"),
    # schemas and backends
    ("Elastic Common Schema", {"@timestamp": TIME, "log.level": "error", "message": "m"}, "error"),
    ("Elastic Common Schema, nested", {"@timestamp": TIME, "log": {"level": "WARN"}, "message": "m"}, "warn"),
    ("Elastic Common Schema", {"log": {"syslog": {"severity": {"code": 3}}}, "message": "m"}, "error"),
    ("Google Cloud", {"severity": "EMERGENCY", "message": "m"}, "critical"),
    ("OpenTelemetry", {"severityText": "WARN", "severityNumber": 13, "body": "m"}, "warn"),
    ("OpenTelemetry, numbers", {"severityNumber": 18, "body": "m"}, "error"),
    ("OpenTelemetry, numbers", {"severity_number": 1, "body": "m"}, "debug"),
    ("Datadog", {"status": "warning", "message": "m"}, "warn"),
    ("LoggerJSON", {"message": "m", "syslog": {"severity": "crit", "hostname": "h"}}, "critical"),
    ("GELF", {"version": "1.1", "host": "h", "short_message": "m", "level": 3}, "error"),
    ("syslog's words", {"level": "informational", "message": "m"}, "info"),
    # a number that may be anybody's, a word that is no level, a level's name for something else: none is claimed
    ("a number", {"level": 3, "message": "m"}, None),
    ("a number", {"level": 400, "message": "m"}, None),
    ("a number", {"level": 0}, None),
    ("a number", {"severity": 3}, None),
    ("a number as text", {"level": "3"}, None),
    ("Google Cloud's DEFAULT", {"severity": "DEFAULT"}, None),
    ("Ruby's UNKNOWN", {"level": "UNKNOWN"}, None),
    ("Python's NOTSET", {"levelname": "NOTSET", "levelno": 0}, None),
    ("a status of HTTP", {"status": 200, "message": "m"}, None),
    ("a status of business", {"status": "fail", "message": "m"}, None),
    ("a status of business", {"status": "success"}, None),
    ("a level of business", {"level": "gold", "player": 7}, None),
    ("a nested level of business", {"level": {"number": 7}, "log": "x", "record": [1]}, None),
    ("a time by Serilog's name", {"@t": TIME, "x": 1}, None),
    ("no level", {"message": "m", "orderId": 7}, None),
    ("nothing", {}, None),
]


@pytest.mark.parametrize(("who", "fields", "level"), JSON_LINES)
def test_a_json_record_has_the_level_that_its_logger_wrote(who: str, fields: dict[str, Any], level: str | None) -> None:
    """As an object (the JSON log format), as a line of text, and behind each runtime's prefix: the same."""
    text = json.dumps(fields)
    for body in (fields, text + "\n", f"  {text}\r\n", f"\ufeff{text}"):
        record = logged(body, ID)
        assert record.fields == fields
        assert record.level == level
        splunk, datadog, cloudwatch = sent(record)
        assert splunk["event"] == (fields or {"record": {}})
        assert json.loads(datadog["message"].lstrip("\ufeff")) == fields
        assert {**cloudwatch, "lambda": None} == {**fields, "lambda": None}
        assert splunk["fields"].get("level") == datadog.get("status") == cloudwatch["lambda"].get("level") == level
    for prefix, its_level in PREFIXES:
        record = logged(prefix + text + "\n", ID)
        assert record.body == prefix + text
        assert (record.fields, record.level, record.request_id) == (fields, level or its_level, ID)
        splunk, datadog, cloudwatch = sent(record)
        assert splunk["event"] == (fields or {"record": {}})
        assert json.loads(datadog["message"]) == fields
        assert {**cloudwatch, "lambda": None} == {**fields, "lambda": None}


# --- a runtime's prefix before JSON ----------------------------------------------------------------------------------

PREFIXES = [
    (f"{TIME}\t{ID}\tINFO\t", "info"),  # Node.js, console.log
    (f"{TIME}\tundefined\tERROR\t", "error"),  # during init
    (f"{TIME}\t{ID}\tfail\t", "error"),  # .NET
    (f"{TIME}\t\tcrit\t", "critical"),
    (f"[WARNING]\t{TIME}\t{ID}\t", "warn"),  # Python
    (f"[INFO]\t{TIME}\t\t", "info"),
    ("[DEBUG] ", "debug"),  # Java's LambdaLogger
    (f"2026-03-02 10:15:30 {ID} WARN  ", "warn"),  # log4j2 with %X{AWSRequestId}
    (f"I, [2026-03-02T10:15:30.100000 #8]  INFO {ID} -- : ", "info"),  # Ruby
    ("[Information] - ", "info"),  # PowerShell
    ("2026/03/02 10:15:30 ERROR ", "error"),  # Go
]


def test_json_of_several_lines_behind_a_prefix_is_read() -> None:
    record = logged(f"{TIME}\t{ID}\tINFO\t" + json.dumps({"a": {"b": 1}}, indent=2), ID)
    assert record.fields == {"a": {"b": 1}}


@pytest.mark.parametrize(
    "message",
    [
        "{ a: 1 }",
        "{",
        "{}x",
        '{"a":1',
        '{"a":1} and more',
        'got {"a":1}',
        '[{"a":1}]',
        "{ [Error: boom] code: 7 }",
        "{'a': 1}",
    ],
)
def test_what_is_no_json_behind_a_prefix_stays_the_text_that_it_is(message: str) -> None:
    line = f"{TIME}\t{ID}\tERROR\t{message}"
    record = logged(line, ID)
    assert (record.fields, record.level, record.request_id, record.body) == (None, "error", ID, line)
    splunk, datadog, cloudwatch = sent(record)
    assert splunk["event"] == datadog["message"] == cloudwatch["message"] == line


@pytest.mark.parametrize("prefix", ["[ORDER] ", "[note]\t", "order: ", "2026-03-02 10:15:30 ORDER "])
def test_words_before_json_that_are_no_runtimes_are_not_thrown_away(prefix: str) -> None:
    assert logged(prefix + '{"level":"error"}', ID).fields is None


def test_brefs_line_is_the_json_that_ends_it() -> None:
    """PHP: the JSON repeats the message, which may hold braces and tabs itself."""
    inner = {"message": "no {x}\tof it", "level": "ERROR", "context": {"a": 1}}
    for prefix in (f"{ID}\t", ""):
        record = logged(f"{prefix}ERROR\tno {{x}}\tof it\t{json.dumps(inner)}", ID)
        assert (record.fields, record.level, record.request_id) == (inner, "error", ID)


# --- plain text ------------------------------------------------------------------------------------------------------

TEXT_LINES = [
    ("Node.js", f"{TIME}\t{ID}\tERROR\tboom", "error", ID),
    ("Node.js, during init", f"{TIME}\tundefined\tWARN\tslow", "warn", None),
    ("Node.js, a crash", f'{TIME}\t{ID}\tERROR\tInvoke Error \t{{"errorType":"Error"}}', "error", ID),
    (".NET, trace", f"{TIME}\t{ID}\ttrce\tx", "debug", ID),
    (".NET, debug", f"{TIME}\t{ID}\tdbug\tx", "debug", ID),
    (".NET, information", f"{TIME}\t{ID}\tinfo\tx", "info", ID),
    (".NET, warning", f"{TIME}\t{ID}\twarn\tx", "warn", ID),
    (".NET, error", f"{TIME}\t{ID}\tfail\tboom", "error", ID),
    (".NET, critical", f"{TIME}\t{ID}\tcrit\tx\n   at B()", "critical", ID),
    (".NET, during init", f"{TIME}\t\tfail\tboom", "error", None),
    (".NET console", "fail: Shop.Orders[14]\n      boom", "error", None),
    ("Python", f"[ERROR]\t{TIME}\t{ID}\tboom", "error", ID),
    ("Python, during init", f"[INFO]\t{TIME}\t\tboom", "info", None),
    ("Python, an exception", "[ERROR] KeyError: 'id'\nTraceback (most recent call last):", "error", None),
    ("Python, basicConfig", "WARNING:shop.orders:slow", "warn", None),
    ("Python, how-to", "2026-03-02 10:15:30,100 - shop.orders - ERROR - boom", "error", None),
    ("loguru", "2026-03-02 10:15:30.100 | SUCCESS  | shop:pay:7 - done", "info", None),
    ("structlog", "2026-03-02 10:15:30 [warning  ] slow           order=7", "warn", None),
    ("Java, LambdaLogger", "[FATAL] boom", "critical", None),
    ("Java, log4j2", f"2026-03-02 10:15:30 {ID} ERROR Handler:12 - boom", "error", ID),
    ("Java, log4j2 by default", f"2026-03-02 10:15:30 <{ID}> INFO  Handler:12 - m", "info", ID),
    ("Java, log4j2 during init", "2026-03-02 10:15:30  WARN  Handler - m", "warn", None),
    ("Java, logback", "10:15:30.100 [main] ERROR shop.Orders -- boom", "error", None),
    ("Java, SLF4J simple", "[main] WARN shop.Orders - slow", "warn", None),
    ("Java, SLF4J for Lambda", f"{ID} INFO shop.Orders - m", "info", ID),
    ("Spring Boot", "2026-03-02T10:15:30.100Z  WARN 8 --- [main] shop.Orders : slow", "warn", None),
    ("Ruby on Lambda", f"E, [2026-03-02T10:15:30.100000 #8] ERROR {ID} -- : boom", "error", ID),
    ("Ruby's Logger", "W, [2026-03-02T10:15:30.100000 #8]  WARN -- shop: slow", "warn", None),
    ("Ruby's Logger, UNKNOWN", "A, [2026-03-02T10:15:30.100000 #8]   ANY -- : x", None, None),
    ("PowerShell", "[Warning] - slow", "warn", None),
    ("PHP, Bref", f"{ID}\tWARNING\tslow", "warn", ID),
    ("PHP, Monolog", "[2026-03-02T10:15:30.100000+00:00] app.CRITICAL: boom {} []", "critical", None),
    ("Go, slog", "2026/03/02 10:15:30 WARN slow order=7", "warn", None),
    ("Go, slog in logfmt", "time=2026-03-02T10:15:30.100Z level=ERROR+2 msg=boom", "error", None),
    ("Go, logrus", 'time="2026-03-02T10:15:30Z" level=warning msg=slow', "warn", None),
    ("Go, log15", "t=2026-03-02T10:15:30+0000 lvl=eror msg=boom", "error", None),
    ("Go, zap", "2026-03-02T10:15:30.100Z\tERROR\tmain.go:7\tboom", "error", None),
    ("Rust, tracing", "2026-03-02T10:15:30.100000Z ERROR shop: boom", "error", None),
    ("Rust on Lambda", f'{TIME}  INFO Lambda runtime invoke{{requestId="{ID}" xrayTraceId="x"}}: shop: m', "info", ID),
    ("Rust on Lambda, no time", f' WARN Lambda runtime invoke{{requestId="{ID}"}}: shop: m', "warn", ID),
    ("Rust, env_logger", "[2026-03-02T10:15:30Z WARN  shop::orders] slow", "warn", None),
    ("Serilog", "[10:15:30 FTL] boom", "critical", None),
    ("NLog", "2026-03-02 10:15:30.1000|ERROR|Shop.Orders|boom", "error", None),
    ("a custom runtime", f"START RequestId: {ID} Version: $LATEST", None, ID),
    ("a custom runtime", f"RequestId: {ID} Error: Runtime exited", None, ID),
    # free text: no level and no request
    ("free text", "order 7 accepted", None, None),
    ("free text", "ERROR at the start of a line that is free text", None, None),
    ("free text", "error: no such order", None, None),
    ("free text", "[error] in lower case", None, None),
    ("free text", "[NOTE] no level", None, None),
    ("free text", "2026-03-02 10:15:30 order accepted", None, None),
    ("free text", "2026-03-02T10:15:30.100Z\torder\taccepted", None, None),
    ("free text", "checkout-service: ERROR", None, None),
    ("free text", "12 orders", None, None),
    ("free text", f"order {ID} accepted", None, None),
    ("free text", "", None, None),
    ("free text", " ", None, None),
    ("free text", "\t", None, None),
    ("free text", "-", None, None),
    ("free text", "2", None, None),
    ("free text", "٣٣:٣٣:٣٣ ERROR", None, None),
]


@pytest.mark.parametrize(("who", "line", "level", "told"), TEXT_LINES)
def test_a_line_of_text_has_the_level_and_the_request_of_its_prefix(
    who: str, line: str, level: str | None, told: str | None
) -> None:
    """On Managed Instances a line that names no request has none; elsewhere it is the running one's."""
    record = logged(line + "\n", OTHER, ID, STRANGER, init_type=MANAGED_INSTANCES)
    assert (record.level, record.request_id, record.fields, record.body) == (level, told, None, line)
    assert logged(line, ID, OTHER).request_id == (told or OTHER)
    splunk, datadog, cloudwatch = sent(record)
    assert splunk["event"] == (line if line.strip() else {"message": line})
    assert datadog["message"] == cloudwatch["message"] == line
    assert splunk["fields"].get("level") == datadog.get("status") == cloudwatch["lambda"].get("level") == level


# --- which request ---------------------------------------------------------------------------------------------------

NAMES = [
    "aws_request_id", "awsRequestId", "AWSRequestId", "requestId", "request_id", "function_request_id",
    "functionRequestId", "FunctionRequestId", "faas.invocation_id", "faas.execution", "lambda.request_id",
    "aws.lambda.request_id", "lambda_request_id", "lambdaRequestId", "RequestId",
]  # fmt: skip
NESTED = [
    {"lambda": {"requestId": ID}}, {"lambda": {"request_id": ID}}, {"aws": {"lambda": {"request_id": ID}}},
    {"contextMap": {"AWSRequestId": ID}}, {"mdc": {"AWSRequestId": ID}}, {"faas": {"invocation_id": ID}},
    {"span": {"name": "Lambda runtime invoke", "requestId": ID}}, {"spans": [{"name": "a"}, {"requestId": ID}]},
    {"attributes": {"faas.invocation_id": ID}}, {"extra": {"aws_request_id": ID}},
    {"Scopes": [{"AwsRequestId": 1, "AWSRequestId": ID}]},
]  # fmt: skip


@pytest.mark.parametrize("fields", [{name: ID} for name in NAMES] + NESTED)
@pytest.mark.parametrize("init_type", [None, MANAGED_INSTANCES])
def test_a_json_record_names_its_request_as_loggers_do(fields: dict[str, Any], init_type: str | None) -> None:
    for body in ({**fields, "message": "m"}, json.dumps({"message": "m", **fields})):
        assert logged(body, ID, OTHER, init_type=init_type).request_id == ID


@pytest.mark.parametrize("name", NAMES)
def test_an_id_of_something_else_is_never_a_request(name: str) -> None:
    """An API's request id, or one that no request here has: on Managed Instances none, elsewhere the running one."""
    body = {name: STRANGER, "message": "m"}
    assert logged(body, ID, OTHER, init_type=MANAGED_INSTANCES).request_id is None
    assert logged(body, ID, OTHER).request_id == OTHER


@pytest.mark.parametrize("init_type", [None, MANAGED_INSTANCES])
def test_an_id_of_something_else_does_not_hide_the_requests(init_type: str | None) -> None:
    for body in (
        {"requestId": STRANGER, "aws_request_id": ID},
        {"requestId": STRANGER, "request_id": ID},
        {"aws_request_id": STRANGER, "requestId": ID},
        {"requestId": "api-7", "context": {"awsRequestId": ID}},
        f'{TIME}\t{ID}\tINFO\t{{"requestId":"{STRANGER}"}}',
        f'{TIME}\t{ID}\tINFO\t{{"awsRequestId":"{OTHER}"}}',
    ):
        assert logged(body, OTHER, ID, init_type=init_type).request_id == ID


@pytest.mark.parametrize("odd", ["", ID.upper(), ID + "0", ID[:-1], 7, None, [ID], {"id": ID}, "1-" + ID])
@pytest.mark.parametrize("name", ["requestId", "aws_request_id", "x-correlation-id", "correlationId", "traceId"])
def test_what_is_no_request_id_of_lambdas_is_not_taken_for_one(name: str, odd: object) -> None:
    assert logged({name: odd}, ID, init_type=MANAGED_INSTANCES).request_id is None


def test_a_correlation_id_is_no_request_even_if_it_is_equal() -> None:
    assert logged({"x-correlation-id": ID}, ID, init_type=MANAGED_INSTANCES).request_id is None


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"aws_request_id": ID}, ID),
        ({"timestamp": TIME, "level": "INFO", "requestId": ID}, ID),  # Lambda's own JSON
        ({"timestamp": TIME, "log_level": "ERROR", "requestId": ID}, ID),
        ({"requestId": ID}, None),  # of a call that the init made, perhaps
        ({"request_id": ID, "timestamp": TIME, "level": "INFO"}, None),
        (f"{TIME}\t{ID}\tINFO\tm", ID),
        (f"order {ID}", None),
    ],
)
@pytest.mark.parametrize("init_type", [None, MANAGED_INSTANCES])
def test_before_any_start_only_what_is_surely_a_request_is_believed(
    body: object, told: str | None, init_type: str | None
) -> None:
    """The last lines of the generation before come first; but in an init there is no request."""
    assert logged(body, init_type=init_type).request_id == told


def test_on_managed_instances_a_request_that_runs_is_known_however_many_come_and_go() -> None:
    enricher = WholeBatches(replace(ORIGIN, init_type=MANAGED_INSTANCES))
    enricher.enrich_all([item("platform.start", {"requestId": ID})], "a")
    for number in range(1000, 3000):
        one = {"requestId": request_id(number), "status": "success"}
        enricher.enrich_all([item("platform.start", one), item("platform.report", one)], "b")
    again = WholeBatches(replace(ORIGIN, init_type=MANAGED_INSTANCES))
    again.knowledge = enricher.knowledge
    for made in (enricher, again):
        long, last, first = made.enrich_all(
            [item("function", {"requestId": one}) for one in (ID, request_id(2999), request_id(1000))], "c"
        )
        assert (long.request_id, last.request_id, first.request_id) == (ID, request_id(2999), None)
        assert len(made.knowledge.known) <= 256


# --- numbers ---------------------------------------------------------------------------------------------------------

NUMBERS = [
    ("NaN", "null"),
    ("Infinity", "null"),
    ("-Infinity", "null"),
    ("1234567890.123456789012", "1234567890.123456789012"),
    ("-1234567890.123456789012", "-1234567890.123456789012"),
    ("0.1234567890123456789", "0.1234567890123456789"),
    ("9007199254740993.5", "9007199254740993.5"),
    ("9007199254740993.0", "9007199254740993.0"),
    ("1.234567890123456789e5", "1.234567890123456789e5"),
    ("1e-400", "1e-400"),
    ("-1.5E-320", "-1.5E-320"),
    ("4.94065645841246544176e-324", "4.94065645841246544176e-324"),
    ("123456789012345678901234567890.5", "123456789012345678901234567890.5"),
    ("0.1", "0.1"),
    ("0.30000000000000004", "0.30000000000000004"),
    ("-0.0", "-0.0"),
    ("1E5", "100000.0"),
    ("1e23", "1e23"),
    ("9223372036854775807", "9223372036854775807"),
    ("18446744073709551615", "18446744073709551615"),
    ("18446744073709551616", '"18446744073709551616"'),
    ("-9223372036854775809", '"-9223372036854775809"'),
    ("9" * 400, f'"{"9" * 400}"'),
    ("1e400", '"1e400"'),
    ("-1E999", '"-1E999"'),
]


@pytest.mark.parametrize(("number", "kept"), NUMBERS)
@pytest.mark.parametrize("prefix", ["", f"{TIME}\t{ID}\tINFO\t"])
def test_a_number_keeps_its_value_in_every_sink(number: str, kept: str, prefix: str) -> None:
    """Equal in all of them, and JSON for any reader: digits that a float has not are kept as they are."""
    record = logged(f'{prefix}{{"in":[{number}],"price":{number}, "text":"NaN {number}"}}\n', ID)
    splunk, datadog, cloudwatch = (_exactly(sink.encode(record).data) for sink in (SPLUNK, DATADOG, CLOUDWATCH))
    expected = _exactly(f'{{"in":[{kept}],"price":{kept},"text":"NaN {number}"}}'.encode())
    assert splunk["event"] == expected
    assert {name: cloudwatch[name] for name in expected} == expected
    assert _exactly(datadog["message"].encode()) == expected


def test_a_number_that_the_platform_sends_within_an_object_keeps_its_value() -> None:
    from telemetry_forwarder.records.record import decode

    body = b'[{"time":"%b","type":"function","record":{"amount":1234567890.123456789012}}]' % TIME.encode()
    (record,) = WholeBatches(ORIGIN).enrich_all(decode(body, 0)[0], "b")
    for sink in (SPLUNK, DATADOG, CLOUDWATCH):
        assert b"1234567890.123456789012" in sink.encode(record).data


def _exactly(data: bytes) -> Any:
    """Parse strictly, every number as a pair of its sort and value, so that none is rounded."""
    from decimal import Decimal

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    return json.loads(
        data,
        parse_constant=refuse,
        parse_float=lambda digits: ("number", Decimal(digits), digits.startswith("-")),
        parse_int=lambda digits: ("number", Decimal(digits), digits.startswith("-")),
    )


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"a":1,"a":2}', {"a": 2}),
        ('{"a":"\\ud800"}', {"a": "\ufffd"}),
        ('{"a":"\\u0000\\u0007"}', {"a": "\0\7"}),
        ('{"\\ud83d\\ude00":1}', {"\U0001f600": 1}),
    ],
)
def test_what_readers_may_differ_on_is_one_thing_in_every_sink(text: str, value: object) -> None:
    splunk, datadog, cloudwatch = sent(logged(text, ID))
    cloudwatch.pop("lambda")
    assert splunk["event"] == cloudwatch == value
    if "ud800" in text:  # no reader of its own can be trusted with it
        assert json.loads(datadog["message"]) == value


def test_a_sound_line_is_sent_to_datadog_as_it_is() -> None:
    line = '{"level": "INFO",  "price": 1.10, "n": 0.30000000000000004}'
    record = logged(line, ID)
    assert not isinstance(record.fields, Restated)
    assert sent(record)[1]["message"] == line


@pytest.mark.parametrize(
    "line",
    [
        f"2026-03-02 10:15:30{' ' * 200_000}",
        f"{ID}{' ' * 200_000}",
        f"{TIME}\t{ID}\t{' ' * 200_000}",
        f"ERROR\t{'{' * 200_000}",
        f"[{'A' * 200_000}",
        f"[{' ' * 200_000}",
        f"time={'x' * 200_000}",
        f" {' ' * 200_000}",
        f"I, [2026-03-02T10:15:30 #8] {' ' * 200_000}INFO{' ' * 200_000}",
        "9." * 200_000,
        "{" + '"' * 200_000 + "}",
        {"level": "\x1b[" * 200_000},
    ],
)
def test_a_line_made_to_be_slow_is_read_in_one_pass(line: object) -> None:
    """Were it more than one, the time limit of a test would be over."""
    assert read(line)[0] in (None, line)


# --- any line at all -------------------------------------------------------------------------------------------------


@given(st.text() | st.text(alphabet='[]{}":\t 0123456789-TZ.INFOabcdef|,=#') | JSON)
def test_any_line_is_read(body: Any) -> None:
    fields, level, ids, is_sure = read(body)
    assert fields is None or isinstance(fields, dict)
    assert level in (None, "debug", "info", "warn", "error", "critical")
    assert isinstance(ids, tuple)
    assert is_sure in (True, False)
    if isinstance(body, str):
        assert fields_in(body) == fields


@given(st.dictionaries(st.sampled_from(["level", "log", "severity", "status", "levelno", "record", "@t", "@m"]), JSON))
def test_any_object_has_a_level_or_none(fields: dict[str, Any]) -> None:
    assert level_of(fields) in (None, "debug", "info", "warn", "error", "critical")


# Parts of what runtimes write before a message, sound and damaged.
_TIMES = st.sampled_from(
    [TIME, TIME[:-2] + "x" + "Z", TIME[:10] + " " + TIME[11:], TIME[:-1] + "456Z", "10:15:30Z", ""]
)
_LEVELS = st.sampled_from(["INFO", "ERROR", "info", "ORDER", "WARNING", ""])
_IDS = st.sampled_from([ID, OTHER, ID[:-1], "undefined", ""])
_TABS = st.sampled_from(["\t", "\t", "\t", " ", ""])
_MESSAGES = st.sampled_from(["done", "ERROR\tfailed", '{"level":"warn"}', ' {"level":"warn"}', "", "Z\t"])
_PYTHON = st.tuples(st.just("["), _LEVELS, st.just("]"), _TABS, _TIMES, _TABS, _IDS, _TABS, _MESSAGES).map("".join)
_NODE = st.tuples(_TIMES, _TABS, _IDS, _TABS, _LEVELS, _TABS, _MESSAGES).map("".join)


@given(st.lists(_PYTHON | _NODE, min_size=2, max_size=6))
def test_a_line_is_read_the_same_whatever_was_read_before_it(lines: list[str]) -> None:
    """The last prefix is remembered. It must not be taken for another."""
    alone = []
    for line in lines:
        read(f"[INFO]\t{TIME}\t{STRANGER}\tof none of them")
        alone.append(read(line))
    assert [read(line) for line in lines] == alone
    assert [read(line) for line in reversed(lines)] == alone[::-1]


def test_a_level_behind_a_request_id_is_read_although_the_line_before_had_none() -> None:
    assert read(f"{TIME}\t{ID}\tERROR no tab")[1] is None
    assert read(f"{TIME}\t{ID}\tERROR\twith a tab")[1] == "error"


def test_a_damaged_time_hides_no_request() -> None:
    assert read(f"[ERROR]\t{TIME[:5]}\ufffd{TIME[6:]}\t{ID}\tfailed")[1:3] == ("error", (ID,))
