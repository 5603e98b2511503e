"""Telemetry that is lost on the way to the real extension costs an invocation no more than a hold, and nothing else."""

import json
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from telemetry_forwarder.emulator import Platform
from tests.integration.world import World, assert_balanced, world

HOLD_S = 0.5
SLACK_S = 0.35  # a busy machine
TIMEOUT_S = 12.0
ONE_SINK: dict[str, str | None] = {"TELEMETRY_FORWARDER_SINKS": "splunk", "TELEMETRY_FORWARDER_FLUSH": "end"}
DEEP = '{"time":"2026-03-02T10:15:30.100Z","type":"function","record":' + '{"a":' * 1_100 + "1" + "}" * 1_101

Spoil = Callable[[Sequence[bytes]], Sequence[bytes]]


def holds(batch: Sequence[bytes], kind: str) -> bool:
    return any(f'"type":"{kind}"'.encode() in record for record in batch)


def now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime()) + ".000Z"


def dropped(batch: Sequence[bytes]) -> bytes:
    record = {"reason": "consumer slower than producer", "droppedRecords": len(batch), "droppedBytes": 1}
    return json.dumps({"time": now(), "type": "platform.logsDropped", "record": record}).encode()


class Spoiler:
    """Spoils the batch that holds the `kind` of the first request, and no other."""

    def __init__(self, kind: str, how: Spoil) -> None:
        self._kind = kind
        self._how = how
        self.spoilt: list[Sequence[bytes]] = []

    def __call__(self, batch: Sequence[bytes]) -> Sequence[bytes]:
        if self.spoilt or not holds(batch, self._kind):
            return batch
        self.spoilt.append(batch)
        return self._how(batch)


async def held_s(w: World[Any], payload: dict[str, Any]) -> float:
    """Invoke, and return for how long the extension kept the environment busy after the function's end."""
    await w.env.invoke(payload)
    report = next(event for event in reversed(w.env.telemetry) if event["type"] == "platform.report")
    done = next(event for event in reversed(w.env.telemetry) if event["type"] == "platform.runtimeDone")
    return float(report["record"]["metrics"]["durationMs"] - done["record"]["metrics"]["durationMs"]) / 1000


@pytest.mark.parametrize(
    "how",
    [
        lambda batch: [b"{oops"],
        lambda batch: [*batch[:-1], b'"' + b"x" * 3_000_000],
        lambda batch: [dropped(batch)],
        lambda batch: [DEEP.encode()],
        lambda batch: [b"1", b"null"],
    ],
    ids=["undecodable", "over-long", "logsDropped", "deep", "no records"],
)
async def test_a_hold_is_bounded_where_the_end_was_lost(how: Spoil) -> None:
    """10 s of 12 s, the function's own timeout, before."""
    spoiler = Spoiler("platform.runtimeDone", how)
    async with world(environment=ONE_SINK, platform=Platform(spoil=spoiler), timeout_s=TIMEOUT_S) as w:
        assert await held_s(w, {"first": 0, "lines": 5, "sleep": 0.2}) <= HOLD_S + SLACK_S
        assert len(spoiler.spoilt) == 1
        assert await held_s(w, {"first": 5, "lines": 5, "sleep": 0.2}) <= HOLD_S + SLACK_S
        assert w.numbers("splunk")[9] == 1, "the wait for an end works again"
        await w.env.shutdown()
        assert_balanced(w.ledgers[0])
        assert w.ledgers[0]["door"]["unseen_ends"] == 1


async def test_one_bad_record_beside_the_end_costs_neither_the_batch_nor_the_end() -> None:
    spoiler = Spoiler("platform.runtimeDone", lambda batch: [DEEP.encode(), *batch])
    async with world(environment=ONE_SINK, platform=Platform(spoil=spoiler), timeout_s=TIMEOUT_S) as w:
        await w.env.invoke({"lines": 49})
        assert w.numbers("splunk") == Counter(range(49))
        assert sum("…[no JSON that can be read: cut" in str(one["raw"]) for one in w.arrived("splunk")) == 1
        await w.env.shutdown()
        door = w.ledgers[0]["door"]
        assert (door["unreadable_records"], door["undecodable_bodies"], door["unseen_ends"]) == (1, 0, 0)
        assert_balanced(w.ledgers[0])
