"""Telling the publisher how far the store is. Room: core. Pure."""

from __future__ import annotations

from typing import Final

from gateway.core.ports import Link, Mark
from gateway.wire.control import encode_control

NOTICE_S: Final = 0.1
"""The publisher hears of the durable mark at most this often."""


class DurableNotices:
    """``durable`` messages: the newest mark, not too often, again if one is lost."""

    __slots__ = ("_said", "_said_at")

    def __init__(self) -> None:
        self._said: Mark | None = None
        self._said_at = float("-inf")

    def due(self, mark: Mark | None, epoch: int) -> float | None:
        """When the publisher of ``epoch`` is to be told of ``mark``, or None: it knows."""
        if mark is None or mark == self._said or mark.epoch != epoch:
            return None
        return self._said_at + NOTICE_S

    def say(self, mark: Mark, link: Link, mono: float) -> None:
        """Tell it: by a datagram where there are any."""
        self._said_at = mono
        message = encode_control("durable", epoch=mark.epoch, tick=mark.tick)
        if not link.lossy:
            link.control(message)
        elif not link.send(message, 0):
            return
        self._said = mark

    def again(self) -> None:
        """It was lost, or there is another publisher: say it again, by then perhaps with a newer tick."""
        self._said = None
