"""Becoming a world's home while others come: nobody publishes before the rules start from what the store holds."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.core.ports import LiveOptions, Session
from gateway.errors import WorldHeld
from gateway.runtime.gateway import Gateway
from gateway.runtime.local import LocalLink
from tests.runtime.conftest import StartGateway, frame, until
from tests.runtime.faults.driver import StoreProcess

TAKEOVER = LiveOptions(role="publish", takeover=True)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[StoreProcess]:
    process = StoreProcess(tmp_path / "remote")
    yield process
    process.kill()


async def attach(gateway: Gateway, options: LiveOptions = TAKEOVER) -> tuple[Session, LocalLink]:
    link = LocalLink("local")
    return await gateway.worlds.open_session("w", options, link), link


async def ticks(gateway: Gateway, epoch: int) -> list[int]:
    history = await gateway.worlds.history("w", epoch=epoch, from_tick=None, to_tick=None)
    return [int.from_bytes(message[12:16], "little") async for message in history if message[0] == 1]


async def test_who_attaches_while_the_home_is_being_taken_loses_no_frame(
    start_gateway: StartGateway, store: StoreProcess
) -> None:
    """What was published before the rules had started from the store's state would be forgotten when they do."""
    url, admin = store.flags[1], store.flags[3]
    a, b = [await start_gateway(store=url, store_admin=admin) for _ in range(2)]
    publisher, _ = await attach(a)
    for tick in range(1, 20):
        publisher.on_message(frame(tick, {1: b"a"}), 0.0)
    await until(lambda: a.worlds.hosts["w"].world.journal.empty)
    host = await b.worlds.host("w")
    recover, may_go_on, reached = host.database.recover, asyncio.Event(), asyncio.Event()

    async def slowly() -> object:
        reached.set()
        await may_go_on.wait()
        return await recover()

    publisher.on_message(frame(20, {1: b"a"}), 0.0)
    await until(lambda: a.worlds.hosts["w"].world.journal.empty)
    host.database.recover = slowly  # type: ignore[method-assign,assignment]
    first = asyncio.ensure_future(attach(b))
    await reached.wait()
    second = asyncio.ensure_future(attach(b))
    done, _ = await asyncio.wait((first, second), timeout=0.2)
    assert not done
    may_go_on.set()
    sessions = [await first, await second]
    (session, link), *_ = [each for each in sessions if each[1].closed is None]
    for tick in range(1, 20):
        session.on_message(frame(tick, {1: b"b"}), 0.0)
    await until(lambda: host.world.journal.empty)
    assert link.closed is None
    assert await ticks(b, host.world.state.epoch) == list(range(1, 20))
    assert await ticks(b, 1) == list(range(1, 21))


async def test_what_waits_for_the_store_at_a_home_that_was_lost_is_told_so(
    start_gateway: StartGateway, store: StoreProcess
) -> None:
    url, admin = store.flags[1], store.flags[3]
    a, b = [await start_gateway(store=url, store_admin=admin) for _ in range(2)]
    publisher, link = await attach(a)
    await attach(b)
    publisher.on_message(frame(1, {1: b"a"}), 0.0)
    host = a.worlds.hosts["w"]
    with pytest.raises(WorldHeld):
        await host.put_with([], lambda connection: None)
    await until(lambda: link.closed is not None)
    with pytest.raises(WorldHeld):
        host.homing.check()
    assert host.world.journal.empty
