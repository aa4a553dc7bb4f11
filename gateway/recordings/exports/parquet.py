"""Records as an Apache Parquet file, by pyarrow. Room: recordings.

The layout is in the schema: a type for each column, its unit in the column's metadata, the document in the file's.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from gateway import __version__, limits
from gateway.recordings.exports.steps import Rows
from gateway.recordings.exports.tabular import TableExport
from gateway.wire.layouts import Cell, Layout, columns_of

HEAD: Final = ("epoch", "tick", "time", "key", "gone")
_TYPES: Final = {
    "int": "int64",
    "uint": "uint64",
    "float": "float64",
    "text": "string",
    "json": "string",
    "bytes": "binary",
}


class ParquetExport(TableExport):
    """One row for each record of each step, in row groups that bound what is held."""

    def __init__(self, path: Path, layout: Layout | None, world: str) -> None:
        super().__init__(path, columns_of(layout, HEAD))
        self._facts = {"mvgateway": __version__, "world": world}
        if layout is not None:
            self._facts["layout"] = layout.text()
        self._group: list[object] = []
        self._group_rows = self._group_bytes = 0

    def _open(self) -> None:
        # Ignored: pyarrow comes without types (no py.typed).
        import pyarrow as pa  # type: ignore[import-untyped]
        import pyarrow.parquet as pq  # type: ignore[import-untyped]

        self._pa: Any = pa
        head = [
            pa.field("epoch", pa.uint32()),
            pa.field("tick", pa.uint32()),
            pa.field("time", pa.timestamp("us", tz="UTC")),
            pa.field("key", pa.uint32()),
            pa.field("gone", pa.bool_()),
        ]
        fields = [
            pa.field(
                column.name,
                getattr(pa, _TYPES[column.kind])(),
                metadata={"unit": column.unit} if column.unit else None,
            )
            for column in self._columns.columns
        ]
        self._schema: Any = pa.schema([*head, *fields], metadata=self._facts)
        self._writer: Any = pq.ParquetWriter(self.partial, self._schema, compression="zstd")

    def _write(self, rows: Rows, columns: Sequence[Sequence[Cell]]) -> None:
        pa = self._pa
        gone = [record is None for record in rows.records]
        cells = [rows.epochs, rows.ticks, rows.times_us, rows.keys, gone, *columns]
        arrays = [pa.array(column, field.type) for column, field in zip(cells, self._schema, strict=True)]
        self._group.append(pa.RecordBatch.from_arrays(arrays, schema=self._schema))
        self._group_rows += len(rows)
        self._group_bytes += rows.record_bytes
        if (
            self._group_rows >= limits.EXPORT_ROWS_HELD_MAX
            or self._group_bytes >= limits.EXPORT_BYTES_HELD_MAX
        ):
            self._end_group()

    def _rows_max(self) -> int:
        return min(super()._rows_max(), limits.EXPORT_ROWS_HELD_MAX - self._group_rows)

    def _end_group(self) -> None:
        group, self._group = self._group, []
        # One row group of many batches: small groups would cost readers a look at each.
        table = self._pa.Table.from_batches(group, schema=self._schema)
        self._writer.write_table(table, row_group_size=self._group_rows)
        self._group_rows = self._group_bytes = 0

    def _finish(self) -> None:
        self._flush()
        if self._group:
            self._end_group()
        self._writer.close()

    def _abandon(self) -> None:
        self._writer.close()
