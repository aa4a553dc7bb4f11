"""A UDP balancer that remembers no connection: each packet goes by the server ID in its connection ID, and one without goes
by a hash of it. What it keeps is a socket for the way back of each address, as any address translation does. Source:
draft-ietf-quic-load-balancers-21 sections 3 to 5."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import cast

Address = tuple[str, int]


def connection_id(packet: bytes, cid_bytes: int = 8) -> bytes:
    """The destination connection ID (RFC 8999 sections 5.1 and 5.2); of a short header it has the length that servers use."""
    if packet[0] & 0x80:
        return packet[6 : 6 + packet[5]]
    return packet[1 : 1 + cid_bytes]


class Balancer(asyncio.DatagramProtocol):
    """``servers``: by server ID, all of one length."""

    def __init__(self, servers: Mapping[bytes, Address], rotation: int) -> None:
        self._servers, self._rotation = servers, rotation
        self._id_bytes = len(next(iter(servers)))
        self._front: asyncio.DatagramTransport | None = None
        self._backs: dict[tuple[Address, bytes], asyncio.DatagramTransport] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.addresses: set[Address] = set()
        self.by_hash = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._front = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: Address) -> None:
        self.addresses.add(addr)
        server = self.server_of(data)
        back = self._backs.get((addr, server))
        if back is not None:
            back.sendto(data)
            return
        task = asyncio.ensure_future(self._open(addr, server, data))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def server_of(self, packet: bytes) -> bytes:
        """The ID of the server that a packet goes to."""
        cid = connection_id(packet)
        named = cid[1 : 1 + self._id_bytes]
        if cid and cid[0] >> 5 == self._rotation and named in self._servers:
            return named
        self.by_hash += 1
        return sorted(self._servers)[zlib.crc32(cid) % len(self._servers)]

    async def _open(self, addr: Address, server: bytes, first: bytes) -> None:
        loop = asyncio.get_running_loop()
        back, _ = await loop.create_datagram_endpoint(
            lambda: _Back(self, addr), remote_addr=self._servers[server]
        )
        self._backs[addr, server] = back
        back.sendto(first)

    def answer(self, data: bytes, addr: Address) -> None:
        if self._front is not None:
            self._front.sendto(data, addr)

    def close(self) -> None:
        for back in self._backs.values():
            back.close()
        if self._front is not None:
            self._front.close()


class _Back(asyncio.DatagramProtocol):
    def __init__(self, balancer: Balancer, addr: Address) -> None:
        self._balancer, self._addr = balancer, addr

    def datagram_received(self, data: bytes, addr: Address) -> None:
        self._balancer.answer(data, self._addr)


@asynccontextmanager
async def balanced(servers: Mapping[bytes, Address], rotation: int) -> AsyncIterator[tuple[Balancer, int]]:
    """The balancer, and the port that it listens on."""
    loop = asyncio.get_running_loop()
    transport, balancer = await loop.create_datagram_endpoint(
        lambda: Balancer(servers, rotation), local_addr=("127.0.0.1", 0)
    )
    try:
        yield balancer, transport.get_extra_info("sockname")[1]
    finally:
        balancer.close()
