"""A world's recording, wherever it is: behind a gateway, in a store, in a film. Room: recordings.

:class:`LocalRecording` reads the tables themselves (a store with no gateway, or a film, which is
an ordinary SQLite file with the same tables); :class:`RemoteRecording` asks a gateway over HTTP.
Both answer the same questions, awaited.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar, cast

import apsw

from gateway import limits
from gateway.client.address import world_path
from gateway.core.state import WorldState
from gateway.errors import BadInput, NotFound, NothingRecorded, Unprocessable
from gateway.limits import HISTORY_PAGE_ROWS
from gateway.store.base import BlockingStore
from gateway.store.hardening import harden
from gateway.store.world import History, Recovered, WorldDatabase
from gateway.store.world.schema import is_world
from gateway.store.world.state import MakeState
from gateway.wire import Control, Frame, MessageStream, decode_message, split
from gateway.wire.journal import Gap, JournalFrame
from gateway.wire.recorded import NamedPlace, ToldMark, ToldSummary

if TYPE_CHECKING:
    from gateway.client.http import HttpClient

T = TypeVar("T")
MAKE_STATE = cast(MakeState, WorldState)
STEPS_UNTIL_LOOK = 1_000
"""Of SQLite's machine, some fifty rows: then a film that was closed is read no further."""


@dataclass(frozen=True, slots=True)
class Moment:
    """Which moment is asked for: a tick (of ``epoch``, or of the newest one), a time in microseconds
    since the Unix epoch, a mark's name; nothing set: the last synced state."""

    epoch: int | None = None
    tick: int | None = None
    at_us: int | None = None
    mark: str | None = None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A world's state at one moment. ``at_us``: when its last frame was received, microseconds since
    the Unix epoch; ``gaps``: what is known to be missing shortly before it (None: not told)."""

    epoch: int
    tick: int
    at_us: int
    stride: int
    records: dict[int, bytes]
    messages: tuple[bytes, ...]
    gaps: tuple[Gap, ...] | None = None


class Recording(Protocol):
    """What can be asked of a recording. Raises :class:`NothingRecorded` for a moment it does not hold."""

    name: str

    async def summary(self) -> ToldSummary: ...

    async def marks(self) -> list[ToldMark]: ...

    async def gaps(self) -> list[Gap]: ...

    async def state(self, moment: Moment) -> Snapshot: ...

    def rows(
        self, start: tuple[int, int] | None = None, end: tuple[int, int] | None = None
    ) -> AsyncIterator[JournalFrame | Gap]:
        """Frames and gaps from ``start`` to ``end`` ((epoch, tick), both included), in order."""


class FilmSource:
    """An ordinary SQLite file with a world's tables, read-only. Raises :class:`NotFound` and
    :class:`Unprocessable` for a file that is no film or from a newer version."""

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise NotFound(f"no film at {path}; `mvgateway clip WORLD --out FILE` makes one")
        try:
            self._connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
            harden(self._connection)
            there = is_world(self._connection)
        except apsw.Error as error:
            raise Unprocessable(f"{path} is not a film, or a truncated one: {error}") from error
        if not there:
            raise Unprocessable(f"{path} is an empty database, not a film")
        self._path = path
        self._reading = threading.Lock()
        self._is_closed = False
        # A flag that is looked at, in place of interrupt(): that one stops what runs at the moment, and not the next
        # statement.
        self._connection.set_progress_handler(lambda: self._is_closed, STEPS_UNTIL_LOOK)

    def read(self, fn: Callable[[apsw.Connection], T]) -> T:
        """``fn(connection)`` in one transaction; :class:`apsw.InterruptError` where the film was closed meanwhile."""
        with self._reading:
            return self._read(fn)

    def _read(self, fn: Callable[[apsw.Connection], T]) -> T:
        connection = self._connection
        if self._is_closed:
            raise apsw.InterruptError(f"{self._path} was closed")
        try:
            connection.execute("BEGIN")
            try:
                return fn(connection)
            finally:
                # Ended also after an error, or the next question would find a transaction open. Nothing was
                # written.
                connection.execute("COMMIT")
        except (apsw.CorruptError, apsw.NotADBError, apsw.IOError) as error:
            raise Unprocessable(f"{self._path} is damaged or truncated: {error}") from error

    def close(self) -> None:
        """Ends what a thread still asks, which whoever was interrupted waits for no more."""
        self._is_closed = True
        # Waits for the thread that reads: closing under it would be the end of the process.
        with self._reading:
            self._connection.close()


class LocalRecording:
    """A recording whose tables are at hand. Questions run on a thread, one at a time."""

    def __init__(self, name: str, history: History) -> None:
        self.name = name
        self.history = history

    async def summary(self) -> ToldSummary:
        return await asyncio.to_thread(self.history.summary)

    async def marks(self) -> list[ToldMark]:
        return [ToldMark(**mark) for mark in await asyncio.to_thread(self.history.marks)]

    async def gaps(self) -> list[Gap]:
        return await asyncio.to_thread(self.history.gaps)

    async def state(self, moment: Moment) -> Snapshot:
        return await asyncio.to_thread(self.snapshot, moment)

    def snapshot(self, moment: Moment) -> Snapshot:
        """As :meth:`state`, for who is on a thread already."""
        history = self.history
        if moment.mark is not None:
            mark = find_mark(history.marks(), moment.mark)
            moment = Moment(mark["epoch"], mark["tick"])
            found: Recovered | None = history.state_at(moment.epoch, moment.tick, None, exact=False)
        elif moment.tick is None and moment.at_us is None:
            found = history.last()
        else:
            found = history.state_at(moment.epoch, moment.tick, moment.at_us)
        if found is None:
            raise NothingRecorded(f"nothing was recorded of {self.name} yet; publish to it first")
        return snapshot_of(found, history.info().stride)

    async def rows(
        self, start: tuple[int, int] | None = None, end: tuple[int, int] | None = None
    ) -> AsyncIterator[JournalFrame | Gap]:
        rows = self.history.frames(start, end)
        while items := await asyncio.to_thread(_some, rows):
            for item in items:
                yield item


class RemoteRecording:
    """A recording behind a gateway."""

    def __init__(self, name: str, client: HttpClient) -> None:
        self.name = name
        self._client = client

    async def summary(self) -> ToldSummary:
        return cast(ToldSummary, await self._client.get_json(world_path(self.name, "recording")))

    async def marks(self) -> list[ToldMark]:
        answer = await self._client.get_json(world_path(self.name, "marks"))
        return cast(list[ToldMark], answer["marks"])

    async def gaps(self) -> list[Gap]:
        answer = await self._client.get_json(world_path(self.name, "gaps"))
        return [Gap(gap["epoch"], gap["from"], gap["to"], gap["reason"]) for gap in answer["gaps"]]

    async def state(self, moment: Moment) -> Snapshot:
        if moment.mark is not None:
            mark = find_mark(await self.marks(), moment.mark)
            moment = Moment(mark["epoch"], mark["tick"])
        if moment.tick is not None:
            path = world_path(self.name, "frames", epoch=moment.epoch, tick=moment.tick)
        elif moment.at_us is not None:
            path = world_path(self.name, "frames", at=iso_time(moment.at_us))
        else:
            path = world_path(self.name, "frames", "last")
        from gateway.client.fetch import fetch_state

        found = await fetch_state(self._client, path)
        return Snapshot(
            found.epoch, found.tick, found.durable_at_us, found.stride, found.records, found.messages
        )

    async def rows(
        self, start: tuple[int, int] | None = None, end: tuple[int, int] | None = None
    ) -> AsyncIterator[JournalFrame | Gap]:
        """A gateway of an earlier release does not tell when it received: then it is as if it had been at once."""
        epoch = start[0] if start else (end[0] if end else None)
        span = {"from": start[1] if start else None, "to": end[1] if end else None}
        messages = self._messages(world_path(self.name, "frames", epoch=epoch, **span, rows=1))
        try:
            first = await anext(messages, None)
        except BadInput as error:
            # That is told as it is; any other BadInput may be an older gateway that does not know `rows`.
            if isinstance(error, NotFound):
                raise
            messages = self._messages(world_path(self.name, "frames", epoch=epoch, **span))
            first = await anext(messages, None)
        grouping = Grouping()
        for item in () if first is None else grouping.receive(first):
            yield item
        async for message in messages:
            for item in grouping.receive(message):
                yield item
        for item in grouping.end():
            yield item

    async def _messages(self, path: str) -> AsyncIterator[bytes]:
        stream = MessageStream()
        async for chunk in self._client.stream(path):
            stream.feed(chunk)
            for message in stream:
                yield message
        stream.finish()


class Grouping:
    """Messages of a history back into frames: by the ``row`` before each, or, where none is told, those of one
    (epoch, tick) together."""

    def __init__(self) -> None:
        self._head: Frame | None = None
        self._row: Control | None = None
        self._messages: list[bytes] = []
        self._seq = 0

    def receive(self, message: bytes) -> Iterator[JournalFrame | Gap]:
        """What is complete now that ``message`` has come."""
        decoded = decode_message(message)
        if isinstance(decoded, Control):
            yield from self.end()
            if decoded.type == "gap":
                yield Gap(decoded["epoch"], decoded["from"], decoded["to"], decoded["reason"])
            elif decoded.type == "row":
                self._row = decoded
            return
        if self._row is None and not self._belongs(decoded):
            yield from self.end()
        self._head = self._head or decoded
        self._messages.append(message)

    def _belongs(self, frame: Frame) -> bool:
        head = self._head
        return head is not None and (head.epoch, head.tick, head.keyframe) == (
            frame.epoch,
            frame.tick,
            frame.keyframe,
        )

    def end(self) -> Iterator[JournalFrame]:
        """The frame under way, if there is one."""
        head, self._head = self._head, None
        row, self._row = self._row, None
        if head is not None:
            self._seq += 1
            messages, self._messages = tuple(self._messages), []
            received_us, sent_us = head.sent_at, head.sent_at
            if row is not None:
                received_us, sent_us = row["received_at"], row["sent_at"]
            yield JournalFrame(
                self._seq, head.epoch, head.tick, received_us, sent_us, head.keyframe, messages
            )


def snapshot_of(found: Recovered, stride: int) -> Snapshot:
    """A recovered state with its keyframe's messages."""
    state = cast(WorldState, found.state)
    messages = tuple(split(state.keyframe(), limits.WEBSOCKET_MESSAGE_BYTES_MAX))
    return Snapshot(
        found.epoch,
        found.tick,
        found.received_at_us,
        stride or state.stride,
        found.records(),
        messages,
        found.gaps,
    )


def find_mark(marks: Sequence[NamedPlace], name: str) -> NamedPlace:
    """The mark of that name; raises :class:`NothingRecorded` naming those there are."""
    for mark in marks:
        if mark["name"] == name:
            return mark
    known = ", ".join(sorted(mark["name"] for mark in marks)[:20]) or "none"
    raise NothingRecorded(f"there is no mark {name!r}; there are: {known}")


def iso_time(at_us: int) -> str:
    """RFC 3339 in UTC with microseconds."""
    from datetime import UTC, datetime

    # In two halves: a float of seconds has not enough digits for microseconds since 1970.
    moment = datetime.fromtimestamp(at_us // 1_000_000, UTC).replace(microsecond=at_us % 1_000_000)
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


def open_world(store: BlockingStore, name: str) -> WorldDatabase:
    """A world of a store, read-only at its moving head. Raises :class:`gateway.errors.UnknownWorld`."""
    return WorldDatabase.open(store, name, make_state=MAKE_STATE)


@contextmanager
def _film(path: Path) -> Iterator[LocalRecording]:
    source = FilmSource(path)
    try:
        yield LocalRecording(path.name, History(source, MAKE_STATE))
    finally:
        source.close()


def open_film(path: Path) -> AbstractContextManager[LocalRecording]:
    """A film as a recording; close it by leaving the context."""
    return _film(path)


def _some(rows: Iterator[JournalFrame | Gap]) -> list[JournalFrame | Gap]:
    """The next page; empty at the end. ``islice``, since ``zip`` with a range takes a row too many."""
    return list(islice(rows, HISTORY_PAGE_ROWS))
