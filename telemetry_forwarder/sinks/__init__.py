"""Find a sink by its name: a built-in sink, or one that another package publishes as an entry point.

Names map to import strings, so a sink that is not configured is never imported.
"""

import importlib
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias, cast

from telemetry_forwarder.errors import ConfigError
from telemetry_forwarder.interfaces import Destination, Limits, taken_by
from telemetry_forwarder.records.record import Signal
from telemetry_forwarder.variables.reading import Values
from telemetry_forwarder.variables.table import Problem

# A sink makes one destination, or one for each signal that goes another way.
Destinations: TypeAlias = Destination[Any, Any] | tuple[Destination[Any, Any], ...]
Create: TypeAlias = Callable[[Values], Destinations]

BUILT_IN: Mapping[str, str] = {
    "splunk": "telemetry_forwarder.sinks.splunk_hec:create",
    "datadog": "telemetry_forwarder.sinks.datadog:create",
    "cloudwatch": "telemetry_forwarder.sinks.cloudwatch_logs:create",
    "otlp": "telemetry_forwarder.sinks.otlp:create",
}

GROUP = "telemetry_forwarder.sinks"  # the entry point group for sinks of other packages


def load(name: str) -> Create:
    """Return the function that makes the sink `name` from the environment variables.

    If the name is not built in, search the entry points of `GROUP`, ignoring case. Raises ConfigError, naming
    TELEMETRY_FORWARDER_SINKS, if there is no such sink or its module cannot be imported. The returned function raises
    ConfigError if a third-party sink fails with any exception or returns something other than a valid Destination.
    """
    if name in BUILT_IN:
        module, _, function = BUILT_IN[name].partition(":")
        create: Create = getattr(importlib.import_module(module), function)
        return create
    return _guarded(name, _installed(name))


def _installed(name: str) -> Any:
    # Imported here because reading the metadata of every installed package is slow.
    from importlib.metadata import entry_points

    found = [entry for entry in entry_points(group=GROUP) if entry.name.lower() == name.lower()]
    if not found:
        from telemetry_forwarder.variables.advice import sink_meant  # loaded only to explain an error

        allowed = ", ".join(f"`{word}`" for word in BUILT_IN) + f", or the name of an installed entry point of {GROUP}"
        raise ConfigError([_problem(name, allowed, sink_meant(name, BUILT_IN))])
    try:
        return found[0].load()
    except Exception as error:  # importing third-party code may raise anything
        raise ConfigError([_broken(name, f"{found[0].value} was not imported", error)]) from error


def _guarded(name: str, create: Any) -> Create:
    def guarded(values: Values) -> Destinations:
        try:
            made = create(values.environ)  # the plain environment: our table does not know its variables
            fault = next(filter(None, map(_fault_of, made if isinstance(made, tuple) else (made,))), None)
        except ConfigError:
            raise
        except Exception as error:  # calling third-party code may raise anything, too
            raise ConfigError([_broken(name, "its create(environ) failed", error)]) from error
        if fault:
            raise ConfigError([_broken(name, f"its create(environ) returned {fault}")])
        return cast("Destinations", made)

    return guarded


def _fault_of(destination: object) -> str | None:
    """Return what is wrong with the result of a third party's `create`, in a few words; None if it is valid.

    Reads every attribute that the pipeline reads later. If one of them raises, it raises here, and only this sink is
    left out.
    """
    if not isinstance(destination, Destination):
        return type(destination).__name__
    if not isinstance(destination.sink.name, str):
        return "a sink whose name is no text"
    if not isinstance(destination.sink.limits, Limits):
        return "a sink whose limits are no Limits"
    if not (isinstance(takes := taken_by(destination.sink), frozenset) and takes <= frozenset(Signal)):
        return "a sink that takes what are no Signals"
    if not all(isinstance(problem, Problem) for problem in destination.problems):
        return "problems that are no Problem"
    return None


def _broken(name: str, what: str, error: Exception | None = None) -> Problem:
    if isinstance(error, ImportError | AttributeError):
        what += f" ({type(error).__name__}: {error})"
    elif error is not None:  # not its text: that may quote secrets from the environment
        what += f" ({type(error).__name__})"
    return _problem(name, f"a sink that can be made, but {what}")


def _problem(name: str, allowed: str, advice: str = "") -> Problem:
    consequence = f"Sink {name[:120]} does not run."
    return Problem("TELEMETRY_FORWARDER_SINKS", repr(name[:120]), allowed, consequence, advice)
