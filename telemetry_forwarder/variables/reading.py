"""From the environment to values: each variable is read by its kind's rule; what is unsound is a problem."""

from telemetry_forwarder.variables.table import VARIABLES, Variable
from telemetry_forwarder.variables.types import (
    SecretArn,
    SsmParameter,
)
from telemetry_forwarder.variables.wording import Problem as Problem
from telemetry_forwarder.variables.wording import unquoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    Environ = Mapping[str, str]


# The flush strategies under which an invocation may be held.
HOLDING = ("end", "adaptive")


BY_NAME = {variable.name: variable for variable in VARIABLES}


# What a built-in sink cannot do without: each row needs one sound variable of its names. The first name of a row
# is the one that is missed when none is given; any of the `MARKS` switches the sink on when no list is given.
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


def given(name: str, environ: "Environ") -> "tuple[str, str]":
    """Return the name by which a variable is set, and its text without white space and quotes around it.

    Only of proxies there are two names, as common as each other: the one in capitals wins.
    """
    text = unquoted(environ.get(name, ""))
    if not text and name.endswith("_PROXY"):
        return name.lower(), unquoted(environ.get(name.lower(), ""))
    return name, text


def read(name: str, environ: "Environ", problems: "list[Problem] | None" = None) -> "Any":
    """Return the value of the variable `name`; its default where it is unset or empty.

    An unsound value gives the default too, a list that is unsound in part what is sound of it; a `Problem` is appended
    to `problems` for both.
    """
    variable = BY_NAME[name]
    name, text = given(name, environ)
    if not text:
        return variable.default
    try:
        return variable.kind.read(text)
    except ValueError as error:
        if problems is not None:
            problems.append(unsound(variable, text, error, name))
        return getattr(error, "kept", variable.default)


def buffering_timeout_ms(environ: "Environ", problems: "list[Problem] | None" = None) -> int:
    """Return how long, in ms, Lambda is to gather records before it sends them.

    The end of an invocation is seen as late as Lambda buffers it. So where an invocation may be held until then, the
    buffering must be shorter than the hold, or nobody could say that the hold is bounded. Here, because `bootstrap`
    subscribes with it.
    """
    name, hold = "TELEMETRY_FORWARDER_BUFFERING_TIMEOUT_MS", "TELEMETRY_FORWARDER_FLUSH_TIMEOUT_MS"
    timeout_ms: int = read(name, environ, problems)
    mode, default = read("TELEMETRY_FORWARDER_FLUSH", environ)[0], BY_NAME[name].default
    longest_ms: int = max(default, read(hold, environ))
    if mode not in HOLDING or timeout_ms <= longest_ms:
        return timeout_ms
    if problems is not None:
        allowed = f"up to {longest_ms} where TELEMETRY_FORWARDER_FLUSH is `{mode}` ({hold})"
        problems.append(Problem(name, repr(str(timeout_ms)), allowed, f"Using {default} instead."))
    return int(default)


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


def missing(sink: str, environ: "Environ") -> "list[Problem]":
    """List what a built-in `sink` cannot do without and has not been given at all (unsound values not repeated)."""
    problems = []
    for row in NEEDS[sink]:
        if not any(given(name, environ)[1] for name in row):
            allowed = " or ".join(row)
            if len(row) == 1:
                allowed = BY_NAME[row[0]].kind.allowed
            problems.append(Problem(row[0], "not set", allowed, f"Sink {sink} does not run without it."))
    return problems


def wanted_sinks(environ: "Environ", problems: "list[Problem] | None" = None) -> "tuple[str, ...]":
    """Name the sinks that are listed; with no (sound) list, each built-in one of which anything needed is given."""
    listed: tuple[str, ...] = read("TELEMETRY_FORWARDER_SINKS", environ, problems)
    if listed:
        return listed
    return tuple(sink for sink, rows in NEEDS.items() if any(given(name, environ)[1] for row in rows for name in row))


def is_sound(sink: str, environ: "Environ") -> bool:
    """Say whether a built-in `sink` has all that it needs."""
    if sink == "datadog" and stops(environ):
        return False
    return all(any(read(name, environ) is not None for name in row) for row in NEEDS[sink])


def stops(environ: "Environ") -> bool:
    """Say whether one of the `STOPPING` variables that is used is unsound."""
    used = STOPPING[1] if given(STOPPING[1], environ)[1] else STOPPING[0]
    if text := given(used, environ)[1]:
        try:
            BY_NAME[used].kind.read(text)
        except ValueError:
            return True
    return False


def needs_secrets(environ: "Environ") -> bool:
    """Say whether a sink that runs has its credential by reference only, to be read with the AWS SDK."""
    return any(
        isinstance(variable.kind, (SecretArn, SsmParameter)) and given(variable.name, environ)[1]
        for variable in VARIABLES
        if variable.sink in wanted_sinks(environ)
    )
