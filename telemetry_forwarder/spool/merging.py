"""Merge several segments into one: each reset leaves a small one, and there may be a thousand. Pure."""

from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias

from msgspec.structs import replace

from telemetry_forwarder.records.knowledge import Knowledge
from telemetry_forwarder.spool.frames import KeptBody, Note, body_frame, ranges_of, settled_frame
from telemetry_forwarder.spool.segments import DERIVER, Body, Segment

Place: TypeAlias = tuple[Body, int, int]  # a body, and the start and end of its frame


def longest_run(segments: Iterable[Segment], max_bytes: int) -> list[Segment]:
    """Return the longest run of neighbours with at most `max_bytes` together; the first one if several are equal."""
    run: list[Segment] = []
    best: list[Segment] = []
    size = 0
    for segment in segments:
        run.append(segment)
        size += segment.size
        while size > max_bytes:
            size -= run.pop(0).size
        if len(run) > len(best):
            best = run[:]
    return best


def merge(
    run: Sequence[Segment],
    merged: Segment,
    read: Callable[[Body], KeptBody],
    header: Callable[[Knowledge], list[bytes]],
) -> tuple[bytes, list[Place]]:
    """Return the bytes of the segment `merged` with all that is still needed of `run`, and the places of its bodies.

    The sections of `merged` are filled in. `read` may raise OSError or ValueError; `header` makes a section's first
    frame.
    """
    data = bytearray()
    places: list[Place] = []
    deriver = merged.sinks.index(DERIVER) if DERIVER in merged.sinks else None
    for segment in run:
        for body in segment.needed():
            _, knowledge = segment.section_of(body)
            if not merged.sections or merged.sections[-1][1] is not knowledge:
                merged.sections.append((len(places), knowledge))
                data += b"".join(header(knowledge))
            start = len(data)
            derives = deriver is not None and body.open[deriver] > 0
            data += b"".join(body_frame(replace(read(body), mask=body.wanted, derives=derives)))
            places.append((body, start, len(data)))
    for sink in range(len(merged.sinks)):
        notes = [
            Note(number, ranges_of(settled) if body.open[sink] else None)
            for number, (body, *_) in enumerate(places)
            if (settled := body.wanted & ~body.open[sink])
        ]
        if notes:
            data += b"".join(settled_frame(sink, notes))
    return bytes(data), places
