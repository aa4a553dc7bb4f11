"""Variants under hypothesis: round trips, hostile bytes, depth, memory."""

from __future__ import annotations

import struct
import time
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import Unprocessable
from gateway.wire import variant as v
from gateway.wire.variant.fixed import FIXED
from gateway.wire.variant.packed import PACKED

texts = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), max_size=12)
u64 = st.integers(0, (1 << 64) - 1)
singles = st.floats(width=32)


@st.composite
def fixed(draw: st.DrawFn) -> v.Value:
    cls = draw(st.sampled_from(list(FIXED.values())))
    number: st.SearchStrategy[Any] = st.integers(-(1 << 31), (1 << 31) - 1) if cls.INTEGER else singles
    return cls(*draw(st.lists(number, min_size=cls.COUNT, max_size=cls.COUNT)), wide=draw(st.booleans()))


@st.composite
def packed(draw: st.DrawFn) -> v.Value:
    cls = draw(st.sampled_from(list(PACKED.values())))
    wide = draw(st.booleans()) and cls.has_width()
    return cls.from_raw(draw(st.binary(max_size=2)) * cls.stride(wide), wide)


leaves = st.one_of(
    st.none(), st.booleans(), st.integers(-(1 << 63), (1 << 63) - 1), st.floats(), texts,
    st.binary(max_size=12), fixed(), packed(), texts.map(v.StringName), u64.map(v.RID), u64.map(v.ObjectId),
    st.builds(v.Callable), st.builds(v.Signal, texts, u64),
    st.builds(lambda a: v.PackedStringArray(tuple(a)), st.lists(texts, max_size=3)),
    st.builds(lambda a, b, c: v.NodePath(tuple(a), tuple(b), c), st.lists(texts, max_size=3), st.lists(texts, max_size=2), st.booleans()),
)  # fmt: skip
declared = st.one_of(
    st.none(),
    st.builds(lambda n: v.ContainerType(v.BUILTIN, n), st.integers(0, 38)),
    st.builds(
        lambda kind, name: v.ContainerType(kind, 24, name), st.sampled_from([v.CLASS_NAME, v.SCRIPT]), texts
    ),
)
values = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.builds(v.Array, st.lists(inner, max_size=4), declared),
        st.builds(v.Dictionary, st.lists(st.tuples(inner, inner), max_size=4), declared, declared),
        st.builds(v.EncodedObject, texts, st.lists(st.tuples(texts, inner), max_size=3)),
    ),
    max_leaves=12,
)


def plain(value: v.Value) -> bool:
    return value == value


@given(values)
def test_decode_of_encode_is_the_value_itself(value: v.Value) -> None:
    back = v.decode(v.encode(value))
    assert type(back) is type(value)
    assert back == value or not plain(value)


@given(values)
def test_encode_of_decode_is_the_canonical_bytes(value: v.Value) -> None:
    data = v.encode(value)
    assert len(data) % 4 == 0
    assert v.encode(v.decode(data)) == data


@given(
    leaves.filter(lambda value: not isinstance(value, v.Fixed | v.Packed | float))
    | st.floats(allow_nan=False)
)
def test_json_goes_both_ways_for_what_stands_alone(value: v.Value) -> None:
    assert v.encode(v.from_json(v.to_json(value))) == v.encode(value)


@given(values)
def test_json_is_stable(value: v.Value) -> None:
    text = v.to_json(value)
    assert v.to_json(v.from_json(text)) == text


@given(values, st.binary(max_size=8))
def test_a_prefix_is_read_and_what_follows_is_left(value: v.Value, rest: bytes) -> None:
    data = v.encode(value)
    assert v.decode_prefix(b"head" + data + rest, 4)[1] == 4 + len(data)
    if rest:
        with pytest.raises(Unprocessable) as caught:
            v.decode(data + rest)
        assert caught.value.facts["offset"] == len(data)


def fault_offset(data: bytes) -> int | None:
    try:
        v.decode(data)
    except Unprocessable as error:
        return int(error.facts["offset"])
    return None


@given(values.map(v.encode), st.data())
def test_every_cut_is_refused_with_its_offset(data: bytes, pick: st.DataObject) -> None:
    cut = pick.draw(st.integers(0, len(data) - 1))
    offset = fault_offset(data[:cut])
    # (the last PackedByteArray's padding may be missing)
    assert len(data) - cut < 4 if offset is None else 0 <= offset <= cut


@given(st.binary(max_size=200))
def test_any_bytes_give_a_value_or_unprocessable(data: bytes) -> None:
    try:
        value = v.decode(data)
    except Unprocessable:
        return
    repr(value)
    v.to_json(value)
    assert v.decode(v.encode(value)) is not None or value is None


@given(
    st.lists(
        st.one_of(st.integers(0, 40), st.sampled_from([0x10000, 0x50000, 0x80000000, 1 << 31, 4, 8])),
        max_size=60,
    )
)
def test_any_plausible_words_give_a_value_or_unprocessable(words: list[int]) -> None:
    try:
        v.encode(v.decode(struct.pack(f"<{len(words)}I", *words)))
    except Unprocessable:
        pass


@given(st.text(max_size=60) | st.text(alphabet='[]{}",:@v0129.eE-ntrufalse \\', max_size=60))
def test_any_text_gives_a_value_or_unprocessable_as_json(text: str) -> None:
    try:
        v.from_json(text)
    except Unprocessable:
        pass


def nested(depth: int) -> bytes:
    return struct.pack("<II", 28, 1) * (depth - 1) + struct.pack("<II", 28, 0)


def test_nesting_goes_to_godots_depth_and_no_further() -> None:
    deepest = v.decode(nested(1025))
    assert v.encode(deepest) == nested(1025)
    assert v.encode(v.from_json(v.to_json(deepest))) == nested(1025)
    assert deepest == v.decode(nested(1025))
    assert len(repr(deepest)) > 1025
    assert hash(deepest)
    with pytest.raises(Unprocessable, match="deeper than 1,024"):
        v.decode(nested(1026))
    with pytest.raises(Unprocessable, match="deep"):
        v.encode(v.Array([deepest]))


def test_a_list_that_holds_itself_is_refused() -> None:
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(Unprocessable):
        v.encode(endless)


@pytest.mark.parametrize("kind", [4, 21, 22, 24, 27, 28, *range(29, 39)])
def test_a_count_of_two_thousand_million_costs_no_memory(kind: int) -> None:
    data = struct.pack("<IIII", kind, 0x7FFFFFFF, 0x7FFFFFFF, 0)
    tracemalloc.start()
    with pytest.raises(Unprocessable):
        v.decode(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100_000


def test_a_megabyte_of_hostile_bytes_costs_a_bounded_multiple() -> None:
    data = struct.pack("<II", 28, 131_000) + struct.pack("<II", 28, 0) * 131_000
    tracemalloc.start()
    v.decode(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 40 * len(data)


def test_dictionaries_nested_in_their_own_keys_cost_size_not_depth_times_size() -> None:
    """Each level a dictionary whose one key is the next level, around a large string."""
    data = struct.pack("<III", 4, 900_000, 0) + bytes(899_996)
    for _ in range(1000):
        data = struct.pack("<II", 27, 1) + data + struct.pack("<I", 0)
    began = time.process_time()
    assert v.encode(v.decode(data))
    assert time.process_time() - began < 5


@pytest.mark.parametrize(
    ("text", "offset"),
    [
        ("", 0), ("0400", 0), ("27000000", 0), ("ff000000", 0), ("02000000 0000", 4),
        ("04000000 05000000 61626364", 4), ("04000000 01000000 ff000000", 8),
        ("16000000 04000000", 4), ("1c000000 02000000 00000000", 4),
        ("1c000000 01000000 63000000", 8), ("1c000100 27000000 00000000", 4), ("1e000000 ffffffff", 4),
    ],
)  # fmt: skip
def test_a_fault_is_named_with_its_offset(text: str, offset: int) -> None:
    with pytest.raises(Unprocessable) as caught:
        v.decode(bytes.fromhex(text.replace(" ", "")))
    assert caught.value.facts["offset"] == offset
    assert str(offset) in caught.value.message


@pytest.mark.parametrize("value", [1 << 63, "a\0b", "\ud800", object(), {1, 2}, v.RID(-1)])
def test_what_no_variant_holds_is_refused(value: Any) -> None:
    with pytest.raises(Unprocessable):
        v.encode(value)


@pytest.mark.parametrize(
    "text",
    [
        '{"@": "Vector3", "v": [1, 2]}', '{"@": "Vector9"}', '{"@": "Vector2i", "v": [1.5, 2]}', '{"@": 1}',
        '{"@": "PackedByteArray", "v": "!"}', '{"@": "Array", "of": "NOPE", "v": []}', '{"@": "RID", "v": "-1"}',
        '{"@": "Dictionary", "v": [[1]]}', '{"@": "PackedVector2Array", "v": [1, 2, 3]}', "[1,]", "[", "NaN",
        '{"a" 1}', "1 2", '"\\ud8"', "9" * 5000, "[" * 5000,
    ],
)  # fmt: skip
def test_json_that_is_no_variant_is_refused(text: str) -> None:
    with pytest.raises(Unprocessable):
        v.from_json(text)


def test_values_print_well() -> None:
    made = v.Dictionary({"at": v.Vector3(1, 2, 3), "tags": ["a"]})
    assert repr(made) == "Dictionary([('at', Vector3(1.0, 2.0, 3.0)), ('tags', Array(['a']))])"
    assert repr(v.Vector2(1, 2, wide=True)) == "Vector2(1.0, 2.0, wide=True)"
    assert v.Vector3(1, 2, 3).y == 2.0
    assert v.to_json(made) == '{"at": {"@": "Vector3", "v": [1.0, 2.0, 3.0]}, "tags": ["a"]}'
