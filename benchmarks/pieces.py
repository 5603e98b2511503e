"""`make bench`: the cost of the extension's parts, as ratios measured in one run (the machine's speed cancels out).

Each figure is the median of interleaved pairs; nothing here passes or fails.
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import orjson

from benchmarks.cold import Refusing
from benchmarks.measure import run_cpu_s
from telemetry_forwarder.clock import SystemClock
from telemetry_forwarder.delivery.worker import Capacity, Worker
from telemetry_forwarder.intake.intake import Intake
from telemetry_forwarder.intake.router import Router
from telemetry_forwarder.ledger import IntakeCounts
from telemetry_forwarder.log import Log
from telemetry_forwarder.records.enrich import Enricher
from telemetry_forwarder.records.record import Origin, Record
from telemetry_forwarder.sinks import load
from telemetry_forwarder.spool.backlog import Backlog
from telemetry_forwarder.spool.files import SegmentFiles
from telemetry_forwarder.spool.segments import Owner
from telemetry_forwarder.spool.spool import Spool
from telemetry_forwarder.variables.reading import read_all

ROOT = Path(__file__).parent.parent
_RUNS = 15
_BATCH = 1000


def main() -> None:
    print(f"{'what':<58}{'median':>12}{'against':>26}{'ratio':>8}")
    with Refusing() as refusing:
        bare = [sys.executable, "-I", "-S", "-c", "pass"]
        path = f"import sys; sys.path.insert(0, {str(ROOT)!r});"
        ours = [sys.executable, "-I", "-S", "-c", path +
                "from telemetry_forwarder.bootstrap import main;"
                f"main('x', {{'AWS_LAMBDA_RUNTIME_API': {refusing.address!r},"
                "'TELEMETRY_FORWARDER_PORT': '42431', 'DD_API_KEY': 'k'})"]  # fmt: skip
        whole = [
            sys.executable,
            "-I",
            "-c",
            f"import sys; sys.path.insert(0, {str(ROOT)!r}); import telemetry_forwarder.app",
        ]
        pair(
            "CPU until /register is answered",
            "a bare interpreter",
            lambda: run_cpu_s(ours)[0],
            lambda: run_cpu_s(bare)[0],
        )
        pair(
            "CPU until the application is loaded",
            "a bare interpreter",
            lambda: run_cpu_s(whole)[0],
            lambda: run_cpu_s(bare)[0],
        )
    body = batch()
    pair("take 1,000 records, three sinks", "orjson.loads of them", lambda: take(body), lambda: loads(body))
    with tempfile.TemporaryDirectory() as directory:
        pair(
            "take 1,000 records and write them to the spool",
            "without the spool",
            lambda: take(body, directory),
            lambda: take(body),
        )
    for what, line in LINES.items():
        written = _batch_of(line)
        pair(
            f"decode and enrich 1,000 of {what}",
            "orjson.loads of them",
            lambda written=written: timed(lambda: enriched(written)),
            lambda written=written: loads(written),
        )
    for name, environ in {**SINKS, **_OTLP}.items():
        sink = load(name.partition(" ")[0])(read_all(environ)).sink
        records = enriched(body)
        pair(
            f"encode 1,000 records for {name}",
            "orjson.dumps of them",
            lambda sink=sink, records=records: timed(lambda: sink.request([sink.encode(record) for record in records])),
            lambda: timed(lambda: orjson.dumps(orjson.loads(body))),
        )


SINKS = {
    "splunk": {"SPLUNK_HEC_URL": "http://127.0.0.1:1", "SPLUNK_HEC_TOKEN": "t"},
    "datadog": {"DD_API_KEY": "k"},
    "cloudwatch": {"CLOUDWATCH_LOG_GROUP": "g"},
}
_OTLP = {
    "otlp": {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://h"},
    "otlp as JSON": {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://h", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"},
}
_WHEN = "2026-11-23T10:00:00.123Z"
_PREFIX = f"{_WHEN}\t5d0c2c7e-8a51-4f0e-9c6b-2f1f6f0b7a11\tINFO\t"
# Log lines of several kinds, each with a different effort to parse.
LINES: dict[str, Callable[[int], object]] = {
    "plain text": lambda i: f"order {i} accepted\n",
    "Node.js' text": lambda i: f"{_PREFIX}order {i} accepted\n",
    "Node.js' text that holds JSON": lambda i: _PREFIX + f'{{"level":"error","orderId":{i},"message":"order {i}"}}\n',
    "JSON as text": lambda i: f'{{"level":"info","time":1772446530100,"msg":"order {i}"}}\n',
    "JSON as text, long decimals": lambda i: f'{{"level":"info","msg":"order {i}","price":{i / 7}}}\n',
    "JSON": lambda i: {"timestamp": _WHEN, "level": "INFO", "message": f"order {i}"},
    "JSON by Monolog": lambda i: {"message": f"order {i}", "context": {}, "level": 400, "level_name": "ERROR"},
}
ORIGIN = Origin(function_name="orders", region="eu-west-1", account_id="123456789012", memory_mb=512)


def pair(what: str, against: str, first: Callable[[], float], second: Callable[[], float]) -> None:
    """Measure both in turn; print the first one's median, and the median of the ratios."""
    first(), second()
    figures = [(first(), second()) for _ in range(_RUNS)]
    median = statistics.median(a for a, _ in figures)
    ratio = statistics.median(a / b for a, b in figures)
    print(f"{what:<58}{median * 1000:>9.2f} ms{against:>26}{ratio:>8.1f}")


def timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def batch() -> bytes:
    """Return a telemetry body of plain and JSON lines."""
    when = "2026-11-23T10:00:00.123Z"
    lines = [
        {"time": when, "type": "function", "record": f"order {i} accepted\n"}
        if i % 2
        else {"time": when, "type": "function", "record": {"level": "INFO", "message": f"order {i}", "price": i / 7}}
        for i in range(_BATCH)
    ]
    return orjson.dumps(lines)


def _batch_of(line: Callable[[int], object]) -> bytes:
    """Return a telemetry body of lines of one kind."""
    return orjson.dumps([{"time": _WHEN, "type": "function", "record": line(i)} for i in range(_BATCH)])


def take(body: bytes, directory: str | None = None) -> float:
    """Return the seconds one body takes through the intake into three buffers, and into the spool in `directory`."""
    counts = IntakeCounts()
    clock, log = SystemClock(), Log("error")
    files = SegmentFiles(directory) if directory else None
    spool = None
    if files is not None:
        owner = Owner(function="orders", version=None)
        spool = Spool(files, owner=owner, sinks=[*SINKS], max_bytes=1 << 26, clock=clock, log=log)
    workers = [
        Worker(
            load(name)(read_all(environ)).sink,
            None,  # type: ignore[arg-type]
            capacity=Capacity(100_000, 1 << 30),
            clock=clock,
            log=log,
            backlog=Backlog(spool, name, ORIGIN) if spool else None,
        )
        for name, environ in SINKS.items()
    ]
    intake = Intake(
        enricher=Enricher(ORIGIN),
        router=Router(("function",), workers, counts),
        counts=counts,
        on_events=lambda records: None,
        clock=clock,
        log=log,
        spool=spool,
    )
    seconds = timed(lambda: intake.take(body, "s"))
    if files is not None:
        for number in files.numbers():
            files.remove(number)
        files.close()
    return seconds


def loads(body: bytes) -> float:
    return timed(lambda: orjson.loads(body))


def enriched(body: bytes) -> list[Record]:
    from telemetry_forwarder.records.record import decode

    items = decode(body, 0).items
    return [record for some in Enricher(ORIGIN).enrich(items, "0" * 24, len(items)) for record in some]


if __name__ == "__main__":
    main()
