"""A token bucket for what one connection may do. Room: http. Pure: times are arguments."""

from __future__ import annotations


class Bucket:
    """``burst`` at once, ``per_s`` a second after that."""

    __slots__ = ("_at", "_burst", "_left", "_per_s")

    def __init__(self, burst: float, per_s: float) -> None:
        self._burst = burst
        self._per_s = per_s
        self._left = burst
        self._at = 0.0

    def spend(self, count: float, now: float) -> bool:
        """Take ``count`` tokens at ``now`` (seconds of a monotonic clock). False: there are not so many."""
        left = self._left
        if now > self._at:
            left = min(self._burst, left + (now - self._at) * self._per_s)
            self._at = now
        self._left = left - count
        return self._left >= 0

    def earn(self, count: float) -> None:
        """Get some back: work was done that makes the peer do the like."""
        self._left = min(self._burst, self._left + count)
