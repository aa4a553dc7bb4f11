"""Messages to every reader of a world, and turns for those that are behind. Room: core. Pure.

The hot path of the house: what came in together is offered to each reader in one call, as the same bytes.
Whoever cannot take it reads the late log at its next turn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from gateway.core.again import Again
from gateway.core.bundle import newest_of
from gateway.core.counters import Counters
from gateway.core.keyframes import KeyframeCache
from gateway.core.late import LateLog
from gateway.core.newest import SharedRepairs, encode_since
from gateway.core.outgoing import Outgoing
from gateway.core.reader import Reader
from gateway.core.row import Row
from gateway.core.slots import Slots
from gateway.core.state import WorldState
from gateway.core.window import Keys
from gateway.limits import FANOUT_SERVE_S, READER_DATAGRAMS_MAX, READER_FLUSH_S, REST_S

_NEVER: Final = float("inf")


class FanOut:
    """The readers of one state. ``wake`` is called when :attr:`due` has moved forward."""

    __slots__ = (
        "_collected",
        "_counters",
        "_is_ordered",
        "_learnt",
        "_moved_at",
        "_readers",
        "_rest_at",
        "_rested",
        "_row",
        "_served_at",
        "_state",
        "_turn_at",
        "_unmetered",
        "_wake",
        "again",
        "keyframes",
        "late",
        "mono",
        "repairs",
    )

    def __init__(
        self,
        state: WorldState,
        counters: Counters,
        wake: Callable[[], None],
        datagrams_max: int = READER_DATAGRAMS_MAX,
    ) -> None:
        self.keyframes = KeyframeCache(state, counters)
        self.late = LateLog(Slots(state))
        self.repairs = SharedRepairs(state)
        self.again = Again()
        self._turn_at: float | None = None
        self._state = state
        self._rested = state.order
        self._moved_at = float("-inf")
        self._rest_at = _NEVER
        self.mono = float("-inf")
        """The newest time that was told."""
        self._counters = counters
        self._wake = wake
        self._readers: list[Reader] = []
        self._unmetered: list[Reader] = []
        self._row = Row(datagrams_max)
        self._is_ordered = False
        self._collected: list[Outgoing] = []
        self._learnt: list[Keys] = []
        """Of what was collected and may be older than the newest frame."""
        self._served_at = float("-inf")

    @property
    def due(self) -> float | None:
        """When :meth:`poll` is wanted next (``mono``), or None."""
        turn_at, again_at = self._turn_at, self.again.due
        soonest = self._rest_at
        if turn_at is not None and turn_at < soonest:
            soonest = turn_at
        if again_at is not None and again_at < soonest:
            soonest = again_at
        return soonest if soonest < _NEVER else None

    def set_readers(self, readers: Iterable[Reader]) -> None:
        """These are the readers from now on."""
        self._readers = list(readers)
        if self.again.readers:
            self.again.keep(self._readers)
        self._unmetered = [reader for reader in self._readers if not reader.metered]
        self._is_ordered = any(reader.ordered for reader in self._readers)

    def collect(self, out: Outgoing, mono: float) -> bool:
        """A message that the state has just taken; :meth:`spread` offers it to the readers. True: it is the
        first that waits for that."""
        self.keyframes.note(out, mono)
        # Repairs and late messages: what they carry may be older than what a reader had by a keyframe.
        if out.has_ticks or out.tick < self._state.tick:
            self._learnt.append(out.keys)
        self._collected.append(out)
        return len(self._collected) == 1

    def spread(self, mono: float) -> int:
        """Offer what was collected to every reader, together; answers how many messages went at once."""
        outs, self._collected = self._collected, []
        readers = self._readers
        if self._learnt:
            learnt, self._learnt = tuple([key for keys in self._learnt for key in keys]), []
            # Before anything is offered: a reader must know what it lacks when it weighs what it takes.
            for reader in readers:
                reader.learnt(learnt)
        if not readers or not outs:
            return 0
        self._moved_at = mono
        if self._rest_at == _NEVER:
            self._rest_at = mono + REST_S
            self._wake()
        bundle = self._row.bundle(outs if self._is_ordered else newest_of(outs), mono)
        count = len(bundle.outs)
        delivered = held = 0
        # Readers on a budget are not asked: they live on turns, and a busy zone would have them refuse thousands of
        # times a second.
        for reader in self._unmetered:
            if reader.held:
                held += 1
            elif reader.offer(bundle, mono):
                delivered += 1
        # Keys are written down once for all who are behind; where everybody took the bundle, as nearly always, only counted.
        if delivered < len(readers):
            for out in bundle.outs:
                # Also for readers that had it: each remembers up to which number it has taken.
                self.late.passed(out.keys)
            self._counters.withheld += held * count
            # Not at once: with hundreds behind, turns would be all that the core does, and frames are what keeps
            # the others from falling behind.
            self._look_at(max(mono, self._served_at + FANOUT_SERVE_S))
        else:
            self.late.passed_all(count)
        if self.again.readers:
            self.again.note(bundle, mono)
            self._wake()
        delivered *= count
        self._counters.delivered += delivered
        return delivered

    def want_keyframe(self, reason: str, mono: float) -> None:
        """Everybody starts afresh from a keyframe of now."""
        self.keyframes.forget()
        for reader in self._readers:
            reader.want_keyframe(reason, mono)

    def lacks(self, keys: Keys, mono: float) -> None:
        """The state has newer values of these keys than came by messages: nobody was sent them. Who wants every message starts
        afresh, for the messages are not there."""
        self.keyframes.forget()
        for reader in self._readers:
            if reader.ordered:
                reader.want_keyframe("new_epoch", mono)
            else:
                reader.learnt(keys)
                reader.mark(keys)

    def losing(self, reader: Reader) -> None:
        """The reader has begun to lose: what it is sent may have to be said again."""
        self.again.readers[reader] = None

    def said(self, reader: Reader, keys: Keys, mono: float) -> None:
        """A reader that loses, and is on a budget, was sent the newest values of these keys."""
        self.again.note_values(reader, keys, mono)
        self._wake()

    def behind(self) -> None:
        """Something began to wait for a reader: look again in about a tick."""
        self._look_at(self.mono + READER_FLUSH_S)

    def poll(self, mono: float) -> None:
        """What is due: to say again what was said, turns, and a rest."""
        self.again.poll(mono)
        if mono >= self._rest_at:
            self._rest(mono)
        if self._turn_at is not None and mono >= self._turn_at:
            self._turns(mono)

    def _rest(self, mono: float) -> None:
        """If nothing came for a while: who may have slept through what came before gets the newest of it once more."""
        self._rest_at = self._moved_at + REST_S
        if mono < self._rest_at:
            return
        self._rest_at = _NEVER
        since, self._rested = self._rested, self._state.order
        owed = [reader for reader in self._readers if reader.rests()]
        if owed:
            keys, messages = encode_since(self._state, since)
            for reader in owed:
                reader.renew(keys, messages, mono)

    def _turns(self, mono: float) -> None:
        """A turn for every reader that has one now. It is never taken in the middle of what comes in: where
        turns are all that the core can do, frames get in between, and every reader gets equally less."""
        # Cleared first: what a reader's turn puts off asks for another one by itself.
        self._turn_at, self._served_at = None, mono
        late, soonest = self.late, _NEVER
        taken = late.number
        self.repairs.begin()
        try:
            for reader in self._readers:
                at = reader.due
                if at is None or at <= mono:
                    at = reader.poll(mono)
                if at is not None and at < soonest:
                    soonest = at
                up_to = reader.taken
                # What everybody behind has read can go from the log: the slowest decides, and a reader that is
                # over has no say.
                if up_to is not None and up_to < taken:
                    taken = up_to
        finally:
            self.repairs.end()
        late.forget(taken)
        # Only here, between turns: within one the readers' sets are all of one generation.
        late.slots.tidy()
        if soonest < _NEVER:
            self._look_at(max(soonest, mono + FANOUT_SERVE_S))

    def _look_at(self, at: float) -> None:
        if self._turn_at is None or self._turn_at > at:
            self._turn_at = at
            self._wake()
