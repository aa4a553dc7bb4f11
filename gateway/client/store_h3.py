"""A store's requests over HTTP/3: gateway to gateway across a bad network. Room: client.

One connection, kept alive, with one stream a request: a slow batch never holds up another. A new
connection resumes with the last one's ticket, and what may be served twice goes in 0-RTT. Where
UDP gets no answer, TCP carries the requests for a while.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from gateway import limits
from gateway.client.address import Address
from gateway.client.trust import Trust
from gateway.errors import StoreUnavailable, TooLarge
from gateway.quic import Client, ConnectFailed, RequestFailed, connect
from gateway.store.remote import Answer, Ask, Transport


class H3Transport:
    """A :class:`gateway.store.remote.Transport` over QUIC. ``fallback``: the same origin over TCP, if it may be used."""

    def __init__(self, url: str, *, trust: Trust, fallback: Transport | None = None) -> None:
        self._address = Address.parse(url)
        self._trust = trust
        self._fallback = fallback
        self._client: Client | None = None
        self._ticket: Any = None
        self._connecting = asyncio.Lock()
        self._udp_again_at = 0.0
        self._watching: set[asyncio.Task[None]] = set()
        self.connections = 0
        self.resumed = 0

    @property
    def url(self) -> str:
        """The origin."""
        return self._address.base_url

    async def request(self, ask: Ask, timeout_s: float) -> Answer:
        """Ask once. Raises :class:`StoreUnavailable`."""
        client = await self._open(replayable=ask.replayable)
        if client is None:
            assert self._fallback is not None
            return await self._fallback.request(ask, timeout_s)
        loop = asyncio.get_running_loop()
        scope = asyncio.timeout(timeout_s)
        watch = loop.call_later(limits.STORE_H3_SUSPECT_S, self._suspect, client, scope)
        try:
            async with scope:
                return await self._exchange(client, ask, _Progress(scope, timeout_s, loop))
        except TimeoutError:
            raise StoreUnavailable(f"{self.url} did not answer over HTTP/3 in time") from None
        except TooLarge as error:
            raise StoreUnavailable(f"{self.url}: {error.message}; is it a store?") from error
        except RequestFailed:
            self._leave(client)
            raise
        finally:
            watch.cancel()

    def _suspect(self, client: Client, scope: asyncio.Timeout) -> None:
        task = asyncio.get_running_loop().create_task(self._ask_whether_it_lives(client, scope))
        self._watching.add(task)
        task.add_done_callback(self._watching.discard)

    async def _ask_whether_it_lives(self, client: Client, scope: asyncio.Timeout) -> None:
        """A slow store is waited for, a dead connection is not."""
        try:
            async with asyncio.timeout(limits.STORE_H3_PING_S_MAX):
                await client.ping()
        except (TimeoutError, StoreUnavailable):
            self._leave(client)
            if not scope.expired():
                with contextlib.suppress(RuntimeError):  # the request ended meanwhile
                    scope.reschedule(asyncio.get_running_loop().time())

    async def _exchange(self, client: Client, ask: Ask, progress: _Progress) -> Answer:
        if client.is_early and not ask.replayable:
            await asyncio.shield(client.peer.connected)
        headers = [(name.encode(), value.encode()) for name, value in ask.headers.items()]
        if ask.body:  # some proxies (Caddy 2.6) forward no body of unknown length
            headers.append((b"content-length", str(len(ask.body)).encode()))
        response = await client.request(ask.method, ask.path, headers, ask.body)
        parts: list[bytes] = []
        size = 0
        try:
            async for part in response.aiter_bytes():
                progress.made()
                size += len(part)
                if size > ask.answer_bytes_max:
                    raise TooLarge(f"the answer is over {ask.answer_bytes_max} bytes")
                parts.append(part)
        except BaseException:
            response.close()
            raise
        fields = {name.decode("latin-1"): value.decode("latin-1") for name, value in response.headers}
        return Answer(response.status, fields, b"".join(parts))

    async def _open(self, *, replayable: bool) -> Client | None:
        """The connection to use; None: by TCP."""
        if (client := self._usable()) is not None:
            return client
        loop = asyncio.get_running_loop()
        async with self._connecting:
            if (client := self._usable()) is not None:
                return client
            if self._fallback is not None and loop.time() < self._udp_again_at:
                return None
            try:
                return await self._connect(early=replayable)
            except ConnectFailed:
                if self._fallback is None:
                    raise
                self._udp_again_at = loop.time() + limits.STORE_H3_BLOCKED_S
                return None

    def _usable(self) -> Client | None:
        return self._client if self._client is not None and not self._client.is_closed else None

    async def _connect(self, *, early: bool) -> Client:
        self._keep_ticket()
        client = await connect(
            self._address.host,
            self._address.port,
            trust=self._trust.for_quic(),
            ticket=self._ticket,
            early_data=early and self._ticket is not None,
            timeout_s=limits.STORE_H3_PATIENCE_S,
        )
        client.keep_alive(limits.STORE_H3_KEEP_ALIVE_S)
        self._client = client
        self.connections += 1
        self.resumed += self._ticket is not None
        self._ticket = None  # a ticket is used once
        return client

    def _keep_ticket(self) -> None:
        if self._client is not None and self._client.ticket is not None:
            self._ticket = self._client.ticket

    def _leave(self, client: Client) -> None:
        """Ask no more on this connection; what is under way on it may still end well."""
        if self._client is not client:
            return
        self._keep_ticket()
        self._client = None
        if client.is_closed:
            client.close()
        else:
            asyncio.get_running_loop().call_later(limits.STORE_DEADLINE_S, client.close)

    async def lines(self, ask: Ask, silence_s: float) -> AsyncIterator[str]:
        """The answer's lines, by TCP: nothing that says lines is in a hurry."""
        if self._fallback is None:
            raise StoreUnavailable(f"{self.url} is reached over HTTP/3 only; lines come over TCP")
        async for line in self._fallback.lines(ask, silence_s):
            yield line

    async def aclose(self) -> None:
        """Close the connection. Idempotent."""
        if self._client is not None:
            self._client.close()
            self._client = None
        if self._fallback is not None:
            await self._fallback.aclose()


class _Progress:
    """Keeps a request's time-out ahead of an answer that is still coming, up to a bound."""

    __slots__ = ("_loop", "_scope", "_silence_s", "_until")

    def __init__(self, scope: asyncio.Timeout, silence_s: float, loop: asyncio.AbstractEventLoop) -> None:
        self._scope, self._silence_s, self._loop = scope, silence_s, loop
        self._until = loop.time() + limits.STORE_ANSWER_S_MAX

    def made(self) -> None:
        """Something came."""
        if not self._scope.expired():
            self._scope.reschedule(min(self._loop.time() + self._silence_s, self._until))
