"""The path between two gateways: cut and mended, or losing packets, by a relay that stands before the home."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway import limits
from gateway.core.ports import LiveOptions
from gateway.runtime.gateway import Gateway
from gateway.wire import Frame, Record, encode_frame
from tests.core.links import RecordingLink
from tests.patience import HANG_S
from tests.runtime.conftest import until
from tests.runtime.test_edges_trust import StartOne, edge_of, publisher_at, start, store, url, world

__all__ = ["start", "store", "world"]


class Relay(asyncio.DatagramProtocol):
    """UDP to whoever ``to`` is, and back. ``is_cut``: nothing goes through; ``loss``: so much of it does not."""

    def __init__(self) -> None:
        self.is_cut = False
        self.loss = 0.0
        self.dropped = 0
        self.to: tuple[str, int] | None = None
        self._dice = random.Random(7)
        self._tasks = set[asyncio.Task[None]]()
        self._ways: dict[Any, asyncio.DatagramTransport] = {}
        self.transport: asyncio.DatagramTransport | None = None

    async def begin(self) -> int:
        """The port at which it is reached."""
        loop = asyncio.get_running_loop()
        self.transport, _ = await loop.create_datagram_endpoint(lambda: self, local_addr=("127.0.0.1", 0))
        return int(self.transport.get_extra_info("sockname")[1])

    def passes(self) -> bool:
        if self.is_cut or self._dice.random() < self.loss:
            self.dropped += 1
            return False
        return True

    def datagram_received(self, data: bytes, addr: Any) -> None:
        if self.passes():
            task = asyncio.ensure_future(self._forth(data, addr))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _forth(self, data: bytes, addr: Any) -> None:
        if addr not in self._ways:
            relay = self

            class Back(asyncio.DatagramProtocol):
                def datagram_received(self, data: bytes, _: Any) -> None:
                    if relay.passes() and relay.transport is not None:
                        relay.transport.sendto(data, addr)

            loop = asyncio.get_running_loop()
            way, _ = await loop.create_datagram_endpoint(Back, remote_addr=self.to)
            self._ways.setdefault(addr, way)
        self._ways[addr].sendto(data)

    def end(self) -> None:
        for way in (*self._ways.values(), *([self.transport] if self.transport else [])):
            way.close()


@pytest.fixture
async def relay() -> AsyncIterator[Relay]:
    made = Relay()
    yield made
    made.end()


async def two(start: StartOne, relay: Relay) -> tuple[Gateway, Gateway]:
    """A home that is reached through the relay, and an edge."""
    port = await relay.begin()
    home, edge = await start(node=f"https://127.0.0.1:{port}"), await start()
    relay.to = ("127.0.0.1", home.port)
    return home, edge


def message(tick: int, keys: range = range(1)) -> bytes:
    return encode_frame(Frame(1, tick, [Record(key, b"%d/%d" % (key, tick)) for key in keys]))


async def test_readers_stay_while_the_path_to_the_home_is_cut_and_have_everything_soon_after(
    start: StartOne, relay: Relay, world: str
) -> None:
    home, edge = await two(start, relay)
    publisher, reader = await publisher_at(home, world), RecordingLink()
    await edge.worlds.open_session(world, LiveOptions(), reader)
    shown, tick = edge.worlds.hosts[world].world.state, 0

    async def publish_until(tick_is_shown: int) -> None:
        def is_shown() -> bool:
            nonlocal tick
            tick += 1
            publisher.on_message(message(tick), time.monotonic())
            return shown.tick >= tick_is_shown

        await until(is_shown, HANG_S)

    await publish_until(3)
    said = reader.control_types()
    relay.is_cut = True
    silent_ms = 2_000

    async def has_been_silent() -> bool:
        told = await edge.worlds.info(world)
        return told.hops == 1 and (told.stale_ms or 0) > silent_ms

    await until(has_been_silent, HANG_S)
    assert edge_of(edge, world).is_following
    tick += 100
    relay.is_cut = False
    await publish_until(tick + 1)
    assert (await edge.worlds.info(world)).stale_ms is not None
    assert reader.control_types() == said
    assert reader.closed is None
    assert edge.worlds.peers is not None
    assert edge.worlds.peers.counts["let_go"] == 0
    publisher.on_closed(0.0)


async def test_what_is_lost_on_the_way_to_an_edge_is_made_up_for(
    start: StartOne, relay: Relay, world: str
) -> None:
    home, edge = await two(start, relay)
    publisher = await publisher_at(home, world)
    await edge.worlds.open_session(world, LiveOptions(), RecordingLink())
    relay.loss = 0.1
    keys = range(200)
    for tick in range(1, 151):
        publisher.on_message(message(tick, keys), time.monotonic())
        await asyncio.sleep(0.005)
    wanted = {key: b"%d/150" % key for key in keys}
    await until(lambda: edge.worlds.hosts[world].world.state.snapshot() == wanted, HANG_S)
    assert relay.dropped > 10
    publisher.on_closed(0.0)


async def test_a_reader_that_comes_while_the_home_cannot_be_reached_is_sent_there(
    start: StartOne, relay: Relay, world: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "EDGE_FORSAKE_S", 0.0)
    home, edge = await two(start, relay)
    relay.is_cut = True
    await home.worlds.create(world, {})
    reader = RecordingLink()
    await edge.worlds.open_session(world, LiveOptions(), reader)  # nobody is the home yet
    publisher = await publisher_at(home, world)

    def was_sent() -> bool:
        publisher.on_message(message(len(reader.controls) + 1), time.monotonic())
        return "moved" in reader.control_types()

    await until(was_sent, HANG_S)
    assert edge.worlds.peers is not None
    assert edge.worlds.peers.counts["failed"] > 0
    assert url(home) != home.worlds.holder.node
    moved = next(control for control in reader.controls if control.type == "moved")
    assert moved["url"] == f"{home.worlds.holder.node}/v1/worlds/{world}/live"
    publisher.on_closed(0.0)
