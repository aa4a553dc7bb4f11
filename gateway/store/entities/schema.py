"""The tables of entities, as ``docs/SCHEMA.md`` tells them. Room: store."""

from __future__ import annotations

from typing import Final

import apsw

SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS entities (
  id TEXT NOT NULL PRIMARY KEY,
  class TEXT NOT NULL DEFAULT '',
  owner TEXT NOT NULL DEFAULT '',
  tags TEXT NOT NULL DEFAULT '[]',
  kind TEXT NOT NULL CHECK (kind IN ('variant', 'bytes', 'json')),
  state BLOB NOT NULL,
  key INTEGER,
  epoch INTEGER,
  tick INTEGER,
  updated_us INTEGER NOT NULL,
  revision INTEGER NOT NULL,
  ticket TEXT,
  quantity INTEGER NOT NULL DEFAULT 1
);
CREATE UNIQUE INDEX IF NOT EXISTS entities_by_revision ON entities (revision);
CREATE INDEX IF NOT EXISTS entities_by_class ON entities (class, id);
CREATE INDEX IF NOT EXISTS entities_by_owner ON entities (owner, id);
CREATE TABLE IF NOT EXISTS entity_tags (
  tag TEXT NOT NULL, id TEXT NOT NULL, PRIMARY KEY (tag, id)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS entity_removals (
  id TEXT NOT NULL PRIMARY KEY,
  revision INTEGER NOT NULL,
  time_us INTEGER NOT NULL,
  moved_to TEXT
);
CREATE UNIQUE INDEX IF NOT EXISTS entity_removals_by_revision ON entity_removals (revision);
CREATE TABLE IF NOT EXISTS entity_meta (name TEXT NOT NULL PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS entity_leases (
  owner TEXT NOT NULL PRIMARY KEY, token_hash BLOB NOT NULL, expires_us INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS transfers (
  ticket TEXT NOT NULL PRIMARY KEY,
  source TEXT NOT NULL,
  destination TEXT NOT NULL,
  entities TEXT NOT NULL,
  by_owner TEXT NOT NULL,
  offered_us INTEGER NOT NULL,
  expires_us INTEGER NOT NULL,
  state TEXT NOT NULL CHECK (state IN ('offered', 'accepted', 'cancelled', 'expired')),
  ended_us INTEGER
);
CREATE INDEX IF NOT EXISTS transfers_by_time ON transfers (offered_us);
CREATE INDEX IF NOT EXISTS transfers_open ON transfers (expires_us) WHERE state = 'offered';
"""

REVISION: Final = "revision"
"""``entity_meta``: the newest revision given in this database."""

FORGOTTEN: Final = "forgotten"
"""``entity_meta``: removals up to this revision may be missing from ``entity_removals``."""


def is_there(connection: apsw.Connection) -> bool:
    """Whether this database has ever held entities (a read must not make the tables)."""
    return any(connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'entity_meta'"))


def ensure(connection: apsw.Connection) -> None:
    """Make the tables where they are missing (in the caller's transaction)."""
    if not is_there(connection):
        connection.execute(SCHEMA)


def meta(connection: apsw.Connection, name: str) -> int:
    """One number of ``entity_meta``; 0 where it was never set."""
    for (value,) in connection.execute("SELECT value FROM entity_meta WHERE name = ?", (name,)):
        return int(value)
    return 0


def set_meta(connection: apsw.Connection, name: str, value: int) -> None:
    connection.execute("INSERT OR REPLACE INTO entity_meta (name, value) VALUES (?, ?)", (name, value))


def next_revision(connection: apsw.Connection) -> int:
    """Give out the next revision of this database: rising, never given twice."""
    revision = meta(connection, REVISION) + 1
    set_meta(connection, REVISION, revision)
    return revision
