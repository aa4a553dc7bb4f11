"""What may differ from world to world. Room: core. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.limits import (
    JOURNAL_BYTES_MAX,
    READER_DATAGRAMS_MAX,
    RECORDS_PER_WORLD_MAX,
    STREAM_MESSAGE_BYTES_MAX,
    WORLD_BYTES_MAX,
)


@dataclass(frozen=True, slots=True)
class WorldSettings:
    """Of one world; ``stride`` 0: its first frame says it. Times and sizes carry their unit in the name."""

    stride: int = 0
    linger_s: float = 5.0
    keyframe_interval_s: float = 1.0
    lag_s: float = 2.0
    reader_datagrams_max: int = READER_DATAGRAMS_MAX
    journal_bytes_max: int = JOURNAL_BYTES_MAX
    message_bytes_max: int = STREAM_MESSAGE_BYTES_MAX
    records_max: int = RECORDS_PER_WORLD_MAX
    bytes_max: int = WORLD_BYTES_MAX
