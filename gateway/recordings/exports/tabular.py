"""Exports that are a table: a row for each record of each step, written many at a time. Room: recordings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gateway import limits
from gateway.recordings.exports.steps import Rows, Step
from gateway.recordings.exports.whole import Export
from gateway.wire.layouts import Cell, Columns, columns_together


class TableExport(Export):
    """Holds rows up to bounds, and has them written together."""

    def __init__(self, path: Path, columns: Columns) -> None:
        super().__init__(path)
        self._columns = columns
        self._held = Rows()

    def _step(self, step: Step) -> None:
        changed, at = step.changed, 0
        while at < len(changed):
            many = min(limits.EXPORT_RECORDS_AT_ONCE_MAX, self._rows_max() - len(self._held))
            self._held.add(step, changed[at : at + many])
            at += many
            if len(self._held) >= self._rows_max() or self._held.record_bytes >= limits.EXPORT_BYTES_HELD_MAX:
                self._flush()

    def _rows_max(self) -> int:
        """So many are written together."""
        return max(1, limits.EXPORT_CELLS_TOGETHER_MAX // len(self._columns.columns))

    def _flush(self) -> None:
        """Write what is held."""
        held, self._held = self._held, Rows()
        if held:
            columns = columns_together(self._columns, held.records)
            self.unread.look(held, columns)
            self._write(held, columns)

    def _write(self, rows: Rows, columns: Sequence[Sequence[Cell]]) -> None:
        """These rows, with their cells by columns."""
        raise NotImplementedError
