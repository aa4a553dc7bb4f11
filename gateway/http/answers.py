"""Answers that cost much to make or to hold: so many at a time, so many bytes, and a share for each address. Room: http.

A peer that takes an answer slowly, or not at all, has the gateway hold it; one that asks for many has it
make them. So who asks for a whole state waits in line until little is held for its address and in all, before
anything is made. An answer that goes out in pieces counts for what is held of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from gateway import limits
from gateway.core.admission import peer_of
from gateway.errors import Overloaded, TooMany

WORKS_FLAG = "--works-at-once-max"
Handler = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Bounds:
    """``at_once``: made at the same time. ``bytes_max`` and ``peer_bytes_max``: held when another is begun.
    ``name`` stands in refusals and metrics."""

    name: str
    at_once: int
    at_once_per_peer: int
    bytes_max: int
    peer_bytes_max: int


ANSWERS = Bounds(
    "answer_bytes",
    limits.ANSWERS_AT_ONCE_MAX,
    limits.ANSWERS_AT_ONCE_MAX,
    limits.ANSWERS_BYTES_MAX,
    limits.ANSWERS_PEER_BYTES_MAX,
)
"""Whole states and lists."""


def works_of(at_once: int = limits.WORKS_AT_ONCE_MAX) -> Bounds:
    """What reads a whole recording, or makes a world."""
    return Bounds(WORKS_FLAG, at_once, 1, limits.ANSWERS_BYTES_MAX, limits.ANSWERS_PEER_BYTES_MAX)


class AnswerLease:
    """One answer's part of the budget."""

    def __init__(self, budget: AnswerBudget, peer: str) -> None:
        self._budget = budget
        self._peer = peer
        self._bytes = 0
        self.is_made = False

    def hold(self, size: int) -> None:
        """It is made, and so many bytes of it are held."""
        # The bytes first and then the turn: the other way round the next one would find room that is not
        # there.
        self._budget._hold(self._peer, size - self._bytes)
        self._bytes = size
        if not self.is_made:
            self.is_made = True
            self._budget._made(self._peer)

    def release(self) -> None:
        """It is gone. Idempotent."""
        self.hold(0)


class AnswerBudget:
    """The line, and what is held. All calls from one event loop."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._making: dict[str, int] = {}
        self._held: dict[str, int] = {}
        self._line: list[tuple[str, asyncio.Future[None]]] = []

    @property
    def held_bytes(self) -> int:
        return sum(self._held.values())

    @property
    def waiting(self) -> int:
        return len(self._line)

    @asynccontextmanager
    async def turn(self, peer: str) -> AsyncIterator[AnswerLease]:
        """Wait for a turn and take it. Raises :class:`TooMany` where the address has too much already,
        :class:`Overloaded` where all have together: at once, or after ``ANSWERS_PATIENCE_S``."""
        if not self._has_room(peer):
            await self._wait(peer)
        else:
            self._begin(peer)
        lease = AnswerLease(self, peer)
        try:
            yield lease
        finally:
            lease.release()

    def _begin(self, peer: str) -> None:
        self._making[peer] = self._making.get(peer, 0) + 1

    def _has_room(self, peer: str) -> bool:
        bounds = self._bounds
        return (
            sum(self._making.values()) < bounds.at_once
            and self._making.get(peer, 0) < bounds.at_once_per_peer
            # Held against what is there, not with what is to come: how large an answer will be is not known
            # before it is made.
            and self.held_bytes < bounds.bytes_max
            and self._held.get(peer, 0) < bounds.peer_bytes_max
        )

    async def _wait(self, peer: str) -> None:
        own = sum(1 for waiting, _ in self._line if waiting == peer)
        # Counted by walking: the line is short, and changes more often than it is asked.
        if own >= limits.ANSWERS_WAITING_PER_PEER_MAX or len(self._line) >= limits.ANSWERS_WAITING_MAX:
            raise self._refusal(peer)
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (peer, turn)
        self._line.append(entry)
        try:
            async with asyncio.timeout(limits.ANSWERS_PATIENCE_S):
                await turn
        except (TimeoutError, asyncio.CancelledError) as error:
            # It was this one's turn in the very moment in which he gave up: it is the next one's now.
            if turn.done() and not turn.cancelled():
                self._made(peer)
            if isinstance(error, TimeoutError):
                raise self._refusal(peer) from None
            raise
        finally:
            if entry in self._line:
                self._line.remove(entry)

    def _refusal(self, peer: str) -> TooMany | Overloaded:
        bounds = self._bounds
        facts = {"bound": bounds.name, "limit": bounds.peer_bytes_max}
        if (
            self._held.get(peer, 0) >= bounds.peer_bytes_max
            or self._making.get(peer, 0) >= bounds.at_once_per_peer
        ):
            return TooMany(
                f"{peer or 'this peer'} is asking for more than its share of costly answers at a time "
                f"({bounds.at_once_per_peer} being made, {bounds.peer_bytes_max} bytes on their way; the bound is "
                f"{bounds.name}): take those first",
                **facts,
            )
        return Overloaded(
            f"{bounds.at_once} costly answers are being made or {bounds.bytes_max} bytes of them are on their way, which "
            f"is the bound for all together ({bounds.name}); come back in a second",
            **facts,
        )

    def _hold(self, peer: str, more: int) -> None:
        left = self._held.get(peer, 0) + more
        if left > 0:
            self._held[peer] = left
        else:
            self._held.pop(peer, None)
        if more < 0:
            self._serve_line()

    def _made(self, peer: str) -> None:
        left = self._making.get(peer, 0) - 1
        if left > 0:
            self._making[peer] = left
        else:
            self._making.pop(peer, None)
        self._serve_line()

    def _serve_line(self) -> None:
        """Whoever is first in line and has room, and so on: one address that is full holds no other up."""
        for entry in list(self._line):
            peer, turn = entry
            # done(): whoever gave up stands in the line until his own `finally` runs.
            if not turn.done() and self._has_room(peer):
                self._line.remove(entry)
                self._begin(peer)
                turn.set_result(None)


class Costly:
    """A handler as an ASGI endpoint whose answers wait for their turn. ``methods``: those that do; others pass."""

    def __init__(
        self, handler: Handler, budget: AnswerBudget, methods: tuple[str, ...] = ("GET", "HEAD", "POST")
    ) -> None:
        self._handler = handler
        self._budget = budget
        self._methods = methods

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive, send)
        if request.method not in self._methods:
            await (await self._handler(request))(scope, receive, send)
            return
        async with self._budget.turn(peer_of_scope(scope)) as lease:
            response = await self._handler(request)
            body: bytes | None = getattr(response, "body", None)
            scope["bulk"] = True  # the transport gives a peer up that does not take it in time
            lease.hold(limits.ANSWERS_STREAM_BYTES if body is None else len(body))
            await response(scope, receive, send)


def peer_of_scope(scope: Scope) -> str:
    """Whom a request counts for."""
    client = scope.get("client")
    return peer_of(client[0]) if client else ""
