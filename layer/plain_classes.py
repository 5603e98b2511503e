"""Writes out the classes that `attrs` would make: as text, compiled at each start, which takes longer than loading it.

aiohttp has five of them in what a run loads. Written out, neither they nor `attrs` are made at a start, a tenth of all
that loading takes. A class is written out if its decorator is exactly `_DECORATOR` and it has nothing but annotated
members, with constants as defaults; and only in a module that makes no other use of `attr`, so that nobody asks `attrs`
for the members of such a class.
"""

import ast
from typing import TypeGuard

_DECORATOR = ast.dump(ast.parse("attr.s(auto_attribs=True, frozen=True, slots=True)", mode="eval").body)
_IMPORT = ast.dump(ast.parse("import attr").body[0])
_TAKEN = ("self", "put", "object")  # names in `__init__`

# What attrs gives such a class. `names` are its members, `mine` and `its` tuples of their values.
_METHODS = """
class {name}:
    __slots__ = ({names} "__weakref__",)
    __match_args__ = ({names})
    def __init__(self, {parameters}):
        put = object.__setattr__.__get__(self)
        {puts}
    def __repr__(self):
        return f"{{self.__class__.__qualname__.rsplit('>.', 1)[-1]}}({shown})"
    def __eq__(self, other):
        return {mine} == {its} if other.__class__ is self.__class__ else NotImplemented
    def __lt__(self, other):
        return {mine} < {its} if other.__class__ is self.__class__ else NotImplemented
    def __le__(self, other):
        return {mine} <= {its} if other.__class__ is self.__class__ else NotImplemented
    def __gt__(self, other):
        return {mine} > {its} if other.__class__ is self.__class__ else NotImplemented
    def __ge__(self, other):
        return {mine} >= {its} if other.__class__ is self.__class__ else NotImplemented
    def __hash__(self):
        return hash((self.__class__, {mine}))
    def __setattr__(self, name, value):
        raise attr.exceptions.FrozenInstanceError
    def __delattr__(self, name):
        raise attr.exceptions.FrozenInstanceError
    def __getstate__(self):
        return {{name: getattr(self, name) for name in self.__match_args__}}
    def __setstate__(self, state):
        for name in self.__match_args__:
            object.__setattr__(self, name, state[name])
"""


def write_out(module: ast.Module) -> ast.Module:
    """Return `module` with plain classes in the place of those that `attrs` makes."""
    if not _uses_attr_for_classes_alone(module):
        return module
    module.body = [_plain(one) if _is_made(one) else one for one in module.body]
    return module


def _uses_attr_for_classes_alone(module: ast.Module) -> bool:
    uses = sum(isinstance(node, ast.Name) and node.id == "attr" for node in ast.walk(module))
    imports = sum(ast.dump(node) == _IMPORT for node in module.body)
    return imports == 1 and uses == sum(map(_is_made, module.body))


def _is_made(node: ast.stmt) -> TypeGuard[ast.ClassDef]:
    return (
        isinstance(node, ast.ClassDef)
        and [ast.dump(one) for one in node.decorator_list] == [_DECORATOR]
        and not node.bases
        and not node.keywords
        and bool(_members(node))
        and len(_members(node)) == len(node.body) - (ast.get_docstring(node) is not None)
    )


def _members(node: ast.ClassDef) -> list[tuple[str, str | None]]:
    """Return the members of a class and the source of their defaults."""
    return [
        (one.target.id, ast.unparse(one.value) if one.value else None)
        for one in node.body
        if isinstance(one, ast.AnnAssign)
        and isinstance(one.target, ast.Name)
        and not one.target.id.startswith("_")  # attrs' parameters leave the underscore off
        and one.target.id not in _TAKEN
        and (one.value is None or isinstance(one.value, ast.Constant))
    ]


def _plain(node: ast.ClassDef) -> ast.ClassDef:
    members = _members(node)
    names = [name for name, _ in members]
    text = _METHODS.format(
        name=node.name,
        names="".join(f'"{name}", ' for name in names),
        parameters=", ".join(name if default is None else f"{name}={default}" for name, default in members),
        puts="; ".join(f'put("{name}", {name})' for name in names),
        shown=", ".join(f"{name}={{self.{name}!r}}" for name in names),
        mine=f"({''.join(f'self.{name}, ' for name in names)})",
        its=f"({''.join(f'other.{name}, ' for name in names)})",
    )
    made = ast.parse(text).body[0]
    assert isinstance(made, ast.ClassDef)
    for statement in made.body:
        for inner in ast.walk(statement):  # where the class stands, for tracebacks
            ast.copy_location(inner, node)
    node.decorator_list = []
    for member in node.body:
        if isinstance(member, ast.AnnAssign):
            member.value = None  # a class variable of that name would stand in the way of the slot
    node.body += made.body
    return node
