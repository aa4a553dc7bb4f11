"""Removing what nobody can reach: old versions, loose content, deleted namespaces. Room: store.

All of it goes in steps of a few milliseconds, each its own transaction of the writer, so no commit
waits long for it; between steps the writer is free. Doing a step again after a crash is harmless.
Candidates are found on read connections, and each step checks what it removes.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator

from gateway.limits import STORE_COPY_PAUSES_MAX, STORE_STEP_ROWS_MAX, STORE_STEP_S, STORE_SWEEP_ROWS_AT_ONCE
from gateway.store.embedded import versions
from gateway.store.embedded.namespaces import named_row
from gateway.store.embedded.pool import ConnectionPool
from gateway.store.embedded.sql import ask
from gateway.store.embedded.transaction import WriteTxn
from gateway.store.embedded.writer import Writer

Row = tuple[int, int]
"""(page, version)"""
_SCAN = (
    "SELECT page, version FROM page WHERE ns = ?1 AND (page, version) > (?2, ?3) AND version <= ?4"
    " ORDER BY page, version LIMIT ?5"
)
_NEWER = (
    "SELECT page, version FROM page WHERE ns = ?1 AND (page, version) > (?2, ?3) AND version > ?4"
    " ORDER BY page, version LIMIT ?5"
)
_LOOSE = "SELECT hash, blob FROM content WHERE ns = ? AND refs = 0 AND written <= ? LIMIT ?"
_DROP_PAGE = "DELETE FROM page WHERE ns = ? AND page = ? AND version = ? RETURNING hash"
_DROP_CONTENT = "DELETE FROM content WHERE ns = ? AND hash = ?"
_DROP_BLOB = "DELETE FROM blob WHERE id = ?"
_DROP_REFERENCE = "UPDATE content SET refs = refs - 1 WHERE ns = ? AND hash = ?"


def superseded(pool: ConnectionPool, rid: int, mark: int) -> Iterator[list[Row]]:
    """Page versions that a newer one at or below ``mark`` hides, in lists of up to a step's rows."""
    last: Row = (-1, 0)
    while True:
        with pool.cursor() as cursor:
            rows: list[Row] = ask(cursor, _SCAN, (rid, *last, mark, STORE_STEP_ROWS_MAX))
        if not rows:
            return
        # With the last row of the list before: its page may go on in this one. The newest at or below the
        # mark of each page stays.
        chain = [last, *rows] if last[0] >= 0 else rows
        hidden = [old for old, new in itertools.pairwise(chain) if old[0] == new[0]]
        last = rows[-1]
        if hidden:
            yield hidden


def newer(pool: ConnectionPool, rid: int, version: int) -> Iterator[list[Row]]:
    """Page versions above ``version``, in lists of up to a step's rows."""
    last: Row = (-1, 0)
    while True:
        with pool.cursor() as cursor:
            rows: list[Row] = ask(cursor, _NEWER, (rid, *last, version, STORE_STEP_ROWS_MAX))
        if not rows:
            return
        last = rows[-1]
        yield rows


def drop_pages(rid: int, rows: list[Row]) -> Callable[[WriteTxn], int]:
    """A step: remove the last of ``rows`` (and shorten the list) until its time is over; answers how many."""

    def step(txn: WriteTxn) -> int:
        end, count = time.monotonic() + STORE_STEP_S, 0
        while rows:
            # From the end, where a list gives up its last without moving the others.
            some = [(rid, *row) for row in rows[-STORE_SWEEP_ROWS_AT_ONCE:]]
            del rows[-STORE_SWEEP_ROWS_AT_ONCE:]
            # Only what was still there gives a reference back: a step that is done again after a crash must
            # not count twice.
            digests = txn.cursor.executemany(_DROP_PAGE, some).fetchall()
            txn.cursor.executemany(_DROP_REFERENCE, [(rid, digest) for (digest,) in digests])
            count += len(digests)
            if time.monotonic() >= end:
                break
        return count

    return step


def collect(rid: int, before: int) -> Callable[[WriteTxn], int]:
    """A step: remove content without references, last written at ``before`` (Unix seconds) or earlier."""

    def step(txn: WriteTxn) -> int:
        end, count = time.monotonic() + STORE_STEP_S, 0
        rows = ask(txn.cursor, _LOOSE, (rid, before, STORE_STEP_ROWS_MAX))
        while some := rows[
            count : count + STORE_SWEEP_ROWS_AT_ONCE
        ]:  # at least once, however late: 0 says that all is done
            txn.cursor.executemany(_DROP_CONTENT, [(rid, digest) for digest, _ in some])
            txn.cursor.executemany(_DROP_BLOB, [(blob,) for _, blob in some])
            count += len(some)
            if time.monotonic() >= end:
                break
        return count

    return step


def drop_log(rid: int, before: int) -> Callable[[WriteTxn], int]:
    """A step: the change log below ``before``; it holds some hundred entries a namespace."""

    def step(txn: WriteTxn) -> int:
        txn.cursor.execute("DELETE FROM log WHERE ns = ? AND version < ?", (rid, before))
        return txn.cursor.connection.changes()

    return step


def forget_namespace(rid: int) -> Callable[[WriteTxn], int]:
    """The last step of a deletion: the row itself, when nothing refers to it any more."""

    def step(txn: WriteTxn) -> int:
        for table in ("page", "content"):
            if ask(txn.cursor, f"SELECT 1 FROM {table} WHERE ns = ? LIMIT 1", (rid,)):
                return 0
        txn.cursor.execute("DELETE FROM ns WHERE rid = ? AND key IS NULL", (rid,))
        txn.cursor.execute("DELETE FROM meta WHERE name = ?", (named_row(rid),))
        return 1

    return step


def count_loose(pool: ConnectionPool, rid: int, before: int) -> int:
    """How much :func:`collect` would remove."""
    with pool.cursor() as cursor:
        query = "SELECT count(*) FROM content WHERE ns = ? AND refs = 0 AND written <= ?"
        return int(ask(cursor, query, (rid, before))[0][0])


class PacedSteps:
    """Runs steps with a pause after each, at least as long as the step took: half the writer's time
    belongs to commits however much there is to remove. While a full log is being copied they wait:
    removing writes as much as commits do, and would keep the log growing."""

    def __init__(self, writer: Writer, sleep: Callable[[float], object]) -> None:
        self._writer = writer
        self._sleep = sleep

    def run(self, step: Callable[[WriteTxn], int]) -> int:
        """One step; what it answered."""
        for _ in range(STORE_COPY_PAUSES_MAX):
            if not self._writer.copying:
                break
            self._sleep(STORE_STEP_S)
        began = time.monotonic()
        count: int = self._writer.step(step)
        # Half a millisecond at least, or who waits for the turn would seldom get it: the lock is not fair.
        self._sleep(min(max(time.monotonic() - began, 0.0005), STORE_STEP_S))
        return count

    def drain(self, step: Callable[[WriteTxn], int]) -> int:
        """The same step until it finds nothing; how much it removed."""
        total = 0
        while count := self.run(step):
            total += count
        return total

    def pages(self, rid: int, rows: list[Row]) -> int:
        """Remove these page versions; how many there still were."""
        total = 0
        while rows:
            total += self.run(drop_pages(rid, rows))
        return total


def everywhere(pool: ConnectionPool, steps: PacedSteps, writer: Writer, now: int, grace_s: int) -> int:
    """One round: deleted namespaces, content never committed for ``grace_s``, old idempotency records."""
    total = 0
    with pool.cursor() as cursor:
        # No cursor is held while steps run: an open read would keep the log from beginning anew.
        dead = [rid for (rid,) in ask(cursor, "SELECT rid FROM ns WHERE key IS NULL")]
        loose = [rid for (rid,) in ask(cursor, "SELECT DISTINCT ns FROM content WHERE refs = 0")]
    for rid in dead:
        for rows in newer(pool, rid, -1):
            total += steps.pages(rid, rows)
        total += steps.drain(collect(rid, versions.TOP))
        total += steps.run(drop_log(rid, versions.TOP))
        steps.run(forget_namespace(rid))
    for rid in loose:
        total += steps.drain(collect(rid, now - grace_s))
    for bucket in writer.attempts.expired(now):
        total += _drop_bucket(steps, writer, bucket)
    return total


def _drop_bucket(steps: PacedSteps, writer: Writer, bucket: int) -> int:
    total = 0
    while count := steps.run(lambda txn: writer.attempts.drop(txn, bucket, STORE_STEP_ROWS_MAX)):
        total += count
    return total
