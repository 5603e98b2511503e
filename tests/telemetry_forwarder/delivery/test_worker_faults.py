"""What a faulty sink or transport costs: its own batch, counted, and nothing else; and what a sound one has to say."""

from typing import Any

import pytest

from telemetry_forwarder.delivery.window import answered_by
from telemetry_forwarder.interfaces import Delivered, Partial
from telemetry_forwarder.testing.virtual_time import in_virtual_time
from tests.builders import Bug, ListSink, World, in_seconds, limits, record, records


@pytest.mark.parametrize("answers", [(Bug(),), (ValueError("bug in the transport"),)])
@in_virtual_time
async def test_a_bug_costs_the_batch_it_met_and_spares_the_rest(answers: tuple[Any, ...]) -> None:
    async with World(*answers, sink=ListSink(limits=limits(max_records=2))) as world:
        world.worker.offer(records(5))
        await world.worker.flush(answered_by(in_seconds(1.0)))
        assert world.dropped == {"sink_failed": 2}
        assert world.delivered == 3
        assert world.lines.said("a bug in the sink") == 1


@pytest.mark.parametrize("made_up", [42, "delivered", Partial(rejected={0: "rejected"})])  # type: ignore[dict-item]
@in_virtual_time
async def test_a_verdict_that_is_none_costs_its_batch_and_is_counted(made_up: Any) -> None:
    """Nothing a sink returns may make a record vanish from the books."""
    async with World(made_up, sink=ListSink(limits=limits(max_records=2))) as world:
        world.worker.offer(records(5))
        await world.worker.flush(answered_by(in_seconds(1.0)))
        world.check()
        assert world.dropped == {"sink_failed": 2}
        assert world.delivered == 3
        assert world.worker.statement().lost == 2


@in_virtual_time
async def test_of_a_bug_its_place_is_said_and_not_its_text() -> None:
    """A foreign exception may quote what it was given: a token in an address, say."""
    async with World(ValueError("http://token@host")) as world:
        world.worker.offer(records(1))
        await world.worker.flush(answered_by(in_seconds(1.0)))
        (line,) = (line for line in world.lines.written if "a bug in the sink" in line["message"])
        assert line["error"] == "ValueError"
        assert "builders.py" in line["trace"][-1]
        assert "token" not in str(line)


@in_virtual_time
async def test_what_a_destination_wants_known_is_said_once() -> None:
    """HEC takes the records and says that its queue is nearly full."""
    async with World(then=Delivered("nearly full"), sink=ListSink(limits=limits(max_records=1))) as world:
        world.worker.offer(records(3))
        await world.worker.flush(answered_by(in_seconds(1.0)))
        assert (world.delivered, world.dropped) == (3, {})
        assert world.lines.said("nearly full", "WARN") == 1


@in_virtual_time
async def test_a_bug_in_a_drain_spares_the_rest_too() -> None:
    async with World(sink=ListSink(limits=limits(max_records=1))) as world:
        world.worker.offer([record("bug in request"), *records(3)])
        await world.worker.drain(in_seconds(1.0))
        assert world.dropped == {"sink_failed": 1}
        assert world.delivered == 3
