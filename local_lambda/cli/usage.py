"""What the commands have in common: the error for wrong usage, groups of options, and options of NAME=VALUE."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import click

_Command = Callable[..., None]


class BadUsage(click.ClickException):
    """Wrong usage, reported as one sentence, without the usage lines that click adds to its own errors."""

    exit_code = 2


def grouped(name: str, into: type[Any], options: Sequence[Callable[[_Command], _Command]]) -> Callable[..., _Command]:
    """Give a command these options, as one argument `name`: a dataclass whose fields are called as they are."""
    fields = [field.name for field in dataclasses.fields(into)]

    def decorate(command: _Command) -> _Command:
        @functools.wraps(command)
        def call(**given: Any) -> None:
            group = into(**{field: given.pop(field) for field in fields})
            command(**given, **{name: group})

        decorated: _Command = call
        for option in reversed(options):
            decorated = option(decorated)
        return decorated

    return decorate


def pairs_of(option: str, given: Sequence[str]) -> dict[str, str]:
    """Return what was given as NAME=VALUE. Raises BadUsage."""
    pairs = [text.partition("=") for text in given]
    for name, equals, _ in pairs:
        if not (name and equals):
            raise BadUsage(f"{option} {name!r} is not of the form NAME=VALUE.")
    return {name: value for name, _, value in pairs}
