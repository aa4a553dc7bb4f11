"""Golden vectors of Godot's binary serialization, written out by hand from the format.

Each line is what ``var_to_bytes`` writes (``core/io/marshalls.cpp``), as groups of little-endian
u32 in hex with the reasoning beside them. Single-precision 1.0 is 3f800000, so ``0000803f`` on the
wire; 2.0 is 40000000, 3.0 40400000, 4.0 40800000, -0.5 bf000000. Double 1.0 is 3ff0000000000000.
"""

from __future__ import annotations

import math
import struct

import pytest

from gateway.wire import variant as v

F1, F2, F3, F4, FH = "0000803f", "00000040", "00004040", "00008040", "000000bf"
D1, D2, D3, D4 = "000000000000f03f", "0000000000000040", "0000000000000840", "0000000000001040"

GOLDEN = [
    # NIL (0): the header alone.
    (None, "00000000"),
    # BOOL (1): a whole u32 of 0 or 1.
    (False, "01000000 00000000"),
    (True, "01000000 01000000"),
    # INT (2): 4 bytes while it fits an int32, else flag 64 (bit 16: 0x00010002) and 8 bytes.
    (0, "02000000 00000000"),
    (-1, "02000000 ffffffff"),
    (2147483647, "02000000 ffffff7f"),
    (-2147483648, "02000000 00000080"),
    (2147483648, "02000100 0000008000000000"),
    (-2147483649, "02000100 ffffff7fffffffff"),
    (9223372036854775807, "02000100 ffffffffffffff7f"),
    # FLOAT (3): 4 bytes if the single holds it exactly, else flag 64 and 8 bytes.
    (1.0, "03000000 " + F1),
    (-0.5, "03000000 " + FH),
    (math.inf, "03000000 0000807f"),
    # 0.1 is 3fb999999999999a as a double and is not the single nearest to it.
    (0.1, "03000100 9a9999999999b93f"),
    # A NaN never equals its single, so Godot writes all 8 bytes: 7ff8000000000000.
    (math.nan, "03000100 000000000000f87f"),
    # STRING (4): u32 bytes of UTF-8, the bytes, zeros to a multiple of four; no NUL.
    ("", "04000000 00000000"),
    ("a", "04000000 01000000 61000000"),
    ("abcd", "04000000 04000000 61626364"),
    ("é€", "04000000 05000000 c3a9e282 ac000000"),
    # VECTOR2 (5), VECTOR2I (6): x, y. With flag 64 8-byte floats; integers are always 4 bytes.
    (v.Vector2(1, 2), f"05000000 {F1}{F2}"),
    (v.Vector2(1, 2, wide=True), f"05000100 {D1}{D2}"),
    (v.Vector2i(1, -1), "06000000 01000000 ffffffff"),
    # RECT2 (7), RECT2I (8): position, size.
    (v.Rect2(1, 2, 3, 4), f"07000000 {F1}{F2}{F3}{F4}"),
    (v.Rect2(1, 2, 3, 4, wide=True), f"07000100 {D1}{D2}{D3}{D4}"),
    (v.Rect2i(1, 2, 3, 4), "08000000 01000000 02000000 03000000 04000000"),
    # VECTOR3 (9), VECTOR3I (10).
    (v.Vector3(1, 2, 3), f"09000000 {F1}{F2}{F3}"),
    (v.Vector3(1, 2, 3, wide=True), f"09000100 {D1}{D2}{D3}"),
    (v.Vector3i(1, 2, -2), "0a000000 01000000 02000000 feffffff"),
    # TRANSFORM2D (11): columns x, y, origin of two each.
    (v.Transform2D(1, 2, 3, 4, 1, 2), f"0b000000 {F1}{F2}{F3}{F4}{F1}{F2}"),
    (v.Transform2D(1, 2, 3, 4, 1, 2, wide=True), f"0b000100 {D1}{D2}{D3}{D4}{D1}{D2}"),
    # VECTOR4 (12), VECTOR4I (13).
    (v.Vector4(1, 2, 3, 4), f"0c000000 {F1}{F2}{F3}{F4}"),
    (v.Vector4(1, 2, 3, 4, wide=True), f"0c000100 {D1}{D2}{D3}{D4}"),
    (v.Vector4i(1, 2, 3, -1), "0d000000 01000000 02000000 03000000 ffffffff"),
    # PLANE (14): normal x, y, z, then d.
    (v.Plane(1, 2, 3, -0.5), f"0e000000 {F1}{F2}{F3}{FH}"),
    (v.Plane(1, 2, 3, 4, wide=True), f"0e000100 {D1}{D2}{D3}{D4}"),
    # QUATERNION (15).
    (v.Quaternion(1, 2, 3, 4), f"0f000000 {F1}{F2}{F3}{F4}"),
    (v.Quaternion(1, 2, 3, 4, wide=True), f"0f000100 {D1}{D2}{D3}{D4}"),
    # AABB (16): position, size, of three each.
    (v.AABB(1, 2, 3, 4, 1, 2), f"10000000 {F1}{F2}{F3}{F4}{F1}{F2}"),
    (v.AABB(1, 2, 3, 4, 1, 2, wide=True), f"10000100 {D1}{D2}{D3}{D4}{D1}{D2}"),
    # BASIS (17): nine by rows. TRANSFORM3D (18): the basis, then the origin.
    (v.Basis(1, 2, 3, 1, 2, 3, 1, 2, 3), "11000000 " + (F1 + F2 + F3) * 3),
    (v.Basis(1, 2, 3, 1, 2, 3, 1, 2, 3, wide=True), "11000100 " + (D1 + D2 + D3) * 3),
    (v.Transform3D(*(1, 2, 3) * 4), "12000000 " + (F1 + F2 + F3) * 4),
    (v.Transform3D(*(1, 2, 3) * 4, wide=True), "12000100 " + (D1 + D2 + D3) * 4),
    # PROJECTION (19): four columns of four.
    (v.Projection(*(1, 2, 3, 4) * 4), "13000000 " + (F1 + F2 + F3 + F4) * 4),
    (v.Projection(*(1, 2, 3, 4) * 4, wide=True), "13000100 " + (D1 + D2 + D3 + D4) * 4),
    # COLOR (20): four singles, in double builds too.
    (v.Color(1, 2, 3, -0.5), f"14000000 {F1}{F2}{F3}{FH}"),
    # STRING_NAME (21): as a string.
    (v.StringName("ab"), "15000000 02000000 61620000"),
    # NODE_PATH (22): names | 1<<31, sub-names, flags (1 absolute), then all names as strings.
    (v.NodePath(), "16000000 00000080 00000000 00000000"),
    (
        v.NodePath(("root", "a"), ("pos",), True),
        "16000000 02000080 01000000 01000000 04000000 726f6f74 01000000 61000000 03000000 706f7300",
    ),
    # RID (23): a u64.
    (v.RID(258), "17000000 0201000000000000"),
    # OBJECT (24) with flag 1<<16: the instance id.
    (v.ObjectId(3), "18000100 0300000000000000"),
    # OBJECT without it: class name, property count, then name and value for each.
    (
        v.EncodedObject("Node", [("hp", 7)]),
        "18000000 04000000 4e6f6465 01000000 02000000 68700000 02000000 07000000",
    ),
    # ... and the null object: an empty class name and nothing more.
    (v.EncodedObject(""), "18000000 00000000"),
    # CALLABLE (25): nothing. SIGNAL (26): name, then the object's id.
    (v.Callable(), "19000000"),
    (v.Signal("hit", 5), "1a000000 03000000 68697400 0500000000000000"),
    # DICTIONARY (27): pair count, then key, value, key, value.
    (v.Dictionary(), "1b000000 00000000"),
    (v.Dictionary({"a": 1}), "1b000000 01000000 04000000 01000000 61000000 02000000 01000000"),
    # Typed: kinds in bits 16-17 (key) and 18-19 (value): builtin is 1, so 0x00050000; then the
    # two type numbers (STRING 4, INT 2) and only then the count.
    (
        v.Dictionary({"a": 1}, v.ContainerType(v.BUILTIN, 4), v.ContainerType(v.BUILTIN, 2)),
        "1b000500 04000000 02000000 01000000 04000000 01000000 61000000 02000000 01000000",
    ),
    # Only the value typed, by class name (kind 2 in bits 18-19: 0x00080000).
    (
        v.Dictionary((), None, v.ContainerType(v.CLASS_NAME, 24, "Node")),
        "1b000800 04000000 4e6f6465 00000000",
    ),
    # ARRAY (28): count, then the elements.
    (v.Array(), "1c000000 00000000"),
    (v.Array([None, True]), "1c000000 02000000 00000000 01000000 01000000"),
    # Typed by a builtin (kind 1), a class (2), a script by its path (3), in bits 16-17.
    (v.Array([7], v.ContainerType(v.BUILTIN, 2)), "1c000100 02000000 01000000 02000000 07000000"),
    (v.Array([], v.ContainerType(v.CLASS_NAME, 24, "Node")), "1c000200 04000000 4e6f6465 00000000"),
    (
        v.Array([], v.ContainerType(v.SCRIPT, 24, "res://a.gd")),
        "1c000300 0a000000 7265733a 2f2f612e 67640000 00000000",
    ),
    # PACKED_BYTE_ARRAY (29): count, bytes, zeros to a multiple of four.
    (b"", "1d000000 00000000"),
    (b"\x01\x02\x03\x04\x05", "1d000000 05000000 01020304 05000000"),
    # PACKED_INT32_ARRAY (30), INT64 (31), FLOAT32 (32), FLOAT64 (33): count, numbers.
    (v.PackedInt32Array([1, -1]), "1e000000 02000000 01000000 ffffffff"),
    (v.PackedInt64Array([1, -1]), "1f000000 02000000 0100000000000000 ffffffffffffffff"),
    (v.PackedFloat32Array([1, 2]), f"20000000 02000000 {F1}{F2}"),
    (v.PackedFloat64Array([1, 2]), f"21000000 02000000 {D1}{D2}"),
    # PACKED_STRING_ARRAY (34): here, and only here, each length counts a NUL that is written too.
    (v.PackedStringArray(()), "22000000 00000000"),
    (v.PackedStringArray(("", "abc", "abcd")), "22000000 03000000 01000000 00000000 04000000 61626300 05000000 61626364 00000000"),
    # PACKED_VECTOR2_ARRAY (35), VECTOR3 (36), COLOR (37), VECTOR4 (38); colours never wide.
    (v.PackedVector2Array([(1, 2), (3, 4)]), f"23000000 02000000 {F1}{F2}{F3}{F4}"),
    (v.PackedVector2Array([(1, 2)], wide=True), f"23000100 01000000 {D1}{D2}"),
    (v.PackedVector3Array([(1, 2, 3)]), f"24000000 01000000 {F1}{F2}{F3}"),
    (v.PackedVector3Array([(1, 2, 3)], wide=True), f"24000100 01000000 {D1}{D2}{D3}"),
    (v.PackedColorArray([(1, 2, 3, 4)]), f"25000000 01000000 {F1}{F2}{F3}{F4}"),
    (v.PackedVector4Array([(1, 2, 3, 4)]), f"26000000 01000000 {F1}{F2}{F3}{F4}"),
    (v.PackedVector4Array([(1, 2, 3, 4)], wide=True), f"26000100 01000000 {D1}{D2}{D3}{D4}"),
]  # fmt: skip


def test_the_vectors_cover_every_type_and_every_wide_form() -> None:
    heads = {bytes.fromhex(text.replace(" ", ""))[:4] for _, text in GOLDEN}
    assert {head[0] for head in heads} == set(range(39))
    wide = {head[0] for head in heads if head[0] not in (24, 27, 28) and head[2] & 1}
    assert wide == {2, 3, 5, 7, 9, 11, 12, 14, 15, 16, 17, 18, 19, 35, 36, 38}


@pytest.mark.parametrize(("value", "text"), GOLDEN, ids=lambda part: repr(part)[:40])
def test_a_value_is_written_as_godot_writes_it_and_read_back(value: v.Value, text: str) -> None:
    data = bytes.fromhex(text.replace(" ", ""))
    assert v.encode(value) == data
    back = v.decode(data)
    assert type(back) is type(value)
    assert back == value or back != back
    assert v.encode(v.from_json(v.to_json(value))) == data


# What Godot reads though it never writes it: (bytes, value).
LENIENT = [
    # A small INT in 8 bytes; a FLOAT in 8 bytes that a single would hold.
    ("02000100 0500000000000000", 5),
    ("03000100 " + D1, 1.0),
    # Any non-zero BOOL is true; bits 8-15 of a header mean nothing.
    ("01000000 00000007", True),
    ("01ff0000 00000000", False),
    # Padding may hold anything: Godot's NodePath writer leaves old memory there.
    ("04000000 01000000 61ffffff", "a"),
    ("16000000 01000080 00000000 00000000 01000000 61aabbcc", v.NodePath(("a",))),
    # NodePath flag 2: the obsolete property name is one more sub-name than counted.
    ("16000000 00000080 00000000 02000000 01000000 61000000", v.NodePath((), ("a",))),
    # A PackedStringArray's strings without their NUL, as Godot 3's first writers had it.
    ("22000000 01000000 02000000 61620000", v.PackedStringArray(("ab",))),
    # A string ends at a NUL inside.
    ("04000000 03000000 61006200", "a"),
    # Counts of arrays and dictionaries: the top bit ("shared") is not part of them.
    ("1c000000 01000080 00000000", v.Array([None])),
    ("1b000000 01000080 00000000 00000000", v.Dictionary([(None, None)])),
    # Godot loops up to a signed count of strings and properties: a negative one means none.
    ("22000000 ffffffff", v.PackedStringArray(())),
    # A PackedByteArray's padding may be missing at the end of the buffer.
    ("1d000000 01000000 61", b"a"),
    # Colours and integer vectors ignore the 64-bit flag.
    ("06000100 01000000 02000000", v.Vector2i(1, 2)),
    # A key given twice: first place, last value; a StringName is the same key as the String.
    (
        "1b000000 02000000 04000000 01000000 61000000 02000000 01000000"
        "15000000 01000000 61000000 02000000 02000000",
        v.Dictionary({"a": 2}),
    ),
]


@pytest.mark.parametrize(("text", "value"), LENIENT, ids=lambda part: repr(part)[:40])
def test_what_only_godot_reads_is_read_too(text: str, value: v.Value) -> None:
    assert v.decode(bytes.fromhex(text.replace(" ", ""))) == value


def test_one_and_one_point_zero_and_true_are_three_keys() -> None:
    made = v.Dictionary([(1, "i"), (1.0, "f"), (True, "b"), (math.nan, "n"), (math.nan, "m")])
    decoded = v.decode(v.encode(made))
    assert isinstance(decoded, v.Dictionary)
    assert decoded.pairs[:3] == ((1, "i"), (1.0, "f"), (True, "b"))
    assert len(made) == 4
    assert (made[1], made[1.0], made[True], made[math.nan]) == ("i", "f", "b", "m")


def test_a_signalling_nan_keeps_its_payload() -> None:
    data = struct.pack("<III", 5, 0x7F800001, 0xFF923456)
    assert v.encode(v.decode(data)) == data
