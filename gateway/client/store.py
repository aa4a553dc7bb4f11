"""The name under which stores were opened: :func:`gateway.runtime.stores.open_store` is it now. Room: client.

It goes on working, and is looked up when it is asked for: a client has no store.
"""

from __future__ import annotations

import importlib

_MOVED = ("StoreTransport", "is_remote", "open_store")


def __getattr__(name: str) -> object:
    if name not in _MOVED:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module("gateway.runtime.stores"), name)
