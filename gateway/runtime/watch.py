"""Looks after a running gateway once a second and tells the operator what has changed. Room: runtime.

A store that is slow, that fails, and that is back; what bounds have refused; descriptors that run short; counts that
the event log still owes.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Literal, Protocol

from gateway.limits import DESCRIPTORS_SHORT_SHARE, HEALTH_LATE_S, OPERATOR_LOOK_S
from gateway.runtime.events import EventLog
from gateway.runtime.process import descriptors_max, descriptors_open

Ailing = Literal["slow", "failing"]


class WatchedJournal(Protocol):
    """A world's journal, as far as this room looks at it."""

    @property
    def failure(self) -> str:
        """Why its newest commit failed, or waits; empty where it did not."""

    @property
    def has_failed(self) -> bool:
        """True while its newest commit has failed."""

    def waiting_s(self, mono: float) -> float:
        """The age of its oldest frame that is not in the store; 0 where all are."""


class OperatorWatch:
    """``journals`` answers the open worlds' by name, ``refusals`` how often each bound has refused so far.
    Ended by :meth:`stop`."""

    def __init__(
        self,
        events: EventLog,
        journals: Callable[[], Mapping[str, WatchedJournal]],
        refusals: Callable[[], Mapping[str, int]] = dict,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._events = events
        self._journals = journals
        self._refusals = refusals
        self._clock = clock
        self._ailing: dict[str, tuple[Ailing, float]] = {}
        """World → what is told of its store, and when it began."""
        self._refused: Counter[str] = Counter(refusals())
        self._is_short = False
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(OPERATOR_LOOK_S)
            self.look()

    def look(self) -> None:
        """Compare with what was seen last."""
        self._look_at_store()
        self._look_at_refusals()
        self._look_at_descriptors()
        self._events.close_windows()

    def _look_at_store(self) -> None:
        now = self._clock()
        journals = self._journals()
        for name, journal in journals.items():
            state = _state(journal, now)
            before, since = self._ailing.get(name, (None, now))
            if state is None:
                if before is not None:
                    del self._ailing[name]
                    self._events.note("store back", world=name, seconds=round(now - since, 1))
            elif before is None or (before, state) == ("slow", "failing"):
                self._ailing[name] = (state, since)
                self._tell(name, state, journal, now)
        for name in self._ailing.keys() - journals.keys():
            del self._ailing[name]  # the world was closed

    def _tell(self, name: str, state: Ailing, journal: WatchedJournal, now: float) -> None:
        waiting_s = round(journal.waiting_s(now), 1)
        why = {"why": journal.failure} if journal.failure else {}
        self._events.note(f"store {state}", logging.WARNING, world=name, waiting_s=waiting_s, **why)

    def _look_at_refusals(self) -> None:
        """One line a bound and look, however many it refused."""
        refused = Counter(self._refusals())
        # Counter's minus drops what has not grown (docs.python.org/3/library/collections.html#collections.Counter).
        for bound, count in sorted((refused - self._refused).items()):
            self._events.note("refused", logging.WARNING, bound=bound, count=count)
        self._refused = refused

    def _look_at_descriptors(self) -> None:
        used, most = descriptors_open(), descriptors_max()
        is_short = used > most * DESCRIPTORS_SHORT_SHARE
        if is_short and not self._is_short:
            self._events.note(
                "file descriptors run short", logging.WARNING, open=used, allowed=most, way_out="ulimit -n"
            )
        self._is_short = is_short

    def stop(self) -> None:
        """Look no more. Idempotent."""
        self._task.cancel()
        self._events.close_windows()


def _state(journal: WatchedJournal, now: float) -> Ailing | None:
    if journal.has_failed:
        return "failing"
    return "slow" if journal.waiting_s(now) >= HEALTH_LATE_S else None
