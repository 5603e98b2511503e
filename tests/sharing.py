"""Environments with a file system of their own that share /tmp with the tests, which leave and find files there."""

import dataclasses
import tempfile
from pathlib import Path

from local_lambda import Platform

TMP = Path(tempfile.gettempdir())


def sharing(platform: Platform | None = None) -> Platform:
    """Return `platform` with /tmp as this machine has it."""
    given = platform or Platform()
    return dataclasses.replace(given, shared_paths=[*given.shared_paths, TMP])
