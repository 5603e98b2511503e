"""`telemetry-forwarder settings`: the table of every environment variable, made from the code that reads them."""

import argparse
from collections.abc import Sequence

from telemetry_forwarder.variables import BUILT_IN_SINKS, NEEDS, VARIABLES, Variable


def settings(arguments: Sequence[str]) -> None:
    """Print the table of settings as Markdown."""
    parser = argparse.ArgumentParser(prog="telemetry-forwarder settings", description=settings.__doc__)
    parser.parse_args(arguments)
    print(markdown(), end="")


def markdown() -> str:
    """Return the settings as one Markdown table, and below it what each sink needs."""
    head = "| variable | of | type | default | allowed | meaning |\n| --- | --- | --- | --- | --- | --- |\n"
    needs = "\n".join(f"- `{sink}` needs {_needs(sink)}." for sink in BUILT_IN_SINKS)
    return head + "\n".join(_row(variable) for variable in VARIABLES) + "\n\n" + needs + "\n"


def _row(variable: Variable) -> str:
    kind = variable.kind
    cells = (
        f"`{variable.name}`",
        variable.sink or "all",
        kind.label,
        _default(variable),
        kind.allowed,
        variable.meaning,
    )
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _needs(sink: str) -> str:
    return ", and ".join(" or ".join(f"`{name}`" for name in row) for row in NEEDS[sink])


def _default(variable: Variable) -> str:
    if variable.default in (None, ()):
        return "none"
    if isinstance(variable.default, bool):
        return f"`{str(variable.default).lower()}`"
    if isinstance(variable.default, tuple):
        return f"`{','.join(variable.default)}`"
    return f"`{variable.default}`"
