"""Connecting lean readers, and driving them: sockets that several connections share. Room: bench/lean."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import HandshakeCompleted

from bench.lean.batch import MESSAGES, SOL_UDP, UDP_GRO, Batch, large_buffer
from bench.lean.reader import LeanReader, Take
from gateway.core.ports import Link, Session
from gateway.quic.client import Client, local_socket
from gateway.quic.clientpeer import ClientPeer
from gateway.quic.connection import Connection
from gateway.quic.connection.ids import CID_BYTES
from gateway.quic.endpoint import Endpoint
from gateway.quic.options import QuicOptions
from gateway.quic.peer import Peer
from gateway.quic.tls import QuicTrust
from gateway.quic.udp import UdpSocket

READERS_PER_SOCKET = 50
"""Enough that one read brings a batch, few enough that a socket's buffer holds a tick of theirs."""
READS_MAX = 8
"""Batches from one socket before the others have their turn."""
CONNECT_AT_ONCE = 16
CONNECT_TIMEOUT_S = 20.0
IDLE_TIMEOUT_S = 60.0


class LeanEndpoint(Endpoint):
    """An endpoint whose lean readers get their packets first."""

    def __init__(self, udp: UdpSocket, loop: asyncio.AbstractEventLoop, batch: Batch) -> None:
        self.readers: dict[bytes, LeanReader] = {}
        self._batch = batch
        self._due: deque[tuple[float, LeanReader]] = deque()
        self._due_timer: asyncio.TimerHandle | None = None
        super().__init__(udp, loop)

    def _on_readable(self) -> None:
        readers = self.readers
        for _ in range(READS_MAX):
            batch = self._batch.receive(self.udp.sock)
            now, now_us = self.time(), time.time_ns() // 1000
            for data, segment in batch:
                reader = readers.get(data[1 : 1 + CID_BYTES])
                if reader is not None:
                    left = reader.receive(data, segment, now, now_us)
                    if left:
                        self._hand_on(reader, left, now)
                    continue
                for at in range(0, len(data), segment or len(data) or 1):
                    self._to_connection(data[at : at + (segment or len(data))], now)
            if len(batch) < MESSAGES:
                return

    def _hand_on(self, reader: LeanReader, packets: Sequence[bytes], now: float) -> None:
        reader.settle()
        for packet in packets:
            reader.peer.receive(packet, reader.quic.address, now)
        reader.look_at_connection()

    def _to_connection(self, data: bytes, now: float) -> None:
        """A long header, a connection that is not taken over (yet), or another connection ID of one that is."""
        peer = self._by_cid.get(data[1 : 1 + CID_BYTES]) if data and not data[0] & 0x80 else None
        if peer is None:
            self._on_unrouted(data, self.udp.sock.getpeername(), now)
            return
        reader = self.readers.get(peer.quic.host_cid)
        if reader is not None:
            self._hand_on(reader, [data], now)
        else:
            peer.receive(data, peer.quic.address, now)

    def _flush_peers(self, marked: list[Peer]) -> None:
        for peer in marked:
            reader = self.readers.get(peer.quic.host_cid)
            if reader is not None:
                reader.settle()
        super()._flush_peers(marked)

    def take_over(self, peer: Peer, take: Take, prefix_bytes: int) -> LeanReader:
        """From now on this connection's datagrams go to ``take``, by the short way."""
        reader = LeanReader(peer, self, self._send, take)
        reader.prefix_bytes = prefix_bytes
        self.readers[peer.quic.host_cid] = reader
        return reader

    def _send(self, packet: bytes) -> None:
        with contextlib.suppress(BlockingIOError, ConnectionRefusedError):
            self.udp.sock.send(packet)

    def want_ack_at(self, reader: LeanReader, at: float) -> None:
        """See :class:`bench.lean.reader.Driver`. All wait equally long, so the first asked is the first due."""
        self._due.append((at, reader))
        if self._due_timer is None:
            self._due_timer = self.loop.call_at(at, self._on_due)

    def _on_due(self) -> None:
        self._due_timer = None
        if self.is_closed:
            return
        now = self.time()
        due = self._due
        while due and due[0][0] <= now + 0.0005:
            at, reader = due.popleft()
            reader.on_ack_due(max(now, at))
        if due:
            self._due_timer = self.loop.call_at(due[0][0], self._on_due)


CONFIRMED_LOOK_S = 0.002


class _RawPeer(Peer):
    """Raw QUIC with datagrams, as the stock relay speaks it."""

    def __init__(self, quic: Connection, hub: LeanEndpoint, take: Take) -> None:
        super().__init__(quic, hub)
        self.connected = asyncio.Event()
        self._take = take

    def on_handshake(self, event: HandshakeCompleted) -> None:
        self.connected.set()

    def on_datagram(self, data: bytes) -> None:
        self._take(data, 0, len(data), time.time_ns() // 1000)


class LeanPool:
    """Many lean readers. Make it in a running loop; :meth:`close` ends all of them."""

    def __init__(self, readers_per_socket: int = READERS_PER_SOCKET) -> None:
        self._loop = asyncio.get_running_loop()
        self._batch = Batch()
        self._per_socket = readers_per_socket
        self._endpoints: dict[Any, list[LeanEndpoint]] = {}
        self._turn = asyncio.Semaphore(CONNECT_AT_ONCE)
        self.readers: list[LeanReader] = []

    def _endpoint(self, address: Any, local: str | None) -> LeanEndpoint:
        """One with room for another connection; its socket is connected, so that sending is cheaper."""
        endpoints = self._endpoints.setdefault((address, local), [])
        if not endpoints or endpoints[-1].connections >= self._per_socket:
            sock = local_socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET)
            if local is not None:
                sock.close()
                sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                sock.bind((local, 0))
            sock.connect(address)
            sock.setsockopt(SOL_UDP, UDP_GRO, 1)
            udp = UdpSocket(sock)
            large_buffer(sock)
            endpoints.append(LeanEndpoint(udp, self._loop, self._batch))
        return endpoints[-1]

    async def webtransport(
        self,
        host: str,
        port: int,
        path: str,
        *,
        trust: QuicTrust,
        take: Take,
        make_session: Callable[[Link], Session],
        local: str | None = None,
        headers: Sequence[tuple[bytes, bytes]] = (),
    ) -> LeanReader:
        """A reader of a WebTransport session: datagrams go to ``take``, everything else to the session.

        Raises what :func:`gateway.quic.client.connect` raises, and ``TimeoutError``.
        """
        async with self._turn:
            endpoint = self._endpoint((host, port), local)
            options = QuicOptions(idle_timeout_s=IDLE_TIMEOUT_S)
            quic = Connection(configuration=trust.configuration(host, options, None))
            peer = ClientPeer(quic, endpoint, trust)
            self._start(endpoint, peer, (host, port))
            await asyncio.wait_for(asyncio.shield(peer.connected), CONNECT_TIMEOUT_S)
            client = Client(endpoint, peer, f"{host}:{port}")
            link = await client.webtransport(path, make_session, headers, timeout_s=CONNECT_TIMEOUT_S)
            return self._taken_over(endpoint, peer, take, len(link.prefix))

    async def raw(self, host: str, port: int, alpn: str, *, take: Take) -> LeanReader:
        """A reader of plain QUIC datagrams under an application protocol; certificates are not checked."""
        async with self._turn:
            endpoint = self._endpoint((host, port), None)
            configuration = QuicConfiguration(
                is_client=True,
                alpn_protocols=[alpn],
                verify_mode=ssl.CERT_NONE,
                max_datagram_frame_size=65_536,
                idle_timeout=IDLE_TIMEOUT_S,
            )
            peer = _RawPeer(Connection(configuration=configuration), endpoint, take)
            self._start(endpoint, peer, (host, port))
            await asyncio.wait_for(peer.connected.wait(), CONNECT_TIMEOUT_S)
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                while peer.quic.keys is None:  # noqa: ASYNC110 (the connection's own from when the handshake is confirmed)
                    await asyncio.sleep(CONFIRMED_LOOK_S)
            return self._taken_over(endpoint, peer, take, 0)

    def _start(self, endpoint: LeanEndpoint, peer: Peer, address: Any) -> None:
        endpoint.add_peer(peer, peer.quic.host_cid)
        peer.quic.connect(address, now=endpoint.time())
        endpoint.mark(peer)

    def _taken_over(self, endpoint: LeanEndpoint, peer: Peer, take: Take, prefix_bytes: int) -> LeanReader:
        reader = endpoint.take_over(peer, take, prefix_bytes)
        self.readers.append(reader)
        return reader

    async def close(self) -> None:
        """Close every connection and socket."""
        for endpoints in self._endpoints.values():
            for endpoint in endpoints:
                endpoint.readers.clear()
                endpoint.close()
        self._endpoints.clear()
