"""How much goes through a world, averaged over the last seconds. Room: core. Pure."""

from __future__ import annotations

from collections import deque

from gateway.core.counters import Counters
from gateway.limits import RATES_STEP_S, RATES_WINDOW_S


class Rates:
    """Received frames, messages and their bytes, and deliveries, as ``counters`` has them, sampled twice a second.
    Call :meth:`sample` some times a second."""

    __slots__ = ("_counters", "_due", "_samples")

    def __init__(self, mono: float, counters: Counters) -> None:
        self._counters = counters
        self._samples: deque[tuple[float, int, int, int, int]] = deque()
        self._due = mono
        self.sample(mono)

    def sample(self, mono: float) -> None:
        """Remember the totals at this time, if it is time, and forget what is older than the window."""
        samples, now = self._samples, self._counters
        if mono >= self._due:
            samples.append((mono, now.frames, now.received, now.received_bytes, now.delivered))
            self._due = mono + RATES_STEP_S
        # The second is looked at: the first stays as what the newest is compared with, until another is old enough.
        while len(samples) > 1 and mono - samples[1][0] > RATES_WINDOW_S:
            samples.popleft()

    def as_dict(self, mono: float) -> dict[str, float]:
        """Per second, over the last :data:`RATES_WINDOW_S` or as long as is known."""
        self.sample(mono)
        at, frames, messages, size, delivered = self._samples[0]
        seconds, now = max(mono - at, 0.001), self._counters
        return {
            "frames_per_s": round((now.frames - frames) / seconds, 2),
            "messages_per_s": round((now.received - messages) / seconds, 2),
            "bytes_per_s": round((now.received_bytes - size) / seconds, 1),
            "delivered_per_s": round((now.delivered - delivered) / seconds, 2),
        }
