"""What a replay needs of the rules, and what it gives back. Room: store.

The rules ("newer wins") live in ``core``; a replay is handed a maker of empty states, so that this
room does not depend on that one.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from blake3 import blake3

from gateway.wire.frames import Frame, decode_frame
from gateway.wire.journal import Gap

_HEAD: Final = struct.Struct("<II")


class State(Protocol):
    """World state as ``gateway.core.state.WorldState`` is it. ``records``: key → (order, bytes)."""

    records: dict[int, tuple[int, bytes]]
    epoch: int
    tick: int

    def apply(self, frame: Frame) -> object: ...

    def keyframe_messages(self, message_bytes_max: int, *, zstd: bool = False) -> list[bytes]: ...

    def snapshot(self) -> dict[int, bytes]: ...


MakeState = Callable[[], State]


@dataclass(frozen=True, slots=True)
class Recovered:
    """A world's state at one moment of its recording.

    ``seq``: the last row that went into it; ``received_at_us``, ``sent_at_us``: that row's times;
    ``gaps``: what is known to be missing of its epoch up to this moment (the newest ones).
    """

    epoch: int
    tick: int
    seq: int
    received_at_us: int
    sent_at_us: int
    state: State
    gaps: tuple[Gap, ...] = ()

    def records(self) -> dict[int, bytes]:
        """key → bytes of every live record."""
        return self.state.snapshot()


def state_hash(records: Mapping[int, bytes]) -> bytes:
    """BLAKE3-256 over the records in key order: u32 key, u32 length (little-endian), bytes of each."""
    hasher = blake3()
    for key in sorted(records):
        data = records[key]
        hasher.update(_HEAD.pack(key, len(data)) + data)
    return hasher.digest()


def live_records(messages: Iterable[bytes]) -> dict[int, bytes]:
    """The records that a keyframe row holds; those it tells as removed are not among them."""
    records: dict[int, bytes] = {}
    for message in messages:
        keys, values, _ = decode_frame(message).columns()
        records.update([(key, data) for key, data in zip(keys, values, strict=True) if data is not None])
    return records
