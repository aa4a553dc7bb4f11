"""Records with columns in SQL on a world as it is kept: packed rows, read as tables. Room: recordings; apsw enters here.

``records`` has what ``clip --values`` writes; ``state`` a row for each record as it is, or was. They are there for a connection of
ours alone, whatever the store: what a world keeps of its frames is packed, and no SQL unpacks it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import TypeVar

import apsw
import apsw.ext

from gateway.errors import BadInput
from gateway.recordings.exports.steps import Step, Steps
from gateway.recordings.exports.table import HEAD, TABLE, rows_of_step, sql_columns
from gateway.recordings.recording import MAKE_STATE, snapshot_of
from gateway.store.world import History
from gateway.store.world.schema import is_world
from gateway.wire.journal import Gap
from gateway.wire.layouts import Cell, Columns, kept

T = TypeVar("T")
Place = tuple[int, int]
_PLACE = re.compile(r"(?:(\d{1,10}):)?(\d{1,10})")


class _Within:
    """A recording, read in the transaction that the statement runs in."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection

    def read(self, fn: Callable[[apsw.Connection], T]) -> T:
        return fn(self._connection)


def offer(connection: apsw.Connection) -> None:
    """Let statements of this connection read ``records`` and ``state``, in a world that has no table of that name."""
    if not is_world(connection):
        return
    history = History(_Within(connection), MAKE_STATE)
    columns = sql_columns(kept(history.info().layout))
    # A film cut with values has a real table of that name, which stays the one that is read.
    there = {name for (name,) in connection.execute("SELECT lower(name) FROM sqlite_schema")}

    def records(begin: object = None, end: object = None) -> Iterator[tuple[Cell, ...]]:
        for step in _steps(history, _place(history, begin), _place(history, end)):
            yield from rows_of_step(step, columns)

    def state(at: object = None) -> Iterator[tuple[Cell, ...]]:
        place = _place(history, at)
        found = history.last() if place is None else history.state_at_tick(*place, exact=False)
        if found is not None:
            changed = tuple(sorted(found.records().items()))
            step = Step(found.epoch, found.tick, found.received_at_us, changed, whole=True)
            yield from rows_of_step(step, columns)

    for name, rows in ((TABLE, records), ("state", state)):
        if name not in there:
            _make(connection, name, columns, rows)


def _make(
    connection: apsw.Connection, name: str, columns: Columns, rows: Callable[..., Iterator[tuple[Cell, ...]]]
) -> None:
    # Ignored: attributes of a function are how apsw asks for them (apsw.ext.make_virtual_module), and no type of a
    # function has them.
    rows.columns = (*HEAD, *columns.names)  # type: ignore[attr-defined]
    rows.column_access = apsw.ext.VTColumnAccess.By_Index  # type: ignore[attr-defined]
    apsw.ext.make_virtual_module(connection, name, rows, eponymous=True, eponymous_only=True)  # type: ignore[arg-type]


def _steps(history: History, begin: Place | None, end: Place | None) -> Iterator[Step]:
    """With the gateway's own keyframes, which bring what lost frames had."""
    steps = Steps()
    if begin is not None:
        found = history.state_at_tick(*begin, exact=False)
        messages = snapshot_of(found, history.info().stride).messages
        yield steps.begin(messages, found.epoch, found.tick, found.received_at_us)
        # The state has this tick already.
        begin = (begin[0], begin[1] + 1)
    for item in history.frames(begin, end, keyframes=True):
        step = None if isinstance(item, Gap) else steps.add(item)
        if step is not None:
            yield step


def _place(history: History, text: object) -> Place | None:
    """A tick (of the newest epoch), or EPOCH:TICK."""
    if text is None:
        return None
    found = _PLACE.fullmatch(str(text))
    if found is None or any(int(part or 0) > 0xFFFF_FFFF for part in found.groups()):
        raise BadInput(f"{str(text)!r:.60} is neither a tick nor 'EPOCH:TICK'")
    if found[1] is not None:
        return int(found[1]), int(found[2])
    last = history.summary()["last"]
    return (last["epoch"] if last else 0), int(found[2])
