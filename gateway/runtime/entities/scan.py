"""Cold starts: all entities of a database as one stream, read once for all who ask. Room: runtime.

The first one to ask starts a scan; whoever comes while nothing has changed since gets the same
pieces, those that are there at once and the rest as they come.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import apsw

from gateway.limits import (
    ENTITY_SCAN_BYTES_MAX,
    ENTITY_SCAN_KEPT_S,
    ENTITY_SCAN_PIECE_BYTES,
    ENTITY_SCAN_ROWS,
    ENTITY_SCANS_KEPT_MAX,
)
from gateway.runtime.entities.writer import ReadAt, Snapshots
from gateway.store.base import Version
from gateway.store.entities import queries
from gateway.wire import encode_control, prefix
from gateway.wire.entities.messages import encode_entity
from gateway.wire.entities.values import Entity, Filter, head_of


def entity_message(entity: Entity) -> bytes:
    """One entity, length-prefixed."""
    return prefix(encode_entity(head_of(entity), entity.state))


class Scan:
    """One reading of everything that ``wanted`` takes, at one version. Many may consume it.

    What is beyond the bound in memory is read by each consumer for itself.
    """

    def __init__(self, snapshots: Snapshots, wanted: Filter, revision: int, version: Version | None) -> None:
        self._snapshots = snapshots
        self._wanted = wanted
        self._version = version
        self.revision = revision
        self.pieces: list[bytes] = []
        self.bytes = 0
        self.after: str | None = wanted.after
        """Where a consumer goes on by itself; None once the end is in the pieces."""
        self.error: Exception | None = None
        self.done = False
        self._more = asyncio.Event()
        self.task = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        try:
            if self._version is None:
                self.after = None
            else:
                async with self._snapshots.at(self._version) as read:
                    while self.after is not None and self.bytes < ENTITY_SCAN_BYTES_MAX:
                        piece, self.after = await self._page(read, self.after)
                        self._add(piece)
        except Exception as error:
            self.error = error
        finally:
            self.done = True
            self._more.set()

    async def _page(self, read: ReadAt, after: str) -> tuple[bytes, str | None]:
        wanted = replace(self._wanted, after=after)
        none: tuple[list[Entity], bool] = ([], False)

        def page(connection: apsw.Connection) -> tuple[list[Entity], bool]:
            return queries.page(connection, wanted, ENTITY_SCAN_ROWS, ENTITY_SCAN_PIECE_BYTES)

        rows, more = await read(page, none)
        return b"".join(map(entity_message, rows)), rows[-1].id if more else None

    def _add(self, piece: bytes) -> None:
        self.pieces.append(piece)
        self.bytes += len(piece)
        self._more.set()
        self._more = asyncio.Event()

    async def read(self) -> AsyncIterator[bytes]:
        """The pieces from the beginning; last the control message ``end`` with the revision."""
        at = 0
        # Both: the last piece comes before `done`, and a consumer may be far behind.
        while not self.done or at < len(self.pieces):
            # Taken before the look, or a piece that comes in between would be slept through.
            more = self._more
            if at < len(self.pieces):
                yield self.pieces[at]
                at += 1
            else:
                await more.wait()
        if self.error is not None:
            raise self.error
        async for piece in self._rest():
            yield piece
        yield prefix(encode_control("end", revision=self.revision))

    async def _rest(self) -> AsyncIterator[bytes]:
        after = self.after
        if after is None or self._version is None:
            return
        async with self._snapshots.at(self._version) as read:
            while after is not None:
                piece, after = await self._page(read, after)
                yield piece


class Scans:
    """The scans of one database that may still be shared."""

    def __init__(self, snapshots: Snapshots) -> None:
        self._snapshots = snapshots
        self._kept: dict[Filter, Scan] = {}
        self._opening: dict[Filter, asyncio.Future[Scan]] = {}
        self.started = 0
        self.shared = 0

    async def open(self, wanted: Filter) -> AsyncIterator[bytes]:
        """The stream of everything that ``wanted`` takes, as of now."""
        opening = self._opening.get(wanted)
        if opening is None:
            opening = asyncio.ensure_future(self._open(wanted))
            self._opening[wanted] = opening
            # Only while it opens: what is kept afterwards must be compared with the newest revision.
            opening.add_done_callback(lambda _: self._opening.pop(wanted, None))
        else:
            self.shared += 1
        # Shielded: it is shared, and one who goes away must not end it for all.
        return (await asyncio.shield(opening)).read()

    async def _open(self, wanted: Filter) -> Scan:
        revision, version = await self._snapshots.read_head(queries.revision, 0)
        kept = self._kept.get(wanted)
        if kept is not None and kept.revision == revision and kept.error is None:
            self.shared += 1
            return kept
        self.started += 1
        scan = self._kept[wanted] = Scan(self._snapshots, wanted, revision, version)
        asyncio.get_running_loop().call_later(ENTITY_SCAN_KEPT_S, self._forget, wanted, scan)
        while len(self._kept) > ENTITY_SCANS_KEPT_MAX:
            self._kept.pop(next(iter(self._kept)))
        return scan

    def _forget(self, wanted: Filter, scan: Scan) -> None:
        if self._kept.get(wanted) is scan:
            del self._kept[wanted]
