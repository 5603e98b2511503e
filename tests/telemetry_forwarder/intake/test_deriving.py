"""Metrics and spans wait while invocations come often, and each is there once, whenever a process is killed."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from telemetry_forwarder.intake.deriving import LINGER_S, Deriving
from telemetry_forwarder.intake.intake import Intake
from telemetry_forwarder.intake.router import Router
from telemetry_forwarder.ledger import IntakeCounts
from telemetry_forwarder.records.enrich import Enricher
from telemetry_forwarder.records.handover import Handover
from telemetry_forwarder.records.knowledge import Knowledge
from telemetry_forwarder.records.record import Record, Signal
from telemetry_forwarder.signals.measuring import Prices
from telemetry_forwarder.signals.points import MetricKind, Point
from telemetry_forwarder.signals.signals import Signals
from telemetry_forwarder.spool.backlog import Backlog
from telemetry_forwarder.spool.frames import kept_body
from telemetry_forwarder.spool.segments import DERIVER, Owner
from telemetry_forwarder.spool.spool import MOST_SEGMENTS, Spool
from tests.builders import ORIGIN, Lines, ManualClock, WholeBatches, item, request_id
from tests.generations import MemoryStore

ALL = frozenset(Signal)
USAGE = [Point("lambda.tmp_used", 5, "By", MetricKind.GAUGE)]


class Killed(BaseException):
    """The process is no more."""


class MortalStore(MemoryStore):
    """A disk whose writer is killed before a write, once."""

    def __init__(self) -> None:
        super().__init__()
        self.writes_left: int | None = None  # None: it is not killed

    def append(self, number: int, parts: Sequence[bytes], at: int) -> bool:
        if self.writes_left is not None:
            if self.writes_left <= 0:
                raise Killed
            self.writes_left -= 1
        return super().append(number, parts, at)


class Environment:
    """What outlives a process: the disk, what has arrived, and the invocations that Lambda did."""

    def __init__(self) -> None:
        self.store = MortalStore()
        self.clock = ManualClock()
        self.lines = Lines()
        self.handover = Handover(request_id="another")  # so that it is asked who was before
        self.arrived: dict[str, Record] = {}  # by id
        self.times: Counter[str] = Counter()  # how often each arrived
        self.maybe_twice: set[str] = set()
        self.invoked = 0
        self.is_frequent = True
        self.process = Process(self)

    def write(self, handover: Handover) -> None:
        """Take the handover of a process, as its file would."""
        self.handover = handover

    def post(self, *items: dict[str, Any]) -> None:
        """Send a body; if the process dies of it, send it to the next one, as Lambda does."""
        body = orjson.dumps(items)
        try:
            self.process.intake.take(body, "s")
        except Killed:
            self.reset()
            self.process.intake.take(body, "s")

    def invoke(self) -> None:
        self.invoked += 1
        request = request_id(self.invoked)
        metrics = {"durationMs": 10.0, "producedBytes": 7}
        self.post(
            self._item("start", {"requestId": request, "version": "7"}),
            {"time": self._now(), "type": "function", "record": "hello"},
            self._item("runtimeDone", {"requestId": request, "status": "success", "metrics": metrics}),
        )
        billed = {"durationMs": 12.0, "billedDurationMs": 13, "memorySizeMB": 128, "maxMemoryUsedMB": 60}
        self.clock.pass_by(0.001)
        self.post(self._item("report", {"requestId": request, "status": "success", "metrics": billed}))

    def _item(self, kind: str, record: dict[str, Any]) -> dict[str, Any]:
        return {"time": self._now(), "type": f"platform.{kind}", "record": record}

    def _now(self) -> str:
        ms = round(self.clock.time() * 1000) - 1_800_000_000_000
        return f"2027-01-15T08:{ms // 60_000:02d}:{ms // 1000 % 60:02d}.{ms % 1000:03d}Z"

    def reset(self) -> None:
        self.store.writes_left = None
        self.process = Process(self)

    def sums(self) -> Counter[str]:
        found: Counter[str] = Counter()
        for record in self.arrived.values():
            for point in (record.fields or {}).get("points", ()):
                found[point["name"].removeprefix("lambda.")] += point["value"]
        return found

    def spans(self) -> Counter[str]:
        """Return how often each span arrived, by its id."""
        return Counter(
            one.fields["span_id"] for one in self.arrived.values() if one.signal is Signal.SPAN and one.fields
        )


class Taker:
    """The sink of one signal: its records wait until `deliver`, in memory and on disk."""

    def __init__(self, signal: Signal, backlog: Backlog) -> None:
        self.takes = frozenset({signal})
        self.backlog = backlog
        self.held: list[Record] = []
        while backlog:
            self.held += backlog.read(100, 100_000)

    def offer(self, records: Sequence[Record]) -> None:
        self.held += records

    def deliver(self, env: "Environment") -> None:
        """Deliver what is held; if the process is killed before it notes that, it arrives twice."""
        done, self.held = self.held, []
        for record in done:
            env.arrived[record.id] = record
            env.times[record.id] += 1
        try:
            self.backlog.settle(done)
        except Killed:
            env.maybe_twice |= {record.id for record in done}
            raise


class Process:
    """One generation of the extension, in strict mode: what it answers is on disk."""

    def __init__(self, env: Environment) -> None:
        self.env = env
        sinks = {"metrics": Signal.METRIC, "spans": Signal.SPAN}
        self.spool = Spool(
            env.store, owner=Owner(function="f", version=None), sinks=[*sinks, DERIVER], max_bytes=4_000_000,
            clock=env.clock, log=env.lines.log,
            takes={**{name: frozenset({signal}) for name, signal in sinks.items()}, DERIVER: None},
        )  # fmt: skip
        self.spool.recover()
        self.takers = [Taker(signal, Backlog(self.spool, name, ORIGIN)) for name, signal in sinks.items()]
        self.timers: list[tuple[float, Callable[[], None]]] = []
        self.intake = Intake(
            enricher=Enricher(ORIGIN, before=env.handover, is_traced=True),
            router=Router(("platform", "function"), self.takers, IntakeCounts()),
            counts=IntakeCounts(),
            on_events=lambda events: None,
            clock=env.clock,
            log=env.lines.log,
            handover_file=env,  # type: ignore[arg-type]
            spool=self.spool,
            known=env.handover.batches(),
        )
        signals = Signals(ALL, Prices(), traces="on", before=env.handover)
        self.deriving = self.intake.deriving = Deriving(
            signals, self.intake,
            spool=self.spool, clock=env.clock, log=env.lines.log, later=self._later,
            is_frequent=lambda: env.is_frequent, before=env.handover,
        )  # fmt: skip
        self.deriving.recover(Backlog(self.spool, DERIVER, ORIGIN))

    def _later(self, seconds: float, what: Callable[[], None]) -> Any:
        self.timers.append((seconds, what))
        return self

    def cancel(self) -> None:
        """Cancel the timer, as its handle would."""
        self.timers.clear()

    def deliver(self) -> None:
        for taker in self.takers:
            taker.deliver(self.env)

    def finish(self) -> None:
        self.deriving.finish(round(self.env.clock.time() * 1000), "spindown")
        self.deliver()
        self.spool.close()


def derived(env: Environment) -> int:
    return sum(len(taker.held) for taker in env.process.takers)


def test_while_calls_are_rare_each_invocation_leaves_by_itself() -> None:
    env = Environment()
    env.is_frequent = False
    for count in (1, 2):
        env.invoke()
        assert not env.process.timers
        env.process.deliver()
        assert (env.sums()["invocations"], env.sums()["billed_duration"]) == (count, 13 * count)
        assert len(env.spans()) == 2 * count


def test_while_calls_are_frequent_they_wait_for_ten_seconds_and_become_one_body_of_each_signal() -> None:
    env = Environment()
    for _ in range(9):
        env.invoke()
        env.clock.pass_by(1.0)
    assert derived(env) == 0
    env.clock.pass_by(LINGER_S - 9.0)
    env.invoke()
    assert {len({record.batch for record in taker.held}) for taker in env.process.takers} == {1}
    env.process.deliver()
    assert env.sums()["invocations"] == 10
    env.process.finish()
    assert env.sums()["billed_duration"] == 130
    assert set(env.spans().values()) == {1}
    assert not env.store.files


def test_where_nothing_is_frozen_a_timer_ends_the_wait() -> None:
    env = Environment()
    env.invoke()
    ((seconds, ring),) = env.process.timers
    assert seconds == LINGER_S
    ring()
    assert derived(env)
    assert not env.process.timers
    env.invoke()
    assert len(env.process.timers) == 1


def test_what_comes_after_the_end_of_the_environment_is_derived_at_once() -> None:
    env = Environment()
    env.process.finish()
    env.invoke()
    assert derived(env)
    assert not env.process.timers


def test_many_bytes_do_not_wait() -> None:
    env = Environment()
    event = item("platform.initReport", {"metrics": {"durationMs": 3}})
    telling = WholeBatches(ORIGIN).enrich_all([event], "b")
    env.process.deriving.add("a" * 24, telling, 600_000)
    assert derived(env) == 0
    env.process.deriving.add("b" * 24, telling, 600_000)
    assert derived(env)


def test_the_use_of_the_machine_goes_with_the_invocation_that_it_is_of() -> None:
    env = Environment()
    env.process.deriving.note_usage(USAGE)
    env.invoke()
    env.invoke()
    env.process.finish()
    used = [one for one in env.arrived.values() if b"lambda.tmp_used" in orjson.dumps(one.fields)]
    assert [one.request_id for one in used] == [request_id(1)]


def test_a_bug_costs_one_body_and_is_not_met_again(monkeypatch: pytest.MonkeyPatch) -> None:
    env = Environment()
    of = Signals.of
    env.invoke()
    env.invoke()

    def fail_once(signals: Signals, records: Sequence[Record]) -> Any:
        monkeypatch.setattr(Signals, "of", of)
        raise ZeroDivisionError

    monkeypatch.setattr(Signals, "of", fail_once)
    env.process.deriving.derive()
    assert env.lines.said("A bug kept metrics or spans", "ERROR") == 1
    env.process.deliver()
    env.reset()
    env.process.finish()
    assert env.sums()["runtime_duration"] == 10.0, "of the second; of the first only the report is known"
    assert env.sums()["invocations"] == 2


def test_segments_that_are_merged_keep_what_is_still_to_be_derived() -> None:
    """And no more: what was derived already is not derived again because its body is kept for another reason."""
    store, clock, log = MemoryStore(), ManualClock(), Lines().log
    left: set[str] = set()

    def opened() -> Spool:
        spool = Spool(
            store, owner=Owner(function="f", version=None), sinks=["a", DERIVER],  # type: ignore[arg-type]
            max_bytes=4_000_000, clock=clock, log=log, takes={"a": frozenset({Signal.LOG}), DERIVER: None},
        )  # fmt: skip
        spool.recover()
        return spool

    known = [Knowledge(instance_id=None, init_type=None, current=one) for one in ("a", "b", "c")]
    for number in range(2 * MOST_SEGMENTS):
        spool = opened()
        done, identity = f"d{number:023x}", f"{number:024x}"
        for place, (name, derives) in enumerate(((done, True), (identity, number % 2 == 0))):
            kept = kept_body(name, b"[1,2,3]", 1, items=3, wanted=(1,), teaches=True, derives=derives)
            spool.add(kept, known[place], known[place + 1])
        spool.commit()
        for sink in range(2):
            spool.settle_masks(sink, [(done, -1)])
        if number % 3 == 0:
            spool.settle_masks(0, [(identity, -1)])
        if number % 4 == 0:
            spool.settle_masks(1, [(identity, -1)])
        elif number % 2 == 0:
            left.add(identity)
    assert len(store.files) <= MOST_SEGMENTS
    for _ in range(2):
        spool = opened()
        assert {body.identity for body in spool.open_bodies(1)} == left
        assert all(body.open[1] == 0b111 for body in spool.open_bodies(1))
        assert all(body.open[0] == 0b010 for body in spool.open_bodies(0))


STEPS = st.one_of(
    st.tuples(st.just("invoke"), st.none()),
    st.tuples(st.just("wait"), st.sampled_from([0.5, 4.0, 11.0])),
    st.tuples(st.just("deliver"), st.none()),
    st.tuples(st.just("kill"), st.none()),
    st.tuples(st.just("kill amid writes"), st.integers(0, 6)),
    st.tuples(st.just("calls are frequent"), st.booleans()),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(STEPS, max_size=25))
def test_each_invocation_counts_once_whenever_processes_are_killed(steps: list[tuple[str, Any]]) -> None:
    """Between any two writes, too: what was derived and not noted is not derived again."""
    env = Environment()
    for verb, how in steps:
        match verb:
            case "invoke":
                env.invoke()
            case "wait":
                env.clock.pass_by(how)
            case "deliver":
                try:
                    env.process.deliver()
                except Killed:
                    env.reset()
            case "kill":
                env.reset()
            case "kill amid writes":
                env.store.writes_left = how
            case "calls are frequent":
                env.is_frequent = how
    env.store.writes_left = None
    env.process.finish()
    found = env.sums()
    assert found["invocations"] == found["successes"] == env.invoked
    assert found["billed_duration"] == 13 * env.invoked
    assert len(env.spans()) == 2 * env.invoked
    assert {id for id, times in env.times.items() if times > 1} <= env.maybe_twice
    assert not env.lines.said("", "ERROR")
