"""Looks after a running gateway once a second and tells the operator what has changed. Room: runtime.

A store that fails, and that is back; descriptors that run short; counts that the event log still owes.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Protocol

from gateway.limits import DESCRIPTORS_SHORT_SHARE, OPERATOR_LOOK_S
from gateway.runtime.events import EventLog
from gateway.runtime.process import descriptors_max, descriptors_open


class Failing(Protocol):
    """A world's journal, as far as this room looks at it."""

    @property
    def is_failing(self) -> bool:
        """True while its newest commit has failed."""


class Watch:
    """``journals`` answers the open worlds' by name. Ended by :meth:`stop`."""

    def __init__(self, events: EventLog, journals: Callable[[], Mapping[str, Failing]]) -> None:
        self._events = events
        self._journals = journals
        self._failing: frozenset[str] = frozenset()
        self._is_short = False
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(OPERATOR_LOOK_S)
            self.look()

    def look(self) -> None:
        """Compare with what was seen last."""
        self._look_at_store()
        self._look_at_descriptors()
        self._events.flush()

    def _look_at_store(self) -> None:
        failing = frozenset(name for name, journal in self._journals().items() if journal.is_failing)
        for name in sorted(failing - self._failing):
            self._events.note("store failing", logging.WARNING, world=name)
        for name in sorted(self._failing - failing):
            self._events.note("store back", world=name)
        self._failing = failing

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
        self._events.flush()
