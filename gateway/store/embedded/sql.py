"""One helper for asking SQLite. Room: store."""

from __future__ import annotations

from typing import Any

import apsw


def ask(cursor: apsw.Cursor | apsw.Connection, query: str, parameters: tuple[Any, ...] = ()) -> list[Any]:
    """All rows of a query: the statement is finished when this returns, so no read stays open."""
    return cursor.execute(query, parameters).fetchall()
