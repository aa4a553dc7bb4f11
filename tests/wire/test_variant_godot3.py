"""What Godot 3.6.2's ``var2bytes`` wrote (``godot3.json``) is read as the values that stand for it in Godot 4, where that is said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gateway.cli.recover import VARIANT_OF_3
from gateway.cli.recover import decode as record_shown
from gateway.errors import Unprocessable
from gateway.wire import variant as v

CASES = {
    case["name"]: bytes.fromhex(case["bytes"])
    for case in json.loads((Path(__file__).parent / "godot3.json").read_text())
}
BASIS = (1, 4, 7, 2, 5, 8, 3, 6, 9)
VALUES: dict[str, Any] = {
    "nil": None, "true": True, "false": False, "int": 7, "negative": -7, "wide int": 1 << 40, "real": 0.5,
    "wide real": 0.1, "string": "Grüße", "empty string": "", "Vector2": v.Vector2(1, 2), "Rect2": v.Rect2(1, 2, 3, 4),
    "Vector3": v.Vector3(1, 2, 3), "Transform2D": v.Transform2D(1, 2, 3, 4, 5, 6), "Plane": v.Plane(0, 1, 0, 4),
    "Quat": v.Quaternion(0, 0, 0, 1), "AABB": v.AABB(1, 2, 3, 4, 5, 6), "Basis": v.Basis(*BASIS),
    "Transform": v.Transform3D(*BASIS, 10, 11, 12), "Color": v.Color(0.25, 0.5, 0.75, 1),
    "NodePath": v.NodePath(("root", "Node"), ("position", "x"), True), "relative NodePath": v.NodePath(("a", "b")),
    "RID": v.RID(0), "Dictionary": v.Dictionary({"a": 1, 2: v.Array([v.Vector3(1, 2, 3)]), "d": v.Dictionary()}),
    "Array": v.Array([1, "two", 3.5, None, v.Array([True])]), "PoolByteArray": b"\1\2\3",
    "PoolIntArray": v.PackedInt32Array([1, -2]), "PoolRealArray": v.PackedFloat32Array([0.5, 1.5]),
    "PoolStringArray": v.PackedStringArray(("a", "bcd")), "PoolVector2Array": v.PackedVector2Array([(1, 2)]),
    "PoolVector3Array": v.PackedVector3Array([(1, 2, 3)]), "PoolColorArray": v.PackedColorArray([(1, 0, 0, 1)]),
    "null object": None,
}  # fmt: skip


@pytest.mark.parametrize("name", VALUES)
def test_every_type_of_godot_3_is_read(name: str) -> None:
    assert v.decode(CASES[name], godot=3) == VALUES[name]
    assert v.decode(v.encode(v.decode(CASES[name], godot=3))) == VALUES[name]


def test_all_that_the_engine_wrote_is_looked_at() -> None:
    assert VALUES.keys() == CASES.keys()


def test_what_is_cut_short_or_of_no_type_is_refused() -> None:
    for name, data in CASES.items():
        for length in range(len(data)):
            try:
                v.decode(data[:length], godot=3)
            except Unprocessable:
                continue
            assert name == "PoolByteArray", "only its padding may be missing"
    with pytest.raises(Unprocessable, match="no Variant type 27 in Godot 3; the last one is 26"):
        v.decode(b"\x1b\0\0\0", godot=3)


def test_a_record_of_godot_3_is_shown() -> None:
    data = CASES["Transform"]
    assert record_shown(data, VARIANT_OF_3) == {
        "@": "Transform3D",
        "v": [float(x) for x in (*BASIS, 10, 11, 12)],
    }
    assert record_shown(data, "variant") != record_shown(data, VARIANT_OF_3)
