"""Commit numbers: never given twice, also across crashes, without a write of their own. Room: store.

A block of numbers is reserved on disk at a time; a restart goes on above the block. The first
number is at least the clock's milliseconds, so that a store restored from a backup does not give
again the versions that its lost future had given.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import apsw

from gateway.errors import StoreError
from gateway.store.embedded.sql import ask

BLOCK: Final = 1 << 16
NUMBER_MAX: Final = (1 << 47) - 1


class Numbers:
    """``last`` is the newest number whose transaction is on disk."""

    def __init__(self, cursor: apsw.Cursor, clock: Callable[[], float]) -> None:
        rows = ask(cursor, "SELECT value FROM meta WHERE name = 'number'")
        self._reserved = rows[0][0] if rows else 0
        self._next = max(self._reserved, int(clock() * 1000), 1)
        # So that the first transaction reserves a block, whatever is left of the last one: it may have been
        # given out.
        self._reserved = 0
        self.last = self._next - 1

    def next(self, cursor: apsw.Cursor) -> int:
        """The next number, inside a transaction that is to use it."""
        number = self._next
        if number >= self._reserved:
            if number + BLOCK > NUMBER_MAX:
                raise StoreError(f"commit numbers are used up at {number}; the clock was centuries ahead")
            cursor.execute("INSERT OR REPLACE INTO meta(name, value) VALUES('number', ?)", (number + BLOCK,))
            self._reserved = number + BLOCK
        self._next = number + 1
        return number
