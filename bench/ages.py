"""How old is what a reader shows? Histograms of age and their quantiles. Room: bench. Pure.

Age is time-weighted: between two updates a record grows older as the clock does, so an update that
came at ``a`` with value of ``s`` and was replaced at ``b`` contributes ages from ``a - s`` to ``b - s``,
evenly. That is what a viewer sees, whenever it looks; sampling at updates alone would hide stalls.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

BUCKET_MS = 0.25
BUCKETS = 40_000
"""Ten seconds; an older age counts as ten seconds."""


class AgeHistogram:
    """Seconds spent at each age, in buckets of a quarter of a millisecond."""

    __slots__ = ("_seconds", "max_ms", "stalls_100", "stalls_250", "total_s")

    def __init__(self) -> None:
        self._seconds = [0.0] * BUCKETS
        self.total_s = 0.0
        self.max_ms = 0.0
        self.stalls_100 = 0
        self.stalls_250 = 0

    def add(self, sent_s: float, shown_from_s: float, shown_to_s: float, weight: float = 1.0) -> None:
        """A value set at ``sent_s`` was the newest from ``shown_from_s`` to ``shown_to_s`` (all Unix seconds)."""
        young_ms = max(0.0, (shown_from_s - sent_s) * 1000.0)
        old_ms = max(young_ms, (shown_to_s - sent_s) * 1000.0)
        self.max_ms = max(self.max_ms, old_ms)
        self.stalls_100 += old_ms - young_ms > 100.0
        self.stalls_250 += old_ms - young_ms > 250.0
        self._spread(young_ms, old_ms, weight)

    def _spread(self, young_ms: float, old_ms: float, weight: float) -> None:
        at = young_ms
        while at < old_ms:
            bucket = min(int(at / BUCKET_MS), BUCKETS - 1)
            edge = old_ms if bucket == BUCKETS - 1 else min(old_ms, (bucket + 1) * BUCKET_MS)
            seconds = (edge - at) / 1000.0 * weight
            self._seconds[bucket] += seconds
            self.total_s += seconds
            at = edge

    def quantile_ms(self, q: float) -> float | None:
        """The age that what is shown stays below for the share ``q`` (0 to 1) of the time."""
        if self.total_s == 0.0:
            return None
        wanted, seen = q * self.total_s, 0.0
        for bucket, seconds in enumerate(self._seconds):
            seen += seconds
            if seen >= wanted:
                return (bucket + 1) * BUCKET_MS
        return BUCKETS * BUCKET_MS

    def share_above(self, age_ms: float) -> float:
        """The share of time (0 to 1) spent at an age above ``age_ms``."""
        first = int(age_ms / BUCKET_MS)
        return sum(self._seconds[first:]) / self.total_s if self.total_s else 0.0

    def merge(self, other: AgeHistogram) -> None:
        """Add another reader's time to this one's."""
        self._seconds = [a + b for a, b in zip(self._seconds, other._seconds, strict=True)]
        self.total_s += other.total_s
        self.max_ms = max(self.max_ms, other.max_ms)
        self.stalls_100 += other.stalls_100
        self.stalls_250 += other.stalls_250

    def dump(self) -> dict[str, Any]:
        """JSON-ready and sparse, for another process."""
        return {
            "seconds": {str(i): round(s, 6) for i, s in enumerate(self._seconds) if s},
            "max_ms": self.max_ms,
            "stalls_100": self.stalls_100,
            "stalls_250": self.stalls_250,
        }

    @classmethod
    def load(cls, dumped: Mapping[str, Any]) -> AgeHistogram:
        """The inverse of ``dump``."""
        made = cls()
        for bucket, seconds in dumped["seconds"].items():
            made._seconds[int(bucket)] = seconds
            made.total_s += seconds
        made.max_ms = dumped["max_ms"]
        made.stalls_100 = dumped["stalls_100"]
        made.stalls_250 = dumped["stalls_250"]
        return made


def merged(dumps: Iterable[Mapping[str, Any]]) -> AgeHistogram:
    """All readers' histograms in one."""
    total = AgeHistogram()
    for dumped in dumps:
        total.merge(AgeHistogram.load(dumped))
    return total
