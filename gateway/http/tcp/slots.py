"""One accepted connection's place at a door, whatever it speaks by now. Room: http."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol


class Occupant(Protocol):
    """Who holds the connection at present. Each has one deadline, which :class:`TcpServer` looks at."""

    deadline: float

    def expire(self, now: float) -> None:
        """The deadline has passed (seconds of the loop's clock)."""

    def go_away(self) -> None:
        """The door closes: end as soon as what is under way is done."""

    def abort(self) -> None:
        """End at once."""

    @property
    def is_idle(self) -> bool:
        """Whether nothing would be lost by ending it."""


class Slot:
    """From accept to the end of the connection."""

    __slots__ = ("_on_left", "is_left", "occupant", "peer", "raw")

    def __init__(self, peer: str, on_left: Callable[[Slot], None]) -> None:
        self.peer = peer
        """Whom the connection counts for."""
        self.raw: asyncio.Transport | None = None
        self.occupant: Occupant | None = None
        self.is_left = False
        self._on_left = on_left

    def leave(self) -> None:
        """The connection has ended: its place is free. Idempotent."""
        if not self.is_left:
            self.is_left = True
            self.occupant = None
            self._on_left(self)
