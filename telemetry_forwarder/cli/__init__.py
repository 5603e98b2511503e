"""The `telemetry-forwarder` command. Not in the layer. A command's module is imported when it is used."""

from importlib import import_module

import click

_COMMANDS = {
    "conform": "telemetry_forwarder.cli.conform:conform",
    "demo": "telemetry_forwarder.cli.demo:demo",
    "settings": "telemetry_forwarder.cli.settings:settings",
    "replay": "telemetry_forwarder.cli.replay:replay",
    "local": "telemetry_forwarder.cli.local:local",
}


class _LazyGroup(click.Group):
    """A group whose commands are named here and loaded by need, so that one of them costs nothing to the others."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module, attribute = _COMMANDS[cmd_name].split(":")
        command: click.Command = getattr(import_module(module), attribute)
        return command


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Forward Lambda telemetry, and try it on your own machine."""
