"""Telling the publisher how far the store is. Room: core. Pure."""

from __future__ import annotations

from typing import Final

from gateway.core.ports import Link, Mark
from gateway.wire.control import encode_durable

NOTICE_S: Final = 0.1
"""The publisher hears of the durable mark at most this often."""
PATIENCE_S: Final = 0.025
"""How much longer the next commit is waited for, which brings a newer mark: over a frame at 60 Hz."""
BUSY_PATIENCE_S: Final = 0.1
"""The same while frames are on their way to the store: as long as the journal rests at most."""


class DurableNotices:
    """``durable`` messages: the newest mark, not too often, right after the commit that moved it where
    commits follow each other, and again if one is lost."""

    __slots__ = ("_patience_s", "_said", "_said_at")

    def __init__(self) -> None:
        self._said: Mark | None = None
        self._said_at = float("-inf")
        self._patience_s = PATIENCE_S

    def due(self, mark: Mark | None, epoch: int) -> float | None:
        """When the publisher of ``epoch`` is to be told of ``mark`` if no commit comes before, or None: it knows."""
        if mark is None or mark == self._said or mark.epoch != epoch:
            return None
        return self._said_at + NOTICE_S + self._patience_s

    def is_due(self, mark: Mark | None, epoch: int, mono: float, *, busy: bool, fresh: bool) -> bool:
        """Whether to tell it now. ``fresh``: the mark has just moved. ``busy``: it is about to."""
        at = self.due(mark, epoch)
        if at is None:
            return False
        if fresh:
            return mono >= at - self._patience_s
        if mono >= at and busy:
            self._patience_s = BUSY_PATIENCE_S
        return mono >= self._said_at + NOTICE_S + self._patience_s

    def say(self, mark: Mark, link: Link, mono: float) -> None:
        """Tell it: by a datagram where there are any."""
        self._said_at, self._patience_s = mono, PATIENCE_S
        message = encode_durable(mark.epoch, mark.tick)
        if not link.lossy:
            link.control(message)
        elif not link.send(message, 0):
            return
        self._said = mark

    def again(self) -> None:
        """It was lost, or there is another publisher: say it again, by then perhaps with a newer tick."""
        self._said = None
