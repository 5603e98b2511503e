"""Notices about variables that look like settings, but are none. Loaded only if there may be one."""

from collections.abc import Callable, Mapping

from telemetry_forwarder.variables.advice import OWN, other_meant, own_meant
from telemetry_forwarder.variables.reading import BY_NAME, FOR, NEEDS, SELECTING, Values, ending_of, wanted_sinks
from telemetry_forwarder.variables.table import Variable
from telemetry_forwarder.variables.wording import Notice


def notices(values: Values, names: list[str], every: Callable[[], Mapping[str, Variable]]) -> list[Notice]:
    """Return a notice for each of `names` that is no setting. `every` returns the variables of all sinks there are.

    With our own prefix that is every unknown name. Vendors' own tools use the other prefixes, too. So such a name gets
    a notice only if it certainly means one setting that is not set itself, and whose sink is wanted (or no sink is).
    """
    endings = tuple({ending_of(sink) for sink in wanted_sinks(values)})
    unknown = [name for name in sorted(names) if not _is_of_a_sink(name, endings, values)]
    known = {**BY_NAME, **every()} if unknown else {}
    return [found for name in unknown if (found := _notice(name, values, known)) is not None]


def _is_of_a_sink(name: str, endings: tuple[str, ...], values: Values) -> bool:
    """Return whether a name is that of a setting for one of the wanted sinks."""
    base = name.rpartition(FOR)[0]
    return name.endswith(endings) and (base + FOR in SELECTING or values.is_known(base))


def _notice(name: str, values: Values, known: Mapping[str, Variable]) -> Notice | None:
    base, _, sink = name.rpartition(FOR)
    if base in known or base + FOR in SELECTING:
        text = f"is for a sink that TELEMETRY_FORWARDER_SINKS does not name, as `splunk:{sink.lower()}`: "
        return Notice(name, f"{text}it has no effect.", is_wrong=True)
    if name in known:
        what = f"is a setting of the sink `{known[name].sink}`"
        return Notice(name, f"{what}, which TELEMETRY_FORWARDER_SINKS does not name: it has no effect.")
    if name.upper().startswith((OWN, "TELEMETRYFORWARDER")):
        meant = own_meant(name, known)
        hint = f"The nearest is {meant}." if meant else "docs/settings.md has them all."
        return Notice(name, f"is set, but is the name of no setting: it has no effect. {hint}", is_wrong=True)
    if (other := other_meant(name, BY_NAME)) is not None and _is_missed(other, values):
        return Notice(name, f"is set, but is the name of no setting: it has no effect. Set {other} instead.")
    return None


def _is_missed(name: str, values: Values) -> bool:
    """Return whether `name` belongs to a wanted sink, and neither it nor a variable that replaces it is set."""
    sink, wanted = BY_NAME[name].sink, wanted_sinks(values)
    instead = next((row for rows in NEEDS.values() for row in rows if name in row), (name,))
    return (sink in wanted or not wanted) and not any(values.given(one) for one in instead)
