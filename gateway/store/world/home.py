"""Who may write a world's recording: one home a world, decided by commits in its own database. Room: store.

The row of ``home`` holds a *fence*, a counter that each new home raises. A journal's transaction reads it, and its
commit assumes the version at which it did: once another home has raised the fence, the store refuses the
commit as a conflict, the transaction runs again, and finds that the fence is another's. No clock decides
that. The lease says only how long a home may show no sign of life before others take it for dead.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

import apsw

from gateway.errors import WorldHeld
from gateway.limits import HOME_LEASE_MS_MAX, NODE_CHARS_MAX

TABLE: Final = """
CREATE TABLE IF NOT EXISTS home(
  id INTEGER PRIMARY KEY,
  fence INTEGER NOT NULL,
  node TEXT NOT NULL,
  holder TEXT NOT NULL,
  namespace TEXT NOT NULL,
  lease_ms INTEGER NOT NULL,
  beat INTEGER NOT NULL
) STRICT;
"""
"""Made with the first home, so that older folders get it when they are first published to."""
_READ: Final = "SELECT fence, node, holder, namespace, lease_ms, beat FROM home WHERE id = 1"
_THERE: Final = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'home'"


@dataclass(frozen=True, slots=True)
class Holder:
    """A process that may be a world's home. ``node``: the URL at which others reach it. ``place``: what only one
    process at a time can occupy, such as an address that it listens on; ``run``: this process, and no other."""

    node: str
    place: str
    run: str

    @property
    def text(self) -> str:
        """As it stands in the column ``holder``."""
        return f"{self.place}/{self.run}"


class Fence:
    """What a recording is written under, by however many connections: the ``number`` of the home that this process
    is, 0 where it is none any more. None: nobody asks, as in tools that have a world to themselves."""

    __slots__ = ("number",)

    def __init__(self, number: int | None = None) -> None:
        self.number = number


class HomeRow(NamedTuple):
    """The row. ``lease_ms`` 0: the home was given up."""

    fence: int
    node: str
    holder: str
    namespace: str
    lease_ms: int
    beat: int


class Sign(NamedTuple):
    """What another process sees of a world's home: whatever a home does changes it. ``row`` is None where there
    never was one, ``last_seq`` -1 where nothing was recorded, ``epoch`` 0 where none was begun."""

    row: HomeRow | None
    last_seq: int
    epoch: int


def read(connection: apsw.Connection) -> HomeRow | None:
    """The row, if there is one."""
    # Asked of the schema, not found out by an error: a statement that fails within a transaction is not
    # cached, and is an error in the log of whoever watches.
    if connection.execute(_THERE).get is None:
        return None
    row = connection.execute(_READ).fetchone()
    return None if row is None else HomeRow(*row)


def sign(connection: apsw.Connection) -> Sign:
    """What there is to be seen now."""
    last_seq = connection.execute("SELECT max(seq) FROM frames").get
    epoch = connection.execute("SELECT max(epoch) FROM epochs").get
    return Sign(read(connection), -1 if last_seq is None else last_seq, epoch or 0)


def is_free(row: HomeRow | None, namespace: str) -> bool:
    """True where nobody is the home. A row that came with a copy of another database says nothing here."""
    return row is None or row.lease_ms <= 0 or row.namespace != namespace


def lease_s(row: HomeRow) -> float:
    """How long this home may be silent, in seconds."""
    return min(row.lease_ms, HOME_LEASE_MS_MAX) / 1_000


def acquire(
    connection: apsw.Connection,
    holder: Holder,
    namespace: str,
    lease_ms: int,
    judged: Sign | None,
    *,
    world: str,
) -> int:
    """Become the home of ``world``, whose database is ``namespace``: the new fence. ``judged``: what was seen of a
    home that was taken for dead, None where any is taken over. Raises :class:`WorldHeld` where there is another now, or
    that one has stirred."""
    now = sign(connection)
    row = now.row
    # It stirred since it was judged: it lives, whatever its lease says. No clock is compared with another
    # machine's.
    if judged is not None and now != judged and not is_free(row, namespace):
        raise held(world, row)
    # Raised even over a row that is free or another database's: the fence never goes back, or an old home's
    # could fit again.
    known = 0 if row is None else row.fence
    connection.execute(TABLE, can_cache=False)
    connection.execute(
        "REPLACE INTO home(id, fence, node, holder, namespace, lease_ms, beat) VALUES(1, ?, ?, ?, ?, ?, 0)",
        (known + 1, holder.node, holder.text, namespace, lease_ms),
        can_cache=False,
    )
    return known + 1


def seize(connection: apsw.Connection, holder: Holder, namespace: str, lease_ms: int) -> int | None:
    """:func:`acquire` over whoever has it, by its row alone; None where there is none."""
    row = read(connection)
    if row is None:
        return None
    connection.execute(
        # An UPDATE in place of the row that is there: nothing but its own page is read or written.
        "UPDATE home SET fence = ?, node = ?, holder = ?, namespace = ?, lease_ms = ?, beat = 0 WHERE id = 1",
        (row.fence + 1, holder.node, holder.text, namespace, lease_ms),
    )
    return row.fence + 1


def check(connection: apsw.Connection, world: str, fence: int) -> None:
    """Raise :class:`WorldHeld` where ``fence`` is not that of the world's home (any more)."""
    row = read(connection)
    if row is None or row.fence != fence:
        raise held(world, row)


def beat(connection: apsw.Connection) -> None:
    """A sign of life, where the journal gives none."""
    connection.execute("UPDATE home SET beat = beat + 1 WHERE id = 1")


def give_up(connection: apsw.Connection) -> None:
    """Nobody is the home from here on; the fence stays for the next one to raise."""
    connection.execute("UPDATE home SET lease_ms = 0 WHERE id = 1")


def address(row: HomeRow) -> str:
    """Where the home is reached; "" where the row has no usable address."""
    # What stands in a database may be anyone's text, and is given out to clients.
    return row.node if len(row.node) <= NODE_CHARS_MAX else ""


def held(world: str, row: HomeRow | None) -> WorldHeld:
    """The refusal that names the home; one that was given up, or is not known, has no address."""
    node = "" if row is None or row.lease_ms <= 0 else address(row)
    return WorldHeld.at(world, node, 0 if row is None else row.fence)
