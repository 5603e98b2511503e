"""What the first invocation of an environment pays for, by memory size and by what is configured.

    python -m benchmarks.first --layer DIR [--before DIR] [--sizes 256,1769] [--only NAME] [--rounds N]

prints a row for each size and configuration: the ms added to the first response, the ms for which the invocation is
held behind it, what is billed for INIT and the invocation together, and when the records of that invocation arrived:
so many ms behind the response, or with the second invocation, or at SHUTDOWN. Each cell has the version before and the
present one. The CPU is the extension's own until the invocation ends. DIR is an unpacked layer or an older checkout.
"""

import argparse
import asyncio
import base64
import contextlib
import gzip
import json
import math
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measure import MARK, cpu_s, free_port, median, process_of
from benchmarks.subjects import BEFORE, NOTHING, OURS, PROGRAMS, Subject, subjects
from benchmarks.world import PLATFORM, Backend, function
from local_backends import SecretsManager
from local_lambda import LocalLambda
from local_lambda.errors import EnvironmentClosed

SIZES = (128, 256, 512, 1024, 1769)
_TOKEN = "00000000-0000-0000-0000-000000000000"  # noqa: S105 - of nobody
_SECRET = "benchmark/token"  # noqa: S105 - its name
_LINE = b"order 00000000 of customer"


@dataclass(frozen=True)
class Configuration:
    """The sinks that run, whether Splunk's token is a reference, and whether the function asks for a secret."""

    name: str
    sinks: tuple[str, ...] = ("splunk",)
    has_reference: bool = False
    is_served: bool = False

    @property
    def event(self) -> dict[str, object]:
        return {"lines": 1, **({"secret": _SECRET} if self.is_served else {})}

    def variables(self, backend: Backend, secrets: SecretsManager) -> dict[str, str]:
        address = f"http://127.0.0.1:{backend.port}"
        found = {
            "TELEMETRY_FORWARDER_PORT": str(free_port()),
            "TELEMETRY_FORWARDER_SINKS": ",".join(self.sinks),
            "PARAMETERS_SECRETS_EXTENSION_HTTP_PORT": str(free_port()),
            "SPLUNK_HEC_URL": address,
            "DD_API_KEY": _TOKEN,
            "DD_LOGS_CONFIG_LOGS_DD_URL": address,
            "CLOUDWATCH_LOG_GROUP": "/benchmark",
            "AWS_ENDPOINT_URL_CLOUDWATCH_LOGS": address,
            "FIREHOSE_STREAM_NAME": "benchmark",
            "AWS_ENDPOINT_URL_FIREHOSE": address,
            "AWS_ENDPOINT_URL_SECRETS_MANAGER": secrets.url,
            "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
            "AWS_SECRET_ACCESS_KEY": "of-nobody",
            "AWS_SESSION_TOKEN": "of-nobody",
        }
        if self.has_reference:
            found["SPLUNK_HEC_TOKEN_SECRET_ARN"] = secrets.secret_arn(_SECRET)
        else:
            found["SPLUNK_HEC_TOKEN"] = _TOKEN
        if self.is_served:
            found["TELEMETRY_FORWARDER_SECRETS"] = "token"
            found["TELEMETRY_FORWARDER_SECRETS_PREFETCH"] = f"secretsmanager:{_SECRET}"
        return found


CONFIGURATIONS = (
    Configuration("one HTTP sink"),
    Configuration("its token by reference", has_reference=True),
    Configuration("CloudWatch Logs", ("cloudwatch",)),
    Configuration("Firehose", ("firehose",)),
    Configuration("all three sinks", ("splunk", "datadog", "cloudwatch")),
    Configuration("a secret served", is_served=True),
)


class Arrivals(Backend):
    """Notes when each sink first brought the line that the function printed."""

    def __init__(self) -> None:
        super().__init__()
        self.at: dict[str, float] = {}

    def on_request(self, head: bytes, body: bytes) -> None:
        sink = next((name for sign, name in _SIGNS.items() if sign in head), "datadog")
        if _LINE in _lines_in(sink, head, body):
            self.at.setdefault(sink, time.perf_counter())


_SIGNS = {b"firehose_": "firehose", b"x-amz-target": "cloudwatch", b"/services/collector": "splunk"}


def _lines_in(sink: str, head: bytes, body: bytes) -> bytes:
    """Return a body as it was before it was packed or put in base64."""
    if sink == "firehose":
        return b"".join(base64.b64decode(one["Data"]) for one in json.loads(body)["Records"])
    return gzip.decompress(body) if b"content-encoding: gzip" in head else body


@dataclass(frozen=True)
class Start:
    """One environment's start. Times in ms; `response` counts from the start of INIT, `arrived` from the response.

    `arrived` is infinite if the records did not come before the invocation had ended; `late` says when they came.
    """

    response: float
    held: float
    billed: float
    arrived: float
    late: str
    cpu: float


async def once(subject: Subject, memory_mb: int, configured: Configuration) -> Start:
    """Start one environment and invoke it, once more if its records did not arrive, and shut it down if need be."""
    mark = uuid.uuid4().hex
    async with contextlib.AsyncExitStack() as stack:
        spool = stack.enter_context(tempfile.TemporaryDirectory())
        backend = await stack.enter_async_context(Arrivals())
        secrets = await stack.enter_async_context(SecretsManager(secrets={_SECRET: _TOKEN}))
        given = {MARK: mark, "TELEMETRY_FORWARDER_SPOOL_DIR": spool, **configured.variables(backend, secrets)}
        began = time.perf_counter()
        env = await stack.enter_async_context(
            LocalLambda(function(memory_mb, given), subject.executables, platform=PLATFORM)
        )
        asked = time.perf_counter()
        result = await env.invoke(configured.event if subject.name != NOTHING else {"lines": 1})
        if result.status != "success":
            raise RuntimeError(f"{subject.name}: the first invocation ended as {result.status}: {result.payload!r}")
        answered = asked + (result.response_ms or 0.0) / 1000
        arrived, late, cpu = math.inf, "", 0.0
        if subject.name != NOTHING:
            cpu = cpu_s(process_of(mark, but_not=str(PROGRAMS / "function.py"))) * 1000
            if all(sink in backend.at for sink in configured.sinks):
                arrived = (max(backend.at.values()) - answered) * 1000
            else:
                late = await _later(env, backend, configured)
        with contextlib.suppress(EnvironmentClosed):
            await env.kill()
        return Start(
            response=(answered - began) * 1000,
            held=result.extension_overhead_ms or 0.0,
            billed=result.billed_ms or 0.0,
            arrived=arrived,
            late=late,
            cpu=cpu,
        )


async def _later(env: LocalLambda, backend: Arrivals, configured: Configuration) -> str:
    """Go on until the records arrive; return with what they did."""
    await env.invoke({})
    if all(sink in backend.at for sink in configured.sinks):
        return "2nd"
    await env.shutdown()
    return "SHUTDOWN" if all(sink in backend.at for sink in configured.sinks) else "never"


async def row(compared: Sequence[Subject], memory_mb: int, configured: Configuration, rounds: int) -> str:
    """Return the row of one size and configuration: medians of `rounds` in which everything runs in turn."""
    found: dict[str, list[Start]] = {subject.name: [] for subject in compared}
    for _ in range(rounds):
        for subject in compared:
            found[subject.name].append(await once(subject, memory_mb, configured))
    bare = found.pop(NOTHING)
    cells: list[list[str]] = [[] for _ in range(5)]
    for runs in found.values():
        added = median([run.response - other.response for run, other in zip(runs, bare, strict=True)])
        figures = (added, median([run.held for run in runs]), median([run.billed for run in runs]))
        for place, figure in enumerate(figures):
            cells[place].append(f"{figure:.0f}")
        cells[3].append(_arrival(runs))
        cells[4].append(f"{median([run.cpu for run in runs]):.0f}")
    alone = median([run.billed for run in bare])
    columns = " | ".join(" → ".join(cell) for cell in cells)
    return f"| {memory_mb} | {configured.name} | {alone:.0f} | {columns} |"


def _arrival(runs: Sequence[Start]) -> str:
    """Return when the records arrived: the median, and of those that came later how many and when."""
    with_it = [run.arrived for run in runs if run.arrived < math.inf]
    late = sorted({run.late for run in runs if run.late})
    if not late:
        return f"{median(with_it):.0f}"
    return ", ".join(f"{name} ({sum(run.late == name for run in runs)} of {len(runs)})" for name in late)


def _is_layer(folder: Path) -> bool:
    return (folder / "telemetry-forwarder" / "bin").is_dir()


@contextlib.contextmanager
def chosen(layer: Path, before: Path | None, python: Path) -> Iterator[list[Subject]]:
    """Yield the subjects: no extension, the version before if one is given, and the layer."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found = {one.name: one for one in subjects(folder, python, None, before)}
        compared = [found[NOTHING]]
        if before is not None:
            compared.append(_in_layer(folder / "before", before, BEFORE) if _is_layer(before) else found[BEFORE])
        yield [*compared, _in_layer(folder / "ours", layer, OURS)]


def _in_layer(folder: Path, layer: Path, name: str) -> Subject:
    """Return the subject that runs the extension of an unpacked layer, which is mounted at /opt for it alone."""
    folder.mkdir()
    program = folder / "telemetry-forwarder"
    source = PROGRAMS / "in_layer.c"
    options = ["-O2", "-D_GNU_SOURCE", f'-DLAYER="{layer.resolve()}"']
    subprocess.run(["/usr/bin/env", "cc", *options, "-o", str(program), str(source)], check=True)
    return Subject(name, program)


async def table(compared: Sequence[Subject], sizes: Sequence[int], only: Mapping[str, bool], rounds: int) -> None:
    print("| MB | configured | billed without | response added | held | billed | records arrived | CPU |", flush=True)
    print("| ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: |", flush=True)
    for memory_mb in sizes:
        for configured in CONFIGURATIONS:
            if only.get(configured.name, not only):
                print(await row(compared, memory_mb, configured, rounds), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layer", type=Path, required=True, help="the unpacked layer to measure")
    parser.add_argument("--before", type=Path, help="another unpacked layer, or a checkout, to compare with")
    parser.add_argument("--python", type=Path, default=Path(sys.executable), help="run that checkout with this")
    parser.add_argument("--sizes", default=",".join(map(str, SIZES)), help="memory sizes, in MB")
    parser.add_argument("--only", action="append", default=[], choices=[one.name for one in CONFIGURATIONS])
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    sizes = [int(size) for size in options.sizes.split(",")]
    with chosen(options.layer, options.before, options.python) as compared:
        asyncio.run(table(compared, sizes, dict.fromkeys(options.only, True), options.rounds))


if __name__ == "__main__":
    main()
