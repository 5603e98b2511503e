"""The known run, once for all tests of a process."""

import pytest

from tests.dashboards.known_run import KnownRun, play


@pytest.fixture(scope="session")
def run() -> KnownRun:
    return play()
