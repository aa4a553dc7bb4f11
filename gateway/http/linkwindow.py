"""How much may wait in one TCP connection: what it sends in a tick, learnt from what leaves it. Room: http.

Pure: bytes and times come in. A connection that keeps up gets a window that doubles up to whole frames of a
large world; one on which something still waits is measured, and its window becomes what it drains in
``LINK_WINDOW_S``, so that what is past recall is never older than that.
"""

from __future__ import annotations

from gateway import limits


class LinkWindow:
    """The bytes of one connection: written, gone, and how many may wait (``size``)."""

    __slots__ = ("_from", "_gone", "_gone_at_from", "_is_backlogged", "bytes_per_s", "size", "written")

    def __init__(self) -> None:
        self.size = limits.LINK_WINDOW_BYTES_FIRST
        self.written = 0
        """All bytes so far."""
        self.bytes_per_s: float | None = None
        """What it drained when last something waited throughout; None: never yet."""
        self._gone = 0
        self._from = 0.0
        self._gone_at_from = 0
        self._is_backlogged = False

    @property
    def waiting(self) -> int:
        """What waits at most: as if nothing had left since the last :meth:`saw`."""
        return self.written - self._gone

    @property
    def room(self) -> int:
        """What may still be written, by the same measure."""
        return max(0, self.size - self.waiting)

    def measure_from(self, now: float) -> None:
        """Something is written: how fast does it leave?"""
        self._from, self._gone_at_from, self._is_backlogged = now, self._gone, False

    def saw(self, waiting_bytes: int, now: float) -> None:
        """So much waits now. ``now``: seconds of a monotonic clock."""
        self._gone = max(self._gone, self.written - waiting_bytes)
        took, gone = now - self._from, self._gone - self._gone_at_from
        if waiting_bytes == 0:
            if took <= limits.LINK_WINDOW_S:
                self.size = min(limits.LINK_WINDOW_BYTES_MAX, self.size + gone)
            self.measure_from(now)
        elif not self._is_backlogged:
            self._from, self._gone_at_from, self._is_backlogged = now, self._gone, True
        elif took >= limits.LINK_MEASURE_S:
            self._learn(gone / took)
            self._from, self._gone_at_from = now, self._gone

    def _learn(self, bytes_per_s: float) -> None:
        known = self.bytes_per_s
        self.bytes_per_s = bytes_per_s if known is None else (known + bytes_per_s) / 2
        fits = int(self.bytes_per_s * limits.LINK_WINDOW_S)
        smaller = max(limits.LINK_WINDOW_BYTES_MIN, (self.size + fits) // 2)
        self.size = min(limits.LINK_WINDOW_BYTES_MAX, smaller)

    def drained_in(self) -> float:
        """About how many seconds until half of the window is free."""
        over = self.waiting - self.size // 2
        if not self.bytes_per_s:
            return limits.LINK_POLL_S
        return min(limits.LINK_POLL_S_MAX, max(limits.LINK_POLL_S, over / self.bytes_per_s))
