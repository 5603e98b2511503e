"""A strict local Parameter Store: GetParameter. Source: AWS Systems Manager API Reference."""

import base64
import hashlib
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from local_backends.aws_json import AwsError, AwsJson, Members, Operation
from local_backends.faults import Fault
from local_backends.server import Call

NAME = re.compile(r"[a-zA-Z0-9_./-]+")
_ANY_NAME = re.compile(r".+", re.DOTALL)
Kind = Literal["String", "StringList", "SecureString"]


@dataclass(frozen=True, slots=True)
class _Version:
    kind: Kind
    changed_at: float
    value: str = field(repr=False)


class Ssm(AwsJson):
    """The Parameter Store of one account and region. `parameters` maps names to values, stored as SecureStrings.

    GetParameter accepts a name or an ARN, with `:3` appended for a version. Without `WithDecryption` it returns the
    ciphertext of a SecureString, as AWS does. `put` changes values while it runs.
    """

    target: ClassVar[str] = "AmazonSSM"
    service: ClassVar[str] = "ssm"
    deliveries: ClassVar[frozenset[str]] = frozenset({"GetParameter"})

    def __init__(self, *, parameters: Mapping[str, str] | None = None, **listen: Any) -> None:
        super().__init__(**listen)
        self._parameters: dict[str, list[_Version]] = {}
        for name, value in (parameters or {}).items():
            self.put(name, value)

    def operations(self) -> Mapping[str, Operation]:
        return {"GetParameter": self._get}

    def put(self, name: str, value: str, kind: Kind = "SecureString") -> int:
        """Store `value` as the newest version of `name`; return the number of the version, from 1."""
        if not NAME.fullmatch(name):
            raise ValueError(f"{name!r} is no name of a parameter")
        versions = self._parameters.setdefault(name, [])
        versions.append(_Version(kind, time.time(), value))
        return len(versions)

    def delete(self, name: str) -> None:
        """Remove `name` with all its versions. Raises KeyError if it does not exist."""
        del self._parameters[name]

    def _get(self, given: Members, _call: Call, _fault: Fault | None) -> Members:
        wanted = self.text(given, "Name", _ANY_NAME, 2048)
        with_decryption = given.get("WithDecryption", False)
        if not isinstance(with_decryption, bool):
            raise AwsError("SerializationException", "WithDecryption is not a boolean")
        name, selector = self._name(wanted)
        versions = self._parameters.get(name)
        if versions is None:
            raise AwsError("ParameterNotFound", "")
        number = _number(selector, len(versions))
        version = versions[number - 1]
        is_hidden = version.kind == "SecureString" and not with_decryption
        parameter: Members = {
            "Name": name,
            "Type": version.kind,
            "Value": _ciphertext(version.value) if is_hidden else version.value,
            "Version": number,
            "LastModifiedDate": round(version.changed_at, 3),
            "ARN": self.arn(f"parameter/{name.removeprefix('/')}"),
            "DataType": "text",
        }
        return {"Parameter": {**parameter, "Selector": f":{selector}"} if selector else parameter}

    def _name(self, wanted: str) -> tuple[str, str]:
        """Split `wanted` into the name and the selector ("" without one)."""
        if wanted.startswith("arn:"):
            resource = self.resource(wanted)
            if resource is None or not resource.startswith("parameter/"):
                raise AwsError("ParameterNotFound", "")
            path, _, selector = resource.removeprefix("parameter").partition(":")
            # The ARN of `name` and of `/name` are the same.
            return (path if path in self._parameters else path.removeprefix("/")), selector
        name, _, selector = wanted.partition(":")
        if not NAME.fullmatch(name) or (name.count("/") and not name.startswith("/")):
            self.invalid('Parameter name: can\'t be prefixed with "ssm" and holds letters, digits and .-_/ only.')
        return name, selector


def _number(selector: str, newest: int) -> int:
    if not selector:
        return newest
    if not selector.isdecimal() or not 1 <= int(selector) <= newest:
        raise AwsError("ParameterVersionNotFound", "Systems Manager could not find the version or label.")
    return int(selector)


def _ciphertext(value: str) -> str:
    """Return a stand-in for the encrypted value: base64, equal for equal values, and not the value itself."""
    return base64.b64encode(b"\x01\x02\x02\x00x" + hashlib.sha256(value.encode()).digest()).decode()
