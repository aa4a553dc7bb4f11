"""Exports under their name only when they are whole. Room: recordings."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType
from typing import Self

from gateway.errors import ConfigError, GatewayError
from gateway.givenfiles import can_be_replaced
from gateway.recordings.exports.steps import Step, UnreadRecords


class FilmFailed(GatewayError):
    """The film could not be written: disk full, or no permission."""

    code = "film_failed"
    title = "Film not written"


class Export:
    """Writes steps to a file beside ``path``; leaving the context normally gives it that name, an exception leaves nothing."""

    def __init__(self, path: Path) -> None:
        check_place(path)
        self.path = path
        self.unread = UnreadRecords()
        self.partial = path.with_name(f".{path.name}.partial")

    def __enter__(self) -> Self:
        try:
            self._open()
        except OSError as error:
            self._discard()
            raise self._failed(error) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._finish()
                self._named()
            else:
                self._abandon()
        except OSError as trouble:
            raise self._failed(trouble) from trouble
        finally:
            self._discard()

    def add(self, step: Step) -> None:
        """The next step. Raises :class:`FilmFailed` where the disk does not take it."""
        try:
            self._step(step)
        except OSError as error:
            raise self._failed(error) from error

    def mark(self, name: str, epoch: int, tick: int, at_us: int) -> None:
        """A mark of the recording, where the form has a place for it."""

    def _open(self) -> None:
        raise NotImplementedError

    def _step(self, step: Step) -> None:
        raise NotImplementedError

    def _finish(self) -> None:
        """Write what is left, and close."""
        raise NotImplementedError

    def _abandon(self) -> None:
        """Close what is open; what was written goes."""
        raise NotImplementedError

    def _named(self) -> None:
        to_disk(self.partial)
        os.replace(self.partial, self.path)

    def _discard(self) -> None:
        self.partial.unlink(missing_ok=True)

    def _failed(self, error: OSError) -> FilmFailed:
        return not_written(self.path, error.strerror or error)


def check_place(path: Path) -> None:
    """Raises :class:`ConfigError` where no file of that name can come to be: it is given when all is written, so what
    stands there is replaced, and a folder or a device must not be."""
    if not path.parent.is_dir():
        raise ConfigError(f"no folder {path.parent} for {path.name}")
    if not can_be_replaced(path):
        raise ConfigError(f"{path} is no file that could be replaced; name another by --out")


def not_written(path: Path, why: object) -> FilmFailed:
    """What to raise where the disk did not take it."""
    return FilmFailed(f"{path} was not written ({why}); free some space or choose another place with --out")


def to_disk(path: Path) -> None:
    """A file that was written and closed outlasts a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
