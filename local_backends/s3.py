"""A strict local S3, as far as objects of JSON lines are put into buckets.

Unlike the other local services of AWS it checks the signature itself, with the secret key that the local Lambda gives
to functions: a key with unusual characters has to be encoded in one certain way.
Sources: Amazon S3 API Reference, PutObject and "Error responses"; AWS Signature Version 4 reference; read 2026-11-28.
"""

import hashlib
import hmac
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar
from urllib.parse import quote
from xml.sax.saxutils import escape

import orjson
from aiohttp import web

from local_backends.aws_json import AwsError, check_signature
from local_backends.encodings import GZIP
from local_backends.faults import Answer, Fault, Throttle, TooLarge
from local_backends.server import Backend, Call, Reply

_LOCAL_SECRET = "local-secret-access-key"  # noqa: S105 - that of the local Lambda
_USUAL_CODE = {400: "InvalidRequest", 403: "AccessDenied", 404: "NoSuchBucket", 409: "ConditionalRequestConflict",
               500: "InternalError", 503: "ServiceUnavailable"}  # fmt: skip
_SIGNED = re.compile(
    r"Credential=[^/]+/([0-9]{8}/([a-z0-9-]+)/s3/aws4_request), ?SignedHeaders=([^,]+), ?Signature=(\w+)"
)


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object: its key, what it is made of, and the headers that it was put with, in lower case."""

    key: str
    body: bytes
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class ObjectLine:
    """One line of an object."""

    value: Mapping[str, Any]
    raw: bytes
    key: str


class S3(Backend):
    """Buckets in one `region` (None: in whatever region a caller signs for), each by its name in the path.

    `strict` also refuses an object that is not one file in gzip, of lines of JSON. `credential_error`, e.g.
    `InvalidAccessKeyId`, refuses every caller while it is set. `objects` are the stored ones by key, in order; `lines`
    what is in them.
    """

    deliveries: ClassVar[frozenset[str]] = frozenset({"PutObject"})

    def __init__(
        self,
        *,
        buckets: Sequence[str] = ("logs",),
        region: str | None = None,
        secret: str = _LOCAL_SECRET,
        strict: bool = True,
        **listen: Any,
    ) -> None:
        super().__init__(**listen)
        self.buckets = set(buckets)
        self.region = region
        self.secret = secret
        self.strict = strict
        self.credential_error: str | None = None
        self.objects: dict[str, StoredObject] = {}
        self.lines: list[ObjectLine] = []

    @property
    def kept(self) -> Sequence[ObjectLine]:
        return self.lines

    def operation(self, request: web.BaseRequest) -> str:
        return "PutObject" if request.method == "PUT" else "unknown"

    def respond(self, call: Call, fault: Fault | None = None) -> Reply:
        bucket, _, key = call.path.lstrip("/").partition("/")
        try:
            if call.operation != "PutObject" or not key:
                raise AwsError("MethodNotAllowed", "only objects are put here", 405)
            self._check_caller(call)
            if bucket not in self.buckets:
                raise AwsError("NoSuchBucket", "The specified bucket does not exist", 404)
            return self._put(key, call)
        except AwsError as error:
            return _error(error.error_type, error.message, error.status, bucket_region=self.region)

    def refuse(self, fault: Answer | Throttle | TooLarge, call: Call) -> Reply:
        match fault:
            case Answer(status=status, code=code, retry_after=wait):
                given = code if isinstance(code, str) else _USUAL_CODE.get(status, "InternalError")
                return _error(given, "as scripted", status, wait)
            case Throttle(retry_after=wait):
                return _error("SlowDown", "Please reduce your request rate.", 503, wait)
            case TooLarge():
                return _error("EntityTooLarge", "Your proposed upload exceeds the maximum allowed size", 400)

    def _check_caller(self, call: Call) -> None:
        try:
            check_signature(call, "s3", None)
        except AwsError as error:
            raise AwsError("AccessDenied", error.message, 403) from error
        if self.credential_error is not None:
            raise AwsError(self.credential_error, "the caller is refused, as set", 403)
        given = call.headers.get("X-Amz-Content-SHA256")
        if given is None:
            raise AwsError("InvalidRequest", "Missing required header for this request: x-amz-content-sha256")
        if given != hashlib.sha256(call.body).hexdigest():
            raise AwsError("XAmzContentSHA256Mismatch", "The provided x-amz-content-sha256 header does not match")
        found = _SIGNED.search(call.headers["Authorization"])
        if found is None:
            raise AwsError("AuthorizationHeaderMalformed", "The authorization header is malformed")
        scope, region, names, signature = found.groups()
        if self.region not in (None, region):
            text = "The bucket you are attempting to access must be addressed using the specified endpoint."
            raise AwsError("PermanentRedirect", text, 301)
        if not hmac.compare_digest(signature, self._signature(call, scope, names.split(";"))):
            raise AwsError("SignatureDoesNotMatch", "The request signature we calculated does not match", 403)

    def _signature(self, call: Call, scope: str, names: list[str]) -> str:
        """Return the signature that S3 computes: it encodes the key itself, once, whatever way it came."""
        lines = "".join(f"{name}:{' '.join(call.headers[name].split())}\n" for name in names)
        path, digest = quote(call.path, safe="/~-._"), call.headers["X-Amz-Content-SHA256"]
        canonical = f"{call.method}\n{path}\n\n{lines}\n{';'.join(names)}\n{digest}"
        key = f"AWS4{self.secret}".encode()
        for word in scope.split("/"):
            key = hmac.digest(key, word.encode(), "sha256")
        hashed = hashlib.sha256(canonical.encode()).hexdigest()
        text = f"AWS4-HMAC-SHA256\n{call.headers['X-Amz-Date']}\n{scope}\n{hashed}"
        return hmac.digest(key, text.encode(), "sha256").hex()

    def _put(self, key: str, call: Call) -> Reply:
        if len(key.encode()) > 1024:
            raise AwsError("KeyTooLongError", "Your key is too long")
        if key in self.objects and call.headers.get("If-None-Match") == "*":
            raise AwsError("PreconditionFailed", "At least one of the pre-conditions you specified did not hold", 412)
        lines = _lines_in(key, call.body) if self.strict else []
        headers = {name.lower(): value for name, value in call.headers.items()}
        if self.strict:
            _check_headers(headers)
        self.objects[key] = StoredObject(key, call.body, headers)
        self.lines += lines
        etag = hashlib.md5(call.body, usedforsecurity=False).hexdigest()
        return Reply(200, b"", "application/xml", {"ETag": f'"{etag}"', "x-amz-request-id": "1"})


def _lines_in(key: str, body: bytes) -> list[ObjectLine]:
    """Return the lines of an object. Raises AwsError if it is not one file in gzip, of lines of JSON."""
    if not key.endswith(".ndjson.gz"):
        raise AwsError("InvalidRequest", "(local) the key does not end in .ndjson.gz")
    unpacker = zlib.decompressobj(GZIP)
    try:
        text = unpacker.decompress(body) + unpacker.flush()
    except zlib.error as error:
        raise AwsError("InvalidRequest", "(local) the object is not in gzip") from error
    if not unpacker.eof or unpacker.unused_data or not text.endswith(b"\n"):
        raise AwsError("InvalidRequest", "(local) the object is cut short, or more than one file")
    try:
        return [ObjectLine(orjson.loads(line), line, key) for line in text[:-1].split(b"\n")]
    except orjson.JSONDecodeError as error:
        raise AwsError("InvalidRequest", "(local) a line is no JSON") from error


def _check_headers(headers: Mapping[str, str]) -> None:
    """Raise AwsError if the headers say something else than that it is a file, or lines in that encoding."""
    said = headers.get("content-type"), headers.get("content-encoding")
    if said not in (("application/gzip", None), ("application/x-ndjson", "gzip")):
        raise AwsError("InvalidRequest", f"(local) an object that is said to be {said}")


def _error(code: str, message: str, status: int, wait: float | None = None, bucket_region: str | None = None) -> Reply:
    text = f"<Error><Code>{code}</Code><Message>{escape(message)}</Message></Error>"
    headers = {"x-amz-request-id": "1"} | ({} if wait is None else {"Retry-After": f"{wait:g}"})
    if status == 301 and bucket_region:
        headers["x-amz-bucket-region"] = bucket_region
    return Reply(status, f'<?xml version="1.0" encoding="UTF-8"?>\n{text}'.encode(), "application/xml", headers)
