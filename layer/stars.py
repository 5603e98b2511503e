"""Spells out the `from .part import *` of packages: a star loads the part at once, and a name can wait for its use.

On CPython 3.15 that keeps `asyncio` from loading what a run does not use: `asyncio.graph` alone brings `inspect`, `ast`
and `dataclasses`, together as much as all the rest of asyncio. What the package offers stays the same.
"""

import ast
import os
from collections.abc import Iterator
from typing import Any, TypeGuard


def spell_out(package: ast.Module, directory: str) -> ast.Module:
    """Return `package`, the `__init__` in `directory`, with names in the place of stars.

    A star stays if the part's `__all__` is not one plain tuple, or the package makes another use of the part.
    """
    offered: dict[str, tuple[str, ...]] = {}
    for star in ast.walk(package):
        if _is_star(star) and (names := _names_in(os.path.join(directory, f"{star.module}.py"))):
            offered[str(star.module)] = names
    for name in _used_otherwise(package):
        offered.pop(name, None)
    return ast.fix_missing_locations(_SpellingOut(offered).visit(package)) if offered else package


def _is_star(node: ast.AST) -> TypeGuard[ast.ImportFrom]:
    return (
        isinstance(node, ast.ImportFrom) and node.level == 1 and bool(node.module) and "." not in str(node.module)
        and node.names[0].name == "*"
    )  # fmt: skip


def _names_in(path: str) -> tuple[str, ...] | None:
    """Return the `__all__` of a module in Python if it is given once, as plain texts."""
    if not os.path.exists(path):  # for another system, or compiled
        return None
    with open(path, "rb") as file:
        module = ast.parse(file.read(), path)
    mentioned = [node for node in ast.walk(module) if isinstance(node, ast.Name) and node.id == "__all__"]
    for statement in module.body:
        if isinstance(statement, ast.Assign) and len(mentioned) == 1 and statement.targets == mentioned:
            try:
                return tuple(map(str, ast.literal_eval(statement.value)))
            except ValueError:
                return None
    return None


def _used_otherwise(package: ast.Module) -> Iterator[str]:
    """Yield the names that the package's own code, functions apart, uses for more than their `__all__`."""
    for node in _outside_functions(package):
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Name) and not (isinstance(node, ast.Attribute) and node.attr == "__all__"):
                yield child.id


def _outside_functions(node: ast.AST) -> Iterator[ast.AST]:
    yield node
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            yield from _outside_functions(child)


class _SpellingOut(ast.NodeTransformer):
    def __init__(self, offered: dict[str, tuple[str, ...]]) -> None:
        self._offered = offered

    def visit_ImportFrom(self, node: ast.ImportFrom) -> Any:
        part = str(node.module)
        if not _is_star(node) or part not in self._offered:
            return node
        names = [ast.alias(name) for name in self._offered[part]]
        # The part itself is an attribute of the package once it was imported.
        itself = ast.ImportFrom(None, [ast.alias(part)], 1)
        return [ast.copy_location(one, node) for one in (ast.ImportFrom(part, names, 1), itself)]

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        if isinstance(node.value, ast.Name) and node.value.id in self._offered and node.attr == "__all__":
            names: list[ast.expr] = [ast.Constant(name) for name in self._offered[node.value.id]]
            return ast.copy_location(ast.Tuple(names, ast.Load()), node)
        return node
