"""A backend that takes the records and answers in a way that cannot be read: they are delivered, and once."""

import asyncio
import gzip
from collections import Counter

import orjson
import pytest

from tests.integration.sockets import Seen, serving
from tests.integration.world import NUMBERED, assert_balanced, world

GOOD = b'{"text":"Success","code":0}'
ODD = {
    "no colon": b"HTTP/1.1 200 OK\r\nhidden\r\nContent-Length: 27\r\n\r\n" + GOOD,
    "no gzip": b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 27\r\n\r\n" + GOOD,
    "half a body": b"HTTP/1.1 200 OK\r\nContent-Length: 27\r\n\r\n" + GOOD[:9],
}


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
async def test_records_whose_200_cannot_be_read_are_delivered_once_and_it_is_said_once(odd: bytes) -> None:
    stored: list[str] = []

    async def answer(seen: Seen, writer: asyncio.StreamWriter) -> bool:
        if not seen.line.startswith("POST"):  # the question after its health
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 27\r\n\r\n" + GOOD)
            return True
        body = gzip.decompress(seen.body) if seen.headers.get("content-encoding") == "gzip" else seen.body
        stored.extend(
            orjson.loads(line)["fields"]["record_id"] for line in body.splitlines() if NUMBERED.search(line.decode())
        )
        writer.write(odd)
        return False

    async with serving(answer) as server:
        splunk = {"SPLUNK_HEC_URL": server.url().rstrip("/"), "TELEMETRY_FORWARDER_SINKS": "splunk"}
        async with world(environment=splunk) as w:
            for index in range(4):
                assert (await w.env.invoke({"first": 2 * index, "lines": 2})).status == "success"
            await w.env.shutdown()
            (ledger,) = w.ledgers
            said = [line for line in w.said if "an answer that cannot be read" in line["message"]]
    assert len(stored) == 8
    assert set(Counter(stored).values()) == {1}
    assert_balanced(ledger)
    book = ledger["sinks"]["splunk"]
    assert (book["delivered"], sum(book["dropped"].values())) == (ledger["door"]["routed"], 0)
    assert [line["level"] for line in said] == ["WARN"] + ["INFO"] * (len(said) - 1)
