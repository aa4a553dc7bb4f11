"""Workers replaced one after the other, so that all but one serve at any time. Room: runtime. Pure but for signals.

The one whose turn it is gets no new connections any more, sends its sessions to the others and ends; its successor is
ready before the next one's turn. The store's owner comes last: meanwhile frames wait for it, as for any store.
"""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable
from dataclasses import dataclass, field

from gateway.limits import WORKER_SETTLE_S
from gateway.runtime.workers.children import STORE, Child, Children, name_of, note

log = logging.getLogger("mvgateway.workers")


@dataclass(slots=True)
class Rolling:
    """``waiting``: processes by number, in the order of their turns; ``tell``: tells all who takes connections."""

    children: Children
    patience_s: float
    tell: Callable[[], None]
    waiting: dict[int, int] = field(default_factory=dict)
    leaving: int | None = None
    until: float = 0.0
    rests_until: float = 0.0

    def begin(self) -> None:
        """Everybody who runs now is to be replaced."""
        running = {number: place.child.pid for number, place in self.children.places.items() if place.child}
        owner = running.pop(STORE, None)
        self.waiting = dict(sorted(running.items()))
        if owner is not None:
            self.waiting[STORE] = owner

    @property
    def is_under_way(self) -> bool:
        """Whether anybody is still to be replaced."""
        return bool(self.waiting)

    def turn(self, now: float) -> None:
        """Have the next one leave, once all others are there; end who does not leave in time."""
        if self.leaving is not None:
            child = self.children.places[self.leaving].child
            # By process, not by number: under it may be the successor already.
            if child is not None and child.pid == self.waiting.get(self.leaving) and now >= self.until:
                log.error("%s does not leave in time, and is killed", name_of(self.leaving))
                child.signal(signal.SIGKILL)
                self.until = now + self.patience_s
            return
        if now < self.rests_until or not self.waiting:
            return
        number = self._next()
        if number is None:
            note(logging.INFO, "workers renewed")
        # One at a time, and only with all others there: whoever has to move finds somewhere to go.
        elif all(place.is_ready for place in self.children.places.values()):
            self._have_leave(number, now)

    def _next(self) -> int | None:
        for number, pid in list(self.waiting.items()):
            child = self.children.places[number].child
            if child is not None and child.pid == pid:
                return number
            del self.waiting[number]  # it has ended by itself, and its successor is a new one
        return None

    def _have_leave(self, number: int, now: float) -> None:
        child = self.children.places[number].child
        assert child is not None
        self.leaving, self.until = number, now + self.patience_s
        if number == STORE:
            child.signal(signal.SIGTERM)
            return
        self.tell()
        child.tell({"leave": True})

    def has_left(self, number: int, child: Child) -> bool:
        """Whether the process that has just ended was told to leave."""
        return number == self.leaving and self.waiting.get(number) == child.pid

    def is_back(self, number: int, now: float) -> None:
        """A process is ready; where it is the successor that is waited for, the next one's turn comes, once those who had
        to move have settled: whoever moves twice at once is silent twice as long."""
        if number == self.leaving:
            self.leaving, self.rests_until = None, now + WORKER_SETTLE_S
