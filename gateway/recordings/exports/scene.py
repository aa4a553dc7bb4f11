"""The document of a glTF scene, and its numbers. Room: recordings. Source: Khronos glTF 2.0, section 5."""

from __future__ import annotations

import colorsys
import math
import sys
from array import array
from typing import Any, BinaryIO, Final

from gateway.recordings.exports.tracks import NUMBERS, Track, Tracks

_FLOAT, _USHORT = 5126, 5123
_VERTICES, _INDICES = 34962, 34963
_GOLDEN: Final = 0.381966
"""Of a turn: colours of classes that follow each other lie far apart."""
_MARK: Final = ((-0.2, 0.0, -0.2), (0.2, 0.0, -0.2), (0.0, 0.4, -0.2), (0.0, 0.1, 0.4))
"""A small pointer with its tip at +z."""
_FACES: Final = (0, 2, 1, 0, 1, 3, 1, 2, 3, 2, 0, 3)
_PATHS: Final = (("translation", "VEC3", slice(1, 4)), ("rotation", "VEC4", slice(4, 8)))


class Scene:
    """Takes tracks one after the other; their numbers go to ``body``, what is kept of each is a node and its accessors."""

    def __init__(self, world: str, generator: str, body: BinaryIO) -> None:
        self._body = body
        self._world = world
        self._generator = generator
        self._nodes: list[dict[str, object]] = []
        self._accessors: list[dict[str, object]] = []
        self._samplers: list[dict[str, object]] = []
        self._channels: list[dict[str, object]] = []
        self._meshes: dict[str, int] = {}
        self._views: list[dict[str, object]] = []
        self._write_mark()
        self._numbers_at = body.tell()

    def _write_mark(self) -> None:
        corners = array("f", [one for corner in _MARK for one in corner])
        least = [min(corner[i] for corner in _MARK) for i in range(3)]
        most = [max(corner[i] for corner in _MARK) for i in range(3)]
        # As 32-bit floats: a validator compares the bounds with what is stored, bit by bit.
        low, high = (_as_stored(least), _as_stored(most))
        for data, target in ((corners, _VERTICES), (array("H", _FACES), _INDICES)):
            at, size = self._put(data)
            self._views.append({"buffer": 0, "byteOffset": at, "byteLength": size, "target": target})
        self._accessors = [
            {
                "bufferView": 0,
                "componentType": _FLOAT,
                "count": len(_MARK),
                "type": "VEC3",
                "min": low,
                "max": high,
            },
            {"bufferView": 1, "componentType": _USHORT, "count": len(_FACES), "type": "SCALAR"},
        ]

    def add(self, track: Track, tracks: Tracks) -> None:
        """One record's node and channels."""
        if not track.samples:
            return
        node = len(self._nodes)
        mesh = self._meshes.setdefault(track.kind, len(self._meshes))
        self._nodes.append(
            {"name": track.label, "mesh": mesh, "extras": {"key": track.key, "class": track.kind}}
        )
        times = self._series(track, tracks, slice(0, 1), "SCALAR")
        first = next(tracks.read(track))
        self._accessors[times]["min"] = [first[0]]
        self._accessors[times]["max"] = [track.last_s]
        for path, kind, part in _PATHS:
            self._channel(node, path, times, self._series(track, tracks, part, kind), "LINEAR")
        begins = track.there[0][0]
        if len(track.there) > 1 or begins > 0:
            events = track.there if begins == 0 else [(0.0, False), *track.there]
            at = self._accessor(array("f", [second for second, _ in events]), "SCALAR")
            self._accessors[at]["min"], self._accessors[at]["max"] = [events[0][0]], [events[-1][0]]
            scales = array("f", [float(there) for _, there in events for _ in range(3)])
            self._channel(node, "scale", at, self._accessor(scales, "VEC3"), "STEP")

    def _series(self, track: Track, tracks: Tracks, part: slice, kind: str) -> int:
        begin = self._body.tell()
        for piece in tracks.read(track):
            many = part.stop - part.start
            chosen = array("f", bytes(4 * many * (len(piece) // NUMBERS)))
            for at in range(many):
                chosen[at::many] = piece[part.start + at :: NUMBERS]
            # Columns of a time, a place, a rotation: glTF wants each in its own accessor.
            self._put(chosen)
        return self._accessor_at(begin, track.samples, kind)

    def _accessor(self, numbers: array[float], kind: str) -> int:
        begin, _ = self._put(numbers)
        return self._accessor_at(begin, len(numbers) // (3 if kind == "VEC3" else 1), kind)

    def _accessor_at(self, begin: int, count: int, kind: str) -> int:
        self._accessors.append(
            {
                "bufferView": 2,
                "byteOffset": begin - self._numbers_at,
                "componentType": _FLOAT,
                "count": count,
                "type": kind,
            }
        )
        return len(self._accessors) - 1

    def _channel(self, node: int, path: str, times: int, values: int, how: str) -> None:
        self._channels.append({"sampler": len(self._samplers), "target": {"node": node, "path": path}})
        self._samplers.append({"input": times, "output": values, "interpolation": how})

    def _put(self, data: array[int] | array[float]) -> tuple[int, int]:
        if sys.byteorder == "big":
            data.byteswap()
        at, raw = self._body.tell(), data.tobytes()
        # Accessors begin at multiples of their component's size (glTF 2.0 section 3.6.2.4).
        self._body.write(raw + bytes(-len(raw) % 4))
        return at, len(raw)

    def document(self) -> dict[str, object]:
        """The whole of it, when every track has been added."""
        size = self._body.tell()
        views = list(self._views)
        if size > self._numbers_at:
            views.append({"buffer": 0, "byteOffset": self._numbers_at, "byteLength": size - self._numbers_at})
        found: dict[str, Any] = {
            "asset": {"version": "2.0", "generator": self._generator},
            "scene": 0,
            "scenes": [{"name": self._world}],
            "buffers": [{"byteLength": size}],
            "bufferViews": views,
            "accessors": self._accessors,
        }
        if self._nodes:
            found["scenes"][0]["nodes"] = list(range(len(self._nodes)))
            found["nodes"] = self._nodes
            found["animations"] = [
                {"name": self._world, "channels": self._channels, "samplers": self._samplers}
            ]
            found["meshes"] = [_mesh(kind, i) for kind, i in self._meshes.items()]
            found["materials"] = [_material(kind, i) for kind, i in self._meshes.items()]
        return found


def _mesh(kind: str, material: int) -> dict[str, object]:
    part = {"attributes": {"POSITION": 0}, "indices": 1, "material": material}
    return {"name": f"class {kind}".strip(), "primitives": [part]}


def _material(kind: str, number: int) -> dict[str, object]:
    colour = colorsys.hsv_to_rgb(math.fmod(0.57 + number * _GOLDEN, 1.0), 0.65, 0.8)
    surface = {"baseColorFactor": [*colour, 1.0], "metallicFactor": 0.0, "roughnessFactor": 0.8}
    return {"name": f"class {kind}".strip(), "pbrMetallicRoughness": surface, "doubleSided": True}


def _as_stored(numbers: list[float]) -> list[float]:
    return list(array("f", numbers))
