"""A recording as a plain SQL table, for whoever opens a film with any SQLite. Room: recordings; apsw enters here."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import apsw

from gateway.recordings.exports.steps import Rows, Step, UnreadRecords
from gateway.wire.layouts import Cell, Columns, Layout, columns_of, columns_together

TABLE: Final = "records"
HEAD: Final = ("epoch", "tick", "received_at", "key", "gone")
_BEYOND: Final = 2**63
_TYPES: Final = {
    "int": "INTEGER",
    "uint": "INTEGER",
    "float": "REAL",
    "text": "TEXT",
    "json": "TEXT",
    "bytes": "BLOB",
}


def sql_columns(layout: Layout | None) -> Columns:
    """A layout's columns beside those that every row has."""
    return columns_of(layout, HEAD)


def rows_of_step(
    step: Step, columns: Columns, unread: UnreadRecords | None = None
) -> Iterator[tuple[Cell, ...]]:
    """A row for each record that the step changed."""
    rows = Rows.of(step)
    cells = columns_together(columns, rows.records)
    if unread is not None:
        unread.look(rows, cells)
    ready = [
        list(map(_cell, column)) if about.kind == "uint" else column
        for about, column in zip(columns.columns, cells, strict=True)
    ]
    gone = [int(record is None) for record in rows.records]
    return zip(rows.epochs, rows.ticks, rows.times_us, rows.keys, gone, *ready, strict=True)


def _cell(cell: Cell) -> Cell:
    """As SQLite can keep it: a whole number beyond 63 bits as text."""
    # SQLite's integers have 63 bits and a sign; as REAL the last digits would go.
    return str(cell) if isinstance(cell, int) and cell >= _BEYOND else cell


class RecordTable:
    """The table of a film, made and filled through its connection."""

    def __init__(self, connection: apsw.Connection, layout: Layout | None) -> None:
        self._connection = connection
        self.unread = UnreadRecords()
        self._columns = sql_columns(layout)
        named = [f'"{column.name}" {_TYPES[column.kind]}' for column in self._columns.columns]
        head = [f"{name} INTEGER NOT NULL" for name in HEAD]
        connection.execute(f"CREATE TABLE {TABLE}({', '.join([*head, *named])})")
        many = len(HEAD) + len(named)
        self._insert = f"INSERT INTO {TABLE} VALUES({','.join('?' * many)})"

    def add(self, step: Step) -> None:
        """The next step's rows."""
        self._connection.executemany(self._insert, rows_of_step(step, self._columns, self.unread))

    def index(self) -> None:
        """What a look at one record needs, made once all rows are there."""
        self._connection.execute(f"CREATE INDEX {TABLE}_by_key ON {TABLE}(key, epoch, tick)")
