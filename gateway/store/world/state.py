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

from gateway.limits import REPLAYED_FRAMES_WAITING_MAX
from gateway.wire.framechain import BodyLayout, FrameHead, KeyList
from gateway.wire.framecodec import Unpacked
from gateway.wire.frames import Frame, decode_frame
from gateway.wire.journal import Gap, Tail, order_of

_HEAD: Final = struct.Struct("<II")


class StoredState(Protocol):
    """World state as ``gateway.core.state.WorldState`` is it. ``records``: key → (order, bytes)."""

    @property
    def records(self) -> dict[int, tuple[int, bytes]]: ...

    @property
    def epoch(self) -> int: ...

    @property
    def tick(self) -> int: ...

    def apply(self, frame: Frame) -> object: ...

    def keyframe_messages(self, message_bytes_max: int, *, zstd: bool = False) -> list[bytes]: ...

    def snapshot(self) -> dict[int, bytes]: ...


MakeState = Callable[[], StoredState]


class Replayed:
    """Puts rows into a state in their order, but not those that a later one makes void.

    A frame of the same keys as an earlier one leaves nothing of it. So whole frames whose ticks rise
    wait here, one per list of keys, until something else comes or :meth:`settle` is called.
    """

    def __init__(self, state: StoredState) -> None:
        self._state = state
        self._reached = -1
        self._waiting: dict[KeyList, tuple[FrameHead, BodyLayout]] = {}

    def apply(self, row: Unpacked) -> None:
        """The next row."""
        head, layout = row.one_frame(), row.layout
        # A late part, or a message of several: only the state itself knows which of its records are newer.
        if head is None or layout is None or order_of(head.epoch, head.tick) <= self._reached:
            self.settle()
            for message in row.messages():
                self._state.apply(decode_frame(message))
            self._reached = order_of(self._state.epoch, self._state.tick)
            return
        self._reached = order_of(head.epoch, head.tick)
        # Taken out and put in again: they settle in the order in which they came, and a dict keeps a key's
        # first place.
        self._waiting.pop(layout.keys, None)
        self._waiting[layout.keys] = (head, layout)
        if len(self._waiting) >= REPLAYED_FRAMES_WAITING_MAX:
            self.settle()

    def settle(self) -> StoredState:
        """The state, with everything that was taken."""
        for head, layout in self._waiting.values():
            frame = Frame.of_columns(
                head.epoch, head.tick, layout.columns(), stride=layout.stride, sent_at=head.sent_at
            )
            self._state.apply(frame)
        self._waiting.clear()
        return self._state


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
    state: StoredState
    gaps: tuple[Gap, ...] = ()
    tail: Tail | None = None
    """Only by :meth:`gateway.store.world.history.History.to_go_on`."""

    def records(self) -> dict[int, bytes]:
        """key → bytes of every live record."""
        return self.state.snapshot()


def state_hash(records: Mapping[int, bytes]) -> bytes:
    """BLAKE3-256 over the records in key order: u32 key, u32 length (little-endian), bytes of each."""
    hasher = blake3()
    for key in sorted(records):
        data = records[key]
        # With its length: without it two records could be cut at another place and give the same bytes.
        hasher.update(_HEAD.pack(key, len(data)) + data)
    return hasher.digest()


def live_records(messages: Iterable[bytes]) -> dict[int, bytes]:
    """The records that a keyframe row holds; those it tells as removed are not among them."""
    records: dict[int, bytes] = {}
    for message in messages:
        keys, values, _ = decode_frame(message).columns()
        records.update([(key, data) for key, data in zip(keys, values, strict=True) if data is not None])
    return records
