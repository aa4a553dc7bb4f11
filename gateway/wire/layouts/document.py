"""A layout: what the bytes of a world's records mean. Read from a JSON object, and checked whole. Room: wire. Pure.

The document stands in ``docs/LAYOUTS.md``. The gateway takes records as they are, with and without one: a layout is for
those who look, and a wrong one spoils nothing but what they see.
"""

from __future__ import annotations

import json
import math
import re
import struct
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from gateway import limits
from gateway.errors import Unprocessable
from gateway.wire.layouts.fields import BIT_RANGES, NUMBERS, TYPES, Field, FieldValue, Scalar

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")
_MEMBERS: Final = ("name", "fields", "position", "heading", "label", "class", "up")
_FIELD_MEMBERS: Final = ("name", "type", "offset", "count", "bytes", "unit", "scale", "bits")


@dataclass(frozen=True, slots=True)
class Component:
    """One number of a field."""

    field: Field
    index: int

    def of(self, record: bytes) -> Scalar | None:
        numbers = self.field.numbers(record)
        return numbers[self.index] if self.index < len(numbers) else None


@dataclass(frozen=True, slots=True)
class Layout:
    """Fields, and which of them say where a record is (two or three components), which way it looks (an angle in radians,
    or its sine and cosine, from +z to +x), what it is called and of which class. ``document``: the JSON object it was read from."""

    fields: tuple[Field, ...]
    position: tuple[Component, ...]
    heading: tuple[Component, ...]
    label: Field | None
    kind: Field | None
    up: str
    document: Mapping[str, object]

    @property
    def name(self) -> str:
        return str(self.document.get("name", ""))

    def read(self, record: bytes) -> dict[str, FieldValue]:
        """All values of a record by name, JSON-ready; None for what it is too short for."""
        return {field.name: field.read(record) for field in self.fields}

    def place(self, record: bytes) -> tuple[Scalar, ...] | None:
        """Where it is; None where the layout or the record does not say."""
        found = tuple(one.of(record) for one in self.position)
        known = tuple(one for one in found if one is not None and math.isfinite(one))
        return known if known and len(known) == len(found) else None

    def text(self) -> str:
        """The document on one line, as it is kept."""
        return json.dumps(self.document, ensure_ascii=False, separators=(",", ":"))


def parse(document: object) -> Layout:
    """Check a layout document. Raises :class:`Unprocessable` that names the member, its value and what may stand there."""
    if not isinstance(document, Mapping):
        raise Unprocessable(
            f"a layout is a JSON object, or the name of a built-in one; this is {_short(document)}"
        )
    _known(document, _MEMBERS, "a layout")
    # As it would be kept, not as it came: spaces cost nothing.
    size = len(json.dumps(document))
    if size > limits.LAYOUT_BYTES_MAX:
        raise Unprocessable(f"this layout has {size} bytes; at most {limits.LAYOUT_BYTES_MAX} are kept")
    listed = document.get("fields")
    if not isinstance(listed, Sequence) or isinstance(listed, str) or not listed:
        raise Unprocessable(
            'a layout has a list of fields, one at least: {"fields": [{"name", "type", "offset"}]}'
        )
    if len(listed) > limits.LAYOUT_FIELDS_MAX:
        raise Unprocessable(
            f"this layout has {len(listed)} fields; at most {limits.LAYOUT_FIELDS_MAX} are taken"
        )
    fields = tuple(map(_field, listed))
    by_name = {field.name: field for field in fields}
    if len(by_name) < len(fields):
        names = [field.name for field in fields]
        twice = next(name for name in names if names.count(name) > 1)
        raise Unprocessable(f"field {twice!r} is there twice; give each a name of its own")
    name, up = document.get("name", ""), document.get("up", "y")
    if not isinstance(name, str) or len(name) > limits.LAYOUT_NAME_CHARS_MAX:
        raise Unprocessable(
            f"name {_short(name)} is no text of at most {limits.LAYOUT_NAME_CHARS_MAX} characters"
        )
    if up not in ("y", "z"):
        raise Unprocessable(f"up {_short(up)} is neither 'y' nor 'z'")
    return Layout(
        fields,
        _components(document, "position", by_name, (2, 3)),
        _components(document, "heading", by_name, (1, 2)),
        _named(document, "label", by_name),
        _named(document, "class", by_name),
        up,
        dict(document),
    )


def _known(members: Mapping[str, object], known: Sequence[str], what: str) -> None:
    for name in members:
        if name not in known:
            raise Unprocessable(f"{what} has no member {_short(name)}; known are {', '.join(known)}")


def _field(given: object) -> Field:
    if not isinstance(given, Mapping):
        raise Unprocessable(f"a field is an object with name, type and offset; this is {_short(given)}")
    name, kind = given.get("name"), given.get("type")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise Unprocessable(
            f"a field's name is a letter or _, then up to 62 letters, digits and _; this is {_short(name)}"
        )
    _known(given, _FIELD_MEMBERS, f"field {name}")
    if not isinstance(kind, str) or kind not in TYPES:
        raise Unprocessable(f"field {name} has type {_short(kind)}; known are {', '.join(TYPES)}")
    offset = _whole(given, name, "offset", None, 0, limits.LAYOUT_RECORD_BYTES_MAX)
    unit, scale = given.get("unit", ""), given.get("scale", 1)
    if not isinstance(unit, str) or len(unit) > limits.LAYOUT_NAME_CHARS_MAX:
        raise Unprocessable(
            f"the unit of field {name} is no text of at most {limits.LAYOUT_NAME_CHARS_MAX} characters"
        )
    if kind not in NUMBERS:
        for member in ("count", "scale", "bits"):
            if member in given:
                raise Unprocessable(f"field {name} is {kind}, which has no {member}")
        size = _whole(given, name, "bytes", 0, 0, limits.LAYOUT_RECORD_BYTES_MAX)
        return Field(name, kind, offset, size, unit=unit)
    if "bytes" in given:
        raise Unprocessable(f"field {name} is {kind}, whose size is known; leave out bytes")
    # By its bound, in place of isfinite(), which fails at a whole number beyond a double; NaN is below none.
    is_number = isinstance(scale, int | float) and not isinstance(scale, bool)
    if not is_number or not 0 < abs(scale) <= sys.float_info.max:
        raise Unprocessable(f"the scale of field {name} is {_short(scale)}; it is a number other than 0")
    code, each = NUMBERS[kind]
    count = each * _whole(given, name, "count", 1, 1, limits.LAYOUT_COUNT_MAX)
    size = struct.calcsize(f"<{count}{code}")
    return Field(
        name, kind, offset, size, count, unit, float(scale), _bits(given, name, kind, size // count * 8)
    )


def _bits(given: Mapping[str, object], name: str, kind: str, width: int) -> tuple[int, int] | None:
    bits = given.get("bits")
    if bits is None:
        return None
    if kind not in BIT_RANGES:
        raise Unprocessable(f"field {name} is {kind}; bits are read of {', '.join(sorted(BIT_RANGES))}")
    if (
        not isinstance(bits, Sequence)
        or isinstance(bits, str)
        or len(bits) != 2
        or not all(map(_is_whole, bits))
    ):
        raise Unprocessable(f"the bits of field {name} are [lowest, how many]; this is {_short(bits)}")
    low, many = bits
    if low < 0 or many < 1 or low + many > width:
        raise Unprocessable(f"the bits {low} to {low + many - 1} of field {name} are not all in its {width}")
    return low, many


def _components(
    document: Mapping[str, object], member: str, fields: Mapping[str, Field], counts: tuple[int, int]
) -> tuple[Component, ...]:
    given = document.get(member)
    if given is None:
        return ()
    listed = [given] if isinstance(given, str) else given
    if not isinstance(listed, Sequence) or not all(isinstance(one, str) for one in listed):
        raise Unprocessable(f"{member} is a field's name, or a list of them; this is {_short(given)}")
    if len(listed) == 1 and "." not in listed[0]:
        field = _find(fields, listed[0], member)
        least, most = counts
        many = least if field.type == "variant" else min(field.count, most)
        found = [Component(field, index) for index in range(many)]
    else:
        found = [_component(fields, one, member) for one in listed]
    if not counts[0] <= len(found) <= counts[1]:
        raise Unprocessable(f"{member} has {len(found)} components; it is {counts[0]} or {counts[1]}")
    return tuple(found)


def _component(fields: Mapping[str, Field], reference: str, member: str) -> Component:
    name, dot, index = reference.partition(".")
    field = _find(fields, name, member)
    most = limits.LAYOUT_COUNT_MAX if field.type == "variant" else field.count
    if dot and not (index.isascii() and index.isdigit() and len(index) <= 2 and int(index) < most):
        raise Unprocessable(
            f"{member} names component {_short(index)} of field {name}, which has 0 to {most - 1}"
        )
    return Component(field, int(index) if dot else 0)


def _find(fields: Mapping[str, Field], name: str, member: str) -> Field:
    field = fields.get(name)
    if field is None:
        raise Unprocessable(f"{member} names field {_short(name)}; there are {', '.join(fields)}"[:400])
    if field.type in ("text", "bytes"):
        raise Unprocessable(f"{member} names field {name}, which is {field.type} and has no numbers")
    return field


def _named(document: Mapping[str, object], member: str, fields: Mapping[str, Field]) -> Field | None:
    name = document.get(member)
    if name is None:
        return None
    if not isinstance(name, str) or name not in fields:
        raise Unprocessable(f"{member} names field {_short(name)}; there are {', '.join(fields)}"[:400])
    return fields[name]


def _whole(
    given: Mapping[str, object], name: str, member: str, default: int | None, least: int, most: int
) -> int:
    value = given.get(member, default)
    # Ignored: a whole number, as _is_whole() says, and mypy does not hear.
    if not _is_whole(value) or not least <= value <= most:  # type: ignore[operator]
        raise Unprocessable(
            f"the {member} of field {name} is {_short(value)}; it is a whole number from {least} to {most}"
        )
    assert isinstance(value, int)
    return value


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _short(value: object) -> str:
    return f"{value!r:.64}" if isinstance(value, str | int | float | bool | None) else type(value).__name__
