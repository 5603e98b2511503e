"""The format of stored records: records become JSON lines, then gzip parcels, then S3 objects or SQS messages. Pure.

A line holds a whole record, so that a sink later encodes it to the very same bytes. `telemetry-forwarder replay` reads
the parcels and sends the records. A parcel is named by the digest of its lines, by which a second copy of the same
records is recognized.
"""

import base64
import binascii
import re
import zlib
from _blake2 import blake2b  # not from `hashlib`, which loads the OpenSSL library
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Protocol

import orjson
from msgspec import Struct
from msgspec.structs import asdict

from telemetry_forwarder.errors import DecodeError, EncodeError
from telemetry_forwarder.records.log_lines import fields_in
from telemetry_forwarder.records.lossless_json import exact_json, parse_json
from telemetry_forwarder.records.record import Context, Origin, Record

# The version of the line format. Readers refuse any other, so every change needs a new number.
FORM = 1

# The most bytes of lines in one object, before compression. It takes a few milliseconds of CPU to compress, and is what
# is lost if time runs out during a put.
_OBJECT_BYTES = 1024 * 1024

# By default a queue takes messages of up to 256 KiB, attributes included; 4 KiB are reserved for the attributes.
# Source: Amazon SQS Developer Guide, message quotas, read 2026-11-23.
_MESSAGE_BYTES = 256 * 1024 - 4096

# The fastest level is enough, because most of a line is the origin, which is the same in every line.
GZIP = 16 + zlib.MAX_WBITS  # zlib writes a gzip header, without a time
_GZIP_LEVEL = 1

# The most bytes that a reader unpacks. Our parcels are far smaller, but a foreign file may have any size.
LARGEST_PARCEL_BYTES = 64 * 1024 * 1024


class NotReadable(DecodeError):
    """A parcel or a line is damaged or was not written by this program; the text says in what way."""


# --- lines ----------------------------------------------------------------------------------------------------------


def to_line(record: Record) -> bytes:
    """Return `record` as one line of JSON, with line end. `from_line` restores it, with its id but without its index.

    Raises EncodeError if JSON cannot hold the record. That never happens to records made by `records.decode`.
    """
    members: dict[str, Any] = {
        "v": FORM,
        "id": record.id,
        **{name: getattr(record, name) for name in _AS_THEY_ARE},
    }
    if record.context.trace_id is not None:
        members["trace_id"] = record.context.trace_id
    if record.fields is not None:
        members["fields"] = _fields_of(record)
    # The origin is cached, because it is the same in all lines and most of a short line.
    return exact_json(members)[:-1] + _origin_member(record.context.origin) + b"}\n"


def from_line(line: bytes) -> Record:
    """Return the record in `line`. Raises NotReadable, with what is wrong, if there is none."""
    try:
        members = parse_json(line)
    except (ValueError, RecursionError) as error:
        raise NotReadable("not JSON") from error
    if not isinstance(members, dict) or "v" not in members:
        raise NotReadable("not a record of this program")
    if members["v"] != FORM:
        raise NotReadable(f"a record of form {str(members['v'])[:20]!r}, where {FORM} is known")
    _check_types(members)
    origin = _read_origin(orjson.dumps(members["origin"]))
    return Record(
        batch=members["id"],
        index=None,
        fields=_read_fields(members.get("fields"), members["body"]),
        time_ms=members["time_ms"],
        body=members["body"],
        context=Context(origin, members["type"], *[members.get(name) for name in _IN_CONTEXT]),
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
_IN_CONTEXT = ("request_id", "cold_start", "level", "trace_id")
_AS_THEY_ARE = ("time_ms", "type", "body", "request_id", "cold_start", "level", "size_bytes")  # members of a Record


def _check_types(members: Mapping[str, Any]) -> None:
    if not isinstance(members.get("trace_id"), _MAYBE_TEXT):
        raise NotReadable("a record whose 'trace_id' is no text")
    for name, types in _TYPES.items():
        if name not in members:
            raise NotReadable(f"a record without {name!r}")
        value = members[name]
        if object not in types and type(value) not in types:
            raise NotReadable(f"a record whose {name!r} is {type(value).__name__}")


def _fields_of(record: Record) -> Any:
    """Return the record's fields, or "body" or "text" if a reader can restore them from the body.

    Nearly always it can, which halves the size of the line.
    """
    if record.fields is record.body:
        return "body"
    again = fields_in(record.body)
    # Compare as text, because in Python 1, 1.0 and True are equal.
    is_same = type(again) is type(record.fields) and exact_json(again) == exact_json(record.fields)
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
    """Return the Origin in `data`; cached, so records with equal bytes share one object. Raises NotReadable."""
    members = orjson.loads(data)
    known = set(Origin.__struct_fields__)
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


class Parcel(Struct, frozen=True):
    """Records that are stored as one piece: `data` is their lines, compressed with gzip, `digest` names the lines."""

    records: Sequence[Record]
    data: bytes
    digest: str


class Packed(Struct, frozen=True):
    """One result of packing: a parcel, or None, and records that fit into no parcel."""

    parcel: Parcel | None
    unfit: Sequence[Record] = ()


def pack_objects(records: Sequence[Record], max_bytes: int = _OBJECT_BYTES) -> Iterator[Packed]:
    """Yield parcels with at most `max_bytes` of lines (more only for a single record), the newest records first.

    Within a parcel, records are in order. A record that cannot be written as JSON is `unfit`. The newest records come
    first because time may run out, and the last lines explain why the environment ended.
    """
    for piece in _pieces(records, max_bytes):
        if isinstance(piece, Packed):
            yield piece
        else:
            yield Packed(_parcel(piece))


def pack_messages(
    records: Sequence[Record], max_bytes: int = _MESSAGE_BYTES, piece_bytes: int = _OBJECT_BYTES
) -> Iterator[Packed]:
    """Yield parcels whose `message_body` has at most `max_bytes`, in the order of `pack_objects`.

    The compressed size is known only afterwards, so a parcel that is too large is halved. A single record that is too
    large is `unfit`.
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
    """Yield pieces of (record, line) pairs, at most `max_bytes` each; the last records first, in order in a piece."""
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
    return Parcel(records, zlib.compress(lines, _GZIP_LEVEL, GZIP), digest_of(lines))


def digest_of(lines: bytes) -> str:
    """Return a digest of `lines` as 32 hexadecimal digits."""
    return blake2b(lines, digest_size=16).hexdigest()


def message_body(parcel: Parcel) -> str:
    """Return the parcel's bytes in base64, because an SQS message can only hold text."""
    return base64.b64encode(parcel.data).decode()


def from_message(body: str) -> bytes:
    """Return the bytes of the parcel in a message body. Raises NotReadable if it is not base64."""
    try:
        return base64.b64decode(body, validate=True)
    except (binascii.Error, ValueError) as error:
        raise NotReadable("not base64") from error


def unpack(data: bytes, max_bytes: int = LARGEST_PARCEL_BYTES) -> bytes:
    """Return the lines of a parcel, uncompressed. Raises NotReadable if it is incomplete, no gzip or too large."""
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
    """Return `PREFIX/FUNCTION/SINK/YYYY/MM/DD/INSTANCE-DIGEST.ndjson.gz`, equal for equal records.

    The day (UTC) is that of the first record. The instance is that of the last record, because the first ones may not
    know it yet.
    """
    origin = parcel.records[-1].origin
    day = _day(parcel.records[0].time_ms)
    parts = (prefix, word(origin.function_name), word(sink), day, f"{instance(origin)}-{parcel.digest}{SUFFIX}")
    return "/".join(part for part in parts if part)


def sink_and_digest(key: str) -> tuple[str, str] | None:
    """Return the sink and the digest in an object's key; None if `object_key` did not make the key."""
    match = _KEY.search(key)
    return (match[1], match[2]) if match else None


def word(name: str) -> str:
    """Return `name` as a valid part of a key: unusual characters become `-`."""
    return _UNUSUAL.sub("-", name)[:100].strip(".") or "unknown"


def instance(origin: Origin) -> str:
    """Return a short name of the environment: the part of its log stream's name after the last slash or bracket."""
    return word(re.split(r"[/\]]", origin.instance_id or "")[-1])


def _day(time_ms: int) -> str:
    try:
        day = datetime.fromtimestamp(time_ms / 1000, UTC)
    except (ValueError, OverflowError, OSError):  # a time outside of the calendar
        return "0000/00/00"
    return f"{day.year:04}/{day.month:02}/{day.day:02}"


class Store(Protocol):
    """A place that is open for storing. Putting the same parcel again is no error."""

    async def put(self, sink: str, parcel: Parcel) -> None:
        """Store `parcel` for `sink`. Raises TransportError if no answer came, FailoverError if it was refused."""
        ...
