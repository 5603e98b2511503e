"""From the environment to values, once, before registration: each variable by its type's rule, and every problem.

What is wrong is found at once and put into words when somebody asks (`Values.problems`): advice takes imports that
registration does not wait for.
"""

from telemetry_forwarder.variables.table import MEMORY_SIZE, VARIABLES, Variable
from telemetry_forwarder.variables.types import SecretArn, SsmParameter
from telemetry_forwarder.variables.wording import Problem as Problem
from telemetry_forwarder.variables.wording import unquoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

# The flush strategies under which an invocation may be held.
HOLDING = ("end", "adaptive")


BY_NAME = {variable.name: variable for variable in VARIABLES}


# What a built-in sink cannot do without: each row needs one sound variable of its names. The first name of a row
# is the one that is missed when none is given; any of them switches the sink on when no list is given.
NEEDS = {
    "splunk": (
        ("SPLUNK_HEC_URL",),
        ("SPLUNK_HEC_TOKEN", "SPLUNK_HEC_TOKEN_SECRET_ARN", "SPLUNK_HEC_TOKEN_SSM_PARAMETER"),
    ),
    "datadog": (("DD_API_KEY", "DD_API_KEY_SECRET_ARN", "DD_API_KEY_SSM_PARAMETER"),),
    "cloudwatch": (("CLOUDWATCH_LOG_GROUP",),),
}


# Whoever sends elsewhere than to Datadog's first site does not have it sent there by a slip.
STOPPING = ("DD_SITE", "DD_LOGS_CONFIG_LOGS_DD_URL")


class Values:
    """What the environment says: `values[name]` for each variable, its default where it is unset, empty or unsound.

    Of a list that is unsound in part it is what is sound of it. `environ` is all that was there, as it was: for sinks
    of third parties, whose variables nobody here knows.
    """

    __slots__ = ("_values", "environ", "faults")

    def __init__(self, environ: "Mapping[str, str]") -> None:
        self.environ = dict(environ)
        self.faults: dict[Variable, Callable[[], Problem]] = {}  # each puts its problem into words
        self._values = {variable.name: self._read(variable) for variable in (*VARIABLES, MEMORY_SIZE)}
        self._bound_buffering()

    def __getitem__(self, name: str) -> "Any":
        return self._values[name]

    def given(self, name: str) -> str:
        """Return what a variable is set to, without white space and quotes around it; "" where it is not set."""
        return unquoted(self.environ.get(name, ""))

    def problems(self, *sinks: "str | None") -> "list[Problem]":
        """List what is wrong with the variables of `sinks` (`Variable.sink`), None for those of no sink."""
        return [describe() for variable, describe in self.faults.items() if variable.sink in sinks]

    def _read(self, variable: Variable) -> "Any":
        name, text = variable.name, self.given(variable.name)
        if not text and name.endswith("_PROXY"):  # of these alone there are two names, as common as each other
            name, text = name.lower(), self.given(name.lower())
        if not text:
            return variable.default
        try:
            return variable.kind.read(text)
        except ValueError as error:
            fault = error  # `error` is gone when the problem is described
            self.faults[variable] = lambda: unsound(variable, text, fault, name)
            return getattr(error, "kept", variable.default)

    def _bound_buffering(self) -> None:
        """Keep the time for which Lambda gathers records below the hold.

        The end of an invocation is seen as late as Lambda buffers it. So where an invocation may be held until then,
        the buffering must be shorter than the hold, or nobody could say that the hold is bounded.
        """
        name, hold = "TELEMETRY_FORWARDER_BUFFERING_TIMEOUT_MS", "TELEMETRY_FORWARDER_FLUSH_TIMEOUT_MS"
        timeout_ms, default = self[name], BY_NAME[name].default
        mode, longest_ms = self["TELEMETRY_FORWARDER_FLUSH"][0], max(default, self[hold])
        if mode in HOLDING and timeout_ms > longest_ms:
            allowed = f"up to {longest_ms} where TELEMETRY_FORWARDER_FLUSH is `{mode}` ({hold})"
            self.faults[BY_NAME[name]] = lambda: Problem(
                name, repr(str(timeout_ms)), allowed, f"Using {default} instead."
            )
            self._values[name] = default


def read_all(environ: "Mapping[str, str]") -> Values:
    """Read every variable, once. Never raises: what is unsound is left out, and a problem."""
    return Values(environ)


def unsound(variable: Variable, text: str, error: "ValueError | None" = None, name: str = "") -> Problem:
    """Return the problem of a variable whose value, `text`, is not allowed, or holds what `error` says is not."""
    from telemetry_forwarder.variables.advice import advice, shown  # only where something is wrong

    kind, name, kept = variable.kind, name or variable.name, getattr(error, "kept", None)
    if kept is None:
        return Problem(name, shown(kind, text), kind.allowed, consequence(variable), advice(name, kind, text))
    wrong: list[str] = list(dict.fromkeys(getattr(error, "wrong", ())))
    listed = ", ".join(shown(kind, one) for one in wrong[:10])
    hints = " ".join(dict.fromkeys(filter(None, (advice(name, kind, one) for one in wrong[:10]))))
    return Problem(
        name, f"partly unsound: {listed}", kind.allowed, "It is left out, the rest of the list is used.", hints
    )


def consequence(variable: Variable) -> str:
    for sink, rows in NEEDS.items():
        if any(variable.name in row for row in rows):
            return f"Sink {sink} does not run without it."
    if variable.name in STOPPING:
        return "Sink datadog does not run, as it would send to another place than was meant."
    if variable.name == "AWS_REGION":
        return "Calls to AWS will fail."
    if variable.name == "TELEMETRY_FORWARDER_SECRETS_ALLOW":
        return "Nothing may be asked for."
    if variable.default in (None, (), False):
        return "It is left out."
    default = ",".join(variable.default) if isinstance(variable.default, tuple) else variable.default
    return f"Using {default} instead."


def missing(sink: str, values: Values) -> "list[Problem]":
    """List what a built-in `sink` cannot do without and has not been given at all (unsound values not repeated)."""
    problems = []
    for row in NEEDS[sink]:
        if not any(values.given(name) for name in row):
            allowed = " or ".join(row)
            if len(row) == 1:
                allowed = BY_NAME[row[0]].kind.allowed
            problems.append(Problem(row[0], "not set", allowed, f"Sink {sink} does not run without it."))
    return problems


def wanted_sinks(values: Values) -> "tuple[str, ...]":
    """Name the sinks that are listed; with no (sound) list, each built-in one of which anything needed is given."""
    listed: tuple[str, ...] = values["TELEMETRY_FORWARDER_SINKS"]
    return listed or tuple(
        sink for sink, rows in NEEDS.items() if any(values.given(name) for row in rows for name in row)
    )


def is_sound(sink: str, values: Values) -> bool:
    """Say whether a built-in `sink` has all that it needs."""
    if sink == "datadog" and stops(values):
        return False
    return all(any(values[name] is not None for name in row) for row in NEEDS[sink])


def stops(values: Values) -> bool:
    """Say whether one of the `STOPPING` variables that is used is unsound."""
    return BY_NAME[STOPPING[1] if values.given(STOPPING[1]) else STOPPING[0]] in values.faults


def needs_secrets(values: Values) -> bool:
    """Say whether a sink that runs has its credential by reference only, to be read with the AWS SDK."""
    wanted = wanted_sinks(values)
    return any(
        isinstance(variable.kind, (SecretArn, SsmParameter)) and values.given(variable.name)
        for variable in VARIABLES
        if variable.sink in wanted
    )
