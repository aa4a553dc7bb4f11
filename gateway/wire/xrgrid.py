"""V-Sekai's entity packet: 100 bytes, all integers, its global id first. Room: wire. Pure.

The gateway treats records as opaque; this is for those who show or make them. Source: the layout
table of V-Sekai's ``lean-entity-packet`` (``XRGridEntityPacket``):

====== ==================== =====================================================
offset field                encoding
====== ==================== =====================================================
0      global id            u32
4      position x, y, z     i64, absolute micrometres
28     velocity x, y, z     i16, ±32767 = ±500,000 micrometres a tick
34     (unused)             6 bytes
40     hybrid logical clock u32, frame << 8 | counter
44     class and owner      u32
48     sub-index            u32
52     rotation             i16 swing-twist × 3
58     payload              42 bytes
====== ==================== =====================================================
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from gateway.errors import Unprocessable

PACKET_BYTES = 100
VELOCITY_UM_A_TICK_MAX = 500_000
_LAYOUT = struct.Struct("<I3q3h6x3I3h42s")


class EntityPacket(NamedTuple):
    """One packet's fields, as integers in the wire's own units."""

    global_id: int
    position_um: tuple[int, int, int]
    velocity: tuple[int, int, int]
    clock: int
    class_owner: int
    sub_index: int
    rotation: tuple[int, int, int]
    payload: bytes = b""

    def encode(self) -> bytes:
        """The 100 bytes. Raises ``struct.error`` for a field outside its range."""
        head = (self.clock, self.class_owner, self.sub_index)
        return _LAYOUT.pack(
            self.global_id, *self.position_um, *self.velocity, *head, *self.rotation, self.payload
        )

    @classmethod
    def decode(cls, data: bytes) -> EntityPacket:
        """Read a packet; raises :class:`Unprocessable` unless it has 100 bytes."""
        if len(data) != PACKET_BYTES:
            raise Unprocessable(f"an xrgrid packet has {PACKET_BYTES} bytes, this record has {len(data)}")
        gid, px, py, pz, vx, vy, vz, clock, owner, sub, rx, ry, rz, payload = _LAYOUT.unpack(data)
        return cls(gid, (px, py, pz), (vx, vy, vz), clock, owner, sub, (rx, ry, rz), payload)

    def as_json(self) -> dict[str, object]:
        """In metres, metres a tick and hex; JSON-ready."""
        scale = VELOCITY_UM_A_TICK_MAX / 32_767 / 1e6
        return {
            "global_id": self.global_id,
            "position_m": [axis / 1e6 for axis in self.position_um],
            "velocity_m_per_tick": [round(axis * scale, 6) for axis in self.velocity],
            "frame": self.clock >> 8,
            "counter": self.clock & 0xFF,
            "class_owner": self.class_owner,
            "sub_index": self.sub_index,
            "rotation_swing_twist": list(self.rotation),
            "payload": self.payload.rstrip(b"\0").hex(),
        }
