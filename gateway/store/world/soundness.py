"""Whether a world's tables are what they are called, and hold nothing that runs by itself. Room: store.

Functions of a connection, within its transaction. Anybody can write to a world by mvSQLite, or bring
one by ``import``.
"""

from __future__ import annotations

import re
from typing import Final

import apsw

from gateway.errors import ForeignSchema, Unprocessable
from gateway.limits import FOREIGN_NAMED_MAX

TABLES: Final = frozenset({"meta", "epochs", "frames", "keyframes", "gaps", "marks", "parts", "home"})
_COMPUTED: Final = re.compile(r"\b(?:CHECK|GENERATED|AS)\b", re.IGNORECASE)
"""In a definition of ours none of these occurs: something is computed for each row."""
_EXPRESSION: Final = re.compile(r"\(.*\(|\bWHERE\b", re.IGNORECASE | re.DOTALL)
"""In an index: more than a list of columns."""


def check_readable(connection: apsw.Connection) -> None:
    """Raise ``Unprocessable`` where a table of a world is something else than a plain table."""
    for kind, name, _, sql in _schema(connection):
        # A view of that name would be asked in the table's place, and could compute anything, for as long
        # as it likes.
        if name in TABLES and (kind != "table" or _is_no_plain_table(sql)):
            raise Unprocessable(
                f"this database is not a world: its {name!r} is no plain table, but {sql[:120]!r}; "
                "open it with sqlite3 or mvSQLite"
            )


def check_writable(connection: apsw.Connection) -> None:
    """Raise ``ForeignSchema`` where something would run by itself at each row that is written."""
    found = [_told(*row) for row in _schema(connection) if _runs_by_itself(*row)]
    if found:
        more = f" and {len(found) - FOREIGN_NAMED_MAX} more" if len(found) > FOREIGN_NAMED_MAX else ""
        raise ForeignSchema(
            f"this database has {', '.join(found[:FOREIGN_NAMED_MAX])}{more}, which would run with what the gateway "
            'writes, so nothing is written to it; it can still be read. `mvgateway sql NAME "DROP …" --write` '
            "takes them away"
        )


def _schema(connection: apsw.Connection) -> list[tuple[str, str, str, str]]:
    query = "SELECT type, name, tbl_name, coalesce(sql, '') FROM sqlite_schema"
    return list(connection.execute(query, can_cache=False))


def _is_no_plain_table(sql: str) -> bool:
    return not re.match(r"CREATE TABLE\b", sql, re.IGNORECASE) or bool(_COMPUTED.search(sql))


def _runs_by_itself(kind: str, name: str, table: str, sql: str) -> bool:
    # Of any table: a view may have triggers (INSTEAD OF), and a trigger on another table may be set off by
    # one on ours.
    if kind in ("trigger", "view"):
        return True
    if table not in TABLES:
        return False
    # An index without SQL is SQLite's own, of a PRIMARY KEY or UNIQUE.
    return _is_no_plain_table(sql) if kind == "table" else bool(sql and _EXPRESSION.search(sql))


def _told(kind: str, name: str, table: str, sql: str) -> str:
    return f"the {kind} {name[:64]!r}" + (f" on {table[:64]!r}" if kind in ("trigger", "index") else "")
