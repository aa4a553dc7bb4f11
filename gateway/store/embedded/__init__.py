"""The embedded engine: a store in a folder of this machine, on SQLite. Room: store.

:class:`EmbeddedStore` is the awaited face, :class:`Engine` (its ``blocking()``) the thread-safe one.
"""

from __future__ import annotations

from .engine import EmbeddedOptions, Engine
from .store import EmbeddedStore

__all__ = ["EmbeddedOptions", "EmbeddedStore", "Engine"]
