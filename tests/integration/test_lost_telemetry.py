"""Telemetry that is lost on the way to the real extension costs an invocation no more than a hold, and nothing else."""

import json
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from local_lambda import Platform
from tests.integration.world import NUMBERED, World, assert_balanced, world

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


class StartSpoiler:
    """Spoils the batch with the start of the second request, and no other."""

    def __init__(self, how: Spoil) -> None:
        self._how = how
        self.spoilt: list[Sequence[bytes]] = []
        self._starts = 0

    def __call__(self, batch: Sequence[bytes]) -> Sequence[bytes]:
        had, self._starts = self._starts, self._starts + sum(holds([record], "platform.start") for record in batch)
        if had >= 2 or self._starts < 2:
            return batch
        self.spoilt.append(batch)
        return self._how(batch)


def owners(w: World[Any], numbers: range) -> list[str | None]:
    """Return the request of each of these lines that arrived."""
    return [
        one.get("request_id")
        for one in w.arrived("splunk")
        if (found := NUMBERED.search(str(one["text"]))) and int(found[1]) in numbers
    ]


@pytest.mark.parametrize("flush", ["end", "continuous"])
@pytest.mark.parametrize(
    "how",
    [
        lambda batch: [dropped(batch)],
        lambda batch: [b"{oops"],
        lambda batch: [b'"' + b"x" * 3_000_000],
        lambda batch: [b"1", b"null"],
        lambda batch: [],
    ],
    ids=["logsDropped", "undecodable", "over-long", "no records", "no sign"],
)
async def test_lines_of_a_request_whose_start_was_lost_do_not_go_to_the_one_before(how: Spoil, flush: str) -> None:
    """3,979 lines of a flood did, before."""
    spoiler = StartSpoiler(how)
    environment = {**ONE_SINK, "TELEMETRY_FORWARDER_FLUSH": flush}
    async with world(environment=environment, platform=Platform(spoil=spoiler), timeout_s=TIMEOUT_S) as w:
        first = await w.env.invoke({"first": 0, "lines": 5})
        second = await w.env.invoke({"first": 100, "lines": 15, "pause": 0.1})
        third = await w.env.invoke({"first": 200, "lines": 5})
        await w.env.shutdown()
        assert len(spoiler.spoilt) == 1
        assert set(owners(w, range(100))) == {first.request_id}
        found = owners(w, range(100, 200))
        assert first.request_id not in found
        assert found.count(second.request_id) >= 10
        assert set(owners(w, range(200, 300))) == {third.request_id}
        assert_balanced(w.ledgers[0])


@pytest.mark.parametrize("flush", ["end", "continuous"])
async def test_a_flood_of_which_lambda_drops_a_part_keeps_its_request(flush: str) -> None:
    def drop(batch: Sequence[bytes]) -> Sequence[bytes]:
        if len(spoilt) == 3 or any(b'"platform.' in record for record in batch):
            return batch
        spoilt.append(batch)
        return [dropped(batch)]

    spoilt: list[Sequence[bytes]] = []
    environment = {**ONE_SINK, "TELEMETRY_FORWARDER_FLUSH": flush}
    async with world(environment=environment, platform=Platform(spoil=drop), timeout_s=TIMEOUT_S) as w:
        await w.env.invoke({"first": 0, "lines": 5})
        second = await w.env.invoke({"first": 100, "lines": 20, "pause": 0.05})
        await w.env.invoke({"first": 200, "lines": 5})
        await w.env.shutdown()
        assert len(spoilt) == 3
        found = owners(w, range(100, 200))
        assert len(found) >= 10
        assert set(found) == {second.request_id}
