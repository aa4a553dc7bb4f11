"""A layout says what bytes mean: built-in ones agree with whoever made the bytes, a bad one is refused by name."""

from __future__ import annotations

import json
import math
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import limits
from gateway.cli._motion import Avatars
from gateway.errors import Unprocessable
from gateway.wire.layouts import DOCUMENTS, TYPES, kept, parse, resolve
from gateway.wire.layouts.fields import NUMBERS
from gateway.wire.variant import Transform3D, encode
from gateway.wire.xrgrid import EntityPacket


def layout(*fields: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"fields": list(fields), **more}


def test_the_demos_walkers_are_read_as_they_were_written() -> None:
    avatars = resolve("avatars")
    for record in Avatars(3, bones=4, hz=60).frame(120).values():
        told, values = EntityPacket.decode(record).as_json(), avatars.read(record)
        assert values["position"] == pytest.approx(told["position_m"])
        assert values["velocity"] == pytest.approx(told["velocity_m_per_tick"], abs=1e-6)
        assert (values["frame"], values["counter"]) == (told["frame"], told["counter"])
        assert (values["kind"], values["owner"]) == (1, int(values["player"].removeprefix("avatar-")))  # type: ignore[attr-defined]
        assert avatars.place(record) == pytest.approx(told["position_m"])
        assert avatars.label is not None
        assert avatars.label.read(record) == values["player"]
        assert abs(avatars.heading[0].of(record) or 0) <= math.pi


def test_a_packet_of_a_walker_is_told_in_metres_and_its_clock_by_frame_and_counter() -> None:
    packet = EntityPacket(7, (1_500_000, -1, 0), (32_767, -1, 0), 0x0102_03FE, 9, 4, (1, -2, 3), b"\1\0\2")
    assert EntityPacket.decode(packet.encode()).as_json() == {
        "global_id": 7,
        "position_m": [1.5, -0.000001, 0.0],
        "velocity_m_per_tick": [0.5, -0.000015, 0.0],
        "frame": 0x0102_03,
        "counter": 0xFE,
        "class_owner": 9,
        "sub_index": 4,
        "rotation_swing_twist": [1, -2, 3],
        "payload": "010002",
    }


def test_a_variant_transform_says_where_it_is_and_which_way_it_looks() -> None:
    turned = 0.5
    basis = (math.cos(turned), 0, math.sin(turned), 0, 1, 0, -math.sin(turned), 0, math.cos(turned))
    record = encode(Transform3D(*basis, 1.5, 2.5, -3.5))
    found = resolve("transform3d")
    assert found.place(record) == (1.5, 2.5, -3.5)
    sine, cosine = (one.of(record) for one in found.heading)
    assert math.atan2(sine or 0, cosine or 0) == pytest.approx(turned)
    assert found.place(b"\x12\0\0\0") is None
    assert found.read(b"no variant") == {"transform": None}


@pytest.mark.parametrize("kind", NUMBERS)
def test_every_type_of_number_is_read_little_endian(kind: str) -> None:
    code, count = NUMBERS[kind]
    values = tuple(range(1, count + 1))
    found = parse(layout({"name": "f", "type": kind, "offset": 3}))
    record = b"..." + struct.pack(f"<{count}{code}", *values)
    assert found.read(record) == {"f": list(values) if count > 1 else 1}
    assert found.read(record[:-1]) == {"f": None}, "too short a record says nothing"
    json.dumps(found.read(b"\xff" * len(record)), allow_nan=False)


def test_scale_bits_text_and_bytes() -> None:
    found = parse(
        layout(
            {"name": "low", "type": "u8", "offset": 0, "bits": [0, 4]},
            {"name": "high", "type": "u8", "offset": 0, "bits": [4, 4], "scale": 0.5},
            {"name": "name", "type": "text", "offset": 1, "bytes": 4},
            {"name": "rest", "type": "bytes", "offset": 5},
        )
    )
    assert found.read(b"\xa3ab\0c\x01\x02") == {"low": 3, "high": 5.0, "name": "ab", "rest": "0102"}
    assert found.read(b"\xa3a\xff\0c") == {
        "low": 3,
        "high": 5.0,
        "name": "a\N{REPLACEMENT CHARACTER}",
        "rest": "",
    }


OK = {"name": "f", "type": "u8", "offset": 0}


@pytest.mark.parametrize(
    ("document", "named"),
    [
        (7, "7"),
        ([], "list"),
        ({}, "fields"),
        ({"fields": []}, "fields"),
        ({"fields": "f"}, "fields"),
        ({"fields": [7]}, "7"),
        ({"fields": [OK], "colour": 1}, "colour"),
        ({"fields": [OK, OK]}, "'f' is there twice"),
        (layout({**OK, "name": "a b"}), "'a b'"),
        (layout({**OK, "name": "x" * 64}), "xxx"),
        (layout({**OK, "type": "u128"}), "'u128'"),
        (layout({**OK, "type": ["u8"]}), "list"),
        (layout({**OK, "offset": -1}), "-1"),
        (layout({**OK, "offset": True}), "True"),
        (layout({**OK, "offset": 65_536}), "65536"),
        (layout({"name": "f", "type": "u8"}), "offset"),
        (layout({**OK, "count": 0}), "count"),
        (layout({**OK, "count": limits.LAYOUT_COUNT_MAX + 1}), "17"),
        (layout({**OK, "scale": 0}), "scale"),
        (layout({**OK, "scale": "1"}), "scale"),
        (layout({**OK, "bytes": 4}), "bytes"),
        (layout({**OK, "type": "text", "count": 2}), "count"),
        (layout({**OK, "bits": [4, 5]}), "4 to 8"),
        (layout({**OK, "bits": [0]}), "bits"),
        (layout({**OK, "type": "i8", "bits": [0, 4]}), "i8"),
        (layout(OK, position="g"), "'g'"),
        (layout(OK, position="f"), "position has 1"),
        (layout(OK, position=["f", "f.1"]), "'1'"),
        (layout(OK, position=["f", "f.\u0661"]), "component"),
        (layout(OK, position=7), "7"),
        (layout({**OK, "type": "text"}, heading="f"), "no numbers"),
        (layout(OK, label="g"), "'g'"),
        (layout(OK, up="x"), "'x'"),
        (layout(OK, name="n" * 64), "name"),
        (layout({**OK, "unit": 7}), "unit"),
        (layout(*({**OK, "name": f"f{n}"} for n in range(limits.LAYOUT_FIELDS_MAX + 1))), "129 fields"),
        (layout(OK, label="x" * limits.LAYOUT_BYTES_MAX), "bytes"),
        ("nobody", "'nobody'"),
    ],
)
def test_what_is_no_layout_is_refused_by_name(document: object, named: str) -> None:
    with pytest.raises(Unprocessable) as refused:
        resolve(document)
    assert named in refused.value.message
    assert len(refused.value.message) < 600


def test_bounds_are_taken_to_the_last() -> None:
    parse(layout(*({**OK, "name": f"f{n}"} for n in range(limits.LAYOUT_FIELDS_MAX))))
    parse(layout({**OK, "count": limits.LAYOUT_COUNT_MAX, "offset": limits.LAYOUT_RECORD_BYTES_MAX}))
    parse(layout(OK, name="n" * limits.LAYOUT_NAME_CHARS_MAX))


@pytest.mark.parametrize("name", DOCUMENTS)
def test_what_is_kept_is_read_again(name: str) -> None:
    found = resolve(name)
    assert kept(found.text()) == found
    assert found.name == name


@pytest.mark.parametrize(
    "text", [None, "", "{", '{"fields": 7}', '{"fields": [{"name": "f", "type": "u512", "offset": 0}]}']
)
def test_what_a_newer_gateway_kept_spoils_nothing(text: str | None) -> None:
    assert kept(text) is None


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(TYPES),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["fields", "name", "type", "offset", "bits", "count", "position"]), inner
        )
    ),
    max_leaves=12,
)


@given(anything, st.binary(max_size=40))
def test_no_document_fails_but_by_a_refusal(document: object, record: bytes) -> None:
    try:
        found = resolve(document)
    except Unprocessable:
        return
    json.dumps(found.read(record), allow_nan=False)


@given(st.binary(max_size=120), st.sampled_from(sorted(DOCUMENTS)))
def test_no_record_fails(record: bytes, name: str) -> None:
    found = resolve(name)
    json.dumps(found.read(record), allow_nan=False)
    found.place(record)


@pytest.mark.parametrize(
    ("bits", "is_taken"),
    [
        ([0, 1], True),
        ([7, 1], True),
        ([0, 8], True),
        ([8, 1], False),
        ([0, 9], False),
        ([0, 0], False),
        ([-1, 2], False),
    ],
)
def test_bits_are_taken_to_the_last_of_their_number_and_no_further(bits: list[int], is_taken: bool) -> None:
    document = layout({"name": "f", "type": "u8", "offset": 0, "bits": bits})
    if is_taken:
        assert parse(document).read(b"\xff") == {"f": (1 << bits[1]) - 1}
    else:
        with pytest.raises(Unprocessable, match="are not all in its 8"):
            parse(document)


def test_a_document_of_just_the_bound_is_taken_and_one_byte_more_is_not() -> None:
    fields = [{"name": f"f{n}", "type": "u8", "offset": n, "unit": "m" * 60} for n in range(120)]
    while len(json.dumps(layout(*fields))) > limits.LAYOUT_BYTES_MAX:
        fields.pop()
    missing = limits.LAYOUT_BYTES_MAX - len(json.dumps(layout(*fields)))
    for field in fields:
        more = min(missing, 50)
        field["name"], missing = f"{field['name']}{'x' * more}", missing - more
    assert len(parse(layout(*fields)).fields) == len(fields)
    fields[-1]["name"] = f"{fields[-1]['name']}y"
    with pytest.raises(Unprocessable, match=f"{limits.LAYOUT_BYTES_MAX + 1} bytes; at most"):
        parse(layout(*fields))
