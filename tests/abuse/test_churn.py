"""Thousands of connections, opened and dropped at once: memory and descriptors come back, whatever they spoke."""

from __future__ import annotations

import asyncio
import ssl

from aioquic.asyncio.client import connect
from aioquic.h3.connection import H3_ALPN
from aioquic.quic.configuration import QuicConfiguration

from tests.abuse.attackers import PREFACE, connected, h2_request, h2_settings, ws_open
from tests.abuse.conftest import LONG, StartTarget, Target, attack_on, falls, given_back
from tests.runtime.conftest import body, frame

CONNECTIONS = 12_000 if LONG else 2_000
AT_ONCE = 20
LEFT_MIB_MAX = 16.0
"""What the second half of them may add to what the first half has left: caches, and pages of the allocator."""
UNBOUNDED = ("--handshakes-per-address-per-s", "100000", "--requests-per-address-per-s", "100000")


async def by_tcp(target: Target, n: int) -> None:
    port = target.port("plain")
    if n % 4 == 0:
        async with connected(port, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n") as (reader, _):
            assert b" 200 " in await reader.readline()
    elif n % 4 == 1:
        asked = b"".join(h2_request(1 + 2 * k, "/v1/worlds/w/live") for k in range(3))
        async with connected(port, PREFACE + h2_settings() + asked) as (reader, _):
            assert await reader.read(64)
    elif n % 4 == 2:
        _, writer = await ws_open(port, "/v1/worlds/w/live")
        writer.transport.abort()
    else:
        context = ssl.create_default_context(cafile=str(target.ca))
        _, writer = await asyncio.open_connection("127.0.0.1", target.port("https"), ssl=context)
        writer.transport.abort()


async def by_quic(target: Target, n: int) -> None:
    options = QuicConfiguration(is_client=True, alpn_protocols=H3_ALPN, cafile=str(target.ca))
    async with connect("127.0.0.1", target.port("https"), configuration=options) as client:
        await client.ping()


async def come_and_go(target: Target, first: int, count: int) -> None:
    async def some(k: int) -> None:
        for n in range(first + k, first + count, AT_ONCE):
            await (by_quic if n % 10 == 9 else by_tcp)(target, n)

    await asyncio.gather(*(some(k) for k in range(AT_ONCE)))


async def test_thousands_of_connections_that_come_and_go_leave_memory_and_descriptors_as_they_were(
    start_target: StartTarget,
) -> None:
    target = start_target(*UNBOUNDED)
    async with target.client() as client:
        await client.post("/v1/worlds/w/frames?durable=1", content=body(frame(1, {1: b"x"})))
    files = target.descriptors()
    async with attack_on(target) as attack:
        await come_and_go(target, 0, CONNECTIONS // 2)
        half = target.rss_mib()
        await come_and_go(target, CONNECTIONS // 2, CONNECTIONS // 2)
    print(f"{CONNECTIONS} connections: {attack.before_mib:.0f}, {half:.0f}, {target.rss_mib():.0f} MiB")
    attack.check()
    await given_back(
        target,
        attack,
        lambda: target.descriptors() <= files + 4 and target.rss_mib() <= half + LEFT_MIB_MAX,
    )
    assert await target.metric("mvgateway_quic_connections") <= CONNECTIONS // 10  # they drain by time
    await falls(target, "mvgateway_tcp_connections", 2)
