"""Values to Godot 4's binary serialization, canonically. Room: wire.

Canonical is what Godot itself writes: the shorter INT and FLOAT where it holds the value, zeroed
padding, no unused bits. An explicit stack stands for recursion, so depth costs no Python frames.
Source: godotengine/godot, ``core/io/marshalls.cpp``, ``encode_variant``.
Layout: https://docs.godotengine.org/en/stable/tutorials/io/binary_serialization_api.html. Source: docs/VARIANT.md.
"""

from __future__ import annotations

import struct
from collections import abc
from collections.abc import Iterator

from gateway.errors import Unprocessable
from gateway.limits import VARIANT_DEPTH_MAX
from gateway.wire.variant.fixed import Fixed
from gateway.wire.variant.layout import (
    ELEMENT_SHIFT,
    FLAG_64,
    FLAG_OBJECT_AS_ID,
    INT32_MAX,
    INT32_MIN,
    INT64_MAX,
    INT64_MIN,
    NODE_PATH_ABSOLUTE,
    NODE_PATH_NEW,
    UINT64_MAX,
    VALUE_SHIFT,
)
from gateway.wire.variant.layout import VariantType as T
from gateway.wire.variant.packed import Packed
from gateway.wire.variant.values import (
    BUILTIN,
    RID,
    Array,
    Callable,
    Container,
    ContainerType,
    Dictionary,
    EncodedObject,
    NodePath,
    ObjectId,
    PackedStringArray,
    Signal,
    StringName,
    Value,
)

_PAD = (b"", b"\0\0\0", b"\0\0", b"\0")


class _Name(str):
    """A property's name: a bare string between the values of an encoded object."""

    __slots__ = ()


def encode(value: Value) -> bytes:
    """The canonical bytes of ``value``.

    Raises :class:`Unprocessable` for a Python value that no Variant holds (an int beyond 64 bits,
    a string with a NUL), and for nesting deeper than 1,024.
    """
    out = bytearray()
    stack: list[Iterator[Value]] = [iter((value,))]
    while stack:
        # An iterator goes on where it was left by `break`, and says by `else` that it is at its end.
        for item in stack[-1]:
            if len(stack) - 1 > VARIANT_DEPTH_MAX:
                raise Unprocessable(
                    f"a Variant nests at most {VARIANT_DEPTH_MAX:,} deep; this one goes deeper"
                )
            children = _write(out, item)
            if children is not None:
                stack.append(children)
                break
        else:
            stack.pop()
    return bytes(out)


def _write(out: bytearray, value: Value) -> Iterator[Value] | None:
    """Append one value, or a container's head; a container answers what it holds."""
    # Before str: it is a subclass, and stands without a header.
    if isinstance(value, _Name):
        _text(out, value)
        return None
    if isinstance(value, Container | list | tuple | dict):
        return _write_container(out, value)
    _write_leaf(out, value)
    return None


def _write_container(out: bytearray, value: Value) -> Iterator[Value]:
    if isinstance(value, EncodedObject):
        return _object(out, value)
    if isinstance(value, Dictionary | dict):
        pairs = value if isinstance(value, Dictionary) else Dictionary(value)
        return _dictionary(out, pairs)
    assert isinstance(value, Array | list | tuple)
    array = value if isinstance(value, Array) else Array(value)
    out += _u32(T.ARRAY | _kind(array.element_type) << ELEMENT_SHIFT)
    _container_type(out, array.element_type)
    out += _u32(len(array))
    return iter(array.items)


def _dictionary(out: bytearray, value: Dictionary) -> Iterator[Value]:
    kinds = _kind(value.key_type) << ELEMENT_SHIFT | _kind(value.value_type) << VALUE_SHIFT
    out += _u32(T.DICTIONARY | kinds)
    _container_type(out, value.key_type)
    _container_type(out, value.value_type)
    out += _u32(len(value.pairs))
    return (item for pair in value.pairs for item in pair)


def _object(out: bytearray, value: EncodedObject) -> Iterator[Value]:
    out += _u32(T.OBJECT)
    _text(out, value.class_name)
    if value.class_name:
        out += _u32(len(value.properties))
    return (item for name, content in value.properties for item in (_Name(name), content))


def _write_leaf(out: bytearray, value: Value) -> None:
    if isinstance(value, Fixed):
        out += _u32(value.TYPE | (FLAG_64 if value.wide else 0)) + value.raw
    elif isinstance(value, Packed):
        out += _u32(value.TYPE | (FLAG_64 if value.wide else 0)) + _u32(len(value)) + value.raw
    else:
        writer = _LEAVES.get(type(value))
        if writer is None:
            raise Unprocessable(f"no Variant holds a Python {type(value).__name__}")
        writer(out, value)


def _bool(out: bytearray, value: bool) -> None:
    out += _u32(T.BOOL) + _u32(int(value))


def _int(out: bytearray, value: int) -> None:
    if INT32_MIN <= value <= INT32_MAX:
        out += struct.pack("<Ii", T.INT, value)
    elif INT64_MIN <= value <= INT64_MAX:
        out += struct.pack("<Iq", T.INT | FLAG_64, value)
    else:
        raise Unprocessable(f"an INT has 64 bits with a sign; one of {value.bit_length()} bits does not fit")


def _float(out: bytearray, value: float) -> None:
    try:
        narrow = struct.pack("<f", value)
        # NaN is equal to nothing, itself included: it goes as a double, with its payload.
        exact = struct.unpack("<f", narrow)[0] == value
    except OverflowError:
        exact = False
    out += _u32(T.FLOAT) + narrow if exact else struct.pack("<Id", T.FLOAT | FLAG_64, value)


def _bytes(out: bytearray, value: bytes) -> None:
    out += _u32(T.PACKED_BYTE_ARRAY) + _u32(len(value)) + value + _PAD[len(value) % 4]


def _strings(out: bytearray, value: PackedStringArray) -> None:
    out += _u32(T.PACKED_STRING_ARRAY) + _u32(len(value))
    for text in value:
        # Godot ends each of these with a NUL, and counts it; other strings have none.
        _sized(out, _utf8(text) + b"\0")


def _node_path(out: bytearray, value: NodePath) -> None:
    flags = NODE_PATH_ABSOLUTE if value.absolute else 0
    out += struct.pack("<IIII", T.NODE_PATH, len(value.names) | NODE_PATH_NEW, len(value.subnames), flags)
    for name in (*value.names, *value.subnames):
        _text(out, name)


def _signal(out: bytearray, value: Signal) -> None:
    out += _u32(T.SIGNAL)
    _text(out, value.name)
    out += _u64(value.object_id)


def _headed(kind: int, text: str) -> bytearray:
    head = bytearray(_u32(kind))
    _text(head, text)
    return head


def _text(out: bytearray, text: str) -> None:
    _sized(out, _utf8(text))


def _sized(out: bytearray, data: bytes) -> None:
    out += _u32(len(data)) + data + _PAD[len(data) % 4]


def _utf8(text: str) -> bytes:
    if "\0" in text:
        raise Unprocessable(f"a Godot string ends at the first NUL; {text[:40]!r} has one inside")
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise Unprocessable(f"a string holds a lone surrogate at {error.start}: not text") from error


def _kind(declared: ContainerType | None) -> int:
    return 0 if declared is None else declared.kind


def _container_type(out: bytearray, declared: ContainerType | None) -> None:
    if declared is None:
        return
    if declared.kind == BUILTIN:
        out += _u32(declared.builtin)
    else:
        _text(out, declared.name)


def _u32(value: int) -> bytes:
    return value.to_bytes(4, "little")


def _u64(value: int) -> bytes:
    if not 0 <= value <= UINT64_MAX:
        raise Unprocessable(f"an id is an unsigned 64-bit number, not {value}")
    return value.to_bytes(8, "little")


_LEAVES: dict[type, abc.Callable[..., object]] = {
    type(None): lambda out, _: out.extend(_u32(T.NIL)),
    bool: _bool,
    int: _int,
    float: _float,
    bytes: _bytes,
    bytearray: _bytes,
    str: lambda out, value: out.extend(_headed(T.STRING, value)),
    StringName: lambda out, value: out.extend(_headed(T.STRING_NAME, value.text)),
    NodePath: _node_path,
    RID: lambda out, value: out.extend(_u32(T.RID) + _u64(value.id)),
    ObjectId: lambda out, value: out.extend(_u32(T.OBJECT | FLAG_OBJECT_AS_ID) + _u64(value.id)),
    Callable: lambda out, _: out.extend(_u32(T.CALLABLE)),
    Signal: _signal,
    PackedStringArray: _strings,
}
