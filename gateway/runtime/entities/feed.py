"""Newest changes of one database for its watchers, shared by all of them. Room: runtime.

A watcher is a cursor: the revision up to which it knows everything. The feed keeps the newest
changes; who is further behind reads the database, which still knows everything by state (each
entity's newest, each removal). So a slow watcher gets less, never stale, and costs no queue.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress

import apsw

from gateway.core.entities import Changes
from gateway.errors import GatewayError, Overloaded
from gateway.limits import (
    ENTITY_FEED_BYTES_MAX,
    ENTITY_FEED_CHANGES_MAX,
    ENTITY_FOREIGN_POLL_S,
    ENTITY_PAGE_MAX,
    ENTITY_WATCHERS_MAX,
)
from gateway.runtime.entities.writer import Snapshots
from gateway.store.entities import queries
from gateway.wire.entities.values import Change, Entity

WATCHERS_FLAG = "--watchers-per-world-max"


class ChangeFeed:
    """``revision``: up to where the kept changes go; -1 while nobody watches."""

    def __init__(self, snapshots: Snapshots, watchers_max: int = ENTITY_WATCHERS_MAX) -> None:
        self._snapshots = snapshots
        self._watchers_max = watchers_max
        self._kept: deque[Change] = deque()
        self._bytes = 0
        self._start = 0
        self._changed = asyncio.Event()
        self._poller: asyncio.Task[None] | None = None
        self._fetching: asyncio.Future[None] | None = None
        self._failure: GatewayError | None = None
        self.revision = -1
        self.watchers = 0

    @property
    def watched(self) -> bool:
        return self.watchers > 0

    def publish(self, changes: Sequence[Change], since: int, revision: int) -> None:
        """All changes of (``since``, ``revision``]. Older news is ignored; news with a gap before it (a
        commit that began before anybody watched) is fetched from the database instead."""
        if self.revision < 0 or revision <= self.revision:
            return
        if not 0 <= since <= self.revision:
            self._fetching = asyncio.ensure_future(self._catch_up_quietly())
            return
        for change in changes:
            if change.revision > self.revision:
                self._kept.append(change)
                self._bytes += _size(change)
        while self._kept and (
            len(self._kept) > ENTITY_FEED_CHANGES_MAX or self._bytes > ENTITY_FEED_BYTES_MAX
        ):
            oldest = self._kept.popleft()
            self._bytes -= _size(oldest)
            self._start = oldest.revision
        self.revision = revision
        # Set and replaced: whoever waits is woken once, and nobody has to clear it for the others.
        self._changed.set()
        self._changed = asyncio.Event()

    def check_room(self) -> None:
        """Raise :class:`Overloaded` where there is no room for one more watcher."""
        if self.watchers >= self._watchers_max:
            raise Overloaded(
                f"{self.watchers} watchers are on these entities, which is the bound; try later, or raise {WATCHERS_FLAG}",
                bound=WATCHERS_FLAG,
                limit=self._watchers_max,
            )

    def watch(self, since: int | None) -> AsyncIterator[Changes]:
        """Changes from ``since`` on (None: from now on); the first item comes at once. Raises :class:`Overloaded`."""
        self.check_room()
        return self._watched(since)

    async def _watched(self, since: int | None) -> AsyncIterator[Changes]:
        self.check_room()
        self.watchers += 1
        try:
            await self._begin()
            cursor = self.revision if since is None else since
            first = True
            while True:
                # Taken before the look: a change in between has set this very event.
                changed = self._changed
                if self._failure is not None:
                    raise self._failure
                news = await self._after(cursor)
                if news.revision > cursor or news.reset or first:
                    yield news
                    cursor, first = news.revision, False
                elif cursor >= self.revision:
                    await changed.wait()
        finally:
            self.watchers -= 1
            if not self.watched:
                self._end()

    def fail(self, error: GatewayError) -> None:
        """End every watch by this."""
        self._failure = error
        self._changed.set()

    async def _begin(self) -> None:
        if self.revision < 0:
            now = await self._snapshots.read(queries.revision, 0)
            # Again after the wait: two watchers that come together must not set it back.
            if self.revision < 0:
                self.revision = self._start = now
        if self._poller is None:
            self._poller = asyncio.get_running_loop().create_task(self._poll())

    def _end(self) -> None:
        if self._poller is not None:
            self._poller.cancel()
            self._poller = None
        self._kept.clear()
        self._bytes, self.revision = 0, -1

    async def _poll(self) -> None:
        """Another gateway may write this database too: ask, so that its commits are news here."""
        while True:
            await asyncio.sleep(ENTITY_FOREIGN_POLL_S)
            await self._catch_up_quietly()

    async def _catch_up_quietly(self) -> None:
        """Where the store is away, the next poll asks again."""
        # Whatever it is: a poll that ended would leave watchers without news of other gateways, and say
        # nothing.
        with suppress(Exception):
            await self.catch_up()

    async def catch_up(self) -> None:
        """Publish what was committed elsewhere."""
        known = self.revision
        if known < 0 or await self._snapshots.read(queries.revision, 0) <= known:
            return
        news = await self._from_database(known)
        self.publish(news.changes, known, news.revision)

    async def _after(self, cursor: int) -> Changes:
        if self._start <= cursor <= self.revision:
            found = [change for change in self._kept if change.revision > cursor]
            if len(found) <= ENTITY_PAGE_MAX:
                return Changes(found, self.revision)
            return Changes(found[:ENTITY_PAGE_MAX], found[ENTITY_PAGE_MAX - 1].revision)
        return await self._from_database(cursor)

    async def _from_database(self, cursor: int) -> Changes:
        def read(connection: apsw.Connection) -> Changes:
            newest = queries.revision(connection)
            # Beyond the newest: the database was deleted and made anew, and its numbers begin again. From 0
            # everything is sent anyhow.
            reset = 0 < cursor < queries.reaches_back_to(connection) or cursor > newest
            return Changes(*queries.changes(connection, 0 if reset else cursor, ENTITY_PAGE_MAX), reset)

        return await self._snapshots.read(read, Changes([], 0))


def _size(change: Change) -> int:
    # About what a change without its state takes in memory.
    return 256 + (len(change.state) if isinstance(change, Entity) else 0)
