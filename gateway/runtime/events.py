"""The operator's log: one line an event, with its facts, and never a flood. Room: runtime.

A kind of event that happens often (a crowd leaves, a client tries again and again) is written down a
few times and then counted: 1,000 events of a kind are some lines and one with the count.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from typing import Final

from gateway.core.events import (
    Event,
    HomeGivenUp,
    HomeLost,
    HomeTaken,
    PublisherReplaced,
    SessionClosed,
    SessionOpened,
)
from gateway.limits import EVENT_KINDS_MAX, EVENT_LINES_MAX, EVENT_WINDOW_S

FACTS: Final = "facts"
"""The attribute of a log record that carries an event's facts."""


class _Window:
    """How often one kind of event came since ``since`` (seconds, monotonic)."""

    __slots__ = ("level", "lines", "more", "since")

    def __init__(self, since: float, level: int) -> None:
        self.since = since
        self.level = level
        self.lines = 0
        self.more = 0


class EventLog:
    """Writes events to ``logger``. Call :meth:`close_windows` now and then, so that counts are told."""

    def __init__(self, logger: logging.Logger, clock: Callable[[], float] = time.monotonic) -> None:
        self._logger = logger
        self._clock = clock
        self._windows: dict[str, _Window] = {}

    def note(self, kind: str, level: int = logging.INFO, **facts: object) -> None:
        """One event of ``kind`` (a few words, the same every time), with its facts."""
        if not self._logger.isEnabledFor(level):
            return
        now = self._clock()
        window = self._windows.get(kind)
        if window is None or now - window.since >= EVENT_WINDOW_S:
            window = self._begin(kind, window, now, level)
        if window.lines < EVENT_LINES_MAX:
            window.lines += 1
            self._write(kind, level, facts)
        else:
            window.more += 1

    def _begin(self, kind: str, over: _Window | None, now: float, level: int) -> _Window:
        if over is not None:
            self._tell(kind, over, now)
        elif len(self._windows) >= EVENT_KINDS_MAX:
            self._windows.clear()
        window = self._windows[kind] = _Window(now, level)
        return window

    def close_windows(self) -> None:
        """Tell of what was only counted in windows that are over."""
        now = self._clock()
        for kind, window in list(self._windows.items()):
            if now - window.since >= EVENT_WINDOW_S:
                self._tell(kind, window, now)
                del self._windows[kind]

    def _tell(self, kind: str, window: _Window, now: float) -> None:
        if window.more:
            facts = {"more": window.more, "seconds": round(now - window.since, 1)}
            self._write(f"{kind}, and more of the kind", window.level, facts)

    def _write(self, kind: str, level: int, facts: Mapping[str, object]) -> None:
        self._logger.log(level, "%s", kind, extra={FACTS: facts})

    def session(self, event: Event) -> None:
        """What a world's rules say of its sessions (:mod:`gateway.core.events`)."""
        if isinstance(event, SessionOpened):
            self.note("session opened", world=event.world, role=event.role, transport=event.transport,
                      address=event.address, epoch=event.epoch)  # fmt: skip
        elif isinstance(event, SessionClosed):
            self.note("session closed", world=event.world, role=event.role, transport=event.transport,
                      address=event.address, why=event.why, seconds=round(event.seconds, 1),
                      messages=event.messages)  # fmt: skip
        elif isinstance(event, PublisherReplaced) and event.epoch != event.by_epoch:
            self.note("publisher taken over", logging.WARNING, world=event.world, epoch=event.epoch,
                      by_epoch=event.by_epoch, address=event.address)  # fmt: skip
        elif isinstance(event, HomeTaken):
            level = logging.INFO if event.over else logging.DEBUG
            self.note(
                "home taken", level, world=event.world, fence=event.fence, over=event.over, why=event.why
            )
        elif isinstance(event, HomeLost):
            self.note("home lost", logging.WARNING, world=event.world, fence=event.fence,
                      by_fence=event.by_fence, url=event.url)  # fmt: skip
        elif isinstance(event, HomeGivenUp):
            self.note("home given up", logging.DEBUG, world=event.world, fence=event.fence)
