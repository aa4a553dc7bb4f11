"""A sink through ASGI's ``send``: a bounded queue and one task that empties it. Room: http.

Used for HTTP streams, server-sent events and WebSocket over HTTP/2, where the connection is
shared and only the server knows when bytes have gone out.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

from gateway import limits
from gateway.core.ports import CloseCode


class AsgiSink:
    """Implements :class:`gateway.http.links.Sink`; ``ended`` is set once the session is to end."""

    def __init__(
        self,
        send: Callable[[bytes], Awaitable[None]],
        ended: asyncio.Event,
        unsent_bytes: Callable[[], int] | None = None,
    ) -> None:
        """``unsent_bytes``: what waits in the connection below, where that can be known."""
        self._send = send
        self._unsent_bytes = unsent_bytes
        self._ended = ended
        self._queue: deque[bytes] = deque()
        self._bytes = 0
        self._task: asyncio.Task[None] | None = None
        self._started = True
        self.close: tuple[CloseCode, str] | None = None

    def hold(self) -> None:
        """Keep what is written until :meth:`start`: the response has not begun yet."""
        self._started = False

    def start(self) -> None:
        """The response has begun: let out what was held."""
        self._started = True
        self._pump_if_idle()

    def write(self, message: bytes) -> None:
        self._queue.append(message)
        self._bytes += len(message)
        self._pump_if_idle()

    def pending_bytes(self) -> int:
        return self._bytes + (self._unsent_bytes() if self._unsent_bytes is not None else 0)

    def finish(self, code: CloseCode, reason: str) -> None:
        self.close = (code, reason)
        self._ended.set()

    async def drained(self) -> None:
        """Wait until all was sent (a few seconds at most: a peer that does not read is left behind)."""
        task = self._task
        if task is not None:
            await asyncio.wait((task,), timeout=limits.LINK_LAST_WORDS_S)
            task.cancel()

    def _pump_if_idle(self) -> None:
        if self._started and self._queue and self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._pump())

    async def _pump(self) -> None:
        try:
            while self._queue:
                message = self._queue.popleft()
                await self._send(message)
                self._bytes -= len(message)
        except (OSError, RuntimeError):
            self._ended.set()  # the connection is gone: the reader's end says so too
        finally:
            self._task = None
