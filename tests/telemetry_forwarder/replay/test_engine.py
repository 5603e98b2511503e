"""A replay sends each record once over any number of runs, whatever ended the one before."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from telemetry_forwarder.errors import FailoverError
from telemetry_forwarder.failover.parcels import digest_of, pack_objects, to_line
from telemetry_forwarder.interfaces import Delivered, Denied, DropReason, Partial, Rejected, Retry
from telemetry_forwarder.records.record import Record
from telemetry_forwarder.replay.engine import Counts, Replay, accepted, count
from telemetry_forwarder.replay.file_journal import open_journal
from telemetry_forwarder.replay.journal import JournalError
from telemetry_forwarder.replay.sources import Waiting
from telemetry_forwarder.testing.virtual_time import in_virtual_time
from tests.builders import (
    Bug,
    Hang,
    Lines,
    ListSink,
    ScriptedTransport,
    Slow,
    clock,
    encoded_list,
    record,
    records,
)

TO = "list"


class Place:
    """A place with parcels in memory. A parcel that is an exception is raised when it is fetched."""

    def __init__(self, *parcels: bytes | Exception, keeps: bool = True, named: bool = True) -> None:
        self.parcels: dict[str, Any] = {f"parcel {number}": data for number, data in enumerate(parcels)}
        self.keeps = keeps
        self.named = named
        self.others = 0
        self.fails_after: int | None = None

    async def waiting(self, sink: str) -> AsyncGenerator[Waiting, None]:
        for number, name in enumerate(list(self.parcels)):
            if number == self.fails_after:
                raise FailoverError("ExpiredToken (HTTP 400)")
            yield self._waiting(name)

    async def size(self, sink: str) -> tuple[int, int | None]:
        return len(self.parcels), None

    def _waiting(self, name: str) -> Waiting:
        async def fetch() -> bytes:
            data = self.parcels[name]
            if isinstance(data, Exception):
                raise data
            return bytes(data)

        async def remove() -> None:
            del self.parcels[name]

        data = self.parcels[name]
        digest = None
        if self.named and isinstance(data, bytes):
            import gzip

            try:
                digest = digest_of(gzip.decompress(data))
            except (OSError, EOFError):
                digest = "0" * 32
        return Waiting(name, digest, 1, fetch, remove)


def parcel(some: list[Record], more: bytes = b"") -> bytes:
    import gzip

    return gzip.compress(b"".join(map(to_line, some)) + more)


class Turn:
    """One run of the command, to a scripted destination."""

    def __init__(self, place: Place, journal: Any, *script: Any, then: Any = None, **options: Any) -> None:
        self.lines = Lines()
        self.said: list[str] = []
        self.sink = ListSink()
        self.transport = ScriptedTransport(*script, then=then, clock=clock())
        self.replay = Replay(
            place, self.sink, self.transport, journal,
            clock=clock(), log=self.lines.log, say=self.said.append, **options,
        )  # fmt: skip

    @property
    def sent(self) -> list[str]:
        return [one for batch in self.transport.ids for one in batch]


@pytest.fixture
def journal(tmp_path: Path) -> Callable[[], Any]:
    """Return a function that opens the journal anew for each turn."""
    return lambda: open_journal(tmp_path / "state.jsonl", TO)


def many(first: int, count: int) -> list[Record]:
    return [record(id=f"r{number}") for number in range(first, first + count)]


@in_virtual_time
async def test_every_record_is_sent_once_and_a_second_run_sends_nothing(journal: Any) -> None:
    place = Place(parcel(many(0, 50)), parcel(many(50, 50)))
    with journal() as opened:
        turn = Turn(place, opened)
        await turn.replay.run(TO)
    assert sorted(turn.sent) == sorted(f"r{number}" for number in range(100))
    statement = turn.replay.statement
    assert (statement.offered, statement.delivered, statement.held) == (100, 100, 0)
    assert statement.is_balanced()
    assert turn.replay.counts == Counts(parcels=2, done=2, records=100)
    assert turn.replay.is_whole
    with journal() as opened:
        again = Turn(place, opened)
        await again.replay.run(TO)
    assert again.sent == []
    assert again.replay.counts == Counts(parcels=2, done=2)
    assert again.replay.is_whole


@in_virtual_time
async def test_interrupted_in_the_middle_of_a_parcel_it_goes_on_with_the_next_record(journal: Any) -> None:
    """The first batch was accepted, of the second one half; then the destination was gone for ever."""

    place = Place(parcel(many(0, 250)))
    half = Partial(retry=tuple(range(50, 100)))
    with journal() as opened:
        turn = Turn(place, opened, Delivered(), half, then=Retry(), patience_s=5.0)
        await turn.replay.run(TO)
    assert turn.replay.statement.delivered == 150
    assert turn.replay.statement.held == 100
    assert not turn.replay.is_whole
    assert any("taken nothing for 5 s" in sentence for sentence in turn.said)
    with journal() as opened:
        again = Turn(place, opened)
        await again.replay.run(TO)
    assert sorted(again.sent) == sorted(f"r{number}" for number in range(150, 250))
    assert again.replay.counts == Counts(parcels=1, done=1, records=250, sent_before=150)
    assert again.replay.is_whole


@in_virtual_time
async def test_what_the_user_wants_not_sent_leaves_nothing_behind(journal: Any) -> None:
    """Else its parcel would never be done, and each replay would come back to it."""
    place = Place(parcel([record(id="a"), record("not wanted", id="b"), record(id="c")]))
    with journal() as opened:
        turn = Turn(place, opened, removes=True)
        await turn.replay.run(TO)
    assert turn.sent == ["a", "c"]
    assert turn.replay.statement.dropped == {DropReason.FILTERED: 1}
    assert turn.replay.counts == Counts(parcels=1, done=1, removed=1, records=3)
    assert turn.replay.is_whole
    assert not place.parcels


@in_virtual_time
async def test_stop_finishes_what_is_under_way_and_begins_nothing_more(journal: Any) -> None:
    place = Place(parcel(many(0, 300)), parcel(many(300, 10)))
    with journal() as opened:
        turn = Turn(place, opened, then=Slow(1.0))
        async with asyncio.TaskGroup() as group:
            group.create_task(turn.replay.run(TO))
            await asyncio.sleep(1.5)
            turn.replay.stop.set()
    assert len(turn.transport.sent) == 2
    assert turn.replay.statement.delivered == 200
    assert not turn.replay.is_whole
    with journal() as opened:
        again = Turn(place, opened)
        await again.replay.run(TO)
    assert not set(turn.sent) & set(again.sent)
    assert len(set(turn.sent) | set(again.sent)) == 310


@in_virtual_time
async def test_destination_that_is_unwell_for_a_while_is_waited_for(journal: Any) -> None:
    with journal() as opened:
        turn = Turn(Place(parcel(many(0, 10))), opened, *[Retry()] * 6)
        await turn.replay.run(TO)
    assert turn.replay.statement.delivered == 10
    assert turn.replay.is_whole


@in_virtual_time
async def test_destination_that_refuses_the_credential_ends_it_at_once(journal: Any) -> None:
    place = Place(parcel(many(0, 10)), parcel(many(10, 10)))
    with journal() as opened:
        turn = Turn(place, opened, then=Denied("HTTP 403, the token is unknown"))
        await turn.replay.run(TO)
    assert clock().monotonic() < 1003
    assert len(turn.transport.sent) == 1
    assert turn.replay.counts.unreached
    assert any("the destination refuses: HTTP 403, the token is unknown" in one for one in turn.said)


@in_virtual_time
async def test_destination_that_hangs_ends_it_when_patience_does(journal: Any) -> None:
    with journal() as opened:
        turn = Turn(Place(parcel(many(0, 10))), opened, then=Hang(), patience_s=3.0)
        await turn.replay.run(TO)
    assert clock().monotonic() <= 1000 + 3.0 + 10.0 + 0.5
    assert turn.replay.statement.held == 10


@in_virtual_time
async def test_refused_records_are_lost_for_this_run_and_tried_again_by_the_next(journal: Any) -> None:
    place = Place(parcel(many(0, 10)))
    some = Partial(rejected={3: DropReason.REJECTED})
    with journal() as opened:
        turn = Turn(place, opened, some)
        await turn.replay.run(TO)
    assert turn.replay.statement.lost == 1
    assert not turn.replay.is_whole
    with journal() as opened:
        again = Turn(place, opened)
        await again.replay.run(TO)
    assert again.sent == ["r3"]
    assert again.replay.is_whole


@pytest.mark.parametrize("body", ["inexpressible", "bug in encode"])
@in_virtual_time
async def test_record_that_the_sink_cannot_express_is_counted_and_stays(journal: Any, body: str) -> None:
    bad = replace(record(body), batch="bad")
    with journal() as opened:
        turn = Turn(Place(parcel([*many(0, 3), bad])), opened)
        await turn.replay.run(TO)
    assert turn.sent == ["r0", "r1", "r2"]
    assert sum(turn.replay.statement.dropped.values()) == 1
    assert turn.replay.counts.done == 0
    assert not turn.replay.is_whole


@in_virtual_time
async def test_parcels_that_cannot_be_read_are_named_and_cost_the_others_nothing(journal: Any) -> None:
    torn = parcel(many(0, 10))[:-12]
    place = Place(torn, b"hello", parcel(many(10, 5)))
    with journal() as opened:
        turn = Turn(place, opened)
        await turn.replay.run(TO)
    assert len(turn.sent) == 5
    assert turn.replay.counts == Counts(parcels=3, done=1, unreadable=2, records=5)
    assert turn.said[0].startswith("parcel 0 is left out: gzip that is torn off")
    assert turn.said[1].startswith("parcel 1 is left out: not gzip")
    assert not turn.replay.is_whole


@in_virtual_time
async def test_alien_lines_are_named_and_the_others_sent_once(journal: Any) -> None:
    place = Place(parcel(many(0, 4), b'{"message":"hi"}\nhalf a li'), keeps=False)
    for turn_number in range(2):
        with journal() as opened:
            turn = Turn(place, opened)
            await turn.replay.run(TO)
        assert turn.sent == (["r0", "r1", "r2", "r3"] if turn_number == 0 else [])
        assert turn.replay.counts.alien_lines == 2
        assert "2 of 6 lines are left out; the first is line 5" in turn.said[0]
        assert not turn.replay.is_whole
    assert len(place.parcels) == 1, "what was not understood is not thrown away"


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize(("keeps", "removes"), [(True, True), (False, False)])
@in_virtual_time
async def test_parcels_are_removed_when_nothing_is_left_of_them(
    journal: Any, named: bool, keeps: bool, removes: bool
) -> None:
    place = Place(parcel(many(0, 4)), parcel(many(0, 4)), keeps=keeps, named=named)
    with journal() as opened:
        turn = Turn(place, opened, removes=removes)
        await turn.replay.run(TO)
    assert turn.sent == ["r0", "r1", "r2", "r3"], "the second is the same parcel, sent twice by a standard queue"
    assert place.parcels == {}
    assert turn.replay.counts.removed == 2


@in_virtual_time
async def test_objects_are_kept_unless_it_is_said_otherwise(journal: Any) -> None:
    place = Place(parcel(many(0, 4)))
    with journal() as opened:
        await Turn(place, opened).replay.run(TO)
    assert len(place.parcels) == 1


@in_virtual_time
async def test_place_that_fails_midway_is_an_error_and_what_was_sent_is_known(journal: Any) -> None:
    place = Place(parcel(many(0, 4)), parcel(many(4, 4)))
    place.fails_after = 1
    with journal() as opened:
        turn = Turn(place, opened)
        with pytest.raises(FailoverError):
            await turn.replay.run(TO)
    assert len(turn.sent) == 4
    assert not turn.replay.is_whole
    place.fails_after = None
    with journal() as opened:
        again = Turn(place, opened)
        await again.replay.run(TO)
    assert again.sent == ["r4", "r5", "r6", "r7"]


@in_virtual_time
async def test_sink_with_a_bug_loses_nothing_that_is_kept(journal: Any) -> None:
    place = Place(parcel(many(0, 4)))
    with journal() as opened:
        turn = Turn(place, opened, Bug())
        await turn.replay.run(TO)
    assert turn.replay.statement.lost == 4
    assert not turn.replay.is_whole
    with journal() as opened:
        again = Turn(place, opened)
        await again.replay.run(TO)
    assert again.replay.is_whole


@in_virtual_time
async def test_full_disk_ends_it_before_anything_more_is_sent(journal: Any) -> None:
    """What was answered before can be sent again at worst; it is not counted as lost."""

    class FullDisk:
        name = "state.jsonl"

        def write(self, data: bytes) -> int:
            raise OSError(28, "No space left on device")

    place = Place(parcel(many(0, 10)), parcel(many(10, 10)))
    with journal() as opened:
        opened._file = FullDisk()
        turn = Turn(place, opened)
        with pytest.raises(JournalError, match="No space left"):
            await turn.replay.run(TO)
    assert len(turn.sent) == 10
    assert turn.replay.statement.delivered == 10
    assert not turn.replay.is_whole


@in_virtual_time
async def test_counting_sends_nothing_and_knows_what_was_sent(journal: Any) -> None:
    place = Place(parcel(many(0, 4), b"x\n"), b"torn", parcel(many(4, 6)))
    said: list[str] = []
    with journal() as opened:
        assert await count(place, TO, opened, said.append) == Counts(parcels=3, unreadable=1, alien_lines=1, records=10)
        await Turn(place, opened).replay.run(TO)
        assert await count(place, TO, opened, said.append) == Counts(
            parcels=3, unreadable=1, alien_lines=1, records=10, sent_before=10, done=1
        )
    assert said[0] == "parcel 1 cannot be read: not gzip, or damaged."


def test_only_what_was_accepted_is_noted() -> None:
    batch = encoded_list(4)

    def ids(verdict: Any) -> list[str]:
        return [one.id for one in accepted(batch, verdict)]

    assert ids(Delivered()) == ["r0", "r1", "r2", "r3"]
    assert ids(Partial(retry=(0,), rejected={2: DropReason.REJECTED})) == ["r1", "r3"]
    for verdict in (Retry(), Rejected("x"), Denied("x")):
        assert ids(verdict) == []


@in_virtual_time
async def test_packed_objects_are_what_a_replay_reads(journal: Any) -> None:
    parcels = [packed.parcel.data for packed in pack_objects(records(200), 5000) if packed.parcel]
    assert len(parcels) > 1
    with journal() as opened:
        turn = Turn(Place(*parcels), opened)
        await turn.replay.run(TO)
    assert sorted(turn.sent) == sorted(one.id for one in records(200))
