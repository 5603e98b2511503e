"""Sinks by name: the built-in ones, and those that other packages bring as entry points.

Names map to strings, so that a sink that is not configured is never imported.
"""

import importlib
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias, cast

from telemetry_forwarder.errors import ConfigError
from telemetry_forwarder.interfaces import Destination, Limits
from telemetry_forwarder.variables.reading import Values
from telemetry_forwarder.variables.table import Problem

Create: TypeAlias = Callable[[Values], Destination[Any, Any]]

BUILT_IN: Mapping[str, str] = {
    "splunk": "telemetry_forwarder.sinks.splunk_hec:create",
    "datadog": "telemetry_forwarder.sinks.datadog:create",
    "cloudwatch": "telemetry_forwarder.sinks.cloudwatch_logs:create",
}

GROUP = "telemetry_forwarder.sinks"  # of entry points


def load(name: str) -> Create:
    """Return the function that makes the sink `name` from the values of the environment.

    A name that is not built in is looked for among the entry points of `GROUP`, in any case of letters. What such a
    function raises, or returns that is no Destination, becomes a ConfigError; so does a module that cannot be
    imported. Raises ConfigError, naming TELEMETRY_FORWARDER_SINKS, if there is no such sink.
    """
    if name in BUILT_IN:
        module, _, function = BUILT_IN[name].partition(":")
        create: Create = getattr(importlib.import_module(module), function)
        return create
    return _guarded(name, _installed(name))


def _installed(name: str) -> Any:
    # Reading the metadata of every installed package takes long; only those who use it pay for it.
    from importlib.metadata import entry_points

    found = [entry for entry in entry_points(group=GROUP) if entry.name.lower() == name.lower()]
    if not found:
        from telemetry_forwarder.variables.advice import sink_meant  # only where something is wrong

        allowed = ", ".join(f"`{word}`" for word in BUILT_IN) + f", or the name of an installed entry point of {GROUP}"
        raise ConfigError([_problem(name, allowed, sink_meant(name, BUILT_IN))])
    try:
        return found[0].load()
    except Exception as error:  # importing foreign code may raise anything
        raise ConfigError([_broken(name, f"{found[0].value} was not imported", error)]) from error


def _guarded(name: str, create: Any) -> Create:
    def guarded(values: Values) -> Destination[Any, Any]:
        try:
            destination = create(values.environ)  # its own variables are nobody else's
            fault = fault_of(destination)
        except ConfigError:
            raise
        except Exception as error:  # and so may calling it
            raise ConfigError([_broken(name, "its create(environ) failed", error)]) from error
        if fault:
            raise ConfigError([_broken(name, f"its create(environ) returned {fault}")])
        return cast("Destination[Any, Any]", destination)

    return guarded


def fault_of(destination: object) -> str | None:
    """Say what is wrong with what a third party's `create` returned; None where nothing is.

    What everybody reads of it is read here once, so that whatever it raises is raised where its sink alone is left out.
    """
    if not isinstance(destination, Destination):
        return type(destination).__name__
    if not isinstance(destination.sink.name, str):
        return "a sink whose name is no text"
    if not isinstance(destination.sink.limits, Limits):
        return "a sink whose limits are no Limits"
    if not all(isinstance(problem, Problem) for problem in destination.problems):
        return "problems that are no Problem"
    return None


def _broken(name: str, what: str, error: Exception | None = None) -> Problem:
    if isinstance(error, ImportError | AttributeError):
        what += f" ({type(error).__name__}: {error})"
    elif error is not None:  # its text may hold what it read from the environment
        what += f" ({type(error).__name__})"
    return _problem(name, f"a sink that can be made, but {what}")


def _problem(name: str, allowed: str, advice: str = "") -> Problem:
    consequence = f"Sink {name[:120]} does not run."
    return Problem("TELEMETRY_FORWARDER_SINKS", repr(name[:120]), allowed, consequence, advice)
