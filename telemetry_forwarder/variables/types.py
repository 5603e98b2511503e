"""Types of setting: each turns the text of a variable into a value, or raises ValueError (Unsound keeps what is sound).

`label` and `allowed` are what docs/settings.md shows. Nothing is imported but `wording`: this runs before registration.
"""

from telemetry_forwarder.variables.wording import (
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
    """A value that never shows itself: `repr`, `str` and formatting give `***`. `reveal()` gives the text."""

    __slots__ = ("_text",)

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


class SecretReference:
    """Where a secret lives: `service` is `secretsmanager` or `ssm`, `key` one member of a JSON secret, or None."""

    __slots__ = ("key", "name", "service")

    def __init__(self, service: str, name: str, key: "str | None" = None) -> None:
        self.service = service
        self.name = name
        self.key = key

    def __repr__(self) -> str:
        return f"SecretReference({self.service!r}, {self.name!r}, {self.key!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SecretReference) and repr(self) == repr(other)

    def __hash__(self) -> int:
        return hash(repr(self))


class Text:
    """Free text of at most `longest` characters, without control characters (it may end in an HTTP header)."""

    label = "text"

    def __init__(self, longest: int = 1024) -> None:
        self.longest = longest
        self.allowed = f"1 to {longest} printable characters"

    def read(self, text: str) -> str:
        if len(text) > self.longest or not text.isprintable():
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
    """A word of `words`, upper or lower case, or one that `also` translates; or, with `convert`, a number of a list."""

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
    """A list of words, parted by commas, semicolons or spaces; `open_ended`: others than `words` may be installed."""

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
    """A flush strategy, as a tuple of its word and, where it is given, its seconds."""

    label = "strategy"
    allowed = "`adaptive`, `end`, `periodic[,SECONDS]` or `continuous[,SECONDS]` with 0.1 to 3600 seconds"

    def read(self, text: str) -> "tuple[str, ...]":
        word, comma, seconds = (part.strip() for part in text.lower().partition(","))
        if word not in (("periodic", "continuous") if comma else ("adaptive", "end", "periodic", "continuous")):
            raise ValueError(self.allowed)
        # "1e3" and "nan" are numbers for Python, but not for a person who reads this setting.
        if comma and not (
            seconds.isascii() and seconds.replace(".", "", 1).isdigit() and 0.1 <= float(seconds) <= 3600
        ):
            raise ValueError(self.allowed)
        return (word, seconds) if comma else (word,)


class Tags:
    """`key:value` pairs parted by commas. A value may hold colons, and spaces where something else parts the pairs.

    With `spaces` the list is Datadog's: parted by spaces or commas, of pairs and of bare tags, whose value is "" then.
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
        """Part at commas; where there are none, and each word is a pair, at spaces or semicolons."""
        found = words(text)
        if self.spaces or ("," not in text and all(0 < word.find(":") != word.find("://") for word in found)):
            return found
        return [part for piece in text.split(",") if (part := unquoted(piece))]


class Url:
    """An `http` or `https` address with a host, no user name in it. A trailing slash is removed."""

    label = "URL"

    def __init__(self, *, bare_host: bool = False, endpoint: str = "") -> None:
        self.bare_host = bare_host
        self.endpoint = endpoint  # a path that is left off where it was given
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
        return f"{scheme.lower()}://{authority}{slash}{path}".rstrip("/")


class Site:
    """A Datadog site: a domain name; a pasted scheme or trailing slash is removed.

    What stands before one of Datadog's domains has to look like a region: `app.`, `api.` and the intakes are no sites.
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
    """A region of AWS. Source: AWS General Reference, "AWS regions and endpoints": `eu-west-1`, `us-gov-east-1`, …"""

    label = "region"
    allowed = "the code of a region such as `eu-west-1`"

    def read(self, text: str) -> str:
        parts = text.split("-")
        if len(parts) < 3 or not parts[-1].isdigit() or not only(text, "-") or text != text.lower() or not all(parts):
            raise ValueError(self.allowed)
        return text


class SecretText:
    """A secret; white space (a line end pasted from a file) and quotes around it are removed."""

    label = "secret"
    allowed = "a token in printable ASCII without spaces"

    def read(self, text: str) -> Secret:
        text = unquoted(text)
        is_plain = text.isascii() and text.isprintable() and " " not in text
        if not text or not is_plain or text.startswith(("arn:", "{{")):  # a reference, or one that nobody resolved
            raise ValueError(self.allowed)
        return Secret(text)


class SecretArn:
    """An ARN of Secrets Manager, with `#member` where the secret is a JSON object."""

    label = "ARN"
    allowed = "`arn:aws:secretsmanager:REGION:ACCOUNT:secret:NAME`, optionally with `#json-key`"

    def read(self, text: str) -> SecretReference:
        arn, _, key = text.partition("#")
        name = arn_parts(arn, "secretsmanager")[5:]
        if len(name) != 2 or name[0] != "secret" or not name[1] or not arn.isprintable() or " " in arn:
            raise ValueError(self.allowed)
        return SecretReference("secretsmanager", arn, key or None)


class SsmParameter:
    """The name (or ARN) of a parameter in SSM Parameter Store; it is read with decryption."""

    label = "parameter name"
    allowed = "a parameter name (letters, digits, `.`, `-`, `_`, `/`) or its ARN"

    def read(self, text: str) -> SecretReference:
        if len(text) > 2048 or not only(text, ".-_/:") or (text.startswith("arn:") and not arn_parts(text, "ssm")):
            raise ValueError(self.allowed)
        return SecretReference("ssm", text)


class SecretNames:
    """A comma list of names for the secrets endpoint, written as one asks for them; `*` in it where `wild` says."""

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
    """Source: CloudWatch Logs API Reference, CreateLogGroup: 1-512 of `[A-Za-z0-9_./#-]`, not beginning `aws/`."""

    label = "name"
    allowed = "1 to 512 of letters, digits, `_`, `-`, `/`, `.`, `#`, not beginning with `aws/`"

    def read(self, text: str) -> str:
        if len(text) > 512 or not only(text, "_./#-") or text.startswith("aws/"):
            raise ValueError(self.allowed)
        return text


class LogStream:
    """Source: CloudWatch Logs API Reference, CreateLogStream: 1-512 characters, no `:` and no `*`."""

    label = "name"
    allowed = "1 to 512 printable characters without `:` and `*`"

    def read(self, text: str) -> str:
        if len(text) > 512 or ":" in text or "*" in text or not text.isprintable():
            raise ValueError(self.allowed)
        return text


class ProxyUrl:
    """A proxy's address, which may hold a user name and a password; it is never shown. See `proxies`."""

    label = "URL"
    allowed = "`http://[user:password@]host[:port]` (or `https://`)"

    def read(self, text: str) -> Secret:
        from telemetry_forwarder.variables.proxies import proxy_url  # only where there is a proxy

        return Secret(proxy_url(text))


class NoProxy:
    """What is reached without a proxy, as a tuple of entries in lower case. See `proxies`."""

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
    """The absolute path of a directory below the root, which need not be there yet."""

    label = "path"
    allowed = "an absolute path below /"

    def read(self, text: str) -> str:
        is_below_root = text.startswith("/") and bool(text.strip("/."))
        if not (text.isprintable() and is_below_root and len(text) <= 1024):
            raise ValueError(self.allowed)
        return text
