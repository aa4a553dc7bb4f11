"""Records as comma-separated rows (RFC 4180, UTF-8). Room: recordings."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Final, TextIO

from gateway.recordings.exports.steps import Rows
from gateway.recordings.exports.tabular import TableExport
from gateway.recordings.recording import iso_time
from gateway.wire.layouts import Cell, Layout, columns_of

HEAD: Final = ("epoch", "tick", "time", "key", "gone")
"""Of each row: when it was received, of which record it is, and whether that was removed (1) or set (0)."""


class CsvExport(TableExport):
    """One row for each record of each step; bytes in hex."""

    def __init__(self, path: Path, layout: Layout | None) -> None:
        super().__init__(path, columns_of(layout, HEAD))
        self._file: TextIO | None = None

    def _open(self) -> None:
        # newline="": csv writes CRLF itself (RFC 4180), and text mode would make CR CR LF of it on Windows.
        self._file = self.partial.open("w", encoding="utf-8", newline="")
        self._rows = csv.writer(self._file)
        self._rows.writerow((*HEAD, *self._columns.names))

    def _write(self, rows: Rows, columns: Sequence[Sequence[Cell]]) -> None:
        cells = [
            list(map(_hex, column)) if about.kind == "bytes" else column
            for about, column in zip(self._columns.columns, columns, strict=True)
        ]
        known = {one: iso_time(one) for one in set(rows.times_us)}  # all rows of a step have one
        times = [known[one] for one in rows.times_us]
        gone = [int(record is None) for record in rows.records]
        self._rows.writerows(zip(rows.epochs, rows.ticks, times, rows.keys, gone, *cells, strict=True))

    def _finish(self) -> None:
        assert self._file is not None
        self._flush()
        self._file.close()

    def _abandon(self) -> None:
        assert self._file is not None
        self._file.close()


def _hex(cell: Cell) -> Cell:
    return cell.hex() if isinstance(cell, bytes) else cell
