"""The types of a layout's fields, and how each is read out of a record. Room: wire. Pure.

Numbers are little-endian. A field of numbers answers one number, or a tuple of them where it has several; ``text`` the
characters before the first zero byte, ``bytes`` hex, ``variant`` what Godot's ``var_to_bytes`` wrote.
Source: docs/LAYOUTS.md.
"""

from __future__ import annotations

import json
import math
import struct
from dataclasses import dataclass
from typing import Final

from gateway.errors import Unprocessable
from gateway.wire.variant import Fixed, Value, decode_prefix, to_json

Scalar = int | float
FieldValue = object
"""JSON-ready: a number, a list of numbers, a text, or a Variant's JSON form."""

NUMBERS: Final[dict[str, tuple[str, int]]] = {
    "u8": ("B", 1),
    "i8": ("b", 1),
    "u16": ("H", 1),
    "i16": ("h", 1),
    "u32": ("I", 1),
    "i32": ("i", 1),
    "u64": ("Q", 1),
    "i64": ("q", 1),
    "f16": ("e", 1),
    "f32": ("f", 1),
    "f64": ("d", 1),
    "vec2": ("f", 2),
    "vec3": ("f", 3),
    "vec4": ("f", 4),
    "quat": ("f", 4),
    "vec2h": ("e", 2),
    "vec3h": ("e", 3),
    "vec4h": ("e", 4),
    "quath": ("e", 4),
    "vec2d": ("d", 2),
    "vec3d": ("d", 3),
    "vec4d": ("d", 4),
    "quatd": ("d", 4),
}
"""Type → struct code and how many (``h``: half floats, ``d``: double ones; a quaternion is x, y, z, w)."""
TYPES: Final = (*NUMBERS, "text", "bytes", "variant")
BIT_RANGES: Final = frozenset({"u8", "u16", "u32", "u64"})
"""Of these some bits can be read alone."""


@dataclass(frozen=True, slots=True)
class Field:
    """One field. ``size`` 0: to the record's end. ``scale`` 1 leaves integers integers; ``bits``: lowest and how many."""

    name: str
    type: str
    offset: int
    size: int
    count: int = 1
    unit: str = ""
    scale: float = 1.0
    bits: tuple[int, int] | None = None

    def read(self, record: bytes) -> FieldValue:
        """Its value, JSON-ready. None where the record is too short for it, or holds no such thing."""
        piece = record[self.offset : self.offset + self.size] if self.size else record[self.offset :]
        if len(piece) < self.size:
            return None
        if self.type == "text":
            return piece.split(b"\0", 1)[0].decode("utf-8", "replace")
        if self.type == "bytes":
            return piece.hex()
        if self.type == "variant":
            value = _variant(piece)
            # In a tuple, since None is a Variant as well. By its text: to_json() has the one form of a
            # Variant in JSON.
            return None if value is None else json.loads(to_json(value[0]))
        numbers = [_json_number(one) for one in self._numbers(piece)]
        return numbers if self.count > 1 else numbers[0]

    def numbers(self, record: bytes) -> tuple[Scalar, ...]:
        """Its numbers, for a map: those of a Variant are its components. Empty where there are none."""
        piece = record[self.offset : self.offset + self.size] if self.size else record[self.offset :]
        if len(piece) < self.size or self.type in ("text", "bytes"):
            return ()
        if self.type != "variant":
            return self._numbers(piece)
        value = _variant(piece)
        if value is None:
            return ()
        if isinstance(value[0], Fixed):
            return value[0].components
        return (value[0],) if isinstance(value[0], int | float) else ()

    def _numbers(self, piece: bytes) -> tuple[Scalar, ...]:
        found = struct.unpack(f"<{self.count}{NUMBERS[self.type][0]}", piece)
        if self.bits is not None:
            low, width = self.bits
            found = tuple((one >> low) & ((1 << width) - 1) for one in found)
        return found if self.scale == 1.0 else tuple(one * self.scale for one in found)


def _variant(piece: bytes) -> tuple[Value] | None:
    try:
        return (decode_prefix(piece)[0],)
    except Unprocessable:
        return None


def _json_number(value: Scalar) -> Scalar | None:
    """JSON has no infinities, and no NaN."""
    return value if isinstance(value, int) or math.isfinite(value) else None
