"""The time an invocation is held after its function has ended: part of `make bench`, or alone.

The function writes five lines and takes 10 ms; there is one backend (Splunk HEC), and the real executable on the local
Lambda. Held is the time from the end of the runtime until the extension asks for the next event. Nothing here is a
test.
"""

import asyncio
import statistics
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from local_backends import Fault, Hang, Slow
from tests.matrix.world import MatrixWorld, open_world

STRATEGIES = ("end", "periodic", "continuous", "adaptive")
INVOCATIONS = 200
_HANGING = 60
WORK_S = 0.01
_ANSWER_S = 0.02
_BUFFERING_MS = 25.0
FLUSH_TIMEOUT_MS = 500.0
# The targets: what the extension may add to Lambda's buffering and one round trip; and what the other strategies may
# add.
_OWN_MS = 5.0
_ASIDE_MS = 2.0
# The circuit breaker has opened after so many invocations.
OPENED = 10


def main() -> None:
    asyncio.run(show())


async def show() -> None:
    """Print the table of the strategies, then that with a hanging backend."""
    print(f"{'held after the function, ms':<44}{'p50':>8}{'p95':>8}{'max':>8}{'target':>20}")
    for strategy in STRATEGIES:
        aside = strategy in ("periodic", "continuous")
        target = _ASIDE_MS if aside else _BUFFERING_MS + _ANSWER_S * 1000 + _OWN_MS
        held = await measure(strategy, Slow(_ANSWER_S, times=None), INVOCATIONS)
        row(f"{strategy}, a backend that answers in {_ANSWER_S * 1000:.0f} ms", held, f"p50 <= {target:.0f}")
    for strategy in STRATEGIES:
        held = await measure(strategy, Hang(None, times=None), _HANGING)
        row(f"{strategy}, a hanging backend, first {OPENED}", held[:OPENED], f"max <= {FLUSH_TIMEOUT_MS:.0f}")
        row(f"{strategy}, a hanging backend, from then on", held[OPENED:], "nothing added")


def row(what: str, held: Sequence[float], target: str) -> None:
    p95 = statistics.quantiles(held, n=20, method="inclusive")[-1]
    print(f"{what:<44}{statistics.median(held):>8.1f}{p95:>8.1f}{max(held):>8.1f}{target:>20}")


async def measure(strategy: str, fault: Fault, invocations: int) -> list[float]:
    """Return the time each invocation was held, in milliseconds, without the cold one."""
    held = []
    async with opened(strategy) as open_matrix:
        await open_matrix.invoke(sleep=WORK_S)
        open_matrix.base.splunk.faults.script(fault)
        for _ in range(invocations):
            result = await open_matrix.invoke(sleep=WORK_S)
            if result.extension_overhead_ms is None:
                raise RuntimeError(f"an invocation ended with {result.status}")
            held.append(result.extension_overhead_ms)
        if not open_matrix.base.splunk.requests:
            raise RuntimeError("the extension sent nothing, so that nothing was measured")
    return held


@asynccontextmanager
async def opened(strategy: str) -> AsyncIterator[MatrixWorld]:
    with tempfile.TemporaryDirectory() as folder:
        async with open_world(
            Path(folder), ["splunk"], timeout_s=10.0, TELEMETRY_FORWARDER_FLUSH=strategy
        ) as open_matrix:
            yield open_matrix


if __name__ == "__main__":
    main()
