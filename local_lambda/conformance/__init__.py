"""A conformance suite for Lambda extensions: it runs any executable on the local Lambda and judges its behaviour.

model                       the input and the results of the suite
suite                       the list of checks, and the order of the work
scenarios, posting, machine the environments, and the actions and look-ups in them
batches                     unusual batches of telemetry: pure
layers                      the extensions of layers, one at a time
observations                the observations in one environment: plain data
surroundings                whether this machine is why an extension is in trouble
starting, invoking,         the checks: pure functions of the observations, each with its title and source
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
    # The suite imports aiohttp, which takes a fifth of a second.
    if name in ("CHECKS", "Suite"):
        from local_lambda.conformance import suite

        return getattr(suite, name)
    raise AttributeError(name)
