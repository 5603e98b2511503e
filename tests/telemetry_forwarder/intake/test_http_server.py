"""The server for telemetry and whoever connects: odd heads, 100-continue, limits, slow senders, and any bytes."""

import asyncio
import contextlib

import aiohttp
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from telemetry_forwarder.clock import SystemClock
from telemetry_forwarder.intake import http_server as entrances
from telemetry_forwarder.intake.http_server import serve
from telemetry_forwarder.turns import WAY_ROUNDS, Turns

from .test_intake import HEAD, LIMIT, MAX_BYTES, Digesting, World, answer_of, body, listening


@pytest.fixture(autouse=True, params=[True, False])
def answers_whole(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A body that comes whole is answered at once, or goes aiohttp's way like any other: nobody sees a difference."""
    monkeypatch.setattr(Digesting, "answers_whole", request.param)


async def exchanged(world: World, *pieces: bytes) -> bytes:
    """Send `pieces`, each when the one before was read, then nothing more; return all that comes back."""
    listener, _ = listening()
    async with serve(listener, world.intake, MAX_BYTES):
        reader, writer = await asyncio.open_connection(*listener.getsockname())
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.005)  # the case itself: packets of their own
        writer.write_eof()
        try:
            return await answer_of(reader)
        finally:
            writer.close()


def post(data: bytes, *lines: bytes) -> bytes:
    return b"\r\n".join([b"POST / HTTP/1.1", b"Host: x", b"Content-Length: %d" % len(data), *lines, b"", data])


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        ([b"X-Empty:", b"X-Tabs:\t a\tb \t", b"X-Latin: \xe4\xff"], b"200"),
        ([b"sEQUENCE-iD:   7  ", b"Sequence-Id: 8"], b"200"),
        ([b"X-Many: %d" % number for number in range(90)], b"200"),
        ([b"X-Long: " + b"x" * 8000], b"200"),
        ([b"Content-Encoding: gzip"], b"200"),  # which the body is not: it is read as it came
        ([b"Connection: Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Version: 13"], b"200"),
        ([b"X-Space : a"], b"400"),
        ([b": no name"], b"400"),
        ([b"no colon"], b"400"),
        ([b"X-Nul: a\0b"], b"400"),
        ([b"X-Bare: a\rb"], b"400"),
        ([b"X-Lines: %d" % number for number in range(200)], b"400"),
        ([b"Host: y"], b"400"),
        ([b"Content-Length: 1"], b"400"),
        ([b"Transfer-Encoding: chunked"], b"400"),
        ([b"X-Longer: " + b"x" * 9000], b"431"),
    ],
)
async def test_odd_header_lines_are_taken_or_refused_whole(lines: list[bytes], status: bytes) -> None:
    """What is refused may have been telemetry, so it is noted; what is taken is taken once."""
    world = World()
    answer = await exchanged(world, post(body("a"), *lines))
    assert answer.startswith(b"HTTP/1.1 " + status + b" ")
    assert [record.body for record in world.taken] == (["a"] if status == b"200" else [])
    assert world.signs == ([] if status == b"200" else ["interrupted"])


@pytest.mark.parametrize("chunks", [1, 7, 1000])
async def test_a_chunked_body_is_one_body(chunks: int) -> None:
    data, world = body("a", "b" * 1000), World()
    size = -(-len(data) // chunks)
    framed = b"".join(b"%X;a=b\r\n%b\r\n" % (len(p := data[at : at + size]), p) for at in range(0, len(data), size))
    head = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    answer = await exchanged(world, head + framed[:90], framed[90:] + b"0\r\nTrailer: x\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert [record.body for record in world.taken] == ["a", "b" * 1000]


async def test_who_waits_to_be_told_is_told_to_go_on() -> None:
    """`Expect: 100-continue`, as `curl` sends it; not where the body is there already, nor to HTTP/1.0."""
    world, (listener, _) = World(), listening()
    async with serve(listener, world.intake, MAX_BYTES):
        for path, status in ((b"/", b"200"), (b"/elsewhere", b"404")):
            reader, writer = await asyncio.open_connection(*listener.getsockname())
            whole = post(body("a"), b"Expect: 100-Continue").replace(b" / ", b" %b " % path)
            head, data = whole.split(b"\r\n\r\n")
            writer.write(head + b"\r\n\r\n")
            async with asyncio.timeout(10):
                assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
                writer.write(data)
                assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 " + status)
            writer.close()
    assert [record.body for record in world.taken] == ["a"]
    for whole in (
        post(body("b"), b"Expect: 100-continue"),
        post(body("c"), b"Expect: 100-continue").replace(b"HTTP/1.1", b"HTTP/1.0"),
        post(body("d"), b"Expect: something-else"),
    ):
        assert b"100 Continue" not in await exchanged(world, whole)
    assert [record.body for record in world.taken] == ["a", "b", "c", "d"]


async def test_a_body_behind_its_limit_is_read_to_its_end_and_the_connection_goes_on() -> None:
    world = World()
    answer = await exchanged(world, post(b"x" * (LIMIT + 1)), post(body("a")))
    assert answer.count(b"HTTP/1.1 200 ") == 2
    assert (world.counts.oversize_bodies, len(world.taken)) == (1, 1)


async def test_what_is_no_part_of_a_body_is_refused_at_once() -> None:
    """Not when its time is over: nothing that follows could be read."""
    world, (listener, _) = World(), listening()
    async with serve(listener, world.intake, MAX_BYTES):
        reader, writer = await asyncio.open_connection(*listener.getsockname())
        head = b"POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n"
        writer.write(head)
        async with asyncio.timeout(10):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"nonsense\r\n")
            assert (await reader.read()).startswith(b"HTTP/1.1 400 ")
        writer.close()
    assert world.signs == ["interrupted"]


async def test_who_trickles_a_head_or_a_body_wins_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Slow-loris: the whole request has its time from the first byte on, however often something comes."""
    monkeypatch.setattr(entrances, "STALL_S", 0.02)
    monkeypatch.setattr(entrances, "REQUEST_S", 0.15)
    world, (listener, _) = World(), listening()
    async with serve(listener, world.intake, MAX_BYTES):
        for begin in (b"GET / HTTP/1.1\r\nX-A: ", b"POST / HTTP/1.1\r\nX-A: ", HEAD, post(b"")[:-4] + b"\r\nX: "):
            reader, writer = await asyncio.open_connection(*listener.getsockname())
            writer.write(begin)
            reading = asyncio.ensure_future(reader.readuntil(b"\r\n\r\n"))
            while not reading.done():
                writer.write(b"a")
                await asyncio.wait([reading], timeout=0.01)
            assert (await reading).startswith(b"HTTP/1.1 408 ")
            writer.close()
    assert (world.counts.bodies, world.counts.interrupted_bodies) == (0, 3)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(st.sampled_from([post(b"[]"), HEAD, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\r\n", b"\0"]) | st.binary())
)
def test_whatever_comes_the_connection_is_answered_or_ends(pieces: list[bytes]) -> None:
    """And the next one is served."""

    async def scenario() -> None:
        world, (listener, url) = World(), listening()
        async with serve(listener, world.intake, MAX_BYTES), aiohttp.ClientSession() as session:
            reader, writer = await asyncio.open_connection(*listener.getsockname())
            with contextlib.suppress(ConnectionError):
                writer.write(b"".join(pieces))
                writer.write_eof()
                await answer_of(reader)
            writer.close()
            async with session.post(url, data=body("beside it")) as answer:
                assert answer.status == 200

    asyncio.run(scenario())


async def test_no_slice_of_other_work_stands_between_the_bytes_of_a_body_and_its_answer() -> None:
    """Where the processor is withheld, each would make the end of an invocation a tenth of a second later."""
    turns, slices, waited = Turns(SystemClock()), [0], list[int]()
    world, (listener, _) = World(), listening()
    came: list[int] = []

    def on_data() -> None:
        came.append(slices[0])
        turns.give_way()

    async def work() -> None:
        while True:
            async with turns:
                slices[0] += 1

    def taken(data: bytes, sequence_id: str) -> None:
        waited.append(slices[0] - came[-1])

    world.intake.take = taken  # type: ignore[method-assign]
    working = asyncio.ensure_future(work())
    async with serve(listener, world.intake, MAX_BYTES, on_data=on_data):
        reader, writer = await asyncio.open_connection(*listener.getsockname())
        for _ in range(5):
            writer.write(post(body("a" * 10_000)))
            assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 200")
            await reader.readuntil(b"\r\n\r\n")
            for _ in range(10 * WAY_ROUNDS):
                await asyncio.sleep(0)
        writer.close()
    working.cancel()
    assert slices[0] > 20, "it goes on in between"
    assert waited == [0] * 5


async def test_a_bug_in_the_intake_is_answered_500_and_the_next_connection_is_served() -> None:
    world, (listener, _), faults = World(), listening(), [KeyError("a bug")]
    take = world.intake.take

    def buggy(data: bytes, sequence_id: str) -> None:
        if faults:
            raise faults.pop()
        take(data, sequence_id)

    world.intake.take = buggy  # type: ignore[method-assign]
    async with serve(listener, world.intake, MAX_BYTES):
        for status in (b"500", b"200"):
            reader, writer = await asyncio.open_connection(*listener.getsockname())
            writer.write(post(body("a")))
            assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 " + status)
            if status == b"500":
                await reader.read()  # to its end: the connection is closed
            writer.close()
    assert [record.body for record in world.taken] == ["a"]
