"""A world's database: its schema, the journal's writes, history, retention, recovery. Room: store.

Everything here blocks, and belongs on a thread of its own; :mod:`gateway.store.world.lanes` is the
face for the event loop. The tables are described in ``docs/SCHEMA.md``, and are a public promise.
"""

from gateway.store.world.database import WorldDatabase
from gateway.store.world.history import FrameCursor, History
from gateway.store.world.schema import Part, Retention
from gateway.store.world.state import Recovered, StoredState, state_hash

__all__ = [
    "FrameCursor",
    "History",
    "Part",
    "Recovered",
    "Retention",
    "StoredState",
    "WorldDatabase",
    "state_hash",
]
