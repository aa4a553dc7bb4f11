"""The relay that stands in for a lossy link: what it drops, what it holds back, and what it never does."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from gateway import limits
from gateway.link.model import Direction, LinkPath, Shaper
from gateway.link.relay import Relay, arrival
from tests.patience import HANG_S


class Echo(asyncio.DatagramProtocol):
    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.transport.sendto(data, addr)


class Heard(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.packets: asyncio.Queue[bytes] = asyncio.Queue()

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.packets.put_nowait(data)


@asynccontextmanager
async def relayed(path: LinkPath) -> AsyncIterator[int]:
    """The port of a relay before an echo of UDP and TCP."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    udp, _ = await asyncio.get_running_loop().create_datagram_endpoint(Echo, local_addr=("127.0.0.1", port))
    try:
        yield await Relay(port, path, seed=1).start()
    finally:
        udp.close()
        server.close()


async def test_a_connection_over_a_relay_that_loses_brings_every_byte_in_order() -> None:
    path = LinkPath.symmetric(Direction(delay_ms=1, loss=0.2))
    sent = os.urandom(100_000)
    async with asyncio.timeout(HANG_S), relayed(path) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(sent)
        assert await reader.readexactly(len(sent)) == sent
        writer.close()


async def test_datagrams_are_lost_by_the_model_and_by_nothing_else() -> None:
    async with asyncio.timeout(HANG_S), relayed(LinkPath.symmetric(Direction(delay_ms=50))) as port:
        heard = Heard()
        udp, _ = await asyncio.get_running_loop().create_datagram_endpoint(
            lambda: heard, remote_addr=("127.0.0.1", port)
        )
        first = time.monotonic()
        udp.sendto(b"first")
        assert await heard.packets.get() == b"first"
        assert time.monotonic() - first >= 0.1
        for n in range(50):
            udp.sendto(b"%d" % n)
        assert {await heard.packets.get() for _ in range(50)} == {b"%d" % n for n in range(50)}
        udp.close()


async def test_the_end_of_the_far_side_ends_the_connection() -> None:
    closed = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    port = closed.sockets[0].getsockname()[1]
    async with asyncio.timeout(HANG_S):
        relay = await Relay(port, LinkPath.symmetric(Direction(delay_ms=1)), seed=1).start()
        reader, _ = await asyncio.open_connection("127.0.0.1", relay)
        try:
            assert await reader.read() == b""
        except ConnectionResetError:
            pass
        closed.close()
        await closed.wait_closed()
        reader, _ = await asyncio.open_connection("127.0.0.1", relay)
        try:
            assert await reader.read() == b"", "nobody is there any more"
        except ConnectionResetError:
            pass


def test_a_lost_piece_comes_a_round_trip_later_and_all_behind_it_waits() -> None:
    rule = Direction(delay_ms=40, loss=0.3)
    shaper = Shaper(rule, 3)
    arrivals = [arrival(shaper, 1_000, n / 60, 0.08) for n in range(200)]
    assert arrivals == sorted(arrivals)
    late = [round(at - n / 60, 9) for n, at in enumerate(arrivals)]
    assert min(late) == 0.04
    assert max(late) >= 0.12


def test_a_piece_arrives_however_much_is_lost() -> None:
    shaper = Shaper(Direction(loss=1.0), 1)
    assert abs(arrival(shaper, 1_000, 5.0, 0.1) - (5.0 + limits.RELAY_RESENDS_MAX * 0.1)) < 1e-9
