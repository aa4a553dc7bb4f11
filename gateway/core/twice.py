"""One reader's messages said twice: whether its path asks for it, and what goes. Room: core. Pure.

When is :mod:`gateway.core.again`'s affair, whether :mod:`gateway.core.redundancy`'s.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Protocol

from gateway.core.bundle import Bundle, Burst
from gateway.core.counters import Counters
from gateway.core.newest import encode_newest
from gateway.core.outlet import Outlet
from gateway.core.ports import Refusal
from gateway.core.redundancy import LossVerdict, LossWatch, affordable
from gateway.core.state import WorldState
from gateway.core.window import Keys
from gateway.limits import READER_DATAGRAMS_MAX

if TYPE_CHECKING:
    from gateway.core.reader import Reader

_UNLIMITED: Final = float("inf")


class SaysAgain(Protocol):
    """Who keeps what is to be said again, as a reader knows it."""

    def losing(self, reader: Reader) -> None:
        """The reader has begun to lose."""

    def said(self, reader: Reader, keys: Keys, mono: float) -> None:
        """A reader that loses, and is on a budget, was sent the newest values of these keys."""


class Twice:
    """What one reader's outlet says again. ``parity``: the reader rebuilds; ``zstd`` and ``datagrams_max`` as the reader has
    them."""

    __slots__ = (
        "_counters",
        "_given_up",
        "_is_on",
        "_losing",
        "_outlet",
        "_since",
        "_state",
        "datagrams_max",
        "parity",
        "said",
        "watch",
        "zstd",
    )

    def __init__(
        self,
        state: WorldState,
        outlet: Outlet,
        counters: Counters,
        mono: float,
        losing: Callable[[], None],
        said: Callable[[Keys, float], None],
    ) -> None:
        """``losing`` is called when the reader begins to lose."""
        self._state = state
        self._outlet = outlet
        self._counters = counters
        self._since = mono
        self._losing = losing
        self.said = said
        self._is_on = True
        self._given_up = 0
        self.parity = self.zstd = False
        self.datagrams_max = READER_DATAGRAMS_MAX
        self.watch: LossWatch | None = None
        """From the first loss on, until it is long ago."""

    def set(self, is_on: bool | None, parity: bool | None) -> None:
        """What the reader wants from now on; None: as before."""
        if parity is not None:
            self.parity = parity
        if is_on is not None:
            self._is_on = is_on
            self.watch = self.watch if is_on else None

    def lost(self, token: int) -> None:
        """One message of the reader was lost."""
        if not self._is_on:
            return
        if self.watch is None:
            # Only from the first loss on: most readers never lose, and have no watch.
            self.watch = LossWatch(self._outlet.window.next_token)
            self._losing()
        self.watch.lost(token)

    def say(self, bundle: Bundle | None, mono: float) -> bool:
        """What all readers were offered, if the path asks for it; None: it needs no saying. False: nothing is lost any
        more, and the reader need not be asked until it loses again."""
        if self._is_asked(mono, bundle is not None) and bundle is not None:
            burst = self._burst_of(bundle)
            if burst is not None:
                self._say_burst(burst, mono)
        return self.watch is not None

    def say_parity(self, bundle: Bundle, mono: float) -> bool:
        """What all readers were offered this moment, by its parity if that is enough. False: :meth:`say` it later."""
        if not self.parity or not self._parity_mends:
            return False
        burst = self._burst_of(bundle)
        parity = burst.parity() if burst is not None else None
        if burst is None or parity is None:
            return False
        if self._is_asked(mono, True):
            self._send_if_room(parity, burst.size_bytes, mono)
        return True

    def _say_burst(self, burst: Burst, mono: float) -> None:
        """By parity where that can be and is enough, or nothing else has room; else as it was."""
        parity = burst.parity() if self.parity else None
        frame_bytes = burst.size_bytes
        if (parity is None or not self._parity_mends) and self._has_room(burst, frame_bytes, mono):
            self._send(burst)
            return
        self._send_if_room(parity or burst, frame_bytes, mono)

    @property
    def _parity_mends(self) -> bool:
        return self.watch is not None and self.watch.parity_mends

    def say_values(self, keys: Keys, mono: float) -> bool:
        """The same for newest values that this reader alone was sent."""
        if self._is_asked(mono, bool(keys)) and keys:
            message = encode_newest(self._state, keys)
            if len(message) <= self._outlet.link.message_bytes_max():
                self._send_if_room(Burst([(message, keys)]), len(message), mono)
        return self.watch is not None

    def _is_asked(self, mono: float, there_is_something: bool) -> bool:
        """Whether the path loses though it is not full; where it has not lost for long, forget that it did."""
        watch, outlet = self.watch, self._outlet
        if watch is None:
            return False
        trips = outlet.link.round_trips()
        if trips is not None and trips.given_up > self._given_up:
            watch.doubt(trips.given_up - self._given_up)
            self._given_up = trips.given_up
        # Looked at even where there is nothing to say: the shares fade with time, and a path that has recovered is
        # to be noticed.
        verdict = watch.look(outlet.window.next_token, trips, mono, mono - self._since)
        if verdict is LossVerdict.CONGESTED:
            self._counters.redundancy_withheld += there_is_something
        elif watch.is_over:
            self.watch = None
        return verdict is LossVerdict.AGAIN

    def _burst_of(self, bundle: Bundle) -> Burst | None:
        """What went out of it as datagrams; None: it went by a stream."""
        whole = bundle.whole(self.zstd)
        burst: Burst | None = whole
        if whole.largest > self._outlet.link.message_bytes_max():
            burst = bundle.cut(self.zstd, self._outlet.link.message_bytes_max())
        return None if burst is None or burst.count > self.datagrams_max else burst

    def _has_room(self, burst: Burst, frame_bytes: int, mono: float) -> bool:
        """``frame_bytes``: what is said again, and what the next frame will take, too."""
        link, budget = self._outlet.link, self._outlet.budget
        level = _UNLIMITED if budget is None else budget.refill(mono)
        room = link.room_bytes()
        return affordable(burst.size_bytes, frame_bytes, room, level, link.message_bytes_max())

    def _send_if_room(self, burst: Burst, frame_bytes: int, mono: float) -> None:
        if self._has_room(burst, frame_bytes, mono):
            self._send(burst)
        else:
            self._counters.redundancy_withheld += 1

    def _send(self, burst: Burst) -> None:
        outlet, link, counters = self._outlet, self._outlet.link, self._counters
        budget = outlet.budget
        went = link.send_burst(burst, outlet.window.next_token)
        sent = 0 if isinstance(went, Refusal) else went
        # As sent by the window's count: its fate tells of the path as any other message's.
        outlet.remember_all(burst.keys[:sent])
        size_bytes = sum(map(len, burst.messages[:sent]))
        if budget is not None:
            budget.spend(size_bytes)
        counters.redundant_bytes += size_bytes
        if burst.keys[0]:
            counters.repeated += sent
        else:
            counters.parity += sent
