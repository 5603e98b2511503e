"""Expressions of the query languages: read into a tree, and evaluated over one row. What is not known is refused.

The languages differ in how they write a field, in what compares to a text, and in their functions; what they have in
common is here.
"""

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Value = float | str | None
Row = Mapping[str, Value]


class Unsupported(Exception):
    """The query uses something that the engine does not understand, or that the language does not have."""


@dataclass(frozen=True, slots=True)
class Token:
    kind: str  # number, text, pattern, name, sign, end
    text: str


END = Token("end", "")


class Tokens:
    """The words of a query.

    `names` is the pattern of a field without quotes. `quote` stands round a field, each of `texts` round a text.
    """

    def __init__(self, query: str, names: str, *, quote: str, texts: str) -> None:
        kinds = {
            "number": r"\d+(?:\.\d+)?",
            "text": "|".join(rf"{mark}(?:[^{mark}\\]|\\.)*{mark}" for mark in texts),
            "pattern": r"(?<=like )/(?:[^/\\]|\\.)+/",
            "quoted": f"{quote}[^{quote}]+{quote}",
            "name": names,
            "sign": r"!=|<=|>=|==|[-+*/%()=<>,|\[\]]",
            "space": r"\s+",
            "other": r".",
        }
        pattern = re.compile("|".join(f"(?P<{kind}>{found})" for kind, found in kinds.items()), re.DOTALL)
        self._left: list[Token] = []
        for found in pattern.finditer(query):
            kind, text = found.lastgroup or "other", found.group()
            if kind == "other":
                raise Unsupported(f"{text!r} in {query!r}")
            if kind == "space":
                continue
            if kind in ("text", "pattern", "quoted"):
                text = text[1:-1]
            self._left.append(Token("name" if kind == "quoted" else kind, text))

    @property
    def next(self) -> Token:
        return self._left[0] if self._left else END

    def take(self) -> Token:
        return self._left.pop(0) if self._left else END

    def takes(self, *words: str) -> str | None:
        """Take the next token if it is one of `words`, in whatever case; return it in lower case."""
        token = self.next
        if token.kind in ("name", "sign") and (word := token.text.lower()) in words:
            self._left.pop(0)
            return word
        return None

    def expect(self, *words: str) -> str:
        if (word := self.takes(*words)) is None:
            raise Unsupported(f"{self.next.text!r} where {' or '.join(words)} is expected")
        return word

    def rest_is_empty(self) -> bool:
        return not self._left


@dataclass(frozen=True, slots=True)
class Field:
    name: str


@dataclass(frozen=True, slots=True)
class Constant:
    value: Value


@dataclass(frozen=True, slots=True)
class Pattern:
    regex: re.Pattern[str]


@dataclass(frozen=True, slots=True)
class Call:
    """A function, or an operator by its sign, with its arguments."""

    name: str
    arguments: Sequence["Node"]


Node = Field | Constant | Pattern | Call
# From the weakest to the strongest. Source: both vendors' pages of operators; arithmetic binds as everywhere.
_LEVELS: Sequence[Sequence[str]] = (
    ("or",),
    ("and",),
    ("=", "==", "!=", "<", "<=", ">", ">=", "like"),
    ("+", "-"),
    ("*", "/"),
)


def parse(tokens: Tokens, level: int = 0) -> Node:
    """Read one expression; what follows it stays."""
    if level == len(_LEVELS):
        return _operand(tokens)
    if level == 2 and tokens.takes("not"):
        return Call("not", (parse(tokens, level),))
    left = parse(tokens, level + 1)
    while sign := tokens.takes(*_LEVELS[level]):
        left = Call("=" if sign == "==" else sign, (left, parse(tokens, level + 1)))
    return left


def _operand(tokens: Tokens) -> Node:
    token = tokens.take()
    match token.kind:
        case "number":
            return Constant(float(token.text))
        case "text":
            return Constant(token.text)
        case "pattern":
            return Pattern(re.compile(token.text))
        case "name" if tokens.takes("("):
            return Call(token.text.lower(), _arguments(tokens))
        case "name":
            return Field(token.text)
        case "sign" if token.text == "(":
            inner = parse(tokens)
            tokens.expect(")")
            return inner
        case "sign" if token.text == "*":  # count(*)
            return Field("*")
    raise Unsupported(f"{token.text!r} where a value is expected")


def _arguments(tokens: Tokens) -> Sequence[Node]:
    found: list[Node] = []
    while not tokens.takes(")"):
        if found:
            tokens.expect(",")
        found.append(parse(tokens))
    return found


_ARITHMETIC: Mapping[str, Callable[[float, float], float]] = {
    "+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv,
}  # fmt: skip
_COMPARED: Mapping[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip
Function = Callable[..., Value]


def evaluate(node: Node, row: Row, functions: Mapping[str, Function]) -> Value:
    """Return the value of `node` in `row`; None if a field that it needs is missing. A condition is 1.0 or 0.0."""
    match node:
        case Constant(value):
            return value
        case Field(name):
            return row.get(name)
        case Pattern():
            raise Unsupported("a pattern that stands alone")
        case Call("and" | "or" as name, (left, right)):
            both = (is_true(evaluate(left, row, functions)), is_true(evaluate(right, row, functions)))
            return float(all(both) if name == "and" else any(both))
        case Call("not", (inner,)):
            return float(not is_true(evaluate(inner, row, functions)))
        case Call("like", (left, Pattern(regex))):
            value = evaluate(left, row, functions)
            return float(isinstance(value, str) and regex.search(value) is not None)
        case Call(name, arguments):
            values = [evaluate(one, row, functions) for one in arguments]
            if name in functions:
                return functions[name](*values)
            return _operated(name, values)


def _operated(name: str, values: Sequence[Value]) -> Value:
    if name not in _ARITHMETIC and name not in _COMPARED:
        raise Unsupported(f"the function {name}")
    left, right = values
    if left is None or right is None:
        return None
    if name in _ARITHMETIC:
        if isinstance(left, str) or isinstance(right, str):
            raise Unsupported(f"{left!r} {name} {right!r}")
        return _ARITHMETIC[name](left, right) if name != "/" or right else None
    if isinstance(left, str) != isinstance(right, str):
        raise Unsupported(f"{left!r} compared with {right!r}")
    return float(_COMPARED[name](left, right))


def is_true(value: Value) -> bool:
    if isinstance(value, str):
        raise Unsupported(f"{value!r} as a condition")
    return bool(value)


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the value that `percent` of `values` do not exceed. The vendors' own are estimates of it."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * percent // 100).__int__() - 1)]
