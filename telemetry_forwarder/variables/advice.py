"""Advice for wrong settings: from a variable and its wrong value to a sentence that says what to write instead. Pure.

Loaded only if something is wrong. Nothing here shows a possible secret: only values of types that hold no secrets are
quoted, and URLs only without login, query and fragment.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from typing import Any

from telemetry_forwarder.variables import types
from telemetry_forwarder.variables.failover_target import FailoverTarget
from telemetry_forwarder.variables.signal_types import HeaderList

_HIDDEN = "*** (hidden)"

# Factors from a unit in the value to the unit in the variable's name.
_TIMES_MS = {"ms": 1, "msec": 1, "millis": 1, "s": 1000, "sec": 1000, "secs": 1000, "seconds": 1000, "second": 1000,
            "m": 60_000, "min": 60_000, "minutes": 60_000, "h": 3_600_000}  # fmt: skip
SIZES = {"b": 1, "bytes": 1, "k": 1024, "kb": 1024, "kib": 1024, "m": 1024**2, "mb": 1024**2, "mib": 1024**2,
         "g": 1024**3, "gb": 1024**3, "gib": 1024**3}  # fmt: skip
NUMBER = re.compile(r"([+-]?\d+(?:\.\d+)?(?:e\+?\d{1,2})?)([a-z]*)", re.ASCII)

# Source: Datadog, "Getting started with Datadog sites", read 2026-11-27.
_SITES = (
    "datadoghq.com", "us3.datadoghq.com", "us5.datadoghq.com", "ap1.datadoghq.com", "ap2.datadoghq.com",
    "datadoghq.eu", "ddog-gov.com", "us2.ddog-gov.com",
)  # fmt: skip
_SITE_WORDS = {
    "us": "datadoghq.com", "us1": "datadoghq.com", "com": "datadoghq.com", "eu": "datadoghq.eu", "eu1": "datadoghq.eu",
    "us3": "us3.datadoghq.com", "us5": "us5.datadoghq.com", "ap1": "ap1.datadoghq.com", "ap2": "ap2.datadoghq.com",
    "gov": "ddog-gov.com", "fed": "ddog-gov.com", "us1-fed": "ddog-gov.com",
}  # fmt: skip
_MODES = {"periodically": "periodic", "continuously": "continuous", "default": "adaptive"}
_LEVELS = {"trace": "debug", "verbose": "debug", "err": "error", "fatal": "error", "critical": "error",
          "notice": "info", "information": "info"}  # fmt: skip


def advice(name: str, kind: Any, text: str) -> str:
    """Return a sentence that says what to write in the variable `name` instead of `text`; "" if that is unclear."""
    finder: Callable[[str, Any, str], str] = _FINDERS.get(type(kind), lambda name, kind, text: "")
    return finder(name, kind, text)


def shown(kind: Any, text: str) -> str:
    """Return the given text in quotes, cut to fit a log line, without any part that may be a secret."""
    if isinstance(kind, (types.SecretText, HeaderList)):
        return _HIDDEN
    if isinstance(kind, (types.SecretArn, types.SsmParameter, types.SecretNames)) and not text.startswith(
        ("arn:", "/")
    ):
        return _HIDDEN  # most likely the secret itself instead of a reference
    if isinstance(kind, (types.Url, types.ProxyUrl, FailoverTarget, types.Site)):
        if "@" in text:  # all text before the last `@` may be a password, which may hold any character
            scheme, separator, _ = text.partition("://")
            known = f"{scheme}://" if separator and scheme.isalnum() else ""
            text = f"{known}***@{text.rpartition('@')[2]}"
        elif isinstance(kind, types.ProxyUrl) and not re.fullmatch(r"(\w+://)?[^:/?#]*(:\d+)?/?", text):
            return _HIDDEN  # perhaps a login without its `@`
        text = text.partition("?")[0].partition("#")[0]
    return repr(text[:120] + ("…" if len(text) > 120 else ""))


def nearest(word: str, words: Iterable[str], likeness: float = 0.6) -> str | None:
    """Return the word of `words` that equals `word` without dashes and case, or else is most like it; None if none."""
    known = {_squeezed(one): one for one in words}
    return known.get(_squeezed(word)) or next(iter(get_close_matches(word, list(known.values()), 1, likeness)), None)


def _squeezed(word: str) -> str:
    return "".join(c for c in word.lower() if c.isalnum())


def write(value: str) -> str:
    return f"Write `{value}`."


def is_sound(kind: Any, text: str) -> bool:
    try:
        kind.read(text)
    except ValueError:
        return False
    return True


def unknown_site(site: str) -> str:
    """Return the notice for a valid site that is not in SITES; it may be a new one."""
    close = nearest(site, _SITES, 0.8)
    hint = f" Is `{close}` meant?" if close else ""
    return (
        f"is {site!r}, which is not known here as a site of Datadog's.{hint} It is used as it is; for another intake "
        "or a proxy that takes logs set DD_LOGS_CONFIG_LOGS_DD_URL."
    )


def sink_meant(name: str, sinks: Iterable[str]) -> str:
    """Return advice that names the built-in sink most likely meant by the unknown `name`; "" if there is none."""
    known = {"splunk_hec": "splunk", "hec": "splunk", "dd": "datadog", "cloudwatch_logs": "cloudwatch",
             "cloudwatch-logs": "cloudwatch", "cwl": "cloudwatch", "cw": "cloudwatch"}  # fmt: skip
    found = known.get(name) or nearest(name, sinks)
    return write(found) if found else ""


def what_to_set(needs: Mapping[str, Iterable[Iterable[str]]]) -> str:
    """Return a sentence with the variables that each built-in sink needs."""
    each = (f"for {sink} {' and '.join(map(' or '.join, rows))}" for sink, rows in needs.items())
    return f"Set {'; '.join(each)}."


# --- one function for each kind: from the variable's name, its kind and the given text to a sentence or "" ---


def number(name: str, kind: types.Integer, text: str) -> str:
    found = NUMBER.fullmatch(re.sub(r"[\s_,']", "", text.lower()))
    if found is None:
        return ""
    digits, unit = found.groups()
    units = SIZES if name.endswith("_BYTES") else _TIMES_MS if name.endswith(("_MS", "_MILLIS", "_TTL")) else {}
    if unit and unit not in units:
        return ""
    is_in_seconds = unit and name.endswith("_TTL")
    value = float(digits) * units.get(unit, 1) / (1000 if is_in_seconds else 1)
    return write(f"{value:.0f}") if value.is_integer() and is_sound(kind, f"{value:.0f}") else ""


def word(name: str, kind: types.OneOf, text: str) -> str:
    if name == "TELEMETRY_FORWARDER_SECRETS":  # never advise anybody to serve secrets
        return ""
    if kind.convert is int:
        found = re.match(r"(\d{1,6})\s*([a-z]?)", text.lower(), re.ASCII)
        days = int(found[1]) * {"w": 7, "m": 30, "y": 365}.get(found[2], 1) if found else 0
        return write(next((one for one in kind.words if int(one) >= days), kind.words[-1])) if days else ""
    if text.lower() == "grpc":
        return "gRPC is not spoken here: write `http/protobuf`, and the address that takes HTTP, usually at port 4318."
    translated = _LEVELS.get(text.lower())
    found_word = translated if translated in kind.words else nearest(text, kind.words)
    return write(found_word) if found_word else ""


def flag(name: str, kind: types.Flag, text: str) -> str:
    meant = {"enabled": "true", "enable": "true", "disabled": "false", "disable": "false", "none": "false"}
    found = meant.get(text.lower()) or nearest(text, ("true", "false"))
    return write(found) if found else ""


def flush(name: str, kind: types.Flush, text: str) -> str:
    found = re.fullmatch(r"([a-z]+)[\s,;:=]*(?:([\d.]+)\s*([a-z]*))?", text.lower(), re.ASCII)
    if found is None:
        return ""
    given, seconds, unit = found.groups()
    mode = _MODES.get(given) or nearest(given, ("adaptive", "end", "periodic", "continuous"))
    if mode is None:
        return ""
    # Datadog's `periodically,60000` is in milliseconds.
    factor = _TIMES_MS.get(unit or ("ms" if given in _MODES else "s"))
    if seconds and seconds.replace(".", "", 1).isdigit() and factor:
        value = f"{mode},{float(seconds) * factor / 1000:g}"
        if is_sound(kind, value):
            return write(value)
    return write(mode)


def _some_words(name: str, kind: types.Words, text: str) -> str:
    found = [one for part in re.split(r"[,;\s]+", text) if (one := nearest(part, kind.words))]
    return write(",".join(dict.fromkeys(found))) if found else ""


def tags(name: str, kind: types.Tags, text: str) -> str:
    value = re.sub(r"^(\w[\w./-]*)\s*(?:=>|=)\s*", r"\1:", text)
    if value != text and is_sound(kind, value):
        return write(value)
    return "" if ":" in text else "A tag has a key and a value, parted by a colon."


def site(name: str, kind: types.Site, text: str) -> str:
    if (known := _SITE_WORDS.get(text.lower())) is not None:
        return write(known)
    host = re.sub(r"\s", "", text.lower()).rpartition("://")[2].rpartition("@")[2]
    host = re.split(r"[:/?#]", host.lstrip("/"))[0].rstrip(".")
    if (known := _SITE_WORDS.get(host.partition(".")[0])) and host.endswith(kind.families):
        return write(known)
    found = [one for one in _SITES if host == one or host.endswith(f".{one}")]
    if found:
        return write(max(found, key=len))
    close = nearest(host, _SITES, 0.8)
    if close is None and is_sound(kind, host):
        close = host
    return write(close) if close and host != "datadoghq" else ""


def url(name: str, kind: types.Url, text: str) -> str:
    """Return advice with the first valid URL among variants without surplus parts, and with missing ones added."""
    if "@" in text:
        return "Leave user name and password out: the credential has a variable of its own."
    plain = re.split(r"[?#]", text)[0]
    address = re.sub(r"^[a-z]*(?::/*|//+)(?=[^/\d])", "", plain, flags=re.IGNORECASE) if "/" in plain else plain
    scheme = "http" if plain.lower().startswith("http:") else "https"
    host = address.partition("/")[0]
    tries = [plain, f"{scheme}://{address}", re.sub(r"/[a-z]{2}-[A-Z]{2}(/.*)?$", "", plain), f"{scheme}://{host}"]
    for value in (re.sub(r"\s", "", one) for one in tries):
        if value != text and is_sound(kind, value):
            return write(value)
    return ""


def region(name: str, kind: types.Region, text: str) -> str:
    value = re.sub(r"[\s_]+", "-", text.strip().lower())
    value = re.sub(r"^([a-z-]+)(\d+)[a-z]?$", r"\1-\2", value).replace("--", "-")  # an availability zone's letter
    return write(value) if is_sound(kind, value) else ""


def secret(name: str, kind: types.SecretText, text: str) -> str:
    """Return what is wrong with a secret, without showing any of it."""
    if text.startswith("arn:"):
        suffix = "_SSM_PARAMETER" if ":ssm:" in text else "_SECRET_ARN"
        return f"It is an ARN: set {name}{suffix} to it instead."
    if text.startswith("{{"):
        return "It is a dynamic reference that CloudFormation has not resolved."
    if text.lower().startswith(("splunk ", "bearer ", "basic ")):
        return f"Leave the word `{text.partition(' ')[0]}` out."
    odd = next((c for c in text if not (c.isascii() and c.isprintable()) or c == " "), None)
    names = {" ": "a space", "\n": "a line break", "\r": "a line break", "\t": "a tab"}
    return f"There is {names.get(odd, f'the character U+{ord(odd):04X}')} in it." if odd else ""


def secret_arn(name: str, kind: types.SecretArn, text: str) -> str:
    if found := re.fullmatch(r"(arn:[\w-]+:secretsmanager:[\w-]+:\d+:secret:[^:#\s]+):([^:#\s]+)(:[^:]*){0,2}", text):
        return write(f"{found[1]}#{found[2]}")  # the given text has the form that ECS uses
    if text.startswith("arn:") and ":ssm:" in text:
        return f"It is an SSM parameter: set {name.removesuffix('_SECRET_ARN')}_SSM_PARAMETER to it instead."
    if text.startswith("arn:"):
        return ""
    if text.startswith("{{"):
        return "It is a dynamic reference that CloudFormation has not resolved."
    return "The whole ARN is wanted, not a name, and not the secret itself."


def parameter(name: str, kind: types.SsmParameter, text: str) -> str:
    if text.startswith("arn:") and ":secretsmanager:" in text:
        return f"It is a secret of Secrets Manager: set {name.removesuffix('_SSM_PARAMETER')}_SECRET_ARN to it instead."
    if text.lower().startswith(("ssm:", "ssm-secure:")):
        return "Leave out what stands before the name."
    return ""


def proxy(name: str, kind: types.ProxyUrl, text: str) -> str:
    try:
        kind.read(text)
    except ValueError as error:
        reason = str(error)
        return f"{reason[:1].upper()}{reason[1:]}." if reason else ""
    return ""


def exception(name: str, kind: types.NoProxy, text: str) -> str:
    value = re.sub(r"^[a-z]+://|/(?!\d).*$", "", text.lower())
    if re.fullmatch(r"\d{1,3}(\.(\d{1,3}|\*))*\.?", text):
        given = [part for part in text.split(".") if part.isdigit()]
        value = ".".join([*given, *["0"] * (4 - len(given))]) + f"/{8 * len(given)}"
    return write(value) if value != text and is_sound(kind, value) else ""


def place(name: str, kind: FailoverTarget, text: str) -> str:
    parts = text.split(":", 5)
    if text.startswith("arn:") and len(parts) == 6 and parts[2] in ("s3", "sqs"):
        value = (
            f"https://sqs.{parts[3]}.amazonaws.com/{parts[4]}/{parts[5]}" if parts[2] == "sqs" else f"s3://{parts[5]}"
        )
    else:
        value = f"s3://{text.lower()}"
    return write(value) if is_sound(kind, value) else ""


def _log_group(name: str, kind: types.LogGroup, text: str) -> str:
    value = text.partition(":log-group:")[2].partition(":")[0]
    return write(value) if value and is_sound(kind, value) else ""


def ca_content(content: bytes) -> str:
    """Return what is wrong with a file that should hold PEM certificates, and what to do; without full stop."""
    if not content.strip():
        return "The file is empty"
    if content[:2] in (b"\x30\x82", b"\x30\x80"):  # a SEQUENCE of ASN.1
        return (
            "The file is in DER form, or a PKCS #12 store; convert it: "
            "openssl x509 -inform der -in FILE -out FILE.pem, or openssl pkcs12 -in FILE -nokeys -out FILE.pem"
        )
    if b"PRIVATE KEY-----" in content:
        return "The file holds a private key and no certificate"
    if b"BEGIN PKCS7" in content:
        return "The file is in PKCS #7 form; convert it: openssl pkcs7 -print_certs -in FILE -out FILE.pem"
    if b"CERTIFICATE REQUEST-----" in content:
        return "The file holds a request for a certificate and no certificate"
    if b"-----BEGIN" in content:
        return "The file holds no certificate, or one that was damaged (its line breaks were lost, perhaps)"
    return "The file holds no certificate: it lacks the line -----BEGIN CERTIFICATE-----"


def printable(name: str, kind: types.Text, text: str) -> str:
    odd = next((c for c in text if not c.isprintable()), None)
    return f"There is the character U+{ord(odd):04X} in it." if odd else ""


_FINDERS: Mapping[type, Callable[[str, Any, str], str]] = {
    types.Integer: number, types.OneOf: word, types.Flag: flag, types.Flush: flush, types.Words: _some_words,
    types.Tags: tags, types.Site: site, types.Url: url, types.Region: region, types.SecretText: secret,
    types.SecretArn: secret_arn, types.SsmParameter: parameter, types.ProxyUrl: proxy, types.NoProxy: exception,
    types.Text: printable, FailoverTarget: place, types.LogGroup: _log_group,
}  # fmt: skip


# --- names ---

# Common wrong names with the prefixes of Splunk, Datadog and CloudWatch, and the variables that they mean.
ALIASES = {
    "SPLUNK_URL": "SPLUNK_HEC_URL", "SPLUNK_HEC_ENDPOINT": "SPLUNK_HEC_URL", "SPLUNK_HEC_HOST": "SPLUNK_HEC_URL",
    "SPLUNK_TOKEN": "SPLUNK_HEC_TOKEN", "SPLUNK_HEC_INDEX": "SPLUNK_INDEX", "SPLUNK_HEC_SOURCE": "SPLUNK_SOURCE",
    "SPLUNK_HEC_SOURCETYPE": "SPLUNK_SOURCETYPE", "SPLUNK_HEC_TOKEN_ARN": "SPLUNK_HEC_TOKEN_SECRET_ARN",
    "SPLUNK_HEC_TOKEN_SECRET": "SPLUNK_HEC_TOKEN_SECRET_ARN", "DD_API_KEY_SECRET": "DD_API_KEY_SECRET_ARN",
    "SPLUNK_HEC_TOKEN_SSM": "SPLUNK_HEC_TOKEN_SSM_PARAMETER", "DD_API_KEY_SSM": "DD_API_KEY_SSM_PARAMETER",
    "DD_API_KEY_ARN": "DD_API_KEY_SECRET_ARN", "DD_API_KEY_SSM_ARN": "DD_API_KEY_SSM_PARAMETER",
    "CLOUDWATCH_LOG_GROUP_NAME": "CLOUDWATCH_LOG_GROUP", "CLOUDWATCH_LOG_STREAM_NAME": "CLOUDWATCH_LOG_STREAM",
    "CLOUDWATCH_RETENTION": "CLOUDWATCH_RETENTION_DAYS", "CLOUDWATCH_LOG_RETENTION": "CLOUDWATCH_RETENTION_DAYS",
}  # fmt: skip
OWN = "TELEMETRY_FORWARDER_"


def own_meant(name: str, known: Iterable[str]) -> str | None:
    """Return the variable that is meant by an unknown name with our own prefix; None if none is like it."""
    own = {one.removeprefix(OWN): one for one in known}  # with the other prefixes, for TELEMETRY_FORWARDER_DD_TAGS
    rest = re.sub(r"^TELEMETRY_?FORWARDER_*", "", name.upper())
    found = nearest(rest, own)
    return own[found] if found else None


def other_meant(name: str, known: Iterable[str]) -> str | None:
    """Return the variable that is meant by a name with another vendor's prefix; None if that is not certain.

    It is certain for names in `ALIASES`, and for names that differ from ours only in dashes, case or a few letters.
    All others may belong to other tools, which use these prefixes, too.
    """
    return ALIASES.get(name.upper()) or nearest(name, known, 0.92)
