"""A conformance suite for Lambda extensions: any executable is put on the local Lambda and judged by what it does.

model                       what the suite is given and what it says
suite                       the list of checks, and the order of the work
scenarios, posting, machine the environments, and what is done and looked at in them
observations                what was observed in one: plain data
starting, invoking,         the checks: pure functions of what was observed, each under its title and source
receiving
function/                   the function that runs beside the extension

    suite = Suite(Subject(Path("extensions/mine"), {"MY_PORT": "{port}"}))
    for verdict in await suite.verdicts():
        print(verdict)
"""

from typing import TYPE_CHECKING

from local_lambda.conformance.model import (
    Check,
    ConformanceError,
    Delivered,
    Limits,
    Outcome,
    OwnFunction,
    Subject,
    Verdict,
)

if TYPE_CHECKING:
    from local_lambda.conformance.suite import CHECKS, Suite

__all__ = [
    "CHECKS",
    "Check",
    "ConformanceError",
    "Delivered",
    "Limits",
    "Outcome",
    "OwnFunction",
    "Subject",
    "Suite",
    "Verdict",
]


def __getattr__(name: str) -> object:
    # The suite needs aiohttp, which takes a fifth of a second to import.
    if name in ("CHECKS", "Suite"):
        from local_lambda.conformance import suite

        return getattr(suite, name)
    raise AttributeError(name)
