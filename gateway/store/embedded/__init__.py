"""The embedded engine: a store in a folder of this machine, on SQLite. Room: store.

:class:`EmbeddedStore` is the awaited face, :class:`Engine` (its ``blocking()``) the thread-safe one.
"""

from __future__ import annotations

from gateway.store.embedded.engine import EmbeddedOptions, Engine
from gateway.store.embedded.inspection import CheckReport, backup, check, stats
from gateway.store.embedded.store import EmbeddedStore

__all__ = ["CheckReport", "EmbeddedOptions", "EmbeddedStore", "Engine", "backup", "check", "stats"]
