"""The `local-lambda` command; `telemetry-forwarder local` and `telemetry-forwarder conform` are the same."""

import click

from local_lambda.cli.conform import conform
from local_lambda.cli.local import local


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Run a Lambda function with its extensions on this machine, and judge an extension."""


main.add_command(local)
main.add_command(conform)
