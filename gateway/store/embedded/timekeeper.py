"""Which version was newest at which time: a point every five seconds. Room: store. Source: docs/STORE.md."""

from __future__ import annotations

from collections.abc import Callable

from gateway.limits import STORE_MOMENTS_MAX, STORE_MOMENTS_TRIM_EVERY, STORE_STEP_ROWS_MAX
from gateway.store.embedded.sql import ask
from gateway.store.embedded.transaction import WriteTxn
from gateway.store.embedded.writer import Writer

_TRIM = (
    "DELETE FROM moment WHERE time IN (SELECT time FROM moment ORDER BY time LIMIT "
    "min(?, max(0, (SELECT count(*) FROM moment) - ?)))"
)


class TimeKeeper:
    """While nothing is committed the newest point is moved along, so an idle store does not grow."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._jobs = -1
        self._still = False
        self._calls = 0

    def keep(self, now: int) -> None:
        """Record that every version so far was committed by ``now`` (Unix seconds). A clock that was
        set back records nothing until it has caught up: points never contradict each other."""
        jobs = self._writer.counters["jobs"]
        idle = jobs == self._jobs
        # Still for two looks in a row: the point at which the last commit was seen stays, and only the one
        # behind it moves.
        self._writer.step(_record(now, move=idle and self._still))
        self._jobs, self._still = jobs, idle
        self._calls += 1
        if self._calls % STORE_MOMENTS_TRIM_EVERY == 0:
            self._writer.step(
                lambda txn: txn.cursor.execute(_TRIM, (STORE_STEP_ROWS_MAX * 16, STORE_MOMENTS_MAX))
            )


def _record(now: int, *, move: bool) -> Callable[[WriteTxn], None]:
    def step(txn: WriteTxn) -> None:
        newest = ask(txn.cursor, "SELECT max(time) FROM moment")[0][0]
        if newest is not None and newest >= now:
            return
        if move and newest is not None:
            txn.cursor.execute("DELETE FROM moment WHERE time = ?", (newest,))
        txn.cursor.execute("INSERT INTO moment(time, version) VALUES(?, ?)", (now, txn.next_version()))

    return step
