"""The contract of a sink as a pytest class: every record is accounted for, whatever the destination answers.

Subclass SinkContract in a test module, and define `destination()` and the destination's `answers`:

    class TestMySink(SinkContract):
        answers = Answers(accept=HttpResponse(status=200), throttle=HttpResponse(status=429), …)

        def destination(self) -> Destination[Any, Any]:
            return my_sink.create({"MY_URL": "http://127.0.0.1:1"})

The sink runs behind the real worker, buffer, batcher and retry. Only the network is simulated, in virtual time.
"""

import asyncio
import random
import tracemalloc
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from msgspec import Struct, field
from msgspec.structs import replace

from telemetry_forwarder.clock import Deadline
from telemetry_forwarder.delivery.window import CLOSED, answered_by
from telemetry_forwarder.delivery.worker import Capacity, Worker
from telemetry_forwarder.errors import ConnectionLost, EncodeError
from telemetry_forwarder.interfaces import (
    Delivered,
    Denied,
    Destination,
    DropReason,
    HttpRequest,
    HttpResponse,
    Partial,
    PutLogEvents,
    Rejected,
    Retry,
    TooLarge,
)
from telemetry_forwarder.ledger import Statement
from telemetry_forwarder.log import Log
from telemetry_forwarder.records.record import Context, Origin, Record
from telemetry_forwarder.testing.virtual_time import clock, run

EPOCH_MS = 1_800_000_000_000
# The objects of an encoded record, without its bytes.
_OBJECTS_BYTES = 200
HANG = "hang"
_LOSE = "lose the connection"
ORIGIN = Origin(
    function_name="orders",
    function_version="$LATEST",
    function_arn="arn:aws:lambda:eu-west-1:123456789012:function:orders",
    region="eu-west-1",
    account_id="123456789012",
    memory_mb=512,
    instance_id="2026/11/23/[$LATEST]0123456789abcdef0123456789abcdef",
    init_type="on-demand",
    service="orders",
    env="test",
    version="1.2.3",
    tags=(("team", "shop"),),
)


class Answers(Struct, frozen=True, kw_only=True):
    """The destination's answer for each case, None if it has no such answer: tests that need it are skipped.

    `partial(count)` returns the answer to a batch of `count` records that refuses the record at index 0 for good.
    """

    accept: Any
    throttle: Any
    reject: Any = None
    deny: Any = None
    too_large: Any = None
    partial: Callable[[int], Any] | None = None


class _Stage(Struct):
    """A transport that simulates the destination: it answers with each step of `script`, then always with `then`."""

    script: list[Any]
    then: Any
    accept: Any
    fits: int | None = None  # a request with more records than this is answered with `too_large`
    too_large: Any = None
    seen: list[tuple[float, Any]] = field(default_factory=list)  # (time, request)
    accepted: list[Any] = field(default_factory=list)  # requests that were accepted, fully or partly
    count: Callable[[Any], int] = lambda request: 0

    async def send(self, request: Any) -> Any:
        self.seen.append((clock().monotonic(), request))
        answer = self.script.pop(0) if self.script else self.then
        if self.fits is not None and self.count(request) > self.fits:
            answer = self.too_large
        if answer == HANG:
            await asyncio.Event().wait()
        if answer == _LOSE:
            raise ConnectionLost("the connection was lost before the answer")
        if answer is self.accept or callable(answer):
            self.accepted.append(request)
        return answer(self.count(request)) if callable(answer) else answer

    async def aclose(self) -> None: ...


def payload(request: Any) -> bytes:
    """Return the bytes of a request, to search them for record ids."""
    if isinstance(request, HttpRequest):
        return request.body
    if isinstance(request, PutLogEvents):
        return "\n".join(message for _, message in request.events).encode()
    return repr(request).encode()


def records(count: int, *, text: str = "line", first: int = 0) -> list[Record]:
    """Return `count` records of several kinds with different ids, times and texts."""
    made = []
    for index in range(first, first + count):
        body: Any = f"{text} {index}"
        kind = "function"
        if index % 3 == 1:
            body = {"level": "INFO", "message": f"{text} {index}"}
        if index % 7 == 6:
            kind, body = "platform.report", {"requestId": "r", "status": "success", "metrics": {"durationMs": 1.5}}
        made.append(
            Record(
                batch=f"id-{index:06d}-",
                index=None,
                time_ms=EPOCH_MS + index,
                body=body,
                fields=body if isinstance(body, dict) else None,
                context=Context(ORIGIN, kind, "8f5f0a4e-0d39-4f7e-b6f5-1f3b5f4b9a77", index < 5, "info"),
                size_bytes=200,
            )
        )
    return made


class SinkContract:
    """The tests that every sink must pass."""

    answers: Answers
    shared_mark = b"id-0"  # what is in the mark of each record once, and nowhere else in a request

    def destination(self) -> Destination[Any, Any]:
        """Return the destination under test."""
        raise NotImplementedError

    def records(self, count: int) -> list[Record]:
        """Return `count` different records of the kinds that the sink takes."""
        return records(count)

    def mark(self, record: Record) -> bytes:
        """Return what shows in a request that `record` is in it: its id, which no sink of log records leaves out."""
        return record.id.encode()

    def payload(self, request: Any) -> bytes:
        """Return the bytes of a request in which the marks can be found; another form if it is packed or in base64."""
        return payload(request)

    # --- alone ------------------------------------------------------------------------------------------------------

    def test_sink_is_pure(self) -> None:
        """Equal records give equal requests, each time."""
        sink = self.destination().sink
        batch = [sink.encode(record) for record in self.records(20)]
        assert [sink.encode(record) for record in self.records(20)] == batch
        assert sink.request(batch) == sink.request(batch)

    def test_every_record_shows_its_id(self) -> None:
        sink = self.destination().sink
        for record in self.records(20):
            assert self.mark(record) in self.payload(sink.request([sink.encode(record)]))

    def test_encoded_records_take_no_more_memory_than_their_bytes(self) -> None:
        """Thousands are held in an outage. orjson's output has kilobytes to spare: `to_json` gives them back."""
        sink, given = self.destination().sink, self.records(500)
        held = [sink.encode(record) for record in given]  # everything is loaded and cached
        held.clear()
        tracemalloc.start()
        try:
            held += [sink.encode(record) for record in given]
            taken, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert taken < sum(len(encoded.data) + _OBJECTS_BYTES for encoded in held)

    @pytest.mark.parametrize(
        "text", ["a" * 3_000_000, "\\" * 2_000_000, "é" * 1_500_000, "😀" * 800_000, "\x00" * 400_000]
    )
    @pytest.mark.parametrize("as_object", [False, True])
    def test_oversize_record_is_cut_to_the_limit_and_marked(self, text: str, as_object: bool) -> None:
        sink = self.destination().sink
        body: Any = {"message": text} if as_object else text
        record = self.records(1)[0]
        big = replace(record, body=body, fields=body if as_object else None)
        encoded = sink.encode(big)
        assert len(encoded.data) <= sink.limits.max_record_bytes
        is_whole = len(text.encode()) <= sink.limits.max_record_bytes  # JSON takes up to six bytes for one
        assert encoded.is_cut or is_whole
        assert encoded.is_cut or text.encode() in encoded.data or len(text) * 6 <= sink.limits.max_record_bytes
        assert big.id.encode() in self.payload(sink.request([encoded]))

    @pytest.mark.parametrize(
        "body", ["", " ", "\n", "\x00", "😀", "\u2028", {}, [], None, 0, 1.5, True, [1, {"a": None}], {"": ""},
                 {"lambda": 1, "message": 2}, {"n": 2**70}, {"s": "\ud800"}, {"deep": [[[[[[]]]]]]}],
    )  # fmt: skip
    def test_odd_records_are_expressed_or_refused_by_name(self, body: Any) -> None:
        sink = self.destination().sink
        for kind in ("function", "extension", "platform.report", "platform.unheardOf", "unheardOf"):
            odd = replace(
                self.records(1)[0],
                body=body,
                fields=body if isinstance(body, dict) else None,
                context=Context(Origin(function_name="f"), kind),
            )
            try:
                encoded = sink.encode(odd)
            except EncodeError:
                continue
            assert self.payload(sink.request([encoded]))

    @pytest.mark.parametrize(
        "status", [100, 200, 204, 301, 400, 401, 403, 404, 408, 413, 418, 429, 500, 501, 503, 599, 999]
    )
    @pytest.mark.parametrize(
        "body", [b"", b"{}", b"[]", b"null", b"<html>", b"\xff\xfe", b'{"code":"x"}', b'{"code":6}']
    )
    def test_no_answer_makes_the_verdict_raise(self, status: int, body: bytes) -> None:
        sink = self.destination().sink
        if not isinstance(sink.request([sink.encode(self.records(1)[0])]), HttpRequest):
            pytest.skip("not an HTTP sink")
        batch = [sink.encode(record) for record in self.records(3)]
        headers = {"retry-after": "soon", "x-ratelimit-reset": "-1", "location": "http://elsewhere/"}
        verdict = sink.verdict(batch, HttpResponse(status=status, body=body, headers=headers))
        assert isinstance(verdict, Delivered | Retry | Rejected | TooLarge | Denied | Partial)
        if status >= 300:
            assert not isinstance(verdict, Delivered)

    # --- behind the worker ------------------------------------------------------------------------------------------

    def test_all_is_accepted(self) -> None:
        statement, stage = self.play(self.records(50), [])
        assert statement.delivered == 50
        assert self.arrivals(stage, 50) == Counter({1: 50})

    def test_throttled_records_are_delivered_once(self) -> None:
        statement, _ = self.play(self.records(50), [self.answers.throttle] * 3)
        assert (statement.delivered, statement.lost, statement.failed_attempts) == (50, 0, 3)

    def test_refused_records_are_dropped_and_counted(self) -> None:
        self.needs(self.answers.reject)
        statement, _ = self.play(self.records(9), [], then=self.answers.reject)
        assert statement.delivered == 0
        assert statement.dropped == {DropReason.REJECTED: 9} or statement.dropped == {DropReason.OVERSIZE: 9}

    def test_denied_records_are_held_and_delivered_when_the_credential_is_mended(self) -> None:
        self.needs(self.answers.deny)
        statement, _ = self.play(self.records(9), [self.answers.deny])
        assert statement.delivered == 9

    def test_denied_to_the_end_is_counted_as_unauthorized(self) -> None:
        self.needs(self.answers.deny)
        statement, _ = self.play(self.records(9), [], then=self.answers.deny)
        assert statement.dropped == {DropReason.UNAUTHORIZED: 9}

    def test_too_large_is_halved_until_it_fits(self) -> None:
        self.needs(self.answers.too_large)
        statement, stage = self.play(self.records(50), [], fits=8)
        assert (statement.delivered, statement.lost) == (50, 0)
        assert all(self.count_in(request) <= 8 for request in stage.accepted)

    def test_single_record_that_is_too_large_is_dropped_as_such(self) -> None:
        self.needs(self.answers.too_large)
        statement, _ = self.play(self.records(3), [], fits=0)
        assert statement.delivered == 0
        assert statement.lost == 3

    def test_partial_answer_settles_each_record_once(self) -> None:
        self.needs(self.answers.partial)
        statement, _ = self.play(self.records(10), [self.answers.partial])
        # A sink may retry the record if the refusal may be the configuration's fault; then it is accepted here.
        assert statement.lost <= 1
        assert statement.delivered == 10 - statement.lost

    def test_lost_connection_is_tried_again(self) -> None:
        statement, stage = self.play(self.records(20), [_LOSE])
        assert statement.delivered == 20
        assert self.arrivals(stage, 20) == Counter({1: 20})

    def test_hanging_destination_ends_at_the_deadline(self) -> None:
        statement, stage = self.play(self.records(20), [], then=HANG)
        assert statement.dropped == {DropReason.DEADLINE: 20}
        assert len(stage.seen) <= 12

    @pytest.mark.parametrize("seed", range(25))
    def test_random_answers_leave_a_balanced_ledger(self, seed: int) -> None:
        """Every record arrives at least once or is counted as lost, whatever the answers."""
        dice = random.Random(seed)
        known = [a for a in (self.answers.accept, self.answers.throttle, self.answers.reject, self.answers.deny,
                             self.answers.too_large, self.answers.partial, _LOSE, HANG) if a is not None]  # fmt: skip
        count = dice.randint(1, 60)
        statement, stage = self.play(self.records(count), [dice.choice(known) for _ in range(dice.randint(0, 12))])
        arrived = sum(1 for record in self.records(count) if self.is_in(record, stage.accepted))
        assert arrived + statement.lost >= count

    # --- the stage --------------------------------------------------------------------------------------------------

    def play(
        self, given: Sequence[Record], script: list[Any], *, then: Any = None, fits: int | None = None
    ) -> tuple[Statement, _Stage]:
        """Run the records through the worker: three flushes, then a drain. Check that the ledger balances each time."""
        destination = self.destination()
        stage = _Stage(
            script=list(script),
            then=self.answers.accept if then is None else then,
            accept=self.answers.accept,
            fits=fits,
            too_large=self.answers.too_large,
            count=self.count_in,
        )

        async def scenario() -> tuple[Statement, float]:
            now = clock()
            worker = Worker(
                destination.sink,
                stage,
                capacity=Capacity(max_records=10_000, max_bytes=10_000_000),
                clock=now,
                log=Log("error", write=lambda line: None),
            )
            async with asyncio.TaskGroup() as group:
                group.create_task(worker.run())
                third = max(1, len(given) // 3)
                for part in (given[:third], given[third : 2 * third], given[2 * third :]):
                    worker.offer(part)
                    assert worker.statement().is_balanced()
                    await worker.flush(answered_by(Deadline(now.monotonic() + 5.0)))
                    assert worker.statement().is_balanced()
                    worker.allow(CLOSED)
                    await asyncio.sleep(60.0)
                send_until = Deadline(now.monotonic() + 1.5)
                await worker.drain(send_until)
                assert now.monotonic() <= send_until.at + 0.1
            return worker.statement(), send_until.at

        statement, send_until = run(scenario())
        assert statement.is_balanced()
        assert statement.held == 0
        assert statement.offered == len(given)
        assert all(at <= send_until for at, _ in stage.seen)
        return statement, stage

    def count_in(self, request: Any) -> int:
        return self.payload(request).count(self.shared_mark)

    def is_in(self, record: Record, requests: Sequence[Any]) -> bool:
        return any(self.mark(record) in self.payload(request) for request in requests)

    def arrivals(self, stage: _Stage, count: int) -> Counter[int]:
        """Return how many records arrived how often: {times: number of records}."""
        times = Counter[int]()
        for record in self.records(count):
            times[sum(self.mark(record) in self.payload(request) for request in stage.accepted)] += 1
        return times

    def needs(self, answer: Any) -> None:
        if answer is None:
            pytest.skip("the destination has no such answer")
