"""The journals of all worlds in rounds: who cannot keep step goes alone, and nobody waits for it."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest

from gateway.core.ports import Mark
from gateway.runtime.gateway import Gateway
from gateway.runtime.host import WorldHost
from gateway.runtime.worlds import HostedWorlds
from gateway.store.base import CommitRequest, Committed, Namespace
from gateway.store.database import Database
from gateway.store.embedded import EmbeddedStore
from gateway.store.remote.blocking import BlockingBridge
from gateway.wire import Record
from tests.patience import HANG_S
from tests.runtime.conftest import StartGateway, body, client_of, frame, until


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

    await until(is_there, HANG_S)


async def test_worlds_share_rounds_and_all_that_was_told_is_in_the_store(gateway: Gateway) -> None:
    hosts = await hosts_of(gateway, 8)
    rounds = gateway.worlds.rounds
    assert rounds is not None
    for turn in range(5):
        marks = [put(host, b"%d" % turn) for host in hosts]
        await asyncio.gather(*map(durable, hosts, marks))
    assert 0 < rounds.count < sum(host.pump.outcomes.commits for host in hosts)
    for host in hosts:
        assert (await host.database.last()).records == {1: b"4"}


async def test_a_world_whose_database_is_in_use_holds_up_nobody(gateway: Gateway) -> None:
    busy, free = await hosts_of(gateway, 2)
    async with busy.database.world.exclusive():
        waiting, mark = put(busy, b"busy"), put(free, b"free")
        await durable(free, mark)
        assert busy.world.journal.durable is None
    await durable(busy, waiting)
    assert (await busy.database.last()).records == {1: b"busy"}


async def test_a_commit_of_somebody_else_is_survived_and_told(gateway: Gateway) -> None:
    first, second = await hosts_of(gateway, 2)
    await asyncio.gather(durable(first, put(first, b"1")), durable(second, put(second, b"1")))
    blocking = first.database.world.store.blocking()
    other = Database.open(blocking, Namespace("w0"))
    await asyncio.to_thread(other.transact, lambda c: c.execute("CREATE TABLE notes(text)"))
    await asyncio.gather(durable(first, put(first, b"2")), durable(second, put(second, b"2")))
    assert first.database.world.foreign_commits == 1
    assert first.pump.outcomes.commit_failures == 0
    assert (await first.database.last()).records == {1: b"2"}


async def test_who_waits_for_the_durable_mark_does_not_wait_for_a_round(gateway: Gateway) -> None:
    (host,) = await hosts_of(gateway, 1)
    assert gateway.worlds.rounds is not None
    mark = put(host, b"now")
    assert await host.pump.until_mark(mark, HANG_S)
    assert gateway.worlds.rounds.count == 0
    assert (await host.database.last()).records == {1: b"now"}


# --- one world that holds others up ----------------------------------------------------------


class OverThere:
    """The embedded engine as a store that takes many worlds in one commit, as a remote one does."""

    def __init__(self, store: EmbeddedStore) -> None:
        self._store = store
        self._loop = asyncio.get_running_loop()
        self.groups: list[int] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def blocking(self) -> BlockingBridge:
        return BlockingBridge(self, self._loop)  # type: ignore[arg-type]

    async def commit(self, request: CommitRequest) -> Committed:
        self.groups.append(len(request.namespaces))
        return await self._store.commit(request)


@pytest.fixture(params=["embedded", "remote"])
async def served(request: pytest.FixtureRequest, gateway: Gateway) -> Gateway:
    if request.param == "remote":
        assert isinstance(gateway.store, EmbeddedStore)
        gateway.store = OverThere(gateway.store)  # type: ignore[assignment]
        gateway.worlds = HostedWorlds(gateway.store, gateway.settings)
    return gateway


async def play(hosts: list[WorldHost], data: bytes) -> None:
    await asyncio.gather(*(durable(host, put(host, data)) for host in hosts))


async def test_a_world_whose_statement_takes_long_is_left_behind(
    served: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    slow, *others = await hosts_of(served, 6)
    await play([slow, *others], b"0")
    gate, entered = threading.Event(), threading.Event()
    database = slow.database.hold()
    assert database is not None
    hold_append = database.hold_append

    def stuck(*given: Any) -> Any:
        entered.set()
        gate.wait(HANG_S)
        return hold_append(*given)

    database.hold_append = stuck  # type: ignore[method-assign]
    slow.database.let_go()
    try:
        waiting = put(slow, b"late")
        await play(others, b"1")
        await until(entered.is_set)
        for turn in range(20):
            await play(others, b"%d" % turn)
        done = slow.world.journal.durable
        assert done is not None
        assert done.tick < waiting.tick
        assert slow.pump.outcomes.times_left_behind == 1
        assert "world w0: its database takes over 80 ms" in caplog.text
    finally:
        gate.set()
    await durable(slow, waiting)
    assert (await slow.database.last()).records == {1: b"late"}
    for host in others:
        assert (await host.database.last()).records == {1: b"19"}
        assert host.pump.outcomes.times_left_behind == 0


async def test_a_lock_on_one_world_holds_up_that_world_alone(served: Gateway) -> None:
    locked, *others = await hosts_of(served, 6)
    await play([locked, *others], b"0")
    ns = Namespace("w0")
    await served.store.lock(ns, "somebody")
    waiting = put(locked, b"late")
    for turn in range(20):
        await play(others, b"%d" % turn)
    done = locked.world.journal.durable
    assert done is not None
    assert done.tick < waiting.tick
    assert [host.pump.outcomes.commit_failures for host in others] == [0] * 5
    await served.store.unlock(ns, "somebody", rollback=False)
    await until(lambda: locked.world.journal.empty, HANG_S)
    assert (await locked.database.last()).records == {1: b"late"}


async def test_triggers_that_come_while_a_world_is_played_stop_its_journal_alone(
    served: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    poisoned, *others = await hosts_of(served, 4)
    await play([poisoned, *others], b"0")
    blocking = served.store.blocking()

    def execute(sql: str) -> None:
        database = Database.open(blocking, Namespace("w0"), own_code=True)
        database.transact(lambda c: c.execute(sql))
        database.close()

    endless = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n"
    await asyncio.to_thread(execute, f"CREATE TRIGGER slow AFTER INSERT ON frames BEGIN {endless}; END")
    waiting = put(poisoned, b"late")
    for turn in range(20):
        await play(others, b"%d" % turn)
    await until(lambda: poisoned.pump.is_failing, HANG_S)
    assert "the trigger 'slow' on 'frames'" in caplog.text
    assert (await poisoned.database.last()).records == {1: b"0"}
    await asyncio.to_thread(execute, "DROP TRIGGER slow")
    await durable(poisoned, waiting)
    assert (await poisoned.database.last()).records == {1: b"late"}


async def test_a_store_over_there_takes_many_worlds_in_one_commit(served: Gateway) -> None:
    hosts = await hosts_of(served, 20)
    await play(hosts, b"0")
    if isinstance(served.store, OverThere):
        served.store.groups.clear()
        for turn in range(5):
            await play(hosts, b"%d" % turn)
        assert max(served.store.groups) <= 16
        assert len(served.store.groups) < 5 * 20 / 3
    for host in hosts:
        assert host.world.journal.empty


async def test_a_world_that_another_wrote_to_fails_no_other_of_its_group(served: Gateway) -> None:
    first, *others = await hosts_of(served, 5)
    await play([first, *others], b"0")
    other = Database.open(served.store.blocking(), Namespace("w0"))
    await asyncio.to_thread(other.transact, lambda c: c.execute("CREATE TABLE notes(text)"))
    await play([first, *others], b"1")
    assert [host.pump.outcomes.commit_failures for host in (first, *others)] == [0] * 5
    assert [host.database.world.foreign_commits for host in (first, *others)] == [1, 0, 0, 0, 0]
    for host in (first, *others):
        assert (await host.database.last()).records == {1: b"1"}


async def test_a_world_that_was_poisoned_before_is_served_to_readers_and_refuses_publishers(
    start_gateway: StartGateway, tmp_path: Path
) -> None:
    first = await start_gateway()
    async with client_of(first) as client:
        for tick in range(1, 6):
            await client.post("/v1/worlds/w/frames?durable=1", content=body(frame(tick, {1: b"%d" % tick})))
    await first.drain(2.0)
    store = EmbeddedStore.open(tmp_path / "store")
    database = Database.open(store.blocking(), Namespace("w"), own_code=True)
    endless = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n"
    for table, event in (("frames", "INSERT"), ("epochs", "INSERT"), ("meta", "UPDATE")):
        database.transact(
            lambda c, table=table, event=event: c.execute(
                f"CREATE TRIGGER slow_{table} AFTER {event} ON {table} BEGIN {endless}; END"
            )
        )
    database.close()
    await store.aclose()
    second = await start_gateway()
    async with client_of(second) as client:
        last = await client.get("/v1/worlds/w/frames/last")
        assert (last.status_code, last.headers["x-tick"]) == (200, "5")
        assert (await client.get("/v1/worlds/w/frames?tick=3")).status_code == 200
        assert len((await client.get("/v1/worlds/w/frames")).content) > 5 * 24
        assert (await client.get("/v1/worlds/w")).json()["tick"] == 5
        refused = await client.post("/v1/worlds/w/frames?durable=1", content=body(frame(1, {1: b"x"})))
        assert (refused.status_code, refused.json()["code"]) == (422, "foreign_schema")
        assert "slow_frames" in refused.json()["detail"]
        taken = await client.post("/v1/worlds/v/frames?durable=1", content=body(frame(1, {1: b"x"})))
        assert taken.status_code == 200
