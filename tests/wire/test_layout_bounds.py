"""Layouts at their bounds, what their fields are as columns, and how records are turned."""

from __future__ import annotations

import math
import struct
from typing import Any

import pytest

from gateway import limits
from gateway.errors import Unprocessable
from gateway.wire.layouts import parse
from gateway.wire.layouts.columns import columns_of
from gateway.wire.layouts.poses import conjugate, pose_of, rotated, times, unit
from gateway.wire.variant import Transform3D, Vector3, encode

U8 = {"name": "f", "type": "u8", "offset": 0}
FOUR = {"name": "v", "type": "f32", "offset": 0, "count": 4}


def layout(*fields: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"fields": list(fields), **more}


# --- documents ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("document", "named"),
    [
        (layout({**U8, "colour": 1}), "field f has no member 'colour'"),
        (layout({**U8, "name": "g"}, U8, U8), "field 'f' is there twice"),
        (layout(FOUR, position="v.0"), "position has 1 components"),
        (layout(FOUR, position=["v.0", "v.1", "v.2", "v.3"]), "position has 4 components"),
        (layout(FOUR, heading=["v.0", "v.1", "v.2"]), "heading has 3 components"),
        (layout(FOUR, heading=[]), "heading has 0 components"),
        (layout(FOUR, position=["v.0", "v.4"]), "has 0 to 3"),
        (layout(FOUR, position=["v.0", "v.001"]), "component '001'"),
        (layout({**U8, "unit": "u" * (limits.LAYOUT_NAME_CHARS_MAX + 1)}), "unit of field f"),
        (layout({**U8, "bits": [0, 0]}), "bits 0 to -1"),
        (layout({**U8, "bits": [-1, 2]}), "bits -1 to 0"),
        (layout({**U8, "bits": [1, 8]}), "bits 1 to 8"),
        (layout({**U8, "count": 2, "bits": [0, 9]}), "not all in its 8"),
        (layout({**U8, "scale": math.nan}), "scale"),
        (layout({**U8, "scale": True}), "scale"),
        (layout({**U8, "scale": 10**400}), "scale"),
        (layout({"name": "t", "type": "text", "offset": 0, "bytes": 65_536}), "65536"),
    ],
)
def test_what_is_one_over_is_refused_by_name(document: object, named: str) -> None:
    with pytest.raises(Unprocessable) as refused:
        parse(document)
    assert named in refused.value.message


@pytest.mark.parametrize(
    "document",
    [
        layout({**U8, "unit": "u" * limits.LAYOUT_NAME_CHARS_MAX}),
        layout({**U8, "name": "_" + "x" * 62}),
        layout({**U8, "bits": [0, 8]}),
        layout({**U8, "bits": [7, 1]}),
        layout({**U8, "count": 2, "bits": [0, 8]}),
        layout({**U8, "scale": -0.5}),
        layout({"name": "t", "type": "text", "offset": 0, "bytes": 0}),
    ],
)
def test_what_is_just_within_its_bounds_is_taken(document: object) -> None:
    parse(document)


@pytest.mark.parametrize(
    ("member", "reference", "indices"),
    [
        ("position", "v", [0, 1, 2]),
        ("position", ["v"], [0, 1, 2]),
        ("position", ["v.3", "v"], [3, 0]),
        ("position", ["v.3", "v.2", "v.01"], [3, 2, 1]),
        ("heading", "v", [0, 1]),
        ("heading", ["v.2"], [2]),
        ("position", None, []),
    ],
)
def test_components_are_named_by_field_and_index(member: str, reference: object, indices: list[int]) -> None:
    found = parse(layout(FOUR, **{member: reference}))
    components = found.position if member == "position" else found.heading
    assert [one.index for one in components] == indices


def test_a_record_of_four_numbers_is_where_its_first_three_say() -> None:
    found = parse(layout(FOUR, position="v"))
    assert found.place(struct.pack("<4f", 1, 2, 3, 4)) == (1.0, 2.0, 3.0)
    assert found.place(struct.pack("<4f", 1, math.nan, 3, 4)) is None
    assert found.place(b"short") is None


def test_a_variants_components_are_its_numbers() -> None:
    found = parse(layout({"name": "v", "type": "variant", "offset": 0}, position=["v.0", "v.2"]))
    assert found.place(encode(Vector3(1.0, 2.0, 3.0))) == (1.0, 3.0)
    assert found.place(encode("a text")) is None
    assert parse(layout({"name": "v", "type": "variant", "offset": 0}, heading="v")).heading[0].of(
        encode(2.5)
    ) == pytest.approx(2.5)


# --- columns --------------------------------------------------------------------------------

EVERY = layout(
    {"name": "a", "type": "u8", "offset": 0, "unit": "m"},
    {"name": "b", "type": "u64", "offset": 1},
    {"name": "c", "type": "u64", "offset": 1, "bits": [0, 4]},
    {"name": "d", "type": "u8", "offset": 0, "scale": 2},
    {"name": "e", "type": "f16", "offset": 9},
    {"name": "f", "type": "vec2", "offset": 11},
    {"name": "g", "type": "text", "offset": 19, "bytes": 3},
    {"name": "h", "type": "bytes", "offset": 22, "bytes": 2},
    {"name": "i", "type": "variant", "offset": 24},
)
RECORD = b"\x05" + struct.pack("<Q", 0xFF) + struct.pack("<e2f", 1.5, 2.5, 3.5) + b"ab\0\x01\x02"


def test_each_field_is_a_column_of_its_kind_and_of_its_unit() -> None:
    columns = columns_of(parse(EVERY))
    told = [(one.name, one.kind, one.unit) for one in columns.columns]
    assert told == [
        ("a", "int", "m"),
        ("b", "uint", ""),
        ("c", "int", ""),
        ("d", "float", ""),
        ("e", "float", ""),
        ("f_0", "float", ""),
        ("f_1", "float", ""),
        ("g", "text", ""),
        ("h", "bytes", ""),
        ("i", "json", ""),
    ]
    assert columns.names == tuple(name for name, _, _ in told)


def test_a_records_cells_are_its_values_and_of_a_short_one_nothing() -> None:
    columns = columns_of(parse(EVERY))
    values = [5, 255, 15, 10.0, 1.5, 2.5, 3.5, "ab", b"\x01\x02"]
    assert columns.cells(RECORD + encode("é")) == [*values, '"é"']
    assert columns.cells(RECORD) == [*values, None]
    assert columns.cells(b"") == [None] * 10
    assert columns.cells(None) == [None] * 10


def test_without_a_layout_a_record_is_its_bytes() -> None:
    columns = columns_of(None)
    assert ([one.kind for one in columns.columns], columns.cells(b"abc")) == (["bytes"], [b"abc"])
    assert columns.cells(None) == [None]


def test_a_name_that_is_taken_by_any_case_gets_an_underscore() -> None:
    fields = [{**U8, "name": name} for name in ("tick", "A", "a", "A_")]
    assert columns_of(parse(layout(*fields)), ("TICK",)).names == ("tick_", "A", "a_", "A__")


# --- poses ----------------------------------------------------------------------------------

HALF = math.sqrt(0.5)
QUARTER_TURNS = [(HALF, 0.0, 0.0, HALF), (0.0, HALF, 0.0, HALF), (0.0, 0.0, HALF, HALF)]
PLACE = {"name": "p", "type": "vec3", "offset": 0}


def posed(record: bytes, *fields: dict[str, Any], **more: Any) -> Any:
    return pose_of(parse(layout(PLACE, *fields, **{"position": "p", **more})), record)


@pytest.mark.parametrize(
    ("turn", "x", "y", "z"),
    [
        (QUARTER_TURNS[0], (1, 0, 0), (0, 0, 1), (0, -1, 0)),
        (QUARTER_TURNS[1], (0, 0, -1), (0, 1, 0), (1, 0, 0)),
        (QUARTER_TURNS[2], (0, 1, 0), (-1, 0, 0), (0, 0, 1)),
    ],
)
def test_a_quarter_turn_takes_each_axis_to_the_next(turn: Any, x: Any, y: Any, z: Any) -> None:
    for axis, after in zip(((1, 0, 0), (0, 1, 0), (0, 0, 1)), (x, y, z), strict=True):
        assert rotated(turn, axis) == pytest.approx(after)
        assert rotated(conjugate(turn), after) == pytest.approx(axis)


def test_of_two_turns_the_second_is_made_first() -> None:
    for a in QUARTER_TURNS:
        for b in QUARTER_TURNS:
            assert rotated(times(a, b), (1, 2, 3)) == pytest.approx(rotated(a, rotated(b, (1, 2, 3))))


@pytest.mark.parametrize(
    "numbers", [(0.0, 0.0, 0.0, 0.0), (math.nan, 0.0, 0.0, 1.0), (0.0, 0.0, 1.0), (1e-10, 0.0, 0.0, 0.0)]
)
def test_what_has_no_length_is_no_turn(numbers: Any) -> None:
    assert unit(numbers) is None
    assert unit((0.0, 3.0, 0.0, 4.0)) == pytest.approx((0.0, 0.6, 0.0, 0.8))


def test_a_layouts_quaternion_is_how_a_record_is_turned() -> None:
    quat = {"name": "q", "type": "quat", "offset": 12}
    for turn in QUARTER_TURNS:
        found = posed(struct.pack("<3f4f", 1, 2, 3, *turn), quat)
        assert found.place == (1, 2, 3)
        assert found.rotation == pytest.approx(turn)
    assert posed(struct.pack("<3f4f", 1, 2, 3, 0, 0, 0, 0), quat).rotation is None


def test_a_heading_turns_about_what_is_up() -> None:
    heading = {"name": "h", "type": "f32", "offset": 12}
    record = struct.pack("<4f", 1, 2, 3, math.pi / 2)
    assert rotated(posed(record, heading, heading="h").rotation, (0, 0, 1)) == pytest.approx(
        (1, 0, 0), abs=1e-6
    )
    found = posed(record, heading, heading="h", up="z")
    assert found.place == (1, 3, -2)
    assert rotated(found.rotation, (0, 0, 1)) == pytest.approx((0, 0, -1), abs=1e-6), (
        "along y, which is -z with y up"
    )
    two = {"name": "h", "type": "vec2", "offset": 12}
    sine_and_cosine = struct.pack("<5f", 1, 2, 3, 1, 0)
    assert posed(sine_and_cosine, two, heading="h").rotation == pytest.approx((0, HALF, 0, HALF))
    for broken in (record[:12], struct.pack("<4f", 1, 2, 3, math.nan)):
        assert posed(broken, heading, heading="h").rotation is None
    assert posed(record).rotation is None


def test_where_z_is_up_a_turn_is_the_same_turn_with_y_up() -> None:
    """What is not turned looks along +x there, and along +z here."""
    quat = {"name": "q", "type": "quat", "offset": 12}

    def looks(turn: Any) -> Any:
        return rotated(posed(struct.pack("<3f4f", 1, 2, 3, *turn), quat, up="z").rotation, (0, 0, 1))

    for turn in (*QUARTER_TURNS, (0.0, 0.0, 0.0, 1.0)):
        x, y, z = rotated(turn, (1, 0, 0))
        assert looks(turn) == pytest.approx((x, z, -y), abs=1e-6)


def test_two_numbers_lie_on_the_ground() -> None:
    flat = {"name": "p", "type": "vec2", "offset": 0}
    for up, place in (("y", (1, 0, 2)), ("z", (1, 0, -2))):
        found = pose_of(parse(layout(flat, position="p", up=up)), struct.pack("<2f", 1, 2))
        assert found is not None
        assert found.place == place
    assert pose_of(parse(layout(flat)), struct.pack("<2f", 1, 2)) is None


@pytest.mark.parametrize("scale", [1.0, 3.0])
@pytest.mark.parametrize(
    "turn",
    [
        (0.0, 0.0, 0.0, 1.0),
        *QUARTER_TURNS,
        (1.0, 0.0, 0.0, 0.0),
        (0.0, 1.0, 0.0, 0.0),
        (0.0, 0.0, 1.0, 0.0),
        (0.8, 0.4, 0.2, 0.4),
        (0.4, 0.8, 0.2, 0.4),
        (0.2, 0.4, 0.8, 0.4),
        (0.4, 0.2, 0.4, 0.8),
    ],
)
def test_a_basis_is_the_turn_that_takes_the_axes_to_it(turn: Any, scale: float) -> None:
    columns = [rotated(turn, axis) for axis in ((scale, 0, 0), (0, scale, 0), (0, 0, scale))]
    rows = [columns[column][row] for row in range(3) for column in range(3)]
    record = encode(Transform3D(*rows, 1.0, 2.0, 3.0))
    found = pose_of(
        parse(layout({"name": "t", "type": "variant", "offset": 0}, position=["t.9", "t.10", "t.11"])), record
    )
    assert found is not None
    assert found.place == (1, 2, 3)
    sign = 1 if sum(a * b for a, b in zip(found.rotation or (), turn, strict=True)) > 0 else -1
    assert found.rotation == pytest.approx([sign * one for one in turn], abs=1e-5)


def test_only_one_quaternion_is_how_a_record_is_turned() -> None:
    numbers = struct.pack("<3f8f", 1, 2, 3, *QUARTER_TURNS[0], *QUARTER_TURNS[1])
    for field in ({"type": "vec4"}, {"type": "quat", "count": 2}):
        assert posed(numbers, {"name": "q", "offset": 12, **field}).rotation is None
