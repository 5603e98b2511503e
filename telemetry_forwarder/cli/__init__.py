"""The `telemetry-forwarder` command line; it is not part of the layer. A command's module is imported on use.

The operator's commands (`settings`, `replay`) work with the package's own dependencies. Commands that run a local
Lambda need the extra `local`, which brings click. So this module uses only the standard library.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import NamedTuple

from telemetry_forwarder import __version__


class _Command(NamedTuple):
    """One command: `entry` is the import string of a function or, if it `needs_local`, of a click command."""

    entry: str
    summary: str
    needs_local: bool


_COMMANDS = {
    "conform": _Command("local_lambda.cli.conform:conform", "Judge an extension on a local Lambda.", True),
    "demo": _Command("telemetry_forwarder.cli.demo:demo", "Show the whole road on a local Lambda.", True),
    "local": _Command("local_lambda.cli.local:local", "Run a function with its extensions.", True),
    "replay": _Command("telemetry_forwarder.cli.replay:replay", "Send what is kept in S3 or SQS.", False),
    "settings": _Command("telemetry_forwarder.cli.settings:settings", "Print the settings as Markdown.", False),
}
# The packages that the extra `local` brings, and their modules. A test compares them with pyproject.toml.
LOCAL = {
    "awslambdaric": "awslambdaric",
    "click": "click",
    "junitparser": "junitparser",
    "pyyaml": "yaml",
    "rich": "rich",
    "watchfiles": "watchfiles",
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command named in `arguments` (default: those of the process). Raises SystemExit with its exit code."""
    try:
        _run(sys.argv[1:] if arguments is None else list(arguments))
        sys.stdout.flush()
    except BrokenPipeError:  # the reader, e.g. `head`, has ended; avoid a second error from the flush at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


def _run(arguments: list[str]) -> None:
    # Parse only up to the command's name; the command parses the arguments after it.
    at = next((number for number, word in enumerate(arguments) if not word.startswith("-")), len(arguments))
    name = _parser().parse_args(arguments[: at + 1]).command
    command = _COMMANDS[name]
    lacking = [name for name, module in LOCAL.items() if find_spec(module) is None] if command.needs_local else []
    if lacking:
        sys.stderr.write(
            f"Error: `telemetry-forwarder {name}` needs {', '.join(lacking)}, which the extra `local` brings: "
            "pip install 'telemetry-forwarder[local]'\n"
        )
        sys.exit(2)
    module, attribute = command.entry.split(":")
    entry = getattr(import_module(module), attribute)
    if command.needs_local:
        entry.main(arguments[at + 1 :], prog_name=f"telemetry-forwarder {name}")
    else:
        entry(arguments[at + 1 :])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="telemetry-forwarder",
        description="Forward Lambda telemetry, and try it on your own machine.",
        epilog="\n".join(["commands:", *(f"  {name:<10} {one.summary}" for name, one in _COMMANDS.items())]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"telemetry-forwarder {__version__}")
    parser.add_argument("command", metavar="COMMAND", choices=_COMMANDS, help="one of those below; each has --help")
    return parser
