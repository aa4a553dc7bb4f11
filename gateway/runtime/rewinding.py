"""Where a replay goes when it steps or runs backwards. Room: runtime.

Frames only say what changed, so going back takes the states themselves: those of one keyframe
interval are worked out together, and given in reverse. Runs on the world's reading thread.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple, cast

import apsw

from gateway import limits
from gateway.core.state import WorldState
from gateway.errors import NothingRecorded
from gateway.store.world import History, reading
from gateway.store.world.history import apply_row
from gateway.wire import split

Place = tuple[int, int]


class Shown(NamedTuple):
    """A state ready to be sent: where, when (microseconds since 1970), its keyframe's messages."""

    place: Place
    media_us: int
    messages: tuple[bytes, ...]


def keyframe_messages(state: WorldState) -> tuple[bytes, ...]:
    """The state as a keyframe's messages, below every link's bound."""
    return tuple(split(state.keyframe(), limits.WEBSOCKET_MESSAGE_BYTES_MAX))


def beginning(history: History) -> Place:
    """The first recorded (epoch, tick). Raises :class:`NothingRecorded`."""
    first = history.source.read(reading.first_row)
    if first is None:
        raise NothingRecorded("nothing was recorded yet; publish to the world first")
    return first.epoch, first.tick


def states_before(history: History, place: Place) -> list[Shown]:
    """The states of the ticks before ``place``, oldest first: those since the keyframe before it,
    as many of the newest as fit ``REPLAY_REWIND_BYTES_MAX``. Empty at the beginning."""
    return history.source.read(lambda connection: _states_before(connection, history, place))


def _states_before(connection: apsw.Connection, history: History, place: Place) -> list[Shown]:
    query = "SELECT max(seq) FROM keyframes WHERE (epoch, tick) < (?, ?)"
    start = connection.execute(query, place).get
    first = reading.first_row(connection)
    if start is None:
        start = first.seq if first else 0
    state = cast(WorldState, history.make_state())
    kept: deque[Shown] = deque()
    size, at, media_us = 0, None, 0
    for row in reading.rows(connection, start):
        here = (row.epoch, row.tick)
        if at is not None and here > at:
            size = _keep(kept, Shown(at, media_us, keyframe_messages(state)), size)
        if here >= place:
            return list(kept)
        apply_row(state, row)
        at, media_us = max(at or here, here), row.received_at_us
    if at is not None and at < place:
        _keep(kept, Shown(at, media_us, keyframe_messages(state)), size)
    return list(kept)


def _keep(kept: deque[Shown], shown: Shown, size: int) -> int:
    kept.append(shown)
    size += sum(map(len, shown.messages))
    while size > limits.REPLAY_REWIND_BYTES_MAX and len(kept) > 1:
        size -= sum(map(len, kept.popleft().messages))
    return size


def neighbour(history: History, place: Place, ticks: int) -> Place:
    """The recorded (epoch, tick) so many ticks before or after ``place``; the first or last one where
    there are fewer."""
    return history.source.read(lambda connection: _neighbour(connection, place, ticks))


def _neighbour(connection: apsw.Connection, place: Place, ticks: int) -> Place:
    """Scans rows from the nearest keyframe, so that a step costs the same anywhere in an hour."""
    if ticks >= 0:
        start = reading.keyframe_at_tick(connection, *place)
        query = "SELECT epoch, tick FROM frames WHERE seq >= ? AND keyframe = 0 ORDER BY seq"
        bound = start.seq if start else 0
    else:
        newer = "SELECT min(seq) FROM keyframes WHERE (epoch, tick) > (?, ?)"
        query = "SELECT epoch, tick FROM frames WHERE seq <= ? AND keyframe = 0 ORDER BY seq DESC"
        bound = connection.execute(newer, place).get or reading.ORDER_MAX
    at = place
    for epoch, tick in connection.execute(query, (bound,)):
        if ticks and ((epoch, tick) > at if ticks > 0 else (epoch, tick) < at):
            at, ticks = (epoch, tick), ticks - (1 if ticks > 0 else -1)
        if not ticks:
            break
    return at
