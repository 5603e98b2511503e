"""Compiles the sources in a layer to byte code, and prints what they import. The layer's interpreter runs it:

    python3.X -I -S bytecode.py TREE PREFIX [carried|others|sink]

Each `os.py` is replaced by `os.pyc`, which Python imports just as well. PREFIX is the place of TREE on Lambda; it is
shown in tracebacks. Docstrings are removed, as with -OO; assertions are kept. A dataclass keeps its docstring: without
one the decorator would generate one at each start, and import `inspect` for it. The annotations of functions are
removed, which nothing reads at run time; those of classes stay, because they make fields, and those of functions with a
decorator, because `functools.singledispatch` reads them. Classes that `attrs` would make are written out
(layer/plain_classes.py). With `-X no_debug_ranges` in that command the code has the lines for tracebacks but not the
columns, which are shown under a source line only. With `carried`, for a layer that has its interpreter, regular
expressions are compiled here (layer/patterns.py); from CPython 3.15 on, stars are spelled out (layer/stars.py). With
`others`, for packages that nobody here has tested so, they are compiled and nothing in them is changed; so with `sink`,
for one whose imports all count.
The modules that each module must have are printed as JSON:
{"path of the module": ["module.it.imports", …]}.
"""

import ast
import importlib.util
import json
import marshal
import os
import sys
from collections.abc import Iterator
from importlib import import_module

OWN = "telemetry_forwarder"  # the package whose imports all count, not only those at module level


def main(tree: str, prefix: str, mode: str = "") -> None:
    sys.path.append(os.path.dirname(os.path.abspath(__file__)))  # which -I leaves out
    changed = _as_it_is if mode in ("others", "sink") else _changed
    imports = {}
    for directory, names, files in os.walk(tree):
        names.sort()
        for name in sorted(files):
            if name.endswith(".py"):
                path = os.path.join(directory, name)
                with open(path, "rb") as file:
                    parsed = ast.parse(file.read(), path)
                imports[path[len(tree) + 1 :]] = sorted(
                    set(imports_of(parsed, whole=mode == "sink" or f"/{OWN}/" in path))
                )
                write(changed(parsed, path, mode), path, prefix + path[len(tree) :])
    print(json.dumps(imports))


def _as_it_is(parsed: ast.Module, path: str, mode: str) -> ast.Module:
    return parsed


def _changed(parsed: ast.Module, path: str, mode: str) -> ast.Module:
    """Return the module in the file `path` as it is compiled for the layer."""
    if path.endswith("/__init__.py") and sys.version_info >= (3, 15):
        parsed = import_module("stars").spell_out(parsed, os.path.dirname(path))
    parsed = import_module("plain_classes").write_out(parsed)
    if mode == "carried":
        parsed = import_module("patterns").precompile(parsed)
    return _lean(parsed)


def write(parsed: ast.Module, path: str, shown: str) -> None:
    """Write the byte code of `parsed` in place of the source at `path`."""
    code = compile(parsed, shown, "exec", dont_inherit=True, optimize=0)
    # Flags, time and size of the source: Python ignores them without a source. Zeros keep nothing of this machine.
    with open(path + "c", "wb") as file:
        file.write(importlib.util.MAGIC_NUMBER + bytes(12) + marshal.dumps(code))
    os.remove(path)


def _lean(parsed: ast.Module) -> ast.Module:
    """Return `parsed` without what no run needs: docstrings and the annotations of functions."""
    for node in ast.walk(parsed):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and not node.decorator_list:
            _drop_annotations(node)
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            _drop_docstring(node)
    return parsed


def _drop_annotations(node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
    words = node.args
    node.returns = None
    for one in (*words.posonlyargs, *words.args, words.vararg, *words.kwonlyargs, words.kwarg):
        if one is not None:
            one.annotation = None


def _drop_docstring(node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> None:
    if isinstance(node, ast.ClassDef) and any("dataclass" in ast.dump(one) for one in node.decorator_list):
        return
    first = node.body[0] if node.body else None
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
        node.body[:1] = [] if len(node.body) > 1 else [ast.copy_location(ast.Pass(), first)]


def imports_of(node: ast.AST, whole: bool = False) -> Iterator[str]:
    """Yield the modules that `node` imports unconditionally; with `whole`, also those that its functions import.

    Imports under `if` (a platform, TYPE_CHECKING) or in a `try` are skipped: such modules may be missing.
    """
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        elif isinstance(child, ast.ImportFrom) and not child.level and child.module not in (None, "__future__"):
            yield str(child.module)
        elif isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            if whole:
                yield from imports_of(child, whole)
        elif not isinstance(child, (ast.If, ast.Try, ast.expr)):
            yield from imports_of(child, whole)


if __name__ == "__main__":
    main(*sys.argv[1:])
