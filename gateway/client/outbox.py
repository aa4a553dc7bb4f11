"""What a publisher still owes the gateway: the newest value of each record, never an old one.

Room: client. Pure. A datagram's fate comes back by its token (``docs/FRAMES.md``, Loss): a lost one
marks those of its records stale whose newest value it carried; the next frame repairs them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import NamedTuple

from gateway import limits


class Value(NamedTuple):
    """A record's newest value and the tick that set it; ``data`` None: removed."""

    tick: int
    data: bytes | None


class Outbox:
    """Newest values, which of them are stale at the gateway, and what is in flight."""

    def __init__(self) -> None:
        self._values: dict[int, Value] = {}
        self._stale: dict[int, None] = {}
        self._in_flight: dict[int, tuple[tuple[int, int], ...]] = {}
        self._next_token = 1

    @property
    def stale(self) -> int:
        """How many records wait for a repair."""
        return len(self._stale)

    def stale_data(self) -> Iterator[bytes | None]:
        """The newest bytes of the records that wait for a repair, longest waiting first."""
        return (self._values[key].data for key in self._stale)

    @property
    def in_flight(self) -> int:
        return len(self._in_flight)

    def put(self, records: Mapping[int, bytes | None], tick: int) -> None:
        """Take a frame's records as the newest values; they are on their way from here on."""
        for key, data in records.items():
            self._values[key] = Value(tick, data)
            # Its old value need not be repaired any more: a newer one is on its way.
            self._stale.pop(key, None)

    def replace(self, records: Mapping[int, bytes | None], tick: int) -> None:
        """Take a keyframe: what is not in it is gone."""
        self._values.clear()
        self._stale.clear()
        self.put(records, tick)

    def adopt(self, records: Mapping[int, bytes | None], tick: int) -> None:
        """Others have set these at the gateway: they are the newest values, and it has them."""
        for key, data in records.items():
            self._stale.pop(key, None)
            if data is None:
                self._values.pop(key, None)
            else:
                self._values[key] = Value(tick, data)

    def token_for(self, keys: Iterable[int]) -> int:
        """A token for a datagram that carries the newest values of ``keys``."""
        token, self._next_token = self._next_token, self._next_token + 1
        self._in_flight[token] = tuple((key, self._values[key].tick) for key in keys if key in self._values)
        if len(self._in_flight) > limits.CLIENT_TOKENS_MAX:
            # The oldest counts as lost: at worst its records go once more.
            self.on_lost(next(iter(self._in_flight)))
        return token

    def on_acked(self, token: int) -> None:
        """The datagram arrived; a removal that arrived needs no memory any more."""
        for key, tick in self._in_flight.pop(token, ()):
            # Of that very removal: a record that was set again since has another tick.
            if self._values.get(key) == Value(tick, None):
                del self._values[key]

    def on_lost(self, token: int) -> None:
        """The datagram is lost: stale are those of its records that nothing newer has replaced."""
        for key, tick in self._in_flight.pop(token, ()):
            value = self._values.get(key)
            if value is not None and value.tick == tick:
                self._stale[key] = None

    def take_stale(self, count: int) -> dict[int, Value]:
        """Up to ``count`` stale records, longest waiting first, with their newest values; they count
        as on their way from here on."""
        keys = list(islice(self._stale, count))
        for key in keys:
            del self._stale[key]
        return {key: self._values[key] for key in keys}

    def mark_stale(self, keys: Iterable[int]) -> None:
        """These could not go out; the newest values of them will."""
        self._stale.update((key, None) for key in keys if key in self._values)

    def clear_stale(self) -> None:
        """A keyframe is on its way, with everything in it."""
        self._stale = {key: None for key in self._stale if self._values[key].data is None}

    def live_values(self) -> dict[int, Value]:
        """Every live record with the tick that set it: a keyframe's rows."""
        return {key: value for key, value in self._values.items() if value.data is not None}

    def live(self) -> dict[int, bytes]:
        """key → newest bytes of every live record."""
        return {key: value.data for key, value in self._values.items() if value.data is not None}

    def link_lost(self) -> None:
        """The connection is gone, and with it every token; a keyframe will say it all anew."""
        self._in_flight.clear()
        self._stale.clear()
        # Removals are not said again: the keyframe has no such records, which says the same.
        self._values = {key: value for key, value in self._values.items() if value.data is not None}
