"""A world's rules, made from the settings and from what the store remembers. Room: runtime."""

from __future__ import annotations

import time
from typing import cast

from gateway.config import Settings
from gateway.core.admission import Refusals
from gateway.core.ports import Mark
from gateway.core.state import WorldState
from gateway.core.world import World
from gateway.core.worldsettings import WorldSettings
from gateway.runtime.recording import WorldRecording
from gateway.store.world import Recovered
from gateway.wallclock import now_us


def world_of(
    name: str,
    settings: Settings,
    database: WorldRecording,
    recovered: Recovered | None,
    refusals: Refusals | None = None,
) -> World:
    """The world in its last synced state, ``recovered``; None: nothing was ever recorded."""
    return World(
        name,
        WorldSettings(
            linger_s=settings.linger_ms / 1_000,
            keyframe_interval_s=settings.keyframe_interval_ms / 1_000,
            stride=database.world.info.stride,
            message_bytes_max=settings.max_message_bytes,
            records_max=settings.records_per_world_max,
            bytes_max=settings.world_bytes_max,
            reader_datagrams_max=settings.reader_datagrams_max,
        ),
        mono=time.monotonic(),
        now_us=now_us(),
        state=None if recovered is None else cast(WorldState, recovered.state),
        next_seq=database.opened.last_seq + 1,
        last_epoch=database.opened.epoch,
        durable=None if recovered is None else Mark(recovered.epoch, recovered.tick),
        tail=None if recovered is None else recovered.tail,
        refusals=refusals,
    )
