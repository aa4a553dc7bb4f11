"""The plain UDP door for engines without QUIC: loopback only, publishers only. Room: runtime.

A packet is the 8-byte token that ``POST /v1/worlds/{world}/udp`` gave, then one message. Nothing is
answered; what cannot be taken is counted. Source: docs/API.md.
"""

from __future__ import annotations

import asyncio
import secrets
import socket

from gateway import limits
from gateway.core.gate import Standing
from gateway.core.told import UdpPlace
from gateway.errors import GatewayError, Overloaded
from gateway.runtime.host import WorldHost
from gateway.runtime.local import LocalPublisher

TOKEN_BYTES = 8


class UdpDoor(asyncio.DatagramProtocol):
    """Open it by :meth:`listen`. Counters are plain integers."""

    def __init__(self, linger_s: float) -> None:
        self._linger_s = linger_s
        self._publishers: dict[bytes, LocalPublisher] = {}
        self._standings: dict[bytes, Standing] = {}
        """The grants that their tokens were given by, where there is access control."""
        self._transport: asyncio.DatagramTransport | None = None
        self._sweep: asyncio.TimerHandle | None = None
        self.address: tuple[str, int] = ("", 0)
        self.packets_taken = 0
        self.packets_unknown = 0
        self.packets_refused = 0

    async def listen(self, sock: socket.socket) -> None:
        """Take packets from ``sock``, which must be bound to loopback."""
        # A frame's datagrams come in one burst: what the queue does not hold is lost without a sign (socket(7)).
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, limits.UDP_QUEUE_BYTES)
        self.address = sock.getsockname()[:2]
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(lambda: self, sock=sock)
        self._sweep = loop.call_later(self._linger_s, self._drop_silent)

    async def register(self, host: WorldHost, by: str = "") -> UdpPlace:
        """A token for a new publisher of that world, which counts for the peer ``by``. Raises ``PublisherPresent``, ``Overloaded``."""
        if len(self._publishers) >= limits.UDP_TOKENS_MAX:
            raise Overloaded(
                f"{limits.UDP_TOKENS_MAX} publishers are registered by UDP, which is the bound",
                bound="udp publishers",
                limit=limits.UDP_TOKENS_MAX,
            )
        publisher = await LocalPublisher.attach(host, "udp", by)
        token = secrets.token_bytes(TOKEN_BYTES)
        self._publishers[token] = publisher
        silence_ms_max = round(self._linger_s * 1_000)
        return UdpPlace(token.hex(), *self.address[:2], host.facts().epoch, silence_ms_max)

    def tie(self, token: str, standing: Standing) -> None:
        """The token (hex digits) and that standing end together, whichever ends first."""
        key = bytes.fromhex(token)
        if key not in self._publishers:
            standing.over()
            return
        self._standings[key] = standing
        standing.ends_by(lambda reason, code: self._drop(key))

    def _drop(self, token: bytes) -> None:
        publisher, standing = self._publishers.pop(token, None), self._standings.pop(token, None)
        if publisher is not None:
            publisher.detach()
        if standing is not None:
            standing.over()

    def datagram_received(self, data: bytes, addr: object) -> None:
        # By a dict and not compared byte by byte in constant time: eight random bytes, and loopback only.
        publisher = self._publishers.get(data[:TOKEN_BYTES])
        if publisher is None:
            self.packets_unknown += 1
            return
        if publisher.ended:
            self._drop(data[:TOKEN_BYTES])
            self.packets_unknown += 1
            return
        try:
            publisher.receive(data[TOKEN_BYTES:])
            self.packets_taken += 1
        except GatewayError:
            self.packets_refused += 1

    def _drop_silent(self) -> None:
        for token, publisher in list(self._publishers.items()):
            if publisher.ended or publisher.idle_s() > self._linger_s:
                self._drop(token)
        self._sweep = asyncio.get_running_loop().call_later(self._linger_s, self._drop_silent)

    def close(self) -> None:
        """Close the door; publishers detach."""
        if self._sweep is not None:
            self._sweep.cancel()
        if self._transport is not None:
            self._transport.close()
        for token in list(self._publishers):
            self._drop(token)


__all__ = ["UdpDoor"]
