"""How long frames took to become durable: counts by bounds. Room: runtime. Pure.

Every frame counts, not only those that a ``durable`` notice happens to name.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from typing import Final

from gateway.wire.journal import JournalFrame

BOUNDS_MS: Final = (
    1,
    2,
    3,
    5,
    7,
    10,
    15,
    20,
    25,
    30,
    40,
    50,
    60,
    75,
    100,
    150,
    200,
    300,
    500,
    1_000,
    2_000,
    5_000,
)
"""Fine where a game would notice, coarse where an operator should."""
MORE: Final = "more"
_BOUNDS_US: Final = [bound * 1_000 for bound in BOUNDS_MS]


class Lags:
    """Frames by the smallest bound that their way from receipt into the store kept within."""

    __slots__ = ("_counts", "seconds")

    def __init__(self) -> None:
        self._counts = [0] * (len(BOUNDS_MS) + 1)
        self.seconds = 0.0
        """The sum of all."""

    @property
    def counts(self) -> Sequence[int]:
        """By :data:`BOUNDS_MS`, and last those beyond."""
        return self._counts

    def note(self, frames: Iterable[JournalFrame], now_us: int) -> None:
        """These are durable as of ``now_us`` (µs since the Unix epoch). Keyframes, which the gateway makes
        itself, don't count."""
        counts, total_us = self._counts, 0
        for _, _, _, received_at_us, _, is_keyframe, _ in frames:
            if not is_keyframe:
                lag_us = now_us - received_at_us
                total_us += lag_us
                counts[bisect_left(_BOUNDS_US, lag_us)] += 1
        self.seconds += total_us / 1e6

    def as_dict(self) -> dict[str, int]:
        """``{"1": frames within 1 ms, "2": others within 2 ms, …, "more": the rest}``."""
        return dict(zip([*map(str, BOUNDS_MS), MORE], self._counts, strict=True))


def quantile_ms(counts: dict[str, float], share: float) -> float | None:
    """The bound within which ``share`` (0 to 1) of the frames of :meth:`Lags.as_dict` stayed; infinite
    above the largest, None without frames."""
    total = sum(counts.values())
    if not total:
        return None
    seen = 0.0
    for bound in BOUNDS_MS:
        seen += counts.get(str(bound), 0)
        if seen >= share * total:
            return float(bound)
    return float("inf")
