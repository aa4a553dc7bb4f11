"""One reader's turns: the newest values of what waits, the most urgent first. Room: core. Pure.

They go as datagrams, so many in a turn and in a row, or by a stream where rows would never do. What is left waits for the next
turn, or for room.
"""

from __future__ import annotations

from enum import Enum, auto

from gateway.core.counters import Counters
from gateway.core.newest import RECORD_BYTES_LEAST, SharedRepairs
from gateway.core.outlet import Outlet
from gateway.core.ports import Refusal
from gateway.core.stale import StaleSet
from gateway.core.state import WorldState
from gateway.core.twice import Twice
from gateway.limits import (
    READER_FLUSH_S,
    REPAIR_MESSAGES_MAX,
    REPAIR_STREAM_BYTES_MAX,
    REPAIR_STREAM_MESSAGE_BYTES,
    TCP_REPAIR_BYTES_MAX,
)


class TurnEnd(Enum):
    """Why a turn sent no more."""

    SERVED = auto()
    """Nothing waits, or as many went as a turn has."""
    HELD = auto()
    """The budget or the row is used up: time will tell when to go on."""
    BLOCKED = auto()
    """The link has no room."""
    CLOSED = auto()
    """The link takes nothing any more."""


class Repairs:
    """What of one reader's ``stale`` goes when."""

    __slots__ = (
        *("_counters", "_outlet", "_row_at", "_row_left", "_rows_since", "_shared", "_stale", "_state"),
        "twice",
    )

    def __init__(
        self,
        state: WorldState,
        stale: StaleSet,
        outlet: Outlet,
        shared: SharedRepairs,
        counters: Counters,
        mono: float,
    ) -> None:
        self._state = state
        self._stale = stale
        self._outlet = outlet
        self._shared = shared
        self._counters = counters
        self.twice: Twice | None = None
        """Told of what a reader on a budget was sent, where it loses."""
        self._row_at, self._row_left = mono, outlet.datagrams_max
        self._rows_since: float | None = None

    def all_served(self) -> None:
        """Nothing waits any more: the rows that come are others."""
        self._rows_since = None

    def serve(self, mono: float) -> TurnEnd:
        """A turn."""
        if self._too_many_wait(mono):
            self._send_stream(mono)
        if mono - self._row_at >= READER_FLUSH_S:
            self._row_at = mono
            if self._rows_since is None:
                self._rows_since = mono
            outlet = self._outlet
            self._row_left = outlet.datagrams_max if outlet.takes_datagrams else REPAIR_MESSAGES_MAX
        for _ in range(min(REPAIR_MESSAGES_MAX, self._row_left)):
            if not self._stale:
                return TurnEnd.SERVED
            end = self._send_one(mono)
            if end is not TurnEnd.SERVED:
                return end
            self._row_left -= 1
        return TurnEnd.HELD if self._stale and not self._row_left else TurnEnd.SERVED

    def _too_many_wait(self, mono: float) -> bool:
        """More newest values wait than should go as datagrams in a row, and a stream is the better way: the link takes all of them
        at once, or rows have not brought them and it takes more than a turn's. Rows alone would never fill such a window, and a
        window that is not filled does not grow (RFC 9002 section 7.8): a world whose frames it nearly holds would stay there."""
        outlet, link = self._outlet, self._outlet.link
        if not outlet.lossy or outlet.budget is not None or outlet.streams:
            return False
        waiting_bytes = len(self._stale) * self._state.record_bytes
        message_bytes = link.message_bytes_max()
        if waiting_bytes <= outlet.datagrams_max * message_bytes:
            return False
        room = link.room_bytes()
        if waiting_bytes <= room:
            return True
        tried = self._rows_since is not None and mono - self._rows_since >= READER_FLUSH_S
        return tried and room > REPAIR_MESSAGES_MAX * message_bytes

    def _send_stream(self, mono: float) -> None:
        """By one stream, as far as the link takes them at once."""
        stale = self._stale
        messages: list[bytes] = []
        keys: list[int] = []
        size_bytes, bytes_max = 0, min(REPAIR_STREAM_BYTES_MAX, self._outlet.link.room_bytes())
        while stale and size_bytes < bytes_max:
            limit = min(REPAIR_STREAM_MESSAGE_BYTES, bytes_max - size_bytes)
            some, message = self._shared.next(stale, limit)
            stale.served(some)
            keys += some
            messages.append(message)
            size_bytes += len(message)
        self._counters.repaired += len(messages)
        self._outlet.send_stream(messages, tuple(keys), size_bytes, mono)

    def _send_one(self, mono: float) -> TurnEnd:
        """One repair message. BLOCKED: no room, or what is most urgent doesn't fit now."""
        outlet, stale = self._outlet, self._stale
        waiting_bytes = len(stale) * RECORD_BYTES_LEAST
        allowed = outlet.allowed(mono, waiting_bytes)
        if allowed <= 0:
            return TurnEnd.HELD
        room = outlet.room(waiting_bytes)
        if room <= 0:
            return TurnEnd.BLOCKED
        # The least of four bounds; only with the last a WebSocket's 64 KiB message would hold everything that
        # waits, and block what is newer.
        limit = int(min(room, allowed, outlet.link.message_bytes_max(), TCP_REPAIR_BYTES_MAX))
        keys, message = self._shared.next(stale, limit)
        if not outlet.takes_datagrams:
            sent = outlet.send_stream([message], keys, len(message), mono) or Refusal.BLOCKED
        elif len(message) <= limit:
            sent = outlet.send(message, keys)
        else:
            sent = outlet.send_large(message, keys, mono)
        if sent is Refusal.TOO_LARGE or sent is Refusal.UNSUPPORTED:
            if sent is Refusal.UNSUPPORTED:
                outlet.only_streams()
            sent = outlet.send_stream([message], keys, len(message), mono) or Refusal.BLOCKED
        if not sent:
            return TurnEnd.CLOSED if sent is Refusal.CLOSED else TurnEnd.BLOCKED
        stale.served(keys)
        self._counters.repaired += 1
        twice = self.twice
        if twice is not None and twice.watch is not None and outlet.budget is not None:
            twice.said(keys, mono)
        return TurnEnd.SERVED
