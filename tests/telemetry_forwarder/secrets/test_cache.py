"""The cache in virtual time: what is given at which age, who fetches, and what a freeze or a restore leaves of it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from telemetry_forwarder.clock import Clock, Moment
from telemetry_forwarder.secrets import cache as caching
from telemetry_forwarder.secrets.answers import Answer, Outcome
from telemetry_forwarder.secrets.cache import Cache, Policy
from telemetry_forwarder.secrets.names import Key
from telemetry_forwarder.testing import virtual_time
from telemetry_forwarder.testing.virtual_time import in_virtual_time

DB = Key("ssm", "/prod/db")
API = Key("secretsmanager", "api")


class Clocks:
    """Both clocks on a loop's virtual time; each can be moved alone, as a freeze or a restore does."""

    def __init__(self) -> None:
        self._loop = virtual_time.clock()
        self.wall_ahead = 0.0
        self.monotonic_ahead = 0.0

    def time(self) -> float:
        return self._loop.time() + self.wall_ahead

    def monotonic(self) -> float:
        return self._loop.monotonic() + self.monotonic_ahead


class Service:
    """Answers after `takes_s` with what `says` gives: a text is a value, an outcome a failure."""

    def __init__(self, clock: Clock, takes_s: float = 0.05) -> None:
        self.clock = clock
        self.takes_s = takes_s
        self.calls: list[Key] = []
        self.value: str | Outcome = "v1"
        self.is_troubled = False  # its first attempt fails

    async def fetch(self, key: Key, on_trouble: Callable[[], None]) -> Answer:
        self.calls.append(key)
        if self.is_troubled:
            on_trouble()
        return await self.answer(self.value)

    async def answer(self, value: str | Outcome) -> Answer:
        asked = Moment.now(self.clock)
        await asyncio.sleep(self.takes_s)
        if isinstance(value, Outcome):
            return Answer(value, asked, message=f"it is {value}")
        return Answer(Outcome.FOUND, asked, 200, b'{"Parameter":{"Value":"%s"}}' % value.encode())


class World:
    """A cache before a service, in one task group."""

    def __init__(self, tasks: asyncio.TaskGroup, **policy: Any) -> None:
        self.clock = Clocks()
        self.service = Service(self.clock)
        keeps = policy.pop("keeps", True)
        ttl_s = policy.pop("ttl_s", 300.0)
        given = {"max_entries": 1000, "max_bytes": 1 << 20, "flight_s": 11.0, **policy}
        both = ("ssm", "secretsmanager")
        self.policy = Policy(ttl_s=dict.fromkeys(both, ttl_s), stale_s=dict.fromkeys(both, 300.0), **given)
        self.cache = Cache(
            self.service.fetch, policy=self.policy, clock=self.clock, spawn=tasks.create_task, keeps=keeps
        )

    @property
    def calls(self) -> int:
        return len(self.service.calls)

    async def value(self, key: Key = DB, **how: bool) -> str:
        answer = await self.cache.get(key, **how)
        return answer.value()[0] if answer.is_found else f"({answer.outcome})"


@asynccontextmanager
async def open_world(**policy: Any) -> AsyncIterator[World]:
    async with asyncio.TaskGroup() as tasks:
        yield World(tasks, **policy)


@in_virtual_time
async def test_a_value_is_fetched_once_for_as_long_as_it_is_good() -> None:
    async with open_world() as world:
        for _ in range(100):
            assert await world.value() == "v1"
            await asyncio.sleep(2.5)
        assert world.calls == 1
        assert (world.cache.counts.hits, world.cache.counts.misses) == (99, 1)


@in_virtual_time
async def test_after_its_time_a_changed_value_is_seen() -> None:
    async with open_world(ttl_s=1.0) as world:
        assert await world.value() == "v1"
        world.service.value = "v2"
        await asyncio.sleep(0.85)
        assert await world.value() == "v1"
        await asyncio.sleep(0.15)
        assert await world.value() == "v2"


@in_virtual_time
async def test_five_hundred_who_ask_at_once_share_one_fetch() -> None:
    async with open_world() as world:
        values = await asyncio.gather(*(world.value() for _ in range(500)))
        assert values == ["v1"] * 500
        assert world.calls == 1


@in_virtual_time
async def test_one_of_them_that_goes_away_takes_nothing_from_the_others() -> None:
    async with open_world() as world:
        async with asyncio.TaskGroup() as tasks:
            gone, stays = tasks.create_task(world.value()), tasks.create_task(world.value())
            await asyncio.sleep(0.01)
            gone.cancel()
        assert stays.result() == "v1"
        assert world.calls == 1


@in_virtual_time
async def test_shortly_before_its_time_is_over_it_is_renewed_and_nobody_waits() -> None:
    async with open_world() as world:
        await world.value()
        await asyncio.sleep(280)
        world.service.value = "v2"
        before = world.clock.monotonic()
        assert [await world.value() for _ in range(3)] == ["v1"] * 3
        assert world.clock.monotonic() == before
        await asyncio.sleep(1)
        assert await world.value() == "v2"
        assert world.calls == 2
        await asyncio.sleep(250)  # longer than the first one's time: the second one's counts
        assert await world.value() == "v2"
        assert world.calls == 2


@pytest.mark.parametrize(
    "outcome", [Outcome.THROTTLED, Outcome.UNAVAILABLE, Outcome.TIMED_OUT, Outcome.BAD_CREDENTIALS]
)
@in_virtual_time
async def test_what_is_past_its_time_stands_in_marked_while_the_service_is_down(outcome: Outcome) -> None:
    async with open_world() as world:
        await world.value()
        await asyncio.sleep(310)
        world.service.value = outcome
        answer = await world.cache.get(DB)
        assert answer.value()[0] == "v1"
        assert answer.stale_s == pytest.approx(10, abs=1)
        await asyncio.sleep(300)
        assert await world.value() == f"({outcome})", "not for ever"


@in_virtual_time
async def test_while_the_service_is_down_it_is_not_asked_by_every_request() -> None:
    async with open_world() as world:
        await world.value()
        await asyncio.sleep(310)
        world.service.value = Outcome.UNAVAILABLE
        for _ in range(200):
            assert (await world.cache.get(DB)).stale_s is not None
            await asyncio.sleep(0.05)
        assert 2 <= world.calls - 1 <= 11, "ten seconds with pauses of one to five"
        world.service.value = "v2"
        await asyncio.sleep(caching.PAUSE_S[1])
        assert await world.value() == "v2"


@in_virtual_time
async def test_nobody_waits_long_for_a_slow_service_while_there_is_something_to_give() -> None:
    async with open_world() as world:
        await world.value()
        await asyncio.sleep(310)
        world.service.takes_s, world.service.value = 8.0, "v2"
        before = world.clock.monotonic()
        assert await world.value() == "v1"
        assert world.clock.monotonic() - before == pytest.approx(caching.PATIENCE_S)
        assert await world.value() == "v1"
        assert world.clock.monotonic() - before == pytest.approx(caching.PATIENCE_S), "the second one waits no longer"
        await asyncio.sleep(8)
        assert await world.value() == "v2"
        assert world.calls == 2


@in_virtual_time
async def test_a_failed_attempt_ends_the_wait_of_those_who_can_have_something_older() -> None:
    async with open_world() as world:
        await world.value()
        await asyncio.sleep(310)
        world.service.takes_s, world.service.value, world.service.is_troubled = 8.0, "v2", True
        before = world.clock.monotonic()
        assert (await world.cache.get(DB)).stale_s is not None
        assert world.clock.monotonic() == before
        assert await world.value(API) == "v2", "who has nothing older waits"
        assert world.clock.monotonic() - before == pytest.approx(8.0)


@in_virtual_time
async def test_a_forced_fetch_is_waited_for() -> None:
    async with open_world() as world:
        await world.value()
        world.service.takes_s, world.service.value, world.service.is_troubled = 5.0, "v2", True
        assert await world.value(fresh=True) == "v2"


@pytest.mark.parametrize("outcome", [Outcome.NOT_FOUND, Outcome.DENIED])
@in_virtual_time
async def test_what_is_not_there_is_believed_for_a_few_seconds(outcome: Outcome) -> None:
    async with open_world() as world:
        world.service.value = outcome
        assert [await world.value() for _ in range(10)] == [f"({outcome})"] * 10
        assert world.calls == 1
        world.service.value = "v1"
        await asyncio.sleep(caching.NEGATIVE_S)
        assert await world.value() == "v1"


@pytest.mark.parametrize("outcome", [Outcome.NOT_FOUND, Outcome.DENIED])
@in_virtual_time
async def test_what_was_deleted_or_forbidden_is_not_given_any_longer(outcome: Outcome) -> None:
    async with open_world() as world:
        await world.value()
        await asyncio.sleep(310)
        world.service.value = outcome
        assert await world.value() == f"({outcome})"
        assert world.cache.statistics()["entries"] == 0


@in_virtual_time
async def test_a_failure_is_not_kept() -> None:
    async with open_world() as world:
        world.service.value = Outcome.UNAVAILABLE
        assert await world.value() == "(unavailable)"
        world.service.value = "v1"
        assert await world.value() == "v1"


@in_virtual_time
async def test_wrong_names_do_not_drive_out_right_ones() -> None:
    async with open_world(max_entries=10) as world:
        await world.value()
        world.service.value = Outcome.NOT_FOUND
        for number in range(1000):
            await world.value(Key("ssm", f"/wrong/{number}"))
        assert await world.value() == "v1"
        assert len(world.cache._negatives) == caching.MOST_NEGATIVES


@in_virtual_time
async def test_the_least_recently_used_goes_first() -> None:
    async with open_world(max_entries=3) as world:
        keys = [Key("ssm", f"/{number}") for number in range(4)]
        for key in keys[:3]:
            await world.value(key)
        await world.value(keys[0])
        await world.value(keys[3])
        assert world.calls == 4
        await world.value(keys[0])
        assert world.calls == 4
        await world.value(keys[1])
        assert world.calls == 5
        assert world.cache.counts.evictions == 2


@in_virtual_time
async def test_bytes_are_bounded_and_counted() -> None:
    async with open_world(max_bytes=10_000) as world:
        world.service.value = "x" * 1000
        for number in range(50):
            await world.value(Key("ssm", f"/{number}"))
        entries = world.cache._entries.values()
        assert world.cache.statistics()["bytes"] == sum(entry.answer.size for entry in entries) <= 10_000
        world.service.value = "x" * 20_000
        assert len(await world.value(Key("ssm", "/large"))) == 20_000, "given, though too large to keep"
        assert world.cache.statistics()["entries"] == len(entries) > 1


@in_virtual_time
async def test_a_ttl_of_nothing_keeps_nothing() -> None:
    async with open_world(ttl_s=0.0) as world:
        assert [await world.value() for _ in range(3)] == ["v1"] * 3
        assert world.calls == 3
        assert world.cache.statistics()["entries"] == 0


@pytest.mark.parametrize(("wall", "monotonic"), [(600, 0), (0, 600), (600, 600), (600, -500), (-500, 600)])
@in_virtual_time
async def test_a_freeze_of_ten_minutes_expires_what_it_must_whichever_clock_stood_still(
    wall: float, monotonic: float
) -> None:
    async with open_world() as world:
        await world.value()
        world.service.value = "v2"
        world.clock.wall_ahead += wall
        world.clock.monotonic_ahead += monotonic
        assert await world.value() == "v2"


@in_virtual_time
async def test_a_clock_that_was_set_back_expires_everything() -> None:
    async with open_world() as world:
        await world.value()
        world.service.value = "v2"
        world.clock.wall_ahead -= 100
        world.clock.monotonic_ahead -= 100
        assert await world.value() == "v2"


@in_virtual_time
async def test_an_answer_that_waited_in_its_socket_through_a_freeze_is_asked_for_again() -> None:
    async with open_world() as world:
        async with asyncio.TaskGroup() as tasks:
            asking = tasks.create_task(world.value())
            await asyncio.sleep(0.01)
            world.service.value = "v2"
            world.clock.wall_ahead += 3600
        assert asking.result() == "v2"
        assert await world.value() == "v2"


@in_virtual_time
async def test_a_renewal_that_a_freeze_caught_neither_holds_nor_misleads_who_asks_after_it() -> None:
    async with open_world() as world:
        await world.value()
        await asyncio.sleep(280)
        world.service.takes_s = 30.0  # its connection died in the freeze
        assert await world.value() == "v1"
        world.clock.wall_ahead += 3600
        world.service.takes_s, world.service.value = 0.05, "v2"
        before = world.clock.monotonic()
        assert await world.value() == "v2"
        assert world.clock.monotonic() - before < 1
        await asyncio.sleep(60)
        assert await world.value() == "v2", "what comes late is not kept"


@in_virtual_time
async def test_a_restore_drops_everything_and_what_is_under_way() -> None:
    async with open_world() as world:
        await world.value()
        async with asyncio.TaskGroup() as tasks:
            asking = tasks.create_task(world.value(API))
            await asyncio.sleep(0.01)
            world.service.value = "v2"
            world.cache.drop_all()
        assert asking.result() == "v2"
        assert await world.value() == "v2"


@in_virtual_time
async def test_nothing_is_kept_before_a_snapshot() -> None:
    async with open_world(keeps=False) as world:
        assert [await world.value() for _ in range(2)] == ["v1", "v1"]
        assert (world.calls, world.cache.statistics()["entries"]) == (2, 0)
        world.cache.drop_all()
        assert [await world.value() for _ in range(2)] == ["v1", "v1"]
        assert world.calls == 3


@in_virtual_time
async def test_a_forced_fetch_asks_the_service_and_renews_what_is_held() -> None:
    async with open_world() as world:
        await world.value()
        world.service.value = "v2"
        assert await world.value(fresh=True) == "v2"
        assert await world.value() == "v2"
        assert world.calls == 2


@in_virtual_time
async def test_a_forced_fetch_does_not_take_the_word_of_one_that_began_before_it() -> None:
    async with open_world() as world:
        async with asyncio.TaskGroup() as tasks:
            first = tasks.create_task(world.value())
            await asyncio.sleep(0.01)
            world.service.value = "v2"
            forced = tasks.create_task(world.value(fresh=True))
        assert (first.result(), forced.result()) == ("v1", "v2")
        assert await world.value() == "v2", "the older answer does not take the newer one's place"


@in_virtual_time
async def test_whoever_takes_nothing_stale_gets_the_failure() -> None:
    async with open_world() as world:
        await world.value()
        world.service.value = Outcome.UNAVAILABLE
        assert await world.value(fresh=True) == "v1"
        assert await world.value(fresh=True, takes_stale=False) == "(unavailable)"


@in_virtual_time
async def test_keys_under_way_are_bounded() -> None:
    async with open_world() as world:
        keys = [Key("ssm", f"/{number}") for number in range(600)]
        values = await asyncio.gather(*(world.value(key) for key in keys))
        assert values.count("v1") == caching.MOST_FLIGHTS
        assert values.count("(busy)") == 600 - caching.MOST_FLIGHTS
        assert await world.value(keys[-1]) == "v1"


@in_virtual_time
async def test_who_asks_for_what_is_being_prefetched_waits_for_that() -> None:
    async with open_world() as world:

        async def many(keys: Any) -> dict[Key, Answer]:
            return {key: await world.service.answer("v1") for key in keys if key == DB}

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(world.cache.prefetch([DB, API], many))
            await asyncio.sleep(0.01)
            assert await world.value() == "v1"
        assert world.service.calls == [API], "what it did not bring is fetched alone"


@in_virtual_time
async def test_a_bug_in_fetching_leaves_nobody_waiting() -> None:
    async def broken(key: Key, on_trouble: Callable[[], None]) -> Answer:
        raise RuntimeError("a bug")

    async def ask() -> None:
        async with open_world() as world:
            world.cache._fetch = broken
            assert await world.value() == "(failed)"

    with pytest.raises(ExceptionGroup):  # whoever owns the tasks is told
        await ask()


@in_virtual_time
async def test_neither_an_answer_nor_the_statistics_show_a_value() -> None:
    async with open_world() as world:
        world.service.value = "hunter2"
        answer = await world.cache.get(DB)
        assert b"hunter2" in answer.value_json()
        assert "hunter2" not in repr(answer) + str(answer) + repr(world.cache.statistics()) + repr(world.cache._entries)
