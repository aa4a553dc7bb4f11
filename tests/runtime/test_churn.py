"""A day of clients that come and go, on a clock that jumps over what nobody does: nothing grows."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import random
import socket
import ssl
import tracemalloc
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import websockets

from gateway import limits
from gateway.quic import Client, QuicTrust, connect
from gateway.runtime.gateway import Gateway
from tests.abuse.attackers import PREFACE, h2_request, h2_settings
from tests.abuse.conftest import LONG
from tests.patience import HANG_S
from tests.runtime.conftest import body, client_of, frame, settings_in
from tests.runtime.simulated import Clock, jumping

HOURS = 24
STEP_S = 60.0 if LONG else 900.0
REST_S = 20.0
"""While everybody rests, the gateway's own timers of so long a time are served together."""
WARM_HOURS = 6
ADDRESSES = 32
"""Each is remembered for a while: so few are all known by the time that the first look counts."""
GROWTH_BYTES_MAX = 256 * 1024
"""Caches that are bounded by count (of addresses with their ports, of dates) fill in more than a day; a connection takes
some 40 KiB while it is there, and there are hundreds."""
OBJECTS_MAX = 500

Visit = Callable[[Gateway, str], Awaitable[None]]


async def ask_and_leave(gateway: Gateway, address: str, *, secure: bool = False) -> None:
    assert gateway.plain_server is not None
    context = ssl.create_default_context(cafile=str(gateway.certificates.ca_path)) if secure else None
    port = gateway.port if secure else gateway.plain_server.port
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, local_addr=(address, 0))
    writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert b" 200 " in await reader.readline()
    writer.transport.abort()


async def ask_by_tls(gateway: Gateway, address: str) -> None:
    await ask_and_leave(gateway, address, secure=True)


async def leave_amid_streams(gateway: Gateway, address: str) -> None:
    assert gateway.plain_server is not None
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", gateway.plain_server.port, local_addr=(address, 0)
    )
    asked = b"".join(h2_request(1 + 2 * n, f"/v1/worlds/w{n}/live") for n in range(4))
    writer.write(PREFACE + h2_settings() + asked)
    assert await reader.read(100)
    writer.transport.abort()


async def publish_and_read(gateway: Gateway, address: str) -> None:
    assert gateway.plain_server is not None
    url = f"ws://127.0.0.1:{gateway.plain_server.port}/v1/worlds/w{random.randrange(8)}/live"
    async with (
        websockets.connect(f"{url}?role=publish&takeover=1", local_addr=(address, 0)) as publisher,
        websockets.connect(url, local_addr=(address, 0)) as reader,
    ):
        await publisher.recv()
        await reader.recv()
        await publisher.send(frame(1, {1: b"x"}))
        await reader.recv()


async def ask_by_quic(gateway: Gateway, address: str) -> None:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setblocking(False)
    sock.bind((address, 0))
    trust = QuicTrust(certificate_hashes=frozenset([bytes.fromhex(gateway.certificates.current.sha256)]))
    client: Client = await connect("127.0.0.1", gateway.port, trust=trust, timeout_s=HANG_S, sock=sock)
    answer = await client.request("GET", "/healthz")
    await answer.read()
    client.close()


async def say_nothing(gateway: Gateway, address: str) -> None:
    """It is left to its time-out."""
    assert gateway.plain_server is not None
    pair = await asyncio.open_connection("127.0.0.1", gateway.plain_server.port, local_addr=(address, 0))
    pair[1].write(b"GET / HT")
    asyncio.get_running_loop().call_later(600.0, lambda: pair[1].transport.abort())


VISITS: list[Visit] = [
    ask_and_leave,
    ask_by_tls,
    leave_amid_streams,
    publish_and_read,
    ask_by_quic,
    say_nothing,
]


async def a_day(gateway: Gateway, clock: Clock) -> list[tuple[int, int]]:
    """(bytes of Python memory, objects) as of each hour."""
    dice, loop = random.Random(20_260_101), asyncio.get_running_loop()
    began, seen = loop.time(), []
    for hour in range(HOURS):
        while loop.time() < began + 3_600 * (hour + 1):
            addresses = [f"127.0.{dice.randrange(ADDRESSES)}.1" for _ in VISITS]
            await asyncio.gather(*(visit(gateway, a) for visit, a in zip(VISITS, addresses, strict=True)))
            clock.at_least_s = REST_S
            await asyncio.sleep(STEP_S)
            clock.at_least_s = 0.0
        gc.collect()
        seen.append((tracemalloc.get_traced_memory()[0], len(gc.get_objects())))
    return seen


@contextmanager
def log_that_nobody_keeps() -> Iterator[None]:
    """The test runner keeps each line of the log with what it names: a day's, and more of a slow machine's."""
    ours = logging.getLogger("mvgateway")
    with open(os.devnull, "w") as nowhere:
        written, ours.propagate = logging.StreamHandler(nowhere), False
        ours.addHandler(written)
        try:
            yield
        finally:
            ours.removeHandler(written)
            ours.propagate = True


def test_a_day_of_connections_that_come_and_go_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "QUIC_ADDRESSES_CACHED_MAX", 16)  # full within an hour: else it fills all day

    async def live(clock: Clock) -> None:
        gateway = await Gateway.start(settings_in(tmp_path, linger_ms=1_000))
        async with client_of(gateway) as client:
            for n in range(8):
                posted = await client.post(f"/v1/worlds/w{n}/frames", content=body(frame(1, {1: b"x"})))
                assert posted.status_code == 202
        gateway._tls.tickets._entries_max = 4  # a day fills them: else there is room for thousands
        tracemalloc.start(1)
        try:
            seen = await a_day(gateway, clock)
            assert gateway.endpoint.counters["connections_ended"] >= HOURS * 3_600 / STEP_S - 8
            clock.at_least_s = REST_S
            await asyncio.sleep(900)
            servers = [one for one in (gateway.tls_server, gateway.plain_server) if one is not None]
            assert not any(server.connections for server in servers)
            assert not gateway.endpoint.peers
            assert not gateway.worlds.sessions
            assert not gateway.worlds.shares.addresses
        finally:
            tracemalloc.stop()
            clock.at_least_s = 0.0
            await gateway.drain(2.0)
        print([(size // 1024, objects) for size, objects in seen])
        (early_bytes, early_objects), (late_bytes, late_objects) = seen[WARM_HOURS - 1], seen[-1]
        assert late_bytes - early_bytes < GROWTH_BYTES_MAX
        assert late_objects - early_objects < OBJECTS_MAX

    with log_that_nobody_keeps(), jumping() as (loop, clock):
        loop.run_until_complete(live(clock))
