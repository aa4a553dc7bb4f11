"""Variant values of a fixed number of components: vectors, transforms, colours. Room: wire.

A value holds its components packed, little-endian, exactly as they travel, so nothing (a NaN's
payload, a negative zero) changes on the way through. ``wide`` says that they are 8-byte floats
(Godot built with ``precision=double``); without it they are rounded to 4-byte floats when the
value is made, as Godot does. Equal means: same type, same width, same bits. Source: docs/VARIANT.md.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import ClassVar

from gateway.errors import Unprocessable
from gateway.wire.variant.layout import VariantType

Number = int | float


def pack_numbers(code: str, numbers: tuple[object, ...], what: str) -> bytes:
    """Pack by one struct code ('f', 'd', 'i', 'q'). ``Unprocessable`` names what does not fit."""
    try:
        return struct.pack(f"<{len(numbers)}{code}", *numbers)
    except (struct.error, OverflowError, TypeError) as error:
        width = struct.calcsize(f"<{code}") * 8
        raise Unprocessable(f"{what} takes {width}-bit components; {numbers[:4]!r} do not fit") from error


class Fixed:
    """The base. ``raw``: the packed components; ``wide``: 8-byte floats."""

    __slots__ = ("raw", "wide")

    TYPE: ClassVar[VariantType]
    FIELDS: ClassVar[tuple[str, ...]] = ()
    COUNT: ClassVar[int]
    INTEGER: ClassVar[bool] = False
    SINGLE: ClassVar[bool] = False

    raw: bytes
    wide: bool

    def __init__(self, *components: Number, wide: bool = False) -> None:
        if len(components) != self.COUNT:
            raise Unprocessable(f"{type(self).__name__} has {self.COUNT} components, not {len(components)}")
        self.wide = wide and not (self.INTEGER or self.SINGLE)
        self.raw = pack_numbers(self.code(self.wide), components, type(self).__name__)

    @classmethod
    def code(cls, wide: bool) -> str:
        """The struct code of one component."""
        if cls.INTEGER:
            return "i"
        return "d" if wide and not cls.SINGLE else "f"

    @classmethod
    def size(cls, wide: bool) -> int:
        """Bytes of one value."""
        return cls.COUNT * (8 if cls.code(wide) == "d" else 4)

    @classmethod
    def from_raw(cls, raw: bytes, wide: bool) -> Fixed:
        """Take packed components as they are; ``len(raw)`` is ``size(wide)``."""
        value = cls.__new__(cls)
        value.raw = raw
        value.wide = wide
        return value

    @property
    def components(self) -> tuple[int | float, ...]:
        """The components as Python ints or floats."""
        return struct.unpack(f"<{self.COUNT}{self.code(self.wide)}", self.raw)

    def __iter__(self) -> Iterator[int | float]:
        return iter(self.components)

    # Components by name without storing them: the packed bytes are all that a value has.
    def __getattr__(self, name: str) -> int | float:
        if name in self.FIELDS:
            return self.components[self.FIELDS.index(name)]
        raise AttributeError(name)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Fixed):
            return NotImplemented
        return type(self) is type(other) and self.wide == other.wide and self.raw == other.raw

    def __hash__(self) -> int:
        return hash((self.TYPE, self.wide, self.raw))

    def __repr__(self) -> str:
        inner = ", ".join(map(repr, self.components))
        return f"{type(self).__name__}({inner}{', wide=True' if self.wide else ''})"


class Vector2(Fixed):
    __slots__ = ()
    TYPE, FIELDS, COUNT = VariantType.VECTOR2, ("x", "y"), 2


class Vector2i(Fixed):
    __slots__ = ()
    TYPE, FIELDS, COUNT, INTEGER = VariantType.VECTOR2I, ("x", "y"), 2, True


class Rect2(Fixed):
    """Position, then size."""

    __slots__ = ()
    TYPE, FIELDS, COUNT = VariantType.RECT2, ("x", "y", "width", "height"), 4


class Rect2i(Fixed):
    """Position, then size."""

    __slots__ = ()
    TYPE, FIELDS, COUNT, INTEGER = VariantType.RECT2I, ("x", "y", "width", "height"), 4, True


class Vector3(Fixed):
    __slots__ = ()
    TYPE, FIELDS, COUNT = VariantType.VECTOR3, ("x", "y", "z"), 3


class Vector3i(Fixed):
    __slots__ = ()
    TYPE, FIELDS, COUNT, INTEGER = VariantType.VECTOR3I, ("x", "y", "z"), 3, True


class Transform2D(Fixed):
    """Three columns of two: x axis, y axis, origin."""

    __slots__ = ()
    TYPE, COUNT = VariantType.TRANSFORM2D, 6


class Vector4(Fixed):
    __slots__ = ()
    TYPE, FIELDS, COUNT = VariantType.VECTOR4, ("x", "y", "z", "w"), 4


class Vector4i(Fixed):
    __slots__ = ()
    TYPE, FIELDS, COUNT, INTEGER = VariantType.VECTOR4I, ("x", "y", "z", "w"), 4, True


class Plane(Fixed):
    """The normal, then the distance."""

    __slots__ = ()
    TYPE, FIELDS, COUNT = VariantType.PLANE, ("x", "y", "z", "d"), 4


class Quaternion(Fixed):
    __slots__ = ()
    TYPE, FIELDS, COUNT = VariantType.QUATERNION, ("x", "y", "z", "w"), 4


class AABB(Fixed):
    """Position, then size."""

    __slots__ = ()
    TYPE, COUNT = VariantType.AABB, 6


class Basis(Fixed):
    """Three rows of three."""

    __slots__ = ()
    TYPE, COUNT = VariantType.BASIS, 9


class Transform3D(Fixed):
    """The basis by rows, then the origin."""

    __slots__ = ()
    TYPE, COUNT = VariantType.TRANSFORM3D, 12


class Projection(Fixed):
    """Four columns of four."""

    __slots__ = ()
    TYPE, COUNT = VariantType.PROJECTION, 16


class Color(Fixed):
    """Always 4-byte floats, also in double precision builds."""

    __slots__ = ()
    TYPE, FIELDS, COUNT, SINGLE = VariantType.COLOR, ("r", "g", "b", "a"), 4, True


FIXED: dict[VariantType, type[Fixed]] = {
    cls.TYPE: cls
    for cls in (
        Vector2, Vector2i, Rect2, Rect2i, Vector3, Vector3i, Transform2D, Vector4, Vector4i,
        Plane, Quaternion, AABB, Basis, Transform3D, Projection, Color,
    )
}  # fmt: skip
"""Every type of a fixed number of components."""
