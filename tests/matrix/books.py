"""The two sides of the equation: the records that the platform emitted, and where they went by ledger and backends."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

import orjson

from local_backends import BadEvent, DatadogLog, HecEvent, LogEvent
from telemetry_forwarder.delivery.loss_event import RECORDS_LOST
from tests.integration.world import World
from tests.matrix.places import PLACES, Place


class Key(NamedTuple):
    """Identifies a record on both sides: its type, its time, and its text or the request that it is about."""

    type: str
    time_ms: int
    about: str

    @property
    def is_our_own(self) -> bool:
        """Whether the extension made the record itself, to report a loss."""
        return self.type == RECORDS_LOST


def emitted(world: World[Any]) -> Counter[Key]:
    """Count the records that the platform produced for the extension and saw acknowledged, by key."""
    produced = Counter(map(key_of, wanted(world.env.telemetry)))
    waiting = Counter(key_of(orjson.loads(record)) for record in world.env.held_telemetry)
    return produced - waiting


def wanted(telemetry: Iterable[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """Leave out what the extension does not subscribe to: the lines of extensions, including its own."""
    return (event for event in telemetry if event["type"] != "extension")


def key_of(event: Mapping[str, Any]) -> Key:
    """Return the key of a record in Lambda's format."""
    time_ms = round(datetime.fromisoformat(event["time"]).timestamp() * 1000)
    return _key(event["type"], time_ms, event["record"])


def arrived(world: World[Any], sink: str) -> Counter[Key]:
    """Count the records that a backend stored, by key."""
    return Counter(READ[sink](kept) for kept in world.backend(sink).kept)


def unanswered(world: World[Any], sink: str, *, leaving_s: float = 0.0) -> Counter[Key]:
    """Count the records that a backend stored without an answer: the extension cannot know, and may send them again.

    The next generation may also send again what was answered in the last `leaving_s` seconds of a process, because that
    process no longer reads answers while it writes its ledger and exits.
    """
    backend = world.backend(sink)
    exits = [each.at for each in world.env.transcript.exits] if leaving_s else []
    places = (
        place
        for request in backend.requests
        if request.answered is None or any(request.time < at < request.answered + leaving_s for at in exits)
        for place in request.stored
    )
    return Counter(READ[sink](backend.kept[place]) for place in places)


def copied(world: World[Any], sink: str, copies: int) -> Counter[Key]:
    """Count the records that arrived again in a copy: an answered request with exactly the records of an earlier one.

    At most `copies` requests count: as many copies as the extension reports in its ledger. Requests without an answer
    are counted by `unanswered` instead.
    """
    backend = world.backend(sink)
    requests = (each for each in backend.requests if each.stored and each.answered is not None)
    brought = (tuple(READ[sink](backend.kept[place]) for place in request.stored) for request in requests)
    return again(brought, copies)


def again(brought: Iterable[tuple[Key, ...]], most: int) -> Counter[Key]:
    """Count the records in the first `most` requests that have the same records as an earlier request."""
    seen: set[tuple[Key, ...]] = set()
    found: Counter[Key] = Counter()
    for keys in brought:
        if keys in seen and most > 0:
            most -= 1
            found.update(keys)
        seen.add(keys)
    return found


def refused(world: World[Any], sink: str) -> int:
    """Count the records that a backend refused one by one, for good, in batches whose other records it accepted."""
    if sink == "cloudwatch":
        return len(world.cloudwatch.rejected)
    return sum(isinstance(each.fault, BadEvent) and each.status == 400 for each in world.backend(sink).requests)


def _splunk(event: HecEvent) -> Key:
    record = event.event.get("record", "") if isinstance(event.event, dict) else event.event
    return _key(event.fields["type"], round(event.time * 1000), record)


def _datadog(log: DatadogLog) -> Key:
    platform = log.attributes.get("platform", {"type": "function", "record": log.message})
    return _key(platform["type"], log.timestamp, platform["record"])


def _cloudwatch(event: LogEvent) -> Key:
    message = orjson.loads(event.message)
    record = message["record"] if "record" in message else message.get("message", "")
    return _key(message["lambda"]["type"], event.timestamp, record)


def _reader(place: Place) -> Callable[[Any], Key]:
    def read(kept: Any) -> Key:
        content = place.read(kept)
        return _key(content.type, content.time_ms, content.record)

    return read


READ: Mapping[str, Callable[[Any], Key]] = {
    "splunk": _splunk,
    "datadog": _datadog,
    "cloudwatch": _cloudwatch,
    **{sink: _reader(place) for sink, place in PLACES.items()},
}


def _key(type_: str, time_ms: int, record: Any) -> Key:
    about = record.strip() if isinstance(record, str) else record.get("requestId", record.get("name", ""))
    return Key(type_, time_ms, about)


@dataclass(frozen=True, slots=True, kw_only=True)
class Differences:
    """The records that are missing or repeated, as counts; and, in words, records that nobody emitted.

    `unexcused` counts repeats for which there is no excuse: each missing answer excuses one, and so does each copy in
    the ledger.
    """

    missing: int
    repeated: int
    unexcused: int
    invented: Sequence[str]
    told: int  # different records that report losses


def differences(truth: Counter[Key], there: Counter[Key], excused: Counter[Key]) -> Differences:
    """Compare the emitted records with those in a backend; `excused` are those without an answer, or copies.

    Records that the extension made itself are left out.
    """
    repeats = Counter({key: count - truth[key] for key, count in there.items() if count > truth[key] > 0})
    strangers = sorted(key for key in there if key not in truth and not key.is_our_own)
    return Differences(
        missing=(truth - there).total(),
        repeated=repeats.total(),
        unexcused=(repeats - excused).total(),
        invented=[f"{len(strangers)} arrived that nobody emitted, such as {strangers[0]}"] if strangers else [],
        told=sum(key.is_our_own for key in there),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Books:
    """The sums of the ledger lines of all generations for one sink, in records.

    `taken` came from the platform; `told` were added by the extension to report losses; `delivered` and `lost` are
    where both went. `held` is what the last generation left for a next one. What earlier generations left is counted
    where the later ones say it went: a record that was not recovered, or was recovered twice, upsets the sum. `copies`
    counts the requests that were sent in parallel with another one with the same records.
    """

    taken: int
    told: int
    delivered: int
    lost: Mapping[str, int]
    held: int
    unbalanced: int
    copies: int = 0

    @property
    def is_balanced(self) -> bool:
        return not self.unbalanced and self.taken + self.told == self.delivered + self.gone

    @property
    def gone(self) -> int:
        """The records not delivered, by the ledgers."""
        return sum(self.lost.values()) + self.held

    def problems(self, emitted: int, found: Differences, *, unsure: int) -> list[str]:
        """Return where emitted = delivered + held + lost does not hold, in the books or at the backend, in words.

        `unsure` records were stored without an answer: they may be reported as lost although they arrived.
        """
        wrong = []
        if not self.is_balanced:
            wrong.append(f"the ledger does not balance: {self}")
        if self.taken != emitted:
            wrong.append(f"{emitted} were emitted, and {self.taken} taken")
        missing = found.missing + self.told - found.told
        if not missing <= self.gone <= missing + unsure:
            wrong.append(f"{missing} did not arrive, and {self.gone} were said to be lost or held")
        return wrong


def books(ledgers: Iterable[Mapping[str, Any]], sink: str) -> Books:
    """Return the sums of the ledger lines for one sink."""
    lines = list(ledgers)
    own = [line["sinks"][sink] for line in lines]
    lost: Counter[str] = Counter()
    for book in own:
        lost.update(book["dropped"])
    return Books(
        taken=sum(line["door"]["received"] for line in lines),
        told=sum(book["told"] for book in own),
        delivered=sum(book["delivered"] for book in own),
        lost=dict(lost),
        held=own[-1]["spilled"] if own else 0,
        unbalanced=sum(line["message"] != "ledger" for line in lines),
        copies=sum(book["copies"] for book in own),
    )
