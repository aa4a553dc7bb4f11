"""What ``/healthz`` tells of the store: by the age of the oldest frame that is not in it. Room: runtime."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Protocol

from gateway.limits import HEALTH_LATE_S, HEALTH_NAMED_MAX


class JournalHealth(Protocol):
    """A world's, as far as it is looked at here."""

    @property
    def newest_commit(self) -> float:
        """When it was (``time.monotonic``)."""

    @property
    def failure(self) -> str:
        """Why its newest commit failed, or waits; empty where it did not."""

    def waiting_s(self, mono: float) -> float:
        """The age of its oldest frame that is not in the store; 0 where all are."""


class Health:
    """``journals`` answers the open worlds' by name; ``store_failure`` why a store elsewhere does not answer."""

    def __init__(
        self,
        journals: Callable[[], Mapping[str, JournalHealth]],
        store_failure: Callable[[], str | None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._journals = journals
        self._store_failure = store_failure
        self._clock = clock

    def _waiting(self) -> dict[str, float]:
        now = self._clock()
        return {name: journal.waiting_s(now) for name, journal in self._journals().items()}

    def oldest_s(self) -> float:
        """The age of the oldest frame of all that is not in the store; 0 where all are."""
        return max(self._waiting().values(), default=0.0)

    def late(self) -> dict[str, float]:
        """Worlds with a frame that waits for too long, and how long (seconds); the latest first."""
        waiting = self._waiting()
        late = [(seconds, name) for name, seconds in waiting.items() if seconds >= HEALTH_LATE_S]
        return {name: seconds for seconds, name in sorted(late, reverse=True)}

    def facts(self) -> dict[str, object]:
        """``store`` is ``ok``; ``lagging`` where it takes what other worlds write, but not that of those that
        ``late_worlds`` names; ``failing`` where it takes nothing. What is wrong stands beside it."""
        late, failure = self.late(), self._store_failure()
        if not late and failure is None:
            return {"store": "ok"}
        facts: dict[str, object] = {
            "store": "lagging" if failure is None and self._takes_others(late) else "failing"
        }
        if failure is not None:
            facts["store_failure"] = failure
        if late:
            journals = self._journals()
            facts["oldest_waiting_ms"] = round(max(late.values()) * 1e3)
            facts["late_worlds"] = [
                {"world": name, "waiting_ms": round(seconds * 1e3), "why": journals[name].failure}
                for name, seconds in list(late.items())[:HEALTH_NAMED_MAX]
            ]
        return facts

    def _takes_others(self, late: Mapping[str, float]) -> bool:
        since = self._clock() - HEALTH_LATE_S
        return any(j.newest_commit >= since for name, j in self._journals().items() if name not in late)
