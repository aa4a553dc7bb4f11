"""Records as an Apache Parquet file, by pyarrow. Room: recordings.

The layout is in the schema: a type for each column, its unit in the column's metadata, the document in the file's.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from gateway import __version__, limits
from gateway.recordings.exports.steps import Step
from gateway.recordings.exports.whole import Export
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


class ParquetExport(Export):
    """One row for each record of each step, in row groups that bound what is held."""

    def __init__(self, path: Path, layout: Layout | None, world: str) -> None:
        super().__init__(path)
        self._columns = columns_of(layout, HEAD)
        self._facts = {"mvgateway": __version__, "world": world}
        if layout is not None:
            self._facts["layout"] = layout.text()
        self._held: list[list[Cell]] = []
        self._held_bytes = 0

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

    def _step(self, step: Step) -> None:
        for key, record in step.changed:
            head: list[Cell] = [step.epoch, step.tick, step.received_at_us, key, record is None]
            cells = self._columns.cells(record)
            self.unread.look(step, key, record, cells)
            self._held.append(head + cells)
            self._held_bytes += len(record or b"")
            if (
                len(self._held) >= limits.EXPORT_ROWS_HELD_MAX
                or self._held_bytes >= limits.EXPORT_BYTES_HELD_MAX
            ):
                self._write()

    def _write(self) -> None:
        pa, held = self._pa, self._held
        columns = [
            pa.array(cells, field.type)
            for cells, field in zip(zip(*held, strict=True), self._schema, strict=True)
        ]
        self._writer.write_table(pa.Table.from_arrays(columns, schema=self._schema), row_group_size=len(held))
        self._held, self._held_bytes = [], 0

    def _finish(self) -> None:
        if self._held:
            self._write()
        self._writer.close()

    def _abandon(self) -> None:
        self._writer.close()
