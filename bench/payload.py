"""The frames that benchmarks send: records of 100 bytes that carry their own time. Room: bench. Pure.

Every record is ``u32 key, u64 sent_at_us, padding``: 100 bytes (stride 100), so that a reader knows the
age of each record however it came (a frame, a repair, a keyframe).
"""

from __future__ import annotations

import struct

import numpy as np
import numpy.typing as npt

from bench.ages import AgeHistogram
from gateway.wire import Frame, Record, split

STRIDE = 100
HEADER_BYTES = 24
TICKS_FLAG = 8
TYPE_FRAME = 1
STILL_MESSAGE_BYTES = 1100

_LAYOUT = [("key", "<u4"), ("sent", "<u8"), ("rest", "V88")]
RECORD = np.dtype(_LAYOUT)
RECORD_WITH_TICK = np.dtype([("tick", "<u4"), *_LAYOUT])


def records_for(frame_bytes: int) -> int:
    """How many records a frame of about ``frame_bytes`` holds, at least one."""
    return max(1, (frame_bytes - HEADER_BYTES) // STRIDE)


def messages(tick: int, records: int, now_us: int, message_bytes_max: int = 1100) -> list[bytes]:
    """One frame in which every record moves, as messages ready to send."""
    rows = np.zeros(records, dtype=RECORD)
    rows["key"] = np.arange(1, records + 1)
    rows["sent"] = now_us
    body = rows.tobytes()
    made = [Record(n + 1, body[n * STRIDE : (n + 1) * STRIDE]) for n in range(records)]
    return split(Frame(0, tick, made, stride=STRIDE, sent_at=now_us), message_bytes_max)


def still_messages(first_key: int, records: int) -> list[bytes]:
    """A frame (tick 0) of records that never move again: keys from ``first_key``."""
    made = [
        Record(key, struct.pack("<IQ", key, 0) + bytes(STRIDE - 12))
        for key in range(first_key, first_key + records)
    ]
    return split(Frame(0, 0, made, stride=STRIDE), STILL_MESSAGE_BYTES)


def parse(message: bytes) -> npt.NDArray[np.void] | None:
    """The records of a message as a structured array (fields ``key``, ``sent``), or None for another message."""
    if len(message) <= HEADER_BYTES or message[0] != TYPE_FRAME:
        return None
    dtype = RECORD_WITH_TICK if message[1] & TICKS_FLAG else RECORD
    if (len(message) - HEADER_BYTES) % dtype.itemsize:
        return None
    return np.frombuffer(message, dtype=dtype, offset=HEADER_BYTES)


class ReaderAges:
    """One reader's newest records (keys 1 to ``records``; others are not weighed), and the time at each age."""

    __slots__ = ("_from", "_sent", "bytes", "histogram", "messages", "newest")

    def __init__(self, records: int) -> None:
        self._sent = np.zeros(records + 1, dtype=np.int64)
        self._from = np.zeros(records + 1, dtype=np.int64)
        self.histogram = AgeHistogram()
        self.messages = 0
        self.bytes = 0
        self.newest = 0

    def take(self, message: bytes, now_us: int) -> int:
        """Apply one message; answers how many records it renewed."""
        self.messages += 1
        self.bytes += len(message)
        rows = parse(message)
        if rows is None:
            return 0
        rows = rows[rows["key"] < len(self._sent)]
        keys = rows["key"].astype(np.int64)
        sent = rows["sent"].astype(np.int64)
        newer = sent > self._sent[keys]
        keys, sent = keys[newer], sent[newer]
        known = self._sent[keys] > 0
        shown = keys[known]
        if len(shown):
            self.histogram.add(self._sent[shown], self._from[shown], now_us)
        self._sent[keys] = sent
        self._from[keys] = now_us
        return len(keys)

    def finish(self, now_us: int) -> None:
        """The end of the run: what is shown now has been shown until now."""
        known = np.flatnonzero(self._sent)
        if len(known):
            self.histogram.add(self._sent[known], self._from[known], now_us)

    def restart(self) -> None:
        """Warm-up is over: forget the ages so far, keep the state."""
        self.histogram = AgeHistogram()
        self.messages = self.bytes = 0
