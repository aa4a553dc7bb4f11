"""Messages of newest values: what repairs a loss and what a slow reader gets. Room: core. Pure."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Final

from gateway.core.stale import StaleSet
from gateway.core.state import RECORD_HEAD_BYTES, WorldState
from gateway.core.window import Keys
from gateway.limits import REPAIR_STREAM_MESSAGE_BYTES, REPAIRS_SHARED_MAX
from gateway.wire.frames import HEADER_BYTES, Frame, encode_frame, encode_repair
from gateway.wire.records import RecordColumns, fits_stride

RECORD_BYTES_LEAST: Final = 16
"""What each record that waits counts for at least where it is asked whether there is room for all of them: its head and a word. A
removal is its head alone (``RECORD_HEAD_BYTES``), so it is that by which messages are filled."""
_U32: Final = struct.Struct("<I")
_TICK_BYTES: Final = 4


class SharedRepairs:
    """Repair messages of one turn of all readers, by their keys: those that fell behind together miss
    the same records, which are encoded once for all of them. Outside a turn nothing is shared, for the
    state may have changed."""

    __slots__ = ("_messages", "_state")

    def __init__(self, state: WorldState) -> None:
        self._state = state
        self._messages: dict[Keys, bytes] | None = None

    def begin(self) -> None:
        """A turn begins: the state stays as it is until :meth:`end`."""
        self._messages = {}

    def end(self) -> None:
        self._messages = None

    def next(self, stale: StaleSet, message_bytes_max: int) -> tuple[Keys, bytes]:
        """The most urgent keys of ``stale`` that fit one message (at least one), and the message: longer
        than ``message_bytes_max`` where not even the first fits."""
        state = self._state
        if state.stride:
            # Records of one length: how many fit is a division, where others are weighed one by one.
            count = max(1, (message_bytes_max - HEADER_BYTES) // (state.stride + _TICK_BYTES))
            keys = tuple(islice(stale.urgent(count), count))
            message = self._shared(keys) or encode_strided(state, keys)
            # What is shared may have been made without the stride, for a larger message.
            if message is not None and len(message) <= message_bytes_max:
                self._share(keys, message)
                return keys, message
        keys = pick(state, stale.urgent(message_bytes_max // RECORD_HEAD_BYTES + 1), message_bytes_max)
        message = self._shared(keys) or encode_newest(state, keys)
        self._share(keys, message)
        return keys, message

    def _shared(self, keys: Keys) -> bytes | None:
        return None if self._messages is None else self._messages.get(keys)

    def _share(self, keys: Keys, message: bytes) -> None:
        messages = self._messages
        if messages is not None and len(messages) < REPAIRS_SHARED_MAX:
            messages[keys] = message


def encode_strided(state: WorldState, keys: Keys) -> bytes | None:
    """As :func:`encode_newest` for records that are all there and of the state's stride; None: some are not."""
    records, stride, base, pack = state.records, state.stride, state.epoch << 32, _U32.pack
    chunks: list[bytes] = []
    for key in keys:
        found = records.get(key)
        if found is None:
            return None
        order, data = found
        if len(data) != stride or not data.startswith(pack(key)):
            return None
        chunks.append(pack(order - base if order > base else 0))
        chunks.append(data)
    return encode_repair(state.epoch, state.tick, state.sent_at, stride, chunks)


def encode_since(state: WorldState, order: int) -> tuple[Keys, list[bytes]]:
    """The keys whose newest values, or whose removal, is younger than ``order``, and the repair messages that say so."""
    keys = [key for key, (since, _) in state.records.items() if since > order]
    keys += [key for key, since in state.tombstones.items() if since > order]
    messages, left = list[bytes](), keys
    # Cut by a bound on their number first, for pick() stops at the bytes but would be handed the whole list each
    # time.
    while left:
        some = pick(
            state, left[: REPAIR_STREAM_MESSAGE_BYTES // RECORD_HEAD_BYTES], REPAIR_STREAM_MESSAGE_BYTES
        )
        messages.append(encode_newest(state, some))
        left = left[len(some) :]
    return tuple(keys), messages


def pick(state: WorldState, urgent: Iterable[int], message_bytes_max: int) -> tuple[int, ...]:
    """The first keys of ``urgent`` whose newest values fit one message; at least one, if any."""
    records = state.records
    left = message_bytes_max - HEADER_BYTES
    picked: list[int] = []
    for key in urgent:
        found = records.get(key)
        left -= RECORD_HEAD_BYTES if found is None else RECORD_HEAD_BYTES + len(found[1])
        if left < 0 and picked:
            break
        picked.append(key)
        if left < 0:
            break
    return tuple(picked)


def encode_newest(state: WorldState, keys: Sequence[int]) -> bytes:
    """One repair message with the newest values of ``keys``. A key that is no longer there goes as
    removed, as of its removal or, where that is forgotten, as of the newest tick."""
    records, tombstones, base = state.records, state.tombstones, state.epoch << 32
    values: list[bytes | None] = []
    ticks = []
    stride = state.stride
    for key in keys:
        found = records.get(key)
        order, data = found if found is not None else (tombstones.get(key, state.order), None)
        values.append(data)
        ticks.append(order - base if order > base else 0)
        # One record that does not fit is enough: a message has one stride, or none.
        if stride and not fits_stride(key, data, stride):
            stride = 0
    columns = RecordColumns(tuple(keys), values, ticks)
    frame = Frame.of_columns(state.epoch, state.tick, columns, stride=stride, sent_at=state.sent_at)
    # Their number is not known: repairs belong to no frame that could be counted.
    frame.repair, frame.parts = True, 0
    return encode_frame(frame)
