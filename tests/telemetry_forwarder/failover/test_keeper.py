"""Keeping records elsewhere before a deadline: what is stored is known exactly, and nothing ever raises."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from telemetry_forwarder.errors import ConfigError, ConnectFailed, ConnectionLost, FailoverError
from telemetry_forwarder.failover.keeper import Failover, OpenStore
from telemetry_forwarder.failover.parcels import Parcel
from telemetry_forwarder.records.record import Record
from telemetry_forwarder.testing.virtual_time import in_virtual_time
from telemetry_forwarder.transports.addresses import Network
from telemetry_forwarder.variables.failover_target import S3Prefix, SqsQueue
from telemetry_forwarder.variables.table import Problem
from tests.builders import Hang, Lines, clock, in_seconds, record, records

BUCKET = S3Prefix("kept", "logs")
QUEUE = SqsQueue("https://sqs.eu-central-1.amazonaws.com/123456789012/kept", "eu-central-1")
REFUSAL = FailoverError("AccessDenied (HTTP 403)")
BUSY = FailoverError("SlowDown (HTTP 503)", may_pass=True)
LOST = ConnectionLost("s3:443: the connection ended before the answer did")


class ScriptedStore:
    """A place that plays a script; what it has taken is in `parcels`, with the sink's name."""

    def __init__(self, *script: Any, then: Any = None) -> None:
        self._script = list(script)
        self._then = then
        self.parcels: list[tuple[str, Parcel]] = []
        self.attempts = 0

    async def put(self, sink: str, parcel: Parcel) -> None:
        self.attempts += 1
        answer = self._script.pop(0) if self._script else self._then
        if isinstance(answer, Hang):
            await asyncio.Event().wait()
        if isinstance(answer, float):
            await asyncio.sleep(answer)
        if isinstance(answer, Exception):
            raise answer
        self.parcels.append((sink, parcel))

    @property
    def ids(self) -> list[str]:
        return [one.id for _, parcel in self.parcels for one in parcel.records]


class World:
    """A failover that runs, with a store that takes `load_s` to be loaded."""

    def __init__(self, store: Any = None, *, load_s: float = 0.0, place: Any = BUCKET, fault: Any = None) -> None:
        self.store = store or ScriptedStore()
        self.lines = Lines()
        self.loads = 0

        @asynccontextmanager
        async def opened() -> AsyncIterator[Any]:
            if fault is not None:
                raise fault
            yield self.store

        async def load() -> OpenStore:
            self.loads += 1
            await asyncio.sleep(load_s)
            return opened

        self.failover = Failover(place, Network(), clock=clock(), log=self.lines.log, load=load)


@asynccontextmanager
async def open_world(*arguments: Any, **options: Any) -> AsyncIterator[World]:
    world = World(*arguments, **options)
    runner = asyncio.get_running_loop().create_task(world.failover.run())
    try:
        yield world
    finally:
        runner.cancel()
        with suppress(asyncio.CancelledError):
            await runner


def ids(some: list[Record]) -> list[str]:
    return [one.id for one in some]


@in_virtual_time
async def test_nothing_is_loaded_before_it_is_wanted_and_then_once() -> None:
    async with open_world(load_s=0.5) as world:
        await asyncio.sleep(10)
        assert world.loads == 0
        world.failover.warm()
        world.failover.warm()
        await asyncio.sleep(1)
        assert world.loads == 1
        assert await world.failover.store("splunk", records(2), in_seconds(0.1)) == []
        assert world.loads == 1


@in_virtual_time
async def test_records_are_stored_once_and_that_is_said_once() -> None:
    async with open_world() as world:
        assert await world.failover.store("splunk", records(3), in_seconds(1.0)) == []
        assert world.store.ids == ["r0", "r1", "r2"]
        assert [sink for sink, _ in world.store.parcels] == ["splunk"]
        assert world.lines.said("3 records were not delivered and are kept in s3://kept/logs", "WARN") == 1
        assert len(world.lines.written) == 1


@in_virtual_time
async def test_nothing_to_store_costs_nothing() -> None:
    async with open_world() as world:
        assert await world.failover.store("splunk", [], in_seconds(1.0)) == []
        await asyncio.sleep(1)
        assert world.loads == 0
        assert world.lines.written == []


@in_virtual_time
async def test_what_is_not_loaded_in_time_stores_nothing_and_says_why() -> None:
    async with open_world(load_s=3.0) as world:
        deadline = in_seconds(0.6)
        some = records(2)
        assert await world.failover.store("splunk", some, deadline) == some
        assert clock().monotonic() == pytest.approx(deadline.at)
        assert world.lines.said("2 records of sink splunk not stored: the time was up", "ERROR") == 1


@pytest.mark.parametrize("trouble", [BUSY, LOST, ConnectFailed("s3:443: no connection")])
@in_virtual_time
async def test_trouble_that_may_pass_is_tried_again(trouble: Exception) -> None:
    async with open_world(ScriptedStore(trouble, trouble)) as world:
        assert await world.failover.store("splunk", records(2), in_seconds(1.0)) == []
        assert world.store.attempts == 3


@in_virtual_time
async def test_refusal_is_not_tried_again_and_is_one_clear_line_for_all_sinks() -> None:
    async with open_world(ScriptedStore(then=REFUSAL)) as world:
        for sink in ("splunk", "datadog"):
            some = records(3)
            assert await world.failover.store(sink, some, in_seconds(1.0)) == some
        assert world.store.attempts == 2
        expected = "TELEMETRY_FORWARDER_FAILOVER s3://kept/logs: 3 records of sink splunk not stored: AccessDenied"
        assert world.lines.said(expected, "ERROR") == 1
        assert world.lines.said("not stored", "ERROR") == 1
        assert clock().monotonic() == 1000.0


@in_virtual_time
async def test_place_that_hangs_gets_a_second_attempt_and_never_more_than_the_deadline() -> None:
    async with open_world(ScriptedStore(then=Hang())) as world:
        some, deadline = records(3), in_seconds(0.8)
        assert await world.failover.store("splunk", some, deadline) == some
        assert clock().monotonic() == pytest.approx(deadline.at)
        assert world.store.attempts >= 2
        assert world.lines.said("no answer came in time", "ERROR") == 1


@in_virtual_time
async def test_connection_that_hangs_once_costs_no_record() -> None:
    async with open_world(ScriptedStore(Hang())) as world:
        assert await world.failover.store("splunk", records(3), in_seconds(0.8)) == []


@in_virtual_time
async def test_deadline_that_has_passed_stores_nothing_and_returns() -> None:
    async with open_world() as world:
        some = records(1)
        assert await world.failover.store("splunk", some, in_seconds(-1.0)) == some
        assert world.store.parcels == []


@in_virtual_time
async def test_what_was_stored_before_the_deadline_is_not_handed_back() -> None:
    """The newest are stored first; what is handed back keeps its order."""

    async with open_world(ScriptedStore(0.1, Hang(), 0.1, 0.1, then=Hang())) as world:
        some = [record("x" * 300_000, id=f"r{number}") for number in range(12)]
        left = await world.failover.store("splunk", some, in_seconds(0.5))
        assert world.store.ids
        assert left
        assert ids(left) == sorted(ids(left), key=lambda one: int(one[1:]))
        assert sorted(ids(left) + world.store.ids) == sorted(ids(some))
        assert "r11" in world.store.ids


@in_virtual_time
async def test_sinks_are_stored_side_by_side() -> None:
    async with open_world(ScriptedStore(then=0.5)) as world:
        async with asyncio.TaskGroup() as group:
            for sink in ("splunk", "datadog", "cloudwatch"):
                group.create_task(world.failover.store(sink, records(1), in_seconds(2.0)))
        assert clock().monotonic() == pytest.approx(1000.5)
        assert {sink for sink, _ in world.store.parcels} == {"splunk", "datadog", "cloudwatch"}


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (ConfigError([Problem("AWS_REGION", "not set", "a region", "There is no failover.")]), "AWS_REGION is not set"),
        (ImportError("no botocore"), "a bug (ImportError)"),
    ],
)
@in_virtual_time
async def test_place_that_cannot_be_opened_hands_everything_back(fault: Exception, said: str) -> None:
    async with open_world(fault=fault) as world:
        some = records(2)
        assert await world.failover.store("splunk", some, in_seconds(1.0)) == some
        assert world.lines.said(said, "ERROR") == 1


@in_virtual_time
async def test_bug_in_a_store_is_said_and_raises_nothing() -> None:
    async with open_world(ScriptedStore(then=KeyError("oops"))) as world:
        some = records(2)
        assert await world.failover.store("splunk", some, in_seconds(1.0)) == some
        assert world.lines.said("A bug in the failover", "ERROR") == 1


@in_virtual_time
async def test_record_that_fits_into_no_message_is_handed_back_alone() -> None:
    async with open_world(place=QUEUE) as world:
        import random

        noise = "".join(random.Random(7).choices("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ", k=600_000))
        some = [*records(3), record(noise, id="large")]
        assert ids(await world.failover.store("splunk", some, in_seconds(1.0))) == ["large"]
        assert sorted(world.store.ids) == ["r0", "r1", "r2"]
        assert world.lines.said("1 records of sink splunk not stored: each is too large for it", "ERROR") == 1
