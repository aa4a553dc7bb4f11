"""The other Variant values: names, paths, ids, objects, containers. Room: wire.

Python's own ``None``, ``bool``, ``int``, ``float``, ``str`` and ``bytes`` stand for NIL, BOOL, INT,
FLOAT, STRING and PACKED_BYTE_ARRAY. Containers are immutable, and equal when their encodings are
equal: that needs no recursion, tells 1 from 1.0 as Godot does, and makes NaN equal to itself. Source: docs/VARIANT.md.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from gateway.limits import VARIANT_REPR_CHARS_MAX

Value = object
"""Whatever :func:`gateway.wire.variant.decode` answers and ``encode`` takes."""

BUILTIN: Final = 1
CLASS_NAME: Final = 2
SCRIPT: Final = 3


class ContainerType(NamedTuple):
    """What a typed container holds. ``kind``: BUILTIN with ``builtin`` (a ``VariantType`` number),
    CLASS_NAME with the class in ``name``, or SCRIPT with the script's ``res://`` path in ``name``."""

    kind: int
    builtin: int = 24
    name: str = ""


@dataclass(frozen=True, slots=True)
class StringName:
    """``&"text"``."""

    text: str


@dataclass(frozen=True, slots=True)
class NodePath:
    """``^"names:subnames"``; ``absolute`` where it begins with a slash."""

    names: tuple[str, ...] = ()
    subnames: tuple[str, ...] = ()
    absolute: bool = False


@dataclass(frozen=True, slots=True)
class RID:
    """A resource's id (u64): means something only inside the process that made it."""

    id: int


@dataclass(frozen=True, slots=True)
class ObjectId:
    """An object by its instance id (u64), opaque here; 0 is Godot's null object."""

    id: int


@dataclass(frozen=True, slots=True)
class Callable:
    """Godot writes no contents for a callable."""


@dataclass(frozen=True, slots=True)
class Signal:
    """A signal's name and the instance id (u64) of its object."""

    name: str
    object_id: int


@dataclass(frozen=True, slots=True)
class PackedStringArray:
    """Strings; on the wire each ends in a NUL that its length counts."""

    strings: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[str]:
        return iter(self.strings)

    def __len__(self) -> int:
        return len(self.strings)


class Container:
    """What nests. Equality, hash and printing that no depth can hurt."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        from gateway.wire.variant.encode import encode  # the encoder needs these classes first

        if not isinstance(other, Container | list | tuple | dict):
            return NotImplemented
        return encode(self) == encode(other)

    def __hash__(self) -> int:
        from gateway.wire.variant.encode import encode

        return hash(encode(self))

    def __repr__(self) -> str:
        from gateway.wire.variant.show import show

        return show(self, VARIANT_REPR_CHARS_MAX)


class Array(Container):
    """An Array; ``element_type`` is None for an untyped one."""

    __slots__ = ("element_type", "items")

    def __init__(self, items: Iterable[Value] = (), element_type: ContainerType | None = None) -> None:
        self.items = tuple(items)
        self.element_type = element_type

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[Value]:
        return iter(self.items)

    def __getitem__(self, index: int) -> Value:
        return self.items[index]

    __eq__ = Container.__eq__
    __hash__ = Container.__hash__


class Dictionary(Container):
    """A Dictionary: pairs in Godot's (insertion) order. Keys may be any Variant, 1 and 1.0 and
    true are three keys, and a String equals the StringName of the same text."""

    __slots__ = ("key_type", "pairs", "value_type")

    def __init__(
        self,
        pairs: Mapping[Value, Value] | Iterable[tuple[Value, Value]] = (),
        key_type: ContainerType | None = None,
        value_type: ContainerType | None = None,
    ) -> None:
        given = pairs.items() if isinstance(pairs, Mapping) else pairs
        self.pairs: tuple[tuple[Value, Value], ...] = last_wins(given)
        self.key_type = key_type
        self.value_type = value_type

    @classmethod
    def of_distinct(
        cls,
        pairs: Iterable[tuple[Value, Value]],
        key_type: ContainerType | None = None,
        value_type: ContainerType | None = None,
    ) -> Dictionary:
        """Take pairs whose keys are known to differ (the decoder has seen to it)."""
        # Past last_wins(): comparing containers as keys once more would cost what the decoder has saved.
        value = cls((), key_type, value_type)
        value.pairs = tuple(pairs)
        return value

    def __len__(self) -> int:
        return len(self.pairs)

    def __iter__(self) -> Iterator[Value]:
        return (key for key, _ in self.pairs)

    def get(self, key: Value, default: Value = None) -> Value:
        """The value of ``key`` by Godot's equality (linear in the number of pairs)."""
        wanted = key_identity(key)
        return next((value for other, value in self.pairs if key_identity(other) == wanted), default)

    def __getitem__(self, key: Value) -> Value:
        missing = object()
        value = self.get(key, missing)
        if value is missing:
            raise KeyError(key)
        return value

    __eq__ = Container.__eq__
    __hash__ = Container.__hash__


class EncodedObject(Container):
    """An object with its class and stored properties (``var_to_bytes_with_objects``): carried,
    never made. An empty ``class_name`` is the null object and has no properties."""

    __slots__ = ("class_name", "properties")

    def __init__(self, class_name: str, properties: Iterable[tuple[str, Value]] = ()) -> None:
        self.class_name = class_name
        self.properties = tuple(properties) if class_name else ()

    __eq__ = Container.__eq__
    __hash__ = Container.__hash__


def key_identity(key: Value) -> Hashable:
    """A hashable that is equal for two keys exactly when Godot takes them for the same key."""
    if isinstance(key, StringName):
        return (str, key.text)
    # In Godot's hash_compare all NaNs are one key; in Python each would be its own.
    if isinstance(key, float) and key != key:
        return (float, "nan")
    if isinstance(key, list | tuple):
        key = Array(key)
    elif isinstance(key, dict):
        key = Dictionary(key)
    elif isinstance(key, bytearray):
        key = bytes(key)
    # With its type: in Python 1, 1.0 and True are one key, in Godot three.
    return (type(key), key)


def last_wins(pairs: Iterable[tuple[Value, Value]]) -> tuple[tuple[Value, Value], ...]:
    """A key given twice keeps its first place and takes its last value, as in Godot."""
    kept: dict[Hashable, tuple[Value, Value]] = {}
    for key, value in pairs:
        identity = key_identity(key)
        first = kept.get(identity)
        kept[identity] = (key if first is None else first[0], value)
    return tuple(kept.values())
