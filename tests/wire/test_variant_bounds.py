"""Variants at their bounds: what just fits and what is one over, which keys are one, how a fault is told, how values show."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from typing import Any

import pytest

from gateway.errors import Unprocessable
from gateway.limits import VARIANT_HASHED_KEY_BYTES_MAX, VARIANT_JSON_DEPTH_MAX, VARIANT_REPR_CHARS_MAX
from gateway.wire import variant as v
from gateway.wire.variant.jsonform import SAFE_INTEGER

U64 = (1 << 64) - 1


def data_of(text: str) -> bytes:
    return bytes.fromhex(text.replace(" ", ""))


def refused(call: Callable[[], object]) -> Unprocessable:
    with pytest.raises(Unprocessable) as caught:
        call()
    return caught.value


# --- bytes ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1c000000 01000000 00000000", v.Array([None])),
        ("1b000000 01000000 00000000 00000000", v.Dictionary([(None, None)])),
        ("18000000 01000000 4e000000 01000000 00000000 00000000", v.EncodedObject("N", [("", None)])),
        ("18000000 01000000 4e000000 ffffffff", v.EncodedObject("N")),
        ("22000000 01000000 00000000", v.PackedStringArray(("",))),
        ("16000000 01000080 01000000 00000000 00000000 00000000", v.NodePath(("",), ("",))),
        ("16000000 00000080 00000000 02000000 00000000", v.NodePath((), ("",))),
        ("1d000000 03000000 01020300", b"\1\2\3"),
        ("1e000000 01000000 01000000", v.PackedInt32Array([1])),
    ],
)
def test_a_count_that_just_fits_is_read(text: str, value: v.Value) -> None:
    data = data_of(text)
    assert v.decode(data) == value
    assert v.decode_prefix(data + bytes(4))[1] == len(data)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("010000", "a Variant's header needs 4 bytes, 3 are left at offset 0"),
        ("27000000", "there is no Variant type 39; the last one is 38 at offset 0"),
        ("02000100 00000000", "INT needs 8 bytes, 4 are left at offset 4"),
        ("1c000000 02000000 00000000", "a count of 2 needs 8 bytes, 4 are left at offset 4"),
        ("1b000000 01000000 00000000", "a count of 1 needs 8 bytes, 4 are left at offset 4"),
        ("24000100 01000000" + "00" * 23, "a count of 1 needs 24 bytes, 23 are left at offset 4"),
        ("22000000 00000001", "a count of 16777216 needs 67108864 bytes, 0 are left at offset 4"),
        ("22000000 000080", "a count needs 4 bytes, 3 are left at offset 4"),
        ("04000000 05000000 61626364 65", "a string of 5 bytes and its padding, 5 are left at offset 4"),
        ("04000000 0300", "the length of a string needs 4 bytes, 2 are left at offset 4"),
        ("04000000 04000000 6162ff64", "a string that is not UTF-8 at offset 10"),
        ("16000000 01000000", "a NodePath in the format before Godot 2.1 at offset 4"),
        (
            "16000000 01000080 01000000 00000000 00000000",
            "a NodePath of 2 names, 4 bytes are left at offset 4",
        ),
        (
            "16000000 00000080 00000000 02000000",
            "a NodePath of 1 names, 0 bytes are left at offset 4",
        ),
        ("1c000100 27000000 00000000", "there is no Variant type 39 for a container to hold at offset 4"),
        (
            "18000000 01000000 4e000000 01000000 00000000",
            "a count of 1 needs 8 bytes, 4 are left at offset 12",
        ),
    ],
)
def test_what_is_one_over_is_refused_by_name_and_place(text: str, says: str) -> None:
    error = refused(lambda: v.decode(data_of(text)))
    assert error.message == f"not a Godot Variant: {says}"
    assert error.facts["offset"] == int(says.rpartition(" ")[2])


def test_bytes_behind_a_value_are_counted() -> None:
    error = refused(lambda: v.decode(bytes(7)))
    assert error.message == "3 bytes follow the Variant, which ends at offset 4"
    assert error.facts["offset"] == 4


def test_a_type_of_the_last_number_may_be_held_by_a_container() -> None:
    assert v.decode(data_of("1c000100 26000000 00000000")) == v.Array([], v.ContainerType(v.BUILTIN, 38))


def test_a_negative_count_takes_its_four_bytes_and_the_next_value_follows() -> None:
    data = data_of("1c000000 02000000 22000000 00000080 02000000 05000000")
    assert v.decode(data) == v.Array([v.PackedStringArray(()), 5])


def test_padding_of_bytes_is_passed_over_where_something_follows() -> None:
    data = data_of("1c000000 02000000 1d000000 05000000 0102030405ffffff 02000000 05000000")
    assert v.decode(data) == v.Array([b"\1\2\3\4\5", 5])


def test_nothing_is_nested_deeper_than_godot_does_by_writing_either() -> None:
    deep: Any = v.Array()
    for _ in range(1024):
        deep = v.Array([deep])
    assert v.decode(v.encode(deep)) == deep
    error = refused(lambda: v.encode([deep]))
    assert error.message == "a Variant nests at most 1,024 deep; this one goes deeper"
    data = struct.pack("<II", 28, 1) * 1025 + bytes(4)
    assert refused(lambda: v.decode(data)).facts["offset"] == 8 * 1024


# --- numbers and text -----------------------------------------------------------------------


@pytest.mark.parametrize("make", [v.RID, v.ObjectId, lambda number: v.Signal("s", number)])
def test_an_id_has_64_bits_and_no_sign(make: Callable[[int], v.Value]) -> None:
    for number in (0, U64):
        assert v.decode(v.encode(make(number))) == make(number)
        assert v.from_json(v.to_json(make(number))) == make(number)
    for number in (-1, U64 + 1):
        assert f"not {number}" in refused(lambda number=number: v.encode(make(number))).message  # type: ignore[misc]
        refused(lambda number=number: v.from_json(v.to_json(make(number))))  # type: ignore[misc]


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (1 << 63, "an INT has 64 bits with a sign; one of 64 bits does not fit"),
        (-(1 << 63) - 1, "an INT has 64 bits with a sign; one of 64 bits does not fit"),
        ("a\0b", "a Godot string ends at the first NUL; 'a\\x00b' has one inside"),
        ("x" * 40 + "\0", f"a Godot string ends at the first NUL; {'x' * 40!r} has one inside"),
        ("ab\udc00", "a string holds a lone surrogate at 2: not text"),
        ({1, 2}, "no Variant holds a Python set"),
    ],
)
def test_what_cannot_be_written_is_said(value: Any, says: str) -> None:
    assert refused(lambda: v.encode(value)).message == says


@pytest.mark.parametrize("value", [-(1 << 63), (1 << 63) - 1, -(1 << 31) - 1, 1 << 31])
def test_the_largest_and_the_least_integers_of_eight_bytes_are_written(value: int) -> None:
    assert v.encode(value) == struct.pack("<Iq", 2 | 1 << 16, value)


def test_a_float_too_large_for_four_bytes_is_written_in_eight() -> None:
    assert v.encode(1e300) == struct.pack("<Id", 3 | 1 << 16, 1e300)
    assert v.encode(bytearray(b"ab")) == v.encode(b"ab")


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: v.Vector3(1, 2), "Vector3 has 3 components, not 2"),
        (lambda: v.Vector2(1, 2, 3), "Vector2 has 2 components, not 3"),
        (lambda: v.Vector2i(1.5, 2), "Vector2i takes 32-bit components; (1.5, 2) do not fit"),
        (lambda: v.Vector2i(1 << 31, 0), "Vector2i takes 32-bit components; (2147483648, 0) do not fit"),
        (lambda: v.Vector2(1e300, 0), "Vector2 takes 32-bit components; (1e+300, 0) do not fit"),
        (
            lambda: v.PackedInt64Array([1, 2, 3, 4, 1 << 63]),
            "PackedInt64Array takes 64-bit components; (1, 2, 3, 4) do not fit",
        ),
        (lambda: v.PackedVector2Array([(1, 2, 3)]), "an element of PackedVector2Array has 2 components, not 3"),
        (lambda: v.PackedColorArray([1]), "an element of PackedColorArray has 4 components, not 0"),
    ],
)  # fmt: skip
def test_components_that_do_not_fit_are_named(make: Callable[[], object], says: str) -> None:
    assert refused(make).message == says


# --- values that are packed -----------------------------------------------------------------


def test_vectors_know_their_components_by_name_and_in_order() -> None:
    at = v.Vector3(1, 2, 3)
    assert (at.x, at.y, at.z, tuple(at), at.components) == (1.0, 2.0, 3.0, (1.0, 2.0, 3.0), (1.0, 2.0, 3.0))
    assert v.Color(1, 0, 0, 0.5).a == 0.5
    with pytest.raises(AttributeError, match="w"):
        _ = at.w
    assert not hasattr(v.Basis(*range(9)), "x")


def test_only_what_has_a_wide_form_is_wide() -> None:
    assert v.Vector2(1, 2, wide=True).wide
    assert not v.Vector2(1, 2).wide
    assert not v.Vector2i(1, 2, wide=True).wide
    assert not v.Color(1, 2, 3, 4, wide=True).wide
    assert v.PackedVector3Array([(1, 2, 3)], wide=True).wide
    assert not v.PackedVector3Array([(1, 2, 3)]).wide
    for narrow in (v.PackedColorArray([(1, 2, 3, 4)], wide=True), v.PackedFloat64Array([1], wide=True)):
        assert not narrow.wide
        assert v.decode(v.encode(narrow)) == narrow
    flagged = data_of("25000100 01000000") + struct.pack("<4f", 1, 2, 3, 4)
    assert v.decode(flagged) == v.PackedColorArray([(1, 2, 3, 4)])
    assert v.decode(data_of("14000100") + struct.pack("<4f", 1, 2, 3, 4)) == v.Color(1, 2, 3, 4)


def test_packed_values_are_equal_by_type_width_and_bits() -> None:
    alike = [
        (v.Vector2(1, 2), v.Vector2(1, 2), True),
        (v.Vector2(1, 2), v.Vector2(1, 3), False),
        (v.Vector4(1, 2, 3, 4), v.Plane(1, 2, 3, 4), False),
        (v.Vector4(0, 0, 0, 0), v.Vector2(0, 0, wide=True), False),
        (v.Vector2(0, 0), v.PackedFloat32Array([0, 0]), False),
        (v.PackedInt32Array([1]), v.PackedInt32Array([1]), True),
        (v.PackedInt32Array([1]), v.PackedInt32Array([2]), False),
        (v.PackedInt32Array([0]), v.PackedFloat32Array([0]), False),
        (v.PackedVector2Array([(0, 0)] * 2), v.PackedVector2Array([(0, 0)], wide=True), False),
        (v.Vector2(1, 2), (1.0, 2.0), False),
        (v.PackedInt32Array([1]), [1], False),
    ]
    assert [(left == right) for left, right, _ in alike] == [is_same for *_, is_same in alike]
    for left, right, is_same in alike:
        if is_same:
            assert hash(left) == hash(right)
    distinct = [
        v.Vector4(0, 0, 0, 0),
        v.Plane(0, 0, 0, 0),
        v.PackedInt32Array([0]),
        v.PackedFloat32Array([0]),
    ]
    assert len(set(distinct)) == 4
    assert hash(v.Vector2(0, 0, wide=True)) != hash(v.Vector2(0, 0))
    assert hash(v.PackedVector2Array(wide=True)) != hash(v.PackedVector2Array())


def test_a_packed_array_is_as_long_as_its_elements_and_gives_them_one_by_one() -> None:
    numbers = v.PackedInt64Array([1, -2, 3])
    assert (len(numbers), list(numbers), numbers.components) == (3, [1, -2, 3], (1, -2, 3))
    for wide in (False, True):
        points = v.PackedVector2Array([(1, 2), (3, 4)], wide=wide)
        assert (len(points), points.components) == (2, (1.0, 2.0, 3.0, 4.0))
        assert list(points) == [v.Vector2(1, 2, wide=wide), v.Vector2(3, 4, wide=wide)]
    assert list(v.PackedColorArray([(1, 2, 3, 4)])) == [v.Color(1, 2, 3, 4)]
    assert v.PackedVector2Array([v.Vector2(1, 2)]) == v.PackedVector2Array([(1, 2)])


# --- keys of dictionaries -------------------------------------------------------------------


def pairs(*keys: bytes) -> v.Dictionary:
    """The dictionary of these keys, as bytes, to the numbers from 0 on."""
    data = struct.pack("<II", 27, len(keys))
    data += b"".join(key + v.encode(number) for number, key in enumerate(keys))
    decoded = v.decode(data)
    assert isinstance(decoded, v.Dictionary)
    return decoded


LONG = VARIANT_HASHED_KEY_BYTES_MAX


@pytest.mark.parametrize("size", [0, 4, LONG - 12, LONG - 8, LONG, 3 * LONG])
def test_containers_are_one_key_where_their_bytes_are_the_same(size: int) -> None:
    """Short ones and long ones, which are hashed by their ends only."""
    key = v.encode(v.Array([b"k" * size]))
    assert pairs(key, key).pairs == ((v.Array([b"k" * size]), 1),)
    assert pairs(key, v.encode(5), key, v.encode("x" * 700)).pairs == (
        (v.Array([b"k" * size]), 2),
        (5, 1),
        ("x" * 700, 3),
    )


def test_containers_that_differ_are_different_keys_also_where_their_ends_are_the_same() -> None:
    middles = [v.encode(v.Array([b"k" * LONG + middle + b"k" * LONG])) for middle in (b"a", b"b", b"ab")]
    assert [value for _, value in pairs(*middles).pairs] == [0, 1, 2]
    assert len(pairs(v.encode(v.Array([1])), v.encode(v.Array([1.0])), v.encode(v.Dictionary()))) == 3
    assert len(pairs(v.encode(v.Array([1])), v.encode(1))) == 2


def test_a_key_made_of_a_list_is_the_one_of_the_array_it_stands_for() -> None:
    made = v.Dictionary([([1], "list"), (v.Array([1]), "array"), ((1,), "tuple"), ({"a": 1}, "dict")])
    made = v.Dictionary([*made.pairs, (v.Dictionary({"a": 1}), "dictionary"), (v.Array([1.0]), "other")])
    assert [value for _, value in made.pairs] == ["tuple", "dictionary", "other"]
    assert made.get([1]) == made.get((1,)) == made[v.Array([1])] == "tuple"
    assert made.get({"a": 1}) == "dictionary"
    assert v.Dictionary([(b"b", 1), (bytearray(b"b"), 2)]).pairs == ((b"b", 2),)
    assert v.encode(v.decode(v.encode(made))) == v.encode(made)


def test_a_number_that_is_none_is_one_key_and_no_others() -> None:
    nans = [struct.pack("<Id", 3 | 1 << 16, math.nan), struct.pack("<IQ", 3 | 1 << 16, 0x7FF8_0000_0000_0001)]
    assert [value for _, value in pairs(*nans, v.encode(None), v.encode("nan"), nans[0]).pairs] == [4, 2, 3]
    assert pairs(v.encode(0.5), v.encode(1.5), v.encode(0.5)).pairs == ((0.5, 2), (1.5, 1))


def test_a_dictionary_has_what_it_was_given_and_no_more() -> None:
    made = v.Dictionary([("b", 1), (v.StringName("a"), 2), ("a", 3)])
    assert (len(made), list(made)) == (2, ["b", v.StringName("a")])
    assert (made["a"], made.get(v.StringName("b")), made.get("c"), made.get("c", 7)) == (3, 1, None, 7)
    with pytest.raises(KeyError, match="c"):
        made["c"]
    assert v.Dictionary([("n", None)])["n"] is None
    assert made == v.Dictionary({"b": 1, v.StringName("a"): 3})
    assert made != v.Dictionary({"b": 1})
    assert v.Dictionary({"b": 1}) == {"b": 1}
    assert (v.Dictionary() == 5) is False


def test_arrays_and_objects_have_what_they_were_given() -> None:
    made = v.Array([1, "b"])
    assert (len(made), list(made), made[1], made[-2]) == (2, [1, "b"], "b", 1)
    assert made == [1, "b"] == made
    assert hash(made) == hash(v.Array([1, "b"])) != hash(v.Array([1, "c"]))
    assert v.EncodedObject("", [("a", 1)]).properties == ()
    assert v.EncodedObject("Node", [("a", 1)]).properties == (("a", 1),)
    assert len(v.PackedStringArray(("a", "b"))) == 2
    assert list(v.PackedStringArray(("a", "b"))) == ["a", "b"]


def test_lists_and_dictionaries_of_python_are_written_as_what_they_stand_for() -> None:
    assert v.encode([1, {"a": (2,)}]) == v.encode(v.Array([1, v.Dictionary({"a": v.Array([2])})]))
    assert v.to_json([1, {"a": (2,)}]) == '[1, {"a": [2]}]'
    assert repr(v.Array([[1], {"a": (2,)}])) == "Array([Array([1]), Dictionary([('a', Array([2]))])])"


# --- how they show --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (v.Array([1, None, "a"]), "Array([1, None, 'a'])"),
        (
            v.Array([], v.ContainerType(v.BUILTIN, 2)),
            "Array([], element_type=ContainerType(kind=1, builtin=2, name=''))",
        ),
        (v.Dictionary([(1, 2), ("a", v.Array())]), "Dictionary([(1, 2), ('a', Array([]))])"),
        (
            v.Dictionary((), None, v.ContainerType(v.CLASS_NAME, 24, "Node")),
            "Dictionary([], value_type=ContainerType(kind=2, builtin=24, name='Node'))",
        ),
        (
            v.Dictionary((), v.ContainerType(v.BUILTIN, 4), None),
            "Dictionary([], key_type=ContainerType(kind=1, builtin=4, name=''))",
        ),
        (
            v.EncodedObject("N", [("a", 1), ("b", v.Array())]),
            "EncodedObject('N', [('a', 1), ('b', Array([]))])",
        ),
        (v.Vector2(1, 2), "Vector2(1.0, 2.0)"),
        (v.PackedInt32Array([1, 2]), "PackedInt32Array([1, 2])"),
        (v.PackedVector2Array([(1, 2)]), "PackedVector2Array([Vector2(1.0, 2.0)])"),
        (
            v.PackedVector2Array([(1, 2)], wide=True),
            "PackedVector2Array([Vector2(1.0, 2.0, wide=True)], wide=True)",
        ),
    ],
)
def test_a_value_shows_what_makes_it(value: v.Value, shown: str) -> None:
    assert repr(value) == shown


def test_what_shows_is_cut_at_its_bound_with_a_mark() -> None:
    around = len("Array([''])")
    fits = v.Array(["x" * (VARIANT_REPR_CHARS_MAX - around)])
    assert repr(fits) == f"Array([{'x' * (VARIANT_REPR_CHARS_MAX - around)!r}])"
    cut = repr(v.Array(["x" * (VARIANT_REPR_CHARS_MAX - around + 1)]))
    assert (len(cut), cut[-2:]) == (VARIANT_REPR_CHARS_MAX + 1, "]…")


# --- JSON -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (SAFE_INTEGER, str(SAFE_INTEGER)),
        (-SAFE_INTEGER, str(-SAFE_INTEGER)),
        (SAFE_INTEGER + 1, '{"@": "int", "v": "9007199254740992"}'),
        (-SAFE_INTEGER - 1, '{"@": "int", "v": "-9007199254740992"}'),
        (1.0, "1.0"),
        (math.inf, '{"@": "float", "v": "inf"}'),
        (-math.inf, '{"@": "float", "v": "-inf"}'),
        (b"ab", '{"@": "PackedByteArray", "v": "YWI="}'),
        (v.Vector2(math.inf, 1e20), '{"@": "Vector2", "v": ["inf", 1.0000000200408773e+20]}'),
        (v.Vector2(1, 2, wide=True), '{"@": "Vector2", "v": [1.0, 2.0], "wide": true}'),
        (
            v.PackedInt64Array([SAFE_INTEGER, SAFE_INTEGER + 1, -SAFE_INTEGER - 1]),
            '{"@": "PackedInt64Array", "v": [9007199254740991, "9007199254740992", "-9007199254740992"]}',
        ),
        (
            v.PackedVector2Array([(1, 2)], wide=True),
            '{"@": "PackedVector2Array", "v": [1.0, 2.0], "wide": true}',
        ),
        (v.PackedVector2Array([(1, 2), (3, 4)]), '{"@": "PackedVector2Array", "v": [1.0, 2.0, 3.0, 4.0]}'),
        (v.Array([1, v.Array()]), "[1, []]"),
        (v.Array([1, 2], v.ContainerType(v.BUILTIN, 2)), '{"@": "Array", "of": "INT", "v": [1, 2]}'),
        (
            v.Array([], v.ContainerType(v.SCRIPT, 24, "a.gd")),
            '{"@": "Array", "of": {"script": "a.gd"}, "v": []}',
        ),
        (v.Dictionary({"a": 1, "b": 2}), '{"a": 1, "b": 2}'),
        (v.Dictionary({"@": 1}), '{"@": "Dictionary", "v": [["@", 1]]}'),
        (v.Dictionary({1: 2, "b": 3}), '{"@": "Dictionary", "v": [[1, 2], ["b", 3]]}'),
        (
            v.Dictionary({"a": 1}, v.ContainerType(v.BUILTIN, 4)),
            '{"@": "Dictionary", "key": "STRING", "v": [["a", 1]]}',
        ),
        (
            v.Dictionary({"a": 1}, None, v.ContainerType(v.CLASS_NAME, 24, "Node")),
            '{"@": "Dictionary", "value": {"class": "Node"}, "v": [["a", 1]]}',
        ),
        (
            v.EncodedObject("N", [("a", 1), ("b", 2)]),
            '{"@": "EncodedObject", "class": "N", "properties": [["a", 1], ["b", 2]]}',
        ),
        (v.NodePath(("a",), (), True), '{"@": "NodePath", "names": ["a"], "subnames": [], "absolute": true}'),
        (
            v.NodePath(("a",), ("b",)),
            '{"@": "NodePath", "names": ["a"], "subnames": ["b"], "absolute": false}',
        ),
    ],
)
def test_a_value_and_its_json_stand_for_each_other(value: v.Value, text: str) -> None:
    assert v.to_json(value) == text
    back = v.from_json(text)
    assert (type(back), back) == (type(value), value)
    assert v.encode(back) == v.encode(value)


def test_what_no_variant_holds_has_no_json() -> None:
    assert refused(lambda: v.to_json({1, 2})).message == "no Variant holds a Python set"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (' \t\n\r{ "a" : [ 1 , 2 ] , "b" : { } } ', v.Dictionary({"a": [1, 2], "b": v.Dictionary()})),
        ('{"a":1,"b":[2,3]}', v.Dictionary({"a": 1, "b": v.Array([2, 3])})),
        ("[]", v.Array()),
        ("[ ]", v.Array()),
        ("[[], {}]", v.Array([v.Array(), v.Dictionary()])),
        ("[null, true, false]", v.Array([None, True, False])),
        ("-0", 0),
        ("-12", -12),
        ("1e2", 100.0),
        ("1E+2", 100.0),
        ("0.5", 0.5),
        ("-1.5e-1", -0.15),
        ('"\\u00e9\\n"', "é\n"),
        ('{"@": "int", "v": 7}', 7),
        ('{"@": "float", "v": 7}', 7.0),
        ('{"@": "float", "v": "nan"}', math.nan),
        ('{"@": "Vector2", "v": ["-7", "-1.5"]}', v.Vector2(-7, -1.5)),
        ('{"@": "Vector2i", "v": ["-7", "12"]}', v.Vector2i(-7, 12)),
        ('{"@": "Vector2", "v": [1, 2], "wide": false}', v.Vector2(1, 2)),
        ('{"a": 1, "a": 2}', v.Dictionary({"a": 2})),
        ('{"@": "Array", "of": null, "v": [1]}', v.Array([1])),
    ],
)
def test_json_is_read_by_its_grammar(text: str, value: v.Value) -> None:
    read = v.from_json(text)
    assert type(read) is type(value)
    assert v.encode(read) == v.encode(value)


@pytest.mark.parametrize(
    ("text", "says", "offset"),
    [
        ("", "a value is wanted at character 0", 0),
        ("  ", "a value is wanted at character 2", 2),
        ("1 2", "nothing may follow the value at character 2", 2),
        ("01", "nothing may follow the value at character 1", 1),
        ("[1", "a comma or the closing bracket is wanted at character 2", 2),
        ("[1}", "a comma or the closing bracket is wanted at character 2", 2),
        ('{"a": 1]', "a comma or the closing bracket is wanted at character 7", 7),
        ("[1,]", "a value is wanted at character 3", 3),
        ("[,1]", "a value is wanted at character 1", 1),
        ("[}", "a value is wanted at character 1", 1),
        ("{]", "a member's name is wanted at character 1", 1),
        ('{"a": 1,}', "a member's name is wanted at character 8", 8),
        ("{a: 1}", "a member's name is wanted at character 1", 1),
        ('{ "a"  1}', "a colon is wanted at character 7", 7),
        ('{"a"', "a colon is wanted at character 4", 4),
        ("NaN", "a value is wanted at character 0", 0),
        ("+1", "a value is wanted at character 0", 0),
        ("[" + "9" * 5000 + "]", "a number of too many digits at character 1", 1),
        ('"a\nb"', "a broken string at character 2", 2),
        ('"abc', "a broken string at character 0", 0),
        ('[ {"@": "Vector2", "v": [1]}]', "Vector2 has 2 components, not 1 (JSON at character 2)", 2),
        ('{"@": 1}', "there is no Variant type named 1 (JSON at character 0)", 0),
        ('{"@": "Vector9"}', "there is no Variant type named 'Vector9' (JSON at character 0)", 0),
        (
            '{"@": "PackedVector2Array", "v": [1, 2, 3]}',
            "members of a PackedVector2Array do not fit: ValueError('3 components are no multiple of 2') (JSON at character 0)",
            0,
        ),
    ],
)
def test_a_fault_of_json_is_named_with_its_place(text: str, says: str, offset: int) -> None:
    error = refused(lambda: v.from_json(text))
    assert error.message.removeprefix("not JSON: ") == says
    assert error.facts["offset"] == offset


@pytest.mark.parametrize(
    "text",
    [
        '{"@": "Vector2", "v": [true, 1]}', '{"@": "Vector2", "v": [null, 1]}', '{"@": "Vector2", "v": "12"}',
        '{"@": "Vector2", "v": ["x", 1]}', '{"@": "Vector2"}', '{"@": "int", "v": [1]}', '{"@": "int", "v": "x"}',
        '{"@": "float", "v": null}', '{"@": "RID", "v": "18446744073709551616"}', '{"@": "RID", "v": null}',
        '{"@": "StringName", "v": 1}', '{"@": "PackedStringArray", "v": [1]}', '{"@": "PackedStringArray", "v": "a"}',
        '{"@": "PackedByteArray", "v": 1}', '{"@": "PackedByteArray", "v": "YWI"}', '{"@": "Array", "v": []}',
        '{"@": "Array", "of": 2, "v": []}', '{"@": "Array", "of": {"shape": "a"}, "v": []}',
        '{"@": "Array", "of": {"class": 1}, "v": []}', '{"@": "Array", "of": {}, "v": []}', '{"@": "Array", "of": "INT", "v": 1}',
        '{"@": "Dictionary", "v": [[1, 2, 3]]}', '{"@": "Dictionary", "v": [1]}', '{"@": "EncodedObject", "class": "N", "properties": [[1, 2]]}',
        '{"@": "EncodedObject", "class": 1, "properties": []}', '{"@": "Signal", "name": 1, "object": "1"}',
        '{"@": "NodePath", "names": ["a"], "subnames": [1], "absolute": false}', '{"@": ["int"], "v": 1}',
    ],
)  # fmt: skip
def test_members_that_do_not_fit_their_type_are_refused(text: str) -> None:
    assert refused(lambda: v.from_json(text)).facts["offset"] == 0


def test_json_nests_so_deep_and_no_deeper() -> None:
    deepest = "[" * VARIANT_JSON_DEPTH_MAX + "]" * VARIANT_JSON_DEPTH_MAX
    assert v.to_json(v.from_json(deepest)) == deepest
    error = refused(lambda: v.from_json("[" + deepest + "]"))
    assert (
        error.message
        == f"not JSON: nested deeper than {VARIANT_JSON_DEPTH_MAX:,} at character {VARIANT_JSON_DEPTH_MAX}"
    )
    assert error.facts["offset"] == VARIANT_JSON_DEPTH_MAX


@pytest.mark.parametrize("kind", ["int", "float", "RID", "Object"])
@pytest.mark.parametrize("number", ["1e999", "1" + "0" * 400])
def test_numbers_beyond_every_type_are_refused_and_no_fault(kind: str, number: str) -> None:
    text = f'{{"@": "{kind}", "v": {number}}}'
    if kind == "float" and number == "1e999":
        assert v.from_json(text) == math.inf
    elif kind == "int" and number != "1e999":
        refused(lambda: v.encode(v.from_json(text)))
    else:
        assert refused(lambda: v.from_json(text)).facts["offset"] == 0
