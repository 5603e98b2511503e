"""Replaces `re.compile(…)` at module level by what comes out of the compiler; the layer's own Python runs it.

Of loading a run with one HTTP sink, the compiling of regular expressions was 7 %. Only constant expressions are
replaced, and only if what stands in their place makes an equal pattern. `_sre` takes its code from one version of
CPython alone, so this is for a layer that carries its interpreter.
"""

import _sre  # type: ignore[import-not-found]  # has no stub
import ast
import re
import re._compiler as compiler  # type: ignore[import-not-found]  # has no stub
import re._parser as parser  # type: ignore[import-not-found]  # has no stub
from typing import Any

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)


class Unknown(Exception):
    """An expression whose value is not known before the module runs."""


def precompile(module: ast.Module) -> ast.Module:
    """Return `module` with patterns in the place of the calls of `re.compile` that are made when it is imported."""
    imported = {alias.asname or alias.name: alias.name for node in module.body if isinstance(node, ast.Import)
                for alias in node.names}  # fmt: skip
    if imported.get("re") == "re":
        _Replacing(_constants(module)).visit(module)
    return module


class _Replacing(ast.NodeTransformer):
    def __init__(self, known: dict[str, Any]) -> None:
        self._known = known

    def visit(self, node: ast.AST) -> Any:
        return node if isinstance(node, _FUNCTIONS) else super().visit(node)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        name = node.func
        if not (isinstance(name, ast.Attribute) and name.attr == "compile" and _is_re(name.value)):
            return node
        try:
            words = {str(word.arg): _value(word.value, self._known) for word in node.keywords}
            pattern = _compiled(*(_value(one, self._known) for one in node.args), **words)
        except Unknown:
            return node
        return ast.copy_location(pattern, node)


def _compiled(pattern: str | bytes, flags: int = 0) -> ast.Call:
    """Return the expression that makes the pattern, as `re._compiler.compile` would. Raises Unknown."""
    if not isinstance(pattern, (str, bytes)):
        raise Unknown
    parsed = parser.parse(pattern, int(flags))
    groups = parsed.state.groupdict
    names = [None] * parsed.state.groups
    for name, number in groups.items():
        names[number] = name
    given = (
        pattern,
        int(flags) | parsed.state.flags,
        [int(code) for code in compiler._code(parsed, flags)],
        parsed.state.groups - 1,
        groups,
        tuple(names),
    )
    if _sre.compile(*given) != re.compile(pattern, flags):
        raise Unknown
    made = ast.parse(f"__import__('_sre').compile{given!r}", mode="eval").body
    assert isinstance(made, ast.Call)
    for node in ast.walk(made):  # where the call stands, for tracebacks
        ast.copy_location(node, made)
    return made


def _constants(module: ast.Module) -> dict[str, Any]:
    """Return the texts and flags that are given a name at module level, once in all of the module."""
    times: dict[str, int] = {}
    for node in ast.walk(module):
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            times[node.id] = times.get(node.id, 0) + 1
        elif isinstance(node, ast.Global):
            times |= dict.fromkeys(node.names, 2)
    known: dict[str, Any] = {}
    for statement in module.body:
        if isinstance(statement, ast.Assign) and len(statement.targets) == 1:
            target, value = statement.targets[0], statement.value
        elif isinstance(statement, ast.AnnAssign) and statement.value is not None:
            target, value = statement.target, statement.value
        else:
            continue
        if isinstance(target, ast.Name) and times[target.id] == 1:
            try:
                known[target.id] = _value(value, known)
            except Unknown:
                continue
    return known


def _value(node: ast.expr, known: dict[str, Any]) -> Any:
    """Return the value of a constant text or flag. Raises Unknown."""
    if isinstance(node, ast.Constant) and isinstance(node.value, (str, bytes, int)):
        return node.value
    if isinstance(node, ast.Name) and node.id in known:
        return known[node.id]
    if (
        isinstance(node, ast.Attribute)
        and _is_re(node.value)
        and isinstance(getattr(re, node.attr, None), re.RegexFlag)
    ):
        return getattr(re, node.attr)
    if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Add, ast.BitOr)):
        left, right = _value(node.left, known), _value(node.right, known)
        if isinstance(node.op, ast.BitOr) == isinstance(left, int) and isinstance(left, int) == isinstance(right, int):
            return left | right if isinstance(node.op, ast.BitOr) else left + right
    if isinstance(node, ast.JoinedStr):
        return "".join(_value(part, known) for part in node.values)
    if isinstance(node, ast.FormattedValue) and node.conversion == -1 and node.format_spec is None:
        value = _value(node.value, known)
        if isinstance(value, str):
            return value
    raise Unknown


def _is_re(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id == "re"
