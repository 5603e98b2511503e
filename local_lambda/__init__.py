"""A local Lambda: the Runtime, Extensions and Telemetry APIs on one machine. Nothing in the layer imports it.

settings, results, errors      what the user passes in and gets back
local_lambda                   one environment as an async context manager; its state is in sandbox
fleet                          several environments, scaled as Lambda does
serving                        the function behind the Lambda API, and behind HTTP
pytest_plugin, cli             the two ways to use it: from tests, and as a command
phases                         init, invocation, managed, restore, shutdown
apis                           the Runtime, Extensions and Telemetry APIs, which the processes call
rules                          the rules of these APIs and of the platform's logs: pure
telemetry                      the platform's telemetry and its sender
machine                        processes and pipes, layers, limits, the freezer, and the reaper that cleans up
conformance                    judges an extension: the checks, the scenarios they need, the observations made
transcript, watch              a log of all API calls; waiting for a condition
"""

from typing import TYPE_CHECKING

from local_lambda.errors import EmulatorError, InitFailed, Throttled
from local_lambda.results import Enforced, ExtensionEnd, Invocation, Shutdown
from local_lambda.settings import Function, Platform, Retry

if TYPE_CHECKING:
    from local_lambda.fleet import Fleet
    from local_lambda.local_lambda import LocalLambda

__all__ = [
    "EmulatorError",
    "Enforced",
    "ExtensionEnd",
    "Fleet",
    "Function",
    "InitFailed",
    "Invocation",
    "LocalLambda",
    "Platform",
    "Retry",
    "Shutdown",
    "Throttled",
]


def __getattr__(name: str) -> object:
    # Importing aiohttp takes a fifth of a second; code that only needs `Function` does not wait for it.
    if name == "LocalLambda":
        from local_lambda.local_lambda import LocalLambda

        return LocalLambda
    if name == "Fleet":
        from local_lambda.fleet import Fleet

        return Fleet
    raise AttributeError(name)
