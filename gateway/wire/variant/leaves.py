"""The Variants that hold no others, read from their header on. Room: wire.

Source: godotengine/godot, ``core/io/marshalls.cpp``, ``decode_variant``.
Layout: https://docs.godotengine.org/en/stable/tutorials/io/binary_serialization_api.html. Source: docs/VARIANT.md.
"""

from __future__ import annotations

import struct
from collections.abc import Callable as Reader

from gateway.wire.variant.cursor import Cursor
from gateway.wire.variant.fixed import FIXED
from gateway.wire.variant.layout import FLAG_64, NODE_PATH_ABSOLUTE, NODE_PATH_NEW, NODE_PATH_PROPERTY
from gateway.wire.variant.layout import VariantType as T
from gateway.wire.variant.packed import PACKED
from gateway.wire.variant.values import (
    RID,
    Callable,
    NodePath,
    ObjectId,
    PackedStringArray,
    Signal,
    StringName,
    Value,
)


def read_leaf(cursor: Cursor, kind: T, header: int) -> Value:
    """The value of a Variant whose ``header`` has been read. Raises ``Unprocessable``."""
    fixed = FIXED.get(kind)
    if fixed is not None:
        # Godot's reader ignores the flag where a type has no second width; so does this.
        wide = bool(header & FLAG_64) and not (fixed.INTEGER or fixed.SINGLE)
        return fixed.from_raw(cursor.read(fixed.size(wide), kind.name), wide)
    packed = PACKED.get(kind)
    if packed is not None:
        wide = bool(header & FLAG_64) and packed.has_width()
        count = cursor.count(packed.stride(wide))
        return packed.from_raw(cursor.read(count * packed.stride(wide), kind.name), wide)
    return _READERS[kind](cursor, bool(header & FLAG_64))


def _int(cursor: Cursor, wide: bool) -> int:
    return int.from_bytes(cursor.read(8 if wide else 4, "INT"), "little", signed=True)


def _float(cursor: Cursor, wide: bool) -> float:
    (value,) = struct.unpack("<d" if wide else "<f", cursor.read(8 if wide else 4, "FLOAT"))
    return float(value)


def _bytes(cursor: Cursor, _: bool) -> bytes:
    """Godot does not ask whether the padding is there: at the very end it may be missing."""
    size = cursor.count(1)
    data = cursor.read(size, "PACKED_BYTE_ARRAY")
    cursor.at = min(cursor.at + -size % 4, len(cursor.data))
    return data


def _strings(cursor: Cursor, _: bool) -> PackedStringArray:
    return PackedStringArray(tuple(cursor.text() for _ in range(cursor.signed_count(4))))


def _node_path(cursor: Cursor, _: bool) -> NodePath:
    start = cursor.at
    count = cursor.u32("a NodePath's name count")
    if not count & NODE_PATH_NEW:
        raise cursor.fault("a NodePath in the format before Godot 2.1", start)
    # The bit tells the new format; what is left of the number is the count.
    count &= ~NODE_PATH_NEW
    subcount = cursor.u32("a NodePath's sub-name count")
    flags = cursor.u32("a NodePath's flags")
    if flags & NODE_PATH_PROPERTY:
        subcount += 1
    if (count + subcount) * 4 > cursor.left():
        raise cursor.fault(f"a NodePath of {count + subcount} names, {cursor.left()} bytes are left", start)
    names = tuple(cursor.text() for _ in range(count))
    return NodePath(names, tuple(cursor.text() for _ in range(subcount)), bool(flags & NODE_PATH_ABSOLUTE))


def _signal(cursor: Cursor, _: bool) -> Signal:
    return Signal(cursor.text(), cursor.u64("a Signal's object"))


_READERS: dict[T, Reader[[Cursor, bool], Value]] = {
    T.NIL: lambda cursor, _: None,
    T.BOOL: lambda cursor, _: cursor.u32("BOOL") != 0,
    T.INT: _int,
    T.FLOAT: _float,
    T.STRING: lambda cursor, _: cursor.text(),
    T.STRING_NAME: lambda cursor, _: StringName(cursor.text()),
    T.NODE_PATH: _node_path,
    T.RID: lambda cursor, _: RID(cursor.u64("RID")),
    T.OBJECT: lambda cursor, _: ObjectId(cursor.u64("an object's id")),
    T.CALLABLE: lambda cursor, _: Callable(),
    T.SIGNAL: _signal,
    T.PACKED_BYTE_ARRAY: _bytes,
    T.PACKED_STRING_ARRAY: _strings,
}
