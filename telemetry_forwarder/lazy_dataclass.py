"""A faster `dataclass` decorator, which compiles a class's `__init__` only at its first call.

`dataclasses.dataclass` writes and compiles half a dozen methods when a class is defined. That takes 0.6 ms for each
class: a quarter of the time to load this package, and mostly for classes that a run never makes an instance of. The
decorator here takes the same arguments and makes equal classes (equality, order, hash, `repr`, `match`, slots, frozen,
`dataclasses.replace` and `fields`), but with shared methods.
"""

from collections.abc import Callable, Mapping
from inspect import get_annotations  # costs nothing: asyncio has imported `inspect` already
from operator import attrgetter
from typing import Any, NoReturn, TypeVar, dataclass_transform

Value = TypeVar("Value")
MISSING = object()


class Field:
    """One member of a value class: its default or default factory, and whether `repr` shows it."""

    __slots__ = ("default", "factory", "name", "shown")

    def __init__(self, default: Any = MISSING, factory: Any = MISSING, *, shown: bool = True) -> None:
        self.name = ""
        self.default = default
        self.factory = factory
        self.shown = shown


def field(*, default: Any = MISSING, default_factory: Any = MISSING, repr: bool = True) -> Any:
    """Describe a member with a default made for each instance, or hidden in `repr`, as `dataclasses.field` does."""
    return Field(default, default_factory, shown=repr)


@dataclass_transform(field_specifiers=(field,))
def dataclass(
    cls: type[Value] | None = None,
    /,
    *,
    frozen: bool = False,
    slots: bool = False,
    kw_only: bool = False,
    order: bool = False,
    eq: bool = True,
) -> Any:
    """Make a value class, as `dataclasses.dataclass` does. It inherits the members of its base value classes."""
    if cls is None:
        return lambda cls: dataclass(cls, frozen=frozen, slots=slots, kw_only=kw_only, order=order, eq=eq)
    fields = fields_of(cls)
    made = with_slots(cls, fields) if slots else cls
    members = {
        "__dataclass_fields__": LazyFields(fields),
        "__match_args__": () if kw_only else tuple(fields),
        "__init__": lazy_init(made, fields, frozen=frozen, kw_only=kw_only),
        **shared_methods(made, fields, frozen=frozen, order=order),
    }
    if not eq:  # then instances are compared and hashed by identity
        del members["__eq__"], members["__hash__"]
    for name, member in members.items():
        # Python adds `__hash__ = None` to a class that defines `__eq__`.
        if name not in cls.__dict__ or (name == "__hash__" and cls.__dict__[name] is None):
            setattr(made, name, member)
    return made


def replace(value: Value, /, **changes: Any) -> Value:
    """Return a copy of `value` with the members in `changes` replaced."""
    return type(value)(**asdict(value) | changes)


def asdict(value: object) -> dict[str, Any]:
    """Return the members of `value` by name, in order. Unlike `dataclasses.asdict`, keep nested values as they are."""
    return {name: getattr(value, name) for name in names_of(type(value))}


def names_of(cls: type) -> tuple[str, ...]:
    """Return the names of the members of a value class, in order."""
    lazy: LazyFields = vars(cls)["__dataclass_fields__"]
    return tuple(lazy.own)


def fields_of(cls: type) -> dict[str, Field]:
    """Return the members of `cls`, in order: inherited ones, then its own annotated ones."""
    found: dict[str, Field] = {}
    for base in reversed(cls.__mro__[1:]):
        if isinstance(lazy := vars(base).get("__dataclass_fields__"), LazyFields):
            found |= lazy.own
    for name, kind in get_annotations(cls).items():
        if str(kind).startswith(("ClassVar", "typing.ClassVar")):
            continue
        given = cls.__dict__.get(name, MISSING)
        found[name] = given if isinstance(given, Field) else Field(given)
        found[name].name = name
    return found


def with_slots(cls: type, fields: Mapping[str, Field]) -> type:
    """Return a new class like `cls`, with a slot for each member: an existing class cannot get slots."""
    own = tuple(name for name in fields if name in get_annotations(cls))
    left_out = {"__dict__", "__weakref__", *own}
    members = {name: member for name, member in cls.__dict__.items() if name not in left_out}
    members["__slots__"] = own
    made = type(cls)(cls.__name__, cls.__bases__, members)
    made.__qualname__ = cls.__qualname__
    return made


def lazy_init(cls: type, fields: Mapping[str, Field], *, frozen: bool, kw_only: bool) -> "Callable[..., None]":
    """Return an `__init__` that replaces itself with a compiled one at its first call."""

    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        init = compiled_init(cls, fields, frozen=frozen, kw_only=kw_only)
        cls.__init__ = init  # type: ignore[misc]
        init(self, *args, **kwargs)

    return __init__


def compiled_init(cls: type, fields: Mapping[str, Field], *, frozen: bool, kw_only: bool) -> "Callable[..., None]":
    # The source has one parameter and one assignment for each member; `known` holds the objects that it refers to.
    known: dict[str, Any] = {"MISSING": MISSING, "put": object.__setattr__}
    parameters, lines = [], []
    for name, member in fields.items():
        if member.factory is not MISSING:
            known[f"default_{name}"], known[f"make_{name}"] = MISSING, member.factory
            lines.append(f"if {name} is MISSING: {name} = make_{name}()")
        elif member.default is not MISSING:
            known[f"default_{name}"] = member.default
        parameters.append(f"{name}=default_{name}" if f"default_{name}" in known else name)
        if frozen and "__slots__" in cls.__dict__:
            known[f"put_{name}"] = getattr(cls, name).__set__  # the slot's setter bypasses the frozen `__setattr__`
            lines.append(f"put_{name}(self, {name})")
        else:
            lines.append(f"put(self, {name!r}, {name})" if frozen else f"self.{name} = {name}")
    head = ", ".join(["self", *(["*"] if kw_only and parameters else []), *parameters])
    source = f"def __init__({head}):\n" + "".join(f"    {line}\n" for line in lines or ["pass"])
    exec(compile(source, f"<init of {cls.__qualname__}>", "exec"), known)  # noqa: S102 - the source holds only names of members
    init: Callable[..., None] = known["__init__"]
    init.__qualname__ = f"{cls.__qualname__}.__init__"
    return init


def shared_methods(cls: type, fields: Mapping[str, Field], *, frozen: bool, order: bool) -> dict[str, Any]:
    """Return the methods that need no generated source code."""
    content = content_of(tuple(fields))
    shown = tuple(name for name, member in fields.items() if member.shown)

    def __repr__(self: Any) -> str:
        return f"{cls.__qualname__}({', '.join(f'{name}={getattr(self, name)!r}' for name in shown)})"

    def __eq__(self: Any, other: object) -> bool:
        return bool(content(self) == content(other)) if other.__class__ is cls else NotImplemented

    def __hash__(self: Any) -> int:
        return hash(content(self))

    def __reduce__(self: Any) -> tuple[Any, ...]:
        return remake, (cls, {name: getattr(self, name) for name in fields})

    found: dict[str, Any] = {"__repr__": __repr__, "__eq__": __eq__, "__hash__": None, "__reduce__": __reduce__}
    if frozen:
        found |= {"__hash__": __hash__, "__setattr__": refuse, "__delattr__": refuse}
    return found | (comparisons(cls, content) if order else {})


def content_of(names: tuple[str, ...]) -> "Callable[[Any], Any]":
    """Return a function that returns all members of a value as one comparable object."""
    return attrgetter(*names) if names else lambda value: ()


def comparisons(cls: type, content: "Callable[[Any], Any]") -> dict[str, Any]:
    def __lt__(self: Any, other: object) -> bool:
        return bool(content(self) < content(other)) if other.__class__ is cls else NotImplemented

    def __le__(self: Any, other: object) -> bool:
        return bool(content(self) <= content(other)) if other.__class__ is cls else NotImplemented

    # Python derives `>` and `>=` from these two by swapping the operands.
    return {"__lt__": __lt__, "__le__": __le__}


def refuse(self: Any, name: str, value: Any = None) -> NoReturn:
    """Raise FrozenInstanceError: the `__setattr__` and `__delattr__` of frozen classes."""
    from dataclasses import FrozenInstanceError

    raise FrozenInstanceError(f"cannot change {name!r} of a frozen {type(self).__name__}")


def remake(cls: type[Value], members: dict[str, Any]) -> Value:
    """Rebuild a value from its members, for `copy` and `pickle`."""
    return cls(**members)


class LazyFields:
    """The descriptor `__dataclass_fields__`, by which `dataclasses` recognizes a class; made when it is first read."""

    def __init__(self, own: dict[str, Field]) -> None:
        self.own = own

    def __get__(self, value: object, cls: type) -> Any:
        import dataclasses

        members = [(name, object, _as_described(member)) for name, member in self.own.items()]
        described = dataclasses.make_dataclass("_", members, kw_only=True)
        return getattr(described, "__dataclass_fields__")  # noqa: B009 - mypy knows it only in instances


def _as_described(member: Field) -> Any:
    import dataclasses

    if member.factory is not MISSING:
        return dataclasses.field(default_factory=member.factory, repr=member.shown)
    if member.default is not MISSING:
        return dataclasses.field(default=member.default, repr=member.shown)
    return dataclasses.field(repr=member.shown)
