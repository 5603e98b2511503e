"""The longest round of the event loop while 4,000 lines arrive at 128 MB: part of `make bench`, or alone.

Everything due meanwhile (the end of a hold, an answer) waits for the end of the round. Rounds are measured in the real
executable with the processor share of 128 MB (a control group), in CPU time and by the clock; such a share stands still
for most of each tenth of a second. Nothing here is a test.
"""

import asyncio
import sys
import tempfile
import time
from pathlib import Path

from local_lambda.errors import LimitsUnavailable
from tests.matrix.world import open_world

_WATCHED = Path(__file__).parent / "programs/watched.py"
SINKS = ("splunk", "datadog", "cloudwatch")
_MEMORY_MB = 128
LINES = 4000
INVOCATIONS = 3
WORK_S = 0.01
# The longest steps: a slice of work (turns.py), checking a telemetry body, compressing a piece; the AWS SDK builds a
# request in one step.
_TARGET_MS = {"splunk": 15, "datadog": 15, "cloudwatch": 30}


def main() -> None:
    try:
        asyncio.run(show())
    except LimitsUnavailable as error:
        print(f"rounds of the event loop at {_MEMORY_MB} MB: not measured. {error}")


async def show() -> None:
    what = f"longest round, {LINES:,} lines at {_MEMORY_MB} MB"
    print(f"{what:<44}{'CPU, ms':>10}{'clock, ms':>11}{'held, ms':>10}{'target':>18}")
    for sink in SINKS:
        cpu_s, took_s, held_ms = await measure(sink)
        target = f"CPU <= {_TARGET_MS[sink]}"
        print(f"{sink:<44}{cpu_s * 1000:>10.1f}{took_s * 1000:>11.0f}{held_ms:>10.0f}{target:>18}")


async def measure(sink: str) -> tuple[float, float, float]:
    """Return the longest round in CPU seconds and in seconds by the clock, and the longest hold in milliseconds."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        noted = folder / "rounds"
        extension = folder / "telemetry-forwarder"
        extension.write_text(f"#!/bin/sh\nexec {sys.executable} -I {_WATCHED}\n")
        extension.chmod(0o755)
        given = {"WATCHED_FILE": str(noted), "TELEMETRY_FORWARDER_INIT_BUDGET_MS": "9000"}
        async with open_world(
            folder, [sink], timeout_s=30.0, memory_mb=_MEMORY_MB, extension=extension, **given
        ) as opened:
            await opened.invoke(sleep=WORK_S)  # the first one connects and loads modules
            began, held = time.time(), []
            for _ in range(INVOCATIONS):
                result = await opened.invoke(lines=LINES, sleep=WORK_S)
                held.append(result.extension_overhead_ms or 0.0)
            await opened.env.shutdown()
        rounds = [tuple(map(float, line.split())) for line in noted.read_text().splitlines()]
    cpu_s, took_s = zip(*[(cpu, took) for ended, cpu, took in rounds if ended >= began], strict=True)
    return max(cpu_s), max(took_s), max(held)


if __name__ == "__main__":
    main()
