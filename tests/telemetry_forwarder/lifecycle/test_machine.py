"""Any order of events asks for the next one once per invocation, and drains once."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetry_forwarder.delivery.window import CLOSED, SendWindow
from telemetry_forwarder.lifecycle.budget import Holding
from telemetry_forwarder.lifecycle.machine import Action, Machine, Phase
from telemetry_forwarder.lifecycle.strategy import Decision, Mode, Strategy
from tests.builders import ManualClock, record

FLUSH_NEXT = (Action.FLUSH, Action.ALLOW, Action.NEXT)
WAIT = (Action.ALLOW, Action.NUDGE_LEFT_OVER, Action.WAIT)
IDS = st.sampled_from(["a", "b", "c", "unknown"])
NEWS = st.one_of(
    st.tuples(st.sampled_from(["platform.runtimeDone", "platform.start", "platform.report", "function"]), IDS),
    st.tuples(st.sampled_from(["passes", "is idle", "loss", "interruption", "shutdown"]), st.just("")),
    st.tuples(st.sampled_from([f"invoke {one}" for one in Decision]), IDS),
)  # fmt: skip
TIMEOUT_S = 30.0


class World:
    """A machine with a clock that is moved by hand."""

    def __init__(self, *, sees_ends: bool = True) -> None:
        self.clock = ManualClock()
        self.machine = Machine(
            clock=self.clock, strategy=Strategy(Mode.END), holding=Holding(), buffering_s=0.025, sees_ends=sees_ends
        )

    def hear(self, kind: str, request_id: str) -> tuple[Action, ...]:
        return self.machine.on_events([record({}, type=kind, request=request_id, time_ms=self._ms())])

    def end(self, request_id: str) -> tuple[Action, ...]:
        """Tell of an end; return what is done then."""
        return self.hear("platform.runtimeDone", request_id) or self.machine.decide()

    def invoke(self, request_id: str, decision: Decision | None = None) -> tuple[Action, ...]:
        return self.machine.on_invoke(request_id, self._ms(TIMEOUT_S), decision=decision)

    def pass_by(self, seconds: float) -> tuple[Action, ...]:
        self.clock.pass_by(seconds)
        return self.machine.decide()

    def shut_down(self, reason: str = "spindown") -> tuple[Action, ...]:
        return self.machine.on_shutdown(reason, self._ms(2.0))

    def is_report_due(self) -> bool:
        """Say whether the tail would be waited for, in peace."""
        self.hear("platform.initReport", "")
        return self.shut_down()[-1] is Action.WAIT and self.machine.decide() == ()

    def _ms(self, seconds: float = 0.0) -> int:
        return round((self.clock.time() + seconds) * 1000)


@given(st.lists(NEWS, max_size=40), st.booleans())
def test_any_order_asks_next_once_per_invocation_and_drains_at_most_once(
    news: list[tuple[str, str]], sees_ends: bool
) -> None:
    """Lambda sends an INVOKE only when the next event has been asked for; everything else may come at any time."""
    world, asked, invoked, drained, closed = World(sees_ends=sees_ends), 1, 0, 0, False
    machine = world.machine
    for word, id in news:
        if word.startswith("invoke"):
            if asked == invoked and not closed:
                continue
            actions = world.invoke(id, Decision(word.partition(" ")[2]))
            invoked += not closed
        elif word == "passes":
            actions = world.pass_by(0.3)
        elif word == "is idle":
            actions = machine.decide(is_idle=True)
        elif word in ("loss", "interruption"):
            (machine.on_loss if word == "loss" else machine.on_interruption)()
            actions = machine.decide()
        elif word == "shutdown":
            actions, closed = world.shut_down("failure"), True
        else:
            actions = world.hear(word, id)
        asked += actions.count(Action.NEXT)
        drained += actions.count(Action.DRAIN)
        if Action.NEXT in actions:
            machine.on_next()
        assert invoked <= asked <= invoked + 1
        assert drained == (machine.phase is Phase.CLOSED)
        assert (machine.phase in (Phase.HOLDING, Phase.BESIDE)) == (asked == invoked and not closed)
        assert not (closed and Action.NEXT in actions)
        assert machine.window.is_last == closed, "what is open at the end is for the last time"
        if machine.phase not in (Phase.ASKING, Phase.CLOSED):
            assert machine.wake_at <= world.clock.monotonic() + TIMEOUT_S, "never waits for ever"
    if machine.phase in (Phase.HOLDING, Phase.BESIDE):  # whatever came, time is up at last
        assert world.pass_by(TIMEOUT_S)[-1] is Action.NEXT
    elif machine.phase is Phase.ENDING:
        assert world.pass_by(2.0) == (Action.DRAIN,)


def test_an_invocation_is_flushed_at_its_end() -> None:
    world = World()
    assert world.invoke("a") == WAIT
    assert world.machine.phase is Phase.HOLDING
    assert world.end("a") == FLUSH_NEXT
    assert world.machine.window is CLOSED
    world.machine.on_next()
    assert world.machine.phase is Phase.ASKING


def test_an_end_that_was_seen_before_its_invocation_was_read_counts() -> None:
    """A fast function is done before its own INVOKE has been read."""
    world = World()
    assert world.end("a") == ()
    assert world.invoke("a") == FLUSH_NEXT


def test_the_end_of_an_earlier_request_is_not_this_ones() -> None:
    world = World()
    world.invoke("a")
    world.pass_by(TIMEOUT_S)
    world.machine.on_next()
    world.invoke("b")
    assert world.end("a") == ()
    assert world.machine.phase is Phase.HOLDING


@pytest.mark.parametrize("is_early", [False, True])
def test_a_retry_under_the_same_id_is_waited_for(is_early: bool) -> None:
    """Lambda retries an asynchronous invocation that failed under its request id, in the same environment."""
    world = World()
    if is_early:
        world.end("a")
        world.invoke("a")
    else:
        world.invoke("a")
        world.end("a")
    world.machine.on_next()
    assert world.invoke("a") == WAIT
    assert world.end("a") == FLUSH_NEXT


def test_repeated_news_does_nothing() -> None:
    world = World()
    world.invoke("a")
    world.end("a")
    world.machine.on_next()
    assert world.end("a") == ()
    assert world.pass_by(TIMEOUT_S) == ()


@pytest.mark.parametrize(("reason", "followed"), [("spindown", ()), ("timeout", (Action.FOLLOWED,))])
def test_shutdown_drains_once_whatever_runs(reason: str, followed: tuple[Action, ...]) -> None:
    world = World()
    world.invoke("a")
    assert world.shut_down(reason) == (*followed, Action.ALLOW, Action.WAIT)
    assert world.machine.ending is not None
    assert world.machine.window == SendWindow(world.machine.ending.send_until, is_last=True)
    assert world.shut_down(reason) == ()
    assert world.end("a") == world.invoke("b") == ()
    assert world.pass_by(2.0) == (Action.DRAIN,)
    assert world.pass_by(2.0) == world.shut_down(reason) == world.end("a") == ()


def test_without_telemetry_there_is_nothing_to_wait_for() -> None:
    world = World()
    world.machine.lives_without_telemetry()
    assert world.invoke("a") == (Action.NEXT,)
    assert world.machine.phase is Phase.ASKING
    assert not world.is_report_due()


@pytest.mark.parametrize(
    ("reported", "is_due"),
    # The report of a request that died with its generation never comes: a later one ends the wait for it.
    [([], True), (["unknown"], True), (["b"], True), (["b", "a"], True), (["b", "a", "c"], False), (["c"], False)],
)
def test_a_report_is_due_for_what_was_invoked_last(reported: list[str], is_due: bool) -> None:
    world = World()
    for id in ("a", "b", "c"):
        world.invoke(id)
        world.end(id)
        world.machine.on_next()
    for id in reported:
        world.hear("platform.report", id)
    assert world.is_report_due() is is_due


def test_no_report_is_due_where_nothing_was_invoked() -> None:
    assert not World().is_report_due()


@pytest.mark.parametrize("decision", [Decision.LATER, Decision.BACKGROUND])
def test_without_a_hold_the_next_event_is_asked_for_whatever_runs(decision: Decision) -> None:
    world = World()
    assert world.invoke("a", decision) == (Action.ALLOW, Action.NEXT)
    assert world.machine.phase is Phase.ASKING
    assert world.machine.window.linger == (None if decision is Decision.LATER else Strategy().period_s)


def test_what_is_sent_beside_the_function_holds_its_next_event_until_it_is_sent() -> None:
    world = World()
    assert world.invoke("a", Decision.BESIDE) == (Action.ALLOW, Action.NUDGE, Action.WAIT)
    assert world.machine.decide() == ()
    window = world.machine.window
    assert world.machine.decide(is_idle=True) == (Action.FINISH, Action.ALLOW, Action.NEXT)
    assert world.machine.window is window, "the function runs on"


@pytest.mark.parametrize("decision", [Decision.BESIDE, Decision.LATER])
def test_the_end_of_what_is_not_waited_for_ends_all_sending(decision: Decision) -> None:
    world = World()
    world.invoke("a", decision)
    assert world.end("a") == (Action.ALLOW,)
    assert world.machine.window is CLOSED


@pytest.mark.parametrize("decision", [Decision.BESIDE, Decision.LATER, Decision.HOLD])
def test_where_the_end_is_known_already_nothing_is_left_allowed(decision: Decision) -> None:
    world = World()
    world.end("a")
    *_, last_but_one, last = world.invoke("a", decision)
    assert (last_but_one, last) == (Action.ALLOW, Action.NEXT)
    assert world.machine.window is CLOSED


def test_in_the_background_no_end_stops_anything() -> None:
    world = World()
    world.invoke("a", Decision.BACKGROUND)
    assert world.end("a") == ()
    assert world.machine.window.linger is not None


def test_a_late_end_of_an_earlier_request_does_not_stop_the_one_that_runs() -> None:
    world = World()
    world.invoke("a", Decision.LATER)
    world.machine.on_next()
    world.invoke("b", Decision.LATER)
    assert world.end("a") == ()
    assert world.end("b") == (Action.ALLOW,)


@pytest.mark.parametrize("decision", list(Decision))
def test_an_end_that_was_not_waited_for_is_not_taken_for_that_of_a_retry(decision: Decision) -> None:
    world = World()
    world.invoke("a", decision)
    world.pass_by(TIMEOUT_S)
    world.machine.on_next()
    world.end("a")
    assert world.invoke("a", Decision.HOLD) == WAIT
