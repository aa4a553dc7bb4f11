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
from gateway.quic import Client, QuicTrust, connect
from gateway.runtime.garbage import Collecting
from gateway.runtime.gateway import Gateway
from tests.client.conftest import settings_in, until
from tests.patience import HANG_S
from tests.quic.serving import kill, open_session
from tests.store.standin.fixtures import EACH_STORE

OVER = EACH_STORE

AT_ONCE = 8
STALE_FRAMES = 40
UNSENT_BYTES_MAX = 1 * limits.MIB
"""Of frames of 180 KB, forty of them: five would be over it."""


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


def _trust(gateway: Gateway) -> QuicTrust:
    return QuicTrust(certificate_hashes=frozenset([bytes.fromhex(gateway.certificates.current.sha256)]))


async def _connected(gateway: Gateway) -> Client:
    return await connect("127.0.0.1", gateway.port, trust=_trust(gateway), timeout_s=HANG_S)


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


class Seen:
    """Weak references to what the gateway holds of each connection that this test opened."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._refs: dict[int, list[weakref.ref[Any]]] = {}

    def look(self) -> None:
        for peer in self._gateway.endpoint.peers:
            if id(peer) not in self._refs or self._refs[id(peer)][0]() is not peer:
                self._refs[id(peer)] = [weakref.ref(peer), weakref.ref(peer.quic)]

    @property
    def left(self) -> int:
        return sum(ref() is not None for refs in self._refs.values() for ref in refs)

    @property
    def count(self) -> int:
        return len(self._refs)


@pytest.mark.parametrize(("dropped", "says_goodbye"), [(500, True), (100, False)])
async def test_hundreds_of_connections_opened_and_dropped_leave_nothing_to_the_collector(
    gateway: Gateway, uncollected: None, dropped: int, says_goodbye: bool
) -> None:
    seen = Seen(gateway)

    async def drop(count: int) -> None:
        for _ in range(count):
            client = await _connected(gateway)
            seen.look()
            if says_goodbye:
                client.close()
            else:
                _vanish(client)

    await asyncio.gather(*(drop(dropped // AT_ONCE) for _ in range(AT_ONCE)))
    if not says_goodbye:
        for peer in list(gateway.endpoint.peers):  # as the idle time-out would, sooner
            peer.close()
            gateway.endpoint.mark(peer)
        del peer
    await until(lambda: not gateway.endpoint.peers, HANG_S)
    assert gateway.endpoint.counters["connections_ended"] >= dropped // AT_ONCE * AT_ONCE
    assert seen.count > 0
    await until(lambda: seen.left == 0)


def _vanish(client: Client) -> None:
    """Without a word: its process is gone."""
    kill(client.endpoint)
    client.close()


async def test_two_readers_that_stop_reading_are_held_within_bounds_and_leave_nothing_to_the_collector(
    gateway: Gateway, uncollected: None
) -> None:
    """Large frames go on for them: what waits for either is the newest values, not a queue of frames."""
    seen = Seen(gateway)
    url = f"https://127.0.0.1:{gateway.port}"
    async with Publisher(
        url, "w", transport="websocket", certificate_sha256=gateway.certificates.current.sha256
    ) as publisher:
        publisher.send({key: bytes(1_000) for key in range(180)})
        await publisher.wait_durable()
        readers = [await _connected(gateway) for _ in range(2)]
        for reader in readers:
            await _follow(reader)
        seen.look()
        for reader in readers:
            _vanish(reader)
        peers = list(gateway.endpoint.peers)
        for tick in range(STALE_FRAMES):
            publisher.send({key: tick.to_bytes(4, "big") * 250 for key in range(180)})
            await publisher.wait_durable()
            for peer in peers:
                assert peer.quic.streams.unsent_total() <= UNSENT_BYTES_MAX
        for peer in peers:
            peer.close()
            gateway.endpoint.mark(peer)
        peers.clear()
        del peer
        await until(lambda: not gateway.endpoint.peers, HANG_S)
        assert seen.count == 2
        await until(lambda: seen.left == 0)
        world = gateway.worlds.hosts["w"].world
        assert not world.subscribers


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
