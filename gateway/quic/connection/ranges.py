"""Sets of numbers as ranges, found by bisection and bounded in their count. Room: quic. Pure.

A step costs a bisection, whatever came before it, and whoever receives sets a bound (RFC 9000 section 21.7).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator
from operator import attrgetter

from aioquic.quic.packet import QuicErrorCode, QuicFrameType

from gateway.quic.connection.faults import PeerFault

_start: Callable[[range], int] = attrgetter("start")
_stop: Callable[[range], int] = attrgetter("stop")


class Ranges:
    """Ascending, none touching another. ``count_max``: adding to more than so many raises a :class:`PeerFault` of
    ``code``; None: whatever bounds the numbers bounds the ranges. ``parts`` is for reading in line."""

    __slots__ = ("_count_max", "_fault", "parts")

    def __init__(
        self,
        count_max: int | None = None,
        code: int = QuicErrorCode.PROTOCOL_VIOLATION,
        frame_type: int = QuicFrameType.STREAM_BASE,
    ) -> None:
        self.parts: list[range] = []
        self._count_max = count_max
        self._fault = (code, frame_type)

    def __iter__(self) -> Iterator[range]:
        return iter(self.parts)

    def __len__(self) -> int:
        return len(self.parts)

    def add(self, start: int, stop: int) -> None:
        """Add ``start`` to ``stop`` (one past the last). Raises :class:`PeerFault` beyond the bound."""
        ranges = self.parts
        if not ranges or start > ranges[-1].stop:
            ranges.append(range(start, stop))
        else:
            low = bisect_left(ranges, start, key=_stop)
            high = bisect_right(ranges, stop, lo=low, key=_start)
            if low < high:
                start, stop = min(start, ranges[low].start), max(stop, ranges[high - 1].stop)
            ranges[low:high] = (range(start, stop),)
        if self._count_max is not None and len(ranges) > self._count_max:
            raise PeerFault(*self._fault, f"data with gaps in more than {self._count_max} pieces")

    def subtract(self, start: int, stop: int) -> None:
        """Take ``start`` to ``stop`` (one past the last) away."""
        ranges = self.parts
        low = bisect_right(ranges, start, key=_stop)
        high = bisect_left(ranges, stop, lo=low, key=_start)
        if low == high:
            return
        first, last = ranges[low].start, ranges[high - 1].stop
        rest = []
        if first < start:
            rest.append(range(first, start))
        if last > stop:
            rest.append(range(stop, last))
        ranges[low:high] = rest
