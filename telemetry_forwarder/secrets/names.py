"""What may be asked for: keys, the names that people write for them, and the patterns that allow them. Pure."""

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import NamedTuple

from telemetry_forwarder.variables.types import SecretReference

SSM = "ssm"
SECRETS_MANAGER = "secretsmanager"
# Names are shorter; this is the longest that a GetParameter with an ARN takes.
# Source: Systems Manager API Reference, GetParameter, Name; Secrets Manager API Reference, SecretId; read 2026-11-23.
LONGEST_NAME = 2048


class Key(NamedTuple):
    """One question to a service, exactly: two keys that differ may have different answers.

    `version` is a parameter's version number or a secret's version id, `stage` a parameter's label or a secret's
    staging label; empty where none was asked for. `decrypt` matters to parameters alone.
    """

    service: str
    name: str
    version: str = ""
    stage: str = ""
    decrypt: bool = True

    @property
    def selected_name(self) -> str:
        """The name as GetParameter takes it: `name`, `name:version` or `name:label`."""
        selector = self.version or self.stage
        return f"{self.name}:{selector}" if selector else self.name

    def __str__(self) -> str:
        return ("Secret " if self.service == SECRETS_MANAGER else "SSM parameter ") + self.selected_name


def key_of(name: str) -> Key:
    """Return the key that `name` stands for: a parameter's name, `secretsmanager:NAME` or an ARN of either service.

    Raises ValueError, with a text that says what is allowed.
    """
    if not name or len(name) > LONGEST_NAME or not name.isprintable() or " " in name:
        raise ValueError(f"a name has 1 to {LONGEST_NAME} printable characters and no spaces")
    if name.startswith("arn:"):
        service = name.split(":")[2] if name.count(":") >= 5 else ""
        if service not in (SSM, SECRETS_MANAGER):
            raise ValueError("an ARN is one of ssm or secretsmanager")
        return Key(service, name)
    prefix, colon, rest = name.partition(":")
    if prefix == SECRETS_MANAGER and colon:
        if not rest:
            raise ValueError("a secret is named secretsmanager:NAME")
        return Key(SECRETS_MANAGER, rest)
    return Key(SSM, name)


def key_of_reference(reference: SecretReference) -> Key:
    """Return the key under which the forwarder's own setting is held; a JSON member is found in its answer."""
    return Key(reference.service, reference.name)


def is_allowed(key: Key, patterns: Sequence[str] | None) -> bool:
    """Say whether `key` matches one of `patterns`; None allows everything, an empty list nothing.

    A pattern is written as the name is: `/prod/*`, `secretsmanager:api-*`, or an ARN. `*` and `?` match any
    characters, `/` among them. A name never matches a pattern for ARNs, nor the other way round, but for `*`: an ARN
    may lead into another account, where the same name is another secret. Version and label are not looked at.
    """
    return patterns is None or any(fnmatchcase(_written(key), pattern) for pattern in patterns)


def _written(key: Key) -> str:
    """Return the name as a pattern sees it. A parameter cannot pose as a secret: what follows its colon is cut off."""
    if key.name.startswith("arn:"):
        return key.name if key.service == SECRETS_MANAGER else ":".join(key.name.split(":")[:6])
    return f"{SECRETS_MANAGER}:{key.name}" if key.service == SECRETS_MANAGER else key.name.partition(":")[0]


class Prefetch(NamedTuple):
    """What is fetched in INIT: single keys, and paths of parameters of which everything below is fetched."""

    keys: tuple[Key, ...] = ()
    paths: tuple[str, ...] = ()


def prefetch_of(names: Sequence[str]) -> Prefetch:
    """Sort what TELEMETRY_FORWARDER_SECRETS_PREFETCH names (sound, see `kinds.SecretNames`); `/path/*` is a path."""
    keys = tuple(dict.fromkeys(key_of(name) for name in names if not name.endswith("/*")))
    return Prefetch(keys, tuple(dict.fromkeys(name[:-2] or "/" for name in names if name.endswith("/*"))))
