"""`telemetry-forwarder settings`: print all environment variables by topic, from the table that the code reads."""

import argparse
from collections.abc import Iterable, Sequence

from telemetry_forwarder import sinks
from telemetry_forwarder.variables.table import TOPICS, Variable

HEAD = "| variable | type | default | allowed | meaning |\n| --- | --- | --- | --- | --- |\n"


def settings(arguments: Sequence[str]) -> None:
    """Print all settings as Markdown, with one table for each topic."""
    parser = argparse.ArgumentParser(prog="telemetry-forwarder settings", description=settings.__doc__)
    parser.parse_args(arguments)
    print(markdown(), end="")


def markdown() -> str:
    """Return the settings as Markdown: the variables that each sink needs, then a heading and a table per topic."""
    needs = "\n".join(f"- `{sink}` needs {_needs(rows)}." for sink, rows in sinks.needs().items())
    topics = (f"### {topic}\n\n{_table(variables)}" for topic, variables in (*TOPICS.items(), *sinks.topics()))
    return "\n".join((f"{needs}\n", *topics))


def _table(variables: Iterable[Variable]) -> str:
    return HEAD + "".join(f"{_row(variable)}\n" for variable in variables)


def _row(variable: Variable) -> str:
    kind = variable.kind
    cells = (f"`{variable.name}`", kind.label, _default(variable), kind.allowed, variable.meaning)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _needs(rows: Iterable[Iterable[str]]) -> str:
    return ", and ".join(" or ".join(f"`{name}`" for name in row) for row in rows)


def _default(variable: Variable) -> str:
    if variable.default in (None, ()):
        return "none"
    if isinstance(variable.default, bool):
        return f"`{str(variable.default).lower()}`"
    if isinstance(variable.default, tuple):
        return f"`{','.join(variable.default)}`"
    return f"`{variable.default}`"
