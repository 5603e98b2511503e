"""What an environment variable is. It imports nothing, as `table` explains."""

# Only for type checkers: a bare `False`, because importing `typing` costs more than this module.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Variable:
    """One environment variable: `kind` reads its text; `default` is used if it is unset, empty or invalid.

    `sink` is the name of its sink, or `secrets`, `network`, or `sdk` (read only by the AWS SDK); None for all others.
    """

    __slots__ = ("default", "kind", "meaning", "name", "sink")

    def __init__(self, name: str, kind: "Any", default: "Any", meaning: str, sink: "str | None" = None) -> None:
        self.name = name
        self.kind = kind
        self.default = default
        self.meaning = meaning
        self.sink = sink
