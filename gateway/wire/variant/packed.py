"""Variant's packed arrays, except bytes (a Python ``bytes``) and strings. Room: wire.

As in ``fixed``: the elements stay packed, little-endian, and are unpacked when asked for, so a
hostile megabyte costs a megabyte. Equal means same type, same width, same bits. Source: docs/VARIANT.md.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import ClassVar

from gateway.errors import Unprocessable
from gateway.wire.variant.fixed import Color, Fixed, Vector2, Vector3, Vector4, pack_numbers
from gateway.wire.variant.layout import VariantType


class Packed:
    """The base. An element is a number, or a vector (``ELEMENT``) for the vector arrays."""

    __slots__ = ("raw", "wide")

    TYPE: ClassVar[VariantType]
    CODE: ClassVar[str] = ""
    ELEMENT: ClassVar[type[Fixed] | None] = None

    raw: bytes
    wide: bool

    def __init__(self, elements: Iterable[object] = (), *, wide: bool = False) -> None:
        self.wide = wide and self.has_width()
        numbers = tuple(elements) if self.ELEMENT is None else self._flatten(elements)
        self.raw = pack_numbers(self.component_code(self.wide), numbers, type(self).__name__)

    @classmethod
    def has_width(cls) -> bool:
        """True where ``FLAG_64`` means something: the arrays of vectors, but not of colours."""
        return cls.ELEMENT is not None and not cls.ELEMENT.SINGLE

    def _flatten(self, elements: Iterable[object]) -> tuple[object, ...]:
        assert self.ELEMENT is not None
        flat: list[object] = []
        for element in elements:
            parts = tuple(element) if isinstance(element, Iterable) else ()
            if len(parts) != self.ELEMENT.COUNT:
                raise Unprocessable(
                    f"an element of {type(self).__name__} has {self.ELEMENT.COUNT} components, not {len(parts)}"
                )
            flat.extend(parts)
        return tuple(flat)

    @classmethod
    def component_code(cls, wide: bool) -> str:
        """The struct code of one component."""
        return cls.CODE if cls.ELEMENT is None else cls.ELEMENT.code(wide)

    @classmethod
    def stride(cls, wide: bool) -> int:
        """Bytes of one element."""
        return struct.calcsize(f"<{cls.CODE}") if cls.ELEMENT is None else cls.ELEMENT.size(wide)

    @classmethod
    def from_raw(cls, raw: bytes, wide: bool) -> Packed:
        """Take packed elements as they are; ``len(raw)`` is a multiple of ``stride(wide)``."""
        value = cls.__new__(cls)
        value.raw = raw
        value.wide = wide
        return value

    def __len__(self) -> int:
        return len(self.raw) // self.stride(self.wide)

    def __iter__(self) -> Iterator[int | float | Fixed]:
        if self.ELEMENT is None:
            return (number for (number,) in struct.iter_unpack(f"<{self.CODE}", self.raw))
        size, element, wide = self.stride(self.wide), self.ELEMENT, self.wide
        # One by one as they are asked for: a megabyte of vectors would be some 20 MB as objects.
        return (element.from_raw(self.raw[at : at + size], wide) for at in range(0, len(self.raw), size))

    @property
    def components(self) -> tuple[int | float, ...]:
        """All numbers, flat."""
        code = self.component_code(self.wide)
        return tuple(number for (number,) in struct.iter_unpack(f"<{code}", self.raw))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Packed):
            return NotImplemented
        return type(self) is type(other) and self.wide == other.wide and self.raw == other.raw

    def __hash__(self) -> int:
        return hash((self.TYPE, self.wide, self.raw))

    def __repr__(self) -> str:
        shown = list(self)
        return f"{type(self).__name__}({shown!r}{', wide=True' if self.wide else ''})"


class PackedInt32Array(Packed):
    __slots__ = ()
    TYPE, CODE = VariantType.PACKED_INT32_ARRAY, "i"


class PackedInt64Array(Packed):
    __slots__ = ()
    TYPE, CODE = VariantType.PACKED_INT64_ARRAY, "q"


class PackedFloat32Array(Packed):
    __slots__ = ()
    TYPE, CODE = VariantType.PACKED_FLOAT32_ARRAY, "f"


class PackedFloat64Array(Packed):
    __slots__ = ()
    TYPE, CODE = VariantType.PACKED_FLOAT64_ARRAY, "d"


class PackedVector2Array(Packed):
    __slots__ = ()
    TYPE, ELEMENT = VariantType.PACKED_VECTOR2_ARRAY, Vector2


class PackedVector3Array(Packed):
    __slots__ = ()
    TYPE, ELEMENT = VariantType.PACKED_VECTOR3_ARRAY, Vector3


class PackedColorArray(Packed):
    __slots__ = ()
    TYPE, ELEMENT = VariantType.PACKED_COLOR_ARRAY, Color


class PackedVector4Array(Packed):
    __slots__ = ()
    TYPE, ELEMENT = VariantType.PACKED_VECTOR4_ARRAY, Vector4


PACKED: dict[VariantType, type[Packed]] = {
    cls.TYPE: cls
    for cls in (
        PackedInt32Array, PackedInt64Array, PackedFloat32Array, PackedFloat64Array,
        PackedVector2Array, PackedVector3Array, PackedColorArray, PackedVector4Array,
    )
}  # fmt: skip
"""Every packed array whose elements have a fixed size, bytes excepted."""
