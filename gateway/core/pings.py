"""Answering ``ping``: how a client tells a quiet world from a dead path. Room: core. Pure.

A page in a browser hears neither QUIC's nor a WebSocket's own pings, and its browser gives a dead path up after 20 to
50 s. Source: docs/FRAMES.md, "Keep-alive".
"""

from __future__ import annotations

from typing import Final

from gateway.core.ports import Link
from gateway.limits import PONG_S_MIN
from gateway.wire.control import Control, encode_control

_PONG: Final = encode_control("pong")


class Pongs:
    """One session's answers: no more often than every ``PONG_S_MIN``, however often it is asked."""

    __slots__ = ("_next",)

    def __init__(self) -> None:
        self._next = float("-inf")

    def answer(self, message: Control, link: Link, mono: float) -> None:
        """Answer ``message`` if it is a ``ping``; ``mono`` in seconds."""
        # Answered by time, not by number: pings without end would else have as many answers in the control stream,
        # which is never dropped.
        if message.type == "ping" and mono >= self._next:
            self._next = mono + PONG_S_MIN
            link.control(_PONG)
