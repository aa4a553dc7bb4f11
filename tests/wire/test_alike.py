"""Records that are read many at a time have the values that each has alone."""

from __future__ import annotations

import json
import math
import random
import struct
from typing import Any

import pytest

from gateway.wire.layouts import (
    AlikeRecords,
    Layout,
    by_lengths,
    columns_of,
    columns_together,
    parse,
    pose_of,
    poses_of,
    resolve,
)
from gateway.wire.layouts.fields import NUMBERS
from gateway.wire.variant import encode

SPECIAL = struct.pack("<8f", math.nan, math.inf, -math.inf, -0.0, 1e-40, 3.4e38, 1.5, 0.0)


def every_type() -> Layout:
    """A field of each type, over the same bytes; some scaled, some of bits, texts and bytes with and without an end."""
    fields: list[dict[str, object]] = [{"name": f"f_{kind}", "type": kind, "offset": 3} for kind in NUMBERS]
    fields += [{"name": f"s_{kind}", "type": kind, "offset": 1, "scale": 1e300} for kind in NUMBERS]
    fields += [
        {"name": "low", "type": "u64", "offset": 0, "bits": [0, 64]},
        {"name": "mid", "type": "u32", "offset": 2, "bits": [5, 9], "scale": 0.5, "count": 3},
        {"name": "text", "type": "text", "offset": 2, "bytes": 5},
        {"name": "rest", "type": "text", "offset": 30},
        {"name": "some", "type": "bytes", "offset": 4, "bytes": 3},
        {"name": "tail", "type": "bytes", "offset": 39},
        {"name": "value", "type": "variant", "offset": 0},
    ]
    return parse({"fields": fields})


def drawn(seed: int) -> list[bytes | None]:
    """Records of a few lengths, some gone, with numbers that are none, texts that are no UTF-8, and Variants."""
    draw = random.Random(seed)
    made: list[bytes | None] = []
    for _ in range(60):
        kind, many = draw.randrange(5), draw.choice([0, 1, 3, 12, 40, 41, 64])
        if kind == 0:
            made.append(None)
        elif kind == 1:
            made.append((draw.randbytes(3) + SPECIAL * 2)[:many])
        elif kind == 2:
            made.append(encode(draw.choice(["é\U0001f600", {"a": [1, None]}, 1.5, None])))
        else:
            made.append(draw.randbytes(many))
    return made


def same(found: object, wanted: object) -> bool:
    """Equal, and of one type: 1 is not 1.0 in a file, nor -0.0 0.0."""
    return repr(found) == repr(wanted)


@pytest.mark.parametrize("seed", range(5))
def test_cells_are_those_that_each_record_has_alone(seed: int) -> None:
    columns, records = columns_of(every_type()), drawn(seed)
    together = columns_together(columns, records)
    assert same(list(map(list, zip(*together, strict=True))), [columns.cells(one) for one in records])
    bare = columns_of(None)
    assert columns_together(bare, records) == [records]


@pytest.mark.parametrize("seed", range(5))
def test_json_texts_are_those_of_each_value(seed: int) -> None:
    layout, records = every_type(), drawn(seed)
    columns = by_lengths(
        records, len(layout.fields), lambda alike: [alike.json_texts(one) for one in layout.fields]
    )
    for field, column in zip(layout.fields, columns, strict=True):
        for record, text in zip(records, column, strict=True):
            if record is not None:
                value: Any = field.read(record)
                assert text == json.dumps(value, ensure_ascii=False, separators=(",", ":")), field.name


@pytest.mark.parametrize("up", ["y", "z"])
@pytest.mark.parametrize(
    "more",
    [
        {"position": "p"},
        {"position": ["p.0", "p.2"], "heading": "a"},
        {"position": "p", "heading": ["a", "b"]},
        {"position": "far", "heading": "a"},
        {"position": "p", "heading": "far.0"},
        {"position": "p", "heading": "a", "turned": 4},
        {"position": "p", "heading": "a", "turned": 40},
    ],
)
def test_poses_are_those_that_each_record_has_alone(more: dict[str, Any], up: str) -> None:
    fields: list[dict[str, object]] = [
        {"name": "p", "type": "vec3", "offset": 4},
        {"name": "a", "type": "f32", "offset": 0},
        {"name": "b", "type": "f16", "offset": 16},
        {"name": "far", "type": "vec3d", "offset": 12},
    ]
    known = dict(more)
    turned = known.pop("turned", None)
    if turned is not None:
        fields.append({"name": "q", "type": "quat", "offset": turned})
    layout = parse({"fields": fields, "up": up, **known})
    records = [one for seed in range(4) for one in drawn(seed) if one is not None]
    poses = poses_of(layout, records)
    assert same(poses, [pose_of(layout, one) for one in records])
    assert any(poses)


def test_poses_of_transforms_are_those_that_each_has_alone() -> None:
    layout = resolve("transform3d")
    numbers = random.Random(1)
    records = [struct.pack("<I12f", 18, *(numbers.uniform(-2, 2) for _ in range(12))) for _ in range(9)]
    assert same(poses_of(layout, records), [pose_of(layout, one) for one in records])


def test_what_has_no_record_at_all_has_columns_all_the_same() -> None:
    columns = columns_of(resolve("avatars"))
    assert columns_together(columns, []) == [[] for _ in columns.columns]
    assert poses_of(resolve("avatars"), []) == []
    assert AlikeRecords([b""]).columns(columns.fields[0]) == [[None]]
