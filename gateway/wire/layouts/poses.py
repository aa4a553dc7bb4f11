"""Where a record is and how it is turned, in one frame for every layout: right-handed, y up, looking along +z. Room: wire. Pure.

That is the frame of glTF 2.0 (section 3.4). A quaternion is x, y, z, w. Source: docs/LAYOUTS.md.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, NamedTuple

from gateway.wire.layouts.alike import AlikeRecords, live_by_lengths
from gateway.wire.layouts.document import Component, Layout
from gateway.wire.layouts.fields import NUMBERS, Field, Scalar

Vector = tuple[float, float, float]
Quaternion = tuple[float, float, float, float]
UNTURNED: Final[Quaternion] = (0.0, 0.0, 0.0, 1.0)
_HALF: Final = math.sqrt(0.5)
_Z_UP: Final[Quaternion] = (-_HALF, 0.0, 0.0, _HALF)
"""Takes what has z up to what has y up."""
_ALONG_X: Final[Quaternion] = (0.0, _HALF, 0.0, _HALF)
"""Takes +z to +x: where z is up, a record that is not turned looks along +x."""
_TRANSFORM_NUMBERS: Final = 12


class Pose(NamedTuple):
    """``rotation`` None: nothing says how it is turned."""

    place: Vector
    rotation: Quaternion | None


def pose_of(layout: Layout, record: bytes) -> Pose | None:
    """A record's; None where it does not say where it is. How it is turned says the layout's first quaternion, or the
    transform that its position is part of, or its heading."""
    place = layout.place(record)
    if place is None:
        return None
    return Pose(_y_up(layout, *map(float, place)), _turned(layout, record))


def poses_of(layout: Layout, records: Sequence[bytes]) -> list[Pose | None]:
    """:func:`pose_of` of each of these, read together."""
    if any(one.field.type not in NUMBERS for one in (*layout.position, *layout.heading)):
        return [pose_of(layout, record) for record in records]
    return live_by_lengths(records, lambda alike: _alike(layout, alike))


def _alike(layout: Layout, alike: AlikeRecords) -> Sequence[Pose | None]:
    axes = [_numbers(alike, one) for one in layout.position]
    known = [one for one in axes if one is not None]
    if not known or len(known) < len(axes):
        return [None] * len(alike.records)
    turned = _turns(layout, alike)
    return [
        Pose(_y_up(layout, *map(float, place)), turn) if all(map(math.isfinite, place)) else None
        for place, turn in zip(zip(*known, strict=True), turned, strict=True)
    ]


def _turns(layout: Layout, alike: AlikeRecords) -> Sequence[Quaternion | None]:
    field = _quaternion(layout)
    found = None if field is None else alike.numbers(field)
    if found is not None:
        return [
            _headed(layout, heading_of(layout, record)) if turn is None else _in_frame(layout, turn)
            for turn, record in zip(map(unit, zip(*found, strict=True)), alike.records, strict=True)
        ]
    angles = [one for heading in layout.heading if (one := _numbers(alike, heading)) is not None]
    if not angles or len(angles) < len(layout.heading):
        return [None] * len(alike.records)
    return [_headed(layout, _angle(numbers)) for numbers in zip(*angles, strict=True)]


def _numbers(alike: AlikeRecords, component: Component) -> Sequence[Scalar] | None:
    found = alike.numbers(component.field)
    return None if found is None or component.index >= len(found) else found[component.index]


def _y_up(layout: Layout, x: float, y: float, third: float | None = None) -> Vector:
    """Two numbers lie on the ground."""
    if layout.up == "z":
        return x, third or 0.0, -y
    return (x, 0.0, y) if third is None else (x, y, third)


def _turned(layout: Layout, record: bytes) -> Quaternion | None:
    found = _whole(layout, record)
    return _headed(layout, heading_of(layout, record)) if found is None else _in_frame(layout, found)


def _in_frame(layout: Layout, turned: Quaternion) -> Quaternion:
    if layout.up == "y":
        return turned
    return times(times(times(_Z_UP, turned), conjugate(_Z_UP)), _ALONG_X)


def _headed(layout: Layout, angle: float | None) -> Quaternion | None:
    if angle is None:
        return None
    turned: Quaternion = (0.0, math.sin(angle / 2), 0.0, math.cos(angle / 2))
    return turned if layout.up == "y" else times(turned, _ALONG_X)


def _quaternion(layout: Layout) -> Field | None:
    """The layout's first."""
    return next((one for one in layout.fields if one.type.startswith("quat") and one.count == 4), None)


def _whole(layout: Layout, record: bytes) -> Quaternion | None:
    """As the record says it by a quaternion or a basis, in its own frame."""
    field = _quaternion(layout)
    if field is not None:
        return unit(field.numbers(record))
    source: Field = layout.position[0].field
    numbers = source.numbers(record) if source.type == "variant" else ()
    return _of_basis(numbers[:9]) if len(numbers) == _TRANSFORM_NUMBERS else None


def heading_of(layout: Layout, record: bytes) -> float | None:
    """The angle in radians that a record looks to; None where it does not say."""
    numbers = [one.of(record) for one in layout.heading]
    known = [one for one in numbers if one is not None]
    return _angle(known) if known and len(known) == len(numbers) else None


def _angle(numbers: Sequence[Scalar]) -> float | None:
    """One is an angle, two are its sine and cosine."""
    if not all(map(math.isfinite, numbers)):
        return None
    known = [float(one) for one in numbers]
    return known[0] if len(known) == 1 else math.atan2(known[0], known[1])


def unit(numbers: tuple[float, ...]) -> Quaternion | None:
    """Of length 1; None where it has none."""
    if len(numbers) != 4 or not all(map(math.isfinite, numbers)):
        return None
    length = math.hypot(*numbers)
    # Zeros, as in a record that was never filled in: no rotation, and no division by nothing.
    if length < 1e-9:
        return None
    x, y, z, w = (one / length for one in numbers)
    return x, y, z, w


def times(a: Quaternion, b: Quaternion) -> Quaternion:
    """First ``b``, then ``a``."""
    ax, ay, az, aw = a
    bx, by, bz, bw = b
    return (
        aw * bx + ax * bw + ay * bz - az * by,
        aw * by - ax * bz + ay * bw + az * bx,
        aw * bz + ax * by - ay * bx + az * bw,
        aw * bw - ax * bx - ay * by - az * bz,
    )


def conjugate(q: Quaternion) -> Quaternion:
    """The turn back."""
    return (-q[0], -q[1], -q[2], q[3])


def rotated(q: Quaternion, v: Vector) -> Vector:
    """A vector, turned."""
    x, y, z, _ = times(times(q, (*v, 0.0)), conjugate(q))
    return x, y, z


def _of_basis(rows: tuple[float, ...]) -> Quaternion | None:
    """The rotation of a basis given by rows, whatever its scale (Shepperd 1978: by the largest of four squares)."""
    lengths = [math.hypot(rows[i], rows[i + 3], rows[i + 6]) for i in range(3)]
    if not all(math.isfinite(one) and one > 1e-9 for one in lengths):
        return None
    xx, xy, xz, yx, yy, yz, zx, zy, zz = (one / lengths[i % 3] for i, one in enumerate(rows))
    trace = xx + yy + zz
    squares = (trace, xx, yy, zz)
    most = squares.index(max(squares))
    if most == 0:
        return unit((zy - yz, xz - zx, yx - xy, 1 + trace))
    if most == 1:
        return unit((1 + xx - yy - zz, yx + xy, zx + xz, zy - yz))
    if most == 2:
        return unit((yx + xy, 1 + yy - xx - zz, zy + yz, xz - zx))
    return unit((zx + xz, zy + yz, 1 + zz - xx - yy, yx - xy))
