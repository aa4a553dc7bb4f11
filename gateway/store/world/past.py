"""A recording as it was at a time: the same tables, without what was received later. Room: store.

Temporary views stand before the tables of the same names (SQLite looks into ``temp`` first, lang_naming.html), so that
whatever is asked of a recording, now or in a later version, cannot see past them. They end with a row, ``seq``,
since rows are in the order in which they came, whatever the clock said; marks, gaps and epochs with it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

import apsw

from gateway.store.world.history import RowSource

T = TypeVar("T")

_IS_THERE: Final = "SELECT 1 FROM temp.sqlite_schema WHERE name = 'horizon'"
_VIEWS: Final = """
CREATE TEMP TABLE horizon(at INTEGER, seq INTEGER, epoch INTEGER, tick INTEGER);
INSERT INTO horizon VALUES(-1, -1, -1, -1);
CREATE TEMP VIEW frames AS SELECT * FROM main.frames WHERE seq <= (SELECT seq FROM horizon);
CREATE TEMP VIEW keyframes AS SELECT * FROM main.keyframes WHERE seq <= (SELECT seq FROM horizon);
CREATE TEMP VIEW epochs AS SELECT e.epoch AS epoch, e.started_at AS started_at,
    CASE WHEN e.ended_at <= h.at THEN e.ended_at END AS ended_at
  FROM main.epochs AS e, horizon AS h WHERE e.epoch <= h.epoch;
CREATE TEMP VIEW gaps AS SELECT g.epoch AS epoch, g.from_tick AS from_tick,
    CASE WHEN g.epoch = h.epoch THEN min(g.to_tick, h.tick) ELSE g.to_tick END AS to_tick, g.reason AS reason
  FROM main.gaps AS g, horizon AS h WHERE (g.epoch, g.from_tick) <= (h.epoch, h.tick);
CREATE TEMP VIEW marks AS SELECT m.name AS name, m.epoch AS epoch, m.tick AS tick, m.at AS at, m.data AS data
  FROM main.marks AS m, horizon AS h WHERE m.at <= h.at AND (m.epoch, m.tick) <= (h.epoch, h.tick);
"""
# The ``+`` keeps SQLite from the index on received_at (sqlite.org/optoverview.html): rows newest first by their
# number end at the first that fits.
_KEYFRAME: Final = "SELECT seq FROM main.keyframes WHERE +received_at <= ? ORDER BY seq DESC LIMIT 1"
_FIRST_LATER: Final = "SELECT seq FROM main.frames WHERE seq >= ? AND received_at > ? ORDER BY seq LIMIT 1"
_SET: Final = "UPDATE temp.horizon SET at = ?, seq = ?, epoch = ?, tick = ?"
_NEWEST: Final = (
    "SELECT epoch, tick FROM main.frames WHERE seq BETWEEN ? AND ? ORDER BY epoch DESC, tick DESC LIMIT 1"
)


class Past:
    """A :class:`~gateway.store.world.history.Source` that knows nothing received after ``until_us`` (µs since 1970).
    The connection of ``source`` is used for this alone."""

    def __init__(self, source: RowSource, until_us: int) -> None:
        self._source = source
        self._until_us = until_us

    def read(self, fn: Callable[[apsw.Connection], T]) -> T:
        """``fn(connection)`` on one snapshot of what there was."""

        def look_back(connection: apsw.Connection) -> T:
            if connection.execute(_IS_THERE).get is None:
                connection.execute(_VIEWS)
            # For each question anew: the recording has grown, or lost its beginning, since the last.
            connection.execute(_SET, (self._until_us, *horizon(connection, self._until_us)))
            return fn(connection)

        return self._source.read(look_back)


def horizon(connection: apsw.Connection, until_us: int) -> tuple[int, int, int]:
    """(seq, epoch, tick) of the last row that had come by ``until_us``, all of them -1 before the first. Reads the
    keyframes since, newest first, and the times of one interval: whatever stands before a row that had come by then
    had come as well, also where its own time says otherwise, because the clock was set back."""
    first = connection.execute("SELECT min(seq) FROM main.frames").get
    start = connection.execute(_KEYFRAME, (until_us,)).get
    # No keyframe had come by then: the first row is where the search begins, if there is one.
    if start is None:
        start = first
    later = None if start is None else connection.execute(_FIRST_LATER, (start, until_us)).get
    last = connection.execute("SELECT max(seq) FROM main.frames").get if later is None else later - 1
    if start is None or last is None or last < start:
        return -1, -1, -1
    ((epoch, tick),) = connection.execute(_NEWEST, (start, last))
    return last, epoch, tick
