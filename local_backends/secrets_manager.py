"""A strict local Secrets Manager: GetSecretValue. Source: AWS Secrets Manager API Reference."""

import base64
import hashlib
import re
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from local_backends.aws_json import AwsError, AwsJson, Members, Operation
from local_backends.faults import Fault
from local_backends.server import Call

NAME = re.compile(r"[a-zA-Z0-9/_+=.@-]{1,512}")
ANY_TEXT = re.compile(r".+", re.DOTALL)
CURRENT, PREVIOUS = "AWSCURRENT", "AWSPREVIOUS"


@dataclass(frozen=True, slots=True)
class _Version:
    id: str
    created_at: float
    value: str | bytes = field(repr=False)


@dataclass(slots=True)
class _Secret:
    arn: str
    versions: list[_Version] = field(default_factory=list, repr=False)
    is_deleted: bool = False

    def stages(self, version: _Version) -> list[str]:
        """Return the stages of `version`: the newest is current, the one before it previous; older ones have none."""
        place = len(self.versions) - self.versions.index(version)
        return [CURRENT] if place == 1 else [PREVIOUS] if place == 2 else []


class SecretsManager(AwsJson):
    """The secrets of one account and region. `secrets` maps names to a string (SecretString) or bytes (SecretBinary).

    A secret is found by name, by its ARN (`secret_arn`), or by its ARN without the random suffix of six characters.
    `put` rotates a secret: the previous value can still be read as `AWSPREVIOUS`.
    """

    target: ClassVar[str] = "secretsmanager"
    service: ClassVar[str] = "secretsmanager"
    validation_error: ClassVar[str] = "InvalidParameterException"
    deliveries: ClassVar[frozenset[str]] = frozenset({"GetSecretValue"})

    def __init__(self, *, secrets: Mapping[str, str | bytes] | None = None, **listen: Any) -> None:
        super().__init__(**listen)
        self._secrets: dict[str, _Secret] = {}
        for name, value in (secrets or {}).items():
            self.put(name, value)

    def operations(self) -> Mapping[str, Operation]:
        return {"GetSecretValue": self._get}

    def put(self, name: str, value: str | bytes) -> str:
        """Store `value` as the current version of `name`, creating the secret if needed; return the secret's ARN."""
        if not NAME.fullmatch(name):
            raise ValueError(f"{name!r} is no name of a secret")
        if name not in self._secrets:
            suffix = hashlib.sha256(name.encode()).hexdigest()[:6]
            self._secrets[name] = _Secret(self.arn(f"secret:{name}-{suffix}"))
        self._secrets[name].versions.append(_Version(str(uuid.uuid4()), time.time(), value))
        return self._secrets[name].arn

    def delete(self, name: str) -> None:
        """Mark `name` for deletion: it can no longer be read. Raises KeyError if it does not exist."""
        self._secrets[name].is_deleted = True

    def secret_arn(self, name: str) -> str:
        """Return the full ARN of `name`. Raises KeyError if it does not exist."""
        return self._secrets[name].arn

    def _get(self, given: Members, _call: Call, _fault: Fault | None) -> Members:
        wanted = self.text(given, "SecretId", ANY_TEXT, 2048)
        name, secret = self._find(wanted)
        if secret.is_deleted:
            raise AwsError(
                "InvalidRequestException",
                "You can't perform this operation on the secret because it was marked for deletion.",
            )
        version = _version(secret, given)
        binary = isinstance(version.value, bytes)
        value = base64.b64encode(version.value).decode() if isinstance(version.value, bytes) else version.value
        return {
            "ARN": secret.arn,
            "Name": name,
            "VersionId": version.id,
            "SecretBinary" if binary else "SecretString": value,
            "VersionStages": secret.stages(version),
            "CreatedDate": round(version.created_at, 3),
        }

    def _find(self, wanted: str) -> tuple[str, _Secret]:
        resource = self.resource(wanted)
        for name, secret in self._secrets.items():
            names = (self.resource(secret.arn), f"secret:{name}")
            if wanted == name or (resource is not None and resource in names):
                return name, secret
        raise AwsError("ResourceNotFoundException", "Secrets Manager can't find the specified secret.")


def _version(secret: _Secret, given: Members) -> _Version:
    """Return the version given by VersionId and VersionStage; without either, the current one."""
    wanted_id, stage = given.get("VersionId"), given.get("VersionStage", None if given.get("VersionId") else CURRENT)
    for version in secret.versions:
        if wanted_id in (None, version.id) and (stage is None or stage in secret.stages(version)):
            return version
    what = f"VersionId: {wanted_id}" if wanted_id else f"staging label: {stage}"
    raise AwsError("ResourceNotFoundException", f"Secrets Manager can't find the specified secret value for {what}")
