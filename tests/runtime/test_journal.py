"""What is written together with the journal: in the same commit, and never in its way."""

from __future__ import annotations

import apsw
import pytest

from gateway.errors import Conflict
from gateway.runtime.gateway import Gateway
from gateway.runtime.host import WorldHost
from gateway.wire import Record
from tests.store.standin.fixtures import EACH_STORE

OVER = EACH_STORE


def make_table(connection: apsw.Connection) -> None:
    connection.execute("CREATE TABLE IF NOT EXISTS notes(text)")


async def notes(host: WorldHost) -> list[str]:
    return await host.database.world.read(lambda c: [row[0] for row in c.execute("SELECT text FROM notes")])


async def host_of(gateway: Gateway) -> WorldHost:
    host = await gateway.worlds.host("w", create={})
    await host.database.begin_epoch()
    await host.database.world.transact(make_table)
    return host


async def test_a_companion_is_committed_with_its_records_and_answers(gateway: Gateway) -> None:
    host = await host_of(gateway)

    def also(connection: apsw.Connection) -> int:
        connection.execute("INSERT INTO notes VALUES('asleep')")
        return 7

    assert await host.put_with([Record(1, b"one")], also) == 7
    assert await notes(host) == ["asleep"]
    last = await host.database.last()
    assert last.records == {1: b"one"}


async def test_a_companion_that_fails_is_undone_alone(gateway: Gateway) -> None:
    host = await host_of(gateway)

    def also(connection: apsw.Connection) -> None:
        connection.execute("INSERT INTO notes VALUES('half')")
        raise Conflict("somebody was first")

    with pytest.raises(Conflict, match="somebody was first"):
        await host.put_with([Record(1, b"one")], also)
    assert await notes(host) == []
    assert (await host.database.last()).records == {1: b"one"}


async def test_wrong_sql_in_a_companion_does_not_stop_the_journal(gateway: Gateway) -> None:
    host = await host_of(gateway)
    with pytest.raises(apsw.SQLError):
        await host.put_with([Record(1, b"one")], lambda c: c.execute("INSERT INTO nowhere VALUES(1)"))
    assert await host.put_with([Record(2, b"two")], lambda c: "fine") == "fine"
    assert host.pump.outcomes.commit_failures == 0
