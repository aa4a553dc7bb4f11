"""The tables of a store folder, and how its SQLite file is opened. Room: store.

``store.sqlite`` holds every namespace: SQLite in WAL mode, ``synchronous=FULL`` at the writer,
so that a commit is answered after the fsync of the log. Tables:

* ``meta``: the numbers reserved, and ``named:RID``, the version at which a namespace was renamed.
* ``ns``: one row a namespace; ``key`` NULL marks a deleted one whose rows are still being removed.
* ``page``: (namespace, page, version) -> the content's hash and where it lies.
* ``content``: (namespace, hash) -> blob id, how many page rows refer to it, when it was last
  written ahead of a commit (0: never; Unix seconds).
* ``blob``: the bytes, raw (``enc`` 0) or one zstd frame (``enc`` 1).
* ``log``: the newest commits of each namespace: the pages changed (u32 little-endian each;
  NULL for 500 or more) and the attempt's key.
* ``attempt``: idempotency keys in buckets by age, so that old ones go as a whole.
* ``moment``: the time keeper's points.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import apsw

from gateway.errors import ConfigError
from gateway.limits import (
    STORE_BUSY_TIMEOUT_MS,
    STORE_READER_CACHE_KIB,
    STORE_WAL_KEEP_BYTES,
    STORE_WRITER_CACHE_KIB,
)
from gateway.store.embedded.sql import ask

FILE_NAME: Final = "store.sqlite"
APPLICATION_ID: Final = 0x6D767374
"""``mvst``, in SQLite's header: tells a store from any other SQLite file."""
FORMAT: Final = 1


_TABLES: Final = """
CREATE TABLE meta(name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE ns(
  rid INTEGER PRIMARY KEY, key TEXT UNIQUE, id INTEGER NOT NULL UNIQUE, floor INTEGER,
  base INTEGER, snapshot INTEGER, truncated INTEGER NOT NULL DEFAULT 0,
  lock_owner TEXT, lock_snapshot INTEGER, lock_nonce TEXT, rolling_back INTEGER NOT NULL DEFAULT 0,
  metadata TEXT);
CREATE INDEX ns_base ON ns(base) WHERE base IS NOT NULL;
CREATE TABLE page(ns INTEGER, page INTEGER, version INTEGER, hash BLOB NOT NULL, blob INTEGER NOT NULL,
  PRIMARY KEY(ns, page, version)) WITHOUT ROWID;
CREATE TABLE content(ns INTEGER, hash BLOB, blob INTEGER NOT NULL, refs INTEGER NOT NULL, written INTEGER NOT NULL,
  PRIMARY KEY(ns, hash)) WITHOUT ROWID;
CREATE INDEX content_loose ON content(ns, written) WHERE refs = 0;
CREATE TABLE blob(id INTEGER PRIMARY KEY, enc INTEGER NOT NULL, data BLOB NOT NULL);
CREATE TABLE log(ns INTEGER, version INTEGER, attempt BLOB NOT NULL, pages BLOB,
  PRIMARY KEY(ns, version)) WITHOUT ROWID;
CREATE TABLE bucket(id INTEGER PRIMARY KEY, began INTEGER NOT NULL);
CREATE TABLE attempt(bucket INTEGER, key BLOB, version INTEGER NOT NULL, PRIMARY KEY(bucket, key)) WITHOUT ROWID;
CREATE TABLE moment(time INTEGER PRIMARY KEY, version INTEGER NOT NULL);
"""


def create_or_verify(con: apsw.Connection, path: Path) -> None:
    """Make the tables in an empty file. Raises :class:`ConfigError` for a file that is not a store of ours."""
    empty = not ask(con, "SELECT 1 FROM sqlite_schema LIMIT 1")
    # An empty file that bears another program's mark is that program's, which has not begun yet.
    if empty and ask(con, "PRAGMA application_id")[0][0] == 0:
        with con:
            con.execute(_TABLES)
            con.execute(f"PRAGMA application_id={APPLICATION_ID}")
            con.execute(f"PRAGMA user_version={FORMAT}")
    else:
        verify(con, path)


def verify(con: apsw.Connection, path: Path) -> None:
    """Raises :class:`ConfigError` for a file that is not a store of ours, or not of this format.
    https://sqlite.org/pragma.html#pragma_application_id."""
    if ask(con, "PRAGMA application_id")[0][0] != APPLICATION_ID:
        raise ConfigError(
            f"{path} is a SQLite file but not a store; name another folder with --store, or, if it was one, get "
            "out what can be read with `mvgateway store salvage DIR --to NEWDIR`"
        )
    version = ask(con, "PRAGMA user_version")[0][0]
    if version != FORMAT:
        raise ConfigError(
            f"{path} has store format {version}, this gateway reads format {FORMAT}; use a matching release"
        )


def open_writer(path: Path) -> apsw.Connection:
    """The one connection that writes: WAL, every commit synced, checkpoints left to the background.
    https://sqlite.org/wal.html."""
    con = apsw.Connection(str(path))
    con.set_busy_timeout(STORE_BUSY_TIMEOUT_MS)
    # Before journal_mode: in WAL mode the size can no longer be changed.
    con.execute("PRAGMA page_size=4096")
    con.execute("PRAGMA journal_mode=WAL")
    # FULL syncs the log at each commit; NORMAL would sync it at checkpoints only, and lose answered commits with the power
    # (https://www.sqlite.org/pragma.html#pragma_synchronous).
    con.execute("PRAGMA synchronous=FULL")
    # Or every thousandth page makes some commit copy the log into the file before it is answered.
    con.execute("PRAGMA wal_autocheckpoint=0")
    con.execute(f"PRAGMA journal_size_limit={STORE_WAL_KEEP_BYTES}")
    con.execute(f"PRAGMA cache_size=-{STORE_WRITER_CACHE_KIB}")
    return con


def open_reader(path: Path) -> apsw.Connection:
    """A connection that only reads; in WAL mode it neither waits for the writer nor holds it up.
    https://sqlite.org/wal.html."""
    # Not READONLY: who reads in WAL mode writes its mark into the -shm file
    # (https://sqlite.org/wal.html#read_only_databases).
    con = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
    con.set_busy_timeout(STORE_BUSY_TIMEOUT_MS)
    con.execute("PRAGMA query_only=1")
    con.execute(f"PRAGMA cache_size=-{STORE_READER_CACHE_KIB}")
    return con
