"""What is blamed for a request that had no time left."""

import asyncio

import pytest

from telemetry_forwarder.errors import ConnectFailed
from telemetry_forwarder.transports.steps import Ways, connection_wanted


async def test_a_request_without_time_blames_what_the_last_one_met() -> None:
    ways = Ways()
    with pytest.raises(ConnectFailed), ways.begin() as way:
        way.waits_for = connection_wanted("host:1")
        raise ConnectFailed("host:1: no connection (Connection refused)")
    assert ways.waits_for() is None, "nothing is under way, and nothing was cut off"
    with pytest.raises(asyncio.CancelledError), ways.begin():
        raise asyncio.CancelledError
    blamed = ways.waits_for()
    assert blamed is not None
    assert (blamed.text.rstrip("."), blamed.reason) == ("host:1: no connection (Connection refused)", "unreachable")
    with ways.begin() as way:
        way.waits_for = None  # it goes to its receiver
    assert ways.waits_for() is None


async def test_a_request_that_was_sent_is_owed_an_answer() -> None:
    ways = Ways()
    with pytest.raises(asyncio.CancelledError), ways.begin() as way:
        way.waits_for = connection_wanted("host:1")
        way.waits_for = None
        raise asyncio.CancelledError
    assert ways.waits_for() is None
