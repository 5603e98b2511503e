"""The routes of the secrets endpoint: from a request's target to a question, from an answer to status and body. Pure.

| route                             | answers                                                      |
| /?name=                           | `{"value": …}`, or `{"error": …}`                            |
| /systemsmanager/parameters/get    | GetParameter's own JSON, or its error with its own status    |
| /secretsmanager/get               | GetSecretValue's own JSON, or its error with its own status  |
| /ping, /stats                     | `"healthy"`; the counts of the cache                         |
"""

from collections.abc import Mapping, Sequence
from enum import Enum
from functools import lru_cache
from typing import NoReturn
from urllib.parse import unquote_to_bytes

from msgspec import Struct

from telemetry_forwarder.secrets.answers import Answer, Outcome, as_json
from telemetry_forwarder.secrets.names import LONGEST_NAME, SECRETS_MANAGER, SSM, Key, is_allowed, key_of


class Refused(Exception):
    """A request that is refused with `status` and `reason`. The reason contains no value, only what was requested."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


class Form(Enum):
    """The form of an answer: `{"value": …}`, or the service's own JSON."""

    VALUE = "value"
    SERVICE = "service"


class Page(Enum):
    """The routes that answer without a secret."""

    PING = "/ping"
    STATS = "/stats"


class Question(Struct, frozen=True):
    """What a request asks for: the key, the form of the answer, and whether it must be fetched anew."""

    key: Key
    form: Form
    is_fresh: bool


# The HTTP status by outcome if the answer is our own; 500 for the others.
_STATUS = {
    Outcome.FOUND: 200,
    Outcome.INVALID: 400,
    Outcome.DENIED: 403,
    Outcome.BAD_CREDENTIALS: 403,
    Outcome.NOT_FOUND: 404,
    Outcome.BUSY: 429,
    Outcome.TIMED_OUT: 504,
}

_PARAMETER = "/systemsmanager/parameters/get"
_SECRET = "/secretsmanager/get"  # noqa: S105 - a path
_PARAMETERS = {
    "/": ("name", "version", "label", "versionId", "versionStage", "withDecryption", "refreshNow"),
    _PARAMETER: ("name", "version", "label", "withDecryption", "refreshNow"),
    _SECRET: ("secretId", "versionId", "versionStage", "refreshNow"),
}
_ROUTES = ", ".join(("/?name=", f"{_PARAMETER}?name=", f"{_SECRET}?secretId=", "/ping", "/stats"))


@lru_cache(maxsize=256)
def question_of(target: str) -> Question | Page:
    """Return what the request target (path and query) asks for. Raises Refused if it is invalid.

    A path may end with a slash, as in some of AWS's examples. `+` stays a plus: names never contain a space, but those
    of secrets may contain a plus.
    """
    path, _, query = target.partition("?")
    path = path if path == "/" else path.removesuffix("/")
    if path in (Page.PING.value, Page.STATS.value):
        return Page(path)
    if path not in _PARAMETERS:
        raise Refused(404, f"There is no such route; there are {_ROUTES}.")
    given = _parameters_in(query, path)
    is_fresh = flag(given, "refreshNow", default=False)
    if path == _SECRET:
        return Question(_secret_key(given), Form.SERVICE, is_fresh)
    if path == _PARAMETER:
        decrypt = flag(given, "withDecryption", default=False)
        return Question(_parameter_key(Key(SSM, _name_in(given, "name")), given, decrypt), Form.SERVICE, is_fresh)
    return Question(_any_key(given), Form.VALUE, is_fresh)


def _parameters_in(query: str, path: str) -> dict[str, str]:
    """Return the decoded parameters of a query. Unknown ones are refused on `/`, and ignored on AWS's own routes."""
    found: dict[str, str] = {}
    for pair in filter(None, query.split("&")):
        name, _, text = (decoded(part) for part in pair.partition("="))
        if name not in _PARAMETERS[path]:
            if path == "/":
                _refuse(f"There is no parameter {name[:60]!r}; allowed: {', '.join(_PARAMETERS[path])}.")
            continue
        if name in found:
            _refuse(f"{name} is given twice.")
        found[name] = text
    return found


def decoded(text: str) -> str:
    try:
        return unquote_to_bytes(text).decode()
    except UnicodeDecodeError:
        raise Refused(400, "The query is not UTF-8.") from None


def _name_in(given: Mapping[str, str], parameter: str) -> str:
    name = given.get(parameter, "")
    if not name:
        _refuse(f"{parameter} is missing.")
    if len(name) > LONGEST_NAME or not name.isprintable() or " " in name:
        _refuse(f"{parameter} has 1 to {LONGEST_NAME} printable characters and no spaces.")
    return name


def _any_key(given: Mapping[str, str]) -> Key:
    try:
        key = key_of(_name_in(given, "name"))
    except ValueError as error:
        raise Refused(400, f"name: {error}.") from None
    if key.service == SECRETS_MANAGER:
        _only_for(given, ("version", "label", "withDecryption"), "a parameter")
        return _secret_key({**given, "secretId": key.name})
    _only_for(given, ("versionId", "versionStage"), "a secret")
    return _parameter_key(key, given, flag(given, "withDecryption", default=True))


def _only_for(given: Mapping[str, str], names: Sequence[str], what: str) -> None:
    for name in names:
        if name in given:
            _refuse(f"{name} is for {what} only.")


def _secret_key(given: Mapping[str, str]) -> Key:
    name = _name_in(given, "secretId")
    return Key(SECRETS_MANAGER, name, version=given.get("versionId", ""), stage=given.get("versionStage", ""))


def _parameter_key(key: Key, given: Mapping[str, str], decrypt: bool) -> Key:
    version, label = given.get("version", ""), given.get("label", "")
    if version and label:
        _refuse("Either version or label can be given.")
    if version and not (version.isascii() and version.isdigit()):
        _refuse("version is a whole number.")
    return key._replace(version=version, stage=label, decrypt=decrypt)


def flag(given: Mapping[str, str], name: str, *, default: bool) -> bool:
    text = given.get(name, "").lower()
    if text not in ("", "true", "false"):
        _refuse(f"{name} is true or false.")
    return default if not text else text == "true"


def _refuse(reason: str) -> NoReturn:
    raise Refused(400, reason)


def check_allowed(question: Question, patterns: Sequence[str] | None) -> None:
    """Raise Refused if TELEMETRY_FORWARDER_SECRETS_ALLOW (`patterns`) does not allow the key."""
    if not is_allowed(question.key, patterns):
        raise Refused(403, f"{question.key} is not in TELEMETRY_FORWARDER_SECRETS_ALLOW.")


def render(answer: Answer, form: Form) -> tuple[int, bytes]:
    """Return status and body: the service's own if it gave some and `form` wants them, else ours."""
    if answer.is_found:
        return (200, answer.value_json()) if form is Form.VALUE else (200, answer.body)
    if form is Form.SERVICE and answer.status and answer.body:
        return answer.status, answer.body
    return _STATUS.get(answer.outcome, 500), error_json(answer.message)


def error_json(reason: str) -> bytes:
    return as_json({"error": reason})
