"""Which of the variables that may hold a sink's secret is used."""

from telemetry_forwarder.variables.reading import Values
from telemetry_forwarder.variables.table import Problem
from telemetry_forwarder.variables.types import Secret, SecretReference

SUFFIXES = ("", "_SECRET_ARN", "_SSM_PARAMETER")  # the first that is given wins


def choose(name: str, values: Values, problems: list[Problem]) -> Secret | SecretReference | None:
    """Return the secret `name`, else the reference to it; None where neither is given, or none is sound.

    Of several the plain value wins, then Secrets Manager, then SSM. Each that is given beside the one that is used is
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
