"""A further sink of a kind, as `splunk:audit`: its variables are those of the kind with `__AUDIT` behind their names.

What is not set for it is taken from the variable without that ending. But a sink with an address of its own takes no
credential and no other address from there: a key never goes to another place than it was given for. A credential of its
own, in whatever form, stands for all forms of the other. What a third party's variables are is not known here, so its
sinks find every variable without its ending.
"""

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from telemetry_forwarder.errors import ConfigError
from telemetry_forwarder.interfaces import Batch, Delivered, Destination, Verdict
from telemetry_forwarder.variables.reading import Values, ending_of, is_address, is_credential, kind_of
from telemetry_forwarder.variables.table import Problem, Variable

if TYPE_CHECKING:
    from telemetry_forwarder.sinks import Create, Destinations


def further(name: str, create: "Create", variables: Sequence[Variable] | None) -> "Create":
    """Return the function that makes the sink `name` by `create`, which makes one of its kind.

    `variables` are those of the kind; None if they are not known.
    """

    def make(values: Values) -> "Destinations":
        own = _own_texts(values.environ, name, variables)
        wording = _Wording(name, own if variables is None else [variable.name for variable in variables])
        mine = Values(_environ(values.environ, own, variables))
        mine.sink = name
        try:
            made = create(mine)
        except ConfigError as error:
            raise ConfigError([wording.problem(problem) for problem in error.problems]) from None
        several = made if isinstance(made, tuple) else (made,)
        return tuple(_renamed(destination, name, wording) for destination in several)

    return make


def _own_texts(environ: Mapping[str, str], name: str, variables: Sequence[Variable] | None) -> dict[str, str]:
    """Return the texts that are set for the sink `name`, by the names of variables without their ending."""
    ending = ending_of(name)
    texts = {key.removesuffix(ending): text for key, text in environ.items() if key.endswith(ending)}
    if variables is None:
        return texts
    known = {variable.name for variable in variables}
    return {key: text for key, text in texts.items() if key in known}


def _environ(
    environ: Mapping[str, str], own: Mapping[str, str], variables: Sequence[Variable] | None
) -> dict[str, str]:
    given = {name for name, text in own.items() if text.strip()}
    addresses = {variable.name for variable in variables or () if is_address(variable)}
    credentials = {variable.name for variable in variables or () if is_credential(variable)}
    if given & addresses:  # an address that leads elsewhere may count for more
        left_out = addresses | credentials
    else:
        replaced = {_without_form(name) for name in given & credentials}
        left_out = {name for name in credentials if _without_form(name) in replaced}
    return {**{name: text for name, text in environ.items() if name not in left_out}, **own}


# What stands behind the name of a credential that is given by reference; the last two are New Relic's.
_FORMS = ("_SECRET_ARN", "_SSM_PARAMETER", "_SSM_PARAMETER_NAME", "_SECRET")


def _without_form(name: str) -> str:
    return next((name.removesuffix(form) for form in _FORMS if name.endswith(form)), name)


class _Wording:
    """Puts the names of the sink and of its variables into texts that name those of its kind."""

    def __init__(self, name: str, variables: Sequence[str] | Mapping[str, str]) -> None:
        self._name, self._ending = name, ending_of(name)
        longest_first = sorted(variables, key=len, reverse=True)
        self._variables = re.compile(rf"\b(?:{'|'.join(map(re.escape, longest_first))})\b") if longest_first else None
        self._sink = re.compile(rf"\b([Ss]ink {re.escape(kind_of(name))})\b(?!:)")

    def text(self, text: str) -> str:
        text = self._sink.sub(rf"\1:{self._name.partition(':')[2]}", text)
        return self._variables.sub(rf"\g<0>{self._ending}", text) if self._variables else text

    def problem(self, problem: Problem) -> Problem:
        """Change `problem`, which nobody else has, and return it."""
        for member, text in vars(problem).items():
            if isinstance(text, str):
                setattr(problem, member, self.text(text))
        return problem


class _FurtherSink:
    """`sink` under another name, with texts that name its own variables."""

    def __init__(self, sink: Any, name: str, wording: _Wording) -> None:
        self._sink = sink
        self._wording = wording
        self.name = name

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sink, name)

    def verdict(self, batch: Batch, response: Any) -> Verdict:
        """Return what the sink says, in this one's words."""
        verdict: Verdict = self._sink.verdict(batch, response)
        if isinstance(verdict, Delivered) or not verdict.detail:
            return verdict
        return replace(verdict, detail=self._wording.text(verdict.detail))


def _renamed(destination: Destination[Any, Any], name: str, wording: _Wording) -> Destination[Any, Any]:
    kind = kind_of(name)
    rest = destination.sink.name.removeprefix(kind) if destination.sink.name.startswith(kind) else ""
    sink: Any = _FurtherSink(destination.sink, name + rest, wording)
    return replace(destination, sink=sink, problems=tuple(map(wording.problem, destination.problems)))
