"""What is said to Lambda while the application loads: once, in time, and never into a function's timeout."""

import json
import select
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from telemetry_forwarder.lambda_api.client import Invoke, invocation_in
from telemetry_forwarder.lambda_api.first_event import (
    SHORT_BUDGET_MS,
    WHOLE_BUDGET_MS,
    Early,
    budget_ms,
    number_after,
)
from telemetry_forwarder.lambda_api.registration import receive, send
from telemetry_forwarder.variables.reading import read_all

AHEAD = {"AWS_LAMBDA_INITIALIZATION_TYPE": "provisioned-concurrency"}


class Lambda:
    """Answers each `/event/next` with the next of a script, as soon as it may; None is never answered."""

    def __init__(self, *script: dict[str, object] | None) -> None:
        self._script = list(script)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.asked: list[float] = []
        self._open: list[socket.socket] = []
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._open.append(connection)
            head = connection.recv(65536)
            assert head.startswith(b"GET /2020-01-01/extension/event/next ")
            assert b"\r\nLambda-Extension-Identifier: the-id\r\n" in head
            self.asked.append(time.monotonic())
            event = self._script.pop(0) if self._script else None
            if event is not None:
                self.answer(connection, json.dumps(event).encode())

    def answer(self, connection: socket.socket, body: bytes) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))

    def close(self) -> None:
        for one in (self._listener, *self._open):
            one.close()


class Cut(Lambda):
    """Sends its first answer in packets, cut before the first appearance of each of `at`, 50 ms apart."""

    at: tuple[bytes, ...] = ()

    def answer(self, connection: socket.socket, body: bytes) -> None:
        rest = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with suppress(OSError):  # who asked need not wait for the end
            for place in self.at:
                first, found, behind = rest.partition(place)
                connection.sendall(first)
                rest = found + behind
                time.sleep(0.05)  # the case itself: two packets, this far apart
            connection.sendall(rest)


def invoke(left_s: float) -> dict[str, object]:
    return {"eventType": "INVOKE", "deadlineMs": round((time.time() + left_s) * 1000), "requestId": "r", "tracing": {}}


@contextmanager
def early(
    *script: dict[str, object] | None, cut_at: tuple[bytes, ...] = (), **environ: str
) -> Iterator[tuple[Early, Lambda]]:
    api = Cut(*script) if cut_at else Lambda(*script)
    if isinstance(api, Cut):
        api.at = cut_at
    before = signal.getsignal(signal.SIGALRM)
    one = Early(api.address, "the-id", read_all(environ), send)
    try:
        yield one, api
    finally:
        if (waiting := one.hand_over()) is not None:
            waiting[0].close()
        signal.signal(signal.SIGALRM, before)
        api.close()


def wait_until_asked(api: Lambda, times: int) -> None:
    """Wait in small steps, as signals are served between byte codes of this thread."""
    end = time.monotonic() + 10
    while len(api.asked) < times and time.monotonic() < end:
        select.select([], [], [], 0.005)
    assert len(api.asked) == times


def wait_until_given_up(one: Early) -> None:
    end = time.monotonic() + 10
    while not one.given_up and time.monotonic() < end:
        select.select([], [], [], 0.005)
    assert one.given_up


@pytest.mark.parametrize(
    ("environ", "ms"),
    [
        ({"AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "1769"}, SHORT_BUDGET_MS),
        ({"AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "708"}, SHORT_BUDGET_MS),
        ({"AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "707"}, WHOLE_BUDGET_MS),
        ({"AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "128"}, WHOLE_BUDGET_MS),
        ({"AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "much"}, SHORT_BUDGET_MS),
        ({}, SHORT_BUDGET_MS),
        ({"AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "1769", "TELEMETRY_FORWARDER_SECRETS": "token"}, WHOLE_BUDGET_MS),
        ({"AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "1769", **AHEAD}, WHOLE_BUDGET_MS),
        ({"AWS_LAMBDA_INITIALIZATION_TYPE": "snap-start"}, WHOLE_BUDGET_MS),
        ({"AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand"}, SHORT_BUDGET_MS),
        ({**AHEAD, "TELEMETRY_FORWARDER_INIT_BUDGET_MS": "5"}, 5),
        ({"TELEMETRY_FORWARDER_SECRETS": "open", "TELEMETRY_FORWARDER_INIT_BUDGET_MS": "5"}, 5),
        ({"AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "1769", "TELEMETRY_FORWARDER_INIT_BUDGET_MS": "0"}, 0),
        ({"TELEMETRY_FORWARDER_INIT_BUDGET_MS": "9000"}, 9000),
        ({"TELEMETRY_FORWARDER_INIT_BUDGET_MS": "soon"}, SHORT_BUDGET_MS),
    ],
)
def test_init_waits_as_long_as_is_set_or_goes_with_memory_and_use(environ: dict[str, str], ms: int) -> None:
    assert budget_ms(read_all(environ)) == ms


def test_the_first_event_is_asked_for_when_the_budget_is_spent_and_not_before() -> None:
    with early(invoke(10)) as (one, api):
        began = time.monotonic()
        one.start(0.1)
        wait_until_asked(api, 1)
        assert api.asked[0] - began >= 0.095
        waiting = one.hand_over()
        assert waiting is not None
        status, _, body = receive(*waiting)
        assert (status, json.loads(body)["requestId"]) == (200, "r")
        assert one.hand_over() is None


def test_who_is_ready_before_asks_for_it_himself() -> None:
    with early() as (one, api):
        one.start(0.05)
        assert one.hand_over() is None
        select.select([], [], [], 0.15)
        assert api.asked == []


def test_it_is_asked_for_once_while_no_event_comes() -> None:
    with early(None) as (one, api):
        one.start(0.0)
        wait_until_asked(api, 1)
        select.select([], [], [], 0.1)
        assert len(api.asked) == 1


def test_an_invocation_is_given_up_before_the_function_runs_into_its_timeout() -> None:
    with early(invoke(0.5), None) as (one, api):
        one.start(0.0)
        wait_until_asked(api, 2)
        assert 0.2 < api.asked[1] - api.asked[0] < 0.45, "0.5 s less a margin of 0.2 s"


def test_an_invocation_is_held_for_no_longer_than_any_other_may_be() -> None:
    with early(invoke(60), None, TELEMETRY_FORWARDER_FLUSH_TIMEOUT_MS="200") as (one, api):
        one.start(0.0)
        wait_until_asked(api, 2)
        assert 0.19 < api.asked[1] - api.asked[0] < 1


def test_where_no_invocation_is_ever_held_this_one_is_not_either() -> None:
    with early(invoke(60), None, TELEMETRY_FORWARDER_FLUSH="continuous") as (one, api):
        one.start(0.0)
        wait_until_asked(api, 2)
        assert api.asked[1] - api.asked[0] < 0.2
        assert b'"INVOKE"' in one.given_up


@pytest.mark.parametrize(
    "cut_at",
    [
        (b" 200",), (b"Content-Length",), (b"\n\r\n",), (b"{",), (b"INVOKE",), (b"deadlineMs",), (b"requestId",),
        (b"}",), (b"OK", b"Length", b"{", b"VOKE", b"Ms", b"Id", b"}"),
    ],
)  # fmt: skip
def test_an_invocation_that_comes_in_packets_is_given_up_with_all_that_is_told(cut_at: tuple[bytes, ...]) -> None:
    with early(invoke(60), None, cut_at=cut_at, TELEMETRY_FORWARDER_FLUSH_TIMEOUT_MS="500") as (one, api):
        one.start(0.0)
        wait_until_asked(api, 2)
        told = json.loads(one.given_up.partition(b"\r\n\r\n")[2])
        assert invocation_in(one.given_up) == Invoke("r", told["deadlineMs"])


def test_the_order_of_an_events_members_is_nobodys_business() -> None:
    event = dict(reversed(invoke(60).items()))
    with early(event, None, TELEMETRY_FORWARDER_FLUSH_TIMEOUT_MS="200") as (one, api):
        one.start(0.0)
        wait_until_asked(api, 2)
        assert b'"INVOKE"' in one.given_up


def test_an_invocation_of_which_half_is_told_is_given_up_and_ends_nothing() -> None:
    """What is not known of it is its request; its records are sent with the next event."""
    with early(invoke(60), None, cut_at=(b"requestId",) * 9, TELEMETRY_FORWARDER_FLUSH_TIMEOUT_MS="100") as (one, _):
        one.start(0.0)
        wait_until_given_up(one)
        assert invocation_in(one.given_up) is None


def test_shutdown_is_left_to_the_application() -> None:
    with early({"eventType": "SHUTDOWN", "deadlineMs": 1, "shutdownReason": "spindown"}) as (one, api):
        one.start(0.0)
        wait_until_asked(api, 1)
        select.select([], [], [], 0.1)
        waiting = one.hand_over()
        assert waiting is not None
        assert json.loads(receive(*waiting)[2])["eventType"] == "SHUTDOWN"
        assert len(api.asked) == 1


def test_an_api_that_is_not_there_is_left_to_the_application_too() -> None:
    one = Early("127.0.0.1:1", "the-id", read_all({}), send)
    before = signal.getsignal(signal.SIGALRM)
    try:
        one.start(0.0)
        select.select([], [], [], 0.05)
        assert one.hand_over() is None
    finally:
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize(
    ("text", "number"),
    [(b'{"n":12,', 12), (b'{"n": 7}', 7), (b'{"n":12', None), (b'{"n":', None), (b"", None), (b'{"n":x1,', None)],
)
def test_a_number_counts_when_it_is_whole(text: bytes, number: int | None) -> None:
    assert number_after(text, b'"n":') == number
