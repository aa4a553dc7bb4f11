"""A stretch of a recording into a film or what others read, from rows that come piece by piece. Room: recordings."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

from gateway.recordings.exports import FORMATS, Steps, UnreadRecords, open_export
from gateway.recordings.films import FilmWriter
from gateway.wire.journal import Gap, JournalFrame
from gateway.wire.layouts import Layout

SQLITE = "sqlite"
ALL_FORMATS = (SQLITE, *FORMATS)


class Cut:
    """``with Cut(…) as cut: cut.begin(…); cut.add(item)``: nothing half-written has the file's name. ``values``: of a
    film, with the table ``records``."""

    def __init__(
        self,
        form: str,
        path: Path,
        *,
        world: str,
        stride: int,
        layout: Layout | None,
        now_us: int,
        values: bool = False,
    ) -> None:
        self.frames = self.gaps = 0
        self._steps = Steps()
        self._film: FilmWriter | None = None
        if form == SQLITE:
            self._film = FilmWriter(
                path, world=world, stride=stride, now_us=now_us, layout=layout, values=values
            )
        else:
            self._export = open_export(form, path, world=world, layout=layout)

    def __enter__(self) -> Self:
        (self._film or self._export).__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        (self._film or self._export).__exit__(kind, error, trace)

    def begin(self, messages: Iterable[bytes], epoch: int, tick: int, at_us: int) -> None:
        """The state that it starts from, as a keyframe's messages."""
        if self._film is not None:
            self._film.begin(messages, received_at_us=at_us)
        else:
            self._export.add(self._steps.begin(messages, epoch, tick, at_us))

    def add(self, item: JournalFrame | Gap) -> None:
        """The next frame, gap, or state after lost frames (a keyframe)."""
        if isinstance(item, Gap):
            self.gaps += 1
        else:
            self.frames += not item.keyframe
        if self._film is not None:
            self._film.add(item)
        elif not isinstance(item, Gap) and (step := self._steps.add(item)) is not None:
            self._export.add(step)

    @property
    def unread(self) -> UnreadRecords:
        """Records that the layout could not read: the file has less of them."""
        return (self._film or self._export).unread

    def mark(self, name: str, epoch: int, tick: int, at_us: int, data: str | None) -> None:
        """Take a mark along, where the form has a place for it."""
        if self._film is not None:
            self._film.mark(name, epoch, tick, at_us, data)
        else:
            self._export.mark(name, epoch, tick, at_us)
