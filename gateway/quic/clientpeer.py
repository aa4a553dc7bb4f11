"""The client's end of a connection: handshake, exchanges, sessions it asked for. Room: quic."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from aioquic.quic import events

from gateway.quic.connection import Connection
from gateway.quic.h3.codes import ErrorCode
from gateway.quic.h3.exchange import ClientExchange, ConnectFailed, RequestFailed, WholeExchange
from gateway.quic.h3.http3 import Http3
from gateway.quic.peer import Hub, Peer
from gateway.quic.tls import QuicTrust

RawHeaders = Sequence[tuple[bytes, bytes]]


class ClientPeer(Peer):
    """The connection to a server, as the client sees it."""

    def __init__(self, quic: Connection, hub: Hub, trust: QuicTrust) -> None:
        super().__init__(quic, hub)
        self.h3 = Http3(quic)
        self.exchanges: dict[int, ClientExchange | WholeExchange] = {}
        self.connected: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.closed = asyncio.Event()
        self.was_resumed = False
        self.early_data_accepted = False
        self._trust = trust
        self._pings: dict[int, asyncio.Future[None]] = {}
        self._next_ping = 1

    def on_handshake(self, event: events.HandshakeCompleted) -> None:
        self.was_resumed = event.session_resumed
        self.early_data_accepted = event.early_data_accepted
        if not self._trust.accepts(self.quic.peer_leaf_der()):
            self._fail_connecting("the server's certificate is none of the pinned ones")
            self.close(ErrorCode.H3_GENERAL_PROTOCOL_ERROR, "certificate not pinned")
        elif not self.connected.done():
            self.connected.set_result(None)

    def _fail_connecting(self, why: str) -> None:
        if not self.connected.done():
            self.connected.set_exception(ConnectFailed(why))
            # Asked for: a connection that fails while nobody waits for it (early data) would be reported by asyncio
            # as forgotten.
            self.connected.exception()

    def on_headers(self, stream_id: int, headers: list[tuple[bytes, bytes]], ended: bool) -> None:
        exchange = self.exchanges.get(stream_id)
        if exchange is None:
            return
        exchange.on_headers(headers, ended)
        link = self.sessions.get(stream_id)
        if link is not None and isinstance(exchange, ClientExchange) and exchange.response.done():
            if exchange.response.result().status < 300:
                del self.exchanges[stream_id]
            else:
                self.remove_session(link)

    def on_data(self, stream_id: int, data: bytes, ended: bool) -> None:
        exchange = self.exchanges.get(stream_id)
        if exchange is not None:
            exchange.on_data(data, ended)

    def on_reset(self, stream_id: int, *, receiving: bool) -> None:
        exchange = self.exchanges.get(stream_id)
        if exchange is None:
            return
        if receiving:
            exchange.fail(RequestFailed("the gateway gave the request up", sent=True))
        elif exchange.sending is not None:
            exchange.sending.cancel()

    def on_ping(self, uid: int) -> None:
        waiter = self._pings.pop(uid, None)
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def on_over(self, event: events.ConnectionTerminated) -> None:
        why = event.reason_phrase or f"closed with code {event.error_code:#x}"
        self._fail_connecting(f"the connection ended: {why}")
        error = RequestFailed(f"the connection ended: {why}", sent=True)
        for exchange in list(self.exchanges.values()):
            exchange.fail(error)
        for waiter in self._pings.values():
            if not waiter.done():
                waiter.set_exception(error)
                waiter.exception()
        self._pings.clear()
        self.closed.set()

    async def ping(self) -> None:
        """Wait for one round trip. RFC 9000 section 19.2."""
        uid = self._next_ping
        self._next_ping += 1
        waiter = self._pings[uid] = asyncio.get_running_loop().create_future()
        self.quic.send_ping(uid)
        self.hub.mark(self)
        await waiter

    def open_request(self, headers: RawHeaders, *, ended: bool) -> int:
        """Send a header section on a new request stream; answers the stream. RFC 9114 section 4.1."""
        assert self.h3 is not None
        if self.quic.is_ended or self.quic.close_event is not None:
            raise RequestFailed("the connection is closed", sent=False)
        stream_id = self.quic.get_next_available_stream_id()
        self.h3.send_headers(stream_id, list(headers), end_stream=ended)
        self.hub.mark(self)
        return stream_id

    @property
    def is_busy(self) -> bool:
        return bool(self.sessions or self.exchanges)
