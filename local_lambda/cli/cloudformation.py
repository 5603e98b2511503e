"""CloudFormation templates: the YAML with its tags, and the values that can be known without a stack.

Source: AWS CloudFormation Template Reference, intrinsic functions and pseudo parameters.
"""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from local_lambda.errors import InvalidTemplate

_SUBSTITUTED = re.compile(r"\$\{(!?)([^}]*)\}")
_NO_VALUE = object()


class _Loader(yaml.SafeLoader):
    """YAML as CloudFormation reads it: a tag is a function, and a date is text."""


def _tagged(loader: _Loader, suffix: str, node: yaml.Node) -> dict[str, Any]:
    if isinstance(node, yaml.ScalarNode):
        value: Any = loader.construct_scalar(node)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        assert isinstance(node, yaml.MappingNode)  # noqa: S101  there is no other kind
        value = loader.construct_mapping(node, deep=True)
    if suffix in ("Ref", "Condition"):
        return {suffix: value}
    if suffix == "GetAtt" and isinstance(value, str):
        value = value.split(".", 1)
    return {f"Fn::{suffix}": value}


_Loader.add_multi_constructor("!", _tagged)
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def load(path: Path) -> dict[str, Any]:
    """Return a template as it is written; its functions are mappings of one member. Raises InvalidTemplate."""
    try:
        found = yaml.load(path.read_text(), _Loader)  # noqa: S506  a SafeLoader
    except OSError as error:
        raise InvalidTemplate(
            f"The template {path} cannot be read: {(error.strerror or str(error)).lower()}."
        ) from None
    except UnicodeDecodeError:
        raise InvalidTemplate(f"The template {path} is not UTF-8.") from None
    except yaml.YAMLError as error:
        where = f" in line {mark.line + 1}" if (mark := getattr(error, "problem_mark", None)) else ""
        what = getattr(error, "problem", None) or "it cannot be parsed"
        raise InvalidTemplate(f"The template {path} is not YAML{where}: {what}.") from None
    if not isinstance(found, dict) or not isinstance(found.get("Resources"), dict):
        raise InvalidTemplate(f"The template {path} has no Resources.")
    return found


class Values:
    """The values of a template's expressions: of parameters those given or their defaults, of resources only a name.

    `guessed` collects what a deployed stack would have said otherwise; its place is taken by a name.
    """

    def __init__(self, template: Mapping[str, Any], pseudo: Mapping[str, str], given: Mapping[str, str]) -> None:
        self.guessed: set[str] = set()
        self._parameters: Mapping[str, Any] = template.get("Parameters") or {}
        self._conditions: Mapping[str, Any] = template.get("Conditions") or {}
        self._mappings: Mapping[str, Any] = template.get("Mappings") or {}
        self._pseudo = pseudo
        self._given = given
        if unknown := set(given) - set(self._parameters):
            raise InvalidTemplate(
                f"The template has no parameter {', '.join(sorted(unknown))}; it has"
                f" {', '.join(sorted(self._parameters)) or 'none'}."
            )
        self._functions: Mapping[str, Callable[[Any], Any]] = {
            "Ref": self._ref,
            "Condition": self._condition,
            "Fn::Sub": self._sub,
            "Fn::If": self._if,
            "Fn::Join": self._join,
            "Fn::Select": self._select,
            "Fn::Split": self._split,
            "Fn::FindInMap": self._find_in_map,
            "Fn::GetAtt": lambda path: self._guess(".".join(map(str, self.of(path)))),
            "Fn::ImportValue": lambda name: self._guess(str(self.of(name))),
            "Fn::Equals": lambda pair: self.of(pair[0]) == self.of(pair[1]),
            "Fn::Not": lambda one: not self.of(one[0]),
            "Fn::And": lambda all_: all(self.of(one) for one in all_),
            "Fn::Or": lambda any_: any(self.of(one) for one in any_),
        }

    def of(self, written: Any) -> Any:
        """Return the value of what is written; members and items that are AWS::NoValue are left out."""
        value = self._evaluated(written)
        return None if value is _NO_VALUE else value

    def _evaluated(self, written: Any) -> Any:
        if isinstance(written, list):
            return [value for item in written if (value := self._evaluated(item)) is not _NO_VALUE]
        if not isinstance(written, dict):
            return written
        if len(written) == 1:
            ((name, argument),) = written.items()
            if name in self._functions:
                try:
                    return self._functions[name](argument)
                except (IndexError, KeyError, TypeError, ValueError):
                    raise InvalidTemplate(f"The template's {name} {argument!r} is malformed.") from None
            if str(name).startswith("Fn::"):
                return self._guess(str(name))
        members = ((name, self._evaluated(member)) for name, member in written.items())
        return {name: value for name, value in members if value is not _NO_VALUE}

    def _guess(self, name: str) -> str:
        self.guessed.add(name)
        return name

    def _ref(self, name: str) -> Any:
        if name == "AWS::NoValue":
            return _NO_VALUE
        if name in self._pseudo:
            return self._pseudo[name]
        if name not in self._parameters:
            return self._guess(name)
        parameter = self._parameters[name] or {}
        if name not in self._given and "Default" not in parameter:
            raise InvalidTemplate(f"The template's parameter {name} has no default: --parameter {name}=VALUE.")
        value = self._given.get(name, parameter.get("Default"))
        kind = str(parameter.get("Type", "String"))
        if kind.startswith("AWS::SSM::") and name not in self._given:
            return self._guess(str(value))
        return str(value).split(",") if kind == "CommaDelimitedList" or kind.startswith("List<") else text_of(value)

    def _condition(self, name: str) -> bool:
        return bool(self.of(self._conditions[name]))

    def _if(self, argument: Any) -> Any:
        name, then, otherwise = argument
        return self._evaluated(then if self._condition(name) else otherwise)

    def _sub(self, argument: Any) -> str:
        text, own = argument if isinstance(argument, list) else (argument, {})

        def value_of(found: re.Match[str]) -> str:
            literal, name = found.groups()
            if literal:
                return f"${{{name}}}"
            name = name.strip()
            if name in own:
                return text_of(self.of(own[name]))
            return self._guess(name) if "." in name else text_of(self._ref(name))

        return _SUBSTITUTED.sub(value_of, text)

    def _join(self, argument: Any) -> str:
        between, items = argument
        return str(between).join(map(text_of, self.of(items)))

    def _select(self, argument: Any) -> Any:
        number, items = argument
        return self.of(items)[int(self.of(number))]

    def _split(self, argument: Any) -> list[str]:
        between, text = argument
        return str(self.of(text)).split(between)

    def _find_in_map(self, argument: Any) -> Any:
        name, first, second = (self.of(part) for part in argument[:3])
        return self._mappings[name][first][second]


def text_of(value: Any) -> str:
    """Return a scalar as CloudFormation turns it into text."""
    return str(value).lower() if isinstance(value, bool) else str(value)
