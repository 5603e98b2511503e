"""A local Lambda: the Runtime, Extensions and Telemetry APIs on one machine. Nothing in the layer imports it.

settings, results, errors      what a user gives and gets
local_lambda                   the environment as an async context manager, over the state in sandbox
fleet, invoke_endpoint         several of them, as Lambda scales; what `aws lambda invoke` talks to
pytest_plugin, cli             how it is used: from tests, and as a command
phases                         init, invocation, managed, restore, shutdown
apis                           what processes talk to: the Runtime, Extensions and Telemetry APIs
rules                          what these APIs and the platform's logs hold to: pure
telemetry                      the platform's telemetry and its sender
machine                        processes and pipes, layers, limits and the freezer, what cleans up if this is killed
conformance                    judges an extension: checks, the scenarios they need, what was observed in them
transcript, watch              what crossed the APIs; waiting
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
    # aiohttp takes a fifth of a second to import; those who only name a Function need not wait for it.
    if name == "LocalLambda":
        from local_lambda.local_lambda import LocalLambda

        return LocalLambda
    if name == "Fleet":
        from local_lambda.fleet import Fleet

        return Fleet
    raise AttributeError(name)
