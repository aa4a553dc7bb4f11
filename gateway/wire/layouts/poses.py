"""Where a record is and how it is turned, in one frame for every layout: right-handed, y up, looking along +z. Room: wire. Pure.

That is the frame of glTF 2.0 (section 3.4). A quaternion is x, y, z, w. Source: docs/LAYOUTS.md.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

from gateway.wire.layouts.document import Layout
from gateway.wire.layouts.fields import Field

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


def _y_up(layout: Layout, x: float, y: float, third: float | None = None) -> Vector:
    """Two numbers lie on the ground."""
    if layout.up == "z":
        return x, third or 0.0, -y
    return (x, 0.0, y) if third is None else (x, y, third)


def _turned(layout: Layout, record: bytes) -> Quaternion | None:
    found = _whole(layout, record)
    if found is not None:
        if layout.up == "y":
            return found
        return times(times(times(_Z_UP, found), conjugate(_Z_UP)), _ALONG_X)
    angle = heading_of(layout, record)
    if angle is None:
        return None
    turned: Quaternion = (0.0, math.sin(angle / 2), 0.0, math.cos(angle / 2))
    return turned if layout.up == "y" else times(turned, _ALONG_X)


def _whole(layout: Layout, record: bytes) -> Quaternion | None:
    """As the record says it by a quaternion or a basis, in its own frame."""
    for field in layout.fields:
        if field.type.startswith("quat") and field.count == 4:
            return unit(field.numbers(record))
    source: Field = layout.position[0].field
    numbers = source.numbers(record) if source.type == "variant" else ()
    return _of_basis(numbers[:9]) if len(numbers) == _TRANSFORM_NUMBERS else None


def heading_of(layout: Layout, record: bytes) -> float | None:
    """The angle in radians that a record looks to; None where it does not say."""
    numbers = [one.of(record) for one in layout.heading]
    known = [float(one) for one in numbers if one is not None and math.isfinite(one)]
    if not known or len(known) < len(numbers):
        return None
    return known[0] if len(known) == 1 else math.atan2(known[0], known[1])


def unit(numbers: tuple[float, ...]) -> Quaternion | None:
    """Of length 1; None where it has none."""
    if len(numbers) != 4 or not all(map(math.isfinite, numbers)):
        return None
    length = math.hypot(*numbers)
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
