"""A layout as the columns of a table: of each number, text or value one, by a name that SQL takes. Room: wire. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

from gateway.wire.layouts.document import Layout
from gateway.wire.layouts.fields import NUMBERS, Field

Kind = Literal["int", "uint", "float", "text", "bytes", "json"]
Cell = int | float | str | bytes | None
RECORD: Final = "record"
"""The one column of a world that does not say what its records mean: their bytes."""
_FLOATS: Final = "efd"


@dataclass(frozen=True, slots=True)
class Column:
    """``kind``: whole numbers (``uint``: u64, which no signed number holds), floats, text, bytes, or a Variant's JSON."""

    name: str
    kind: Kind
    unit: str = ""


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns of a layout's fields in their order; of a field of several numbers ``FIELD_0``, ``FIELD_1`` and so on.
    A name that is taken, by any case, gets a ``_`` behind it."""

    columns: tuple[Column, ...]
    fields: tuple[Field, ...]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.columns)

    def cells(self, record: bytes | None) -> list[Cell]:
        """A record's values, one for each column; None for what it is too short for, and for all of one that is gone."""
        if record is None:
            return [None] * len(self.columns)
        if not self.fields:
            return [record]
        cells: list[Cell] = []
        for field in self.fields:
            value = field.read(record)
            if field.type == "variant":
                cells.append(None if value is None else json.dumps(value, ensure_ascii=False))
            elif field.type == "bytes":
                cells.append(bytes.fromhex(value) if isinstance(value, str) else None)
            elif field.count > 1:
                cells += value if isinstance(value, list) else [None] * field.count
            else:
                cells.append(value)  # type: ignore[arg-type]  # a number or a text
        return cells


def columns_of(layout: Layout | None, taken: Iterable[str] = ()) -> Columns:
    """The columns of a layout; None: the bytes. ``taken``: names that the table has already."""
    # SQL's names are the same in any case.
    used = {name.lower() for name in taken}
    if layout is None:
        return Columns((Column(_free(RECORD, used), "bytes"),), ())
    columns = []
    for field in layout.fields:
        names = [field.name] if field.count == 1 else [f"{field.name}_{i}" for i in range(field.count)]
        columns += [Column(_free(name, used), _kind(field), field.unit) for name in names]
    return Columns(tuple(columns), layout.fields)


def _free(name: str, used: set[str]) -> str:
    while name.lower() in used:
        name += "_"
    used.add(name.lower())
    return name


def _kind(field: Field) -> Kind:
    if field.type == "variant":
        return "json"
    if field.type == "text":
        return "text"
    if field.type == "bytes":
        return "bytes"
    if field.scale != 1.0 or NUMBERS[field.type][0] in _FLOATS:
        return "float"
    return "uint" if field.type == "u64" and (field.bits is None or field.bits[1] == 64) else "int"
