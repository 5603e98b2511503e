"""The sink for any receiver of JSON by HTTP: each batch is one request, as NDJSON or as an array.

There is no standard. What people expect of such a sink is what Vector, Fluent Bit and the vendors' own shippers offer;
their settings were read 2026-11-27. The delivery id is as the draft of the IETF on `Idempotency-Key` has it.
"""

import orjson

from telemetry_forwarder.errors import ConfigError
from telemetry_forwarder.interfaces import (
    Credential,
    Destination,
    HeaderList,
    HttpDelivery,
    HttpRequest,
    HttpResponse,
    Limits,
    Signing,
    Tls,
)
from telemetry_forwarder.sinks.http_answers import Advice
from telemetry_forwarder.sinks.json_objects import JsonObjects
from telemetry_forwarder.sinks.json_requests import SUCCESS, JsonRequests
from telemetry_forwarder.sinks.login import Password, UserName, credential_variables, log_in
from telemetry_forwarder.variables.reading import Values
from telemetry_forwarder.variables.signal_types import HeaderList as HeaderListType
from telemetry_forwarder.variables.table import Problem, Variable
from telemetry_forwarder.variables.types import (
    FilePath,
    Integer,
    OneOf,
    Region,
    SecretArn,
    SsmParameter,
    Text,
    Url,
)
from telemetry_forwarder.variables.wording import is_path, only, whole, words

PREFIX = "TELEMETRY_FORWARDER_HTTP_"
# Many proxies and servers take a body of one MB, unless they are told otherwise: nginx 1 MiB, an ALB before Lambda too.
_USUAL_BYTES, _USUAL_RECORDS = 1_000_000, 1_000


class AddressWithQuery(Url):
    """A URL that is used as it is, with its path, its trailing slash and its query."""

    def __init__(self) -> None:
        super().__init__(is_whole=True)
        self.allowed = "`https://host[:port][/path][?query]` (or `http://`), without user name and fragment"

    def read(self, text: str) -> str:
        address, mark, query = text.partition("?")
        if mark and not (is_path(query) and query):
            raise ValueError(self.allowed)
        url: str = super().read(address)
        return f"{url if url.count('/') > 2 else url + '/'}{mark}{query}"


class Format:
    """The form of a body: `ndjson`, `json_array`, or `json_array:` and the member that holds the array."""

    label = "word"
    allowed = "`ndjson`, `json_array`, or `json_array:NAME`: an object whose member NAME is the array"

    def read(self, text: str) -> str:
        form, colon, member = (part.strip() for part in text.partition(":"))
        form = form.lower().replace("-", "_")
        is_named = form == "json_array" and only(member, "_-.@$") and 0 < len(member) <= 200
        if form not in ("ndjson", "json_array") or (colon and not is_named):
            raise ValueError(self.allowed)
        return f"{form}{colon}{member}"


class HeaderName:
    """The name of an HTTP header; "" for `none`."""

    label = "header"
    allowed = "the name of a header, or `none`"

    def read(self, text: str) -> str:
        if len(text) > 200 or not only(text, "-_"):
            raise ValueError(self.allowed)
        return "" if text.lower() == "none" else text


class ServiceName:
    """The name of a service of AWS in signatures."""

    label = "name"
    allowed = "lower-case letters, digits and `-`, as `execute-api`"

    def read(self, text: str) -> str:
        if len(text) > 64 or not only(text, "-") or text != text.lower():
            raise ValueError(self.allowed)
        return text


class StatusCodes:
    """HTTP status codes, as pairs of the first and the last of a range."""

    label = "comma list"
    allowed = "of codes `200`, ranges `200-204` and classes `2xx`; no 1xx and no 3xx"

    def read(self, text: str) -> tuple[tuple[int, int], ...]:
        found = words(text)
        pairs = [_codes_in(word) for word in found]
        kept = tuple(dict.fromkeys(pair for pair in pairs if pair is not None))
        return whole(kept, [word for word, pair in zip(found, pairs, strict=True) if pair is None])


def _codes_in(word: str) -> tuple[int, int] | None:
    first, dash, last = word.lower().partition("-")
    if not dash and len(first) == 3 and first.endswith("xx"):
        first, last = f"{first[0]}00", f"{first[0]}99"
    last = last if dash or last else first
    if not all(len(one) == 3 and one.isascii() and one.isdigit() for one in (first, last)):
        return None
    low, high = int(first), int(last)
    is_final = 200 <= low <= high <= 599 and (high < 300 or low >= 400)
    return (low, high) if is_final else None


TOPIC = "Any receiver of JSON by HTTP"
_SINK = "http"
VARIABLES = (
    Variable(f"{PREFIX}URL", AddressWithQuery(), None, "Address, used as it is, with its path and query", _SINK),
    Variable(f"{PREFIX}METHOD", OneOf("post", "put"), "post", "Method of the requests", _SINK),
    Variable(
        f"{PREFIX}FORMAT", Format(), "ndjson",
        "Form of a body: an object for each line, an array of objects, or an object with that array", _SINK,
    ),
    Variable(
        f"{PREFIX}CONTENT_TYPE", Text(), None,
        "Content-Type; unset: `application/x-ndjson` or `application/json`, by the form", _SINK,
    ),
    Variable(
        f"{PREFIX}HEADERS_SECRET_ARN", SecretArn(), None,
        "Secrets Manager secret that holds further headers, `name=value,name=value`", _SINK,
    ),
    Variable(f"{PREFIX}HEADERS_SSM_PARAMETER", SsmParameter(), None, "SSM parameter with further headers", _SINK),
    Variable(f"{PREFIX}HEADERS", HeaderListType(), None, "Headers of every request", _SINK),
    *credential_variables(f"{PREFIX}TOKEN", "the token that is sent as `Authorization: Bearer …`", _SINK),
    Variable(f"{PREFIX}USERNAME", UserName(), None, "User name of basic authentication", _SINK),
    *credential_variables(f"{PREFIX}PASSWORD", "the password of basic authentication", _SINK, Password()),
    Variable(
        f"{PREFIX}AWS_SERVICE", ServiceName(), None,
        "Service of AWS, e.g. `execute-api`, `lambda` or `vpc-lattice-svcs`, that requests are signed for (SigV4) with "
        "the function's role", _SINK,
    ),
    Variable(f"{PREFIX}AWS_REGION", Region(), None, "Region of that service; unset: the function's", _SINK),
    Variable(
        f"{PREFIX}SUCCESS_CODES", StatusCodes(), None,
        "Answers that mean that the records were taken. Unset: 2xx but 260, unless it is a page", _SINK,
    ),
    Variable(
        f"{PREFIX}RETRY_CODES", StatusCodes(), (),
        "Further answers after which the request is sent again, beside 408, 425, 429 and 5xx but 501", _SINK,
    ),
    Variable(
        f"{PREFIX}DELIVERY_ID_HEADER", HeaderName(), "Idempotency-Key",
        "Header that tells a request from another one, and is the same when it is sent again; `none`: it is not sent",
        _SINK,
    ),
    Variable(f"{PREFIX}COMPRESSION", OneOf("gzip", "none"), "gzip", "Compression of bodies", _SINK),
    Variable(
        f"{PREFIX}BATCH_BYTES", Integer(10_000, 20_000_000), _USUAL_BYTES, "Longest body, before compression", _SINK
    ),
    Variable(f"{PREFIX}BATCH_RECORDS", Integer(1, 10_000), _USUAL_RECORDS, "Most records in a request", _SINK),
    Variable(f"{PREFIX}CERTIFICATE", FilePath(), None, "CA certificates instead of those of SSL_CERT_FILE", _SINK),
    Variable(f"{PREFIX}CLIENT_CERTIFICATE", FilePath(), None, "Certificate that the extension shows", _SINK),
    Variable(f"{PREFIX}CLIENT_KEY", FilePath(), None, "Key of that certificate", _SINK),
)  # fmt: skip
NEEDS = ((f"{PREFIX}URL",),)


# --- settings -------------------------------------------------------------------------------------------------------


def create(values: Values) -> Destination[HttpRequest, HttpResponse]:
    """Make the sink from the `TELEMETRY_FORWARDER_HTTP_…` variables. Raises ConfigError if its form is unsound."""
    problems: list[Problem] = []
    url = values[f"{PREFIX}URL"]
    if values.is_unsound(f"{PREFIX}FORMAT"):  # what its receiver wants is not known
        found = values.problems(_SINK)
        for problem in found:
            if problem.variable == f"{PREFIX}FORMAT":
                problem.consequence = f"Sink {_SINK} does not run, as its receiver would not understand another form."
        raise ConfigError(found)
    form, _, member = values[f"{PREFIX}FORMAT"].partition(":")
    opening, closing = (b"[", b"]") if form == "json_array" else (b"", b"")
    if member:
        opening, closing = b"{%b:[" % orjson.dumps(member), b"]}"
    credential = log_in(
        values, problems, token=f"{PREFIX}TOKEN", user=f"{PREFIX}USERNAME", password=f"{PREFIX}PASSWORD"
    )
    signing = _signing(values, credential, problems)
    success = values[f"{PREFIX}SUCCESS_CODES"]
    max_bytes = values[f"{PREFIX}BATCH_BYTES"]
    framing = len(opening) + len(closing)
    longest = min(_USUAL_BYTES, max_bytes) - framing - 1
    sink = JsonRequests(
        url=url,
        method=values[f"{PREFIX}METHOD"].upper(),
        opening=opening,
        closing=closing,
        content_type=values[f"{PREFIX}CONTENT_TYPE"] or f"application/{'json' if opening else 'x-ndjson'}",
        id_header=values[f"{PREFIX}DELIVERY_ID_HEADER"],
        success=success or SUCCESS,
        retry=values[f"{PREFIX}RETRY_CODES"],
        is_code_enough=success is not None,
        limits=Limits(
            max_records=values[f"{PREFIX}BATCH_RECORDS"],
            max_bytes=max_bytes,
            max_record_bytes=longest,
            overhead_bytes=1,  # the comma or the line end
            framing_bytes=framing,
        ),
        objects=JsonObjects("@timestamp", longest),
        advice=_advice(credential, signing),
    )
    delivery = HttpDelivery(
        url=url,
        credential=credential,
        headers=_headers(values),
        signing=signing,
        tls=_tls(values, problems),
        gzip=values[f"{PREFIX}COMPRESSION"] == "gzip",
    )
    return Destination(sink=sink, delivery=delivery, problems=tuple(problems))


def _headers(values: Values) -> tuple[HeaderList, ...]:
    """Return the lists of headers, the ones that count more first: those that are secret."""
    names = (f"{PREFIX}HEADERS_SECRET_ARN", f"{PREFIX}HEADERS_SSM_PARAMETER", f"{PREFIX}HEADERS")
    return tuple(HeaderList(found) for name in names if (found := values[name]) is not None)


def _signing(values: Values, credential: Credential | None, problems: list[Problem]) -> Signing | None:
    service = values[f"{PREFIX}AWS_SERVICE"]
    if service is None:
        return None
    region = values[f"{PREFIX}AWS_REGION"] or values["AWS_REGION"]
    if credential is not None or region is None:
        wrong, wanted = ("set beside a token or a password", "one of them") if credential else ("set", "with a region")
        problems.append(Problem(f"{PREFIX}AWS_SERVICE", wrong, wanted, "Requests are not signed."))
        return None
    return Signing(service, region)


def _tls(values: Values, problems: list[Problem]) -> Tls | None:
    variables = (f"{PREFIX}CERTIFICATE", f"{PREFIX}CLIENT_CERTIFICATE", f"{PREFIX}CLIENT_KEY")
    ca_file, certificate, key = (values[name] for name in variables)
    if key is not None and certificate is None:
        problems.append(Problem(variables[2], f"set without {variables[1]}", "both", "It is left out."))
    if ca_file is None and certificate is None:
        return None
    return Tls(ca_file=ca_file, certificate=certificate, key=key, variables=variables)


def _advice(credential: Credential | None, signing: Signing | None) -> Advice:
    if signing is not None:
        what = f"that the function's role may call it, and {PREFIX}AWS_SERVICE and {PREFIX}AWS_REGION"
    elif credential is None:
        what = f"{PREFIX}TOKEN, {PREFIX}USERNAME and {PREFIX}PASSWORD, of which none is given, and {PREFIX}HEADERS"
    elif credential.user is None:
        what = f"{PREFIX}TOKEN and {PREFIX}HEADERS"
    else:
        what = f"{PREFIX}USERNAME and {PREFIX}PASSWORD"
    return Advice(who="the receiver", credential=what, address=f"{PREFIX}URL")
