"""How much goes through a world, averaged over the last seconds. Room: core. Pure."""

from __future__ import annotations

from collections import deque

WINDOW_S = 5.0
STEP_S = 0.5


class Rates:
    """Counts of received messages, their bytes, and deliveries, sampled twice a second."""

    __slots__ = ("_samples", "bytes", "delivered", "frames")

    def __init__(self, mono: float) -> None:
        self.frames = 0
        self.bytes = 0
        self.delivered = 0
        self._samples: deque[tuple[float, int, int, int]] = deque([(mono, 0, 0, 0)])

    def count(self, message_bytes: int, delivered: int, mono: float) -> None:
        self.frames += 1
        self.bytes += message_bytes
        self.delivered += delivered
        if mono - self._samples[-1][0] >= STEP_S:
            self.sample(mono)

    def sample(self, mono: float) -> None:
        """Remember the totals at this time, and forget what is older than the window."""
        samples = self._samples
        if mono - samples[-1][0] >= STEP_S:
            samples.append((mono, self.frames, self.bytes, self.delivered))
        while len(samples) > 1 and mono - samples[1][0] > WINDOW_S:
            samples.popleft()

    def as_dict(self, mono: float) -> dict[str, float]:
        """Per second, over the last :data:`WINDOW_S` or as long as is known."""
        self.sample(mono)
        at, frames, size, delivered = self._samples[0]
        seconds = max(mono - at, 0.001)
        return {
            "frames_per_s": round((self.frames - frames) / seconds, 2),
            "bytes_per_s": round((self.bytes - size) / seconds, 1),
            "delivered_per_s": round((self.delivered - delivered) / seconds, 2),
        }
