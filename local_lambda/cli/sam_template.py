"""A function of a SAM template, as far as it can be known without deploying it.

Source: AWS SAM developer guide, AWS::Serverless::Function, AWS::Serverless::LayerVersion and Globals.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from local_lambda.cli.cloudformation import Values, load, text_of
from local_lambda.cli.package import Package
from local_lambda.errors import InvalidTemplate
from local_lambda.machine.executables import HERE
from local_lambda.rules.configuration import partition_of
from local_lambda.rules.http_routes import DEFAULT

_FUNCTIONS = ("AWS::Serverless::Function", "AWS::Lambda::Function")
_LAYERS = ("AWS::Serverless::LayerVersion", "AWS::Lambda::LayerVersion")
_TEMPLATE_OF_BUILD = Path(".aws-sam", "build", "template.yaml")


def read_function(
    path: Path, name: str | None, *, parameters: Mapping[str, str], region: str, account_id: str
) -> Package:
    """Return the function `name` of a template, or its only one. Raises InvalidTemplate."""
    template = load(path)
    name = _chosen(path, template["Resources"], name)
    pseudo = {
        "AWS::AccountId": account_id,
        "AWS::Partition": partition_of(region),
        "AWS::Region": region,
        "AWS::StackId": f"arn:{partition_of(region)}:cloudformation:{region}:{account_id}:stack/local/0",
        "AWS::StackName": "local",
        "AWS::URLSuffix": "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com",
    }
    return _Reader(path, template, name, Values(template, pseudo, parameters)).function()


def _chosen(path: Path, resources: Mapping[str, Any], name: str | None) -> str:
    functions = [one for one, resource in resources.items() if _type_of(resource) in _FUNCTIONS]
    has = f"it has {', '.join(sorted(functions)) or 'none'}"
    if name is not None:
        if name not in functions:
            raise InvalidTemplate(f"The template {path} has no function {name}; {has}.")
        return name
    if len(functions) != 1:
        raise InvalidTemplate(f"The template {path} has {len(functions)} functions: name one with --resource; {has}.")
    return functions[0]


def _type_of(resource: Any) -> str:
    return str(resource.get("Type")) if isinstance(resource, dict) else ""


class _Reader:
    """Reads one function."""

    def __init__(self, path: Path, template: Mapping[str, Any], name: str, values: Values) -> None:
        self._path = path
        self._folder = path.parent
        self._resources: Mapping[str, Any] = template["Resources"]
        self._name = name
        self._values = values
        self._remarks: list[str] = []
        resource = self._resources[name]
        shared = (template.get("Globals") or {}).get("Function") or {}
        own = resource.get("Properties") or {}
        # Globals are for the types of SAM alone.
        self._written = _merged(shared, own) if _type_of(resource) == _FUNCTIONS[0] else own

    def function(self) -> Package:
        if self._of("PackageType") == "Image":
            raise InvalidTemplate(f"{self._name} is a container image; only functions of files can run here.")
        settings = {
            "name": self._of("FunctionName") or self._name,
            "handler": self._of("Handler"),
            "runtime": self._of("Runtime"),
            "memory_mb": self._number("MemorySize", int) or 128,  # Lambda's own defaults, not those of the command
            "ephemeral_mb": self._number("EphemeralStorage.Size", int),
            "timeout_s": self._number("Timeout", float) or 3.0,
            "environment": self._environment(),
            "log_format": self._of("LoggingConfig", "LogFormat"),
            "application_log_level": self._of("LoggingConfig", "ApplicationLogLevel"),
            "system_log_level": self._of("LoggingConfig", "SystemLogLevel"),
        }
        layers = self._layers()
        asked = self._of("Architectures")
        if isinstance(asked, list) and asked and asked[0] != HERE:
            self._remarks.append(f"The function is for {asked[0]}, and runs here as {HERE}.")
        return Package(
            settings={field: value for field, value in settings.items() if value is not None},
            code=self._code(),
            layers=layers,
            routes=self._routes(),
            retries=self._number("EventInvokeConfig.MaximumRetryAttempts", int),
            max_age_s=self._number("EventInvokeConfig.MaximumEventAgeInSeconds", float),
            remarks=self._remarks,
        )

    def _of(self, *names: str) -> Any:
        """Return the value of a property, given by its path; None if it is not there."""
        found = self._written
        for name in names:
            found = found.get(name) if isinstance(found, dict) else None
        return self._values.of(found)

    def _number(self, name: str, kind: type[int] | type[float]) -> Any:
        value = self._of(*name.split("."))
        try:
            return None if value is None else kind(value)
        except (TypeError, ValueError):
            raise InvalidTemplate(f"{name} of {self._name} is {value!r}, which is not a number.") from None

    def _environment(self) -> dict[str, str]:
        written = self._written.get("Environment") or {}
        variables = written.get("Variables") if isinstance(written, dict) else None
        found, guessed = {}, []
        for name, expression in (variables or {}).items():
            self._values.guessed.clear()
            value = self._values.of(expression)
            if self._values.guessed:
                guessed.append(name)
            if value is not None:
                found[str(name)] = text_of(value)
        if guessed:
            self._remarks.append(
                f"{', '.join(guessed)}: the value is known in a deployed stack only, here it is the resource's name in"
                " the template; --env NAME=VALUE gives another."
            )
        return found

    def _code(self) -> Path:
        is_sam = _type_of(self._resources[self._name]) == _FUNCTIONS[0]
        if self._written.get("InlineCode"):
            raise InvalidTemplate(
                f"{self._name} has its code in InlineCode; put it into a file and name its directory."
            )
        uri = self._of("CodeUri" if is_sam else "Code")
        return self._local("CodeUri" if is_sam else "Code", "." if uri is None and is_sam else uri)

    def _local(self, what: str, uri: Any) -> Path:
        """Return the path of a directory or ZIP file that a property names."""
        if not isinstance(uri, str) or "://" in uri:
            raise InvalidTemplate(
                f"{what} of {self._name} is {uri!r}, which is not a path on this machine: --code PATH."
            )
        path = self._folder / uri
        if not path.exists():
            raise InvalidTemplate(f"{what} of {self._name} is {uri}, but {path} does not exist.")
        return path

    def _routes(self) -> list[str]:
        events = self._written.get("Events")
        found = []
        for event in events.values() if isinstance(events, dict) else ():
            if _type_of(event) == "HttpApi":
                properties = self._values.of(event.get("Properties")) or {}
                method, path = str(properties.get("Method", "ANY")).upper(), properties.get("Path", DEFAULT)
                found.append(DEFAULT if path == DEFAULT else f"{method if method != '*' else 'ANY'} {path}")
        return found

    def _layers(self) -> list[Path]:
        found, elsewhere = [], []
        for written in self._layer_list():
            reference = str(written.get("Ref")) if isinstance(written, dict) else ""
            if _type_of(self._resources.get(reference)) in _LAYERS:
                if (path := self._layer(reference)) is not None:
                    found.append(path)
            else:
                elsewhere.append(str(self._values.of(written)))
        if elsewhere:
            self._remarks.append(
                f"Not here: the layer{'s' * (len(elsewhere) > 1)} {', '.join(elsewhere)}; `aws lambda"
                " get-layer-version-by-arn --query Content.Location --arn ARN` says where to download one for --layer."
            )
        return found

    def _layer_list(self) -> Sequence[Any]:
        written = self._written.get("Layers") or []
        if isinstance(written, dict):  # an expression that gives a list
            written = self._values.of(written) or []
        if not isinstance(written, list):
            raise InvalidTemplate(f"Layers of {self._name} is {written!r}, which is not a list.")
        return [one for one in written if one != {"Ref": "AWS::NoValue"}]

    def _layer(self, name: str) -> Path | None:
        """Return where a layer of the template lies; None, with a remark, if it must be built first."""
        resource = self._resources[name]
        built = self._folder / _TEMPLATE_OF_BUILD.parent / name
        if built.is_dir():
            return built
        properties = resource.get("Properties") or {}
        uri = self._values.of(properties.get("ContentUri", properties.get("Content")))
        if (resource.get("Metadata") or {}).get("BuildMethod"):
            self._remarks.append(f"Not here: the layer {name} is built by `sam build` first, or give it with --layer.")
            return None
        if not isinstance(uri, str) or "://" in uri or not (self._folder / uri).exists():
            self._remarks.append(f"Not here: the layer {name}, whose content is {uri!r}; give it with --layer.")
            return None
        return self._folder / uri


def _merged(shared: Any, own: Any) -> Any:
    """Return `own` over `shared` as SAM merges Globals: mappings are merged, lists joined, anything else replaced."""
    if isinstance(shared, list) and isinstance(own, list):
        return [*shared, *own]
    if not (isinstance(shared, dict) and isinstance(own, dict)) or _is_expression(shared) or _is_expression(own):
        return own
    return {**shared, **{name: _merged(shared[name], own[name]) if name in shared else own[name] for name in own}}


def _is_expression(written: Mapping[str, Any]) -> bool:
    return len(written) == 1 and (next(iter(written)) == "Ref" or str(next(iter(written))).startswith("Fn::"))
