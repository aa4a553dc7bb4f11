"""Avatars that walk about: synthetic frames with the statistics of real ones. Room: cli. Pure.

Each avatar strolls on a Lissajous path at walking speed, turns, stops at times, and its bones sway
with its gait; every avatar is ``bones`` records of 100 bytes (:mod:`gateway.wire.xrgrid`).
The same seed and tick always give the same bytes.
"""

from __future__ import annotations

import math
import random

from gateway.wire.xrgrid import EntityPacket

_STEP_S = 0.55
_ROTATION_UNIT = 32_767 / math.pi


class Avatars:
    """``count`` avatars of ``bones`` records each, at ``hz`` ticks a second. Keys count from 1."""

    def __init__(self, count: int, *, bones: int = 1, hz: float = 60.0, seed: int = 1) -> None:
        self.count = count
        self.bones = bones
        self.hz = hz
        draw = random.Random(seed)
        self._walks = [
            (draw.uniform(2, 8), draw.uniform(2, 8), draw.uniform(0.05, 0.12), draw.uniform(0, math.tau))
            for _ in range(count)
        ]

    def frame(self, tick: int) -> dict[int, bytes]:
        """key → 100 bytes of every bone that moved at this tick; at tick 0 and 1 of all of them."""
        records: dict[int, bytes] = {}
        for avatar in range(self.count):
            # The tick before, too: the last step before a rest is told once more, with the speed that is
            # then zero.
            if tick < 2 or not self._rests(avatar, tick) or not self._rests(avatar, tick - 1):
                for bone in range(self.bones):
                    packet = self._packet(avatar, bone, tick)
                    records[packet.global_id] = packet.encode()
        return records

    def _rests(self, avatar: int, tick: int) -> bool:
        """Each avatar of several bones stands still for two of every thirty seconds."""
        return self.bones > 1 and (tick / self.hz + 7 * avatar) % 30 < 2

    def _packet(self, avatar: int, bone: int, tick: int) -> EntityPacket:
        here, before = self._place(avatar, tick), self._place(avatar, tick - 1)
        phase = math.tau * (tick / self.hz) / _STEP_S + bone * 0.7 + avatar
        sway = 0.12 * math.sin(phase) * (bone % 7) / 7
        height = 0.03 * bone
        position = (_um(here[0] + sway), _um(1.0 + height + 0.02 * math.sin(2 * phase)), _um(here[1]))
        velocity = tuple(_velocity(now - then) for now, then in zip(here, before, strict=True))
        heading = math.atan2(here[0] - before[0], here[1] - before[1])
        rotation = (
            int(heading * _ROTATION_UNIT),
            int(0.4 * math.sin(phase) * _ROTATION_UNIT / 4),
            int(0.2 * math.cos(phase) * _ROTATION_UNIT / 4),
        )
        return EntityPacket(
            1 + avatar * self.bones + bone,
            position,
            (velocity[0], 0, velocity[1]),
            # The clock's upper 24 bits are the frame (gateway.wire.xrgrid).
            (tick & 0xFF_FFFF) << 8,
            1 << 24 | avatar,
            bone,
            rotation,
            f"avatar-{avatar}".encode(),
        )

    def _place(self, avatar: int, tick: int) -> tuple[float, float]:
        wide, deep, turns, start = self._walks[avatar]
        angle = start + math.tau * turns * tick / self.hz
        return wide * math.sin(angle), deep * math.sin(2 * angle + start)


def _um(metres: float) -> int:
    return round(metres * 1e6)


def _velocity(metres_a_tick: float) -> int:
    return max(-32_767, min(32_767, round(metres_a_tick / 0.5 * 32_767)))
