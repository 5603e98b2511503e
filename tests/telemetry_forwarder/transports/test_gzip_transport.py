"""Compression: what is compressed, what is not, and that a retry costs nothing."""

import gzip
import os
import zlib

import pytest

from telemetry_forwarder.errors import ConnectionLost
from telemetry_forwarder.interfaces import HttpRequest, HttpResponse
from telemetry_forwarder.transports.gzip import GzipTransport
from tests.builders import ScriptedTransport

LONG = b'{"event": "a line of some length"}' * 200
VERY_LONG = b"".join(b'{"event": "line %d of some length"}' % number for number in range(20_000))


def request(body: bytes, **headers: str) -> HttpRequest:
    return HttpRequest(url="http://x/", body=body, headers=headers)


async def sent_for(given: HttpRequest) -> HttpRequest:
    inner = ScriptedTransport(then=HttpResponse(status=200))
    await GzipTransport(inner).send(given)
    return inner.requests[0]


async def test_a_long_body_is_sent_smaller_and_says_so():
    given = request(LONG, Accept="x")
    sent = await sent_for(given)
    assert gzip.decompress(sent.body) == LONG
    assert len(sent.body) < len(LONG) / 5
    assert dict(sent.headers) == {"Accept": "x", "Content-Encoding": "gzip"}
    assert dict(given.headers) == {"Accept": "x"}


@pytest.mark.parametrize("body", [LONG, VERY_LONG], ids=["short", "long"])
async def test_the_same_body_gives_the_same_bytes(body):
    """No time of day in the gzip header: golden requests stay golden."""
    sent = await sent_for(request(body))
    assert sent.body[4:8] == bytes(4)
    assert (await sent_for(request(body))).body == sent.body


async def test_a_very_long_body_is_packed_by_another_library_into_no_more_bytes():
    sent = await sent_for(request(VERY_LONG))
    assert gzip.decompress(sent.body) == VERY_LONG
    assert len(sent.body) < len(gzip.compress(VERY_LONG, 3)) * 1.1


@pytest.mark.parametrize("body", [LONG, VERY_LONG], ids=["short", "long"])
async def test_deflate_is_the_zlib_format(body):
    """Not a bare stream: RFC 9110 means the format of RFC 1950."""
    inner = ScriptedTransport(then=HttpResponse(status=200))
    await GzipTransport(inner, "deflate").send(request(body))
    (sent,) = inner.requests
    assert sent.headers["Content-Encoding"] == "deflate"
    assert zlib.decompress(sent.body) == body


@pytest.mark.parametrize("body", [b"", b"short", os.urandom(4096)], ids=["none", "short", "does not shrink"])
async def test_what_gains_nothing_goes_as_it_is(body):
    given = request(body)
    assert await sent_for(given) is given


async def test_an_encoded_body_is_not_encoded_again():
    given = request(LONG, **{"content-encoding": "zstd"})
    assert await sent_for(given) is given


async def test_a_retry_of_the_same_request_sends_the_very_same_bytes():
    inner = ScriptedTransport(HttpResponse(status=503), ConnectionLost("x"), HttpResponse(status=200))
    transport, given = GzipTransport(inner), request(LONG)
    await transport.send(given)
    with pytest.raises(ConnectionLost):
        await transport.send(given)
    await transport.send(given)
    first, second, third = inner.requests
    assert first is second is third


async def test_another_request_is_not_answered_with_the_kept_one():
    inner = ScriptedTransport(then=HttpResponse(status=503))
    transport = GzipTransport(inner)
    await transport.send(request(LONG))
    await transport.send(request(LONG + b"!"))
    assert [gzip.decompress(sent.body) for sent in inner.requests] == [LONG, LONG + b"!"]


async def test_the_compressed_form_goes_with_its_request():
    """However it ended: a copy, say, was answered first, or its records go in other requests."""
    transport = GzipTransport(ScriptedTransport(HttpResponse(status=503), HttpResponse(status=413)))
    given = request(LONG)
    await transport.send(given)
    await transport.send(given)
    assert repr(transport) == "<GzipTransport: 1 compressed>"
    del given
    assert repr(transport) == "<GzipTransport: 0 compressed>"


async def test_closing_closes_the_inner_transport():
    inner = ScriptedTransport()
    await GzipTransport(inner).aclose()
    assert inner.is_closed


@pytest.mark.parametrize("body", [b"", b"x", os.urandom(5000), LONG, VERY_LONG], ids=len)
async def test_a_file_is_compressed_always_and_no_header_changes(body):
    """What is stored under a name that ends in `.gz` has to be in gzip, whatever its size."""
    for headers in ({"content-type": "application/gzip"}, {"content-encoding": "gzip"}):
        inner = ScriptedTransport(then=HttpResponse(status=200))
        transport = GzipTransport(inner, is_file=True)
        given = request(body, **headers)
        await transport.send(given)
        await transport.send(given)
        first, second = inner.requests
        assert gzip.decompress(first.body) == body
        assert first is second
        assert dict(first.headers) == headers
