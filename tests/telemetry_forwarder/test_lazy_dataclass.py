"""Value classes are what `dataclasses` would make of them, only later."""

import copy
import dataclasses
import pickle
from typing import ClassVar

import pytest

from telemetry_forwarder.lazy_dataclass import dataclass, field, replace


@dataclass(frozen=True, slots=True, order=True)
class Point:
    """Frozen, with slots, ordered, by position."""

    kind: ClassVar[str] = "point"

    x: int
    y: int = 2

    def moved(self) -> "Point":
        return replace(self, x=self.x + 1)


@dataclass(slots=True, kw_only=True)
class Open:
    """To be changed, by name, with a default that is made anew, and one that is not shown."""

    names: list[str] = field(default_factory=list)
    secret: str = field(default="s", repr=False)


@dataclasses.dataclass(frozen=True, slots=True, order=True)
class Standard:
    """The same as `Point`, as the standard library makes it."""

    x: int
    y: int = 2


def test_instances_are_equal_ordered_hashed_and_shown_by_their_members() -> None:
    assert Point(1) == Point(x=1, y=2) != Point(2)
    assert Point(1) != (1, 2)
    assert sorted([Point(2), Point(1, 3), Point(1)]) == [Point(1), Point(1, 3), Point(2)]
    assert Point(1) <= Point(1) < Point(2) > Point(1) >= Point(1)
    assert {Point(1), Point(1)} == {Point(1)}
    assert repr(Point(1)) == repr(Standard(1)).replace("Standard", "Point")
    assert repr(Open()) == "Open(names=[])"


def test_frozen_is_frozen_and_slots_are_closed() -> None:
    point = Point(1)
    with pytest.raises(dataclasses.FrozenInstanceError):
        point.x = 3  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError):
        del point.x
    with pytest.raises(AttributeError):
        Open().other = 1  # type: ignore[attr-defined]
    assert not hasattr(point, "__dict__")


def test_without_eq_each_is_equal_to_itself_alone() -> None:
    @dataclass(slots=True, eq=False)
    class Thing:
        x: int

    one = Thing(1)
    assert one == one != Thing(1)
    assert {one: 1}[one] == 1


def test_what_is_not_frozen_changes_and_has_no_hash() -> None:
    one, other = Open(), Open()
    one.names.append("a")
    assert other.names == []
    with pytest.raises(TypeError):
        hash(one)


def test_wrong_arguments_are_refused_every_time() -> None:
    for _ in range(2):
        with pytest.raises(TypeError):
            Point()  # type: ignore[call-arg]
        with pytest.raises(TypeError):
            Open(["a"])  # type: ignore[misc]


def test_patterns_match_by_position() -> None:
    match Point(1, 5):
        case Point(x, y):
            assert (x, y) == (1, 5)
    assert Point.__match_args__ == ("x", "y")
    assert Open.__match_args__ == ()


def test_the_standard_librarys_functions_know_them() -> None:
    assert [one.name for one in dataclasses.fields(Point)] == ["x", "y"]  # type: ignore[arg-type]
    assert dataclasses.asdict(Open(names=["a"])) == {"names": ["a"], "secret": "s"}  # type: ignore[call-overload]
    assert dataclasses.replace(Point(1), y=7) == Point(1, 7)  # type: ignore[type-var]
    assert Point(1).moved() == Point(2)


def test_they_are_copied_and_pickled() -> None:
    assert copy.copy(Point(1)) == copy.deepcopy(Point(1)) == Point(1)
    assert pickle.loads(pickle.dumps(Point(1, 4))) == Point(1, 4)


def test_inherited_members_come_first() -> None:
    @dataclass(frozen=True, slots=True)
    class Further(Point):
        z: int = 3

    assert Further(1, z=5) == Further(x=1, y=2, z=5) != Further(1)
    assert Further(1) != Point(1)
    assert repr(Further(1)).endswith("Further(x=1, y=2, z=3)")
    assert replace(Further(1), x=4) == Further(4)
    assert not hasattr(Further(1), "__dict__")
