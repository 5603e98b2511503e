"""A body is counted, handed on and answered 200, whatever is in it."""

import asyncio
import io
import json
import re
import socket
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import aiohttp
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from telemetry_forwarder.intake import http_server as entrances
from telemetry_forwarder.intake.http_server import body_limit, serve
from telemetry_forwarder.intake.intake import Intake
from telemetry_forwarder.intake.router import Router
from telemetry_forwarder.ledger import IntakeCounts, Unrouted
from telemetry_forwarder.records.enrich import Enricher
from telemetry_forwarder.records.handover import Handover, HandoverFile
from telemetry_forwarder.records.record import Origin, Record
from telemetry_forwarder.records.running import Invocation
from telemetry_forwarder.spool.backlog import Backlog
from telemetry_forwarder.spool.segments import Owner
from telemetry_forwarder.spool.spool import Spool
from tests.builders import ORIGIN, Lines, ManualClock
from tests.generations import MemoryStore
from tests.integration.sockets import reset
from tests.telemetry_forwarder.records.test_record import JSON

MAX_BYTES = 262_144
LIMIT = body_limit(MAX_BYTES)


class Digesting(Intake):
    """An intake in the place of an inbox: nothing waits before it."""

    answers_whole = True  # False: as an inbox that may make a body wait for its answer

    def answers_at_once(self, size: int) -> bool:
        return self.answers_whole


class World:
    """An intake with one taker behind it."""

    def __init__(
        self,
        *types: str,
        handover_file: HandoverFile | None = None,
        known: Sequence[str] = (),
        spool: Spool | None = None,
        origin: Origin = ORIGIN,
        before: Handover | None = None,
    ) -> None:
        self.counts = IntakeCounts()
        self.lines = Lines()
        self.taken: list[Record] = []
        self.told: list[Sequence[Record]] = []
        self.signs: list[str] = []
        self.came = asyncio.Event()
        self.enricher = Enricher(origin, before)
        self.intake = Digesting(
            enricher=self.enricher,
            router=Router(types or ("platform", "function"), [self], self.counts),
            counts=self.counts,
            on_events=self.told.append,
            on_loss=lambda: self.sign("lost"),
            on_interruption=lambda: self.sign("interrupted"),
            clock=ManualClock(),
            log=self.lines.log,
            handover_file=handover_file,
            known=known,
            spool=spool,
        )

    def offer(self, records: Sequence[Record]) -> None:
        self.taken += records

    def sign(self, word: str) -> None:
        self.signs.append(word)
        self.came.set()


def body(*records: object, kind: str = "function") -> bytes:
    return json.dumps([{"time": "2026-03-02T10:15:30.123Z", "type": kind, "record": one} for one in records]).encode()


def test_what_is_learnt_is_left_for_the_next_generation_before_the_batch_is_answered(tmp_path: Path) -> None:
    handover_file = HandoverFile("127.0.0.1:9001", str(tmp_path))
    world = World(handover_file=handover_file)
    world.intake.take(body("a line"), "1")
    assert handover_file.read() == Handover()
    world.intake.take(body({"instanceId": "i"}, kind="platform.initStart"), "2")
    world.intake.take(body({"requestId": "r"}, {"requestId": "s"}, kind="platform.start"), "3")
    left = handover_file.read()
    assert (left.instance_id, left.request_id, left.first, len(left.batches())) == ("i", "s", "r", 3)


@given(st.binary(), st.text(st.characters(codec=None)))
def test_no_bytes_stop_the_intake(data: bytes, sequence_id: str) -> None:
    """An exception would be answered 500, and Lambda would send the batch for ever."""
    world = World()
    world.intake.take(data, sequence_id)
    assert world.counts.bodies == 1
    assert world.counts.is_balanced()


KINDS = st.sampled_from(["function", "extension", "platform.start", "platform.report", "platform.logsDropped", "new"])


@given(
    st.lists(
        JSON
        | st.fixed_dictionaries(
            {
                "type": KINDS,
                "record": JSON
                | st.dictionaries(st.sampled_from(["droppedRecords", "droppedBytes", "requestId", "level"]), JSON)
                | st.just({"telemetry_forwarder": "0.1"}),
            },
            optional={"time": JSON},
        ),
        max_size=6,
    )
)
def test_no_json_stops_the_intake(elements: list[object]) -> None:
    world = World()
    world.intake.take(json.dumps(elements).encode(), "s")
    assert world.counts.received == len(elements)
    assert world.counts.is_balanced()
    assert len(world.taken) == world.counts.routed
    orjson.dumps(world.counts.snapshot())


def test_a_batch_that_is_sent_again_is_counted_and_not_forwarded_twice() -> None:
    """Our 200 may be lost. The bytes are then the same; of the `sequence-id` nobody says so."""
    world = World()
    for sequence_id in ("s1", "s1", "s2", ""):
        world.intake.take(body("a", "b"), sequence_id)
        world.intake.take(body("a", "c"), sequence_id)
    assert (world.counts.bodies, world.counts.redelivered_bodies, world.counts.received) == (8, 6, 4)
    assert len({record.id for record in world.taken}) == len(world.taken) == 4
    assert len(world.told) == 2


def test_batches_with_other_bytes_are_other_batches_even_under_one_sequence_id() -> None:
    """The same lines a millisecond later, or in another order."""
    world = World()
    later = body("a", "b").replace(b"30.123Z", b"30.124Z")
    for one in (body("a", "b"), later, body("b", "a"), body("a"), body("a", "b", "a")):
        world.intake.take(one, "s")
    assert (world.counts.redelivered_bodies, len({record.id for record in world.taken})) == (0, 10)


def test_a_batch_is_remembered_until_128_others_have_come() -> None:
    world = World()
    for number in (*range(128), 0, 128, 0):
        world.intake.take(body(f"line {number}"), "s")
    assert (world.counts.redelivered_bodies, len(world.taken)) == (1, 130)


def test_batches_without_a_record_are_never_a_repetition() -> None:
    world = World()
    for _ in range(3):
        world.intake.take(b"[]", "s")
    assert (world.counts.bodies, world.counts.redelivered_bodies) == (3, 0)


@pytest.mark.parametrize("sequence_id", ["s1", "s2"])
def test_a_batch_sent_again_to_the_next_generation_has_the_same_ids(sequence_id: str) -> None:
    """What was delivered by the generation before can then be recognised at the destination."""
    first, second = World(), World()
    first.intake.take(body("a", "b"), "s1")
    second.intake.take(body("a", "b"), sequence_id)
    assert [record.id for record in first.taken] == [record.id for record in second.taken]


def test_the_next_generation_takes_no_batch_that_the_one_before_had_taken(tmp_path: Path) -> None:
    """All of it may be delivered, and nothing of it in the spool, when Lambda has lost the answer in a reset."""
    handover_file = HandoverFile("127.0.0.1:9001", str(tmp_path))
    first = World(handover_file=handover_file)
    for number in range(100):
        first.intake.take(body(f"line {number}"), "s")
    first.intake.save_handover()
    second = World(known=HandoverFile("127.0.0.1:9001", str(tmp_path)).read().batches())
    for number in (99, 40, 100):
        second.intake.take(body(f"line {number}"), "t")
    assert (second.counts.redelivered_bodies, [record.body for record in second.taken]) == (2, ["line 100"])


def test_what_is_no_telemetry_is_counted_and_said() -> None:
    world = World()
    world.intake.take(b"{}", "s")
    world.intake.take(b"[1, 2]", "s")
    assert world.counts.undecodable_bodies == 1
    assert world.counts.unrouted == {Unrouted.NOT_A_RECORD: 2}
    assert world.counts.is_balanced()
    assert world.lines.said("no telemetry") == world.lines.said("no records") == 1


DEEP = b'{"time":"2026-03-02T10:15:30.123Z","type":"function","record":%b1%b}' % (b'{"a":' * 1_100, b"}" * 1_100)


def test_a_record_that_cannot_be_read_costs_itself_alone() -> None:
    world = World()
    sound = body(*(f"line {number}" for number in range(49)))
    for end in (b"]", b" ]"):
        world.intake.take(sound[:-1] + b"," + DEEP + end, "s")
    assert [record.body for record in world.taken[:49]] == [f"line {number}" for number in range(49)]
    assert "…[no JSON that can be read: cut," in world.taken[49].body
    assert (world.counts.received, world.counts.unreadable_records, world.counts.undecodable_bodies) == (
        100,
        2,
        0,
    )
    assert world.counts.is_balanced()
    assert world.lines.said("no JSON that can be read", "WARN") == 1


@pytest.mark.parametrize(
    "data",
    [
        b"not JSON", b"{}", b"", b"[1]", b"[" + DEEP + b"]", body("a")[:-9], body("a")[:-1] + b",{oops}]",
        body("a")[:-1] + b",null]", b'[{"time":"2026-03-02T10:15:30Z","type":"platform.runtimeDone","record":{"requ',
    ],
)  # fmt: skip
def test_a_body_of_which_something_cannot_be_read_is_a_loss_behind_what_can(data: bytes) -> None:
    world = World()
    world.intake.take(data, "s")
    assert world.signs == ["lost"]


def at(second: int, *records: object, kind: str = "function") -> bytes:
    return body(*records, kind=kind).replace(b"15:30", b"15:%d" % second)


def invocation(request: str, second: int) -> Invocation:
    moment = round(datetime.fromisoformat(f"2026-03-02T10:15:{second}Z").timestamp() * 1000)
    return Invocation(request, moment - 500, moment)


@pytest.mark.parametrize("sign", [b"not JSON", b"[1]", body({}, kind="platform.logsDropped"), None])
@pytest.mark.parametrize("is_heard", [True, False])
def test_what_comes_behind_a_lost_body_is_not_of_the_request_before(sign: bytes | None, is_heard: bool) -> None:
    world = World()
    world.intake.take(at(30, {"requestId": "a"}, kind="platform.start"), "s")
    if sign is None:
        world.intake.refuse(5)
    else:
        world.intake.take(sign, "s")
    assert world.intake.is_open(at(40, "a line"))
    if is_heard:
        world.enricher.hear(invocation("b", 39))
    world.intake.take(at(40, "a line"), "s")
    world.intake.take(at(50, {"requestId": "c"}, kind="platform.start"), "s")
    world.intake.take(at(51, "a line"), "s")
    lines = [record.request_id for record in world.taken if record.type == "function"]
    assert lines == ["b" if is_heard else None, "c"]
    assert not world.intake.is_open(at(52, "a line"))


def test_a_body_that_lies_before_the_lost_one_is_of_its_request_however_late_it_is_digested() -> None:
    world = World()
    bodies = [at(30, {"requestId": "a"}, kind="platform.start"), at(31, "a line")]
    arrived = [world.intake.admit(one, "s") for one in bodies]
    world.intake.refuse(5)
    arrived.append(world.intake.admit(at(40, "a line"), "s"))
    for one in arrived:
        assert one is not None
        for _ in world.intake.digest(one):
            pass
    assert [record.request_id for record in world.taken] == ["a", "a", None]


def test_what_was_read_in_doubt_is_made_again_of_the_spool_as_it_was() -> None:
    store, owner = MemoryStore(), Owner(function=ORIGIN.function_name, version=None)

    def spool() -> Spool:
        clock, log = ManualClock(), Lines().log
        return Spool(store, owner=owner, sinks=["list"], max_bytes=10**7, clock=clock, log=log)

    world = World(spool=spool())
    world.enricher.hear(invocation("a", 30))
    for number, data in enumerate((at(30, {"requestId": "a"}, kind="platform.start"), at(31, "x"), at(40, "y", "z"))):
        if number == 2:
            world.intake.refuse(5)
            world.enricher.hear(invocation("b", 39))
        world.intake.take(data, "s")
    again = spool()
    again.recover()
    assert Backlog(again, "list", ORIGIN).read(100, 10**7) == world.taken
    assert [record.request_id for record in world.taken] == ["a", "a", "b", "b"]


NAME = "2026/03/02/[7]aa11bb22cc33dd44"
BORN = at(10, {"instanceId": "snapshot"}, kind="platform.initStart")
STARTED = at(31, {"requestId": "a"}, kind="platform.start")


def restored(name: str | None) -> bytes:
    return at(30, {} if name is None else {"instanceId": name}, kind="platform.restoreStart")


@pytest.mark.parametrize("name", [NAME, None])
def test_a_restored_environment_has_a_name_of_its_own(name: str | None) -> None:
    world = World()
    for one in (BORN, restored(name), STARTED, at(32, "a line")):
        world.intake.take(one, "s")
    born, *others = [record.origin.instance_id for record in world.taken]
    assert born == "snapshot"
    assert len({*others}) == 1
    assert others[0] == name or (
        name is None and re.fullmatch(r"2027/\d\d/\d\d/\[\$LATEST\][0-9a-f]{32}", others[0] or "")
    )


def test_two_copies_of_a_snapshot_share_no_ids_and_know_what_comes_again() -> None:
    first, second = World(), World()
    for world in (first, second):
        for one in (restored(None), STARTED, at(32, "a line"), at(32, "a line"), restored(None)):
            world.intake.take(one, "s")
        assert (world.counts.redelivered_bodies, len(world.taken)) == (2, 3)
    assert not {one.id for one in first.taken} & {one.id for one in second.taken}


def test_a_start_tells_of_a_restore_that_nothing_else_told_of() -> None:
    world = World(origin=replace(ORIGIN, init_type="snap-start"))
    for one in (BORN, STARTED, at(32, "a line"), at(40, {"requestId": "b"}, kind="platform.start")):
        world.intake.take(one, "s")
    born, *others = [record.origin.instance_id for record in world.taken]
    assert born == "snapshot"
    assert others[0] not in ("snapshot", None)
    assert len({*others}) == 1


@pytest.mark.parametrize("name", [NAME, None])
def test_the_next_generation_goes_by_the_same_name_and_ids(name: str | None, tmp_path: Path) -> None:
    handover_file = HandoverFile("127.0.0.1:9001", str(tmp_path))
    first = World(handover_file=handover_file)
    for one in (BORN, restored(name), at(32, "a line")):
        first.intake.take(one, "s")
    left = handover_file.read()
    assert left.restored == left.instance_id == first.taken[-1].origin.instance_id
    second = World(before=left)
    for one in (at(32, "a line"), STARTED):
        second.intake.take(one, "s")
    assert second.taken[0] == first.taken[-1]
    assert second.taken[1].origin.instance_id == left.restored


def test_what_a_restored_environment_sent_is_made_again_of_the_spool_as_it_was() -> None:
    store, owner = MemoryStore(), Owner(function=ORIGIN.function_name, version=None)

    def spool() -> Spool:
        return Spool(store, owner=owner, sinks=["list"], max_bytes=10**7, clock=ManualClock(), log=Lines().log)

    world = World(spool=spool())
    for one in (BORN, restored(None), STARTED, at(32, "a line")):
        world.intake.take(one, "s")
    again = spool()
    again.recover()
    assert Backlog(again, "list", ORIGIN).read(100, 10**7) == world.taken


def test_a_sound_body_is_no_loss_nor_is_one_that_comes_again() -> None:
    world = World()
    for _ in range(2):
        world.intake.take(body("a", {"droppedRecords": 0}, None), "s")
    assert world.signs == []


def test_what_lambda_dropped_is_counted_but_is_no_record_of_ours() -> None:
    world = World()
    losses = [{"droppedRecords": 18, "droppedBytes": 4123}, {"droppedRecords": -1, "droppedBytes": 2**80}, {}, "text"]
    world.intake.take(body(*losses, kind="platform.logsDropped"), "s")
    assert (world.counts.lost_before_us, world.counts.lost_before_us_bytes) == (18, 4123)
    assert world.counts.received == 4
    assert world.lines.said("Lambda dropped 18 records", "WARN") == 1


def test_losses_are_counted_where_platform_events_are_not_forwarded() -> None:
    world = World("function")
    world.intake.take(body({"droppedRecords": 2, "droppedBytes": 3}, kind="platform.logsDropped"), "s")
    assert world.counts.lost_before_us == 2
    assert world.taken == []


def test_the_lifecycle_is_told_of_records_that_are_not_forwarded() -> None:
    """The end of an invocation is seen in a platform event, whatever is forwarded."""
    world = World("function")
    world.intake.take(body({"requestId": "x"}, kind="platform.runtimeDone"), "s")
    assert [record.type for records in world.told for record in records] == ["platform.runtimeDone"]


def test_ordinary_telemetry_says_nothing() -> None:
    """A line per batch would be a loop: it comes back as telemetry."""
    world = World("platform", "function", "extension")
    world.intake.take(body("a", kind="extension"), "s")
    assert world.lines.written == []


# --- over a real socket ---------------------------------------------------------------------------------------------


def listening() -> tuple[socket.socket, str]:
    listener = socket.create_server(("127.0.0.1", 0))
    return listener, f"http://127.0.0.1:{listener.getsockname()[1]}"


async def test_bodies_are_taken_from_the_socket_and_answered() -> None:
    world, (listener, url) = World(), listening()
    async with serve(listener, world.intake, MAX_BYTES), aiohttp.ClientSession() as session:
        for data in (body("a"), b"not JSON", b"", body("b")):
            async with session.post(url, data=data, headers={"sequence-id": "s1"}) as answer:
                assert answer.status == 200
    assert [record.body for record in world.taken] == ["a", "b"]
    assert world.counts.undecodable_bodies == 2


async def test_a_batch_sent_again_is_known_whatever_its_headers_say() -> None:
    world, (listener, url) = World(), listening()
    async with serve(listener, world.intake, MAX_BYTES), aiohttp.ClientSession() as session:
        for sequence_id in ("s1", "s1", "s2"):
            async with session.post(url, data=body("a"), headers={"Sequence-Id": sequence_id}) as answer:
                assert answer.status == 200
    assert (world.counts.redelivered_bodies, len(world.taken)) == (2, 1)


async def test_what_came_before_the_server_waits_in_the_kernel() -> None:
    """Lambda may send before we serve: the socket listens from before registration on."""
    world, (listener, url) = World(), listening()
    async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as group:

        async def early() -> int:
            async with session.post(url, data=body("early")) as answer:
                return answer.status

        sent = group.create_task(early())
        connected = socket.create_connection(listener.getsockname())  # proves that the queue takes connections
        connected.close()
        async with serve(listener, world.intake, MAX_BYTES):
            assert await asyncio.wait_for(sent, 10) == 200
    assert [record.body for record in world.taken] == ["early"]


@pytest.mark.parametrize("is_chunked", [False, True])
async def test_a_body_that_is_too_long_is_counted_said_and_answered_200(is_chunked: bool) -> None:
    """Lambda would send it again and again, and the end of the invocation would wait behind it."""
    world, (listener, url) = World(), listening()

    async def pieces(data: bytes):
        yield data[: len(data) // 2]
        yield data[len(data) // 2 :]

    async with serve(listener, world.intake, MAX_BYTES), aiohttp.ClientSession() as session:
        for size in (LIMIT, LIMIT + 1, 2 * LIMIT):
            data = body("x" * (size - len(body(""))))
            async with session.post(url, data=pieces(data) if is_chunked else io.BytesIO(data)) as answer:
                assert answer.status == 200
        async with session.post(url, data=body("behind it")) as answer:
            assert answer.status == 200
    assert (world.counts.oversize_bodies, world.counts.bodies, len(world.taken)) == (2, 2, 2)
    assert world.lines.said(f"more than {LIMIT} bytes", "WARN") == 2


async def test_the_longest_line_fits_however_json_escapes_it() -> None:
    """A control character takes six bytes in JSON. Source of the 256 KB: Lambda quotas, log line."""
    world, (listener, url) = World(), listening()
    data = body(*["x" * 1000] * 512, "\x01" * 256 * 1024)
    async with (
        serve(listener, world.intake, MAX_BYTES),
        aiohttp.ClientSession() as session,
        session.post(url, data=io.BytesIO(data)) as answer,
    ):
        assert answer.status == 200
    assert (world.counts.oversize_bodies, len(world.taken)) == (0, 513)


async def test_other_paths_and_methods_are_refused() -> None:
    world, (listener, url) = World(), listening()
    async with serve(listener, world.intake, MAX_BYTES), aiohttp.ClientSession() as session:
        async with session.get(url) as answer:
            assert (answer.status, answer.headers["Allow"]) == (405, "POST")
        async with session.post(url + "/other", data=b"[]") as answer:
            assert answer.status == 404
    assert world.counts.bodies == 0


async def test_leaving_closes_the_socket() -> None:
    world, (listener, url) = World(), listening()
    async with serve(listener, world.intake, MAX_BYTES):
        pass
    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.ClientConnectorError):
            await session.post(url, data=b"[]")


async def test_a_sender_that_hangs_up_in_the_middle_costs_nothing() -> None:
    world, (listener, url) = World(), listening()
    async with serve(listener, world.intake, MAX_BYTES), aiohttp.ClientSession() as session:
        _, writer = await asyncio.open_connection(*listener.getsockname())
        writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n[{")
        await writer.drain()
        writer.close()
        await writer.wait_closed()
        async with session.post(url, data=body("a")) as answer:
            assert answer.status == 200
    assert world.counts.bodies == 1


# --- whoever connects -----------------------------------------------------------------------------------------------

HEAD = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n"


async def answer_of(reader: asyncio.StreamReader) -> bytes:
    async with asyncio.timeout(10):
        return await reader.read()


@pytest.mark.parametrize(
    ("sent", "signs", "answer"),
    [
        (HEAD + b"[{", ["interrupted"], b"HTTP/1.1 400 "),
        (HEAD, ["interrupted"], b"HTTP/1.1 400 "),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: many\r\n\r\n", ["interrupted"], b"HTTP/1.1 400 "),
        (b"POST / HTTP/1.1\r\nHost: x\r\n" + b"A: " + b"x" * 99_999, ["interrupted"], b"HTTP/1.1 431 "),
        (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", ["interrupted"], b"HTTP/1.1 400 "),
        (b"POST /elsewhere HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n[{", [], b"HTTP/1.1 400 "),
        (b"GET / HTTP/1.1\r\nHost: x\r\n", [], b"HTTP/1.1 400 "),
        (b"\x16\x03\x01\x02\x00\x01", [], b"HTTP/1.1 400 "),
        (b"", [], b""),
    ],
)
async def test_what_ends_before_its_end_is_no_body_and_may_have_been_one(
    sent: bytes, signs: list[str], answer: bytes
) -> None:
    world, (listener, _) = World(), listening()
    async with serve(listener, world.intake, MAX_BYTES):
        reader, writer = await asyncio.open_connection(*listener.getsockname())
        writer.write(sent)
        writer.write_eof()
        assert (await answer_of(reader)).startswith(answer)
        writer.close()
        assert world.signs == signs
    assert (world.counts.bodies, world.counts.interrupted_bodies) == (0, len(signs))


async def test_a_connection_that_is_reset_in_a_body_is_an_interruption() -> None:
    world, (listener, _) = World(), listening()
    async with serve(listener, world.intake, MAX_BYTES):
        reader, writer = await asyncio.open_connection(*listener.getsockname())
        writer.write(HEAD[:-2] + b"Expect: 100-continue\r\n\r\n")
        async with asyncio.timeout(10):
            await reader.readuntil(b"\r\n\r\n")  # so it is read
        reset(writer)
        async with asyncio.timeout(10):
            await world.came.wait()
    assert world.signs == ["interrupted"]


async def test_a_body_that_does_not_come_on_is_an_interruption_and_given_up_in_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Byte by byte for ever: neither an invocation nor memory is held for it."""
    monkeypatch.setattr(entrances, "STALL_S", 0.05)
    monkeypatch.setattr(entrances, "REQUEST_S", 0.3)
    world, (listener, url) = World(), listening()
    async with serve(listener, world.intake, MAX_BYTES), aiohttp.ClientSession() as session:
        reader, writer = await asyncio.open_connection(*listener.getsockname())
        writer.write(HEAD)
        async with asyncio.timeout(10):
            await world.came.wait()
        async with session.post(url, data=body("beside it")) as answer:
            assert answer.status == 200
        writer.write(b"[")
        assert (await answer_of(reader)).startswith(b"HTTP/1.1 408 ")
        writer.close()
        assert world.counts.interrupted_bodies == 1
        assert set(world.signs) == {"interrupted"}
        assert [record.body for record in world.taken] == ["beside it"]


async def test_a_head_that_does_not_come_on_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entrances, "STALL_S", 0.05)
    monkeypatch.setattr(entrances, "REQUEST_S", 0.1)
    world, (listener, _) = World(), listening()
    async with serve(listener, world.intake, MAX_BYTES):
        reader, writer = await asyncio.open_connection(*listener.getsockname())
        writer.write(b"GET / HT")
        assert (await answer_of(reader)).startswith(b"HTTP/1.1 408 ")
        writer.close()
        assert world.signs == []


async def test_of_too_many_connections_the_ones_unused_longest_make_way() -> None:
    world, (listener, url) = World(), listening()
    async with serve(listener, world.intake, MAX_BYTES), aiohttp.ClientSession() as session:
        async with session.post(url, data=body("Lambda's")) as answer:
            assert answer.status == 200
        idle = [await asyncio.open_connection(*listener.getsockname()) for _ in range(entrances.MOST_CONNECTIONS)]
        async with asyncio.timeout(10):
            closed = [await reader.read() for reader, _ in idle[:1]]
        assert closed == [b""]
        async with session.post(url, data=body("again")) as answer:
            assert answer.status == 200
        for _, writer in idle:
            writer.close()
    assert len(world.taken) == 2


async def test_what_many_send_at_once_is_held_up_to_a_bound() -> None:
    world, (listener, _) = World(), listening()
    piece = b"x" * (LIMIT // 2)
    async with serve(listener, world.intake, MAX_BYTES):
        pairs = [await asyncio.open_connection(*listener.getsockname()) for _ in range(12)]
        for _, writer in pairs:
            writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % LIMIT + piece)
        for _, writer in pairs:
            await writer.drain()
        for reader, writer in pairs:
            writer.write(piece + b"x" * (LIMIT % 2))
            async with asyncio.timeout(10):
                assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
            writer.close()
    assert world.counts.oversize_bodies > 0
    assert world.counts.oversize_bodies + world.counts.undecodable_bodies == 12


async def test_requests_that_come_at_once_are_answered_in_turn() -> None:
    world, (listener, _) = World(), listening()
    async with serve(listener, world.intake, MAX_BYTES):
        reader, writer = await asyncio.open_connection(*listener.getsockname())
        bodies = [body(f"a{number}") for number in range(5)]
        head = b"POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nsequence-id: %d\r\nContent-Length: %d\r\n\r\n"
        writer.write(b"".join(head % (number, len(one)) + one for number, one in enumerate(bodies)))
        writer.write(b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n")
        writer.write_eof()
        answers = await answer_of(reader)
        writer.close()
    assert answers.count(b"HTTP/1.1 200 ") == 5
    assert answers.count(b"HTTP/1.1 405 ") == 1
    assert answers.endswith(b"\r\n\r\n")
    assert len(world.taken) == 5
    assert world.signs == []
