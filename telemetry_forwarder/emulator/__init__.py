"""A local Lambda: the Runtime, Extensions and Telemetry APIs on one machine. Nothing in the layer imports it.

settings, results, errors           what a user gives and gets
local_lambda                        the environment as an async context manager
fleet, invoke_endpoint              several of them, as Lambda scales; what `aws lambda invoke` talks to
log_lines                           telemetry as the lines of CloudWatch Logs: pure
initialisation, invocation,         its phases, over the state in sandbox
managed, restore, ending
server, extensions_api,             what processes talk to
runtime_api, telemetry_api, trailers
agents, runtime, subscriptions,     rules of the APIs: pure
telemetry_events, logs_schema, log_levels, buffering, framing, environment
telemetry, delivery                 the platform's telemetry and its sender
layers                              what plays /opt
limits, cgroups                     memory limit, CPU quota and freezer, where the system allows them
guard, guard_program                what cleans up if this process is killed
processes, transcript, watch        processes and pipes; what crossed the APIs; waiting
"""

from typing import TYPE_CHECKING

from telemetry_forwarder.emulator.errors import EmulatorError, InitFailed, Throttled
from telemetry_forwarder.emulator.results import Enforced, ExtensionEnd, Invocation, Shutdown
from telemetry_forwarder.emulator.settings import Function, Platform, Retry

if TYPE_CHECKING:
    from telemetry_forwarder.emulator.fleet import Fleet
    from telemetry_forwarder.emulator.local_lambda import LocalLambda

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
        from telemetry_forwarder.emulator.local_lambda import LocalLambda

        return LocalLambda
    if name == "Fleet":
        from telemetry_forwarder.emulator.fleet import Fleet

        return Fleet
    raise AttributeError(name)
