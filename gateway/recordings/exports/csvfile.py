"""Records as comma-separated rows (RFC 4180, UTF-8). Room: recordings."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Final, TextIO

from gateway.recordings.exports.steps import Step
from gateway.recordings.exports.whole import Export
from gateway.recordings.recording import iso_time
from gateway.wire.layouts import Cell, Layout, columns_of

HEAD: Final = ("epoch", "tick", "time", "key", "gone")
"""Of each row: when it was received, of which record it is, and whether that was removed (1) or set (0)."""


class CsvExport(Export):
    """One row for each record of each step; bytes in hex."""

    def __init__(self, path: Path, layout: Layout | None) -> None:
        super().__init__(path)
        self._columns = columns_of(layout, HEAD)
        self._file: TextIO | None = None

    def _open(self) -> None:
        self._file = self.partial.open("w", encoding="utf-8", newline="")
        self._rows = csv.writer(self._file)
        self._rows.writerow((*HEAD, *self._columns.names))

    def _step(self, step: Step) -> None:
        head, cells = (step.epoch, step.tick, iso_time(step.received_at_us)), self._columns.cells
        for key, record in step.changed:
            found = cells(record)
            self.unread.look(step, key, record, found)
            self._rows.writerow((*head, key, int(record is None), *map(_text, found)))

    def _finish(self) -> None:
        assert self._file is not None
        self._file.close()

    def _abandon(self) -> None:
        assert self._file is not None
        self._file.close()


def _text(cell: Cell) -> Cell:
    return cell.hex() if isinstance(cell, bytes) else cell
