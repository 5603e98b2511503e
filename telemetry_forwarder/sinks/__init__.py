"""Find a sink by its name: a built-in sink, or one that another package publishes as an entry point.

A sink that is not configured is never imported. A built-in sink is a module with a function `create(values)`. Most have
their variables in the module, too: `TOPIC`, a heading; `VARIABLES`, of a table as in `variables`; and `NEEDS`, of which
`create` then finds one variable of each row valid. The others are read before registration, so they are in that table.
"""

import importlib
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias, cast

from msgspec.structs import replace

from telemetry_forwarder.errors import ConfigError
from telemetry_forwarder.interfaces import Destination, Limits, taken_by
from telemetry_forwarder.records.record import Signal
from telemetry_forwarder.variables.reading import NEEDS, Values, is_address, missing
from telemetry_forwarder.variables.table import BUILT_IN_SINKS, VARIABLES, Problem, Variable

# A sink makes one destination, or one for each signal that goes another way.
Destinations: TypeAlias = Destination[Any, Any] | tuple[Destination[Any, Any], ...]
Create: TypeAlias = Callable[[Values], Destinations]

GROUP = "telemetry_forwarder.sinks"  # the entry point group for sinks of other packages


def load(name: str) -> Create:
    """Return the function that makes the sink `name` from the environment variables.

    `name` is that of a kind, or `kind:name` for a further sink of a kind. If the kind is not built in, search the entry
    points of `GROUP`, ignoring case. Raises ConfigError, naming TELEMETRY_FORWARDER_SINKS, if there is no such sink or
    its module cannot be imported. The returned function raises ConfigError if the sink lacks something that it needs,
    or if a third-party sink fails with any exception or returns something other than a valid Destination.
    """
    kind, colon, _ = name.partition(":")
    if kind not in BUILT_IN_SINKS:
        create, variables = _guarded(kind, _installed(kind)), None
    else:
        create, variables = _built_in(kind)
    if not colon:
        return create
    from telemetry_forwarder.sinks.further import further  # loaded only if wanted

    return further(name, create, variables)


def module_of(kind: str) -> Any:
    """Import the module of a built-in sink."""
    return importlib.import_module(f"{__name__}.{BUILT_IN_SINKS[kind]}")


def every_variable() -> dict[str, Variable]:
    """Return the variables that modules of sinks define, by name. Imports them all, to explain an error or to print."""
    return {variable.name: variable for _, variables in topics() for variable in variables}


def topics() -> list[tuple[str, Sequence[Variable]]]:
    """Return what modules of sinks define: a heading and the variables under it. Imports them all."""
    from telemetry_forwarder.sinks import selection

    modules = [*map(module_of, BUILT_IN_SINKS), selection]
    return [(module.TOPIC, module.VARIABLES) for module in modules if hasattr(module, "VARIABLES")]


def needs() -> dict[str, tuple[tuple[str, ...], ...]]:
    """Return what each built-in sink needs: one variable of each row. Imports them all."""
    return {kind: getattr(module_of(kind), "NEEDS", NEEDS.get(kind, ())) for kind in BUILT_IN_SINKS}


def _built_in(kind: str) -> tuple[Create, Sequence[Variable]]:
    """Return the function that makes a sink, and its variables."""
    module = module_of(kind)
    if not hasattr(module, "VARIABLES"):
        return module.create, [variable for variable in VARIABLES if variable.sink == kind]

    def create(values: Values) -> Destinations:
        values.add(kind, module.VARIABLES, module.NEEDS)
        problems = values.problems(kind)
        if any(all(values[name] is None for name in row) for row in module.NEEDS) or any(
            is_address(variable) and variable in values.faults for variable in module.VARIABLES
        ):
            raise ConfigError(problems + missing(kind, values))
        made = module.create(values)
        first, *rest = made if isinstance(made, tuple) else (made,)
        first = replace(first, problems=(*problems, *first.problems))
        return (first, *rest) if rest else first

    return create, module.VARIABLES


def _installed(name: str) -> Any:
    # Imported here because reading the metadata of every installed package is slow.
    from importlib.metadata import entry_points

    found = [entry for entry in entry_points(group=GROUP) if entry.name.lower() == name.lower()]
    if not found:
        from telemetry_forwarder.variables.advice import sink_meant  # loaded only to explain an error

        built_in = ", ".join(f"`{word}`" for word in BUILT_IN_SINKS)
        allowed = f"{built_in}, or the name of an installed entry point of {GROUP}"
        raise ConfigError([_problem(name, allowed, sink_meant(name, BUILT_IN_SINKS))])
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
