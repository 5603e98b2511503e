"""HTTP in: takes telemetry batches, hands them on in memory and answers at once.

Data problems are counted and answered 200, because Lambda sends a refused batch again and again.
Source: lambda telemetry listeners in the field; AWS documents only that anything but 2xx is retried.
"""

import socket
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from telemetry_forwarder.clock import Clock
from telemetry_forwarder.enrich import Enricher, Knowledge, batch_id
from telemetry_forwarder.errors import DecodeError
from telemetry_forwarder.heritage import HeritageFile
from telemetry_forwarder.ledger import Door, Unrouted
from telemetry_forwarder.log import Log
from telemetry_forwarder.pipeline.frames import KeptBody, all_of
from telemetry_forwarder.pipeline.segments import masks_of
from telemetry_forwarder.pipeline.spool import Spool
from telemetry_forwarder.records import Record, decode
from telemetry_forwarder.router import Router

# A body may be twice `maxBytes` plus metadata. Source: AWS Lambda Developer Guide, Telemetry API, buffering. It does
# not say whether before JSON's escapes: the longest line (256 KB) of control characters takes six times its length.
_METADATA_BYTES = 64 * 1024
_LONGEST_LINE_BYTES = 6 * 256 * 1024


@dataclass(frozen=True, slots=True)
class Keeping:
    """Where bodies are kept, and how what is to be done when the answer has gone out is handed on.

    Without `soon` a body is written before it is answered.
    """

    spool: Spool
    soon: Callable[[Callable[[], None]], object] | None = None


class Intake:
    """What happens to a body: decode, enrich, keep, route, tell the lifecycle. Waits for nothing but the disk."""

    def __init__(
        self,
        *,
        enricher: Enricher,
        router: Router,
        door: Door,
        on_records: Callable[[Sequence[Record]], None],
        clock: Clock,
        log: Log,
        heir: HeritageFile | None = None,
        keeping: Keeping | None = None,
    ) -> None:
        self._enricher = enricher
        self._router = router
        self._door = door
        self._on_records = on_records
        self._clock = clock
        self._log = log
        self._heir = heir
        self._left = enricher.heritage
        self._keeping = keeping
        self._recent: deque[str] = deque(keeping.spool.identities() if keeping else (), maxlen=64)

    def take(self, body: bytes, sequence_id: str) -> None:
        """Count and hand on one body."""
        self._door.bodies += 1
        identity = batch_id(body, sequence_id)
        if identity in self._recent:  # our 200 was lost, and Lambda sent the batch again
            self._door.redelivered_bodies += 1
            return
        received_ms = round(self._clock.time() * 1000)
        try:
            items, others = decode(body, received_ms)
        except DecodeError as error:
            self._door.undecodable_bodies += 1
            self._log.warning(f"Lambda sent something that is no telemetry: {error}. It is counted and left out.")
            return
        self._recent.append(identity)
        self._door.received += len(items) + others
        if others:
            self._door.unrouted[Unrouted.NOT_A_RECORD] += others
            self._log.warning(f"{others} elements of a telemetry batch are no records; they are counted and left out.")
        before = self._enricher.knowledge
        records = self._enricher.enrich(items, identity)
        self._leave()
        wanted = self._router.wanted(records)
        if self._keeping is not None and items:
            mask = all_of(len(items)) if len(wanted) == len(items) else masks_of(r.id for r in wanted).get(identity, 0)
            self._keep(self._keeping, KeptBody(
                identity=identity, received_ms=received_ms, items=len(items), mask=mask,
                teaches=self._enricher.knowledge is not before, body=body,
            ), before)  # fmt: skip
        self._router.offer(wanted)
        for record in records:
            if record.type == "platform.logsDropped" and record.fields:
                self._note_loss(record.fields)
        self._on_records(records)

    def _leave(self) -> None:
        """Write down for the next generation what has been learnt, before anything else can end this one."""
        if self._heir is not None and self._left != self._enricher.heritage:
            self._left = self._enricher.heritage
            self._heir.write(self._left)

    def _keep(self, keeping: Keeping, kept: KeptBody, before: Knowledge) -> None:
        """Write the body down: now, or when it is answered; at the latest when a sink has no room for its records."""
        if not kept.mask and not kept.teaches:
            return
        keeping.spool.add(kept, before, self._enricher.knowledge)
        (keeping.soon or _now)(keeping.spool.commit)

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
async def serve(listener: socket.socket, intake: Intake, max_bytes: int) -> AsyncIterator[None]:
    """Serve telemetry at `/` on a socket that already listens; `max_bytes` is the subscription's.

    What arrived before this is called waits in the kernel's queue. Leaving the context closes the socket. A body
    that is too long is counted and answered 200 like any other that cannot be used: Lambda would send it again and
    again, with everything else waiting behind it, the end of the invocation too.
    """
    limit = body_limit(max_bytes)

    async def answer(request: web.BaseRequest) -> web.Response:
        if request.path != "/":
            return web.Response(status=404, text="telemetry is taken at /\n")
        if request.method != "POST":
            return web.Response(status=405, headers={"Allow": "POST"}, text="telemetry is sent with POST\n")
        body = await _read(request, limit)
        if body is None:
            intake.refuse(limit)
        else:
            intake.take(body, request.headers.get("sequence-id", ""))
        return web.Response()

    # access_log and the keep-alive timer off: the one peer is the platform, and timers fire wrongly after a freeze.
    runner = web.ServerRunner(web.Server(answer, access_log=None, keepalive_timeout=3600), shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.SockSite(runner, listener).start()
        yield
    finally:
        await runner.cleanup()


async def _read(request: web.BaseRequest, limit: int) -> bytes | None:
    """Return the body; None where it is longer than `limit` bytes, read to its end all the same, but not kept."""
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.content.iter_any():
        size += len(chunk)
        if size <= limit:
            chunks.append(chunk)
        else:
            chunks.clear()
    return b"".join(chunks) if size <= limit else None


def _now(work: Callable[[], None]) -> None:
    work()


def _whole(value: object) -> int:
    """Return a sensible count; anything else would be carried into the ledger."""
    return value if isinstance(value, int) and 0 <= value < 2**53 else 0
