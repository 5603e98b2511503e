"""Any order of events asks for the next one once per invocation, and drains once."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetry_forwarder.lifecycle.machine import Action, Machine
from telemetry_forwarder.lifecycle.strategy import Decision

FLUSH_NEXT = (Action.FLUSH, Action.FREEZE, Action.NEXT)
WAIT = (Action.WAIT,)
IDS = st.sampled_from(["a", "b", "c", "unknown"])
NEWS = st.one_of(
    st.tuples(st.just("done"), IDS), st.tuples(st.just("report"), IDS), st.tuples(st.just("time up"), st.just("")),
    st.tuples(st.sampled_from([f"invoke {one}" for one in Decision]), IDS), st.tuples(st.just("shutdown"), st.just("")),
)  # fmt: skip


@given(st.lists(NEWS, max_size=40), st.booleans())
def test_any_order_asks_next_once_per_invocation_and_drains_at_most_once(
    news: list[tuple[str, str]], sees_ends: bool
) -> None:
    """Lambda sends an INVOKE only when the next event has been asked for; everything else may come at any time."""
    machine, asked, invoked, drained, closed = Machine(sees_ends=sees_ends), 1, 0, 0, False
    for word, id in news:
        if word.startswith("invoke"):
            if asked == invoked and not closed:
                continue
            actions = machine.on_invoke(id, Decision(word.partition(" ")[2]))
            invoked += not closed
        elif word == "done":
            actions = machine.on_runtime_done(id)
        elif word == "report":
            actions = ()
            machine.on_report(id)
        elif word == "time up":
            actions = machine.on_time_up()
        else:
            actions, closed = machine.on_shutdown(), True
        asked += actions.count(Action.NEXT)
        drained += actions.count(Action.DRAIN)
        assert invoked <= asked <= invoked + 1
        assert drained == closed
        assert (machine.held is not None) == (asked == invoked and not closed)
        assert not (closed and Action.NEXT in actions)
    if machine.held is not None:  # whatever came, time is up at last
        assert machine.on_time_up() == FLUSH_NEXT


def test_an_invocation_is_flushed_at_its_end() -> None:
    machine = Machine()
    assert machine.on_invoke("a") == WAIT
    assert machine.held == "a"
    assert machine.on_runtime_done("a") == FLUSH_NEXT
    assert machine.held is None


def test_an_end_that_was_seen_before_its_invocation_was_read_counts() -> None:
    """A fast function is done before its own INVOKE has been read."""
    machine = Machine()
    assert machine.on_runtime_done("a") == ()
    assert machine.on_invoke("a") == FLUSH_NEXT


def test_the_end_of_an_earlier_request_is_not_this_ones() -> None:
    machine = Machine()
    machine.on_invoke("a")
    machine.on_time_up()
    machine.on_invoke("b")
    assert machine.on_runtime_done("a") == ()
    assert machine.held == "b"


@pytest.mark.parametrize("is_early", [False, True])
def test_a_retry_under_the_same_id_is_waited_for(is_early: bool) -> None:
    """Lambda retries an asynchronous invocation that failed under its request id, in the same environment."""
    machine = Machine()
    if is_early:
        machine.on_runtime_done("a")
        machine.on_invoke("a")
    else:
        machine.on_invoke("a")
        machine.on_runtime_done("a")
    assert machine.on_invoke("a") == WAIT
    assert machine.on_runtime_done("a") == FLUSH_NEXT


def test_repeated_news_does_nothing() -> None:
    machine = Machine()
    machine.on_invoke("a")
    machine.on_runtime_done("a")
    assert machine.on_runtime_done("a") == ()
    assert machine.on_time_up() == ()


def test_shutdown_drains_once_whatever_runs() -> None:
    machine = Machine()
    machine.on_invoke("a")
    assert machine.on_shutdown() == (Action.DRAIN,)
    assert machine.on_shutdown() == ()
    assert machine.on_runtime_done("a") == machine.on_time_up() == machine.on_invoke("b") == ()


def test_without_telemetry_there_is_nothing_to_wait_for() -> None:
    machine = Machine()
    machine.lives_without_telemetry()
    assert machine.on_invoke("a") == (Action.NEXT,)
    assert machine.held is None
    assert not machine.is_report_due


def test_a_report_is_due_for_what_was_invoked() -> None:
    machine = Machine()
    assert not machine.is_report_due
    machine.on_invoke("a")
    assert machine.is_report_due
    machine.on_report("unknown")
    assert machine.is_report_due
    machine.on_report("a")
    assert not machine.is_report_due


def test_a_report_ends_the_wait_for_earlier_ones() -> None:
    """The report of a request that died with its generation never comes."""
    machine = Machine()
    for id in ("a", "b", "c"):
        machine.on_invoke(id)
        machine.on_runtime_done(id)
    machine.on_report("b")
    assert machine.is_report_due
    machine.on_report("a")
    assert machine.is_report_due
    machine.on_report("c")
    assert not machine.is_report_due


@pytest.mark.parametrize(
    ("decision", "plan"),
    [
        (Decision.BESIDE, (Action.FLUSH_BESIDE, Action.STAND_BY, Action.NEXT)),
        (Decision.LATER, (Action.STAND_BY, Action.NEXT)),
        (Decision.BACKGROUND, (Action.GO_ON, Action.NEXT)),
    ],
)
def test_without_a_hold_the_next_event_is_asked_for_whatever_runs(decision: Decision, plan: tuple[Action, ...]) -> None:
    machine = Machine()
    assert machine.on_invoke("a", decision) == plan
    assert machine.held is None


@pytest.mark.parametrize("decision", [Decision.BESIDE, Decision.LATER])
def test_the_end_of_what_is_not_waited_for_ends_all_sending(decision: Decision) -> None:
    machine = Machine()
    machine.on_invoke("a", decision)
    assert machine.on_runtime_done("a") == (Action.FREEZE,)


@pytest.mark.parametrize("decision", [Decision.BESIDE, Decision.LATER])
def test_where_the_end_is_known_already_nothing_is_left_allowed(decision: Decision) -> None:
    machine = Machine()
    machine.on_runtime_done("a")
    *_, last_but_one, last = machine.on_invoke("a", decision)
    assert (last_but_one, last) == (Action.FREEZE, Action.NEXT)


def test_in_the_background_no_end_stops_anything() -> None:
    machine = Machine()
    machine.on_invoke("a", Decision.BACKGROUND)
    assert machine.on_runtime_done("a") == ()


def test_a_late_end_of_an_earlier_request_does_not_stop_the_one_that_runs() -> None:
    machine = Machine()
    machine.on_invoke("a", Decision.LATER)
    machine.on_invoke("b", Decision.LATER)
    assert machine.on_runtime_done("a") == ()
    assert machine.on_runtime_done("b") == (Action.FREEZE,)


@pytest.mark.parametrize("decision", list(Decision))
def test_an_end_that_was_not_waited_for_is_not_taken_for_that_of_a_retry(decision: Decision) -> None:
    machine = Machine()
    machine.on_invoke("a", decision)
    machine.on_time_up()
    machine.on_runtime_done("a")
    assert machine.on_invoke("a", Decision.HOLD) == WAIT
