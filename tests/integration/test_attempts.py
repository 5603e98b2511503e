"""With the real executable: hanging, refusing and slow backends that are well before the end cost no record."""

import re
from typing import Any

import pytest

from local_backends import Answer, BadEvent, Hang, Slow
from local_backends.faults import ANY
from tests.integration.world import SINKS, World, assert_balanced, world

# The flush time-out, and what a busy machine adds to it.
HELD_MS = 500 + 100


async def short_invocations(w: World[Any], count: int, lines: int) -> list[float]:
    """Invoke `count` times; return for how many ms each was held after the function's end."""
    held = []
    for number in range(count):
        result = await w.env.invoke({"first": number * lines, "lines": lines})
        assert result.status == "success"
        held.append(result.extension_overhead_ms or 0.0)
    return held


def assert_nothing_lost(w: World[Any], lines: int, sinks: tuple[str, ...] = SINKS) -> None:
    (ledger,) = w.ledgers
    assert_balanced(ledger)
    for sink in sinks:
        assert set(w.numbers(sink)) == set(range(lines)), sink
        assert ledger["sinks"][sink]["dropped"] == {}, sink


@pytest.mark.parametrize("strategy", ["end", "periodic", "continuous", "adaptive"])
@pytest.mark.parametrize("hangs", [2, 3])
async def test_requests_that_hang_are_not_the_only_ones(strategy: str, hangs: int) -> None:
    async with world(environment={"TELEMETRY_FORWARDER_FLUSH": strategy}) as w:
        for sink in SINKS:
            w.backend(sink).faults.script(Hang(times=hangs))
        held = await short_invocations(w, 10, 20)
        await w.env.shutdown()
        assert_nothing_lost(w, 200)
        assert max(held) <= HELD_MS


async def test_a_wrong_index_is_held_as_a_wrong_token_is_and_nothing_is_lost_once_it_is_mended() -> None:
    async with world(environment={"TELEMETRY_FORWARDER_SINKS": "splunk", "SPLUNK_INDEX": "typo"}) as w:
        w.splunk.faults.always(BadEvent(at=0, code=7, times=None))
        held = await short_invocations(w, 8, 400)
        refused = len(w.splunk.requests)
        w.splunk.faults.clear()
        await w.env.shutdown()
        assert_nothing_lost(w, 3200, ("splunk",))
        assert refused <= 3
        assert sum(held[1:]) <= HELD_MS
        said = [line for line in w.said if "Incorrect index" in line["message"]]
        assert [line["level"] for line in said] == ["WARN"]
        assert "SPLUNK_INDEX" in said[0]["message"]


@pytest.mark.parametrize("sink", SINKS)
@pytest.mark.parametrize("status", [400, 413])
async def test_a_destination_that_refuses_everything_is_left_alone(sink: str, status: int) -> None:
    async with world(environment={"TELEMETRY_FORWARDER_SINKS": sink}) as w:
        backend = w.backend(sink)
        code = "InvalidParameterException" if sink == "cloudwatch" and status == 400 else None
        backend.faults.always(Answer(status, times=None, code=code))
        held = await short_invocations(w, 8, 400)
        deliveries = [each for each in backend.requests if sink != "cloudwatch" or each.operation == "PutLogEvents"]
        backend.faults.clear()
        await w.env.shutdown()
        assert_nothing_lost(w, 3200, (sink,))
        assert len(deliveries) <= 10
        assert max(held) <= HELD_MS
        assert sum(held[2:]) <= HELD_MS
        said = [line["message"] for line in w.said if "takes nothing that is sent" in line["message"]]
        assert len(said) == 1
        again = [line["message"] for line in w.said if "delivering again" in line["message"]]
        assert len(again) == 1


async def test_what_is_refused_to_the_end_is_dropped_as_rejected_and_said_in_the_backends_words() -> None:
    async with world(environment={"TELEMETRY_FORWARDER_SINKS": "datadog"}) as w:
        w.datadog.faults.always(Answer(400, times=None))
        await short_invocations(w, 2, 50)
        await w.env.shutdown()
        (ledger,) = w.ledgers
        assert set(ledger["sinks"]["datadog"]["dropped"]) == {"rejected"}
        assert not any("delivering again" in line["message"] for line in w.said)
        assert any(re.search(r'HTTP 400 \("\w', line["message"]) for line in w.said)


@pytest.mark.parametrize("wait", [2.0, 30.0])
async def test_a_pause_longer_than_the_shutdown_window_does_not_end_it(wait: float) -> None:
    """`continuous,3600`: everything is sent in the window alone."""
    async with world(environment={"TELEMETRY_FORWARDER_FLUSH": "continuous,3600"}) as w:
        for sink in SINKS:
            w.backend(sink).faults.script(Answer(503, retry_after=wait))
        await short_invocations(w, 1, 50)
        await w.env.shutdown()
        assert_nothing_lost(w, 50)


async def test_a_slow_cloudwatch_loses_nothing() -> None:
    async with world(environment={"TELEMETRY_FORWARDER_SINKS": "cloudwatch"}) as w:
        w.cloudwatch.faults.always(Slow(1.0, times=None), on=ANY)
        held = await short_invocations(w, 6, 20)
        await w.env.shutdown()
        assert_nothing_lost(w, 120, ("cloudwatch",))
        assert max(held) <= HELD_MS
