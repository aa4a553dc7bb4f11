"""Asking SQLite, and giving it many rows at once. Room: store."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any, Final

import apsw

ROWS_PER_CALL: Final = (64, 16, 4, 1)
"""Few sizes, so that each statement stays in the connection's cache."""


def ask(
    cursor: apsw.Cursor | apsw.Connection, query: str, parameters: tuple[apsw.SQLiteValue, ...] = ()
) -> list[Any]:
    """All rows of a query: the statement is finished when this returns, so no read stays open."""
    return cursor.execute(query, parameters).fetchall()


class _Many:
    """A statement over rows of so many values, in few sizes."""

    def __init__(self, before: str, after: str, columns: int) -> None:
        row = "(" + ", ".join("?" * columns) + ")"
        self._queries = {n: f"{before} VALUES {', '.join([row] * n)}{after}" for n in ROWS_PER_CALL}

    def run(self, cursor: apsw.Cursor, rows: Sequence[tuple[apsw.SQLiteValue, ...]]) -> list[Any]:
        """Give it all rows, as many at a call as there is a statement for; what it answers."""
        start, answers = 0, []
        for size in ROWS_PER_CALL:
            while len(rows) - start >= size:
                values = tuple(chain.from_iterable(rows[start : start + size])) if size > 1 else rows[start]
                answers += cursor.execute(self._queries[size], values).fetchall()
                start += size
        return answers


class Insert(_Many):
    """``INSERT`` of rows; ``into`` is all between the verb and the values."""

    def __init__(self, into: str, columns: int) -> None:
        super().__init__(f"INSERT {into}", "", columns)


class Select(_Many):
    """``SELECT columns`` over given rows, named ``v``, joined with what they are looked up in."""

    def __init__(self, what: str, join: str, columns: int) -> None:
        super().__init__(f"SELECT {what} FROM (", f") v {join}", columns)
