"""Classes that attrs would make, written out by the builder: they are and do the same, and need no attrs."""

import ast
import copy
import operator
import pickle
import sys
import weakref
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import attr
import pytest

from layer.plain_classes import write_out

CLASSES = '''
import attr

@attr.s(auto_attribs=True, frozen=True, slots=True)
class Tag:
    """A docstring."""
    value: str
    is_weak: bool = False

@attr.s(auto_attribs=True, frozen=True, slots=True)
class Error:
    status: int
    type: "type[BaseException]"
    message: str = ""
    more: object = None
'''
VALUES: dict[str, list[tuple[Any, ...]]] = {
    "Tag": [("a",), ("a", False), ("a", True), ("b",), (1, 2)],
    "Error": [(400, ValueError), (400, ValueError, "m"), (400, ValueError, "m", ()), (401, ValueError, "m", None)],
}
COMPARISONS: list[Callable[[Any, Any], Any]] = [
    operator.eq, operator.ne, operator.lt, operator.le, operator.gt, operator.ge,
]  # fmt: skip


@pytest.fixture
def theirs_and_ours() -> Iterator[tuple[ModuleType, ModuleType]]:
    """Yield two modules of the same classes, made by attrs and written out."""
    made = []
    for name, tree in (("theirs", ast.parse(CLASSES)), ("ours", write_out(ast.parse(CLASSES)))):
        module = sys.modules[name] = ModuleType(name)  # where pickle looks for a class
        exec(compile(tree, name, "exec"), module.__dict__)
        made.append(module)
    yield made[0], made[1]
    for name in ("theirs", "ours"):
        del sys.modules[name]


def outcome(work: Callable[[], object]) -> object:
    """Return what `work` returns or, with its text, raises."""
    try:
        return work()
    except Exception as error:  # noqa: BLE001 - to compare
        return type(error), str(error)


@pytest.mark.parametrize("name", VALUES)
def test_they_show_and_compare_as_those_of_attrs_do(name: str, theirs_and_ours: tuple[ModuleType, ModuleType]) -> None:
    theirs, ours = ([getattr(module, name)(*value) for value in VALUES[name]] for module in theirs_and_ours)
    assert list(map(repr, ours)) == list(map(repr, theirs))
    for number, one in enumerate(ours):
        assert one != theirs[number]
        assert one != VALUES[name][number]
        for other_number, other in enumerate(ours):
            assert (hash(one) == hash(other)) == (one == other)
            for compare in COMPARISONS:
                expected = outcome(lambda: compare(theirs[number], theirs[other_number]))  # noqa: B023
                assert outcome(lambda: compare(one, other)) == expected  # noqa: B023


@pytest.mark.parametrize("name", VALUES)
def test_they_are_made_and_copied_as_those_of_attrs(name: str, theirs_and_ours: tuple[ModuleType, ModuleType]) -> None:
    theirs, ours = (getattr(module, name) for module in theirs_and_ours)
    for member in ("__slots__", "__match_args__", "__annotations__", "__qualname__"):
        assert getattr(ours, member) == getattr(theirs, member), member
    for value in VALUES[name]:
        one = ours(*value)
        words = {member: getattr(one, member) for member in ours.__match_args__}
        assert words == {member: getattr(theirs(*value), member) for member in theirs.__match_args__}
        for again in (ours(**words), copy.copy(one), copy.deepcopy(one), pickle.loads(pickle.dumps(one))):
            assert (again, type(again)) == (one, ours)
        assert weakref.ref(one)() is one
    for wrong in ((), (1,) * 9):
        assert outcome(lambda: ours(*wrong)) == outcome(lambda: theirs(*wrong))  # noqa: B023
    with pytest.raises(TypeError):
        ours(*VALUES[name][0], other=1)


@pytest.mark.parametrize("name", VALUES)
def test_nobody_changes_them(name: str, theirs_and_ours: tuple[ModuleType, ModuleType]) -> None:
    for module in theirs_and_ours:
        one = getattr(module, name)(*VALUES[name][0])
        with pytest.raises(attr.exceptions.FrozenInstanceError):
            setattr(one, one.__match_args__[0], 1)
        with pytest.raises(attr.exceptions.FrozenInstanceError):
            del one.other
        with pytest.raises(attr.exceptions.FrozenInstanceError):
            one.other = 1


def test_they_are_made_without_attrs(monkeypatch: pytest.MonkeyPatch) -> None:
    made = compile(write_out(ast.parse(CLASSES)), "ours", "exec")
    monkeypatch.setitem(sys.modules, "attr", ModuleType("attr"))
    found: dict[str, Any] = {"__name__": "ours"}
    exec(made, found)
    assert found["Tag"]("a").is_weak is False


@pytest.mark.parametrize(
    ("change", "to"),
    [
        ("slots=True", "slots=False"),
        ("slots=True", "slots=True, repr=False"),
        ("import attr", "import attr as attr"),
        ("class Tag:", "class Tag(Exception):"),
        ("is_weak: bool = False", "is_weak: bool = attr.ib(default=False)"),
        ("is_weak: bool = False", "is_weak: list = []"),
        ("is_weak: bool = False", "is_weak = False"),
        ("is_weak: bool = False", "_is_weak: bool = False"),
        ("is_weak: bool = False", "put: bool = False"),
        ("is_weak: bool = False", "def method(self): pass"),
        ("import attr", "import attr\nwho_knows = attr.fields"),
    ],
)
def test_what_may_be_another_class_is_left_to_attrs(change: str, to: str) -> None:
    source = CLASSES.replace(change, to)
    assert source != CLASSES
    assert ast.dump(write_out(ast.parse(source))) == ast.dump(ast.parse(source))


@pytest.mark.parametrize(("module", "classes"), [("helpers", 3), ("web_protocol", 1), ("web_request", 1)])
def test_the_ones_of_aiohttp_are_written_out(module: str, classes: int) -> None:
    """All that a run loads; what decorates them is the only use that these modules make of attrs."""
    spec = find_spec(f"aiohttp.{module}")
    assert spec is not None
    assert spec.origin is not None
    source = Path(spec.origin).read_text()
    before, after = (
        sum(
            ast.unparse(one).startswith("attr.")
            for node in tree.body
            if isinstance(node, ast.ClassDef)
            for one in node.decorator_list
        )
        for tree in (ast.parse(source), write_out(ast.parse(source)))
    )
    assert (before, after) == (classes, 0)
