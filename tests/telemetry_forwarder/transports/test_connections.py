"""A connection's own judgement on whether a request may go out on it."""

import asyncio

import pytest

from telemetry_forwarder.transports.connections import KEEP_ALIVE_S, Attempt, Connection
from telemetry_forwarder.transports.steps import Way


class Clocks:
    """Both clocks, moved by hand."""

    def __init__(self, wall: float = 5000.0, monotonic: float = 100.0) -> None:
        self._wall, self._monotonic = wall, monotonic

    def time(self) -> float:
        return self._wall

    def monotonic(self) -> float:
        return self._monotonic


async def new_connection() -> Connection:
    return Connection(asyncio.get_running_loop(), Attempt("http://127.0.0.1:80/", None, Way()))


async def test_what_a_server_says_first_keeps_no_new_connection_from_being_used() -> None:
    """Who would take another one instead meets the same greeting there, and never comes to an end."""
    connection = await new_connection()
    connection.data_received(b"SSH-2.0-OpenSSH\r\n")
    assert connection.should_close
    assert connection.is_usable(Clocks())


@pytest.mark.parametrize(
    ("wall", "monotonic", "is_usable"),
    [
        (KEEP_ALIVE_S, 0.0, True),
        (KEEP_ALIVE_S + 0.1, 0.0, False),  # frozen, or a snapshot: the monotonic clock stood still
        (0.0, KEEP_ALIVE_S + 0.1, False),
        (-1.0, -1.0, False),  # a snapshot, on another machine
    ],
)
async def test_age_is_that_of_the_clock_that_says_more(wall: float, monotonic: float, *, is_usable: bool) -> None:
    connection = await new_connection()
    connection.begin()
    connection.rest(Clocks())
    assert connection.is_usable(Clocks(5000.0 + wall, 100.0 + monotonic)) is is_usable
