"""Recordings as what others read: CSV, Parquet, MCAP, glTF. Room: recordings.

Each holds, step by step, what changed (:class:`Step`), with a world's layout as its schema, and bytes where there is none.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from gateway.errors import ConfigError
from gateway.recordings.exports.steps import Step, Steps, UnreadRecords
from gateway.recordings.exports.whole import Export
from gateway.wire.layouts import Layout

__all__ = ["FORMATS", "FORMAT_OF_SUFFIX", "Export", "Step", "Steps", "UnreadRecords", "open_export"]

FORMATS: Final = ("csv", "parquet", "mcap", "gltf")
FORMAT_OF_SUFFIX: Final[Mapping[str, str]] = {
    ".csv": "csv",
    ".parquet": "parquet",
    ".mcap": "mcap",
    ".glb": "gltf",
    ".gltf": "gltf",
}
"""What a file's name says by its end."""


def open_export(form: str, path: Path, *, world: str, layout: Layout | None) -> Export:
    """What writes that form; enter it as a context. Raises :class:`ConfigError` for a form that is not known, or a name
    that its readers don't take, and ``ModuleNotFoundError`` where its library is not installed."""
    if form == "csv":
        from gateway.recordings.exports.csvfile import CsvExport

        return CsvExport(path, layout)
    if form == "parquet":
        from gateway.recordings.exports.parquet import ParquetExport

        return ParquetExport(path, layout, world)
    if form == "mcap":
        from gateway.recordings.exports.mcap import McapExport

        return McapExport(path, layout, world)
    if form == "gltf":
        from gateway.recordings.exports.gltf import GltfExport

        if path.suffix not in (".glb", ".gltf"):
            raise ConfigError(
                f"{path.name}: a glTF's name ends in .glb (one file) or .gltf (with a .bin beside it)"
            )
        return GltfExport(path, layout, world)
    raise ConfigError(f"format {form!r:.40} is not known; there are sqlite, {', '.join(FORMATS)}")
