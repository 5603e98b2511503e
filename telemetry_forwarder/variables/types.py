"""The types of settings: `read` turns a variable's text into a value. Raises ValueError, or Unsound for part of a list.

docs/settings.md shows `label` and `allowed`. Imports only `wording`, because this runs before registration.
"""

from telemetry_forwarder.variables.wording import (
    Value,
    arn_parts,
    is_host,
    is_path,
    is_port,
    only,
    split_port,
    unquoted,
    whole,
    words,
)

TYPE_CHECKING = False  # importing `typing` costs more than this module
if TYPE_CHECKING:
    from typing import Any


class Secret:
    """A secret text. `repr`, `str` and formatting give `***`; `reveal()` gives the text."""

    __slots__ = ("_text",)  # so that `vars` does not show it

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return "***"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)


class SecretReference(Value):
    """A reference to a secret: `service` is `secretsmanager` or `ssm`, `key` a member of a JSON secret, or None."""

    def __init__(self, service: str, name: str, key: "str | None" = None) -> None:
        self.service = service
        self.name = name
        self.key = key


class Text:
    """Free text without control characters: it may be sent in an HTTP header."""

    label = "text"
    allowed = "1 to 1024 printable characters"

    def read(self, text: str) -> str:
        if len(text) > 1024 or not text.isprintable():
            raise ValueError(self.allowed)
        return text


class Integer:
    """A whole number in `low..high`, without the values in `reserved`."""

    label = "integer"

    def __init__(self, low: int, high: int, reserved: "dict[int, str] | None" = None) -> None:
        self.low = low
        self.high = high
        self.reserved = reserved or {}
        self.allowed = f"{low} to {high}"
        for number, owner in self.reserved.items():
            self.allowed += f", not {number} ({owner})"

    def read(self, text: str) -> int:
        if not (text.isascii() and text.isdigit() and len(text) < 12):
            raise ValueError(self.allowed)
        number = int(text)
        if not self.low <= number <= self.high or number in self.reserved:
            raise ValueError(self.allowed)
        return number


class OneOf:
    """One of `words`, in any case; `also` maps other spellings to them, `convert` makes the value, e.g. an integer."""

    def __init__(self, *words: str, convert: "type" = str, also: "dict[str, str] | None" = None) -> None:
        self.words = words
        self.convert = convert
        self.also = also or {}
        self.label = "integer" if convert is int else "word"
        self.allowed = ", ".join(f"`{word}`" for word in words) if convert is str else ", ".join(words)

    def read(self, text: str) -> "Any":
        word = self.also.get(text.lower(), text.lower())
        if word not in self.words:
            raise ValueError(self.allowed)
        return self.convert(word)


class Flag:
    """Yes or no."""

    label = "boolean"
    allowed = "`true` or `false` (also `1`, `0`, `yes`, `no`, `on`, `off`)"

    def read(self, text: str) -> bool:
        if text.lower() in ("true", "1", "yes", "on", "y", "t"):
            return True
        if text.lower() in ("false", "0", "no", "off", "n", "f"):
            return False
        raise ValueError(self.allowed)


class Words:
    """A list of words, separated by commas, semicolons or spaces. `open_ended` allows other words than `words`, too."""

    label = "comma list"

    def __init__(self, *words: str, open_ended: bool = False) -> None:
        self.words = words
        self.open_ended = open_ended
        self.allowed = "of " + ", ".join(f"`{word}`" for word in words)
        if open_ended:
            self.allowed += " and installed third-party names"

    def read(self, text: str) -> "tuple[str, ...]":
        found = [word.lower() for word in words(text)]
        kept = tuple(dict.fromkeys(word for word in found if self.open_ended or word in self.words))
        return whole(kept, [word for word in found if word not in kept])


class Flush:
    """A flush strategy, as a tuple of its word and, if given, its seconds (as text)."""

    label = "strategy"
    allowed = "`adaptive`, `end`, `periodic[,SECONDS]` or `continuous[,SECONDS]` with 0.1 to 3600 seconds"

    def read(self, text: str) -> "tuple[str, ...]":
        word, comma, seconds = (part.strip() for part in text.lower().partition(","))
        if word not in (("periodic", "continuous") if comma else ("adaptive", "end", "periodic", "continuous")):
            raise ValueError(self.allowed)
        # Digits only: Python would also take "1e3" and "nan" as numbers.
        if comma and not (
            seconds.isascii() and seconds.replace(".", "", 1).isdigit() and 0.1 <= float(seconds) <= 3600
        ):
            raise ValueError(self.allowed)
        return (word, seconds) if comma else (word,)


class Tags:
    """`key:value` pairs separated by commas. A value may hold colons, and spaces if there are commas.

    With `spaces` it is a list in Datadog's form: pairs and bare tags (value ""), separated by spaces or commas.
    """

    label = "tags"

    def __init__(self, *, spaces: bool = False) -> None:
        self.spaces = spaces
        self.allowed = "`key:value,key:value`"
        if spaces:
            self.allowed = "`key:value` pairs and bare tags, parted by spaces or commas"

    def read(self, text: str) -> "tuple[tuple[str, str], ...]":
        kept, wrong = [], []
        for part in self._parts(text):
            key, colon, value = (one.strip() for one in part.partition(":"))
            if key and part.isprintable() and (value or (self.spaces and not colon)):
                kept.append((key, value))
            else:
                wrong.append(part)
        return whole(tuple(kept), wrong)

    def _parts(self, text: str) -> "list[str]":
        """Split at commas; if there are none and each word is a pair, at spaces or semicolons."""
        found = words(text)
        if self.spaces or ("," not in text and all(0 < word.find(":") != word.find("://") for word in found)):
            return found
        return [part for piece in text.split(",") if (part := unquoted(piece))]


class Url:
    """An `http` or `https` URL with a host and without user name. A trailing slash is removed."""

    label = "URL"

    def __init__(self, *, bare_host: bool = False, endpoint: str = "", is_whole: bool = False) -> None:
        self.bare_host = bare_host
        self.is_whole = is_whole  # it is used as it is, with a trailing slash
        self.endpoint = endpoint  # a path that is removed from the end of the URL
        self.allowed = "`https://host[:port][/path]` (or `http://`), without user name, query or fragment"
        if bare_host:
            self.allowed = "`host[:port]` or `http(s)://host[:port]`"

    def read(self, text: str) -> str:
        scheme, separator, rest = text.partition("://")
        if not separator and self.bare_host:
            scheme, rest = "https", text
        elif not separator or scheme.lower() not in ("http", "https"):
            raise ValueError(self.allowed)
        authority, slash, path = rest.rstrip("/").removesuffix(self.endpoint).partition("/")
        host, port = split_port(authority)
        if not (is_host(host) and is_port(port) and is_path(path)) or (self.bare_host and path.strip("/")):
            raise ValueError(self.allowed)
        if self.is_whole:
            return f"{scheme.lower()}://{rest}"
        return f"{scheme.lower()}://{authority}{slash}{path}".rstrip("/")


class Site:
    """A Datadog site, which is a domain name; a pasted scheme or trailing slash is removed.

    A subdomain of Datadog's domains must look like a region: `app.`, `api.` and the intakes are no sites.
    Source: Datadog, "Getting started with Datadog sites", read 2026-11-27.
    """

    label = "host name"
    allowed = "a Datadog site such as `datadoghq.com`, `datadoghq.eu`, `us5.datadoghq.com`"
    families = ("datadoghq.com", "datadoghq.eu", "ddog-gov.com")

    def read(self, text: str) -> str:
        host = (text.partition("://")[2] or text).rstrip("./").lower()
        region, _, family = host.partition(".")
        is_region = len(region) == 3 and region[:2].isalpha() and region[2].isdigit() and region not in ("us1", "eu1")
        is_ours = host.endswith(self.families) and host not in self.families
        if not is_host(host) or "." not in host or (is_ours and not (is_region and family in self.families)):
            raise ValueError(self.allowed)
        return host


class Region:
    """An AWS region. Source: AWS General Reference, "AWS regions and endpoints": `eu-west-1`, `us-gov-east-1`, …"""

    label = "region"
    allowed = "the code of a region such as `eu-west-1`"

    def read(self, text: str) -> str:
        parts = text.split("-")
        if len(parts) < 3 or not parts[-1].isdigit() or not only(text, "-") or text != text.lower() or not all(parts):
            raise ValueError(self.allowed)
        return text


class SecretText:
    """A secret. White space (e.g. a line end pasted from a file) and quotes around it are removed."""

    label = "secret"
    allowed = "a token in printable ASCII without spaces"

    def read(self, text: str) -> Secret:
        text = unquoted(text)
        is_plain = text.isascii() and text.isprintable() and " " not in text
        if not text or not is_plain or text.startswith(("arn:", "{{")):  # a reference instead of a secret
            raise ValueError(self.allowed)
        return Secret(text)


class SecretArn:
    """An ARN of Secrets Manager, followed by `#member` if the secret is a JSON object."""

    label = "ARN"
    allowed = "`arn:aws:secretsmanager:REGION:ACCOUNT:secret:NAME`, optionally with `#json-key`"

    def read(self, text: str) -> SecretReference:
        arn, _, key = text.partition("#")
        name = arn_parts(arn, "secretsmanager")[5:]
        if len(name) != 2 or name[0] != "secret" or not name[1] or not arn.isprintable() or " " in arn:
            raise ValueError(self.allowed)
        return SecretReference("secretsmanager", arn, key or None)


class SsmParameter:
    """The name or ARN of a parameter in SSM Parameter Store. It will be read with decryption."""

    label = "parameter name"
    allowed = "a parameter name (letters, digits, `.`, `-`, `_`, `/`) or its ARN"

    def read(self, text: str) -> SecretReference:
        if len(text) > 2048 or not only(text, ".-_/:") or (text.startswith("arn:") and not arn_parts(text, "ssm")):
            raise ValueError(self.allowed)
        return SecretReference("ssm", text)


class SecretNames:
    """A comma list of names, as used in requests to the secrets endpoint. `wild` says where wildcards are allowed."""

    label = "comma list"

    def __init__(self, *, wild: str) -> None:
        self.wild = wild
        self.allowed = "of parameter names, `secretsmanager:NAME` and ARNs; " + (
            "`/path/*` for everything below a path" if wild == "path" else "`*` and `?` match any characters"
        )

    def read(self, text: str) -> "tuple[str, ...]":
        names = [name for piece in text.replace(";", ",").split(",") if (name := unquoted(piece))]
        kept = tuple(dict.fromkeys(name for name in names if self._is_name(name)))
        return whole(kept, [name for name in names if name not in kept])

    def _is_name(self, name: str) -> bool:
        if len(name) > 2048 or not name.isprintable() or " " in name:
            return False
        if self.wild != "path":
            return True
        path = name[:-1] if name.startswith("/") and name.endswith("/*") else name
        is_known = not name.startswith("arn:") or (
            name.count(":") >= 5 and name.split(":")[2] in ("ssm", "secretsmanager")
        )
        return is_known and path != "secretsmanager:" and "*" not in path and "?" not in path


class LogGroup:
    """A log group. Source: CloudWatch Logs API Reference, CreateLogGroup: 1-512 of `[A-Za-z0-9_./#-]`, no `aws/…`."""

    label = "name"
    allowed = "1 to 512 of letters, digits, `_`, `-`, `/`, `.`, `#`, not beginning with `aws/`"

    def read(self, text: str) -> str:
        if len(text) > 512 or not only(text, "_./#-") or text.startswith("aws/"):
            raise ValueError(self.allowed)
        return text


class LogStream:
    """A log stream. Source: CloudWatch Logs API Reference, CreateLogStream: 1-512 characters, no `:` and no `*`."""

    label = "name"
    allowed = "1 to 512 printable characters without `:` and `*`"

    def read(self, text: str) -> str:
        if len(text) > 512 or ":" in text or "*" in text or not text.isprintable():
            raise ValueError(self.allowed)
        return text


class ProxyUrl:
    """A proxy's URL, kept as a Secret because it may hold a user name and a password. See `proxies`."""

    label = "URL"
    allowed = "`http://[user:password@]host[:port]` (or `https://`)"

    def read(self, text: str) -> Secret:
        from telemetry_forwarder.variables.proxies import proxy_url  # loaded only if there is a proxy

        return Secret(proxy_url(text))


class NoProxy:
    """The hosts and networks that are reached without a proxy, as a tuple of entries in lower case. See `proxies`."""

    label = "list"
    allowed = (
        "of hosts, `.domain`, `*.domain`, IP addresses and networks such as `10.0.0.0/8`, each `:port` if wanted; `*`"
    )

    def read(self, text: str) -> "tuple[str, ...]":
        from telemetry_forwarder.variables.proxies import is_entry

        entries = [word.lower() for word in words(text)]
        return whole(tuple(filter(is_entry, entries)), [entry for entry in entries if not is_entry(entry)])


class FilePath:
    """A path in the file system of the environment."""

    label = "path"
    allowed = "the path of a readable PEM file"

    def read(self, text: str) -> str:
        if not text.isprintable():
            raise ValueError(self.allowed)
        return text


class DirectoryPath:
    """The absolute path of a directory below the root. It need not exist yet."""

    label = "path"
    allowed = "an absolute path below /"

    def read(self, text: str) -> str:
        is_below_root = text.startswith("/") and bool(text.strip("/."))
        if not (text.isprintable() and is_below_root and len(text) <= 1024):
            raise ValueError(self.allowed)
        return text
