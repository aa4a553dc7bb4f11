"""How old is what a reader shows? Histograms of age and their quantiles. Room: bench. Pure.

Age is time-weighted: between two updates a record grows older as the clock does, so a value set at
``s`` that was shown from ``a`` to ``b`` contributes the ages from ``a - s`` to ``b - s``, evenly. That is
what a viewer sees whenever it looks; sampling at updates alone would hide stalls.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

BUCKET_US = 250
BUCKETS = 240_000
"""A minute, so that overload shows; an older age counts as a minute."""

Times = npt.NDArray[np.int64]


class AgeHistogram:
    """Time spent at each age, in buckets of a quarter of a millisecond, kept as its derivative."""

    __slots__ = ("_edges", "max_us", "stalls_100", "stalls_250")

    def __init__(self) -> None:
        self._edges = np.zeros(BUCKETS + 1, dtype=np.int64)
        self.max_us = 0
        self.stalls_100 = 0
        self.stalls_250 = 0

    def add(self, sent_us: Times, from_us: Times, to_us: int | Times) -> None:
        """Values set at ``sent_us`` were shown from ``from_us`` to ``to_us`` (arrays of one length, or one end for all; Unix µs)."""
        young = np.maximum(from_us - sent_us, 0)
        old = np.maximum(to_us - sent_us, young)
        np.add.at(self._edges, np.minimum(young // BUCKET_US, BUCKETS), 1)
        np.add.at(self._edges, np.minimum(old // BUCKET_US, BUCKETS), -1)
        self.max_us = max(self.max_us, int(old.max(initial=0)))
        shown = old - young
        self.stalls_100 += int((shown > 100_000).sum())
        self.stalls_250 += int((shown > 250_000).sum())

    def quantile_ms(self, q: float) -> float | None:
        """The age in ms that what is shown stays below for the share ``q`` (0 to 1) of the time."""
        cumulated = self._cumulated()
        if cumulated[-1] == 0:
            return None
        bucket = int(np.searchsorted(cumulated, q * cumulated[-1]))
        return (bucket + 1) * BUCKET_US / 1000

    def share_above(self, age_ms: float) -> float:
        """The share of time (0 to 1) spent at an age above ``age_ms``."""
        cumulated = self._cumulated()
        below = cumulated[max(0, int(age_ms * 1000) // BUCKET_US - 1)]
        return float(1 - below / cumulated[-1]) if cumulated[-1] else 0.0

    def _cumulated(self) -> npt.NDArray[np.int64]:
        total: npt.NDArray[np.int64] = np.cumsum(np.cumsum(self._edges[:BUCKETS]))
        return total

    def merge(self, other: AgeHistogram) -> None:
        """Add another reader's time to this one's."""
        self._edges += other._edges
        self.max_us = max(self.max_us, other.max_us)
        self.stalls_100 += other.stalls_100
        self.stalls_250 += other.stalls_250

    def measures(self) -> dict[str, float | None]:
        """The figures of a report, ages in milliseconds."""
        return {
            "age_p50_ms": self.quantile_ms(0.50),
            "age_p95_ms": self.quantile_ms(0.95),
            "age_p99_ms": self.quantile_ms(0.99),
            "age_max_ms": self.max_us / 1000,
            "stalls_100ms": self.stalls_100,
            "stalls_250ms": self.stalls_250,
        }

    def dump(self) -> dict[str, Any]:
        """JSON-ready and sparse, for another process."""
        where = np.flatnonzero(self._edges)
        return {
            "edges": {str(i): int(self._edges[i]) for i in where},
            "max_us": self.max_us,
            "stalls_100": self.stalls_100,
            "stalls_250": self.stalls_250,
        }

    @classmethod
    def load(cls, dumped: Mapping[str, Any]) -> AgeHistogram:
        """The inverse of ``dump``."""
        made = cls()
        for bucket, count in dumped["edges"].items():
            made._edges[int(bucket)] = count
        made.max_us = dumped["max_us"]
        made.stalls_100 = dumped["stalls_100"]
        made.stalls_250 = dumped["stalls_250"]
        return made


def merged(dumps: Iterable[Mapping[str, Any]]) -> AgeHistogram:
    """All readers' histograms in one."""
    total = AgeHistogram()
    for dumped in dumps:
        total.merge(AgeHistogram.load(dumped))
    return total
