"""The tables of a world, how they are made and brought up to date. Room: store.

``docs/SCHEMA.md`` describes them for readers with plain SQL: names and meanings are a public
promise, changed only by adding. Times are microseconds since the Unix epoch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, get_args

import apsw

from gateway.errors import BadInput, Unprocessable
from gateway.limits import RING_S_DEFAULT, RING_S_MAX
from gateway.store.world import soundness

APPLICATION_ID: Final = 0x6D76_6777
"""``mvgw`` in ASCII: what ``PRAGMA application_id`` says."""

USER_VERSION: Final = 1

_APPLICATION_ID_AT: Final = slice(68, 72)
"""The file format, section 1.3: ``application_id``, big-endian."""

_TABLES: Final = """
CREATE TABLE meta(
  name TEXT PRIMARY KEY,
  value ANY
) STRICT, WITHOUT ROWID;
CREATE TABLE epochs(
  epoch INTEGER PRIMARY KEY,
  started_at INTEGER NOT NULL,
  ended_at INTEGER
) STRICT;
CREATE TABLE frames(
  seq INTEGER PRIMARY KEY,
  epoch INTEGER NOT NULL,
  tick INTEGER NOT NULL,
  received_at INTEGER NOT NULL,
  sent_at INTEGER NOT NULL,
  keyframe INTEGER NOT NULL,
  codec INTEGER NOT NULL,
  body BLOB NOT NULL
) STRICT;
CREATE TABLE keyframes(
  seq INTEGER PRIMARY KEY REFERENCES frames(seq),
  epoch INTEGER NOT NULL,
  tick INTEGER NOT NULL,
  received_at INTEGER NOT NULL,
  records INTEGER NOT NULL,
  state_hash BLOB NOT NULL
) STRICT;
CREATE INDEX keyframes_by_tick ON keyframes(epoch, tick);
CREATE INDEX keyframes_by_time ON keyframes(received_at);
CREATE TABLE gaps(
  epoch INTEGER NOT NULL,
  from_tick INTEGER NOT NULL,
  to_tick INTEGER NOT NULL,
  reason TEXT NOT NULL,
  PRIMARY KEY(epoch, from_tick, to_tick, reason)
) STRICT, WITHOUT ROWID;
CREATE TABLE marks(
  name TEXT PRIMARY KEY,
  epoch INTEGER NOT NULL,
  tick INTEGER NOT NULL,
  at INTEGER NOT NULL,
  data TEXT
) STRICT, WITHOUT ROWID;
CREATE TABLE parts(
  name TEXT PRIMARY KEY,
  version INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
"""

RetentionMode = Literal["ring", "record"]


@dataclass(frozen=True, slots=True)
class Retention:
    """``ring``: the last ``ring_s`` seconds are kept; ``record``: everything."""

    mode: RetentionMode = "ring"
    ring_s: int = RING_S_DEFAULT

    def __post_init__(self) -> None:
        if self.mode not in get_args(RetentionMode):
            raise BadInput(f"retention {self.mode!r} is unknown; it is 'ring' or 'record'")
        if not 1 <= self.ring_s <= RING_S_MAX:
            raise BadInput(
                f"a ring of {self.ring_s} s is out of bounds; it is 1 to {RING_S_MAX} s: beyond, use 'record'"
            )


@dataclass(frozen=True, slots=True)
class Part:
    """Tables that another room adds to a world's database. ``migrations``: the SQL that leads from
    version i to i + 1; only ever appended to."""

    name: str
    migrations: Sequence[str]


@dataclass(frozen=True, slots=True)
class Parent:
    """Where a branch came from."""

    world: str
    epoch: int
    tick: int


@dataclass(frozen=True, slots=True)
class WorldInfo:
    """What ``meta`` says of a world. ``stride`` 0: records carry their own length."""

    world: str
    stride: int
    retention: Retention
    created_at_us: int
    parent: Parent | None = None
    layout: str | None = None
    """What its records mean, as a JSON text (:mod:`gateway.wire.layouts`)."""


ADDED: Final = Part("world", ())
"""What the tables above have got since worlds were first written, such as ``ALTER TABLE marks ADD COLUMN …``: a world that is
there gets it when it is opened next, a new one right after its tables."""


def is_world(connection: apsw.Connection) -> bool:
    """True where the tables are there; raises ``Unprocessable`` for a foreign or newer database."""
    empty = connection.execute("SELECT count(*) FROM sqlite_schema").get == 0
    if empty:
        return False
    found = connection.execute("PRAGMA application_id", can_cache=False).get
    if found != APPLICATION_ID:
        raise Unprocessable(
            f"this database is not a world: its application_id is {found:#x}, a world's is {APPLICATION_ID:#x}; "
            "open it with sqlite3 or mvSQLite"
        )
    version = connection.execute("PRAGMA user_version", can_cache=False).get
    if version > USER_VERSION:
        raise Unprocessable(
            f"this world was written by a newer version: its schema is {version}, known here is up to "
            f"{USER_VERSION}; use the newer gateway"
        )
    soundness.check_readable(connection)
    return True


def is_worlds_page(first_page: bytes) -> bool:
    """Whether a database's first page is a world's."""
    return int.from_bytes(first_page[_APPLICATION_ID_AT], "big") == APPLICATION_ID


def create(connection: apsw.Connection, info: WorldInfo) -> None:
    """Make the tables and their first row. Within a transaction."""
    connection.execute(
        _TABLES, can_cache=False
    )  # each is run once, and would be kept for as long as the world is open
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}", can_cache=False)
    connection.execute(f"PRAGMA user_version = {USER_VERSION}", can_cache=False)
    write_info(connection, info)


def migrate(connection: apsw.Connection, parts: Sequence[Part]) -> None:
    """Bring these tables and those of other rooms up to date. Within a transaction."""
    for part in (ADDED, *parts):
        have = (
            connection.execute("SELECT version FROM parts WHERE name = ?", (part.name,), can_cache=False).get
            or 0
        )
        for statements in part.migrations[have:]:
            # Not cached: it runs once, and a cached statement stays for as long as the world is open.
            connection.execute(statements, can_cache=False)
        if have < len(part.migrations):
            connection.execute(
                "REPLACE INTO parts(name, version) VALUES(?, ?)", (part.name, len(part.migrations))
            )


def is_current(connection: apsw.Connection, parts: Sequence[Part]) -> bool:
    """True where :func:`migrate` has nothing to do."""
    have = dict(connection.execute("SELECT name, version FROM parts", can_cache=False))
    return all(have.get(part.name, 0) >= len(part.migrations) for part in (ADDED, *parts))


def write_info(connection: apsw.Connection, info: WorldInfo) -> None:
    """Replace the rows of ``meta`` that :func:`read_info` reads."""
    rows = {
        "world": info.world,
        "stride": info.stride,
        "retention": info.retention.mode,
        "ring_s": info.retention.ring_s,
        "created_at": info.created_at_us,
        "parent": info.parent and info.parent.world,
        "parent_epoch": info.parent and info.parent.epoch,
        "parent_tick": info.parent and info.parent.tick,
        # Left out and not NULL, so that worlds without one have the rows that they always had.
        **({} if info.layout is None else {"layout": info.layout}),
    }
    connection.executemany("REPLACE INTO meta(name, value) VALUES(?, ?)", list(rows.items()), can_cache=False)


def write_layout(connection: apsw.Connection, layout: str | None) -> None:
    """Replace the row of ``meta`` that says what records mean."""
    if layout is None:
        connection.execute("DELETE FROM meta WHERE name = 'layout'")
    else:
        connection.execute("REPLACE INTO meta(name, value) VALUES('layout', ?)", (layout,))


def read_info(connection: apsw.Connection) -> WorldInfo:
    """What ``meta`` says. Raises ``Unprocessable`` where it does not say all that it must."""
    meta = dict(connection.execute("SELECT name, value FROM meta", can_cache=False))
    # Anybody can write to these tables (docs/SCHEMA.md), so what is read from them is checked.
    missing = [name for name in ("world", "stride", "retention", "ring_s", "created_at") if name not in meta]
    if missing:
        raise Unprocessable(f"this world's table meta lacks {', '.join(missing)}; it is damaged")
    parent = None
    if meta.get("parent"):
        parent = Parent(meta["parent"], meta["parent_epoch"], meta["parent_tick"])
    return WorldInfo(
        meta["world"],
        meta["stride"],
        Retention(meta["retention"], meta["ring_s"]),
        meta["created_at"],
        parent,
        meta.get("layout"),
    )
