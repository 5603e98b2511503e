"""What is blamed for a request that had no time left."""

import asyncio

import pytest

from telemetry_forwarder.errors import ConnectFailed
from telemetry_forwarder.interfaces import Cause
from telemetry_forwarder.transports.steps import Ways, connection_wanted

WANTED = connection_wanted("host:1")
REFUSED = ConnectFailed("host:1: no connection (Connection refused)")


def request(ways: Ways, *steps: Cause | None, end: BaseException | None = None) -> None:
    """Go through `steps`, of which None is the way to the receiver, and end."""
    with ways.begin() as way:
        for step in steps:
            way.waits_for = step
        if end is not None:
            raise end


async def test_a_request_without_time_blames_what_the_last_one_met() -> None:
    ways = Ways()
    with pytest.raises(ConnectFailed):
        request(ways, WANTED, end=REFUSED)
    assert ways.waits_for() is None, "nothing is under way, and nothing was cut off"
    with pytest.raises(asyncio.CancelledError):
        request(ways, end=asyncio.CancelledError())
    blamed = ways.waits_for()
    assert blamed is not None
    assert (blamed.text.rstrip("."), blamed.reason) == (str(REFUSED), "unreachable")
    request(ways, WANTED, None)
    assert ways.waits_for() is None


async def test_a_request_that_was_sent_is_owed_an_answer() -> None:
    ways = Ways()
    with pytest.raises(asyncio.CancelledError):
        request(ways, WANTED, None, end=asyncio.CancelledError())
    assert ways.waits_for() is None
