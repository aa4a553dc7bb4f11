"""Films: a stretch of a recording as one self-contained SQLite file. Room: recordings.

The tables are a world's own (``docs/SCHEMA.md``); the first row is a keyframe. A film is written
beside its final name and renamed when it is whole, so that nothing half-written ever has that name.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import apsw

from gateway import limits
from gateway.core.state import WorldState
from gateway.recordings.exports.steps import Step, Steps, UnreadRecords
from gateway.recordings.exports.table import RecordTable
from gateway.recordings.exports.whole import FilmFailed, check_place, not_written, to_disk
from gateway.store.world import schema, writing
from gateway.store.world.schema import Retention, WorldInfo
from gateway.wire import decode_frame, split
from gateway.wire.framecodec import FrameEncoder
from gateway.wire.journal import Gap, JournalFrame
from gateway.wire.layouts import Layout


class FilmWriter:
    """Writes a film. ``with FilmWriter(path, ...) as film: film.begin(messages, ...); film.add(row)``.

    Leaving the context normally puts the file under its name; an exception leaves nothing.
    """

    def __init__(
        self,
        path: Path,
        *,
        world: str,
        stride: int,
        now_us: int,
        layout: Layout | None = None,
        values: bool = False,
    ) -> None:
        """``values``: with the table ``records`` of values by field."""
        check_place(path)
        self.path = path
        self.rows = 0
        self._partial = path.with_name(f".{path.name}.partial")
        self._info = WorldInfo(
            world, stride, Retention("record"), now_us, layout=None if layout is None else layout.text()
        )
        self._state = WorldState()
        self._encoder = FrameEncoder()
        self._keyframe_at_us = 0
        self._epochs: set[int] = set()
        self._connection: apsw.Connection | None = None
        self._layout = layout
        self._steps = Steps() if values else None
        self._table: RecordTable | None = None

    def __enter__(self) -> Self:
        self._partial.unlink(missing_ok=True)
        try:
            with self._told():
                self._begin()
        except BaseException:
            # Python calls no __exit__ for what could not be entered.
            if self._connection is not None:
                self._connection.close(True)
            self._partial.unlink(missing_ok=True)
            raise
        return self

    def _begin(self) -> None:
        connection = self._connection = apsw.Connection(str(self._partial))
        # No journal: a film that breaks off is thrown away, so there is nothing to roll back to.
        connection.execute("PRAGMA journal_mode = OFF")
        connection.execute("BEGIN")
        schema.create(connection, self._info)
        if self._steps is not None:
            self._table = RecordTable(connection, self._layout)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        connection, self._connection = self._connection, None
        assert connection is not None
        try:
            if kind is None:
                with self._told():
                    if self._table is not None:
                        self._table.index()
                    connection.execute("COMMIT")
                    connection.close()
                    # To disk before the rename: a power cut could leave the name without the bytes.
                    to_disk(self._partial)
                    os.replace(self._partial, self.path)
        finally:
            # Forced, and closed twice where all went well, which apsw allows.
            connection.close(True)
            self._partial.unlink(missing_ok=True)

    def begin(self, messages: Iterable[bytes], *, received_at_us: int) -> None:
        """The state that the film starts from, as a keyframe's messages."""
        messages = tuple(messages)
        for message in messages:
            self._state.apply(decode_frame(message))
        if self._steps is not None:
            self._valued(self._steps.begin(messages, self._state.epoch, self._state.tick, received_at_us))
        self._put(self._keyframe(received_at_us))

    def add(self, item: JournalFrame | Gap) -> None:
        """The next frame or gap; a keyframe is set in every second of the recording."""
        if isinstance(item, Gap):
            self._write([], [item])
            return
        if self._steps is not None:
            self._valued(self._steps.add(item))
        for message in item.messages:
            self._state.apply(decode_frame(message))
        if not self.rows or item.received_at_us - self._keyframe_at_us >= limits.FILM_KEYFRAME_EVERY_US:
            # The frame as it came, then the state after it: replaying needs no keyframe, jumping does.
            if self.rows:
                self._put(self._numbered(item))
            self._put(self._keyframe(item.received_at_us))
        else:
            self._put(self._numbered(item))

    def state(self) -> tuple[bytes, ...]:
        """The state after what was added last, as a keyframe's messages: where the next film begins."""
        return tuple(split(self._state.keyframe(), limits.WEBSOCKET_MESSAGE_BYTES_MAX))

    @property
    def unread(self) -> UnreadRecords:
        """What the table of values has empty cells for; nothing, in a film without one."""
        return UnreadRecords() if self._table is None else self._table.unread

    def mark(self, name: str, epoch: int, tick: int, at_us: int, data: str | None) -> None:
        """Take a mark along."""
        assert self._connection is not None
        with self._told():
            writing.set_mark(self._connection, name, epoch, tick, at_us, data)

    def _valued(self, step: Step | None) -> None:
        if step is not None and self._table is not None:
            with self._told():
                self._table.add(step)

    def _numbered(self, frame: JournalFrame) -> JournalFrame:
        return JournalFrame(
            self.rows,
            frame.epoch,
            frame.tick,
            frame.received_at_us,
            frame.sent_at_us,
            False,
            frame.messages,
        )

    def _keyframe(self, at_us: int) -> JournalFrame:
        self._keyframe_at_us = at_us
        state = self._state
        messages = tuple(split(state.keyframe(), limits.WEBSOCKET_MESSAGE_BYTES_MAX))
        return JournalFrame(self.rows, state.epoch, state.tick, at_us, at_us, True, messages)

    def _put(self, frame: JournalFrame) -> None:
        self._write([frame], [])
        self.rows += 1
        if frame.epoch not in self._epochs and self._connection is not None:
            self._epochs.add(frame.epoch)
            self._connection.execute(
                "INSERT OR IGNORE INTO epochs(epoch, started_at) VALUES(?, ?)",
                (frame.epoch, frame.received_at_us),
            )

    def _write(self, frames: list[JournalFrame], gaps: list[Gap]) -> None:
        assert self._connection is not None
        with self._told():
            if not writing.write(self._connection, writing.pack(self._encoder, frames, gaps)):
                raise FilmFailed(
                    f"{self.path} was not written: the recording gives two frames the number of one row"
                )

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except (apsw.FullError, apsw.IOError, apsw.CantOpenError, apsw.ReadOnlyError, OSError) as error:
            raise not_written(self.path, error) from error
