"""Helpers to parse values (quotes, lists, hosts, ports, ARNs), and the classes of messages about wrong values.

Imports nothing, for the reason given in `table`.
"""

# Only for type checkers: a bare `False`, because importing `typing` costs more than this module.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeVar

    Kept = TypeVar("Kept")

# White space and zero-width characters, which come with text that is copied from a page, a file or a chat.
_EDGES = " \t\n\r\v\f\x1c\x1d\x1e\x1f\x85\xa0\u2002\u2003\u2009\u200b\u200c\u200d\u2028\u2029\u202f\u2060\u3000\ufeff"
_QUOTES = {'"': '"', "'": "'", "\u201c": "\u201d", "\u2018": "\u2019"}
_EACH_QUOTE = "\"'\u201c\u201d\u2018\u2019"
_PARTERS = str.maketrans(",;", "  ")


class Value:
    """A value: equal to another of its class with equal members, in the order in which `__init__` sets them."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(map(repr, vars(self).values()))})"

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and vars(other) == vars(self)

    def __hash__(self) -> int:
        return hash(repr(self))


class Unsound(ValueError):
    """A list is partly invalid: `kept` are its valid items, `wrong` the others."""

    def __init__(self, kept: "Any", wrong: "list[str]") -> None:
        super().__init__()
        self.kept = kept
        self.wrong = wrong


def unquoted(text: str) -> str:
    """Return `text` without white space around it, and without one pair of quotes, which a shell would have removed."""
    text = text.strip(_EDGES)
    if len(text) > 1 and _QUOTES.get(text[0]) == text[-1]:
        return text[1:-1].strip(_EDGES)
    return text


def words(text: str) -> "list[str]":
    """Split a list at commas, semicolons and white space; remove quotes around words, and brackets of a JSON array."""
    if text[:1] == "[" and text[1:].lstrip()[:1] in _EACH_QUOTE and text[-1:] == "]":
        text = text[1:-1]
    return [word for piece in text.translate(_PARTERS).split() if (word := piece.strip(_EDGES + _EACH_QUOTE))]


def whole(kept: "tuple[Kept, ...]", wrong: "list[str]") -> "tuple[Kept, ...]":
    """Return `kept` if nothing is wrong. Raises Unsound if something is, ValueError if there is nothing to keep."""
    if not kept:
        raise ValueError
    if wrong:
        raise Unsound(kept, wrong)
    return kept


def arn_parts(arn: str, service: str) -> "list[str]":
    """Return the parts of an ARN of `service` with a region and an account; [] if it is not one."""
    found = arn.split(":")
    is_one = len(found) > 5 and found[0] == "arn" and found[1].startswith("aws") and found[2] == service
    return found if is_one and found[3] and found[4].isdigit() else []


def only(text: str, others: str) -> bool:
    """Return whether `text` has only ASCII letters, digits and characters of `others`."""
    return text.isascii() and all(c.isalnum() or c in others for c in text)


def split_port(authority: str) -> "tuple[str, str]":
    """Split `host:port` or `[v6]:port`; the port is "" if there is none."""
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


class Problem:
    """A wrong value in the environment: the variable, what was given (never a secret), and what is allowed.

    `advice` says what to write instead. `consequence` says what the extension does now.
    """

    level = "error"
    is_wrong = True

    def __init__(self, variable: str, given: str, allowed: str, consequence: str, advice: str = "") -> None:
        self.variable = variable
        self.given = given
        self.allowed = allowed
        self.consequence = consequence
        self.advice = advice

    def __str__(self) -> str:
        advice = f" {self.advice}" if self.advice else ""
        return f"{self.variable} is {self.given}; allowed: {self.allowed}.{advice} {self.consequence}"

    def __repr__(self) -> str:
        return str(self)


class Notice(Problem):
    """A likely mistake, described by one text. `is_wrong` says whether it fails the start in strict mode."""

    def __init__(self, variable: str, text: str, *, is_wrong: bool = False, level: str = "warning") -> None:
        super().__init__(variable, "", "", text)
        self.text = text
        self.is_wrong = is_wrong
        self.level = level

    def __str__(self) -> str:
        return f"{self.variable} {self.text}"
