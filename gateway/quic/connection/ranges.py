"""Sets of numbers as ranges, found by bisection and bounded in their count. Room: quic. Pure.

aioquic looks through all ranges for each one that it adds or takes away, and keeps as many as a peer makes: frames
that leave gaps cost more the more came before. Here a step costs a bisection, and whoever receives sets a bound
(RFC 9000 section 21.7).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from operator import attrgetter
from typing import Any

from aioquic.quic.connection import QuicConnectionError
from aioquic.quic.packet import QuicErrorCode, QuicFrameType
from aioquic.quic.rangeset import RangeSet
from aioquic.quic.stream import QuicStream

from gateway import limits

_start: Any = attrgetter("start")
_stop: Any = attrgetter("stop")


class Ranges(RangeSet):
    """aioquic's set of ranges. ``count_max``: adding to more than so many raises a ``QuicConnectionError`` of
    ``error_code``; None: whatever bounds the numbers bounds the ranges."""

    def __init__(
        self,
        count_max: int | None = None,
        error_code: QuicErrorCode = QuicErrorCode.PROTOCOL_VIOLATION,
        frame_type: QuicFrameType = QuicFrameType.STREAM_BASE,
    ) -> None:
        super().__init__()
        self._ranges: list[range] = self._RangeSet__ranges  # type: ignore[attr-defined]
        self._count_max = count_max
        self._error = (error_code, frame_type)

    def add(self, start: int, stop: int | None = None) -> None:
        """Add ``start`` to ``stop`` (one past the last), or ``start`` alone."""
        ranges = self._ranges
        stop = start + 1 if stop is None else stop
        if not ranges or start > ranges[-1].stop:
            ranges.append(range(start, stop))
        else:
            low = bisect_left(ranges, start, key=_stop)
            high = bisect_right(ranges, stop, lo=low, key=_start)
            if low < high:
                start, stop = min(start, ranges[low].start), max(stop, ranges[high - 1].stop)
            ranges[low:high] = (range(start, stop),)
        if self._count_max is not None and len(ranges) > self._count_max:
            code, frame_type = self._error
            raise QuicConnectionError(
                error_code=code,
                frame_type=frame_type,
                reason_phrase=f"data with gaps in more than {self._count_max} pieces",
            )

    def subtract(self, start: int, stop: int) -> None:
        """Take ``start`` to ``stop`` (one past the last) away."""
        ranges = self._ranges
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


def bound_stream(stream: QuicStream, *, crypto: bool = False) -> None:
    """Let a stream that was just made keep what it knows in such ranges: what came, within the bound; and what is
    to be sent and what was acknowledged of that, which the bytes that a sender keeps bound."""
    code, kind = (
        (QuicErrorCode.CRYPTO_BUFFER_EXCEEDED, QuicFrameType.CRYPTO)
        if crypto
        else (QuicErrorCode.PROTOCOL_VIOLATION, QuicFrameType.STREAM_BASE)
    )
    stream.receiver._ranges = Ranges(limits.QUIC_RECEIVED_PIECES_MAX, code, kind)
    stream.sender._acked, stream.sender._pending = Ranges(), Ranges()
