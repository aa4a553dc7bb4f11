"""Read connections, lent to one thread at a time. Room: store."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import apsw

from gateway.errors import StoreUnavailable
from gateway.limits import STORE_READ_CONNECTIONS_KEPT
from gateway.store.embedded import schema
from gateway.store.embedded.failures import translate, translated

T = TypeVar("T")


class ConnectionPool:
    """Opens a connection where none is idle, and keeps at most :data:`STORE_READ_CONNECTIONS_KEPT`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._idle: list[apsw.Cursor] = []
        self._lock = threading.Lock()
        self._closed = False

    @contextlib.contextmanager
    def cursor(self) -> Iterator[apsw.Cursor]:
        """A cursor of a connection of one's own. Finish every statement (``fetchall``) before the end."""
        with translated(self.path):
            cursor = self.acquire()
            try:
                yield cursor
            except BaseException:
                # It may be in the middle of a transaction or a statement; the next one who reads must not
                # inherit that.
                cursor.connection.close(True)
                raise
            self.give(cursor)

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[apsw.Cursor]:
        """The same, with all its reads in one read transaction."""
        with self.cursor() as cursor:
            cursor.execute("BEGIN")
            yield cursor
            cursor.execute("COMMIT")

    def ask(self, question: Callable[[apsw.Cursor], T]) -> T:
        """What ``question`` answers on a cursor; a shorter way than :meth:`cursor` for single look-ups."""
        try:
            cursor = self.acquire()
            try:
                answer = question(cursor)
            except BaseException:
                cursor.connection.close(True)
                raise
        except apsw.Error as error:
            raise translate(error, self.path) from error
        self.give(cursor)
        return answer

    def acquire(self) -> apsw.Cursor:
        """An idle cursor or a new one. Raises what apsw raises; give it back, or close its connection."""
        try:
            # A list's pop() and append() are atomic under the interpreter's lock, so that a read takes none of
            # ours.
            return self._idle.pop()
        except IndexError:
            pass
        if self._closed:
            raise StoreUnavailable("the store is closed")
        return schema.open_reader(self.path).cursor()

    def give(self, cursor: apsw.Cursor) -> None:
        """Back to the idle ones, or closed if those are enough."""
        if self._closed or len(self._idle) >= STORE_READ_CONNECTIONS_KEPT:
            cursor.connection.close(True)
        else:
            self._idle.append(cursor)
            # close() may have emptied the list just before.
            if self._closed:
                self.close()

    def close(self) -> None:
        """Close the idle ones; those lent out close when they come back. Other threads may acquire and give
        meanwhile, so what was there a moment ago may be gone."""
        with self._lock:
            self._closed = True
            while True:
                try:
                    cursor = self._idle.pop()
                except IndexError:
                    return
                cursor.connection.close(True)
