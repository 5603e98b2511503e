"""Delivery before a deadline: what is tried again, when, and what is not."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetry_forwarder.delivery.answer_time import FIRST_S, UNUSUAL_S
from telemetry_forwarder.delivery.breaker import DENIED_PAUSE_S, Breaker, backoff
from telemetry_forwarder.delivery.retry import Delivery
from telemetry_forwarder.delivery.window import SendWindow
from telemetry_forwarder.errors import ConnectFailed, ConnectionLost, TimedOut
from telemetry_forwarder.interfaces import (
    Delivered,
    Denied,
    DropReason,
    Partial,
    Retry,
    TooLarge,
    Verdict,
)
from telemetry_forwarder.ledger import Account
from telemetry_forwarder.testing.virtual_time import in_virtual_time
from tests.builders import (
    Bug,
    Hang,
    ListSink,
    ScriptedTransport,
    Slow,
    clock,
    encoded_list,
    freeze,
    in_seconds,
    limits,
)


class DeliveryWorld:
    """A delivery of `count` records on a scripted transport."""

    def __init__(
        self,
        *script: Any,
        then: Any = None,
        count: int = 4,
        deadline: float = 60.0,
        tolerated: int = 100,
        **limited: int,
    ) -> None:
        self.clock = clock()
        self.account = Account()
        self.account.offered = count
        self.sink = ListSink(limits=limits(**limited))
        self.transport = ScriptedTransport(*script, then=then, clock=self.clock)
        self.troubles: list[str] = []
        self.delivery = Delivery(
            self.sink,
            self.transport,
            self.account,
            self.clock,
            lambda cause: self.troubles.append(cause.text),
            breaker=Breaker(self.clock, tolerated=tolerated),
        )
        self.delivery.add(encoded_list(count))
        self.delivery.allow(SendWindow(in_seconds(deadline)))

    @property
    def dropped(self) -> dict[str, int]:
        return {str(reason): count for reason, count in self.account.statement(0).dropped.items()}

    def check(self) -> None:
        assert self.account.statement(self.delivery.outstanding.held).is_balanced()


@in_virtual_time
async def deliver(*script: Any, check: Callable[[DeliveryWorld, bool], None], **how: Any) -> None:
    """Play `script` to its end in virtual time; then `check`."""
    world = DeliveryWorld(*script, **how)
    done = await world.delivery.run()
    world.check()
    assert done == (world.delivery.outstanding.held == 0)
    check(world, done)


def test_one_attempt_is_enough_where_it_is_accepted() -> None:
    def check(world: DeliveryWorld, done: bool) -> None:
        assert done
        assert world.transport.ids == [("r0", "r1", "r2", "r3")]
        assert (world.account.attempts, world.account.failed_attempts) == (1, 0)
        assert world.troubles == []

    deliver(check=check)


def test_a_retry_sends_the_identical_request() -> None:
    """So that it is built and compressed once, and the destination can recognise it."""

    def check(world: DeliveryWorld, done: bool) -> None:
        assert done
        assert len({id(request) for _, request in world.transport.sent}) == 1
        assert world.sink.requests == 1
        assert (world.account.attempts, world.account.failed_attempts) == (4, 3)

    deliver(Retry(), ConnectFailed("no route"), Partial(retry=(0, 1, 2, 3)), check=check)


def test_pauses_double_and_are_cut_at_random() -> None:
    def check(world: DeliveryWorld, done: bool) -> None:
        times = world.transport.times
        pauses = [after - before for before, after in zip(times, times[1:], strict=False)]  # noqa: RUF007
        for pause, longest in zip(pauses, (0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0), strict=True):
            assert longest / 2 - 1e-9 <= pause <= longest + 1e-9

    deliver(*[Retry()] * 7, check=check)


@given(st.integers(1, 60))
def test_backoff_stays_between_half_a_pause_and_the_longest(steps: int) -> None:
    pauses = backoff(first=0.1, longest=2.0)
    for step in range(steps):
        assert min(0.1 * 2**step, 2.0) / 2 <= next(pauses) <= 2.0


@pytest.mark.parametrize("answer", [Retry(after=7.5), Partial(retry=(0, 1, 2, 3), after=7.5), Partial((1,), {}, 7.5)])
def test_a_wait_that_was_asked_for_is_kept(answer: Verdict) -> None:
    def check(world: DeliveryWorld, done: bool) -> None:
        assert world.transport.times == [0.0, 7.5]

    deliver(answer, check=check)


@in_virtual_time
async def test_a_wait_that_does_not_fit_is_not_begun() -> None:
    world = DeliveryWorld(Retry(after=10.0), deadline=9.0)
    assert not await world.delivery.run()
    assert world.clock.monotonic() == 1000.0
    assert world.delivery.breaker.pause == pytest.approx(10.0)
    assert world.delivery.outstanding.held == 4


def test_no_attempt_starts_at_or_after_the_deadline() -> None:
    def check(world: DeliveryWorld, done: bool) -> None:
        assert not done
        assert max(world.transport.times) < 3.0

    deliver(then=Retry(), deadline=3.0, check=check)


def test_nothing_is_tried_where_the_deadline_has_passed() -> None:
    def check(world: DeliveryWorld, done: bool) -> None:
        assert world.transport.sent == []

    deliver(deadline=0.0, check=check)


def test_the_first_lost_connection_is_tried_again_at_once() -> None:
    """Most likely it died while the environment was frozen; the second one is trouble."""

    def check(world: DeliveryWorld, done: bool) -> None:
        first, second, third = world.transport.times
        assert first == second < third

    deliver(ConnectionLost("reset"), ConnectionLost("reset"), check=check)


@pytest.mark.parametrize("error", [ConnectFailed("refused"), TimedOut("slow")])
def test_other_failures_are_not_tried_again_at_once(error: Exception) -> None:
    def check(world: DeliveryWorld, done: bool) -> None:
        assert world.transport.times[1] > 0.04
        assert world.troubles == [str(error)]

    deliver(error, check=check)


def test_an_attempt_ends_at_its_own_limit() -> None:
    def check(world: DeliveryWorld, done: bool) -> None:
        assert done
        last_copy_at = 3 * UNUSUAL_S
        assert last_copy_at + FIRST_S + 0.05 <= world.transport.times[3] <= last_copy_at + FIRST_S + 0.5
        assert world.troubles == ["no answer came in time"] * 3

    deliver(Hang(), Hang(), Hang(), check=check)


def test_an_attempt_may_outlive_the_deadline() -> None:
    """The deadline bounds when the last one starts; its answer may come after the flush has returned."""

    def check(world: DeliveryWorld, done: bool) -> None:
        assert done
        assert world.clock.monotonic() == 1005.0

    deliver(Slow(5.0), deadline=1.0, check=check)


def test_too_many_failures_in_a_row_end_the_delivery() -> None:
    def check(world: DeliveryWorld, done: bool) -> None:
        assert not done
        assert len(world.transport.sent) == 3
        assert world.clock.monotonic() < 1000.5

    deliver(then=Retry(), tolerated=3, check=check)


@in_virtual_time
async def test_the_end_of_the_environment_overrules_an_open_breaker() -> None:
    world = DeliveryWorld(then=Retry(), tolerated=1, deadline=2.0)
    world.delivery.allow(SendWindow(in_seconds(2.0), is_last=True))
    await world.delivery.run()
    assert len(world.transport.sent) > 3


@in_virtual_time
async def test_nothing_is_begun_that_cannot_be_answered_in_time() -> None:
    world = DeliveryWorld(Slow(1.0, Partial((1, 2, 3))))
    world.delivery.allow(SendWindow(in_seconds(60.0), answer_by=in_seconds(1.5)))
    assert not await world.delivery.run()
    assert world.transport.times == [0.0]
    assert world.delivery.outstanding.held == 3


# --- what a verdict leaves ------------------------------------------------------------------------------------------


def test_a_partial_answer_sends_only_what_it_wants_again() -> None:
    def check(world: DeliveryWorld, done: bool) -> None:
        assert done
        assert world.transport.ids == [("r0", "r1", "r2", "r3"), ("r1", "r3"), ("r3",)]
        assert world.dropped == {"too_old": 1}
        assert world.account.statement(0).delivered == 3

    deliver(Partial((1, 3), {0: DropReason.TOO_OLD}), Partial(retry=(1,)), check=check)


def test_a_batch_that_is_too_large_is_halved_in_order() -> None:
    def check(world: DeliveryWorld, done: bool) -> None:
        assert done
        assert world.transport.ids == [("r0", "r1", "r2"), ("r0",), ("r1", "r2"), ("r1",), ("r2",)]
        assert world.transport.times == [0.0] * 5
        assert world.account.statement(0).delivered == 3

    deliver(TooLarge(), Delivered(), TooLarge(), count=3, check=check)


def test_a_single_record_that_is_too_large_is_dropped() -> None:
    """When the others have been taken, and it is refused again."""

    def check(world: DeliveryWorld, done: bool) -> None:
        assert done
        assert world.dropped == {"oversize": 1}
        assert world.account.delivered == 2
        assert world.transport.ids == [("r0", "r1", "r2"), ("r0",), ("r1", "r2"), ("r0",)]

    deliver(TooLarge("413"), TooLarge("413"), Delivered(), TooLarge("413"), count=3, check=check)


def test_a_denied_credential_ends_the_delivery_and_keeps_the_records() -> None:
    def check(world: DeliveryWorld, done: bool) -> None:
        assert not done
        assert world.delivery.denied
        assert (world.delivery.outstanding.held, len(world.transport.sent)) == (4, 1)

    deliver(Denied("401"), check=check)


@in_virtual_time
async def test_a_failure_after_a_denial_is_no_denial() -> None:
    world = DeliveryWorld(Denied("401"), ConnectFailed("down"), tolerated=1)
    await world.delivery.run()
    freeze(DENIED_PAUSE_S)
    await world.delivery.run()
    assert len(world.transport.sent) == 2
    assert not world.delivery.denied


def test_progress_starts_the_pauses_anew() -> None:
    def check(world: DeliveryWorld, done: bool) -> None:
        times = world.transport.times
        assert times[5] == times[4]  # some were accepted
        assert times[6] - times[5] <= 0.1 + 1e-9

    deliver(*[Retry()] * 4, Partial(retry=(0,)), Retry(), check=check)


@pytest.mark.parametrize("script", [(Bug(),), (ValueError("a bug in the transport"),)])
@in_virtual_time
async def test_a_bug_is_passed_on_and_leaves_the_records_held(script: tuple[Any, ...]) -> None:
    world = DeliveryWorld(*script)
    with pytest.raises((LookupError, ValueError)):
        await world.delivery.run()
    world.check()
    assert world.delivery.outstanding.drop_faulty(DropReason.SINK_FAILED) == 4
    assert world.delivery.outstanding.drop_faulty(DropReason.SINK_FAILED) == 0
    world.check()
