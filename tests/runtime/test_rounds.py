"""The journals of all worlds in rounds: who cannot keep step goes alone, and nobody waits for it."""

from __future__ import annotations

import asyncio

from gateway.core.ports import Mark
from gateway.runtime.gateway import Gateway
from gateway.runtime.host import WorldHost
from gateway.store.base import Namespace
from gateway.store.database import Database
from gateway.wire import Record
from tests.runtime.conftest import until

PATIENCE_S = 10.0


async def hosts_of(gateway: Gateway, count: int) -> list[WorldHost]:
    hosts = [await gateway.worlds.host(f"w{n}", create={}) for n in range(count)]
    for host in hosts:
        await host.database.begin_epoch()
    return hosts


def put(host: WorldHost, data: bytes) -> Mark:
    host.world.put([Record(1, data)], asyncio.get_running_loop().time())
    return Mark(host.world.state.epoch, host.world.state.tick)


async def durable(host: WorldHost, mark: Mark) -> None:
    """Until the durable mark is there, without asking for it: who asks is served at once."""

    def is_there() -> bool:
        done = host.world.journal.durable
        return done is not None and done.tick >= mark.tick

    await until(is_there, PATIENCE_S)


async def test_worlds_share_rounds_and_all_that_was_told_is_in_the_store(gateway: Gateway) -> None:
    hosts = await hosts_of(gateway, 8)
    rounds = gateway.worlds.rounds
    assert rounds is not None
    for turn in range(5):
        marks = [put(host, b"%d" % turn) for host in hosts]
        await asyncio.gather(*map(durable, hosts, marks))
    assert 0 < rounds.count < sum(host.pump.commits for host in hosts)
    for host in hosts:
        assert (await host.database.last())["records"] == {1: b"4"}


async def test_a_world_whose_database_is_in_use_holds_up_nobody(gateway: Gateway) -> None:
    busy, free = await hosts_of(gateway, 2)
    async with busy.database.world.exclusive():
        waiting, mark = put(busy, b"busy"), put(free, b"free")
        await durable(free, mark)
        assert busy.world.journal.durable is None
    await durable(busy, waiting)
    assert (await busy.database.last())["records"] == {1: b"busy"}


async def test_a_commit_of_somebody_else_is_survived_and_told(gateway: Gateway) -> None:
    first, second = await hosts_of(gateway, 2)
    await asyncio.gather(durable(first, put(first, b"1")), durable(second, put(second, b"1")))
    blocking = first.database.world.store.blocking()
    other = Database.open(blocking, Namespace("w0"))
    await asyncio.to_thread(other.transact, lambda c: c.execute("CREATE TABLE notes(text)"))
    await asyncio.gather(durable(first, put(first, b"2")), durable(second, put(second, b"2")))
    assert first.database.world.foreign_commits == 1
    assert first.pump.commit_failures == 0
    assert (await first.database.last())["records"] == {1: b"2"}


async def test_who_waits_for_the_durable_mark_does_not_wait_for_a_round(gateway: Gateway) -> None:
    (host,) = await hosts_of(gateway, 1)
    assert gateway.worlds.rounds is not None
    mark = put(host, b"now")
    await host.pump.until_durable(mark, PATIENCE_S)
    assert gateway.worlds.rounds.count == 0
    assert (await host.database.last())["records"] == {1: b"now"}
