"""Godot 4 Variants: binary serialization and JSON form, both ways. Room: wire; pure.

:func:`decode` and :func:`encode` turn what ``var_to_bytes`` writes into Python values and back;
:func:`to_json` and :func:`from_json` do the same for a lossless JSON form. Everything that cannot
be taken raises :class:`gateway.errors.Unprocessable`. The format stands in ``docs/VARIANT.md``.
"""

from gateway.wire.variant.decode import decode, decode_prefix
from gateway.wire.variant.encode import encode
from gateway.wire.variant.fixed import (
    AABB,
    Basis,
    Color,
    Fixed,
    Plane,
    Projection,
    Quaternion,
    Rect2,
    Rect2i,
    Transform2D,
    Transform3D,
    Vector2,
    Vector2i,
    Vector3,
    Vector3i,
    Vector4,
    Vector4i,
)
from gateway.wire.variant.jsonform import from_json, to_json
from gateway.wire.variant.layout import VariantType
from gateway.wire.variant.packed import (
    Packed,
    PackedColorArray,
    PackedFloat32Array,
    PackedFloat64Array,
    PackedInt32Array,
    PackedInt64Array,
    PackedVector2Array,
    PackedVector3Array,
    PackedVector4Array,
)
from gateway.wire.variant.values import (
    BUILTIN,
    CLASS_NAME,
    RID,
    SCRIPT,
    Array,
    Callable,
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

__all__ = [
    "AABB", "BUILTIN", "CLASS_NAME", "RID", "SCRIPT", "Array", "Basis", "Callable", "Color",
    "ContainerType", "Dictionary", "EncodedObject", "Fixed", "NodePath", "ObjectId", "Packed",
    "PackedColorArray", "PackedFloat32Array", "PackedFloat64Array", "PackedInt32Array",
    "PackedInt64Array", "PackedStringArray", "PackedVector2Array", "PackedVector3Array",
    "PackedVector4Array", "Plane", "Projection", "Quaternion", "Rect2", "Rect2i", "Signal",
    "StringName", "Transform2D", "Transform3D", "Value", "VariantType", "Vector2", "Vector2i",
    "Vector3", "Vector3i", "Vector4", "Vector4i", "decode", "decode_prefix", "encode",
    "from_json", "to_json",
]  # fmt: skip
