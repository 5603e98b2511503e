"""Choose which variable a sink's secret comes from: the plain value, Secrets Manager or SSM."""

from telemetry_forwarder.variables.reading import Values
from telemetry_forwarder.variables.table import Problem
from telemetry_forwarder.variables.types import Secret, SecretReference

SUFFIXES = ("", "_SECRET_ARN", "_SSM_PARAMETER")  # in order of precedence


def choose(name: str, values: Values, problems: list[Problem]) -> Secret | SecretReference | None:
    """Return the secret in variable `name`, or a reference to it; None if no variable has a valid value.

    If several are set, the plain value wins, then Secrets Manager, then SSM. Each variable that is set but not used is
    appended to `problems`.
    """
    names = [name + suffix for suffix in SUFFIXES]
    sound = [each for each in names if values[each] is not None]
    if not sound:
        return None
    allowed = "one of " + ", ".join(names)
    problems.extend(
        Problem(other, f"set as well as {sound[0]}", allowed, f"{sound[0]} is used.") for other in sound[1:]
    )
    chosen: Secret | SecretReference = values[sound[0]]
    return chosen
