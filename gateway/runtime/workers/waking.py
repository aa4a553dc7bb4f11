"""Signals that wake a loop over a selector, in the order in which they came. Room: runtime. Source: signal(7)."""

from __future__ import annotations

import selectors
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from types import FrameType
from typing import Final

SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR2, signal.SIGCHLD)


@dataclass(slots=True)
class Waking:
    """From :meth:`acquire` to :meth:`give_back`; its key in the selector has None for data."""

    looks: selectors.BaseSelector
    ends: tuple[socket.socket, socket.socket] = field(default_factory=socket.socketpair)
    before: dict[int, Callable[[int, FrameType | None], object] | int | None] = field(default_factory=dict)

    def acquire(self) -> None:
        """Hear the signals instead of whoever did. signal(7), sigprocmask(2)."""
        for end in self.ends:
            end.setblocking(False)
        self.looks.register(self.ends[0], selectors.EVENT_READ, None)
        # The C handler writes the signal's number, so that select() returns, and nothing is missed between a look
        # and the wait. Full: something is there to wake it already.
        signal.set_wakeup_fd(self.ends[1].fileno(), warn_on_full_buffer=False)
        self.before = {number: signal.signal(number, _nothing) for number in SIGNALS}
        signal.pthread_sigmask(
            signal.SIG_UNBLOCK, SIGNALS
        )  # of an image before this one: what came meanwhile comes now

    def come(self) -> bytes:
        """The numbers of those that came since."""
        return self.ends[0].recv(4_096)

    def give_back(self) -> None:
        """As it was before."""
        signal.set_wakeup_fd(-1)
        for number, handler in self.before.items():
            signal.signal(number, handler)
        self._close()

    def forget(self) -> None:
        """In a forked process: the system's ways, and nothing of the loop's."""
        # First of all: a signal to the child would be written into the supervisor's socket.
        signal.set_wakeup_fd(-1)
        for each in SIGNALS:
            signal.signal(each, signal.SIG_DFL)
        self._close()

    def _close(self) -> None:
        for end in self.ends:
            end.close()


def _nothing(number: int, frame: object) -> None:
    """It wakes the loop."""
