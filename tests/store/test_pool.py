"""Read connections lent and given back while the store closes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import apsw
import pytest

from gateway.errors import StoreUnavailable
from gateway.store.embedded import EmbeddedOptions, Engine
from gateway.store.embedded.pool import ConnectionPool


@pytest.fixture
def path(tmp_path: Path) -> Path:
    engine = Engine(tmp_path, options=EmbeddedOptions(background=False))
    engine.close()
    return engine.path


class Snatched(list[apsw.Cursor]):
    """Idle cursors of which another thread takes the last between a look and a grasp."""

    taken: apsw.Cursor | None = None

    def __len__(self) -> int:
        count = super().__len__()
        if count == 1:
            self.taken = super().pop()
        return count

    def __bool__(self) -> bool:
        return len(self) > 0


def test_a_cursor_taken_while_the_pool_closes_does_not_break_the_close(path: Path) -> None:
    pool = ConnectionPool(path)
    # Between two steps of close(), which no thread can be made to hit from outside.
    idle = pool._idle = Snatched([pool.acquire()])
    pool.close()
    if idle.taken is not None:
        pool.give(idle.taken)
    assert list.__len__(idle) == 0
    with pytest.raises(StoreUnavailable):
        pool.acquire()


class GivenLate(list[apsw.Cursor]):
    """A place for idle cursors into which one comes just as the pool closes."""

    def __init__(self, pool: ConnectionPool) -> None:
        super().__init__()
        self._pool: Any = pool

    def append(self, cursor: apsw.Cursor) -> None:
        self._pool.close()
        super().append(cursor)


def test_a_cursor_given_back_as_the_pool_closes_is_closed_too(path: Path) -> None:
    pool = ConnectionPool(path)
    cursor = pool.acquire()
    connection = cursor.connection
    pool._idle = GivenLate(pool)  # likewise within give()
    pool.give(cursor)
    assert not pool._idle
    with pytest.raises(apsw.ConnectionClosedError):
        connection.execute("SELECT 1")
