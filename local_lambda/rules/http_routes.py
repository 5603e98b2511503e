"""The routes of an HTTP API: which of them a request takes. Pure.

Source: AWS docs "Create routes for HTTP APIs": the most specific one wins, then the greedy one, then $default.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from local_lambda.errors import InvalidSetting

DEFAULT = "$default"
_METHODS = ("ANY", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT")
_VARIABLE = re.compile(r"\{([A-Za-z0-9._-]+)(\+?)\}")


@dataclass(frozen=True, slots=True)
class Route:
    """One route, such as `GET /orders/{id}`, `ANY /{proxy+}` or `$default`."""

    key: str
    method: str
    path: str

    def matches(self, method: str, path: str) -> Mapping[str, str] | None:
        """Return the path parameters of a request that may take it; None if it may not."""
        if self.method not in ("ANY", method):
            return None
        if self.key == DEFAULT:
            return {}
        found = _pattern(self.path).fullmatch(path.rstrip("/") or "/")
        return None if found is None else dict(zip(_names(self.path), found.groups(), strict=True))

    @property
    def rank(self) -> tuple[bool, bool, int, bool]:
        """How specific it is; the lowest wins."""
        variables = _VARIABLE.findall(self.path)
        return self.key == DEFAULT, any(greedy for _, greedy in variables), len(variables), self.method == "ANY"


def parse(key: str) -> Route:
    """Return the route that a route key stands for. Raises InvalidSetting."""
    if key == DEFAULT:
        return Route(key, "ANY", "")
    method, _, path = key.partition(" ")
    if method not in _METHODS or not path.startswith("/"):
        raise InvalidSetting(
            f"The route {key!r} is neither $default nor a method ({', '.join(_METHODS)}) and a path, such as"
            " 'GET /orders/{id}'."
        )
    rest = _VARIABLE.sub("", path)
    if "{" in rest or "}" in rest or any(one[1] for one in _VARIABLE.findall(path)[:-1]):
        raise InvalidSetting(
            f"The route {key!r} has a path variable that is neither {{name}} nor, as the last, {{name+}}."
        )
    return Route(key, method, path.rstrip("/") or "/")


def chosen(routes: Sequence[Route], method: str, path: str) -> tuple[Route, Mapping[str, str]] | None:
    """Return the route that a request takes, and its path parameters; None if there is none for it."""
    fitting = [(route, found) for route in routes if (found := route.matches(method, path)) is not None]
    return min(fitting, key=lambda pair: pair[0].rank) if fitting else None


def _names(path: str) -> list[str]:
    return [name for name, _ in _VARIABLE.findall(path)]


def _pattern(path: str) -> re.Pattern[str]:
    pieces, at = [], 0
    for found in _VARIABLE.finditer(path):
        pieces += [re.escape(path[at : found.start()]), "(.+)" if found[2] else "([^/]+)"]
        at = found.end()
    return re.compile("".join([*pieces, re.escape(path[at:])]))
