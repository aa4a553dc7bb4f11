"""The stand-in's clock, and mvstore's cache of names: key -> namespace id."""

from __future__ import annotations

import time
from collections.abc import Callable

IDLE_S = 5.0
"""A name is forgotten so long after its last use."""
LIVE_S = 120.0
"""... and so long after it was looked up, however often it is used."""


class Clock:
    """Unix seconds, which a test may move on. Never back."""

    def __init__(self, real: Callable[[], float] = time.time) -> None:
        self._real = real
        self._ahead_s = 0.0

    def __call__(self) -> float:
        return self._real() + self._ahead_s

    def advance(self, seconds: float) -> None:
        """From now on it is so much later."""
        if seconds < 0:
            raise ValueError(f"{seconds} s: the clock is only ever moved on")
        self._ahead_s += seconds


class NameCache:
    """What one mvstore process remembers of names. Deleting and renaming do not touch it."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._known: dict[str, tuple[str, float, float]] = {}

    def get(self, key: str) -> str | None:
        """The id it remembers, which counts as a use."""
        now, found = self._clock(), self._known.get(key)
        if found is None:
            return None
        ns_id, since, used = found
        if now - since >= LIVE_S or now - used >= IDLE_S:
            del self._known[key]
            return None
        self._known[key] = (ns_id, since, now)
        return ns_id

    def put(self, key: str, ns_id: str) -> None:
        """It was looked up now."""
        now = self._clock()
        self._known[key] = (ns_id, now, now)

    def holds(self, ns_id: str) -> bool:
        """Whether some name still leads to that id."""
        return any(each == ns_id for each, _, _ in self._known.values())
