"""Connections to one origin: the one used last is used first, and no more than so many at once. Room: store."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections import deque
from collections.abc import Sequence
from urllib.parse import urlsplit

from gateway import limits
from gateway.errors import StoreUnavailable
from gateway.store.remote.wire import StoreWire


class Pool:
    """``tls``: who is trusted, for https; None: clear text."""

    def __init__(self, url: str, tls: ssl.SSLContext | None) -> None:
        parts = urlsplit(url)
        self._url = url
        self._tls = tls
        self._host = parts.hostname or ""
        self._port = parts.port or (443 if tls is not None else 80)
        self._idle: list[StoreWire] = []
        self._in_use = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._sweep: asyncio.TimerHandle | None = None
        self._is_closed = False

    @property
    def connections(self) -> int:
        """Open ones."""
        return self._in_use + len(self._idle)

    async def acquire(self, *, fresh: bool = False) -> tuple[StoreWire, bool]:
        """A connection of the caller's own until :meth:`give`, and whether it is new. ``fresh``: those at rest are
        not to be trusted (the server closed one just now). Raises :class:`StoreUnavailable`; the caller bounds the time."""
        while self._in_use >= limits.STORE_POOL_CONNECTIONS_MAX:
            await self._turn()
        if fresh:
            self._drop_idle()
        if (wire := self.at_rest()) is not None:
            return wire, False
        # Counted while it is only being made, or a burst of requests would open any number at once.
        self._in_use += 1
        try:
            return await self._connect(), True
        except BaseException:
            self._leave()
            raise

    def at_rest(self) -> StoreWire | None:
        """As :meth:`acquire`, at once; None: there is none that may be used now."""
        if self._in_use >= limits.STORE_POOL_CONNECTIONS_MAX:
            return None
        now = asyncio.get_running_loop().time()
        while self._idle:
            # The one used last: the others grow old and are closed, so that the pool shrinks to what is needed.
            wire = self._idle.pop()
            if wire.is_usable and now - wire.idle_since < limits.STORE_POOL_IDLE_S:
                self._in_use += 1
                return wire
            wire.close()
        return None

    async def _turn(self) -> None:
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._wake()  # it was this one's turn, and is the next one's now
            raise
        finally:
            if turn in self._waiting:
                self._waiting.remove(turn)

    async def _connect(self) -> StoreWire:
        if self._is_closed:
            raise StoreUnavailable(f"the way to {self._url} was closed")
        try:
            # At each new connection, not once: a name may come to mean another machine.
            found = await self._resolve()
            addresses = list(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found))
            return await self._first_of(addresses)
        except (OSError, ssl.SSLError) as error:
            why = str(error) or type(error).__name__
            raise StoreUnavailable(f"{self._url} cannot be reached: {why}") from error

    async def _resolve(self) -> Sequence[tuple[int, int, int, str, tuple[object, ...]]]:
        """As ``getaddrinfo``."""
        loop = asyncio.get_running_loop()
        return await loop.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)

    async def _first_of(self, addresses: list[str]) -> StoreWire:
        """The first of a name's addresses that answers; the next is tried when one fails, or is silent for a moment
        (RFC 8305 section 5). Raises what the last one raised."""
        attempts: set[asyncio.Task[StoreWire]] = set()
        failure: BaseException = OSError("the name has no address")
        try:
            while addresses or attempts:
                if addresses:
                    attempts.add(asyncio.ensure_future(self._attempt(addresses.pop(0))))
                wait_s = limits.STORE_CONNECT_STAGGER_S if addresses else None
                done, attempts = await asyncio.wait(
                    attempts, timeout=wait_s, return_when=asyncio.FIRST_COMPLETED
                )
                wires = [attempt.result() for attempt in done if attempt.exception() is None]
                # Two that answer in the same turn of the loop: the one that was begun first is kept.
                for spare in wires[1:]:
                    spare.close()
                if wires:
                    return wires[0]
                failure = next((error for attempt in done if (error := attempt.exception())), failure)
            raise failure
        finally:
            for attempt in attempts:
                # One that had connected in the very turn in which its caller gave up has a connection that nobody
                # would close.
                if not attempt.cancel() and not attempt.cancelled() and attempt.exception() is None:
                    attempt.result().close()

    async def _attempt(self, address: str) -> StoreWire:
        if self._tls is not None:
            # The context may be shared with HTTP/2's client, which sets its own: so it is set before each use.
            self._tls.set_alpn_protocols(["http/1.1"])
        _, wire = await asyncio.get_running_loop().create_connection(
            lambda: StoreWire(self._url, self._lost),
            address,
            self._port,
            ssl=self._tls,
            server_hostname=self._host if self._tls is not None else None,
        )
        return wire

    def give(self, wire: StoreWire) -> None:
        """The caller needs it no more."""
        if wire.is_usable and not self._is_closed:
            loop = asyncio.get_running_loop()
            wire.idle_since = loop.time()
            self._idle.append(wire)
            if self._sweep is None:
                self._sweep = loop.call_later(limits.STORE_POOL_IDLE_S, self._close_idle)
        else:
            wire.close()
        # Last: whoever is woken looks among those at rest, and should find this one.
        self._leave()

    def _leave(self) -> None:
        self._in_use -= 1
        self._wake()

    def _wake(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return

    def _lost(self, wire: StoreWire) -> None:
        if wire in self._idle:
            self._idle.remove(wire)

    def _close_idle(self) -> None:
        """Those at rest for long; the oldest stand first."""
        loop = asyncio.get_running_loop()
        self._sweep = None
        old = loop.time() - limits.STORE_POOL_IDLE_S
        while self._idle and self._idle[0].idle_since <= old:
            self._idle.pop(0).close()
        if self._idle:
            self._sweep = loop.call_at(self._idle[0].idle_since + limits.STORE_POOL_IDLE_S, self._close_idle)

    def _drop_idle(self) -> None:
        idle, self._idle = self._idle, []
        for wire in idle:
            wire.close()

    def close(self) -> None:
        """Close those at rest; those in use are closed when they are given back. Idempotent."""
        self._is_closed = True
        self._drop_idle()
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
