"""The client side: one HTTP/3 connection to a gateway, with requests and sessions on it. Room: quic.

:func:`connect` is the way in. A connection survives a change of the local address
(:meth:`Client.rebind`), resumes with a ticket of an earlier one, and keeps itself alive.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import socket
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from functools import partial
from typing import Self

from aioquic.tls import SessionTicket

from gateway import limits
from gateway.core.ports import Session
from gateway.errors import GatewayError
from gateway.quic.clientpeer import ClientPeer, RawHeaders
from gateway.quic.connection import Connection
from gateway.quic.connection.paths import Address
from gateway.quic.connection.seam import check
from gateway.quic.endpoint import Endpoint
from gateway.quic.h3.codes import ErrorCode
from gateway.quic.h3.exchange import (
    ClientExchange,
    ConnectFailed,
    RequestFailed,
    Response,
    SessionRefused,
    WholeExchange,
)
from gateway.quic.h3.webtransport import WebTransportLink
from gateway.quic.options import QuicOptions
from gateway.quic.tls import QuicTrust
from gateway.quic.udp import UdpSocket
from gateway.quic.udp.race import first_of, resolve

# What aioquic warns of is for whoever keeps a log: where nobody does, Python would write it to standard error.
logging.getLogger("quic").addHandler(logging.NullHandler())


class Client:
    """An HTTP/3 connection. Made by :func:`connect`; an async context manager."""

    def __init__(self, endpoint: Endpoint, peer: ClientPeer, authority: str) -> None:
        self.endpoint = endpoint
        self.peer = peer
        self.authority = authority.encode()
        self.ticket: SessionTicket | None = None
        self._keep_alive: asyncio.Task[None] | None = None

    @property
    def is_early(self) -> bool:
        """Whether what is sent now goes in 0-RTT and might be replayed. RFC 9001 section 9.2."""
        return not self.peer.handshake_done

    @property
    def was_resumed(self) -> bool:
        return self.peer.was_resumed

    @property
    def is_closed(self) -> bool:
        return self.peer.ended is not None or self.peer.quic.close_event is not None

    @property
    def close_reason(self) -> str | None:
        """Why the connection ended, once it has."""
        event = self.peer.quic.close_event or self.peer.ended
        if event is None:
            return None
        return event.reason_phrase or f"code {event.error_code:#x}"

    # -- requests -------------------------------------------------------------------------

    async def request(
        self,
        method: str,
        path: str,
        headers: RawHeaders = (),
        body: bytes | AsyncIterator[bytes] = b"",
        *,
        timeout_s: float = limits.QUIC_REQUEST_S_MAX,
    ) -> Response:
        """Send a request; answers when the response's header section is there.

        ``path`` with its query. Many at once share the connection. ``timeout_s`` bounds the wait for
        the header section. Raises :class:`RequestFailed`.
        """
        peer = self.peer
        empty = isinstance(body, bytes) and not body
        stream_id = peer.open_request(self._head(method, path, headers), ended=empty)
        exchange = peer.exchanges[stream_id] = ClientExchange(peer, stream_id)
        if not empty:
            assert peer.h3 is not None
            if isinstance(body, bytes):
                peer.h3.send_data(stream_id, body, end_stream=True)
            else:
                exchange.sending = self.endpoint.loop.create_task(self._send_body(exchange, body))
        try:
            return await exchange.answer(timeout_s)
        except TimeoutError:
            exchange.give_up()
            raise RequestFailed(
                f"no response to {method} {path.partition('?')[0]} within {timeout_s:g} s", sent=True
            ) from None
        except asyncio.CancelledError:
            exchange.give_up()
            raise

    def fetch(
        self, method: str, path: str, headers: RawHeaders, body: bytes, *, bytes_max: int
    ) -> WholeExchange:
        """Send a request whose response, of at most ``bytes_max`` bytes, is wanted whole: await its ``done``, and give it up
        when that takes too long. Raises :class:`RequestFailed`."""
        peer = self.peer
        stream_id = peer.open_request(self._head(method, path, headers), ended=not body)
        exchange = WholeExchange(peer, stream_id, bytes_max)
        peer.exchanges[stream_id] = exchange
        if body:
            assert peer.h3 is not None
            peer.h3.send_data(stream_id, body, end_stream=True)
        return exchange

    def _head(self, method: str, path: str, headers: RawHeaders) -> list[tuple[bytes, bytes]]:
        return [
            (b":method", method.encode()),
            (b":scheme", b"https"),
            (b":authority", self.authority),
            (b":path", path.encode()),
            *headers,
        ]

    async def _send_body(self, exchange: ClientExchange, body: AsyncIterator[bytes]) -> None:
        peer, stream_id = self.peer, exchange.stream_id
        assert peer.h3 is not None
        try:
            async for chunk in body:
                if not peer.quic.streams.can_send_on(stream_id):
                    return
                peer.h3.send_data(stream_id, bytes(chunk), end_stream=False)
                peer.hub.mark(peer)
                await peer.drained(stream_id)
            if peer.quic.streams.can_send_on(stream_id):
                peer.h3.send_data(stream_id, b"", end_stream=True)
                peer.hub.mark(peer)
        except Exception as exc:
            exchange.fail(RequestFailed(f"the request body failed: {exc}", sent=True))
            peer.give_up_stream(stream_id, ErrorCode.H3_REQUEST_CANCELLED)

    # -- sessions -------------------------------------------------------------------------

    async def webtransport(
        self,
        path: str,
        make_session: Callable[[WebTransportLink], Session],
        headers: RawHeaders = (),
        *,
        timeout_s: float = limits.QUIC_REQUEST_S_MAX,
    ) -> WebTransportLink:
        """Open a session at ``path`` (with its query). ``make_session`` is called once it is accepted.

        Raises :class:`SessionRefused` with the gateway's problem document, :class:`RequestFailed`.
        """
        peer = self.peer
        try:
            async with asyncio.timeout(timeout_s):
                await asyncio.shield(peer.connected)
        except TimeoutError:
            raise RequestFailed(f"no connection within {timeout_s:g} s", sent=False) from None
        head = self._head("CONNECT", path, headers)
        # Among the pseudo-header fields, which stand before all others (RFC 9114 section 4.3).
        head[1:1] = [(b":protocol", b"webtransport")]
        head.append((b"sec-webtransport-http3-draft02", b"1"))
        stream_id = peer.open_request(head, ended=False)
        exchange = peer.exchanges[stream_id] = ClientExchange(peer, stream_id)
        link = WebTransportLink(peer, stream_id)
        link.is_accepted = True
        peer.add_session(link)
        try:
            response = await exchange.answer(timeout_s)
        except BaseException as exc:
            peer.remove_session(link)
            exchange.give_up()
            if isinstance(exc, TimeoutError):
                why = f"no answer to the session {path.partition('?')[0]} within {timeout_s:g} s"
                raise RequestFailed(why, sent=True) from None
            raise
        if response.status >= 300:
            body = await response.read(limits.H3_BUFFER_BYTES_MAX)
            raise SessionRefused(response.status, _problem(body))
        link.attach(make_session(link))
        return link

    # -- the connection -------------------------------------------------------------------

    async def ping(self) -> None:
        """Wait for one round trip. Raises :class:`RequestFailed` when the connection ends. RFC 9000 section 19.2."""
        await self.peer.ping()

    def keep_alive(self, interval_s: float) -> None:
        """Ping at this interval, so that neither an idle timeout nor a NAT forgets the connection. RFC 9000 section 10.1.2."""
        if self._keep_alive is None:
            self._keep_alive = self.endpoint.loop.create_task(self._ping_forever(interval_s))

    async def _ping_forever(self, interval_s: float) -> None:
        with contextlib.suppress(GatewayError):
            while True:
                await asyncio.sleep(interval_s)
                await self.peer.ping()

    def rebind(self, sock: socket.socket | None = None) -> None:
        """Go on from another local address (RFC 9000 section 9): a new socket, or the one given."""
        self.peer.quic.change_connection_id()
        self.endpoint.replace_socket(_udp(sock or local_socket(self.endpoint.udp.sock.family)))
        self.peer.quic.send_ping(0)
        self.endpoint.mark(self.peer)

    def close(self, code: int = ErrorCode.H3_NO_ERROR, reason: str = "") -> None:
        """Close the connection and its socket. Idempotent. RFC 9000 section 10.2."""
        if self._keep_alive is not None:
            self._keep_alive.cancel()
        self.peer.close(code, reason)
        self.endpoint.close()

    async def wait_closed(self) -> None:
        """Wait until the connection is over, from either side."""
        await self.peer.closed.wait()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.close()


def _problem(body: bytes) -> dict[str, object]:
    try:
        document = json.loads(body)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def _udp(sock: socket.socket) -> UdpSocket:
    """By batches, for the kernel's word when each packet came: what it waited here for its turn on a busy machine is then no queue
    on the path, neither in our round trips nor, by the delay that our ACKs report, in the gateway's."""
    return UdpSocket(sock, batches=True)


def local_socket(family: int) -> socket.socket:
    """An unbound-address UDP socket of a family."""
    sock = socket.socket(family, socket.SOCK_DGRAM)
    sock.bind(("::", 0) if family == socket.AF_INET6 else ("0.0.0.0", 0))
    return sock


async def connect(
    host: str,
    port: int,
    *,
    trust: QuicTrust,
    server_name: str | None = None,
    ticket: SessionTicket | None = None,
    early_data: bool = False,
    sock: socket.socket | None = None,
    options: QuicOptions | None = None,
    timeout_s: float = limits.QUIC_CONNECT_S_MAX,
) -> Client:
    """Connect to a gateway over QUIC.

    ``ticket``: of an earlier :attr:`Client.ticket`, for a cheaper handshake. ``early_data`` with a
    ticket: answer at once, so that requests go in 0-RTT; without it nothing does. ``sock``: a bound UDP socket, to choose
    the local address. A name's addresses are tried one after the other, the next a quarter of a second after the one
    before at the latest. Raises :class:`ConnectFailed` when nothing answers within ``timeout_s`` of the last one, when the address does not resolve, or when trust fails.
    """
    options = options or QuicOptions()
    if ticket is not None and not early_data:
        # aioquic offers early data whenever the ticket says how much may come; without the size it resumes, and
        # sends nothing that could be replayed.
        ticket = replace(ticket, max_early_data_size=None)
    try:
        addresses = await resolve(host, port, socket.SOCK_DGRAM)
    except OSError as exc:
        raise ConnectFailed(f"cannot reach {host}:{port}: {exc}") from exc
    if sock is not None:
        # A socket has one family and serves one attempt, so there is one address to try.
        addresses = [one for one in addresses if one[0] == sock.family][:1] or addresses[:1]

    def begin(family: int, address: Address) -> Client:
        try:
            udp = _udp(sock or local_socket(family))
        except OSError as exc:
            raise ConnectFailed(f"cannot reach {host}:{port}: {exc}") from exc
        return _begin(udp, address, server_name or host, port, trust, ticket, options)

    # Not raced, for what goes in 0-RTT must go to one address only; and not waited for: that is what early data is
    # for.
    if early_data and ticket is not None:
        return begin(*addresses[0])

    async def attempt(family: int, address: Address) -> Client:
        client = begin(family, address)
        try:
            await asyncio.shield(client.peer.connected)
        except BaseException:
            client.close()
            raise
        return client

    try:
        attempts = [partial(attempt, *one) for one in addresses]
        return await first_of(attempts, Client.close, timeout_s=timeout_s)
    except TimeoutError:
        raise ConnectFailed(f"{host}:{port} does not answer over UDP within {timeout_s:g} s") from None


def _begin(
    udp: UdpSocket,
    address: Address,
    name: str,
    port: int,
    trust: QuicTrust,
    ticket: SessionTicket | None,
    options: QuicOptions,
) -> Client:
    """A client whose handshake has begun."""
    check()
    endpoint = Endpoint(udp, asyncio.get_running_loop())
    client: Client

    def on_ticket(new: SessionTicket) -> None:
        client.ticket = new

    quic = Connection(
        configuration=trust.configuration(name, options, ticket), session_ticket_handler=on_ticket
    )
    peer = ClientPeer(quic, endpoint, trust)
    authority = f"[{name}]:{port}" if ":" in name else f"{name}:{port}"
    client = Client(endpoint, peer, authority)
    endpoint.add_peer(peer, quic.host_cid)
    quic.connect(address, now=endpoint.time())
    endpoint.mark(peer)
    return client


async def connect_webtransport(
    host: str,
    port: int,
    path: str,
    *,
    trust: QuicTrust,
    make_session: Callable[[WebTransportLink], Session],
    options: QuicOptions | None = None,
    timeout_s: float = limits.QUIC_CONNECT_S_MAX,
) -> tuple[Client, WebTransportLink]:
    """A connection with one session on it. Close the client when the session is over."""
    client = await connect(host, port, trust=trust, options=options, timeout_s=timeout_s)
    try:
        return client, await client.webtransport(path, make_session)
    except BaseException:
        client.close()
        raise


async def h3_request(
    host: str,
    port: int,
    method: str,
    path: str,
    *,
    trust: QuicTrust,
    headers: RawHeaders = (),
    body: bytes | AsyncIterator[bytes] = b"",
    timeout_s: float = limits.QUIC_CONNECT_S_MAX,
) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    """One request on a connection of its own: status, headers, body."""
    async with await connect(host, port, trust=trust, timeout_s=timeout_s) as client:
        response = await client.request(method, path, headers, body)
        return response.status, response.headers, await response.read()
