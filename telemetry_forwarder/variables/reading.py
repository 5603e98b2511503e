"""Read the environment into values, once, before registration: each variable by the rule of its type.

Invalid values are noted at once, but described only when `Values.problems` is called: the advice needs slow imports
that must not delay registration.
"""

from telemetry_forwarder.variables.signal_types import HeaderList
from telemetry_forwarder.variables.table import MEMORY_SIZE, VARIABLES, Variable
from telemetry_forwarder.variables.types import SecretArn, SecretText, Site, SsmParameter, Url
from telemetry_forwarder.variables.wording import Problem as Problem
from telemetry_forwarder.variables.wording import unquoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any

# The flush strategies that may hold an invocation.
HOLDING = ("end", "adaptive")


# Between the name of a variable and the name of the sink that it is for, in capitals: SPLUNK_HEC_URL__AUDIT.
FOR = "__"
# What one sink takes is said by these, with the name of the sink behind them.
SELECTING = tuple(f"TELEMETRY_FORWARDER_{what}{FOR}" for what in ("TYPES", "LEVEL", "FUNCTIONS"))

BY_NAME = {variable.name: variable for variable in VARIABLES}


# The variables that a built-in sink needs: one valid variable of each row. If a row has none, the problem names its
# first variable. If TELEMETRY_FORWARDER_SINKS is not set, any of these variables enables its sink.
NEEDS = {
    "splunk": (
        ("SPLUNK_HEC_URL",),
        ("SPLUNK_HEC_TOKEN", "SPLUNK_HEC_TOKEN_SECRET_ARN", "SPLUNK_HEC_TOKEN_SSM_PARAMETER"),
    ),
    "datadog": (("DD_API_KEY", "DD_API_KEY_SECRET_ARN", "DD_API_KEY_SSM_PARAMETER"),),
    "cloudwatch": (("CLOUDWATCH_LOG_GROUP",),),
    "otlp": (
        (
            "OTEL_EXPORTER_OTLP_ENDPOINT", "TELEMETRY_FORWARDER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT",
            "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
        ),
    ),
}  # fmt: skip


if TYPE_CHECKING:
    Needs = Mapping[str, tuple[tuple[str, ...], ...]]

# If one of these is invalid, the sink does not run: its default would send the records to a wrong place.
_STOPPING = ("DD_SITE", "DD_LOGS_CONFIG_LOGS_DD_URL")


class Values:
    """The value of each variable: `values[name]`, or its default if it is unset, empty or invalid.

    A partly invalid list keeps its valid items. `environ` is the whole environment, unchanged, for sinks of third
    parties: their variables are not in our table.
    """

    def __init__(self, environ: "Mapping[str, str]") -> None:
        self.environ = dict(environ)
        self.faults: dict[Variable, Callable[[], Problem]] = {}  # invalid variables; the callable describes the problem
        self.needs: dict[str, tuple[tuple[str, ...], ...]] = dict(NEEDS)
        self.sink = ""  # the name of the sink that these are for, if it is not the first of its kind
        self._variables = BY_NAME
        self._values = {variable.name: self._read(variable) for variable in (*VARIABLES, MEMORY_SIZE)}
        self._bound_buffering()

    def __getitem__(self, name: str) -> "Any":
        return self._values[name]

    def add(self, sink: str, variables: "Iterable[Variable]", needs: "tuple[tuple[str, ...], ...]") -> None:
        """Read further variables: those of `sink`, whose module defines them, and what it needs, as in NEEDS."""
        self.needs[sink] = needs
        self._variables = {**self._variables, **{variable.name: variable for variable in variables}}
        self._values.update({variable.name: self._read(variable) for variable in variables})

    def given(self, name: str) -> str:
        """Return the text of a variable, without white space and quotes around it; "" if it is not set."""
        return unquoted(self.environ.get(name, ""))

    def variable(self, name: str) -> Variable:
        return self._variables[name]

    def is_known(self, name: str) -> bool:
        """Return whether `name` is a variable of the table, or of a sink that was asked for."""
        return name in self._variables

    def is_unsound(self, name: str) -> bool:
        """Return whether a variable is set and invalid."""
        return self._variables[name] in self.faults

    def problems(self, *sinks: "str | None") -> "list[Problem]":
        """Return the problems of the variables that belong to `sinks` (see `Variable.sink`; None: to no sink)."""
        return [describe() for variable, describe in self.faults.items() if variable.sink in sinks]

    def _read(self, variable: Variable) -> "Any":
        name, text = variable.name, self.given(variable.name)
        if not text and name.endswith("_PROXY"):  # only these are as common in lower case
            name, text = name.lower(), self.given(name.lower())
        if not text:
            return variable.default
        try:
            return variable.kind.read(text)
        except ValueError as error:
            fault = error  # Python deletes `error` at the end of the block, before the lambda runs
            self.faults[variable] = lambda: unsound(variable, text, fault, name, self.needs)
            return getattr(error, "kept", variable.default)

    def _bound_buffering(self) -> None:
        """Refuse a buffering timeout that is longer than the time for which an invocation may be held.

        Lambda's buffering delays the record that tells of an invocation's end. If an invocation is held until that
        record, a longer buffering would break the limit of the hold.
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
    """Return the values of all variables. Never raises: an invalid value is left out and becomes a problem."""
    return Values(environ)


def unsound(
    variable: Variable, text: str, error: "ValueError | None" = None, name: str = "", needs: "Needs" = NEEDS
) -> Problem:
    """Return the problem of a variable with the invalid value `text`; an Unsound `error` names its invalid items.

    `name` is the name under which it was set, if that is another one; `needs` is what each sink needs.
    """
    from telemetry_forwarder.variables.advice import advice, shown  # loaded only to explain an error

    kind, name, kept = variable.kind, name or variable.name, getattr(error, "kept", None)
    if kept is None:
        return Problem(name, shown(kind, text), kind.allowed, consequence(variable, needs), advice(name, kind, text))
    wrong: list[str] = list(dict.fromkeys(getattr(error, "wrong", ())))
    listed = ", ".join(shown(kind, one) for one in wrong[:10])
    hints = " ".join(dict.fromkeys(filter(None, (advice(name, kind, one) for one in wrong[:10]))))
    return Problem(
        name, f"partly unsound: {listed}", kind.allowed, "It is left out, the rest of the list is used.", hints
    )


def consequence(variable: Variable, needs: "Needs" = NEEDS) -> str:
    for sink, rows in needs.items():
        if any(variable.name in row for row in rows):
            return f"Sink {sink} does not run without it."
    if variable.sink in needs and variable.sink not in NEEDS and is_address(variable):
        return f"Sink {variable.sink} does not run, as it would send to another place than was meant."
    if variable.name in _STOPPING:
        return "Sink datadog does not run, as it would send to another place than was meant."
    if variable.name == "DD_DD_URL":
        return "No metrics are sent to Datadog, as they would go to another place than was meant."
    if variable.name == "OTEL_EXPORTER_OTLP_PROTOCOL":
        return "Sink otlp does not run, as its receiver may not understand it."
    if variable.name == "AWS_REGION":
        return "Calls to AWS will fail."
    if variable.name == "TELEMETRY_FORWARDER_SECRETS_ALLOW":
        return "Nothing may be asked for."
    if variable.default in (None, (), False):
        return "It is left out."
    default = ",".join(variable.default) if isinstance(variable.default, tuple) else variable.default
    return f"Using {default} instead."


def missing(sink: str, values: Values) -> "list[Problem]":
    """Return a problem for each row of NEEDS in which no variable is set; invalid values have a problem already."""
    problems = []
    for row in values.needs[sink]:
        if not any(values.given(name) for name in row):
            allowed = " or ".join(row)
            if len(row) == 1:
                allowed = values.variable(row[0]).kind.allowed
            problems.append(Problem(row[0], "not set", allowed, f"Sink {sink} does not run without it."))
    return problems


def wanted_sinks(values: Values) -> "tuple[str, ...]":
    """Return the names of the listed sinks; without a valid list, all built-in sinks with any needed variable set."""
    listed: tuple[str, ...] = values["TELEMETRY_FORWARDER_SINKS"]
    return listed or tuple(
        sink for sink, rows in NEEDS.items() if any(_chooses(name, values) for row in rows for name in row)
    )


def _chooses(name: str, values: Values) -> bool:
    """Return whether the variable `name`, which a sink needs, is set, so that the sink runs.

    OpenTelemetry's often name a collector beside the function, for its SDK. That is not meant for us unless it is said.
    """
    text = values.given(name)
    if not text or not name.startswith("OTEL_"):
        return bool(text)
    from telemetry_forwarder.variables.otlp import is_local

    return not is_local(text)


def wants_metrics(sink: str, values: Values) -> bool:
    """Return whether `sink` shall get metrics. For Datadog its own variable counts for more."""
    if sink == "datadog" and (switch := values["DD_ENHANCED_METRICS"]) is not None:
        return bool(switch)
    chosen = values["TELEMETRY_FORWARDER_METRICS"]
    return "on" in chosen or (values.sink or sink) in chosen


def metric_line_mode(sink: str, values: Values) -> str:
    """Return what becomes of metric lines in `sink`: what is said of it, else of all, else `keep`."""
    modes: dict[str, str] = dict(values["TELEMETRY_FORWARDER_METRIC_LINES"])
    return modes.get(sink, modes.get("", "keep"))


def kind_of(sink: str) -> str:
    """Return the kind of a sink: `splunk` for both `splunk` and `splunk:audit`."""
    return sink.partition(":")[0]


def ending_of(sink: str) -> str:
    """Return how the names of variables end that are for one sink: `__AUDIT` for `splunk:audit`, else `__SPLUNK`."""
    kind, _, name = sink.partition(":")
    return FOR + (name or kind).upper().replace("-", "_")


def is_address(variable: Variable) -> bool:
    """Return whether a variable says where a sink sends to."""
    return isinstance(variable.kind, (Url, Site))


def is_credential(variable: Variable) -> bool:
    """Return whether a variable holds a credential, or says where one is."""
    return isinstance(variable.kind, (SecretText, SecretArn, SsmParameter, HeaderList))


def is_sound(sink: str, values: Values) -> bool:
    """Return whether a built-in `sink` has valid values for all that it needs, as far as this table tells."""
    if sink not in NEEDS:
        return True
    if sink == "datadog" and stops(values):
        return False
    if sink == "otlp":
        from telemetry_forwarder.variables.otlp import may_run

        return may_run(values)
    return all(any(values[name] is not None for name in row) for row in NEEDS[sink])


def stops(values: Values) -> bool:
    """Return whether the variable of `_STOPPING` that is in use is invalid; the URL, if set, replaces the site."""
    return BY_NAME[_STOPPING[1] if values.given(_STOPPING[1]) else _STOPPING[0]] in values.faults


def needs_secrets(values: Values) -> bool:
    """Return whether a wanted sink has a reference to its credential, which is read from AWS."""
    kinds = set(map(kind_of, wanted_sinks(values)))
    return any(_is_reference(name, kinds) and values.given(name) for name in values.environ)


def _is_reference(name: str, kinds: "set[str]") -> bool:
    """Return whether a variable refers to a credential of a sink of one of `kinds`, or perhaps does.

    Of a sink whose variables are not in the table, only the name tells.
    """
    name = name.partition(FOR)[0]
    if not name.endswith(("_SECRET_ARN", "_SSM_PARAMETER", "_LICENSE_KEY_SECRET", "_SSM_PARAMETER_NAME")):
        return False  # the last two are New Relic's
    return BY_NAME[name].sink in kinds if name in BY_NAME else not kinds <= NEEDS.keys()
