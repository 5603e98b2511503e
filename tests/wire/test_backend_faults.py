"""What every local backend can be told to do wrong, seen from a client's side of real sockets."""

import asyncio
import errno
import ssl
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import aiohttp
import pytest

from local_backends import (
    ANY,
    Answer,
    BadEvent,
    CloudWatchLogs,
    Datadog,
    HalfAnswer,
    Hang,
    RejectEvents,
    Reset,
    Slow,
    SplunkHec,
    Throttle,
    Withhold,
)
from tests.integration.sockets import make_certificate

AUTHORIZED = {"Authorization": "Splunk t"}
EVENT = "/services/collector/event"


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
async def hec() -> AsyncIterator[SplunkHec]:
    async with SplunkHec(token="t") as hec:
        yield hec


async def post(client: aiohttp.ClientSession, hec: SplunkHec, path: str = EVENT) -> int:
    async with client.post(hec.url + path, data=b'{"event":1}', headers=AUTHORIZED) as answer:
        await answer.read()
        return answer.status


async def leave_when(client: aiohttp.ClientSession, hec: SplunkHec, predicate: Callable[[], bool]) -> None:
    """Send a request and give it up, without an answer, once `predicate` holds; return when the server has noticed."""
    async with asyncio.TaskGroup() as group:
        sending = group.create_task(post(client, hec))
        await hec.wait_until(predicate)
        sending.cancel()
    await hec.wait_until(lambda: hec.requests[0].is_broken_off)


async def test_script_is_played_in_order_then_all_is_well(client: aiohttp.ClientSession, hec: SplunkHec) -> None:
    hec.faults.script(Answer(503, times=2), Throttle(1.5))
    assert [await post(client, hec) for _ in range(4)] == [503, 503, 429, 200]
    assert [seen.fault for seen in hec.requests] == [Answer(503, times=2), Answer(503, times=2), Throttle(1.5), None]
    assert [seen.status for seen in hec.requests] == [503, 503, 429, 200]
    assert (len(hec.events), hec.faults.pending) == (1, 0)


async def test_always_until_cleared_and_after_the_queue(client: aiohttp.ClientSession, hec: SplunkHec) -> None:
    hec.faults.always(Answer(503))
    hec.faults.script(Answer(500))
    assert [await post(client, hec) for _ in range(3)] == [500, 503, 503]
    hec.faults.clear()
    assert await post(client, hec) == 200


async def test_faults_meet_deliveries_unless_told_otherwise(client: aiohttp.ClientSession, hec: SplunkHec) -> None:
    async def health() -> int:
        async with client.get(hec.url + "/services/collector/health") as answer:
            return answer.status

    hec.faults.script(Answer(503))
    assert (await health(), await post(client, hec)) == (200, 503)
    hec.faults.script(Answer(500), on="health")
    assert (await post(client, hec), await health()) == (200, 500)
    hec.faults.always(Answer(502), on=ANY)
    assert (await post(client, hec), await health()) == (502, 502)


async def test_answer_has_the_service_body_and_wait(client: aiohttp.ClientSession, hec: SplunkHec) -> None:
    hec.faults.script(Answer(503, retry_after=7), Answer(503, code=23), Answer(599))
    seen = []
    for _ in range(3):
        async with client.post(hec.url + EVENT, headers=AUTHORIZED) as answer:
            code = (await answer.json())["code"] if answer.content_type == "application/json" else None
            seen.append((answer.status, code, answer.headers.get("Retry-After")))
    assert seen == [(503, 9, "7"), (503, 23, None), (599, None, None)]


async def test_error_after_storing(client: aiohttp.ClientSession, hec: SplunkHec) -> None:
    hec.faults.script(Answer(500, stored=True), Answer(500))
    assert [await post(client, hec) for _ in range(2)] == [500, 500]
    assert len(hec.events) == 1
    assert [seen.stored for seen in hec.requests] == [range(1), range(0)]


@pytest.mark.parametrize(("stored", "events"), [(False, 0), (True, 1)])
async def test_reset_before_and_after_storing(
    client: aiohttp.ClientSession, hec: SplunkHec, stored: bool, events: int
) -> None:
    """A true RST: the client sees a reset and not an orderly end. (aiohttp itself retries only idempotent methods.)"""
    hec.faults.script(Reset(stored=stored))
    with pytest.raises(aiohttp.ClientOSError) as caught:
        await post(client, hec)
    assert caught.value.errno == errno.ECONNRESET
    await hec.wait_until(lambda: len(hec.events) == events)
    assert [seen.status for seen in hec.requests] == [None]
    assert await post(client, hec) == 200


async def test_slow_answer_has_stored_at_once(client: aiohttp.ClientSession, hec: SplunkHec) -> None:
    hec.faults.script(Slow(60))
    await leave_when(client, hec, lambda: len(hec.events) == 1)
    assert hec.requests[0].status is None


async def test_slow_answer_comes(client: aiohttp.ClientSession, hec: SplunkHec) -> None:
    hec.faults.script(Slow(0.05))
    start = time.monotonic()
    assert await post(client, hec) == 200
    assert time.monotonic() - start >= 0.05


async def test_hang_until_released(client: aiohttp.ClientSession, hec: SplunkHec) -> None:
    hec.faults.script(Hang())
    async with asyncio.TaskGroup() as group:
        hanging = group.create_task(post(client, hec))
        await hec.wait_until(lambda: len(hec.requests) == 1)
        assert await post(client, hec) == 200  # others are served meanwhile
        assert (len(hec.events), hanging.done()) == (1, False)
        hec.faults.release()
    assert (hanging.result(), len(hec.events)) == (200, 2)


async def test_hang_for_a_while(client: aiohttp.ClientSession, hec: SplunkHec) -> None:
    hec.faults.script(Hang(0.05))
    assert (await post(client, hec), len(hec.events)) == (200, 1)


async def test_client_that_left_a_hanging_request_is_never_stored(
    client: aiohttp.ClientSession, hec: SplunkHec
) -> None:
    hec.faults.script(Hang())
    await leave_when(client, hec, lambda: len(hec.requests) == 1)
    hec.faults.release()
    assert await post(client, hec) == 200
    assert (len(hec.events), hec.requests[0].status) == (1, None)


@pytest.mark.parametrize("fault", [Hang(), Slow(3600)])
async def test_closing_does_not_wait_for_anybody(client: aiohttp.ClientSession, fault: Hang | Slow) -> None:
    hec = SplunkHec(token="t")
    await hec.start()
    hec.faults.always(fault)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_outcome(client, hec)) for _ in range(5)]
        await hec.wait_until(lambda: len(hec.requests) == 5)
        start = time.monotonic()
        await hec.close()
        assert time.monotonic() - start < 2
    assert all(isinstance(task.result(), aiohttp.ClientError) for task in tasks)
    await hec.close()
    with pytest.raises(RuntimeError, match="not running"):
        _ = hec.url


async def test_closing_cuts_a_request_that_is_being_sent() -> None:
    """A client frozen in the middle of its body holds nobody up."""
    async with SplunkHec(token="t") as hec:
        reader, writer = await asyncio.open_connection("127.0.0.1", hec.port)
        writer.write(b"POST /services/collector/event HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        await writer.drain()
        await hec.wait_until(lambda: len(hec.requests) == 1)
        start = time.monotonic()
    assert time.monotonic() - start < 2
    assert await reader.read() == b""
    writer.close()
    await writer.wait_closed()


async def _outcome(client: aiohttp.ClientSession, hec: SplunkHec) -> int | aiohttp.ClientError:
    try:
        return await post(client, hec)
    except aiohttp.ClientError as error:
        return error


async def test_idle_connection_can_be_cut(client: aiohttp.ClientSession, hec: SplunkHec) -> None:
    """A keep-alive connection that died in the meantime is what a client finds after a freeze."""
    reader, writer = await asyncio.open_connection("127.0.0.1", hec.port)
    request = b"GET /services/collector/health HTTP/1.1\r\nHost: x\r\n\r\n"
    writer.write(request)
    assert (await reader.readline()).split()[1] == b"200"
    hec.drop_connections()
    await asyncio.wait_for(reader.read(), 5)
    assert reader.at_eof()
    writer.close()
    await writer.wait_closed()
    assert await post(client, hec) == 200


async def test_what_cannot_be_answered_any_more_does_not_count_as_answered(
    client: aiohttp.ClientSession, hec: SplunkHec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection is cut when the request has come whole and is not handled yet."""
    operation = hec.operation
    monkeypatch.setattr(hec, "operation", lambda request: hec.drop_connections() or operation(request))
    assert isinstance(await _outcome(client, hec), aiohttp.ClientError)
    (seen,) = hec.requests
    assert (len(seen.stored), seen.is_broken_off, seen.answered, seen.status) == (1, True, None, None)


async def test_restart_on_the_same_port_keeps_what_was_stored(client: aiohttp.ClientSession) -> None:
    async with SplunkHec(token="t") as hec:
        assert await post(client, hec) == 200
        port = hec.port
    async with SplunkHec(token="t", port=port) as second:
        assert second.url == f"http://127.0.0.1:{port}"
        assert await post(client, second) == 200
    assert (len(hec.events), len(second.events)) == (1, 1)


async def test_wrong_faults_are_refused_when_scripted(hec: SplunkHec) -> None:
    with pytest.raises(TypeError, match="no fault of this backend"):
        hec.faults.script(RejectEvents(too_old_end=1))
    with pytest.raises(TypeError, match="no fault of this backend"):
        Datadog().faults.always(BadEvent(at=0))
    with pytest.raises(ValueError, match="never"):
        hec.faults.script(Hang(times=0))


async def test_wait_until_has_a_deadline(hec: SplunkHec) -> None:
    with pytest.raises(TimeoutError):
        await hec.wait_until(lambda: False, within=0.01)


async def test_every_request_is_seen_with_its_size_on_the_wire(client: aiohttp.ClientSession, hec: SplunkHec) -> None:
    await post(client, hec)
    await post(client, hec, "/nowhere")
    assert [(seen.operation, seen.path, seen.size, seen.status) for seen in hec.requests] == [
        ("event", EVENT, 11, 200),
        ("unknown", "/nowhere", 11, 404),
    ]
    assert abs(hec.requests[0].time - time.time()) < 5


def test_https_is_said_in_the_url() -> None:
    """The handshake itself needs a certificate; the scheme and the refusal to answer when closed need none."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with pytest.raises(RuntimeError):
        _ = Datadog(tls=context).url


async def test_half_an_answer_is_cut_after_storing(client: aiohttp.ClientSession, hec: SplunkHec) -> None:
    """The head promises more than comes: the client has a status, and no answer."""
    hec.faults.script(HalfAnswer())
    async with client.post(hec.url + EVENT, data=b'{"event":1}', headers=AUTHORIZED) as answer:
        assert answer.status == 200
        with pytest.raises(aiohttp.ClientPayloadError):
            await answer.read()
    assert (len(hec.events), hec.requests[0].status, hec.requests[0].is_broken_off) == (1, None, True)
    assert await post(client, hec) == 200


@pytest.mark.parametrize(("then", "events"), [(None, 1), (HalfAnswer(), 1), (Reset(stored=True), 1), (Reset(), 0)])
async def test_outcome_is_withheld_until_it_is_released(
    client: aiohttp.ClientSession, hec: SplunkHec, then: HalfAnswer | Reset | None, events: int
) -> None:
    hec.faults.script(Withhold(then))
    async with asyncio.TaskGroup() as group:
        sending = group.create_task(_outcome(client, hec))
        await hec.wait_until(lambda: hec.requests[0].size > 0 if hec.requests else False)
        assert len(hec.events) == events
        assert hec.requests[0].status is None
        assert not sending.done()
        hec.faults.release()
    assert len(hec.events) == events
    assert (sending.result() == 200) is (then is None)


def test_outcome_that_is_withheld_must_be_one_of_the_backend() -> None:
    with pytest.raises(TypeError, match="no fault of this backend"):
        CloudWatchLogs().faults.script(Withhold(BadEvent(at=0)))


async def test_backend_that_does_not_listen_refuses_and_comes_back_on_its_port(client: aiohttp.ClientSession) -> None:
    async with SplunkHec(token="t") as hec:
        assert await post(client, hec) == 200
        url = hec.url
        await hec.stop_listening()
        with pytest.raises(aiohttp.ClientConnectorError) as refused:
            await post(client, hec)
        assert refused.value.os_error.errno == errno.ECONNREFUSED
        await hec.listen_again()
        assert hec.url == url
        assert await post(client, hec) == 200
        assert len(hec.events) == 2
        with pytest.raises(RuntimeError, match="not stopped"):
            await hec.listen_again()
        await hec.stop_listening()
    await hec.close()


async def test_certificate_can_be_changed_for_one_that_nobody_trusts(
    client: aiohttp.ClientSession, tmp_path: Path
) -> None:
    for name in ("good", "bad"):
        (tmp_path / name).mkdir()
    good, trusted = make_certificate(tmp_path / "good")
    bad, _ = make_certificate(tmp_path / "bad")
    verify = ssl.create_default_context(cafile=trusted)
    async with SplunkHec(token="t", tls=good) as hec:

        async def post_over_tls() -> int:
            async with client.post(hec.url + EVENT, data=b'{"event":1}', headers=AUTHORIZED, ssl=verify) as answer:
                return answer.status

        assert await post_over_tls() == 200
        await hec.stop_listening()
        await hec.listen_again(bad)
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await post_over_tls()
        await hec.stop_listening()
        await hec.listen_again()
        assert await post_over_tls() == 200
        assert len(hec.events) == 2
