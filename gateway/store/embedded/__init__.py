"""The embedded engine: a store in a folder of this machine, on SQLite. Room: store.

:class:`EmbeddedStore` is the awaited face, :class:`Engine` (its ``blocking()``) the thread-safe one.
:class:`ReadOnlyStore` and :class:`FolderReader` are the same two for who only reads.
"""

from __future__ import annotations

from gateway.store.embedded.engine import EmbeddedOptions, Engine
from gateway.store.embedded.folder import FolderInUse
from gateway.store.embedded.inspection import CheckReport, backup, check, stats
from gateway.store.embedded.reader import FolderReader, ReadOnly, ReadOnlyStore
from gateway.store.embedded.store import EmbeddedStore

__all__ = [
    "CheckReport",
    "EmbeddedOptions",
    "EmbeddedStore",
    "Engine",
    "FolderInUse",
    "FolderReader",
    "ReadOnly",
    "ReadOnlyStore",
    "backup",
    "check",
    "stats",
]
