"""The server side: connections accepted, requests to the ASGI application, sessions to the doors.

Room: quic. :func:`listen` is the way in. What a session request's path means is the doors' affair
(:class:`gateway.core.ports.Doors`); what a request means is the application's.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from typing import TYPE_CHECKING

from aioquic.quic.configuration import SMALLEST_MAX_DATAGRAM_SIZE
from aioquic.quic.packet import (
    QuicErrorCode,
    QuicHeader,
    QuicPacketType,
    QuicProtocolVersion,
    encode_quic_retry,
    encode_quic_version_negotiation,
)
from aioquic.quic.retry import NONCE_LENGTH, QuicRetryTokenHandler
from cryptography.exceptions import InvalidTag

from gateway import limits
from gateway.core.ports import Doors
from gateway.limits import QUIC_RESETS_PER_S_MAX
from gateway.quic.admission import Admission, Verdict
from gateway.quic.connection import Connection
from gateway.quic.connection.ids import CID_BYTES, reset_token
from gateway.quic.connection.seam import check
from gateway.quic.endpoint import Endpoint
from gateway.quic.h3.heads import Heads
from gateway.quic.options import QuicOptions
from gateway.quic.peer import Peer
from gateway.quic.refusal import encode_refusal
from gateway.quic.serverpeer import ServerPeer
from gateway.quic.tls import ServerTls
from gateway.quic.udp import Address, UdpSocket, bind
from gateway.quic.udp.handing import Handing
from gateway.quic.unsent import Unsent

if TYPE_CHECKING:
    from starlette.types import ASGIApp

logger = logging.getLogger(__name__)

# A reset is to look like any packet, and packets are at least 22 bytes longer than the shortest connection ID that
# is asked for (RFC 9000 section 10.3).
RESET_BYTES = 22 + CID_BYTES
RESET_BYTES_MIN = 21
"""The shortest that a peer takes for one; each is shorter than what it answers, so that two ends never loop."""
VERSIONS: list[int] = [QuicProtocolVersion.VERSION_1, QuicProtocolVersion.VERSION_2]


class ServerContext:
    """What all connections of a server share."""

    def __init__(self, tls: ServerTls, app: ASGIApp, doors: Doors, options: QuicOptions) -> None:
        self.tls = tls
        self.app = app
        self.doors = doors
        self.options = options
        self.address: tuple[str, int] = ("", 0)
        check()
        self.reset_key = options.reset_key or os.urandom(32)
        self.admission = Admission(options)
        self.heads = Heads()
        self.unsent = Unsent()
        self.peers: set[Peer] = set()
        """Those of the endpoint."""

    def connection(self, original_cid: bytes, retry_cid: bytes | None) -> Connection:
        """A new connection's state machine."""
        return Connection(
            configuration=self.tls.configuration(self.options),
            reset_key=self.reset_key,
            mint=self.options.mint,
            original_destination_connection_id=original_cid,
            retry_source_connection_id=retry_cid,
            session_ticket_fetcher=self.tls.tickets.pop,
            session_ticket_handler=self.tls.tickets.add,
        )

    def on_peer_established(self, peer: ServerPeer) -> None:
        address = peer.quic.address
        if not self.admission.established(peer, address[0] if address else ""):
            peer.close(QuicErrorCode.CONNECTION_REFUSED, Verdict.REFUSE_ADDRESS.value)

    def on_peer_over(self, peer: ServerPeer) -> None:
        self.admission.over(peer)


class ServerEndpoint(Endpoint):
    """A listening endpoint. Made by :func:`listen`."""

    coalesces = True

    def __init__(self, udp: UdpSocket, loop: asyncio.AbstractEventLoop, context: ServerContext) -> None:
        self.context = context
        super().__init__(udp, loop)
        context.peers = self.peers
        context.address = (str(udp.address[0]), self.port)
        self.is_draining = False
        self._retry = QuicRetryTokenHandler()
        self._resets_left = QUIC_RESETS_PER_S_MAX
        self._resets_since = 0.0
        self._handing: Handing | None = None

    # -- several processes on one port ----------------------------------------------------

    def share(self, handing: Handing) -> None:
        """Hand packets for connections of other processes over, and take those of ours from them."""
        self._handing = handing
        handing.counters = self.counters
        self.loop.add_reader(handing.fileno(), self._take_handed)

    def _take_handed(self) -> None:
        assert self._handing is not None
        now = self.time()
        for data, addr in self._handing.pop():
            peer = self.peer_of(data)
            if peer is not None:
                peer.receive(data, addr, now)
            else:
                self._reset(data, addr, now)

    def _is_handed_over(self, cid: bytes, data: bytes, addr: Address) -> bool:
        return self._handing is not None and self._handing.hand_over(cid, data, addr)

    # -- packets of no connection ---------------------------------------------------------

    def on_first_packet(self, header: QuicHeader, data: bytes, addr: Address, now: float) -> None:
        # Never answered, or two servers would answer each other for ever (RFC 9000 section 6.1).
        if header.packet_type == QuicPacketType.VERSION_NEGOTIATION:
            return
        if header.version is not None and header.version not in VERSIONS:
            # Only a full datagram is answered, so that no forged sender address is sent more than it cost (RFC 9000
            # sections 6.1 and 14.1).
            if len(data) >= SMALLEST_MAX_DATAGRAM_SIZE:
                self.udp.send([(_version_negotiation(header), addr)])
            return
        # An Initial in less than 1,200 bytes must be dropped (RFC 9000 section 14.1): the answer, with
        # certificates, may be three times as long.
        if header.packet_type != QuicPacketType.INITIAL or len(data) < SMALLEST_MAX_DATAGRAM_SIZE:
            if not self._is_handed_over(header.destination_cid, data, addr):
                self.counters["packets_unknown"] += 1
            return
        if self.is_draining:
            self._refuse(header, addr, QuicErrorCode.CONNECTION_REFUSED, "the gateway is stopping")
            return
        self._admit(header, data, addr, now)

    @property
    def refused(self) -> dict[str, int]:
        """Connections refused, by the bound that they met."""
        return self.context.admission.refused

    def _refuse(self, header: QuicHeader, addr: Address, code: QuicErrorCode, why: str) -> None:
        self.counters["connections_refused"] += 1
        self.udp.send([(encode_refusal(header, code, why), addr)])

    def _admit(self, header: QuicHeader, data: bytes, addr: Address, now: float) -> None:
        original_cid, retry_cid = header.destination_cid, None
        proven = self._proven(header, addr, now) if header.token else None
        if proven:
            original_cid, retry_cid = proven, header.destination_cid
        elif proven is not None and self.context.options.retry:
            self._refuse(header, addr, QuicErrorCode.INVALID_TOKEN, "the token is not valid here, or too old")
            return
        admission, is_proven = self.context.admission, retry_cid is not None
        verdict = admission.judge(addr[0], now, connections=len(self.peers), proven=is_proven)
        if verdict is Verdict.RETRY:
            self._demand_retry(header, addr, now)
            return
        if verdict is not Verdict.ADMIT:
            self._refuse(header, addr, QuicErrorCode.CONNECTION_REFUSED, verdict.value)
            return
        quic = self.context.connection(original_cid, retry_cid)
        peer = self.make_peer(quic)
        admission.begun(peer, addr[0], proven=is_proven)
        self.counters["connections"] += 1
        self.add_peer(peer, header.destination_cid, quic.host_cid)
        peer.receive(data, addr, now)

    def _proven(self, header: QuicHeader, addr: Address, now: float) -> bytes | None:
        """The connection ID that a Retry of ours answered, if the token is of one to this address; empty if it is not
        good for this one, or too old. None: no token of ours, which counts for nothing (RFC 9000 section 8.1.3)."""
        try:
            return self._retry.validate_token(
                address=addr, destination_cid=header.destination_cid, token=header.token, now=now
            )
        except ValueError as exc:
            unknown = isinstance(exc.__cause__, InvalidTag) or len(header.token) < NONCE_LENGTH
            return None if unknown else b""

    def make_peer(self, quic: Connection) -> ServerPeer:
        return ServerPeer(quic, self, self.context)

    def _demand_retry(self, header: QuicHeader, addr: Address, now: float) -> None:
        self.counters["retries"] += 1
        source_cid = self.context.options.mint()
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
        """Of another process's connection, or of an earlier run's: its peer is told that it is gone (RFC 9000 section 10.3)."""
        if not self._is_handed_over(data[1 : 1 + CID_BYTES], data, addr):
            self._reset(data, addr, now)

    def _reset(self, data: bytes, addr: Address, now: float) -> None:
        self.counters["packets_unknown"] += 1
        if not data or data[0] & 0x80:
            return
        # One byte shorter than what it answers, each time: a reset that another server answers with a reset ends
        # soon (section 10.3.3).
        size = min(RESET_BYTES, len(data) - 1)
        if size < RESET_BYTES_MIN:
            return
        if now - self._resets_since >= 1.0:
            self._resets_since, self._resets_left = now, QUIC_RESETS_PER_S_MAX
        if self._resets_left <= 0:
            return
        self._resets_left -= 1
        noise = bytearray(os.urandom(size - 16))
        # Short header and fixed bit; all else is random, so that nobody on the path tells it from a packet (RFC
        # 9000 section 10.3).
        noise[0] = 0x40 | (noise[0] & 0x3F)
        token = reset_token(self.context.reset_key, data[1 : 1 + CID_BYTES])
        self.counters["stateless_resets"] += 1
        self.udp.send([(bytes(noise) + token, addr)])

    # -- the end --------------------------------------------------------------------------

    async def drain(self, timeout_s: float) -> bool:
        """Take nothing new, let what is under way finish, then close. False: something was cut off."""
        self.is_draining = True
        if self._handing is not None:
            # What is handed in belongs to connections that are ended in a moment; whoever hands it over drops it
            # when this queue is full.
            self.loop.remove_reader(self._handing.fileno())
        for peer in list(self.peers):
            peer.go_away()
        deadline = self.time() + timeout_s
        # No event tells of it: busy is what sessions, requests and unacknowledged bytes of hundreds of peers are
        # together.
        while any(peer.is_busy for peer in self.peers) and self.time() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(limits.QUIC_DRAIN_LOOK_S)
        finished = not any(peer.is_busy for peer in self.peers)
        for peer in list(self.peers):
            peer.close()
        self.flush()
        await self.wait_idle(limits.QUIC_CLOSE_FLUSH_S)
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
    asgi_app: ASGIApp,
    doors: Doors,
    sock: socket.socket | None = None,
    options: QuicOptions | None = None,
) -> ServerEndpoint:
    """Serve HTTP/3 and WebTransport on a UDP port of the running loop (asyncio or uvloop).

    ``sock``: a bound UDP socket to take over instead of binding ``host`` and ``port`` (0: any free
    one; see ``.port``). Raises ``OSError`` when the address cannot be had, ``ConfigError`` where aioquic is another than is known.
    """
    udp = UdpSocket(sock if sock is not None else bind(host, port), batches=True, answers=True)
    context = ServerContext(tls, asgi_app, doors, options or QuicOptions())
    return ServerEndpoint(udp, asyncio.get_running_loop(), context)
