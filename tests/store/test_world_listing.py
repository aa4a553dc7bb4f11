"""Which namespaces of a store are worlds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from gateway.core.state import WorldState
from gateway.errors import GatewayError, StoreDamaged, StoreUnavailable, UnknownWorld
from gateway.limits import LISTED_AT_ONCE
from gateway.store.base import Namespace, PageContent, PageRead
from gateway.store.database import Database
from gateway.store.embedded import EmbeddedStore
from gateway.store.world import WorldDatabase, listing
from gateway.store.world.listing import WorldNames
from tests.store.memory_store import MemoryStore
from tests.store.recording import START_US


class Looked:
    """A store that notes which namespaces are read, how many at once, and fails as the test says."""

    def __init__(self, inner: EmbeddedStore) -> None:
        self.inner = inner
        self.reads: list[str] = []
        self.now = self.most = 0
        self.failing: dict[str, GatewayError] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    async def read(self, ns: Namespace, reads: Sequence[PageRead]) -> list[PageContent]:
        self.reads.append(ns.key)
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            for _ in range(5):
                await asyncio.sleep(0)
            if ns.key in self.failing:
                raise self.failing[ns.key]
            return await self.inner.read(ns, reads)
        finally:
            self.now -= 1


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Looked]:
    inner = EmbeddedStore.open(tmp_path / "store", auto_create=True)
    yield Looked(inner)
    await inner.aclose()


async def made(store: Looked, *names: str) -> None:
    def make() -> None:
        for name in names:
            WorldDatabase.create(store.inner.blocking(), name, make_state=WorldState, now_us=START_US)[
                0
            ].close()

    await asyncio.to_thread(make)


async def foreign(store: Looked, key: str) -> None:
    """Another client's database."""

    def make() -> None:
        database = Database.open(store.inner.blocking(), Namespace(key), create=True)
        database.transact(lambda con: con.execute("CREATE TABLE t(a)"))
        database.close()

    await asyncio.to_thread(make)


def names_of(store: Looked) -> WorldNames:
    return WorldNames(store)  # type: ignore[arg-type]


async def test_worlds_are_told_from_other_databases_and_each_is_looked_at_once(store: Looked) -> None:
    await made(store, "zone", "arena")
    await foreign(store, "notes")
    await store.create_namespace("empty")
    names = names_of(store)
    assert await names.all() == ["arena", "zone"]
    assert sorted(store.reads) == ["arena", "empty", "notes", "zone"]
    store.reads.clear()
    assert await names.all() == ["arena", "zone"]
    assert store.reads == ["empty"], "what is empty may become a world"
    await made(store, "empty")
    assert await names.all() == ["arena", "empty", "zone"]
    assert names.errors == {}


async def test_what_is_known_is_a_world_without_a_look(store: Looked) -> None:
    await made(store, "arena")
    await foreign(store, "notes")
    names = names_of(store)
    assert await names.all(["arena", "notes", "beginning"]) == ["arena", "beginning", "notes"]
    assert store.reads == []


async def test_a_name_that_no_world_can_have_is_not_looked_at(store: Looked) -> None:
    await made(store, "arena")
    for key in ("a:b", "~", "with space"):
        await foreign_or_not(store, key)
    assert await names_of(store).all() == ["arena"]
    assert store.reads == ["arena"]


async def foreign_or_not(store: Looked, key: str) -> None:
    if ":" not in key:
        await foreign(store, key)


async def test_a_world_that_cannot_be_read_is_listed_with_what_is_wrong(store: Looked) -> None:
    await made(store, "arena", "zone")
    store.failing["arena"] = StoreDamaged("its first page is damaged")
    names = names_of(store)
    assert await names.all() == ["arena", "zone"]
    assert names.errors == {"arena": "its first page is damaged"}
    store.failing.clear()
    assert await names.all() == ["arena", "zone"]
    assert names.errors == {}
    assert store.reads == ["arena", "zone", "arena"] or sorted(store.reads) == ["arena", "arena", "zone"]


async def test_a_store_that_is_away_is_not_waited_for_by_each_of_them(store: Looked) -> None:
    worlds = [f"w{number:02}" for number in range(3 * LISTED_AT_ONCE)]
    await made(store, *worlds)
    store.failing = {key: StoreUnavailable("away") for key in worlds}
    names = names_of(store)
    assert await names.all() == worlds
    assert names.errors == dict.fromkeys(worlds, "away")
    assert len(store.reads) == store.most == LISTED_AT_ONCE


async def test_some_are_looked_at_at_once_and_no_more(store: Looked) -> None:
    worlds = [f"w{number:02}" for number in range(LISTED_AT_ONCE + 5)]
    await made(store, *worlds)
    assert await names_of(store).all() == worlds
    assert store.most == LISTED_AT_ONCE


async def test_beyond_the_bound_namespaces_are_listed_by_their_names_alone(
    store: Looked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "LISTED_JUDGED_MAX", 2)
    await made(store, "a", "b", "c")
    await foreign(store, "d")
    names = names_of(store)
    assert await names.all() == ["a", "b", "c", "d"]
    assert len(store.reads) == 2
    for looks in (4, 6, 8):
        assert await names.all() == ["a", "b", "c"], "those that were looked at before are still worlds"
        assert len(store.reads) == looks, "each time the others have their turn"


def test_a_world_that_is_not_there_is_not_listed_as_one() -> None:
    with pytest.raises(UnknownWorld):
        WorldDatabase.open(MemoryStore(), "nowhere", make_state=WorldState)
