"""Connections that come and go leave nothing behind: their ends break their cycles, and what is missed is collected."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from gateway import limits
from gateway.client import Publisher
from gateway.quic import Client, Trust, connect
from gateway.runtime.garbage import Collecting
from gateway.runtime.gateway import Gateway
from tests.client.conftest import settings_in, until
from tests.quic.serving import open_session
from tests.store.standin.fixtures import EACH_STORE

OVER = EACH_STORE

DROPPED = 500
AT_ONCE = 8
OBJECTS_LEFT_MAX = 2_000
"""Caches of addresses, tickets and header sections fill meanwhile: four objects for each connection, bounded."""


@pytest_asyncio.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Gateway]:
    unbounded = {"connections_per_address_max": 10_000, "handshakes_per_address_per_s": 100_000}
    gateway = await Gateway.start(settings_in(tmp_path, **unbounded))
    try:
        yield gateway
    finally:
        await gateway.drain(2.0)


@pytest.fixture
def uncollected() -> Iterator[None]:
    """The collector does not run: what goes goes with its last reference."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def _trust(gateway: Gateway) -> Trust:
    return Trust(certificate_hashes=frozenset([bytes.fromhex(gateway.certificates.current.sha256)]))


async def _connected(gateway: Gateway) -> Client:
    return await connect("127.0.0.1", gateway.port, trust=_trust(gateway), timeout_s=10)


async def _ask(client: Client) -> None:
    response = await client.request("GET", "/healthz")
    await response.read()


async def _follow(client: Client) -> None:
    _, session = await open_session(client, "/v1/worlds/w/live")
    await until(lambda: bool(session.streams or session.messages))


async def _nothing(client: Client) -> None:
    """No more than a handshake."""


USES: list[Callable[[Client], Any]] = [_nothing, _ask, _follow]


@pytest.mark.parametrize("use", USES)
async def test_a_connection_that_ended_is_freed_without_the_collector(
    gateway: Gateway, uncollected: None, use: Callable[[Client], Any]
) -> None:
    url = f"https://127.0.0.1:{gateway.port}"
    async with Publisher(
        url, "w", transport="websocket", certificate_sha256=gateway.certificates.current.sha256
    ) as publisher:
        publisher.send({1: b"one"})
        await publisher.wait_durable()
        for closer in ("client", "server"):
            client = await _connected(gateway)
            await use(client)
            (peer,) = gateway.endpoint.peers
            held = [
                peer,
                peer.quic,
                client,
                client.peer,
                client.peer.quic,
                client.endpoint,
            ]
            gone = [weakref.ref(one) for one in held]
            if closer == "server":
                peer.close()
                gateway.endpoint.mark(peer)
                await client.wait_closed()
            client.close()
            await until(lambda: not gateway.endpoint.peers)
            held.clear()
            del client, peer
            await until(lambda gone=gone: not any(ref() for ref in gone))


async def test_hundreds_of_connections_opened_and_dropped_leave_no_objects(
    gateway: Gateway, uncollected: None
) -> None:
    async def drop(count: int) -> None:
        for _ in range(count):
            client = await _connected(gateway)
            client.close()

    await drop(50)
    gc.collect()
    before = len(gc.get_objects())
    await asyncio.gather(*(drop(DROPPED // AT_ONCE) for _ in range(AT_ONCE)))
    await until(lambda: not gateway.endpoint.peers)
    assert gateway.endpoint.counters["connections_ended"] >= DROPPED
    assert len(gc.get_objects()) - before < OBJECTS_LEFT_MAX


async def test_a_collection_follows_many_ends_or_growth_and_not_mere_size(uncollected: None) -> None:
    class Cycle:
        def __init__(self) -> None:
            self.itself = self

    ended, resident = 0, 500 * limits.MIB
    collecting = Collecting(lambda: ended, lambda: resident)
    gone = weakref.ref(Cycle())
    try:
        assert not collecting.look()
        ended = limits.GARBAGE_ENDED_MAX
        assert collecting.look()
        assert gone() is None
        assert not collecting.look()
        resident += limits.GARBAGE_GROWTH_BYTES_MAX
        assert collecting.look()
        assert not collecting.look(), "what it grew to is what it has"
        resident -= 300 * limits.MIB
        assert not collecting.look()
        resident += limits.GARBAGE_GROWTH_BYTES_MAX
        assert collecting.look(), "it grew from where it had fallen to"
        assert collecting.collections == 3
    finally:
        collecting.stop()
