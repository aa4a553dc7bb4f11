"""The server side: connections accepted, requests to the ASGI application, sessions to the doors.

Room: quic. :func:`listen` is the way in. What a session request's path means is the doors' affair
(:class:`gateway.core.ports.Doors`); what a request means is the application's.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from typing import Any

from aioquic.h3.connection import ErrorCode
from aioquic.quic import events
from aioquic.quic.configuration import SMALLEST_MAX_DATAGRAM_SIZE
from aioquic.quic.packet import (
    QuicErrorCode,
    QuicHeader,
    QuicPacketType,
    QuicProtocolVersion,
    encode_quic_retry,
    encode_quic_version_negotiation,
)
from aioquic.quic.retry import QuicRetryTokenHandler

from gateway import limits
from gateway.core.ports import CloseCode, Doors
from gateway.errors import (
    BadInput,
    GatewayError,
    MalformedMessage,
    Overloaded,
    PublisherPresent,
    ShuttingDown,
)
from gateway.quic.asgi import (
    SAFE_METHODS,
    AsgiApp,
    Exchange,
    Malformed,
    problem_response,
    request_scope,
)
from gateway.quic.connection import Connection, reset_token
from gateway.quic.endpoint import CID_BYTES, Endpoint, random_cid
from gateway.quic.h3 import Http3
from gateway.quic.heads import Heads, RawHeaders
from gateway.quic.options import QuicOptions
from gateway.quic.peer import Hub, Peer
from gateway.quic.refusal import encode_refusal
from gateway.quic.selftest import connection_class, usable_path
from gateway.quic.tls import ServerTls
from gateway.quic.udp import Address, UdpSocket, bind
from gateway.quic.webtransport import WebTransportLink
from gateway.wire import encode_control

logger = logging.getLogger(__name__)

WEBTRANSPORT_PROTOCOLS = frozenset({b"webtransport", b"webtransport-h3"})
RESETS_PER_SECOND_MAX = 1_000
"""Stateless resets answered a second: enough for every reader of a crashed run, no use as an amplifier."""
RESET_BYTES = 22 + CID_BYTES
RESET_BYTES_MIN = 21
"""The shortest that a peer takes for one; each is shorter than what it answers, so that two ends never loop."""
CLOSE_FLUSH_S = 0.2
DRAIN_LOOK_S = 0.02
VERSIONS: list[int] = [QuicProtocolVersion.VERSION_1, QuicProtocolVersion.VERSION_2]


class NotImplementedHere(BadInput):
    """An extended CONNECT for a protocol that is not spoken here."""

    code = "unsupported_protocol"
    status = 501
    title = "Unsupported protocol"


class TooEarly(GatewayError):
    """A request that must not be replayed came in 0-RTT."""

    code = "too_early"
    status = 425
    title = "Too early"
    retry = True


class ServerPeer(Peer):
    """One client's connection, as the server sees it."""

    def __init__(self, quic: Connection, hub: Hub, server: ServerContext) -> None:
        super().__init__(quic, hub)
        self._server = server
        self._exchanges: dict[int, Exchange] = {}
        self._next_request = 0
        self._going_away = False

    def on_negotiated(self) -> None:
        self.h3 = Http3(self.quic, self._server.heads)

    def on_handshake(self, event: events.HandshakeCompleted) -> None:
        self._server.on_peer_established(self)

    # -- requests -------------------------------------------------------------------------

    def on_headers(self, stream_id: int, headers: RawHeaders, ended: bool) -> None:
        exchange = self._exchanges.get(stream_id)
        if exchange is not None:
            exchange.feed(b"", ended)
            return
        if stream_id in self.sessions:
            return
        self._next_request = max(self._next_request, stream_id + 4)
        self.hub.counters["requests"] += 1
        try:
            self._on_request(stream_id, headers, ended)
        except GatewayError as error:
            self._refuse(stream_id, error)
        except Malformed as exc:
            self._refuse(stream_id, BadInput(str(exc)))

    def _on_request(self, stream_id: int, headers: RawHeaders, ended: bool) -> None:
        if self._going_away:
            raise ShuttingDown("the gateway is shutting down; connect again")
        scope = request_scope(headers, self._client_address(), self._server.address)
        if not self.handshake_done and not self._is_replayable(scope):
            raise TooEarly(f"{scope['method']} is not served before the handshake is complete; send it again")
        if scope["method"] == "CONNECT":
            protocol = next((value for name, value in headers if name == b":protocol"), None)
            self._on_connect(stream_id, protocol, scope)
            return
        exchange = self._exchanges[stream_id] = Exchange(self, stream_id, scope, ended)
        exchange.run(self._server.app)

    def _is_replayable(self, scope: dict[str, Any]) -> bool:
        return scope["method"] in SAFE_METHODS or scope["path"] in self._server.options.early_data_paths

    def _client_address(self) -> tuple[str, int] | None:
        address = self.quic.get_peer_address()
        return (address[0], address[1]) if address else None

    def _refuse(self, stream_id: int, error: GatewayError) -> None:
        assert self.h3 is not None
        self.hub.counters["refused"] += 1
        headers, body = problem_response(error)
        if self.quic.can_send_on(stream_id):
            self.h3.send_headers(stream_id, headers)
            self.h3.send_data(stream_id, body, end_stream=True)
        self.quic.abandon_receiving(stream_id, ErrorCode.H3_NO_ERROR)
        self.hub.mark(self)

    def on_data(self, stream_id: int, data: bytes, ended: bool) -> None:
        exchange = self._exchanges.get(stream_id)
        if exchange is not None:
            exchange.feed(data, ended)

    def on_reset(self, stream_id: int, *, receiving: bool) -> None:
        exchange = self._exchanges.get(stream_id)
        if exchange is not None:
            exchange.disconnect()
            if receiving:
                self.give_up_stream(stream_id, ErrorCode.H3_REQUEST_CANCELLED)

    def on_exchange_over(self, stream_id: int) -> None:
        self._exchanges.pop(stream_id, None)

    # -- sessions -------------------------------------------------------------------------

    def _on_connect(self, stream_id: int, protocol: bytes | None, scope: dict[str, Any]) -> None:
        if protocol not in WEBTRANSPORT_PROTOCOLS:
            raise NotImplementedHere(f"CONNECT is for WebTransport here, not for {protocol!r}")
        if len(self.sessions) >= limits.WT_SESSIONS_PER_CONNECTION_MAX:
            raise Overloaded(
                f"{len(self.sessions)} sessions on one connection, at most "
                f"{limits.WT_SESSIONS_PER_CONNECTION_MAX}; open another connection"
            )
        link = WebTransportLink(self, stream_id)
        self.add_session(link)
        self.hub.counters["sessions"] += 1
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        query = scope["query_string"].decode("latin-1")
        self.hub.spawn(self._open(link, scope["path"], query, headers))

    async def _open(self, link: WebTransportLink, path: str, query: str, headers: dict[str, str]) -> None:
        try:
            session = await self._server.doors.open_at(path, query, headers, link)
        except GatewayError as error:
            self._refuse_session(link, error)
        except Exception:
            self.hub.counters["faults"] += 1
            logger.exception("opening the session %s failed", path)
            self._refuse_session(link, GatewayError("the session could not be opened"))
        else:
            link.attach(session)
        self.hub.mark(self)

    def _refuse_session(self, link: WebTransportLink, error: GatewayError) -> None:
        if link.is_accepted or link.closed_code is not None:
            link.control(encode_control("error", code=error.code, message=error.message))
            link.close(close_code(error), error.message)
            return
        self.remove_session(link)
        link.closed_code, link.closed_reason = int(close_code(error)), error.message
        if not self.quic.is_ended:
            self._refuse(link.session_id, error)

    def accept_session(self, link: WebTransportLink) -> None:
        if self.h3 is None or not self.quic.can_send_on(link.session_id):
            return
        headers = [(b":status", b"200"), (b"sec-webtransport-http3-draft", b"draft02")]
        self.h3.send_headers(link.session_id, headers)
        self.hub.mark(self)

    # -- the end --------------------------------------------------------------------------

    def on_over(self, event: events.ConnectionTerminated) -> None:
        for exchange in list(self._exchanges.values()):
            exchange.disconnect()
        self._server.on_peer_over(self)

    def go_away(self) -> None:
        self._going_away = True
        if self.h3 is not None and self.quic.is_established:
            self.h3.go_away(self._next_request)
            self.hub.mark(self)

    @property
    def is_busy(self) -> bool:
        return bool(self.sessions or self._exchanges) or self.quic.has_unsent()


def close_code(error: GatewayError) -> CloseCode:
    """The session close code that goes with an error."""
    if isinstance(error, PublisherPresent):
        return CloseCode.PUBLISHER_PRESENT
    if isinstance(error, MalformedMessage):
        return CloseCode.MALFORMED
    if isinstance(error, ShuttingDown):
        return CloseCode.SHUTTING_DOWN
    return CloseCode.ERROR


class ServerContext:
    """What all connections of a server share."""

    def __init__(self, tls: ServerTls, app: AsgiApp, doors: Doors, options: QuicOptions) -> None:
        self.tls = tls
        self.app = app
        self.doors = doors
        self.options = options
        self.address: tuple[str, int] = ("", 0)
        self.path, self.path_reason = usable_path(options.path)
        self._connection_class = connection_class(self.path)
        self.reset_key = options.reset_key or os.urandom(32)
        self.half_open: set[ServerPeer] = set()
        self.heads = Heads()

    def connection(self, original_cid: bytes, retry_cid: bytes | None) -> Connection:
        """A new connection's state machine."""
        return self._connection_class(
            configuration=self.tls.configuration(self.options),
            reset_key=self.reset_key,
            original_destination_connection_id=original_cid,
            retry_source_connection_id=retry_cid,
            session_ticket_fetcher=self.tls.tickets.take,
            session_ticket_handler=self.tls.tickets.add,
        )

    def on_peer_established(self, peer: ServerPeer) -> None:
        self.half_open.discard(peer)

    def on_peer_over(self, peer: ServerPeer) -> None:
        self.half_open.discard(peer)


class ServerEndpoint(Endpoint):
    """A listening endpoint. Made by :func:`listen`."""

    coalesces = True

    def __init__(self, udp: UdpSocket, loop: asyncio.AbstractEventLoop, context: ServerContext) -> None:
        self.context = context
        super().__init__(udp, loop)
        context.address = (str(udp.address[0]), self.port)
        self.is_draining = False
        self.path = context.path
        if context.path_reason:
            self.counters["path_fallbacks"] += 1
            logger.warning("QUIC goes the stock way: %s", context.path_reason)
        self._retry = QuicRetryTokenHandler()
        self._resets_left = RESETS_PER_SECOND_MAX
        self._resets_since = 0.0

    # -- packets of no connection ---------------------------------------------------------

    def on_first_packet(self, header: QuicHeader, data: bytes, addr: Address, now: float) -> None:
        if header.packet_type == QuicPacketType.VERSION_NEGOTIATION:
            return
        if header.version is not None and header.version not in VERSIONS:
            if len(data) >= SMALLEST_MAX_DATAGRAM_SIZE:
                self.udp.send([(_version_negotiation(header), addr)])
            return
        if header.packet_type != QuicPacketType.INITIAL or len(data) < SMALLEST_MAX_DATAGRAM_SIZE:
            self.counters["packets_unknown"] += 1
            return
        if self.is_draining or len(self.peers) >= self.context.options.connections_max:
            self.counters["connections_refused"] += 1
            self.udp.send([(encode_refusal(header, QuicErrorCode.CONNECTION_REFUSED), addr)])
            return
        self._admit(header, data, addr, now)

    def _admit(self, header: QuicHeader, data: bytes, addr: Address, now: float) -> None:
        original_cid, retry_cid = header.destination_cid, None
        if self.context.options.retry or len(self.context.half_open) >= limits.QUIC_HALF_OPEN_MAX:
            if not header.token:
                self._demand_retry(header, addr, now)
                return
            try:
                original_cid = self._retry.validate_token(
                    address=addr, destination_cid=header.destination_cid, token=header.token, now=now
                )
            except ValueError:
                self.udp.send([(encode_refusal(header, QuicErrorCode.INVALID_TOKEN), addr)])
                return
            retry_cid = header.destination_cid
        quic = self.context.connection(original_cid, retry_cid)
        peer = self.make_peer(quic)
        self.context.half_open.add(peer)
        self.counters["connections"] += 1
        self.add_peer(peer, header.destination_cid, quic.host_cid)
        peer.receive(data, addr, now)

    def make_peer(self, quic: Connection) -> ServerPeer:
        return ServerPeer(quic, self, self.context)

    def _demand_retry(self, header: QuicHeader, addr: Address, now: float) -> None:
        self.counters["retries"] += 1
        source_cid = random_cid()
        token = self._retry.create_token(
            address=addr,
            original_destination_connection_id=header.destination_cid,
            retry_source_connection_id=source_cid,
            now=now,
        )
        packet = encode_quic_retry(
            version=header.version or 0,
            source_cid=source_cid,
            destination_cid=header.source_cid,
            original_destination_cid=header.destination_cid,
            retry_token=token,
        )
        self.udp.send([(packet, addr)])

    def on_unknown(self, data: bytes, addr: Address, now: float) -> None:
        """Tell a peer of an earlier run that its connection is gone (RFC 9000 section 10.3)."""
        self.counters["packets_unknown"] += 1
        size = min(RESET_BYTES, len(data) - 1)
        if size < RESET_BYTES_MIN:
            return
        if now - self._resets_since >= 1.0:
            self._resets_since, self._resets_left = now, RESETS_PER_SECOND_MAX
        if self._resets_left <= 0:
            return
        self._resets_left -= 1
        noise = bytearray(os.urandom(size - 16))
        noise[0] = 0x40 | (noise[0] & 0x3F)
        token = reset_token(self.context.reset_key, data[1 : 1 + CID_BYTES])
        self.counters["stateless_resets"] += 1
        self.udp.send([(bytes(noise) + token, addr)])

    # -- the end --------------------------------------------------------------------------

    async def drain(self, timeout_s: float) -> bool:
        """Take nothing new, let what is under way finish, then close. False: something was cut off."""
        self.is_draining = True
        for peer in list(self.peers):
            peer.go_away()
        deadline = self.time() + timeout_s
        while any(peer.is_busy for peer in self.peers) and self.time() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(DRAIN_LOOK_S)
        finished = not any(peer.is_busy for peer in self.peers)
        for peer in list(self.peers):
            peer.close()
        self.flush()
        await self.wait_idle(CLOSE_FLUSH_S)
        self.close()
        return finished


def _version_negotiation(header: QuicHeader) -> bytes:
    return encode_quic_version_negotiation(
        source_cid=header.destination_cid, destination_cid=header.source_cid, supported_versions=VERSIONS
    )


async def listen(
    host: str,
    port: int,
    *,
    tls: ServerTls,
    asgi_app: AsgiApp,
    doors: Doors,
    sock: socket.socket | None = None,
    options: QuicOptions | None = None,
) -> ServerEndpoint:
    """Serve HTTP/3 and WebTransport on a UDP port of the running loop (asyncio or uvloop).

    ``sock``: a bound UDP socket to take over instead of binding ``host`` and ``port`` (0: any free
    one; see ``.port``). Raises ``OSError`` when the address cannot be had.
    """
    udp = UdpSocket(sock if sock is not None else bind(host, port), batches=True)
    context = ServerContext(tls, asgi_app, doors, options or QuicOptions())
    return ServerEndpoint(udp, asyncio.get_running_loop(), context)
