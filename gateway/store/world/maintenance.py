"""Old versions of a world: truncated and collected, so that a store does not grow. Room: store.

mvstore keeps every version of every page; a world's own history stands in its tables, so the old
versions serve only readers under way, and looks at other tables in the past.

What is asked for follows what was written: a truncation and a collection scan all that a namespace holds, so
they wait until as much was written as that, and a world that nobody writes to is left alone. A store that keeps
content for an hour before it deletes any (mvstore) is asked to delete once an hour. Source: ``docs/STORE.md``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass

from gateway.errors import GatewayError
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
from gateway.store.base import Namespace, Store, Version
from gateway.store.world.schema import Retention


@dataclass(slots=True)
class Written:
    """What this process has written to a namespace: ``pages`` (versions, since the start), and how many
    pages the database has now."""

    pages: int = 0
    size_pages: int = 0

    def committed(self, pages: int, size_pages: int) -> None:
        """A commit made so many page versions, and the database is so large now (0: not told)."""
        self.pages += pages
        self.size_pages = size_pages or self.size_pages


@dataclass(frozen=True, slots=True)
class _Step:
    """So many pages, in all, by then (Unix seconds)."""

    at_s: int
    pages: int


class Upkeep:
    """Of one namespace, by who writes it (the home of a world, and nobody else). Not thread-safe."""

    def __init__(self, store: Store, key: str, written: Written) -> None:
        self._store = store
        self._key = key
        self._written = written
        self._kept_s = store.traits.content_kept_s
        """How long the store keeps content that nothing refers to, whenever it is asked; 0: not at all."""
        self._steps: deque[_Step] = deque()
        self._old_pages = 0
        self._truncated_pages = 0
        self._truncated_at_s: int | None = None
        self._removed: deque[_Step] = deque()
        self._collected_at_s: int | None = None
        self._failures = 0
        self._not_before_s = 0

    async def run(self, retention: Retention, now_s: int) -> Version | None:
        """Do what is due. Answers the version truncated before, if any. To be called every few seconds.
        Raises what the store raises, and lets it be for a time then."""
        self._look(retention, now_s)
        if now_s < self._not_before_s:
            return None
        try:
            version = await self._truncate(retention, now_s) if self._truncation_due(now_s) else None
            if self._collection_due(now_s):
                await self._collect(now_s)
        except GatewayError:
            self._failures += 1
            # It is only upkeep: a store that is in trouble must not be asked for scans on top.
            wait_s = min(UPKEEP_RETRY_S_MIN * 2 ** (self._failures - 1), UPKEEP_RETRY_S_MAX)
            self._not_before_s = now_s + int(wait_s)
            raise
        self._failures = 0
        return version

    def _look(self, retention: Retention, now_s: int) -> None:
        """How many pages had been written by the time whose versions are still kept."""
        if self._truncated_at_s is None:
            self._truncated_at_s = self._collected_at_s = now_s
        last = self._steps[-1].pages if self._steps else self._old_pages
        # Only where something was written: an idle world has no steps, so that nothing becomes due by time
        # alone.
        if self._written.pages != last:
            self._steps.append(_Step(now_s, self._written.pages))
        before_s = now_s - _kept_s(retention)
        while self._steps and self._steps[0].at_s <= before_s:
            self._old_pages = self._steps.popleft().pages

    def _truncation_due(self, now_s: int) -> bool:
        old = self._old_pages - self._truncated_pages
        if not old:
            return False
        if not self._kept_s:
            return True  # in this process: what goes is a matter of milliseconds
        assert self._truncated_at_s is not None
        waited_s = now_s - self._truncated_at_s
        return old >= max(self._written.size_pages, UPKEEP_PAGES_MIN) or waited_s >= UPKEEP_WAIT_S_MAX

    async def _truncate(self, retention: Retention, now_s: int) -> Version | None:
        old_pages = self._old_pages
        # The first point after that time, not the last before it: everything older than kept may go, and no
        # younger one does.
        bounds = await self._store.time2version(now_s - _kept_s(retention))
        if bounds.after is None:
            return None
        version, removed = await truncate_before(self._store, self._key, bounds.after.version)
        # As of before the request: what was written while it ran is the next one's.
        self._truncated_pages, self._truncated_at_s = old_pages, now_s
        if removed:
            self._removed.append(_Step(now_s, removed))
        return version

    def _collection_due(self, now_s: int) -> bool:
        ripe = sum(step.pages for step in self._removed if step.at_s <= now_s - self._kept_s)
        if not ripe or not self._kept_s:
            return bool(ripe)
        assert self._collected_at_s is not None
        waited_s = now_s - self._collected_at_s
        enough = (
            ripe * UPKEEP_COLLECT_SHARE >= self._written.size_pages or waited_s >= UPKEEP_COLLECT_ANYWAY_S
        )
        return enough and waited_s >= self._kept_s

    async def _collect(self, now_s: int) -> None:
        await _count(self._store.delete_unreferenced_content(self._key))
        self._collected_at_s = now_s
        while self._removed and self._removed[0].at_s <= now_s - self._kept_s:
            self._removed.popleft()


async def truncate_before(store: Store, key: str, version: Version) -> tuple[Version, int]:
    """Truncate what is older than ``version``, but never above the head: on mvstore such a mark ends every read
    of it. Answers the mark asked for, and how many page versions went."""
    mark = min(version, (await store.stat(Namespace(key))).version)
    return mark, await _count(store.truncate_namespace(key, mark))


async def discard_before(store: Store, key: str, version: Version) -> None:
    """Truncate what is older than ``version`` and collect, at once and whatever it costs."""
    await truncate_before(store, key, version)
    await _count(store.delete_unreferenced_content(key))


def _kept_s(retention: Retention) -> int:
    return VERSIONS_KEPT_S if retention.mode == "ring" else VERSIONS_KEPT_RECORD_S


async def _count(lines: AsyncIterator[str]) -> int:
    """The running count that the last progress line told; 0 where there was none."""
    last = "0"
    async for line in lines:
        last = line
    # mvstore's last line may be a sentence: then something was removed, and how much is not known.
    return int(last) if last.isdigit() else 1
