"""The numbers of Godot 4's binary serialization: types, header bits, component counts. Room: wire.

Source: godotengine/godot, ``core/io/marshalls.cpp`` and ``core/variant/variant.h``. A header is a
u32: bits 0 to 7 the type, 8 to 15 unused, 16 and up flags whose meaning depends on the type.
Layout: https://docs.godotengine.org/en/stable/tutorials/io/binary_serialization_api.html.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final


class VariantType(IntEnum):
    """``Variant::Type``, in Godot's order."""

    NIL = 0
    BOOL = 1
    INT = 2
    FLOAT = 3
    STRING = 4
    VECTOR2 = 5
    VECTOR2I = 6
    RECT2 = 7
    RECT2I = 8
    VECTOR3 = 9
    VECTOR3I = 10
    TRANSFORM2D = 11
    VECTOR4 = 12
    VECTOR4I = 13
    PLANE = 14
    QUATERNION = 15
    AABB = 16
    BASIS = 17
    TRANSFORM3D = 18
    PROJECTION = 19
    COLOR = 20
    STRING_NAME = 21
    NODE_PATH = 22
    RID = 23
    OBJECT = 24
    CALLABLE = 25
    SIGNAL = 26
    DICTIONARY = 27
    ARRAY = 28
    PACKED_BYTE_ARRAY = 29
    PACKED_INT32_ARRAY = 30
    PACKED_INT64_ARRAY = 31
    PACKED_FLOAT32_ARRAY = 32
    PACKED_FLOAT64_ARRAY = 33
    PACKED_STRING_ARRAY = 34
    PACKED_VECTOR2_ARRAY = 35
    PACKED_VECTOR3_ARRAY = 36
    PACKED_COLOR_ARRAY = 37
    PACKED_VECTOR4_ARRAY = 38


GODOT3_TYPES: Final = (
    *(VariantType.NIL, VariantType.BOOL, VariantType.INT, VariantType.FLOAT, VariantType.STRING),
    *(
        VariantType.VECTOR2,
        VariantType.RECT2,
        VariantType.VECTOR3,
        VariantType.TRANSFORM2D,
        VariantType.PLANE,
    ),
    *(
        VariantType.QUATERNION,
        VariantType.AABB,
        VariantType.BASIS,
        VariantType.TRANSFORM3D,
        VariantType.COLOR,
    ),
    *(VariantType.NODE_PATH, VariantType.RID, VariantType.OBJECT, VariantType.DICTIONARY, VariantType.ARRAY),
    *(VariantType.PACKED_BYTE_ARRAY, VariantType.PACKED_INT32_ARRAY, VariantType.PACKED_FLOAT32_ARRAY),
    *(VariantType.PACKED_STRING_ARRAY, VariantType.PACKED_VECTOR2_ARRAY, VariantType.PACKED_VECTOR3_ARRAY),
    VariantType.PACKED_COLOR_ARRAY,
)
"""What each of Godot 3's numbers (0 to 26) is now. Source: godotengine/godot, branch 3.x, ``core/variant.h``."""

VARIANT_MAX: Final = 39
TYPE_MASK: Final = 0xFF

FLAG_64: Final = 1 << 16
"""INT, FLOAT, the math types and the packed vector arrays: 8-byte components."""

FLAG_OBJECT_AS_ID: Final = 1 << 16
"""OBJECT: only the instance id follows."""

ELEMENT_SHIFT: Final = 16
"""ARRAY: two bits, the kind of its element type. DICTIONARY: the kind of its key type."""

VALUE_SHIFT: Final = 18
"""DICTIONARY: two bits, the kind of its value type."""

COUNT_MASK: Final = 0x7FFFFFFF
"""ARRAY and DICTIONARY counts: the top bit was "shared" in Godot 3 and is ignored."""

NODE_PATH_NEW: Final = 0x80000000
NODE_PATH_ABSOLUTE: Final = 1
NODE_PATH_PROPERTY: Final = 2
"""An old format kept the property apart from the sub-names: one more name follows."""

INT32_MIN: Final = -(1 << 31)
INT32_MAX: Final = (1 << 31) - 1
INT64_MIN: Final = -(1 << 63)
INT64_MAX: Final = (1 << 63) - 1
UINT64_MAX: Final = (1 << 64) - 1
