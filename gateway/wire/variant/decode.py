"""Godot 4's binary serialization to values, from bytes that nobody vouches for. Room: wire.

Every count is checked against the bytes that are left before anything is made for it, and an
explicit stack stands for recursion: memory grows only with the input, by a small factor. What
Godot's own reader takes is taken (any padding, unused header bits, wide small numbers).
Source: godotengine/godot, ``core/io/marshalls.cpp``, ``decode_variant``.
Layout: https://docs.godotengine.org/en/stable/tutorials/io/binary_serialization_api.html. Source: docs/VARIANT.md.
"""

from __future__ import annotations

from typing import Literal

from gateway.errors import Unprocessable
from gateway.limits import VARIANT_DEPTH_MAX, VARIANT_HASHED_KEY_BYTES_MAX
from gateway.wire.variant.cursor import Cursor
from gateway.wire.variant.layout import (
    COUNT_MASK,
    ELEMENT_SHIFT,
    FLAG_64,
    FLAG_OBJECT_AS_ID,
    GODOT3_TYPES,
    TYPE_MASK,
    VALUE_SHIFT,
    VARIANT_MAX,
)
from gateway.wire.variant.layout import VariantType as T
from gateway.wire.variant.leaves import read_leaf
from gateway.wire.variant.values import (
    BUILTIN,
    RID,
    Array,
    Container,
    ContainerType,
    Dictionary,
    EncodedObject,
    Value,
    key_identity,
)


def decode(data: bytes, *, godot: Literal[3, 4] = 4) -> Value:
    """The one Variant that ``data`` holds. :class:`Unprocessable` (with ``offset``) if it does not
    decode, nests deeper than 1,024, or is followed by more bytes. ``godot``: which one wrote it; nothing in the bytes
    tells. What Godot 3 wrote comes as the types of 4 that took their place."""
    value, end = decode_prefix(data, godot=godot)
    if end < len(data):
        raise Unprocessable(
            f"{len(data) - end} bytes follow the Variant, which ends at offset {end}", offset=end
        )
    return value


def decode_prefix(data: bytes, offset: int = 0, *, godot: Literal[3, 4] = 4) -> tuple[Value, int]:
    """The Variant at ``offset``, and the offset behind it. Raises as :func:`decode`."""
    cursor = Cursor(bytes(data), offset)
    begin = _begin if godot == 4 else _begin_old
    stack: list[_Open] = []
    while True:
        begun = begin(cursor)
        if isinstance(begun, _Open):
            # An empty container is a finished value: it is never on the stack, and costs no depth.
            if begun.wanted:
                if len(stack) >= VARIANT_DEPTH_MAX:
                    raise cursor.fault(f"nested deeper than {VARIANT_DEPTH_MAX:,}", begun.start)
                begun.next_name(cursor)
                stack.append(begun)
                continue
            value: Value = begun.build()
        else:
            value = begun.value
        # A finished value may finish the container around it, and that one the next: as far up as it goes.
        while stack:
            top = stack[-1]
            if not top.add(value, cursor):
                break
            value = stack.pop().build()
        else:
            return value, cursor.at


class _Leaf:
    """A finished value (a wrapper, since any Python value may be one)."""

    __slots__ = ("value",)

    def __init__(self, value: Value) -> None:
        self.value = value


class _Open:
    """A container being filled. ``wanted``: the values still to come."""

    __slots__ = ("start", "wanted")

    def __init__(self, start: int, wanted: int) -> None:
        self.start = start
        self.wanted = wanted

    def next_name(self, cursor: Cursor) -> None:
        """Read what stands before the next value: nothing, except in an encoded object."""

    def keep(self, value: Value, cursor: Cursor) -> None:
        raise NotImplementedError

    def build(self) -> Value:
        raise NotImplementedError

    def add(self, value: Value, cursor: Cursor) -> bool:
        """Add a value; True when it was the last."""
        self.keep(value, cursor)
        self.wanted -= 1
        if self.wanted:
            self.next_name(cursor)
        return not self.wanted


class _OpenArray(_Open):
    __slots__ = ("element_type", "items")

    def __init__(self, start: int, wanted: int, element_type: ContainerType | None) -> None:
        super().__init__(start, wanted)
        self.items: list[Value] = []
        self.element_type = element_type

    def keep(self, value: Value, cursor: Cursor) -> None:
        self.items.append(value)

    def build(self) -> Array:
        return Array(self.items, self.element_type)


class _OpenDictionary(_Open):
    __slots__ = ("item_start", "key", "key_type", "pairs", "value_type")

    def __init__(
        self, start: int, count: int, key_type: ContainerType | None, value_type: ContainerType | None
    ) -> None:
        # A key and a value for each pair; an even number still wanted means that a key is next.
        super().__init__(start, 2 * count)
        self.pairs: dict[object, tuple[Value, Value]] = {}
        self.key_type = key_type
        self.value_type = value_type

    def next_name(self, cursor: Cursor) -> None:
        if self.wanted % 2 == 0:
            self.item_start = cursor.at

    def keep(self, value: Value, cursor: Cursor) -> None:
        if self.wanted % 2 == 0:
            raw = isinstance(value, Container)
            # A container as a key is compared by its bytes where it stood: encoding it for each look would take
            # time that grows with the square of the depth.
            identity = _RawKey(cursor.data, self.item_start, cursor.at) if raw else key_identity(value)
            self.key = (identity, value)
            return
        identity, key = self.key
        first = self.pairs.get(identity)
        # As Godot's HashMap: a key given again keeps its place.
        self.pairs[identity] = (key if first is None else first[0], value)

    def build(self) -> Dictionary:
        return Dictionary.of_distinct(self.pairs.values(), self.key_type, self.value_type)


class _OpenObject(_Open):
    __slots__ = ("class_name", "name", "properties")

    def __init__(self, start: int, wanted: int, class_name: str) -> None:
        super().__init__(start, wanted)
        self.class_name = class_name
        self.properties: list[tuple[str, Value]] = []

    def next_name(self, cursor: Cursor) -> None:
        self.name = cursor.text()

    def keep(self, value: Value, cursor: Cursor) -> None:
        self.properties.append((self.name, value))

    def build(self) -> EncodedObject:
        return EncodedObject(self.class_name, self.properties)


class _RawKey:
    """A container as a dictionary key: the same when its bytes are the same."""

    __slots__ = ("data", "end", "start")

    def __init__(self, data: bytes, start: int, end: int) -> None:
        self.data, self.start, self.end = data, start, end

    def __hash__(self) -> int:
        size = self.end - self.start
        if size <= VARIANT_HASHED_KEY_BYTES_MAX:
            return hash(self.data[self.start : self.end])
        # Not all of a long key: nested keys overlap, and hashing each in full would be quadratic again. Equal
        # hashes are compared in full.
        return hash((size, self.data[self.start : self.start + 512], self.data[self.end - 512 : self.end]))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, _RawKey) or self.end - self.start != other.end - other.start:
            return False
        view = memoryview(self.data)
        return view[self.start : self.end] == view[other.start : other.end]


def _begin(cursor: Cursor) -> _Leaf | _Open:
    """Read a whole leaf, or the head of a container."""
    # Where a fault is told: at the header, not behind it.
    start = cursor.at
    header = cursor.u32("a Variant's header")
    number = header & TYPE_MASK
    if number >= VARIANT_MAX:
        raise cursor.fault(f"there is no Variant type {number}; the last one is {VARIANT_MAX - 1}", start)
    return _begin_as(cursor, T(number), header, start)


def _begin_old(cursor: Cursor) -> _Leaf | _Open:
    """The same of Godot 3, where only numbers and objects have flags, and nothing follows a RID's header. Source:
    godotengine/godot, branch 3.x, ``core/io/marshalls.cpp``."""
    start = cursor.at
    header = cursor.u32("a Variant's header")
    number = header & TYPE_MASK
    if number >= len(GODOT3_TYPES):
        last = len(GODOT3_TYPES) - 1
        raise cursor.fault(f"there is no Variant type {number} in Godot 3; the last one is {last}", start)
    kind = GODOT3_TYPES[number]
    # Godot 3's decode_variant makes an empty RID, and reads nothing behind the header.
    if kind == T.RID:
        return _Leaf(RID(0))
    flags = FLAG_64 if kind in (T.INT, T.FLOAT, T.OBJECT) else 0
    return _begin_as(cursor, kind, header & flags, start)


def _begin_as(cursor: Cursor, number: T, header: int, start: int) -> _Leaf | _Open:
    """Read a value of that type, or the head of a container, whose ``header`` at ``start`` has been read."""
    if number == T.ARRAY:
        declared = _container_type(cursor, header >> ELEMENT_SHIFT & 3)
        # Four bytes at least for each, a Variant's header: a count of millions in a message of some bytes
        # makes no list.
        return _OpenArray(start, cursor.count(4, COUNT_MASK), declared)
    if number == T.DICTIONARY:
        key_type = _container_type(cursor, header >> ELEMENT_SHIFT & 3)
        value_type = _container_type(cursor, header >> VALUE_SHIFT & 3)
        return _OpenDictionary(start, cursor.count(8, COUNT_MASK), key_type, value_type)
    if number == T.OBJECT and not header & FLAG_OBJECT_AS_ID:
        class_name = cursor.text()
        return _OpenObject(start, cursor.signed_count(8) if class_name else 0, class_name)
    return _Leaf(read_leaf(cursor, number, header))


def _container_type(cursor: Cursor, kind: int) -> ContainerType | None:
    if not kind:
        return None
    if kind != BUILTIN:
        return ContainerType(kind, T.OBJECT, cursor.text())
    start = cursor.at
    builtin = cursor.u32("a container's element type")
    if builtin >= VARIANT_MAX:
        raise cursor.fault(f"there is no Variant type {builtin} for a container to hold", start)
    return ContainerType(kind, builtin)
