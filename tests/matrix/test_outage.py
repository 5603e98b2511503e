"""An outage of one of two backends, and its effect on the invocations, the other backend and the records."""

import statistics
from collections import Counter
from pathlib import Path

import pytest

from local_backends import Answer, Fault, Hang
from tests.matrix.books import arrived, books, differences, emitted
from tests.matrix.course import WORK_S
from tests.matrix.world import MatrixWorld, open_world

TIMEOUT_S = 3.0
OUTAGE = 30
# More lines than memory holds during the outage, so that the spool has to take the rest.
LINES, IN_MEMORY = 100, 1000
# The longest hold allowed while a backend hangs: the default flush timeout, plus the slowness of this machine.
HOLD_MS = 500 + 250
# The breaker has opened after so many invocations.
OPENED = 10


@pytest.mark.parametrize("fault", [Hang(None, times=None), Answer(503, times=None)], ids=["hang", "503"])
async def test_outage_of_one_backend_costs_the_other_nothing_and_loses_nothing(fault: Fault, tmp_path: Path) -> None:
    """An invocation is held at most the flush timeout, then no longer than without an outage.

    The healthy backend has each line before the freeze; after the outage every record has arrived once.
    """
    variables = {"TELEMETRY_FORWARDER_FLUSH": "end", "TELEMETRY_FORWARDER_BUFFER_RECORDS": str(IN_MEMORY)}
    async with open_world(tmp_path, ["splunk", "datadog"], timeout_s=10.0, **variables) as opened:
        well = [await _held_ms(opened) for _ in range(6)][1:]
        opened.base.splunk.faults.script(fault)
        held = [await _held_ms(opened) for _ in range(OUTAGE)]
        opened.base.splunk.faults.clear()
        opened.base.splunk.drop_connections()  # a restarted service does not answer requests that hung
        for _ in range(3):
            await _held_ms(opened)
        await opened.env.shutdown()
        assert LINES * OUTAGE > IN_MEMORY
        print(f"held ms: well {_short(well)}, outage {_short(held)}")
        assert max(held) < HOLD_MS
        assert statistics.median(held[OPENED:]) < statistics.median(well) + 20
        for sink in ("splunk", "datadog"):
            found = differences(emitted(opened.base), arrived(opened.base, sink), Counter())
            assert (found.missing, found.repeated, found.invented) == (0, 0, []), sink
            assert books(opened.base.ledgers, sink).is_balanced
            assert not books(opened.base.ledgers, sink).lost


async def _held_ms(opened: MatrixWorld) -> float:
    """Invoke once and return the hold; assert that the healthy backend has all lines when the environment is frozen."""
    result = await opened.invoke(lines=LINES, sleep=WORK_S)
    assert result.status == "success"
    assert sum(opened.base.numbers("datadog").values()) == opened.lines
    assert result.extension_overhead_ms is not None
    return result.extension_overhead_ms


def _short(held: list[float]) -> str:
    return " ".join(f"{each:.0f}" for each in held)


@pytest.mark.parametrize("fault", [Hang(None, times=None), Answer(503, times=None)], ids=["hang", "503"])
async def test_what_a_timeout_in_an_outage_leaves_is_delivered_by_the_next_generation(
    fault: Fault, tmp_path: Path
) -> None:
    """The lines of the function that timed out and the report of its timeout arrive once each."""
    async with open_world(tmp_path, ["splunk", "datadog"], timeout_s=TIMEOUT_S) as opened:
        await opened.invoke(sleep=WORK_S)
        for sink in ("splunk", "datadog"):
            opened.base.backend(sink).faults.script(fault)
        late = await opened.invoke(sleep=TIMEOUT_S + 1)
        assert late.status == "timeout"
        assert opened.base.splunk.requests, "the outage was noticed"
        for sink in ("splunk", "datadog"):
            assert sum(opened.base.numbers(sink).values()) < opened.lines, "nothing gets through"
            opened.base.backend(sink).faults.clear()
        after = await opened.invoke(sleep=WORK_S)
        assert after.status == "success"
        await opened.env.shutdown()
        for sink in ("splunk", "datadog"):
            found = differences(emitted(opened.base), arrived(opened.base, sink), Counter())
            assert (found.missing, found.repeated, found.invented) == (0, 0, []), sink
            (report,) = [
                one
                for one in opened.base.arrived(sink)
                if one["type"] == "platform.report" and one["request_id"] == late.request_id
            ]
            assert "timeout" in str(report["raw"])
