"""A reader's budget: a token bucket in bytes. Room: core. Pure; the clock is an argument."""

from __future__ import annotations

from gateway.limits import BUDGET_BURST_S, BUDGET_DEBT_S_MAX


class Budget:
    """``level`` bytes may go now. One message may overdraw it; what comes next waits."""

    __slots__ = ("_at", "_bytes_per_s", "_worthwhile", "level")

    def __init__(self, kbps: int, mono: float, message_bytes: int) -> None:
        """``message_bytes``: where more waits than may go, it goes in messages of about this size."""
        # 1,000 bits a second are 125 bytes.
        self._bytes_per_s = kbps * 125.0
        self.level = self._bytes_per_s * BUDGET_BURST_S
        self._at = mono
        self._worthwhile = min(message_bytes, self.level)

    def refill(self, mono: float) -> float:
        """Count the time up to ``mono``; answers the level."""
        earned = (mono - self._at) * self._bytes_per_s
        self._at = mono
        self.level = min(self.level + earned, self._bytes_per_s * BUDGET_BURST_S)
        return self.level

    def allows(self, mono: float, waiting_bytes: int) -> float:
        """How much may go now: nothing until it is worth a message, or enough for all that waits."""
        level = self.refill(mono)
        return level if level >= min(self._worthwhile, waiting_bytes) else 0.0

    def allows_at(self, waiting_bytes: int) -> float:
        """When :meth:`allows` says more than nothing, as far as is known at the newest ``refill``."""
        short = min(self._worthwhile, waiting_bytes) - self.level
        return self._at + max(0.0, short) / self._bytes_per_s

    def spend(self, size_bytes: int) -> None:
        # The debt is bounded: after a keyframe of megabytes a reader on 100 kbit/s would else hear nothing for
        # minutes.
        self.level = max(self.level - size_bytes, -self._bytes_per_s * BUDGET_DEBT_S_MAX)
