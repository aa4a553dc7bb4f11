"""The layouts that every gateway knows by name. Room: wire. Pure. Source: docs/LAYOUTS.md."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache, lru_cache
from typing import Final

from gateway import limits
from gateway.errors import Unprocessable
from gateway.wire.layouts.document import Layout, parse
from gateway.wire.strictjson import loads

_HALF_TURN: Final = 3.141592653589793 / 32_767
"""Radians of one unit of a packet's rotation."""
_PACKET: Final[tuple[Mapping[str, object], ...]] = (
    {"name": "id", "type": "u32", "offset": 0},
    {"name": "position", "type": "i64", "count": 3, "offset": 4, "scale": 1e-6, "unit": "m"},
    {"name": "velocity", "type": "i16", "count": 3, "offset": 28, "scale": 0.5 / 32_767, "unit": "m/tick"},
    {"name": "frame", "type": "u32", "offset": 40, "bits": [8, 24]},
    {"name": "counter", "type": "u32", "offset": 40, "bits": [0, 8]},
    {"name": "kind", "type": "u32", "offset": 44, "bits": [24, 8]},
    {"name": "owner", "type": "u32", "offset": 44, "bits": [0, 24]},
    {"name": "sub_index", "type": "u32", "offset": 48},
    {"name": "rotation", "type": "i16", "count": 3, "offset": 52, "scale": _HALF_TURN, "unit": "rad"},
)

DOCUMENTS: Final[Mapping[str, Mapping[str, object]]] = {
    "avatars": {
        "name": "avatars",
        "fields": [*_PACKET, {"name": "player", "type": "text", "offset": 58, "bytes": 42}],
        "position": "position",
        "heading": "rotation.0",
        "label": "player",
        "class": "sub_index",
    },
    "xrgrid": {
        "name": "xrgrid",
        "fields": [*_PACKET, {"name": "payload", "type": "bytes", "offset": 58, "bytes": 42}],
        "position": "position",
        "heading": "rotation.0",
        "label": "id",
        "class": "kind",
    },
    "transform3d": {
        "name": "transform3d",
        "fields": [{"name": "transform", "type": "variant", "offset": 0}],
        "position": ["transform.9", "transform.10", "transform.11"],
        "heading": ["transform.2", "transform.8"],
    },
}
"""By name: the demo's walkers, V-Sekai's entity packet of 100 bytes (``XRGridEntityPacket``), a Godot Transform3D as
``var_to_bytes`` writes it."""


def resolve(given: object) -> Layout:
    """The layout that a document is, or a name stands for. Raises :class:`Unprocessable`."""
    if isinstance(given, str):
        if given not in DOCUMENTS:
            raise Unprocessable(
                f"layout {given!r:.64} is not built in; known are {', '.join(DOCUMENTS)}, or send a document"
            )
        return _built_in(given)
    return parse(given)


@cache
def _built_in(name: str) -> Layout:
    return parse(DOCUMENTS[name])


def told(document: object) -> Layout | None:
    """The layout that a gateway or a film tells of a world. None where it has none, or one that only a newer one understands."""
    try:
        # Parsed, and dropped where it cannot be: a layout is for those who look, and nothing else depends
        # on it.
        return None if document is None else parse(document)
    except Unprocessable:
        return None


@lru_cache(limits.LAYOUTS_CACHED_MAX)
def kept(text: str | None) -> Layout | None:
    """The layout that a world's database has. None where it has none, or one that only a newer gateway understands."""
    if text is None:
        return None
    try:
        return told(loads(text))
    except ValueError:
        return None
