"""The sending half of a stream: what is to be sent, on its way, and acknowledged. Room: quic. Pure.

New bytes go out in order; lost ones, which are few, wait in ranges and go first. Source: RFC 9000 sections 3.1, 4.5 and
13.3.
"""

from __future__ import annotations

from gateway.quic.connection.ranges import Ranges


class SendHalf:
    """``limit``: the offset that the peer lets it reach. ``highest``: the largest offset ever sent. ``is_over``: all is
    acknowledged, or the reset is. RFC 9000 section 3.1."""

    __slots__ = (
        "_acked",
        "_acked_end",
        "_buffer",
        "_lost",
        "end_due",
        "ends_at",
        "highest",
        "is_over",
        "limit",
        "reset_code",
        "reset_due",
        "start",
        "stop",
        "was_carried",
    )

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.highest = 0
        self.start = 0
        """All before it was acknowledged."""
        self.stop = 0
        """Where the next byte written goes."""
        self.ends_at: int | None = None
        self.end_due = False
        """Whether the end is to be said, without data if there is none left."""
        self.is_over = False
        self.reset_code: int | None = None
        self.reset_due = False
        self.was_carried = False
        """Whether another sent some of it, see :meth:`carry`."""
        self._buffer = bytearray()
        self._lost: Ranges | None = None
        self._acked: Ranges | None = None
        self._acked_end = False

    # -- the application ------------------------------------------------------------------

    @property
    def takes_more(self) -> bool:
        """Whether more may be written."""
        return self.ends_at is None and self.reset_code is None and not self.is_over

    def write(self, data: bytes, *, end: bool) -> None:
        """Take data to send. Raises ``RuntimeError`` behind the end or a reset."""
        if not self.takes_more:
            raise RuntimeError("nothing can be written to a stream behind its end, or once it was reset")
        if data:
            self._buffer += data
            self.stop += len(data)
        if end:
            self.ends_at = self.stop
            self.end_due = True

    def reset(self, code: int) -> None:
        """Give up; what was still to be sent is let go. Again, or once it is over: nothing. RFC 9000 section 19.4."""
        if self.reset_code is None and not self.is_over:
            self.reset_code = code
            self.reset_due = True
            # Nothing of it is sent again, and what the peer does not get need not be held (RFC 9000 section 3.1).
            self._buffer, self._lost = bytearray(), None

    # -- what is to be sent ---------------------------------------------------------------

    @property
    def is_due(self) -> bool:
        """Whether anything is to be sent besides a reset, whatever limits say."""
        return self.reset_code is None and (
            self.highest < self.stop or self.end_due or (self._lost is not None and bool(self._lost.parts))
        )

    @property
    def unacknowledged(self) -> int:
        """Bytes that the peer has not acknowledged; 0 once it was reset."""
        return 0 if self.is_over or self.reset_code is not None else self.stop - self.start

    @property
    def next_offset(self) -> int:
        """Where the next frame begins."""
        return self._lost.parts[0].start if self._lost is not None and self._lost.parts else self.highest

    def next_frame(self, room: int, credit: int) -> tuple[int, bytes, bool] | None:
        """A frame of at most ``room`` bytes of data, ``credit`` of them never sent before: offset, data, and whether it
        is the end. None: nothing may go."""
        if room < 0:
            return None
        lost = self._lost
        if lost is not None and lost.parts:
            part = lost.parts[0]
            start, stop = part.start, min(part.stop, part.start + room)
            if stop <= start:
                return None
            if stop == part.stop:
                del lost.parts[0]
            else:
                lost.parts[0] = range(stop, part.stop)
        else:
            start = self.highest
            # Of new bytes alone: what is sent again was within the limits when it went first (RFC 9000 section
            # 4.1).
            stop = min(self.stop, start + room, start + credit, max(self.limit, start))
            if stop <= start:
                if not (self.end_due and start == self.ends_at):
                    return None
            else:
                self.highest = stop
        is_end = stop == self.ends_at
        if is_end:
            self.end_due = False
        base = self.start
        return start, bytes(self._buffer[start - base : stop - base]), is_end

    # -- what became of it ----------------------------------------------------------------

    def on_fate(self, acked: bool, start: int, stop: int, is_end: bool) -> None:
        """A frame that was sent was acknowledged, or lost. RFC 9000 section 13.3."""
        if self.reset_code is not None:
            return
        if acked:
            if stop > start:
                self._on_acked(start, stop)
            self._acked_end = self._acked_end or is_end
            if self._acked_end and self.start == self.ends_at:
                self.is_over = True
            return
        if stop > start:
            if self._lost is None:
                self._lost = Ranges()
            self._lost.add(start, stop)
        if is_end:
            self.end_due = True

    def _on_acked(self, start: int, stop: int) -> None:
        acked = self._acked
        # In order, as nearly all: no ranges are made for it.
        if start == self.start and not acked:
            del self._buffer[: stop - start]
            self.start = stop
            return
        if acked is None:
            acked = self._acked = Ranges()
        acked.add(start, stop)
        if acked.parts and acked.parts[0].start <= self.start:
            stop = acked.parts.pop(0).stop
            del self._buffer[: stop - self.start]
            self.start = stop

    def on_reset_fate(self, acked: bool) -> None:
        """The reset was acknowledged, or lost."""
        if acked:
            self.is_over = True
        else:
            self.reset_due = True

    # -- while another sends, and taking over ---------------------------------------------

    def begin_at(self, offset: int) -> None:
        """The first byte to write is the one at ``offset``."""
        self.start = self.stop = self.highest = offset

    def carry(self) -> tuple[bytes, bool] | None:
        """What was written since the last call, and whether it is the end, for another to send. All of it is kept here until
        :meth:`adopt` says what became of it. None: nothing was."""
        if self.reset_code is not None or (self.highest == self.stop and not self.end_due):
            return None
        data = bytes(self._buffer[self.highest - self.start :])
        self.highest, self.end_due, self.was_carried = self.stop, False, True
        return data, self.ends_at is not None

    def adopt(self, acked_to: int, highest: int, flying: list[tuple[int, int, bool]]) -> None:
        """Another has sent of this what is below ``highest``, and all before ``acked_to`` was acknowledged. What of the
        rest is not ``flying`` (start, stop, whether it is the end) is to be sent again."""
        self.highest = highest
        if self.reset_code is not None:
            return
        del self._buffer[: acked_to - self.start]
        self.start = acked_to
        lost = Ranges()
        if highest > acked_to:
            lost.add(acked_to, highest)
        for start, stop, _ in flying:
            if stop > start:
                lost.subtract(start, stop)
        self._lost = lost if lost.parts else None
        self.end_due = self.ends_at is not None and not any(is_end for _, _, is_end in flying)

    def finish(self) -> None:
        """All of it was acknowledged, as another knows."""
        self.start = self.highest = self.stop
        self._buffer, self._lost, self.end_due, self.is_over = bytearray(), None, False, True
