"""How records are kept outside of the environment, until `telemetry-forwarder replay` sends them. Pure.

A record becomes one line of JSON that holds all of it, so that a sink makes the very same bytes of it later. Lines are
packed with gzip into parcels: an object of S3 or a message of SQS each. A parcel is named by what is in it, so whoever
stores the same records again finds them stored.
"""

import base64
import binascii
import re
import zlib
from _blake2 import blake2b  # not by `hashlib`, which loads OpenSSL's library
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Protocol

import orjson

from telemetry_forwarder.errors import DecodeError, EncodeError
from telemetry_forwarder.lazy_dataclass import asdict, dataclass, names_of
from telemetry_forwarder.records.log_lines import fields_in
from telemetry_forwarder.records.lossless_json import exact_json, parse_json
from telemetry_forwarder.records.record import Origin, Record

# The form of a line. A reader takes no other, so a later one is a new number.
FORM = 1

# Of lines before compression: a few milliseconds of CPU, and what a time that runs out takes with it.
OBJECT_BYTES = 1024 * 1024

# Source: Amazon SQS Developer Guide, message quotas, read 2026-11-23: a queue takes messages of up to 256 KiB unless
# it is told to take more, attributes included, which are given 4 KiB here.
MESSAGE_BYTES = 256 * 1024 - 4096

# The least that gzip takes of the time: the origin, the same in every line, is found at once.
GZIP = 16 + zlib.MAX_WBITS  # with a gzip header, and no time in it
GZIP_LEVEL = 1

# What a reader unpacks at most: no parcel of ours comes near it, and a file that is not ours may be of any size.
LARGEST_PARCEL_BYTES = 64 * 1024 * 1024


class NotReadable(DecodeError):
    """A parcel or a line that was not written here, or is damaged; the text says in what way."""


# --- lines ----------------------------------------------------------------------------------------------------------


def to_line(record: Record) -> bytes:
    """Return `record` as one line of JSON, with its line end. `from_line` gives it back, by its id and without a place.

    Raises EncodeError for what JSON cannot hold, which no record made by `records.decode` is.
    """
    members: dict[str, Any] = {
        "v": FORM,
        "id": record.id,
        "time_ms": record.time_ms,
        "type": record.type,
        "body": record.body,
        "request_id": record.request_id,
        "cold_start": record.cold_start,
        "level": record.level,
        "size_bytes": record.size_bytes,
    }
    if record.fields is not None:
        members["fields"] = _fields_of(record)
    # The origin last and made once: it is the same in all lines, and most of a short one.
    return exact_json(members)[:-1] + _origin_member(record.origin) + b"}\n"


def from_line(line: bytes) -> Record:
    """Return the record that `line` holds. Raises NotReadable, saying what is wrong with it."""
    try:
        members = parse_json(line)
    except (ValueError, RecursionError) as error:
        raise NotReadable("not JSON") from error
    if not isinstance(members, dict) or "v" not in members:
        raise NotReadable("not a record of this program")
    if members["v"] != FORM:
        raise NotReadable(f"a record of form {str(members['v'])[:20]!r}, where {FORM} is known")
    _check_types(members)
    body = members["body"]
    return Record(
        batch=members["id"],
        time_ms=members["time_ms"],
        type=members["type"],
        body=body,
        fields=_read_fields(members.get("fields"), body),
        origin=_read_origin(orjson.dumps(members["origin"])),
        request_id=members["request_id"],
        cold_start=members["cold_start"],
        level=members["level"],
        size_bytes=members["size_bytes"],
    )


_TEXT, _MAYBE_TEXT = (str,), (str, type(None))
_TYPES: Mapping[str, tuple[type, ...]] = {
    "id": _TEXT,
    "time_ms": (int,),
    "type": _TEXT,
    "body": (object,),
    "request_id": _MAYBE_TEXT,
    "cold_start": (bool, type(None)),
    "level": _MAYBE_TEXT,
    "size_bytes": (int,),
    "origin": (dict,),
}


def _check_types(members: Mapping[str, Any]) -> None:
    for name, types in _TYPES.items():
        if name not in members:
            raise NotReadable(f"a record without {name!r}")
        value = members[name]
        if object not in types and type(value) not in types:
            raise NotReadable(f"a record whose {name!r} is {type(value).__name__}")


def _fields_of(record: Record) -> Any:
    """Return the fields, or the word that says what they can be made of again: nearly always, and half the bytes."""
    if record.fields is record.body:
        return "body"
    again = fields_in(record.body)
    # As text: to Python 1, 1.0 and True are equal.
    is_same = again is not None and exact_json(again) == exact_json(record.fields)
    return "text" if is_same else record.fields


def _read_fields(value: Any, body: Any) -> Mapping[str, Any] | None:
    found = body if value == "body" else fields_in(body) if value == "text" else value
    if value is not None and not isinstance(found, dict):
        raise NotReadable("a record whose 'fields' are no object")
    return found


@lru_cache(maxsize=64)
def _origin_member(origin: Origin) -> bytes:
    return b',"origin":' + exact_json(
        {name: value for name, value in asdict(origin).items() if value not in (None, ())}
    )


@lru_cache(maxsize=64)
def _read_origin(data: bytes) -> Origin:
    """Return the one origin that all records of these bytes share, as they did before."""
    members = orjson.loads(data)
    known = set(names_of(Origin))
    if not members.keys() <= known or "function_name" not in members:
        raise NotReadable("a record whose 'origin' is not one")
    for name, value in members.items():
        if not (_is_tags(value) if name == "tags" else type(value) is (int if name == "memory_mb" else str)):
            raise NotReadable(f"a record whose origin has {name!r} of {type(value).__name__}")
    members["tags"] = tuple((key, value) for key, value in members.get("tags", ()))
    return Origin(**members)


def _is_tags(value: object) -> bool:
    return isinstance(value, list) and all(
        isinstance(pair, list) and len(pair) == 2 and all(isinstance(one, str) for one in pair) for pair in value
    )


# --- parcels --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Parcel:
    """Records that are stored in one piece: `data` are their lines in gzip form, `digest` names the lines."""

    records: Sequence[Record]
    data: bytes
    digest: str


@dataclass(frozen=True, slots=True)
class Packed:
    """What came of packing: a parcel at a time, and the records that fit into none."""

    parcel: Parcel | None
    unfit: Sequence[Record] = ()


def pack_objects(records: Sequence[Record], max_bytes: int = OBJECT_BYTES) -> Iterator[Packed]:
    """Yield parcels whose lines have at most `max_bytes` (or that hold one record), the newest records first.

    Each record is in one of them, in order, or among the `unfit`, as it cannot be written as JSON. The newest first,
    because time may run out, and the last lines are those that explain an end.
    """
    for piece in _pieces(records, max_bytes):
        if isinstance(piece, Packed):
            yield piece
        else:
            yield Packed(_parcel(piece))


def pack_messages(
    records: Sequence[Record], max_bytes: int = MESSAGE_BYTES, piece_bytes: int = OBJECT_BYTES
) -> Iterator[Packed]:
    """Yield parcels whose `message_body` has at most `max_bytes`; as `pack_objects` otherwise.

    How far lines shrink is known afterwards only, so what is too large is halved. A record that is too large by
    itself is `unfit`.
    """
    for piece in _pieces(records, piece_bytes):
        if isinstance(piece, Packed):
            yield piece
        else:
            yield from _fit(piece, max_bytes)


def _fit(piece: "list[tuple[Record, bytes]]", max_bytes: int) -> Iterator[Packed]:
    parcel = _parcel(piece)
    if (len(parcel.data) + 2) // 3 * 4 <= max_bytes:
        yield Packed(parcel)
    elif len(piece) == 1:
        yield Packed(None, parcel.records)
    else:
        middle = len(piece) // 2
        yield from _fit(piece[middle:], max_bytes)
        yield from _fit(piece[:middle], max_bytes)


def _pieces(records: Sequence[Record], max_bytes: int) -> "Iterator[list[tuple[Record, bytes]] | Packed]":
    """Yield the records with their lines, from the end, in pieces of at most `max_bytes` and in order within one."""
    piece: list[tuple[Record, bytes]] = []
    size = 0
    for record in reversed(records):
        try:
            line = to_line(record)
        except EncodeError:
            yield Packed(None, (record,))
            continue
        if piece and size + len(line) > max_bytes:
            yield piece[::-1]
            piece, size = [], 0
        piece.append((record, line))
        size += len(line)
    if piece:
        yield piece[::-1]


def _parcel(piece: "Iterable[tuple[Record, bytes]]") -> Parcel:
    lines = b"".join(line for _, line in piece)
    records = tuple(record for record, _ in piece)
    return Parcel(records, zlib.compress(lines, GZIP_LEVEL, GZIP), digest_of(lines))


def digest_of(lines: bytes) -> str:
    """Return 32 hexadecimal digits that name these lines."""
    return blake2b(lines, digest_size=16).hexdigest()


def message_body(parcel: Parcel) -> str:
    """Return what is in a message: the parcel's bytes in base64, because SQS takes text alone."""
    return base64.b64encode(parcel.data).decode()


def from_message(body: str) -> bytes:
    """Return the bytes of the parcel in a message. Raises NotReadable."""
    try:
        return base64.b64decode(body, validate=True)
    except (binascii.Error, ValueError) as error:
        raise NotReadable("not base64") from error


def unpack(data: bytes, max_bytes: int = LARGEST_PARCEL_BYTES) -> bytes:
    """Return the lines of a parcel. Raises NotReadable where it is torn, alien or too large."""
    unzip = zlib.decompressobj(zlib.MAX_WBITS | 16)
    try:
        lines = unzip.decompress(data, max_bytes)
    except zlib.error as error:
        raise NotReadable("not gzip, or damaged") from error
    if unzip.unconsumed_tail:
        raise NotReadable(f"more than {max_bytes} bytes")
    if not unzip.eof:
        raise NotReadable("gzip that is torn off")
    if unzip.unused_data:
        raise NotReadable("gzip with something behind it")
    return lines


# --- names ----------------------------------------------------------------------------------------------------------

SUFFIX = ".ndjson.gz"
_UNUSUAL = re.compile(r"[^A-Za-z0-9._-]+")
_KEY = re.compile(r"(?:^|/)[^/]+/([^/]+)/[0-9]{4}/[0-9]{2}/[0-9]{2}/[^/]+-([0-9a-f]{32})\.ndjson\.gz$")


def object_key(prefix: str, sink: str, parcel: Parcel) -> str:
    """Return `PREFIX/FUNCTION/SINK/YYYY/MM/DD/INSTANCE-DIGEST.ndjson.gz`: the same for the same records.

    The day (UTC) is the first record's, the instance the last one's, because early ones do not know it yet.
    """
    origin = parcel.records[-1].origin
    day = _day(parcel.records[0].time_ms)
    parts = (prefix, word(origin.function_name), word(sink), day, f"{instance(origin)}-{parcel.digest}{SUFFIX}")
    return "/".join(part for part in parts if part)


def sink_and_digest(key: str) -> tuple[str, str] | None:
    """Return what the key of an object tells: the sink, and the digest. None where the key is not one of ours."""
    match = _KEY.search(key)
    return (match[1], match[2]) if match else None


def word(name: str) -> str:
    """Return `name` as a part of a key."""
    return _UNUSUAL.sub("-", name)[:100].strip(".") or "unknown"


def instance(origin: Origin) -> str:
    """Return a short name of the environment: what stands behind the last slash or bracket of its log stream."""
    return word(re.split(r"[/\]]", origin.instance_id or "")[-1])


def _day(time_ms: int) -> str:
    try:
        day = datetime.fromtimestamp(time_ms / 1000, UTC)
    except (ValueError, OverflowError, OSError):  # a time that no calendar knows
        return "0000/00/00"
    return f"{day.year:04}/{day.month:02}/{day.day:02}"


class Store(Protocol):
    """An open place. Whoever puts the same parcel again finds it stored, which is no error."""

    async def put(self, sink: str, parcel: Parcel) -> None:
        """Store `parcel`. Raises TransportError where no answer came, FailoverError for a refusal."""
        ...
