"""Ages of frames at a lean reader: noted as plain numbers, weighed when the run is over. Room: bench/lean.

All records of a frame carry one time, so a message is one sample with as many records as weight. Messages of
another form (repairs, keyframes) go record by record. The result is that of :class:`bench.payload.ReaderAges`.
"""

from __future__ import annotations

import struct
from array import array

import numpy as np

from bench.ages import AgeHistogram
from bench.payload import HEADER_BYTES, STRIDE, TYPE_FRAME, parse

_FIRST = struct.Struct("<IQ").unpack_from
SAMPLES_MAX = 500_000
"""Then they are weighed at once: 16 MB of numbers."""


class Samples:
    """Values that were shown: set at, shown from, shown until (Unix µs), and how many records."""

    def __init__(self) -> None:
        self._numbers = array("q")
        self._append = self._numbers.extend
        self.histogram = AgeHistogram()

    def note(self, sent_us: int, from_us: int, to_us: int, records: int) -> None:
        """One value's time."""
        self._append((sent_us, from_us, to_us, records))
        if len(self._numbers) > 4 * SAMPLES_MAX:
            self.weigh()

    def weigh(self) -> AgeHistogram:
        """Put what was noted into the histogram; answers it."""
        if self._numbers:
            rows = np.array(self._numbers, dtype=np.int64).reshape(-1, 4)
            del self._numbers[:]
            each = np.repeat(rows[:, :3], rows[:, 3], axis=0)
            self.histogram.add(each[:, 0], each[:, 1], each[:, 2])
        return self.histogram

    def restart(self) -> None:
        """Forget everything."""
        del self._numbers[:]
        self.histogram = AgeHistogram()


class LeanAges:
    """One reader's newest records (keys 1 to ``records``), into ``samples`` shared by many readers."""

    __slots__ = ("_counted", "_from", "_sent", "bytes", "messages", "renewed_in_all", "samples")

    def __init__(self, records: int, samples: Samples) -> None:
        self._sent = [0] * (records + 1)
        self._from = [0] * (records + 1)
        self.samples = samples
        self.messages = self.bytes = self.renewed_in_all = self._counted = 0

    @property
    def renewed(self) -> int:
        """Records that became newer since the restart."""
        return self.renewed_in_all - self._counted

    def take(self, data: bytes, at: int, end: int, now_us: int) -> None:
        """A message: ``data[at:end]``, come at ``now_us``."""
        self.messages += 1
        self.bytes += end - at
        if end - at <= HEADER_BYTES or data[at] != TYPE_FRAME:
            return
        count, rest = divmod(end - at - HEADER_BYTES, STRIDE)
        key, sent = _FIRST(data, at + HEADER_BYTES)
        known = self._sent
        stop = key + count
        if data[at + 1] or rest or stop > len(known) or not key or sent <= known[key]:
            self._take_each(data[at:end], now_us)
            return
        if known[key]:
            self.samples.note(known[key], self._from[key], now_us, count)
        known[key:stop] = [sent] * count
        self._from[key:stop] = [now_us] * count
        self.renewed_in_all += count

    def _take_each(self, message: bytes, now_us: int) -> None:
        rows = parse(message)
        if rows is None:
            return
        known = self._sent
        for key, sent in zip(rows["key"].tolist(), rows["sent"].tolist(), strict=True):
            if key >= len(known) or sent <= known[key]:
                continue
            if known[key]:
                self.samples.note(known[key], self._from[key], now_us, 1)
            known[key], self._from[key] = sent, now_us
            self.renewed_in_all += 1

    def finish(self, now_us: int) -> None:
        """What is shown now has been shown until now."""
        for sent, since in zip(self._sent, self._from, strict=True):
            if sent:
                self.samples.note(sent, since, now_us, 1)

    def restart(self) -> None:
        """The warm-up is over: keep the state, count anew. The samples are restarted apart."""
        self.messages = self.bytes = 0
        self._counted = self.renewed_in_all
