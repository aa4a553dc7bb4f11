"""What a database may do to whoever opens it: nothing but be read and written. Room: store; apsw enters here.

A database can be made by anybody, and its schema is code: triggers and views run when their tables are
used. Source: SQLite, "Defense Against The Dark Arts" (sqlite.org/security.html), section 1.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import apsw

from gateway.errors import Unprocessable
from gateway.limits import SQL_LOOK_S_MAX, SQL_STEPS_BETWEEN_LOOKS


def harden(connection: apsw.Connection, *, own_code: bool = False) -> None:
    """Let the schema run as little as possible. ``own_code``: triggers and views are wanted, because the
    statements are the user's own. https://sqlite.org/security.html."""
    # No statement may write to sqlite_schema or shadow tables, by which a database is corrupted
    # (sqlite.org/c3ref/c_dbconfig_defensive.html).
    connection.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 1)
    # Views, triggers and generated columns may call only functions that are known to be harmless
    # (sqlite.org/pragma.html#pragma_trusted_schema).
    connection.config(apsw.SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0)
    if not own_code:
        connection.config(apsw.SQLITE_DBCONFIG_ENABLE_TRIGGER, 0)
        connection.config(apsw.SQLITE_DBCONFIG_ENABLE_VIEW, 0)


class Deadline:
    """How long SQLite may work within one transaction. Call :meth:`begin` at each."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.seconds = seconds
        self._clock = clock
        self._worked_s = 0.0
        self._looked_s = 0.0
        self.is_over = False
        """True after it has broken something off, until the next :meth:`begin`."""

    def watch(self, connection: apsw.Connection) -> None:
        """From now on long statements of this connection are broken off. https://sqlite.org/c3ref/progress_handler.html."""
        connection.set_progress_handler(self._look, SQL_STEPS_BETWEEN_LOOKS)

    def begin(self) -> None:
        """A transaction begins."""
        self._worked_s, self._looked_s, self.is_over = 0.0, self._clock(), False

    def _look(self) -> bool:
        now_s = self._clock()
        # Between two looks at most so much counts: a process that was stopped, or starved of its core, did not work
        # meanwhile.
        self._worked_s += min(now_s - self._looked_s, SQL_LOOK_S_MAX)
        self._looked_s = now_s
        self.is_over = self._worked_s > self.seconds
        return self.is_over

    def error(self, key: str) -> Unprocessable:
        """What to tell whose statement was broken off."""
        return Unprocessable(
            f"a statement on database {key!r} kept SQLite at work for over {self.seconds:g} s and was broken off; "
            f'`mvgateway sql {key} "select type, name from sqlite_schema"` shows what is in it'
        )
