"""When a world's old versions are truncated and collected: by what was written, by the clock of whoever asks, and after failures."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import cast

import pytest

from gateway.errors import StoreUnavailable
from gateway.limits import (
    UPKEEP_COLLECT_ANYWAY_S,
    UPKEEP_COLLECT_SHARE,
    UPKEEP_PAGES_MIN,
    UPKEEP_RETRY_S_MAX,
    UPKEEP_RETRY_S_MIN,
    UPKEEP_WAIT_S_MAX,
    VERSIONS_KEPT_RECORD_S,
    VERSIONS_KEPT_S,
)
from gateway.store.base import Namespace, Stat, Store, TimeBounds, TimePoint, Traits, Version
from gateway.store.world.maintenance import Upkeep, Written, discard_before, truncate_before
from gateway.store.world.schema import Retention

RING, RECORD = Retention("ring", 60), Retention("record")
KEPT_S = 900
NOW_S = 1_000_000


class Shelf:
    """A store with one namespace, that notes what it is asked to let go of. Versions are named by their second."""

    def __init__(self, content_kept_s: int = 0) -> None:
        self.traits = Traits(content_kept_s=content_kept_s)
        self.truncated: list[Version] = []
        self.collected = 0
        self.lines = ["1", "7"]
        self.head = version_of(10**9)
        self.is_away = False
        self.knows_time = True

    async def stat(self, ns: Namespace) -> Stat:
        return Stat(self.head)

    async def time2version(self, t: int) -> TimeBounds:
        if self.is_away:
            raise StoreUnavailable("away")
        return TimeBounds(TimePoint(version_of(t), t) if self.knows_time else None, None)

    async def truncate_namespace(self, key: str, before: Version) -> AsyncIterator[str]:
        assert key == "w"
        self.truncated.append(before)
        for line in self.lines:
            yield line

    async def delete_unreferenced_content(self, key: str) -> AsyncIterator[str]:
        assert key == "w"
        self.collected += 1
        yield "0"


def version_of(second: int) -> Version:
    return f"{second:020x}"


class Home:
    """Who writes the world: what it wrote, and its upkeep, at a clock of its own."""

    def __init__(self, shelf: Shelf, retention: Retention = RING) -> None:
        self.shelf, self.retention = shelf, retention
        self.written = Written()
        self.upkeep = Upkeep(cast(Store, shelf), "w", self.written)
        self.now_s = NOW_S

    async def run(self, after_s: int = 0) -> Version | None:
        self.now_s += after_s
        return await self.upkeep.run(self.retention, self.now_s)

    async def writes(self, pages: int, size_pages: int = 0) -> None:
        self.written.committed(pages, size_pages)
        await self.run()


def test_what_was_written_adds_up_and_a_size_that_is_not_told_leaves_the_last_one() -> None:
    written = Written()
    written.committed(3, 10)
    written.committed(4, 0)
    assert (written.pages, written.size_pages) == (7, 10)
    written.committed(0, 11)
    assert (written.pages, written.size_pages) == (7, 11)


@pytest.mark.parametrize(("retention", "kept_s"), [(RING, VERSIONS_KEPT_S), (RECORD, VERSIONS_KEPT_RECORD_S)])
async def test_a_store_of_this_process_lets_go_as_soon_as_versions_are_old_and_collects_at_once(
    retention: Retention, kept_s: int
) -> None:
    home = Home(Shelf(), retention)
    await home.writes(1)
    assert await home.run(kept_s - 1) is None
    assert home.shelf.truncated == []
    assert await home.run(1) == version_of(NOW_S)
    assert home.shelf.truncated == [version_of(NOW_S)]
    assert home.shelf.collected == 1


async def test_a_world_that_nobody_writes_to_is_left_alone() -> None:
    home = Home(Shelf())
    for _ in range(5):
        assert await home.run(10_000) is None
    await home.writes(1)
    await home.run(VERSIONS_KEPT_S)
    for _ in range(5):
        assert await home.run(10_000) is None
    assert len(home.shelf.truncated) == home.shelf.collected == 1


async def test_what_was_written_since_waits_until_it_is_old_itself() -> None:
    home = Home(Shelf())
    await home.writes(1)
    home.now_s += 2
    await home.writes(1)
    assert await home.run(VERSIONS_KEPT_S - 2) is not None
    assert await home.run(1) is None
    assert await home.run(1) is not None
    assert len(home.shelf.truncated) == 2


async def test_a_store_that_does_not_know_the_time_yet_is_asked_again() -> None:
    home = Home(Shelf())
    home.shelf.knows_time = False
    await home.writes(1)
    assert await home.run(VERSIONS_KEPT_S) is None
    assert home.shelf.truncated == []
    home.shelf.knows_time = True
    assert await home.run(1) == version_of(home.now_s - VERSIONS_KEPT_S)


@pytest.mark.parametrize("size_pages", [10, UPKEEP_PAGES_MIN, 3 * UPKEEP_PAGES_MIN])
async def test_where_a_truncation_scans_all_it_waits_until_as_much_was_written(size_pages: int) -> None:
    home = Home(Shelf(KEPT_S))
    least = max(size_pages, UPKEEP_PAGES_MIN)
    for _ in range(2):  # the second time counts from the first
        await home.writes(least - 1, size_pages)
        assert await home.run(VERSIONS_KEPT_S) is None
        await home.writes(1, size_pages)
        assert await home.run(VERSIONS_KEPT_S) == version_of(home.now_s - VERSIONS_KEPT_S)
        assert await home.run(VERSIONS_KEPT_S) is None
    assert len(home.shelf.truncated) == 2


async def test_little_is_truncated_all_the_same_once_it_has_waited_long() -> None:
    home = Home(Shelf(KEPT_S))
    await home.writes(1)
    assert await home.run(UPKEEP_WAIT_S_MAX - 1) is None
    assert await home.run(1) is not None
    await home.writes(1)
    assert await home.run(UPKEEP_WAIT_S_MAX - 1) is None
    assert await home.run(1) is not None


async def has_truncated(pages: int, removed: int, size_pages: int) -> Home:
    """One whose store keeps content, that has truncated ``removed`` page versions at this second."""
    home = Home(Shelf(KEPT_S))
    home.shelf.lines = [str(removed)]
    await home.writes(pages, size_pages)
    assert await home.run(VERSIONS_KEPT_S) is not None
    return home


async def test_a_store_that_keeps_content_is_asked_to_collect_once_it_would_delete_any() -> None:
    home = await has_truncated(UPKEEP_PAGES_MIN, removed=250, size_pages=1_000)
    await home.run(KEPT_S - 1)
    assert home.shelf.collected == 0
    await home.run(1)
    assert home.shelf.collected == 1
    await home.run(UPKEEP_COLLECT_ANYWAY_S)
    assert home.shelf.collected == 1, "what was collected is not collected again"


@pytest.mark.parametrize("collects", [False, True])
async def test_it_is_asked_to_collect_where_a_share_of_the_database_would_go(collects: bool) -> None:
    removed = 1_000 // UPKEEP_COLLECT_SHARE - (not collects)
    home = await has_truncated(UPKEEP_PAGES_MIN, removed, size_pages=1_000)
    await home.run(KEPT_S)
    assert home.shelf.collected == collects


async def test_less_than_that_share_is_collected_once_a_day_all_the_same() -> None:
    home = await has_truncated(UPKEEP_PAGES_MIN, removed=1, size_pages=1_000)
    home.now_s = NOW_S
    await home.run(UPKEEP_COLLECT_ANYWAY_S - 1)
    assert home.shelf.collected == 0
    await home.run(1)
    assert home.shelf.collected == 1


async def test_between_two_collections_lies_the_time_that_content_is_kept() -> None:
    home = await has_truncated(UPKEEP_PAGES_MIN, removed=1_000, size_pages=1_000)
    await home.writes(UPKEEP_PAGES_MIN, 1_000)
    await home.run(VERSIONS_KEPT_S)
    assert len(home.shelf.truncated) == 2
    await home.run(KEPT_S - VERSIONS_KEPT_S)
    assert home.shelf.collected == 1
    await home.run(VERSIONS_KEPT_S)  # what the second let go may go from here on
    await home.run(KEPT_S - VERSIONS_KEPT_S - 1)
    assert home.shelf.collected == 1
    await home.run(1)
    assert home.shelf.collected == 2


async def test_a_truncation_that_let_nothing_go_leaves_nothing_to_collect() -> None:
    home = Home(Shelf())
    home.shelf.lines = ["0"]
    await home.writes(1)
    assert await home.run(VERSIONS_KEPT_S) is not None
    assert home.shelf.collected == 0


async def test_after_failures_it_waits_twice_as_long_each_time_up_to_a_bound() -> None:
    home = Home(Shelf())
    home.shelf.is_away = True
    await home.writes(1)
    home.now_s += VERSIONS_KEPT_S
    wait_s = UPKEEP_RETRY_S_MIN
    for _ in range(8):
        with pytest.raises(StoreUnavailable):
            await home.run()
        assert await home.run(wait_s - 1) is None
        home.now_s += 1
        wait_s = min(2 * wait_s, UPKEEP_RETRY_S_MAX)
    assert wait_s == UPKEEP_RETRY_S_MAX
    home.shelf.is_away = False
    assert await home.run() is not None
    home.shelf.is_away = True
    await home.writes(1)
    with pytest.raises(StoreUnavailable):
        await home.run(VERSIONS_KEPT_S)
    assert await home.run(UPKEEP_RETRY_S_MIN - 1) is None
    with pytest.raises(StoreUnavailable):
        await home.run(1)


@pytest.mark.parametrize(("asked", "mark"), [(5, 5), (9, 9), (12, 9)])
async def test_nothing_is_truncated_above_the_head(asked: int, mark: int) -> None:
    shelf = Shelf()
    shelf.head = version_of(9)
    found = await truncate_before(cast(Store, shelf), "w", version_of(asked))
    assert found == (version_of(mark), 7)
    assert shelf.truncated == [version_of(mark)]


@pytest.mark.parametrize(("lines", "count"), [([], 0), (["3"], 3), (["1", "12"], 12), (["4", "done"], 1)])
async def test_of_a_truncations_lines_the_last_tells_how_many_went(lines: list[str], count: int) -> None:
    shelf = Shelf()
    shelf.lines = lines
    assert (await truncate_before(cast(Store, shelf), "w", version_of(1)))[1] == count


async def test_discarding_truncates_and_collects_whatever_it_costs() -> None:
    shelf = Shelf(KEPT_S)
    await discard_before(cast(Store, shelf), "w", version_of(3))
    assert (shelf.truncated, shelf.collected) == ([version_of(3)], 1)
