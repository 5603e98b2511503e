"""Keys of parameters and secrets, the names that users write for them, and the patterns that allow them. Pure."""

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import NamedTuple

from telemetry_forwarder.variables.types import SecretReference

SSM = "ssm"
SECRETS_MANAGER = "secretsmanager"
# The longest name or ARN that GetParameter accepts; names alone are shorter.
# Source: Systems Manager API Reference, GetParameter, Name; Secrets Manager API Reference, SecretId; read 2026-11-23.
LONGEST_NAME = 2048


class Key(NamedTuple):
    """The exact identity of a value in one of the services; it is the key of the cache.

    `version` is a parameter's version number or a secret's version id, `stage` a parameter's label or a secret's
    staging label; empty if not given. `decrypt` matters only for parameters.
    """

    service: str
    name: str
    version: str = ""
    stage: str = ""
    decrypt: bool = True

    @property
    def selected_name(self) -> str:
        """The name in the form of GetParameter: `name`, `name:version` or `name:label`."""
        selector = self.version or self.stage
        return f"{self.name}:{selector}" if selector else self.name

    def __str__(self) -> str:
        return ("Secret " if self.service == SECRETS_MANAGER else "SSM parameter ") + self.selected_name


def key_of(name: str) -> Key:
    """Return the key for `name`: a parameter's name, `secretsmanager:NAME` or an ARN of either service.

    Raises ValueError with a text that says what is allowed.
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
    """Return the key for a secret of the forwarder's own settings. The JSON member is not part of it."""
    return Key(reference.service, reference.name)


def is_allowed(key: Key, patterns: Sequence[str] | None) -> bool:
    """Return whether `key` matches one of `patterns`; None allows everything, an empty list nothing.

    A pattern is written like a name: `/prod/*`, `secretsmanager:api-*`, or an ARN. `*` and `?` match any characters,
    also `/`. A name never matches a pattern for ARNs, and an ARN none for names, except `*`: an ARN may belong to
    another account, where the same name is another secret. Version and label are ignored.
    """
    return patterns is None or any(fnmatchcase(_written(key), pattern) for pattern in patterns)


def _written(key: Key) -> str:
    """Return the name that is matched with patterns. A parameter's name is cut at its colon, so that it never looks
    like a secret's.
    """
    if key.name.startswith("arn:"):
        return key.name if key.service == SECRETS_MANAGER else ":".join(key.name.split(":")[:6])
    return f"{SECRETS_MANAGER}:{key.name}" if key.service == SECRETS_MANAGER else key.name.partition(":")[0]


class Prefetch(NamedTuple):
    """What to fetch in INIT: single keys, and paths below which all parameters are fetched."""

    keys: tuple[Key, ...] = ()
    paths: tuple[str, ...] = ()


def prefetch_of(names: Sequence[str]) -> Prefetch:
    """Return the keys and paths in TELEMETRY_FORWARDER_SECRETS_PREFETCH, which was validated; `/path/*` is a path."""
    keys = tuple(dict.fromkeys(key_of(name) for name in names if not name.endswith("/*")))
    return Prefetch(keys, tuple(dict.fromkeys(name[:-2] or "/" for name in names if name.endswith("/*"))))
