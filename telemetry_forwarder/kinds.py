"""Kinds of setting: each turns the text of an environment variable into a value, or raises ValueError.

Imports nothing, for the reason that `variables` gives. `label` and `allowed` are what the README's table prints.
"""

# Only for type checkers: a bare `False`, because importing `typing` costs more than this module.
TYPE_CHECKING = False
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
    """A word of `words`, upper or lower case; or, with `convert`, a number of a list."""

    label = "word"

    def __init__(self, *words: str, convert: "type" = str) -> None:
        self.words = words
        self.convert = convert
        self.label = "integer" if convert is int else "word"
        self.allowed = ", ".join(f"`{word}`" for word in words) if convert is str else ", ".join(words)

    def read(self, text: str) -> "Any":
        if text.lower() not in self.words:
            raise ValueError(self.allowed)
        return self.convert(text.lower())


class Flag:
    """Yes or no."""

    label = "boolean"
    allowed = "`true` or `false` (also `1`, `0`, `yes`, `no`)"

    def read(self, text: str) -> bool:
        if text.lower() in ("true", "1", "yes"):
            return True
        if text.lower() in ("false", "0", "no"):
            return False
        raise ValueError(self.allowed)


class Words:
    """A comma list; `words` are the allowed ones, or None where any identifier will do."""

    label = "comma list"

    def __init__(self, *words: str, open_ended: bool = False) -> None:
        self.words = words
        self.open_ended = open_ended
        self.allowed = "of " + ", ".join(f"`{word}`" for word in words)
        if open_ended:
            self.allowed += " and installed third-party names"

    def read(self, text: str) -> "tuple[str, ...]":
        found = tuple(dict.fromkeys(word.strip().lower() for word in text.split(",") if word.strip()))
        if not found or not (self.open_ended or all(word in self.words for word in found)):
            raise ValueError(self.allowed)
        return found


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
    """`key:value` pairs parted by commas (Datadog's list may also be parted by spaces). A value may hold colons."""

    label = "tags"
    allowed = "`key:value,key:value`"

    def __init__(self, *, spaces: bool = False) -> None:
        self.spaces = spaces

    def read(self, text: str) -> "tuple[tuple[str, str], ...]":
        if self.spaces:
            text = ",".join(text.split())
        pairs = []
        for part in text.split(","):
            key, colon, value = part.strip().partition(":")
            if not part.strip():
                continue
            if not (colon and key.strip() and value.strip() and part.strip().isprintable()):
                raise ValueError(self.allowed)
            pairs.append((key.strip(), value.strip()))
        return tuple(pairs)


class Url:
    """An `http` or `https` address with a host, no user name in it. A trailing slash is removed."""

    label = "URL"

    def __init__(self, *, bare_host: bool = False) -> None:
        self.bare_host = bare_host
        self.allowed = "`https://host[:port][/path]` (or `http://`), without user name, query or fragment"
        if bare_host:
            self.allowed = "`host[:port]` or `http(s)://host[:port]`"

    def read(self, text: str) -> str:
        scheme, separator, rest = text.partition("://")
        if not separator and self.bare_host:
            scheme, rest = "https", text
        elif not separator or scheme.lower() not in ("http", "https"):
            raise ValueError(self.allowed)
        authority, slash, path = rest.partition("/")
        host, port = split_port(authority)
        if not (is_host(host) and is_port(port) and is_path(path)) or (self.bare_host and path.strip("/")):
            raise ValueError(self.allowed)
        return f"{scheme.lower()}://{authority}{slash}{path}".rstrip("/")


class Site:
    """A Datadog site: a domain name; a pasted scheme or trailing slash is removed."""

    label = "host name"
    allowed = "a Datadog site such as `datadoghq.com`, `datadoghq.eu`, `us5.datadoghq.com`"

    def read(self, text: str) -> str:
        host = text.partition("://")[2] or text
        host = host.rstrip("/").lower()
        if not is_host(host) or "." not in host:
            raise ValueError(self.allowed)
        return host


class SecretText:
    """A secret; surrounding white space (a line end pasted from a file) is removed."""

    label = "secret"
    allowed = "a token in printable ASCII without spaces"

    def read(self, text: str) -> Secret:
        text = text.strip()
        if not text or not text.isascii() or not text.isprintable() or " " in text:
            raise ValueError(self.allowed)
        return Secret(text)


class SecretArn:
    """An ARN of Secrets Manager, with `#member` where the secret is a JSON object."""

    label = "ARN"
    allowed = "`arn:aws:secretsmanager:REGION:ACCOUNT:secret:NAME`, optionally with `#json-key`"

    def read(self, text: str) -> SecretReference:
        arn, _, key = text.partition("#")
        parts = arn.split(":", 6)
        if len(parts) != 7 or parts[0] != "arn" or parts[2] != "secretsmanager" or not all(parts) or " " in arn:
            raise ValueError(self.allowed)
        return SecretReference("secretsmanager", arn, key or None)


class SsmParameter:
    """The name (or ARN) of a parameter in SSM Parameter Store; it is read with decryption."""

    label = "parameter name"
    allowed = "a parameter name (letters, digits, `.`, `-`, `_`, `/`) or its ARN"

    def read(self, text: str) -> SecretReference:
        if len(text) > 2048 or not only(text, ".-_/:"):
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
        names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
        if not names or not all(self._is_name(name) for name in names):
            raise ValueError(self.allowed)
        return names

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
    """A proxy's address, which may hold a user name and a password; it is never shown."""

    label = "URL"
    allowed = "`http://[user:password@]host[:port]`"

    def read(self, text: str) -> Secret:
        scheme, separator, rest = text.partition("://")
        login, at, address = rest.rpartition("@")
        if not separator or not login.isprintable() or " " in login:
            raise ValueError(self.allowed)
        return Secret(Url().read(f"{scheme}://{address}").replace("://", f"://{login}{at}", 1))


class FilePath:
    """A path in the file system of the environment."""

    label = "path"
    allowed = "the path of a readable PEM file"

    def read(self, text: str) -> str:
        if not text.isprintable():
            raise ValueError(self.allowed)
        return text


class DirectoryPath:
    """The absolute path of a directory, which need not be there yet."""

    label = "path"
    allowed = "an absolute path"

    def read(self, text: str) -> str:
        if not (text.isprintable() and text.startswith("/") and len(text) <= 1024):
            raise ValueError(self.allowed)
        return text


def only(text: str, others: str) -> bool:
    """Say whether `text` is made of ASCII letters, digits and the characters of `others` alone."""
    return text.isascii() and all(c.isalnum() or c in others for c in text)


def split_port(authority: str) -> "tuple[str, str]":
    """Split `host:port` (or `[v6]:port`); the port is `""` where none is given."""
    if authority.startswith("["):
        host, bracket, rest = authority[1:].partition("]")
        if not bracket or ":" not in host or rest == ":":
            return "", ""
        return host, rest[1:] if rest.startswith(":") else rest
    host, colon, port = authority.partition(":")
    return host, port if port or not colon else "?"


def is_host(host: str) -> bool:
    if ":" in host:  # IPv6 literal
        return all(c in "0123456789abcdefABCDEF:." for c in host)
    return bool(host) and len(host) < 254 and only(host, "-._") and not host.startswith((".", "-"))


def is_port(port: str) -> bool:
    return port == "" or (port.isascii() and port.isdigit() and len(port) < 6 and 0 < int(port) < 65536)


def is_path(path: str) -> bool:
    return path.isascii() and path.isprintable() and not any(c in path for c in ' ?#"<>\\')
