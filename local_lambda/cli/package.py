"""Which function `telemetry-forwarder local` runs: what its options say, then the template, then Lambda's defaults."""

import contextlib
import dataclasses
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import click

from local_lambda import Function
from local_lambda.cli.usage import BadUsage, pairs_of
from local_lambda.machine.code import unpacked

_PATH = click.Path(path_type=Path)

_FOUND = Path("-")  # where --template names no file
_TEMPLATES = (".aws-sam/build/template.yaml", "template.yaml", "template.yml", "template.json")

FUNCTION_OPTIONS = (
    click.option(
        "--template",
        type=_PATH,
        is_flag=False,
        flag_value=_FOUND,
        metavar="[FILE]",
        help="A SAM template that describes the function; without FILE that of `sam build`, or template.yaml.",
    ),
    click.option("--resource", metavar="NAME", help="Which function of it.  [default: the only one]"),
    click.option("--parameter", "parameters", multiple=True, metavar="NAME=VALUE", help="One of it; repeatable."),
    click.option("--function", "handler", metavar="HANDLER", help="MODULE.FUNCTION.  [default: app.handler]"),
    click.option("--code", type=_PATH, metavar="DIR|ZIP", help="Its code.  [default: .]"),
    click.option("--runtime", metavar="NAME", help="python3.13, nodejs22.x …  [default: by the files]"),
    click.option("--command", help="A runtime of your own: any program that speaks the Runtime API."),
    click.option("--python", type=_PATH, help="The interpreter of a Python function.  [default: the one of this tool]"),
    click.option("--boto3", is_flag=True, help="Let a Python function find boto3, as on Lambda."),
    click.option("--extension", "extensions", type=_PATH, multiple=True, help="An executable; repeatable."),
    click.option("--layer", "layers", type=_PATH, multiple=True, metavar="DIR|ZIP", help="For /opt; repeatable."),
    click.option("--env", "variables", multiple=True, metavar="NAME=VALUE", help="A customer variable; repeatable."),
    click.option("--memory", type=int, metavar="MB", help="[default: 512]"),
    click.option("--ephemeral", type=int, metavar="MB", help="The size of /tmp.  [default: 512]"),
    click.option("--timeout", type=float, metavar="SECONDS", help="[default: 3]"),
    click.option("--name", help="The function's name.  [default: local-function]"),
    click.option("--version", help="[default: $LATEST]"),
    click.option("--region", help="[default: us-east-1]"),
    click.option("--account", metavar="ID", help="[default: 123456789012]"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """A function with its layers. `settings` are the fields of `Function` but its code.

    Only a template says the rest: the `routes` of an HTTP API, what becomes of asynchronous invocations, and in
    `remarks`, for the user, what is not as it would be when deployed.
    """

    code: Path
    settings: Mapping[str, Any]
    layers: Sequence[Path]
    routes: Sequence[str] = ()
    retries: int | None = None
    max_age_s: float | None = None
    remarks: Sequence[str] = ()

    @classmethod
    def of(cls, function: Function) -> Self:
        """Return the package of a function that is there already, without layers."""
        names = (field.name for field in dataclasses.fields(function) if field.name != "code")
        return cls(code=function.code, settings={name: getattr(function, name) for name in names}, layers=())

    @contextlib.contextmanager
    def function(self) -> Iterator[Function]:
        """Yield the function; its code is unpacked meanwhile if it is a ZIP file. Raises EmulatorError."""
        with unpacked(self.code) as code:
            yield Function(code=code, **self.settings)


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionOptions:
    """The options about the function; None is one that was not given."""

    template: Path | None
    resource: str | None
    parameters: tuple[str, ...]
    handler: str | None
    code: Path | None
    runtime: str | None
    command: str | None
    python: Path | None
    boto3: bool
    extensions: tuple[Path, ...]
    layers: tuple[Path, ...]
    variables: tuple[str, ...]
    memory: int | None
    ephemeral: int | None
    timeout: float | None
    name: str | None
    version: str | None
    region: str | None
    account: str | None

    def package(self) -> Package:
        """Return what to run; a template is read again each time. Raises BadUsage or EmulatorError."""
        given = self._settings()
        variables = pairs_of("--env", self.variables)
        template = self.template_file()
        if template is None:
            if self.resource is not None or self.parameters:
                raise BadUsage("--resource and --parameter are about a template: --template FILE.")
            return Package(code=self.code or Path(), settings={**given, "environment": variables}, layers=self.layers)
        from local_lambda.cli.sam_template import read_function  # YAML is loaded by nobody who has no template

        found = read_function(
            template,
            self.resource,
            parameters=pairs_of("--parameter", self.parameters),
            region=self.region or "us-east-1",
            account_id=self.account or "123456789012",
        )
        environment = {**found.settings["environment"], **variables}
        return dataclasses.replace(
            found,
            code=self.code or found.code,
            settings={**found.settings, **given, "environment": environment},
            layers=self.layers or found.layers,
        )

    def template_file(self) -> Path | None:
        """Return the template, looked for as `sam local` does if none was named. Raises BadUsage."""
        if self.template != _FOUND:
            return self.template
        found = next((path for path in map(Path, _TEMPLATES) if path.is_file()), None)
        if found is None:
            raise BadUsage(f"--template: there is none of {', '.join(_TEMPLATES)} here; name one.")
        return found

    def _settings(self) -> dict[str, Any]:
        """Return the fields of `Function` that options were given for."""
        given = {
            "handler": self.handler,
            "runtime": self.runtime,
            "command": _words(self.command),
            "python": self.python,
            "boto3": self.boto3 or None,
            "memory_mb": self.memory,
            "ephemeral_mb": self.ephemeral,
            "timeout_s": self.timeout,
            "name": self.name,
            "version": self.version,
            "region": self.region,
            "account_id": self.account,
        }
        return {field: value for field, value in given.items() if value is not None}


def _words(command: str | None) -> list[str] | None:
    if command is None:
        return None
    try:
        return shlex.split(command)
    except ValueError as error:
        raise BadUsage(f"--command {command!r} cannot be split into words: {error}.") from None
