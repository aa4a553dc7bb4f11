"""World state: the newest record of each key. Room: core. Pure.

The same rules serve the gateway, a reader and the journal's recovery. Source: ``docs/FRAMES.md``,
"What is said". A record's *order* is ``epoch << 32 | tick``: one integer to compare.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from itertools import islice, repeat
from typing import Final, NamedTuple

from gateway.core.capacity import Capacity
from gateway.limits import (
    KEYFRAMES_PENDING_MAX,
    RECORDS_SAMPLED,
    STATE_UNREAD_BYTES_MAX,
    TOMBSTONE_TICKS,
    TOMBSTONES_MAX,
)
from gateway.wire.frames import Frame
from gateway.wire.journal import order_of
from gateway.wire.records import RecordColumns
from gateway.wire.split import split_together

TICK_MASK: Final = 0xFFFF_FFFF
_NOTHING: Final = (-1, b"")
RECORD_HEAD_BYTES: Final = 12
"""The most that stands before a record's bytes: tick, key, length."""


class Entry(NamedTuple):
    """One live record: when it was set, and its bytes."""

    order: int
    data: bytes


class Applied(NamedTuple):
    """What a message changed. ``changed``: the keys of which it brought something newer (removals
    included); ``dropped``: the keys that a keyframe, whole with this message, removed."""

    changed: tuple[int, ...]
    dropped: tuple[int, ...] = ()


class _PendingKeyframe:
    """The parts of a keyframe that have come so far, and the keys they hold."""

    __slots__ = ("keys", "parts")

    def __init__(self) -> None:
        self.parts: set[int] = set()
        self.keys: set[int] = set()


class WorldState:
    """key → newest record. ``revision`` rises with every message that changed something.

    A frame of the same keys as the one before it leaves nothing of it, so its records are only read
    when somebody asks for :attr:`records`, or a message of other keys comes.
    """

    __slots__ = (
        "_keyframes",
        "_records",
        "_same",
        "_unread",
        "capacity",
        "floor",
        "order",
        "revision",
        "sent_at",
        "stride",
        "tombstones",
    )

    def __init__(self, capacity: Capacity | None = None) -> None:
        self.capacity = capacity
        """What it may hold; None: whatever comes, as for who has it from a gateway."""
        self._records: dict[int, tuple[int, bytes]] = {}
        self.tombstones: dict[int, int] = {}
        """Removed keys and the order of their removal, oldest first."""
        self.floor = -1
        """Order of the publisher's newest whole keyframe: an absent key is gone as of then. A keyframe
        with the flag *ticks* is a gateway's, which may yet get older values of keys it never saw."""
        self.order = 0
        """Order of the newest frame seen."""
        self.stride = 0
        """The newest stride seen; keyframes are built with it where all records fit it."""
        self.revision = 0
        self.sent_at = 0
        """The publisher's clock in the newest frame, microseconds since the Unix epoch."""
        self._keyframes: dict[int, _PendingKeyframe] = {}
        self._same = Applied(())
        """What a frame changes that has the keys of the newest whole one. All of them have a record."""
        self._unread: Frame | None = None
        """The newest frame, of those keys, where its records are still to be read."""

    @property
    def keyframes_pending(self) -> int:
        """Keyframes of which some parts have come and others not; ``KEYFRAMES_PENDING_MAX`` at most."""
        return len(self._keyframes)

    def __len__(self) -> int:
        return len(self._records)

    @property
    def records(self) -> dict[int, tuple[int, bytes]]:
        """Live records: key → (order, bytes), an :class:`Entry` in plain tuples."""
        if self._unread is not None:
            self._read()
        return self._records

    @property
    def epoch(self) -> int:
        """Of the newest frame seen."""
        return self.order >> 32

    @property
    def tick(self) -> int:
        """Of the newest frame seen."""
        return self.order & TICK_MASK

    def get(self, key: int) -> Entry | None:
        """The live record of ``key``, if there is one."""
        found = self.records.get(key)
        return None if found is None else Entry(*found)

    def apply(self, frame: Frame) -> Applied:
        """Take what is newer in a message; older and equal records are dropped, and those that find no room
        (:attr:`capacity` counts them). Keep the message as it is."""
        order = (
            frame.epoch << 32 | frame.tick
        )  # `order_of` in line: each message comes here, mostly for nothing else
        stride = frame.stride
        if order > self.order and stride and not frame.ticks and not frame.keyframe:
            # A frame of the same keys in a newer tick leaves nothing of the last: its records are read when
            # somebody asks. With 100 publishers a message cost 11.0 µs before, 3.7 since (docs/PERFORMANCE.md).
            keys, same = frame.keys, self._same
            if keys and keys == same.changed and stride * len(keys) <= STATE_UNREAD_BYTES_MAX:
                self._unread = frame
                self.order, self.sent_at, self.stride = order, frame.sent_at, stride
                self.revision += 1
                return same
        return self._apply_now(frame, order)

    def _apply_now(self, frame: Frame, order: int) -> Applied:
        if self._unread is not None:
            self._read()
        keys, values, ticks = frame.columns()
        if self.capacity is not None:
            keys, values, ticks = self._fitting(self.capacity, keys, values, ticks)
        if frame.stride:
            self.stride = frame.stride
        # All newer, nothing removed, no key twice: then one update of the dict in C takes all of them.
        alike = ticks is None and frame.stride and len(set(keys)) == len(keys)
        if alike and order > self.order:
            self._take_all(keys, values, order)
            self._same = Applied(keys)
            changed = keys
        elif alike and order == self.order and self._knows_none_since(order, keys):
            self._take_all(keys, values, order)
            changed = keys
        else:
            base = frame.epoch << 32
            orders = repeat(order) if ticks is None else [base | tick for tick in ticks]
            changed = self._take_newer(keys, values, orders)
            order = max(order, *orders) if ticks else order
        if order > self.order:
            self.order, self.sent_at = order, frame.sent_at
        dropped = self._keyframe_part(frame, keys) if frame.keyframe else ()
        if changed or dropped:
            self.revision += 1
        return Applied(changed, dropped)

    def _fitting(
        self,
        capacity: Capacity,
        keys: tuple[int, ...],
        values: Sequence[bytes | None],
        ticks: Sequence[int] | None,
    ) -> RecordColumns:
        """The records that find room."""
        misfits = capacity.misfits(self._records, keys, values)
        if misfits is None:
            return RecordColumns(keys, values, ticks)
        kept = [at for at in range(len(keys)) if at not in misfits]
        own = None if ticks is None else [ticks[at] for at in kept]
        return RecordColumns(tuple([keys[at] for at in kept]), [values[at] for at in kept], own)

    def _read(self) -> None:
        """Read what was put off: the newest frame, whose keys all have a record already."""
        frame, self._unread = self._unread, None
        if frame is not None:
            keys, values, _ = frame.columns()
            # Ignored: ``values`` may hold None in general; a frame that was put off has none. strict=False: keys
            # bound the endless repeat(), and a check would cost at each frame.
            self._records.update(zip(keys, zip(repeat(self.order), values), strict=False))  # type: ignore[arg-type]

    def _take_all(self, keys: tuple[int, ...], values: Iterable[bytes | None], order: int) -> None:
        """The frequent case: newer than everything, and nothing removed."""
        # Ignored: as in _read(): nothing is removed, so no value is None.
        self._records.update(zip(keys, zip(repeat(order), values), strict=False))  # type: ignore[arg-type]
        if self.tombstones:
            for key in keys:
                self.tombstones.pop(key, None)

    def _knows_none_since(self, order: int, keys: tuple[int, ...]) -> bool:
        """True where all of these would be newer: as with the further parts of a frame."""
        get = self._records.get
        known = max([get(key, _NOTHING)[0] for key in keys], default=-1)
        return known < order and not self.tombstones

    def _take_newer(
        self, keys: tuple[int, ...], values: Sequence[bytes | None], orders: Iterable[int]
    ) -> tuple[int, ...]:
        if self._knows_none_of(keys) and None not in values:
            self._records.update(zip(keys, zip(orders, values, strict=False), strict=False))  # type: ignore[arg-type]
            return keys
        changed = []
        for key, data, order in zip(keys, values, orders, strict=False):
            if order > self.order_at(key):
                changed.append(key)
                self._set(key, data, order)
        return keys if len(changed) == len(keys) else tuple(changed)

    def _knows_none_of(self, keys: tuple[int, ...]) -> bool:
        """True where anything would be newer: as at a replay's first keyframe."""
        empty = self.floor < 0 and not self.tombstones
        return empty and self._records.keys().isdisjoint(keys) and len(set(keys)) == len(keys)

    def order_at(self, key: int) -> int:
        """The order that a record of ``key`` must exceed to be taken."""
        found = self.records.get(key)
        if found is not None:
            return found[0]
        # Below the floor by one: a value of the keyframe's own tick may come behind it, in another part of that
        # frame.
        return max(self.tombstones.get(key, -1), self.floor - 1)

    def _set(self, key: int, data: bytes | None, order: int) -> None:
        self.tombstones.pop(key, None)
        if data is not None:
            self._records[key] = (order, data)
            return
        self._records.pop(key, None)
        # A key of the last frame is gone: the next frame of the same keys brings it back, and must be looked at.
        self._same = Applied(())
        self.tombstones[key] = order
        self._prune_tombstones()

    def _prune_tombstones(self) -> None:
        """A removal is remembered for a while of ticks, and at most so many of them."""
        horizon = self.order - TOMBSTONE_TICKS
        while self.tombstones:
            oldest = next(iter(self.tombstones))
            # In the order of removal, so that nothing but the oldest is looked at.
            if self.tombstones[oldest] >= horizon and len(self.tombstones) <= TOMBSTONES_MAX:
                return
            del self.tombstones[oldest]

    def _keyframe_part(self, frame: Frame, keys: tuple[int, ...]) -> tuple[int, ...]:
        """Count a keyframe's part; once all are there, what none of them holds is gone."""
        order = order_of(frame.epoch, frame.tick)
        if not frame.parts or order < self.floor:
            return ()
        pending = self._keyframes.setdefault(order, _PendingKeyframe())
        pending.parts.add(frame.part)
        pending.keys.update(keys)
        if self.capacity is not None and len(pending.keys) > 2 * self.capacity.records_max:
            del self._keyframes[order]  # removals without end: no keyframe has them
            return ()
        if len(pending.parts) < frame.parts:
            while len(self._keyframes) > KEYFRAMES_PENDING_MAX:
                del self._keyframes[min(self._keyframes)]
            return ()
        return self._finish_keyframe(frame, order, pending.keys)

    def _finish_keyframe(self, frame: Frame, order: int, keys: set[int]) -> tuple[int, ...]:
        if not frame.ticks:
            self.floor = max(self.floor, order)
        for older in [o for o in self._keyframes if o <= order]:
            del self._keyframes[older]
        # Only what is older than the keyframe: a newer frame may have overtaken it with a key that it does not
        # have.
        gone = tuple([key for key in self.records.keys() - keys if self.records[key][0] < order])
        for key in gone:
            self._set(key, None, order)
        return gone

    def keyframe(self, *, zstd: bool = False) -> Frame:
        """Every live record as one keyframe with the flag *ticks*: cut it with :func:`gateway.wire.split`.
        Records of earlier epochs have tick 0, as they are older than anything of this one."""
        keys = tuple(self.records)
        values = [data for _, data in self.records.values()]
        ticks = [self.wire_tick(order) for order, _ in self.records.values()]
        stride = self.stride if self._fit_stride(keys, values) else 0
        return self._keyframe_of(RecordColumns(keys, values, ticks), stride, zstd)

    def _fit_stride(self, keys: tuple[int, ...], values: list[bytes]) -> bool:
        """As :func:`gateway.wire.records.fits_stride` for each."""
        # All heads in one call and one comparison, in place of a slice a record.
        heads = struct.pack(f"<{len(keys)}I", *keys)
        return {*map(len, values)} <= {self.stride} and b"".join([data[:4] for data in values]) == heads

    def keyframe_messages(self, message_bytes_max: int, *, zstd: bool = False) -> list[bytes]:
        """The keyframe cut into messages, remembered removals included: whoever gets it also knows
        *when* they were removed, and takes a value that was set after that but comes late."""
        frames = [self.keyframe(zstd=zstd)]
        if self.tombstones:
            keys, orders = tuple(self.tombstones), self.tombstones.values()
            removed = RecordColumns(keys, [None] * len(keys), [self.wire_tick(order) for order in orders])
            frames.append(self._keyframe_of(removed, 0, zstd))
        return split_together(frames, message_bytes_max)

    def _keyframe_of(self, columns: RecordColumns, stride: int, zstd: bool) -> Frame:
        frame = Frame.of_columns(self.epoch, self.tick, columns, stride=stride, sent_at=self.sent_at)
        frame.keyframe, frame.zstd = True, zstd
        return frame

    @property
    def record_bytes(self) -> int:
        """About how many bytes a record takes in a keyframe, from the first few."""
        # A few are enough: it decides between a stream and datagrams, and is asked in a reader's turn.
        sample = list(islice(self.records.values(), RECORDS_SAMPLED))
        return RECORD_HEAD_BYTES + sum([len(data) for _, data in sample]) // max(1, len(sample))

    def wire_tick(self, order: int) -> int:
        """The tick that a record of this order has in a message of the state's epoch."""
        return order & TICK_MASK if order >> 32 == self.epoch else 0

    def snapshot(self) -> dict[int, bytes]:
        """key → bytes of every live record."""
        return {key: data for key, (_, data) in self.records.items()}
