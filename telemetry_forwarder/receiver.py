"""HTTP in: takes telemetry batches, hands them on in memory and answers at once.

Data problems are counted and answered 200, because Lambda sends a refused batch again and again.
Source: lambda telemetry listeners in the field; AWS documents only that anything but 2xx is retried.
"""

import asyncio
import contextlib
import socket
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Protocol

import h11

from telemetry_forwarder.clock import Clock
from telemetry_forwarder.enrich import Enricher, Knowledge, batch_id
from telemetry_forwarder.errors import DecodeError
from telemetry_forwarder.heritage import HeritageFile
from telemetry_forwarder.ledger import Door, Unrouted
from telemetry_forwarder.log import Log
from telemetry_forwarder.pipeline.frames import KeptBody, all_of
from telemetry_forwarder.pipeline.segments import masks_of
from telemetry_forwarder.pipeline.spool import Spool
from telemetry_forwarder.records import Item, Record, Told, decode, events_in
from telemetry_forwarder.router import Router
from telemetry_forwarder.values import dataclass, replace

# A body may be twice `maxBytes` plus metadata. Source: AWS Lambda Developer Guide, Telemetry API, buffering. It does
# not say whether before JSON's escapes: the longest line (256 KB) of control characters takes six times its length.
_METADATA_BYTES = 64 * 1024
_LONGEST_LINE_BYTES = 6 * 256 * 1024

# Connections that may wait in the kernel. Lambda opens one for each function at most.
BACKLOG = 128

# A batch that comes again comes soon. The identities of as many are left to the next generation (`heritage.SIZE`).
_REMEMBERED = 64
# How the type of each of the platform's events begins.
EVENT = b'"platform.'
# Records that are made before others may have their turn: a tenth of a slice.
AT_ONCE = 16

REASONS = {200: b"OK", 404: b"Not Found", 405: b"Method Not Allowed"}


@dataclass(frozen=True, slots=True)
class Keeping:
    """Where bodies are kept, and how what is to be done when the answer has gone out is handed on.

    Without `soon` a body is written before it is answered.
    """

    spool: Spool
    soon: Callable[[Callable[[], None]], object] | None = None


@dataclass(slots=True)
class Arrived:
    """A body that was let in and is still to be digested; `decoded` where its events had to be looked at."""

    body: bytes
    identity: str
    received_ms: int
    decoded: tuple[list[Item], int] | None = None


class Takes(Protocol):
    """Whom a connection gives what comes."""

    def take(self, body: bytes, sequence_id: str) -> asyncio.Future[None] | None:
        """Take a body; what is returned is done when it may be answered (None: now)."""
        ...

    def refuse(self, limit: int) -> None: ...


class Intake:
    """What happens to a body: decode, enrich, keep, route, tell the lifecycle. Waits for nothing but the disk."""

    def __init__(
        self,
        *,
        enricher: Enricher,
        router: Router,
        door: Door,
        on_records: Callable[[Sequence[Told]], None],
        clock: Clock,
        log: Log,
        heir: HeritageFile | None = None,
        keeping: Keeping | None = None,
        known: Sequence[str] = (),
    ) -> None:
        """Begin to take bodies; `known` are the identities of those that the generation before took last."""
        self._enricher = enricher
        self._router = router
        self._door = door
        self._on_records = on_records
        self._clock = clock
        self._log = log
        self._heir = heir
        self._left = enricher.heritage
        self._keeping = keeping
        kept = keeping.spool.identities()[-_REMEMBERED:] if keeping else []
        self._recent = deque(dict.fromkeys([*known, *kept]), maxlen=2 * _REMEMBERED)

    def take(self, body: bytes, sequence_id: str) -> None:
        """Count and hand on one body, all of it at once."""
        arrived = self.admit(body, sequence_id)
        if arrived is not None:
            for _ in self.digest(arrived):
                pass

    def admit(self, body: bytes, sequence_id: str) -> Arrived | None:
        """Count a body and tell the lifecycle of the platform's events in it; None where it was here before.

        That much is done at once, and little: the end of an invocation must be seen however much waits before it.
        """
        self._door.bodies += 1
        identity = batch_id(body)
        if identity in self._recent:  # our 200 was lost, and Lambda sent the batch again
            self._door.redelivered_bodies += 1
            self._log.debug(f"Lambda sent a batch again (sequence-id {sequence_id[:64]!r}); it was taken before.")
            return None
        self._recent.append(identity)
        arrived = Arrived(body, identity, round(self._clock.time() * 1000))
        if EVENT not in body:
            self._on_records(())
            return arrived
        with contextlib.suppress(DecodeError):  # which is told when it is digested
            arrived.decoded = decode(body, arrived.received_ms)
        self._on_records(events_in(arrived.decoded[0]) if arrived.decoded is not None else ())
        return arrived

    def digest(self, arrived: Arrived) -> Iterator[None]:
        """Count and hand on what was admitted; between any two steps others may have their turn, but no other body.

        Nothing is counted before the last step, so that a body which is not digested to its end can be given up.
        """
        if (decoded := self._decoded(arrived)) is None:
            return
        items, others = decoded
        yield
        before = self._enricher.knowledge
        records: list[Record] = []
        for some in self._enricher.enrich_some(items, arrived.identity, AT_ONCE):
            records += some
            yield
        if self._left != self._enricher.heritage:
            self.leave()
        self._count(len(items), others)
        wanted = self._router.wanted(records)
        self._keep(arrived, len(items), [record.id for record in wanted], before)
        self._router.offer(wanted)
        for record in records:
            if record.type == "platform.logsDropped" and record.fields:
                self._note_loss(record.fields)

    def give_up(self, arrived: Arrived, *, keep: bool) -> int:
        """Count what was admitted and is not digested any more; with `keep` it goes to the spool, if there is one.

        Return how many records the sinks miss by it.
        """
        if (decoded := self._decoded(arrived)) is None:
            return 0
        items, others = decoded
        self._count(len(items), others)
        wanted = self._router.wanted(items)
        if keep:
            places = {id(item): index for index, item in enumerate(items)}
            ids = [f"{arrived.identity}{places[id(item)]:04x}" for item in wanted]
            self._keep(arrived, len(items), ids, None)
        return len(wanted)

    def _decoded(self, arrived: Arrived) -> tuple[list[Item], int] | None:
        """Return items and the number of other elements; where there are none, nothing is held to be taken."""
        found = arrived.decoded
        try:
            found = found or decode(arrived.body, arrived.received_ms)
        except DecodeError as error:
            self._door.undecodable_bodies += 1
            self._log.warning(f"Lambda sent something that is no telemetry: {error}. It is counted and left out.")
        if found is None or not (found[0] or found[1]):
            with contextlib.suppress(ValueError):  # long ago
                self._recent.remove(arrived.identity)
        return found

    def _count(self, items: int, others: int) -> None:
        self._door.received += items + others
        if others:
            self._door.unrouted[Unrouted.NOT_A_RECORD] += others
            self._log.warning(f"{others} elements of a telemetry batch are no records; they are counted and left out.")

    def leave(self) -> None:
        """Write down for the next generation what it has to know: at the end, and when there is something new.

        The latter before anything else can end this one.
        """
        if self._heir is not None:
            self._left = self._enricher.heritage
            self._heir.write(replace(self._left, taken="".join([*self._recent][-_REMEMBERED:])))

    def _keep(self, arrived: Arrived, items: int, wanted: list[str], before: Knowledge | None) -> None:
        """Write the body down: now, or when it is answered; at the latest when a sink has no room for its records.

        `wanted` are the ids of the records that the sinks want, `before` what the enricher knew before it; None: it has
        not seen the body, and who reads it must learn from it whatever there is.
        """
        if self._keeping is None or not items:
            return
        mask = all_of(items) if len(wanted) == items else masks_of(wanted).get(arrived.identity, 0)
        after = self._enricher.knowledge
        teaches = before is None or after is not before
        if not mask and not teaches:
            return
        kept = KeptBody(
            identity=arrived.identity, received_ms=arrived.received_ms, items=items, mask=mask, teaches=teaches,
            body=arrived.body,
        )  # fmt: skip
        self._keeping.spool.add(kept, before or after, after)
        (self._keeping.soon or _now)(self._keeping.spool.commit)

    def refuse(self, limit: int) -> None:
        """Count a body that was longer than `limit` bytes, and say so: nobody knows how many records it held."""
        self._door.oversize_bodies += 1
        self._log.warning(f"Lambda sent a telemetry body of more than {limit} bytes; it is counted and left out.")

    def _note_loss(self, fields: Mapping[str, Any]) -> None:
        """Count what Lambda itself had to drop: it is no record of ours, but the user's loss all the same."""
        records, size = _whole(fields.get("droppedRecords")), _whole(fields.get("droppedBytes"))
        self._door.lost_before_us += records
        self._door.lost_before_us_bytes += size
        self._log.warning(f"Lambda dropped {records} records ({size} bytes) before they reached the extension.")


def body_limit(max_bytes: int) -> int:
    """Return the most bytes that a body can have, where the subscription asks for `max_bytes`."""
    return 2 * max_bytes + _LONGEST_LINE_BYTES + _METADATA_BYTES


@asynccontextmanager
async def serve(listener: socket.socket, intake: Takes, max_bytes: int) -> AsyncIterator[None]:
    """Serve telemetry at `/` on a socket that already listens; `max_bytes` is the subscription's.

    What arrived before this is called waits in the kernel's queue. Leaving the context closes the socket. A body
    that is too long is counted and answered 200 like any other that cannot be used: Lambda would send it again and
    again, with everything else waiting behind it, the end of the invocation too.
    """
    limit = body_limit(max_bytes)
    entrances: set[Entrance] = set()
    server = await asyncio.get_running_loop().create_server(
        lambda: Entrance(intake, limit, entrances), sock=listener, backlog=BACKLOG
    )
    try:
        yield
    finally:
        server.close()
        for entrance in list(entrances):
            entrance.close()
        await asyncio.sleep(0)  # the loop closes what was aborted


class Entrance(asyncio.Protocol):
    """One connection on which telemetry comes: h11 keeps the rules of HTTP. It has no timer: the one peer is Lambda.

    A body of more than `limit` bytes is read to its end, but not kept.
    """

    def __init__(self, intake: Takes, limit: int, entrances: "set[Entrance]") -> None:
        self._intake = intake
        self._limit = limit
        self._entrances = entrances
        self._http = h11.Connection(h11.SERVER)
        self._request: h11.Request | None = None
        self._pieces: list[bytes] = []
        self._size = 0

    def close(self) -> None:
        self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - create_server makes no other
        self._transport = transport
        self._entrances.add(self)

    def connection_lost(self, error: Exception | None) -> None:
        self._entrances.discard(self)

    def data_received(self, data: bytes) -> None:
        self._http.receive_data(data)
        self._read()

    def eof_received(self) -> None:
        self._http.receive_data(b"")
        self._read()

    def _read(self) -> None:
        """Take what has come, request by request."""
        try:
            while True:
                event = self._http.next_event()
                if event is h11.NEED_DATA:
                    self._encourage()
                    return
                if not isinstance(event, h11.Event) or isinstance(event, h11.ConnectionClosed):
                    return  # it is over, or the answer to the request before is not sent yet
                self._take(event)
        except h11.RemoteProtocolError as error:
            self._refuse(error)

    def _take(self, event: h11.Event) -> None:
        if isinstance(event, h11.Request):
            self._request, self._pieces, self._size = event, [], 0
        elif isinstance(event, h11.Data):
            self._size += len(event.data)
            if self._size <= self._limit:
                self._pieces.append(event.data)
            else:
                self._pieces.clear()
        elif isinstance(event, h11.EndOfMessage) and self._request is not None:
            status, text, due = self._handle(self._request)
            if due is None:
                self._answer(status, text)
            else:
                due.add_done_callback(self._answer_late)

    def _answer_late(self, due: asyncio.Future[None]) -> None:
        if not self._transport.is_closing():
            self._answer(200, "")
            self._read()

    def _handle(self, request: h11.Request) -> tuple[int, str, asyncio.Future[None] | None]:
        """Deal with a whole request; return status and text of the answer, and what is done when it is due."""
        due = None
        if request.target.partition(b"?")[0] != b"/":
            return 404, "telemetry is taken at /\n", None
        if request.method != b"POST":
            return 405, "telemetry is sent with POST\n", None
        if self._size > self._limit:
            self._intake.refuse(self._limit)
        else:
            body = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
            sequence_id = next((value for name, value in request.headers if name == b"sequence-id"), b"")
            self._pieces = []
            due = self._intake.take(bytes(body), sequence_id.decode("latin-1"))
        return 200, "", due

    def _answer(self, status: int, text: str) -> None:
        headers = [("Content-Length", str(len(text)))]
        if text:
            headers.append(("Content-Type", "text/plain"))
        if status == 405:
            headers.append(("Allow", "POST"))
        parts = [self._http.send(h11.Response(status_code=status, headers=headers, reason=REASONS[status]))]
        if text and self._request is not None and self._request.method != b"HEAD":
            parts.append(self._http.send(h11.Data(data=text.encode())))
        parts.append(self._http.send(h11.EndOfMessage()))
        self._transport.write(b"".join(part for part in parts if part))
        if self._http.our_state is h11.DONE and self._http.their_state is h11.DONE:
            self._http.start_next_cycle()
        else:
            self._transport.close()

    def _encourage(self) -> None:
        """Say that the body may come, where a client waits to be told."""
        if self._http.they_are_waiting_for_100_continue:
            go_on = self._http.send(h11.InformationalResponse(status_code=100, headers=[], reason=b"Continue"))
            self._transport.write(go_on or b"")

    def _refuse(self, error: h11.RemoteProtocolError) -> None:
        """Answer what is no HTTP, as far as that can be done, and hang up."""
        if self._http.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            status = error.error_status_hint
            head = h11.Response(status_code=status, headers=[("Content-Length", "0"), ("Connection", "close")])
            self._transport.write((self._http.send(head) or b"") + (self._http.send(h11.EndOfMessage()) or b""))
        self._transport.close()


def _now(work: Callable[[], None]) -> None:
    work()


def _whole(value: object) -> int:
    """Return a sensible count; anything else would be carried into the ledger."""
    return value if isinstance(value, int) and 0 <= value < 2**53 else 0
