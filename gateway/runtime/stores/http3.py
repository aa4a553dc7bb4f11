"""A store's requests over HTTP/3: gateway to gateway across a bad network. Room: runtime.

A connection, kept alive, with one stream a request: a slow batch never holds up another. Where many are under way, a few
more connections, each with a congestion window of its own, as as many clients would have without us. A new
connection resumes with the last one's ticket, and what may be served twice goes in 0-RTT. Where
UDP gets no answer, TCP carries the requests for a while.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from aioquic.tls import SessionTicket

from gateway import limits
from gateway.client.address import Address
from gateway.client.trust import Trust
from gateway.errors import StoreUnavailable, TooLarge
from gateway.quic import Client, ConnectFailed, RequestFailed, WholeExchange, connect
from gateway.store.remote import Ask, StoreAnswer, Transport


class H3Transport:
    """A :class:`gateway.store.remote.Transport` over QUIC. ``fallback``: the same origin over TCP, if it may be used."""

    def __init__(self, url: str, *, trust: Trust, fallback: Transport | None = None) -> None:
        self._lanes = [H3Lane(url, trust=trust, fallback=fallback)]
        self._url, self._trust, self._fallback = url, trust, fallback
        self._sweep: asyncio.TimerHandle | None = None

    @property
    def url(self) -> str:
        """The origin."""
        return self._lanes[0].url

    @property
    def _client(self) -> Client | None:
        """The first connection."""
        return self._lanes[0]._client

    @property
    def connections(self) -> int:
        """Connections made so far."""
        return sum(lane.connections for lane in self._lanes)

    @property
    def resumed(self) -> int:
        """... of which resumed an earlier one."""
        return sum(lane.resumed for lane in self._lanes)

    async def request(self, ask: Ask, timeout_s: float) -> StoreAnswer:
        """Ask once. Raises :class:`StoreUnavailable`."""
        return await self._lane().request(ask, timeout_s)

    def _lane(self) -> H3Lane:
        """One with little under way; another one, where the gateway is far; or the one that has least."""
        for lane in self._lanes:
            if lane.under_way < limits.STORE_H3_REQUESTS_PER_CONNECTION:
                return lane
        # Nearby the CPU is the bound and not the congestion window: more connections would only cost
        # handshakes.
        is_far = (self._lanes[0].fastest_s or 0.0) >= limits.STORE_H3_FAR_S
        if is_far and len(self._lanes) < limits.STORE_H3_CONNECTIONS_MAX:
            self._lanes.append(H3Lane(self._url, trust=self._trust, fallback=self._fallback))
            if self._sweep is None:
                self._sweep = asyncio.get_running_loop().call_later(
                    limits.STORE_POOL_IDLE_S, self._close_idle
                )
            return self._lanes[-1]
        return min(self._lanes, key=lambda lane: lane.under_way)

    def _close_idle(self) -> None:
        """Close the connections, but for the first, that nobody needed since the last time."""
        first, *others = self._lanes
        idle = [lane for lane in others if not lane.under_way and not lane.was_used]
        for lane in idle:
            lane.close()
        self._lanes = [first, *(lane for lane in others if lane not in idle)]
        for lane in self._lanes:
            lane.was_used = False
        self._sweep = None
        if len(self._lanes) > 1:
            self._sweep = asyncio.get_running_loop().call_later(limits.STORE_POOL_IDLE_S, self._close_idle)

    async def lines(self, ask: Ask, silence_s: float) -> AsyncIterator[str]:
        """The answer's lines, by TCP: nothing that says lines is in a hurry."""
        if self._fallback is None:
            raise StoreUnavailable(f"{self.url} is reached over HTTP/3 only; lines come over TCP")
        async for line in self._fallback.lines(ask, silence_s):
            yield line

    async def aclose(self) -> None:
        """Close the connections. Idempotent."""
        if self._sweep is not None:
            self._sweep.cancel()
        for lane in self._lanes:
            lane.close()
        if self._fallback is not None:
            await self._fallback.aclose()


class H3Lane:
    """One connection at a time, and the requests on it."""

    def __init__(self, url: str, *, trust: Trust, fallback: Transport | None = None) -> None:
        self._address = Address.parse(url)
        self._trust = trust
        self._fallback = fallback
        self._client: Client | None = None
        self._ticket: SessionTicket | None = None
        self._connecting = asyncio.Lock()
        self._udp_again_at = 0.0
        self._watching: set[asyncio.Task[None]] = set()
        self.connections = 0
        self.resumed = 0
        self.under_way = 0
        self.was_used = False
        self.fastest_s: float | None = None
        """The shortest time that an answer took: how far the gateway is."""

    @property
    def url(self) -> str:
        """The origin."""
        return self._address.base_url

    async def request(self, ask: Ask, timeout_s: float) -> StoreAnswer:
        """Ask once. Raises :class:`StoreUnavailable`."""
        self.under_way += 1
        self.was_used = True
        began = asyncio.get_running_loop().time()
        try:
            answer = await self._request(ask, timeout_s)
            took_s = asyncio.get_running_loop().time() - began
            self.fastest_s = took_s if self.fastest_s is None else min(self.fastest_s, took_s)
            return answer
        finally:
            self.under_way -= 1

    async def _request(self, ask: Ask, timeout_s: float) -> StoreAnswer:
        began = asyncio.get_running_loop().time()
        client = await self._open(replayable=ask.replayable)
        if client is None:
            assert self._fallback is not None
            return await self._fallback.request(ask, timeout_s)
        try:
            if client.is_early and not ask.replayable:
                # 0-RTT may be replayed by whoever recorded it (RFC 8446 section 8; RFC 8470): a commit
                # waits for the handshake, which costs it one round trip.
                async with asyncio.timeout_at(began + timeout_s):
                    # Shielded: it is everybody's who asks on this connection, and a timeout here would
                    # cancel it for all.
                    await asyncio.shield(client.peer.connected)
            return await self._exchange(client, ask, timeout_s)
        except TimeoutError:
            raise self.late() from None
        except TooLarge as error:
            raise StoreUnavailable(f"{self.url}: {error.message}; is it a store?") from error
        except RequestFailed:
            # For the next request; those under way on it are told by the connection itself.
            self._leave(client)
            raise

    def late(self) -> StoreUnavailable:
        """What is raised for an answer that did not come."""
        return StoreUnavailable(f"{self.url} did not answer over HTTP/3 in time")

    async def _exchange(self, client: Client, ask: Ask, timeout_s: float) -> StoreAnswer:
        headers = [(name.encode(), value.encode()) for name, value in ask.headers.items()]
        if ask.body:  # some proxies (Caddy 2.6) forward no body of unknown length
            headers.append((b"content-length", b"%d" % len(ask.body)))
        exchange = client.fetch(ask.method, ask.path, headers, ask.body, bytes_max=ask.answer_bytes_max)
        patience = _Patience(self, client, exchange, timeout_s)
        try:
            status, fields, body = await exchange.done
        except BaseException:
            exchange.give_up(self.late())
            raise
        finally:
            patience.end()
        names = {name.decode("latin-1"): value.decode("latin-1") for name, value in fields}
        return StoreAnswer(status, names, body)

    def suspect(self, client: Client, exchange: WholeExchange) -> None:
        """An answer is out for long: ask whether the connection lives."""
        task = asyncio.get_running_loop().create_task(self._ask_whether_it_lives(client, exchange))
        self._watching.add(task)
        task.add_done_callback(self._watching.discard)

    async def _ask_whether_it_lives(self, client: Client, exchange: WholeExchange) -> None:
        """A slow store is waited for, a dead connection is not."""
        try:
            # A PING is answered by the QUIC stack, however long the store takes: that tells the two apart.
            async with asyncio.timeout(limits.STORE_H3_PING_S_MAX):
                await client.ping()
        except (TimeoutError, StoreUnavailable):
            self._leave(client)
            exchange.give_up(self.late())

    async def _open(self, *, replayable: bool) -> Client | None:
        """The connection to use; None: by TCP."""
        if (client := self._usable()) is not None:
            return client
        loop = asyncio.get_running_loop()
        async with self._connecting:
            # Again behind the lock: whoever had it has connected.
            if (client := self._usable()) is not None:
                return client
            if self._fallback is not None and loop.time() < self._udp_again_at:
                return None
            try:
                return await self._connect(early=replayable)
            # A network that drops UDP is silent, and costs the whole patience: it is not asked again for a
            # while.
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
            # What still comes has so long; whoever is cut off then asks again, on a connection that is well.
            asyncio.get_running_loop().call_later(limits.STORE_DEADLINE_S, client.close)

    def close(self) -> None:
        """Close the connection. Idempotent."""
        if self._client is not None:
            self._client.close()
            self._client = None


class _Patience:
    """One timer a request: the connection is suspected once its answer is out for long, and the answer given up when none of it
    came for ``silence_s``, or all of it not within a bound."""

    __slots__ = ("_began", "_client", "_exchange", "_is_suspected", "_lane", "_loop", "_silence_s", "_timer")

    def __init__(self, lane: H3Lane, client: Client, exchange: WholeExchange, silence_s: float) -> None:
        self._lane, self._client, self._exchange, self._silence_s = lane, client, exchange, silence_s
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()
        self._is_suspected = False
        self._timer = self._loop.call_at(self._next(), self._look)

    def _deadline(self) -> float:
        heard_at = self._exchange.heard_at
        # Nothing at all so far: silence counts from the asking.
        if not heard_at:
            return self._began + self._silence_s
        return min(heard_at + self._silence_s, self._began + limits.STORE_ANSWER_S_MAX)

    def _next(self) -> float:
        deadline = self._deadline()
        return deadline if self._is_suspected else min(deadline, self._began + limits.STORE_H3_SUSPECT_S)

    def _look(self) -> None:
        now = self._loop.time()
        if now >= self._deadline():
            # Ends `done`, at which the request waits; no timer is set again.
            self._exchange.give_up(self._lane.late())
            return
        if not self._is_suspected and now >= self._began + limits.STORE_H3_SUSPECT_S:
            self._is_suspected = True
            self._lane.suspect(self._client, self._exchange)
        self._timer = self._loop.call_at(self._next(), self._look)

    def end(self) -> None:
        """The request is over."""
        self._timer.cancel()
