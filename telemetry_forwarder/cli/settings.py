"""`telemetry-forwarder settings`: the table of every environment variable, made from the code that reads them."""

import click

from telemetry_forwarder.variables import BUILT_IN_SINKS, NEEDS, VARIABLES, Variable

TITLES = {
    None: "The extension",
    "splunk": "Splunk (`splunk`)",
    "datadog": "Datadog (`datadog`)",
    "cloudwatch": "CloudWatch Logs (`cloudwatch`)",
}


@click.command()
def settings() -> None:
    """Print the table of settings as Markdown."""
    click.echo(markdown(), nl=False)


def markdown() -> str:
    """Return the settings as one Markdown table for each part."""
    return "\n".join(_part(sink) for sink in (None, *BUILT_IN_SINKS))


def _part(sink: str | None) -> str:
    rows = [
        f"| `{variable.name}` | {variable.kind.label} | {_default(variable)} | {_escaped(variable.kind.allowed)} "
        f"| {_escaped(variable.meaning)} |"
        for variable in VARIABLES
        if variable.sink == sink
    ]
    head = f"**{TITLES[sink]}**\n\n| variable | type | default | allowed | meaning |\n| --- | --- | --- | --- | --- |\n"
    needs = ""
    if sink is not None:
        needs = "\nNeeds " + ", and ".join(" or ".join(f"`{name}`" for name in row) for row in NEEDS[sink]) + ".\n"
    return head + "\n".join(rows) + "\n" + needs


def _default(variable: Variable) -> str:
    if variable.default in (None, ()):
        return "–"
    if isinstance(variable.default, bool):
        return f"`{str(variable.default).lower()}`"
    if isinstance(variable.default, tuple):
        return f"`{','.join(variable.default)}`"
    return f"`{variable.default}`"


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")
