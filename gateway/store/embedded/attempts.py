"""Idempotency records: which attempt became which version. Room: store.

A record is (attempt key, first namespace) -> version, kept for a day in buckets: a new bucket
each hour or when one is full, and whole buckets go when they are old. So there is no index by
age to keep up with every commit; a retry looks in every bucket, which is rare. Source: docs/STORE.md.
"""

from __future__ import annotations

import apsw

from gateway.limits import (
    STORE_ATTEMPT_BUCKET_KEYS_MAX,
    STORE_ATTEMPT_BUCKET_S,
    STORE_ATTEMPT_BUCKETS_MAX,
    STORE_ATTEMPT_KEPT_S,
)
from gateway.store.embedded.sql import ask
from gateway.store.embedded.transaction import WriteTxn


class Attempts:
    """The buckets, newest last. Used by the writer only."""

    def __init__(self, cursor: apsw.Cursor) -> None:
        # What is kept here may be ahead of the disk within a transaction; one that fails has all of it read
        # anew (Writer._open).
        self._buckets: list[tuple[int, int]] = ask(cursor, "SELECT id, began FROM bucket ORDER BY id")
        self._count = STORE_ATTEMPT_BUCKET_KEYS_MAX
        if self._buckets:
            newest = (self._buckets[-1][0],)
            self._count = ask(cursor, "SELECT count(*) FROM attempt WHERE bucket = ?", newest)[0][0]

    def record(self, txn: WriteTxn, attempt: bytes, rid: int, version: int) -> None:
        """Remember the attempt; an empty key means that it will not be made again."""
        if not attempt:
            return
        if (
            self._count >= STORE_ATTEMPT_BUCKET_KEYS_MAX
            or txn.now - self._buckets[-1][1] >= STORE_ATTEMPT_BUCKET_S
        ):
            self._roll(txn)
        self._count += 1
        txn.put_attempt(self._buckets[-1][0], attempt + rid.to_bytes(8, "big"), version)

    def find(self, txn: WriteTxn, attempt: bytes, rid: int) -> int | None:
        """The version that the attempt became, or None."""
        txn.flush()
        key = attempt + rid.to_bytes(8, "big")
        # The newest first: a retry comes within seconds.
        for bucket, _ in reversed(self._buckets):
            rows = ask(txn.cursor, "SELECT version FROM attempt WHERE bucket = ? AND key = ?", (bucket, key))
            if rows:
                return int(rows[0][0])
        return None

    def expired(self, now: int) -> list[int]:
        """Buckets that may go: all in them is over a day old, or there are too many."""
        extra = len(self._buckets) - STORE_ATTEMPT_BUCKETS_MAX
        return [
            b
            # Never the newest, to which the next commit writes.
            for n, (b, began) in enumerate(self._buckets[:-1])
            if n < extra or began + STORE_ATTEMPT_BUCKET_S + STORE_ATTEMPT_KEPT_S < now
        ]

    def drop(self, txn: WriteTxn, bucket: int, count: int) -> int:
        """Remove up to ``count`` records of an expired bucket, then the bucket; how many went (0: all have)."""
        some = "SELECT key FROM attempt WHERE bucket = ? LIMIT ?"
        txn.cursor.execute(
            f"DELETE FROM attempt WHERE bucket = ? AND key IN ({some})", (bucket, bucket, count)
        )
        gone = txn.cursor.connection.changes()
        # In a step of its own, once no record is left: the bucket's row is how a restart finds what is
        # still to be removed.
        if not gone:
            txn.cursor.execute("DELETE FROM bucket WHERE id = ?", (bucket,))
            self._buckets = [each for each in self._buckets if each[0] != bucket]
        return gone

    def _roll(self, txn: WriteTxn) -> None:
        bucket = self._buckets[-1][0] + 1 if self._buckets else 1
        txn.cursor.execute("INSERT OR REPLACE INTO bucket(id, began) VALUES(?, ?)", (bucket, txn.now))
        self._buckets.append((bucket, txn.now))
        self._count = 0
