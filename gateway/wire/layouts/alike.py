"""Records read many at a time, field by field: for whoever reads millions. Room: wire. Pure.

What is answered is what :meth:`Field.read`, :meth:`Columns.cells` and :func:`pose_of` answer for each record alone; a field of a
thousand records costs some calls in C in place of thousands in Python (an hour of a hundred records took 160 s of CPU by records,
EXPORTS.md has what it takes since).
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Final, TypeVar, cast

from gateway import limits
from gateway.wire.layouts.columns import Cell, Columns
from gateway.wire.layouts.fields import NUMBERS, Field, FieldValue, Scalar

T = TypeVar("T")
_WHOLE_CODES: Final = "BbHhIiQq"


class AlikeRecords:
    """Records of one length."""

    def __init__(self, records: Sequence[bytes]) -> None:
        self.records = records
        self._bytes = len(records[0])
        self._joined = b"".join(records)

    def numbers(self, field: Field) -> list[Sequence[Scalar]] | None:
        """Of a field of numbers one sequence for each of them; None where the records are too short. As :meth:`Field.numbers`."""
        found = self._unpacked(field)
        if found is None:
            return None
        if field.bits is not None:
            low, width = field.bits
            mask = (1 << width) - 1
            # Bits before the scale: it is the number in the bits that is scaled.
            found = [[(one >> low) & mask for one in column] for column in found]  # type: ignore[operator]  # whole
        scale = field.scale
        return found if scale == 1.0 else [[one * scale for one in column] for column in found]

    def columns(self, field: Field) -> list[list[Cell]]:
        """Its cells, one column for each number, as :meth:`Columns.cells` has them."""
        if field.type == "variant":
            return [
                [
                    None if one is None else json.dumps(one, ensure_ascii=False)
                    for one in self._variants(field)
                ]
            ]
        if field.type in ("text", "bytes"):
            pieces = self._pieces(field)
            if pieces is None:
                return [[None] * len(self.records)]
            return [list(pieces) if field.type == "bytes" else list(_texts(pieces))]
        found = self.numbers(field)
        if found is None:
            return [[None] * len(self.records) for _ in range(field.count)]
        return [list(_json_numbers(field, column)) for column in found]

    def values(self, field: Field) -> Sequence[FieldValue]:
        """Its values, JSON-ready, as :meth:`Field.read` answers them."""
        if field.type == "variant":
            return self._variants(field)
        if field.type in ("text", "bytes"):
            pieces = self._pieces(field)
            if pieces is None:
                return [None] * len(self.records)
            return [one.hex() for one in pieces] if field.type == "bytes" else _texts(pieces)
        found = self.numbers(field)
        if found is None:
            return [None] * len(self.records)
        ready = [_json_numbers(field, column) for column in found]
        return ready[0] if field.count == 1 else list(map(list, zip(*ready, strict=True)))

    def json_texts(self, field: Field) -> list[str]:
        """Its values as JSON, without spaces: what ``json.dumps`` writes of :meth:`values`."""
        found = self.numbers(field) if field.type in NUMBERS else None
        if found is None:
            return [_json(one) for one in self.values(field)]
        ready = [_json_numbers(field, column) for column in found]
        if field.count == 1:
            return list(map(_json_number_text, ready[0]))
        rows: Sequence[Sequence[object]] = ready
        if any(None in column for column in ready):
            rows = [list(map(_json_number_text, column)) for column in ready]
        form = "[" + ",".join(["%s"] * field.count) + "]"
        return [form % row for row in zip(*rows, strict=True)]

    def _unpacked(self, field: Field) -> list[Sequence[Scalar]] | None:
        if field.offset + field.size > self._bytes:
            return None
        read = _reading(field.offset, field.size, f"{field.count}{NUMBERS[field.type][0]}", self._bytes)
        return list(zip(*read.iter_unpack(self._joined), strict=True))

    def _pieces(self, field: Field) -> Sequence[bytes] | None:
        begin, size = field.offset, field.size
        if not size:
            return [one[begin:] for one in self.records]
        return None if begin + size > self._bytes else [one[begin : begin + size] for one in self.records]

    def _variants(self, field: Field) -> list[FieldValue]:
        return [field.read(one) for one in self.records]


@lru_cache(limits.RECORD_LAYOUTS_CACHED_MAX)
def _reading(offset: int, size: int, code: str, record_bytes: int) -> struct.Struct:
    return struct.Struct(f"<{offset}x{code}{record_bytes - offset - size}x")


def _texts(pieces: Sequence[bytes]) -> list[str]:
    # Names are the same from frame to frame: each is decoded once.
    known = {one: one.split(b"\0", 1)[0].decode("utf-8", "replace") for one in set(pieces)}
    return [known[one] for one in pieces]


def _json_numbers(field: Field, column: Sequence[Scalar]) -> Sequence[Scalar | None]:
    """JSON has no infinities, and no NaN."""
    if field.scale == 1.0 and NUMBERS[field.type][0] in _WHOLE_CODES:
        return column
    return (
        column if all(map(math.isfinite, column)) else [one if math.isfinite(one) else None for one in column]
    )


def _json_number_text(number: Scalar | None) -> str:
    # repr() is what json writes of a float: the shortest text that is read back as the same.
    return "null" if number is None else repr(number)


def _json(value: FieldValue) -> str:
    return (
        quoted(value) if type(value) is str else json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    )


def quoted(text: str) -> str:
    """A text as JSON."""
    return _name(text) if len(text) <= limits.LAYOUT_TEXT_CACHED_CHARS_MAX else _text(text)


def _text(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


_name = lru_cache(limits.LAYOUT_TEXTS_CACHED_MAX)(_text)
"""Names come again with each frame."""


def by_lengths(
    records: Sequence[bytes | None], width: int, read: Callable[[AlikeRecords], Sequence[Sequence[T]]]
) -> list[list[T | None]]:
    """``width`` columns of what ``read`` answers of the records of each length, in the records' order; None of those that are gone."""
    places: dict[int, list[int]] = {}
    lengths = {-1 if one is None else len(one) for one in records}
    # Nearly always: a world's records have one length, and nothing needs to be sorted into places.
    if len(lengths) == 1 and -1 not in lengths:
        return [list(column) for column in read(AlikeRecords(records))]  # type: ignore[arg-type]  # none is gone
    for at, one in enumerate(records):
        if one is not None:
            places.setdefault(len(one), []).append(at)
    columns: list[list[T | None]] = [[None] * len(records) for _ in range(width)]
    for among in places.values():
        found = read(AlikeRecords([records[at] for at in among]))  # type: ignore[misc]  # none of them is gone
        for column, part in zip(columns, found, strict=True):
            for at, value in zip(among, part, strict=True):
                column[at] = value
    return columns


def live_by_lengths(records: Sequence[bytes], read: Callable[[AlikeRecords], Sequence[T]]) -> list[T]:
    """What ``read`` answers of each record, in the records' order."""
    found = by_lengths(records, 1, lambda alike: [read(alike)])
    return cast(list[T], found[0])


def columns_together(columns: Columns, records: Sequence[bytes | None]) -> list[list[Cell]]:
    """:meth:`Columns.cells` of all of these, by columns."""
    if not columns.fields:
        return [list(records)]

    def read(alike: AlikeRecords) -> list[list[Cell]]:
        return [column for field in columns.fields for column in alike.columns(field)]

    return by_lengths(records, len(columns.columns), read)
