"""Where one answer goes out: a queue of bytes that empties as the peer takes them. Room: http."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

from gateway import limits
from gateway.core.ports import ClientGone
from gateway.http.budget import Backlog
from gateway.http.tcp.heads import Headers


class ResponseChannel(Protocol):
    """What an exchange asks of the connection (HTTP/1.1) or the stream (HTTP/2) that it lives on."""

    def send_head(self, status: int, headers: Headers) -> None:
        """The response's head; it goes out with the first :meth:`send_body`."""

    def send_body(self, data: bytes, *, end: bool) -> None:
        """A piece of the body. Raises ``ValueError`` where it is not what the head said."""

    async def drained(self) -> None:
        """Wait until what was given is on its way. Raises :class:`ClientGone`."""

    def wants_body(self) -> None:
        """The application waits for the request's body."""

    def consumed(self, size: int) -> None:
        """The application took so many bytes of the request's body."""

    def finished(self) -> None:
        """The response is complete and the application has returned."""

    def give_up(self) -> None:
        """The application broke off inside the response: the peer must see that it is not whole."""


class OutQueue:
    """Bytes on their way out of one channel, and who waits for them. Its owner takes from the front, and says
    by :meth:`settle` whether more may be given."""

    __slots__ = (
        "_backlog",
        "_given",
        "_held",
        "_on_shed",
        "_waiters",
        "is_clear",
        "is_lost",
        "moved_at",
        "pieces",
        "size",
    )

    def __init__(self, backlog: Backlog, on_shed: Callable[[], None]) -> None:
        self.pieces: deque[memoryview] = deque()
        self.size = 0
        self.is_clear = True
        self.is_lost = False
        """Nobody takes anything any more."""
        self.moved_at = time.monotonic()
        """When something last went out, or there was nothing to go."""
        self._backlog = backlog
        self._on_shed = on_shed
        self._held = False
        self._given = 0
        """Bytes since its owner's last wait."""
        self._waiters: list[asyncio.Future[None]] = []

    def put(self, data: bytes) -> None:
        """Add to the end."""
        if not data or self.is_lost:
            return
        if not self.size:
            self.moved_at = time.monotonic()
        # A view, so that taking some of it from the front (took) copies nothing.
        self.pieces.append(memoryview(data))
        self.size += len(data)
        self._given += len(data)

    def took(self, size: int) -> None:
        """The next ``size`` bytes, all of the first piece, have gone."""
        piece = self.pieces[0]
        if size == len(piece):
            self.pieces.popleft()
        else:
            self.pieces[0] = piece[size:]
        self.size -= size

    def pop(self, size_max: int) -> list[memoryview]:
        """So many bytes from the front, at most; they count as gone."""
        taken: list[memoryview] = []
        while self.pieces and size_max > 0:
            piece = self.pieces[0][:size_max]
            taken.append(piece)
            size_max -= len(piece)
            self.took(len(piece))
        self.moved()
        return taken

    def settle(self, is_clear: bool) -> None:
        """What could go has gone. ``is_clear``: those who wait for it may give more."""
        self.is_clear = is_clear
        if is_clear and self._waiters:
            self._wake()
        # Only where it holds something, or did: answers that go out at once never touch the backlog.
        if self._held or self.size:
            self._held = self.size > 0
            self._backlog.set(self, self.size)

    def moved(self) -> None:
        """Something has gone just now."""
        self.moved_at = time.monotonic()

    def shed(self) -> None:
        """The backlog is over its bound, and nothing has moved here for longest."""
        self._held = False
        self.lose()
        self._on_shed()

    def lose(self) -> None:
        """Nothing goes out any more: forget it, and tell who waits. Idempotent."""
        self.is_lost = True
        self.pieces.clear()
        self.size = 0
        if self._held:
            self._held = False
            self._backlog.set(self, 0)
        self._wake()

    async def drained(self) -> None:
        """Wait until more may be given. Raises :class:`ClientGone`."""
        if not self.is_lost and not self.is_clear:
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            self._given = 0
            # Before it the count begins anew: having waited is having given others their turn.
            await waiter
        elif self._given >= limits.HTTP_GIVEN_PER_TURN_BYTES:
            self._given = 0
            await asyncio.sleep(0)  # others have their turn, and it shows whether the peer has gone
        if self.is_lost:
            raise ClientGone("the client is gone")

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)
