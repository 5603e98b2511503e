"""What the commands have in common: the error for wrong usage, and the option `--env`."""

from collections.abc import Sequence

import click


class BadUsage(click.ClickException):
    """Wrong usage, reported as one sentence, without the usage lines that click adds to its own errors."""

    exit_code = 2


def variables_of(given: Sequence[str]) -> dict[str, str]:
    """Return the variables given as NAME=VALUE. Raises BadUsage."""
    pairs = [text.partition("=") for text in given]
    for name, equals, _ in pairs:
        if not (name and equals):
            raise BadUsage(f"--env {name!r} is not of the form NAME=VALUE.")
    return {name: value for name, _, value in pairs}
