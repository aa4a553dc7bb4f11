"""YCSB workloads A, B, C and F on a SQLite database through the pages VFS. Room: bench.

A table of ``records`` rows of ten fields of 100 bytes; keys by the scrambled Zipfian distribution
(constant 0.99). Source: Cooper et al., "Benchmarking Cloud Serving Systems with YCSB" (2010).
"""

from __future__ import annotations

import bisect
import itertools
import random
import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import apsw

from gateway.store.base import BlockingStore, Namespace
from gateway.store.database import Database

MIXES: Mapping[str, tuple[float, str]] = {
    "A": (0.5, "update"),
    "B": (0.95, "update"),
    "C": (1.0, ""),
    "F": (0.5, "modify"),
}
"""Workload -> (share of reads, what the rest does)."""
FIELDS = 10
FIELD_BYTES = 100
THETA = 0.99
LOAD_ROWS = 500


class Zipfian:
    """Row numbers by a Zipfian distribution, scrambled so that the hot ones are spread."""

    def __init__(self, rows: int, seed: int) -> None:
        self._random = random.Random(seed)
        self._sums = list(itertools.accumulate(1.0 / (n + 1) ** THETA for n in range(rows)))
        self._order = list(range(rows))
        random.Random(99).shuffle(self._order)

    def draw(self) -> int:
        """The next row number, 0 to rows - 1."""
        at = self._random.random() * self._sums[-1]
        return self._order[min(bisect.bisect_left(self._sums, at), len(self._order) - 1)]


def _load(database: Database, rows: int) -> None:
    columns = ", ".join(f"f{n} BLOB" for n in range(FIELDS))

    def create(connection: apsw.Connection) -> int:
        connection.execute(f"CREATE TABLE IF NOT EXISTS usertable (id INTEGER PRIMARY KEY, {columns})")
        return int(connection.execute("SELECT count(*) FROM usertable").get)

    if database.transact(create) >= rows:
        return
    for first in range(0, rows, LOAD_ROWS):
        values = [
            (n, *(random.randbytes(FIELD_BYTES) for _ in range(FIELDS)))
            for n in range(first, min(first + LOAD_ROWS, rows))
        ]
        database.transact(partial(_insert, values=values))


def _insert(connection: apsw.Connection, values: Sequence[tuple[Any, ...]]) -> None:
    marks = ",".join("?" * (FIELDS + 1))
    connection.executemany(f"INSERT OR REPLACE INTO usertable VALUES ({marks})", values)


def _read(connection: apsw.Connection, row: int) -> Any:
    return connection.execute("SELECT * FROM usertable WHERE id = ?", (row,)).fetchone()


def _update(connection: apsw.Connection, row: int) -> Any:
    connection.execute("UPDATE usertable SET f0 = ? WHERE id = ?", (random.randbytes(FIELD_BYTES), row))


def _modify(connection: apsw.Connection, row: int) -> Any:
    _read(connection, row)
    _update(connection, row)


def run_ycsb(store: BlockingStore, settings: Mapping[str, Any]) -> tuple[list[float], dict[str, int]]:
    """Load if need be, then run for ``seconds``; answers each operation's seconds, and counts by kind."""
    database = Database.open(store, Namespace("bench~ycsb"), create=True)
    try:
        _load(database, settings["records"])
        return _run(database, settings)
    finally:
        database.close()


def _run(database: Database, settings: Mapping[str, Any]) -> tuple[list[float], dict[str, int]]:
    read_share, other = MIXES[settings["workload"]]
    rows, choose = Zipfian(settings["records"], 1), random.Random(2)
    change = _modify if other == "modify" else _update
    times: list[float] = []
    counts = {"read_count": 0, "write_count": 0}
    deadline = time.monotonic() + settings["seconds"]
    while (started := time.monotonic()) < deadline:
        row = rows.draw()
        if choose.random() < read_share:
            database.read(partial(_read, row=row))
            counts["read_count"] += 1
        else:
            database.transact(partial(change, row=row))
            counts["write_count"] += 1
        times.append(time.monotonic() - started)
    return times, counts
