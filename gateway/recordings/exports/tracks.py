"""How records moved, as series of numbers by record, with a bounded part of them in memory. Room: recordings."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO, Final

from gateway import limits
from gateway.errors import TooLarge
from gateway.wire.layouts.poses import UNTURNED, Pose, Quaternion, Vector

NUMBERS: Final = 8
"""Of a sample: seconds, three of the place, four of the rotation."""
_MOST: Final = 3.4e38
"""Of a float of 32 bits."""


@dataclass
class Track:
    """One record's: its samples since the last that went to disk, where those are, and from when to when it was there."""

    key: int
    label: str
    kind: str
    held: array[float] = field(default_factory=lambda: array("f"))
    pieces: list[tuple[int, int]] = field(default_factory=list)
    samples: int = 0
    last_s: float = -1.0
    last: tuple[Vector, Quaternion] | None = None
    there: list[tuple[float, bool]] = field(default_factory=list)
    """When it came and when it went."""


class Tracks:
    """Samples of all records. What is held goes to ``spill`` piece by piece. Raises :class:`TooLarge` with more records,
    or more samples, than a viewer shows."""

    def __init__(self, spill: BinaryIO) -> None:
        self._spill = spill
        self._spilled = 0
        self._samples = 0
        self.by_key: dict[int, Track] = {}

    def begin(self, key: int, label: str, kind: str) -> None:
        """A record that was not there before."""
        if len(self.by_key) >= limits.GLTF_RECORDS_MAX:
            raise TooLarge(
                f"more than {limits.GLTF_RECORDS_MAX} records are too many for one glTF scene; take a shorter stretch "
                "(--from, --to), or another --format"
            )
        self.by_key[key] = Track(key, label, kind)

    def put(self, key: int, pose: Pose, at_s: float, before_s: float) -> None:
        """A record, which has a track, is here at ``at_s``; ``before_s``: the step before, up to which it was where it was last."""
        track = self.by_key[key]
        if not track.there or not track.there[-1][1]:
            self._event(track, at_s, True)
        # A record that rested is in no step: without a sample at the end of its rest a viewer would have it
        # glide all the while.
        elif track.last is not None and before_s > track.last_s:
            self._sample(track, before_s, *track.last)
        self._sample(track, at_s, pose.place, _near(track.last, pose.rotation or UNTURNED))

    def gone(self, key: int, at_s: float) -> None:
        """A record was removed, or no longer says where it is."""
        track = self.by_key.get(key)
        if track is not None and track.there[-1][1]:
            self._event(track, at_s, False)

    def read(self, track: Track) -> Iterator[array[float]]:
        """Its samples, piece by piece."""
        for at, size in track.pieces:
            self._spill.seek(at)
            piece = array("f")
            piece.frombytes(self._spill.read(size))
            yield piece
        if track.held:
            yield track.held

    def _event(self, track: Track, at_s: float, there: bool) -> None:
        if track.there and track.there[-1][0] == at_s:
            track.there.pop()
            if track.there and track.there[-1][1] == there:
                return
        track.there.append((at_s, there))
        self._count()

    def _sample(self, track: Track, at_s: float, place: Vector, turned: Quaternion) -> None:
        if at_s <= track.last_s:
            if track.held and track.held[-NUMBERS] == at_s:  # a part of the same tick that came late
                track.held[-NUMBERS:] = array("f", (at_s, *place, *turned))
                track.last = (place, turned)
            return
        x, y, z = place
        if not (-_MOST < x < _MOST and -_MOST < y < _MOST and -_MOST < z < _MOST):  # no NaN is
            return
        self._count()
        track.held.extend((at_s, *place, *turned))
        track.samples += 1
        track.last_s, track.last = at_s, (place, turned)
        if len(track.held) >= NUMBERS * limits.GLTF_SAMPLES_HELD:
            data = track.held.tobytes()
            self._spill.seek(self._spilled)
            self._spill.write(data)
            track.pieces.append((self._spilled, len(data)))
            self._spilled += len(data)
            track.held = array("f")

    def _count(self) -> None:
        self._samples += 1
        if self._samples > limits.GLTF_SAMPLES_MAX:
            raise TooLarge(
                f"more than {limits.GLTF_SAMPLES_MAX} samples are too many for one glTF file; take a shorter stretch "
                "(--from, --to), or another --format"
            )


def _near(last: tuple[Vector, Quaternion] | None, turned: Quaternion) -> Quaternion:
    """Of the two quaternions of one rotation the one nearer to the last, so that what lies between goes the short way."""
    x, y, z, w = turned
    if last is None:
        return turned
    lx, ly, lz, lw = last[1]
    return turned if lx * x + ly * y + lz * z + lw * w >= 0 else (-x, -y, -z, -w)
