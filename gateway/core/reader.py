"""One link's share of a world: newest values to one reader, whatever the network does. Room: core. Pure.

The frequent case forwards the frame's own bytes, the same object to every reader. Whatever does
not go out at once (no room, no budget, lost on the way) leaves its *keys* in the stale set; when
there is room again the newest values of the most urgent keys go out as repair messages. So
nothing ever waits in a queue, and a slow reader costs a set of keys at most.

An acknowledged datagram is not a delivered one: the next frame renews what an application slept through, and where none
comes, because the world rests, its newest values go once more by a stream.

Large frames: up to ``PIECES_MAX`` datagrams they are cut into datagrams, which lose little when
one is lost; above that, and for a record that no datagram holds, they go by a stream of their own
(:mod:`gateway.core.streams`). So does whatever else would be more datagrams in a row than a reader's queue may hold,
for what was acknowledged there may yet be dropped: several frames at once, or newest values.

A keyframe is sent on joining, for a new epoch, after the link took nothing at all for the lag
bound, and when more than half of all records wait and there is room for everything. A reader that
is merely slow, by its budget or its window, gets its records in turn: a keyframe would cost it more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from gateway.core.budget import Budget
from gateway.core.bundle import Bundle, Burst
from gateway.core.counters import Counters
from gateway.core.keyframes import KeyframeCache
from gateway.core.late import LateLog
from gateway.core.newest import RECORD_BYTES_LEAST, SharedRepairs
from gateway.core.outgoing import Outgoing
from gateway.core.outlet import Outlet
from gateway.core.ports import Link, Refusal
from gateway.core.rebase import Rebase
from gateway.core.repairs import Repairs, TurnEnd
from gateway.core.slots import Slots
from gateway.core.stale import StaleSet
from gateway.core.state import WorldState
from gateway.core.states import ReaderState
from gateway.core.twice import SaysAgain, Twice
from gateway.core.window import Keys
from gateway.limits import (
    DATAGRAM_SAFE_BYTES,
    READER_BATCH_S,
    READER_DATAGRAMS_MAX,
    READER_FLUSH_S,
    READER_LAG_S,
    REST_DATAGRAMS_MIN,
    STREAM_PATIENCE_S,
)


class Reader:
    """Sends one state to one link. The caller applies a message to ``state`` first, then offers it."""

    __slots__ = (
        "_behind",
        "_counters",
        "_lag_s",
        "_late",
        "_late_after",
        "_link",
        "_outlet",
        "_plain",
        "_rebase",
        "_repairs",
        "_since_rest",
        "_state",
        "_twice",
        "_zstd",
        "due",
        "held",
        "on_acked",
        "over",
        "stale",
    )

    def __init__(
        self,
        state: WorldState,
        link: Link,
        mono: float,
        *,
        late: LateLog | None = None,
        keyframes: KeyframeCache | None = None,
        repairs: SharedRepairs | None = None,
        counters: Counters | None = None,
        zstd: bool = False,
        budget_kbps: int | None = None,
        weights: Mapping[int, float] | None = None,
        lag_s: float = READER_LAG_S,
        datagrams_max: int = READER_DATAGRAMS_MAX,
        behind: Callable[[], None] | None = None,
        again: SaysAgain | None = None,
        redundancy: bool = True,
        parity: bool = False,
    ) -> None:
        """``behind`` is called when something begins to wait: :meth:`poll` is wanted within ``READER_FLUSH_S``. ``again`` says when
        what this reader loses is to be said again; None: it never is. ``redundancy`` and ``parity``: see
        :meth:`set_redundancy`."""
        self._late = LateLog(Slots(state)) if late is None else late
        self.stale = StaleSet(self._late.slots, weights)
        self.held = False
        """True while something waits that could not go: a turn, or room, will say when to try again."""
        self.over = False
        """The link takes nothing any more: nothing is kept for it, and it need not be asked."""
        self.due: float | None = None
        """When (``mono``) what waits may go; None: :meth:`poll` at every turn."""
        self._state = state
        self._link = link
        self._late_after = self._late.number
        self._counters = counters or Counters()
        self._zstd = zstd
        self._outlet = Outlet(state, link, _budget(budget_kbps, mono, link), self._lost, datagrams_max)
        self._repairs = Repairs(
            state, self.stale, self._outlet, repairs or SharedRepairs(state), self._counters, mono
        )
        shared = keyframes or KeyframeCache(state, self._counters)
        self._rebase = Rebase(state, self.stale, self._outlet, shared, self._counters, zstd)
        self.on_acked: Callable[..., None] = self._outlet.window.acked
        """Called with the first token of messages that arrived, and their count: the window's own, for there are
        thousands a second."""
        self._lag_s = lag_s
        self._behind = behind or _nothing
        self._twice: Twice | None = None
        if again is not None and link.lossy:
            losing, said = partial(again.losing, self), partial(again.said, self)
            self._twice = self._repairs.twice = Twice(state, self._outlet, self._counters, mono, losing, said)
            self._twice.zstd, self._twice.datagrams_max = zstd, datagrams_max
            self.set_redundancy(is_on=redundancy, parity=parity)
        self._since_rest = 0
        self._plain = budget_kbps is None

    @property
    def metered(self) -> bool:
        """True where a budget holds the reader back: it lives on turns alone, and need not be offered anything."""
        return self._outlet.budget is not None

    @property
    def state(self) -> ReaderState:
        """Where it is, in the words of :data:`gateway.core.states.READER`."""
        if self.over:
            return ReaderState.OVER
        if self._rebase.wanted is not None:
            return ReaderState.REBASING
        if self._plain:
            return ReaderState.CURRENT
        return ReaderState.METERED if self.metered and not self.stale else ReaderState.BEHIND

    @property
    def messages(self) -> int:
        """Messages given to the link so far, control messages aside."""
        return self._outlet.messages

    @property
    def ordered(self) -> bool:
        """True for a reader that wants every message, also those that a newer one has replaced."""
        return False

    # --- what the world says ---------------------------------------------------------------

    def offer(self, bundle: Bundle, mono: float) -> bool:
        """Messages that the state has just taken. True: they are taken care of. False: none went;
        the caller enters them into the late log."""
        if not self._plain and not self._recovered(mono):
            self._counters.withheld += len(bundle.outs)
            return False
        outlet = self._outlet
        burst = bundle.whole(self._zstd)
        # Many in a row overflow the queue of the peer's application, though they are acknowledged
        # (READER_DATAGRAMS_MAX): those go by a stream.
        if burst.count > outlet.datagrams_max or (
            (bundle.is_large or (bundle.row is not None and self._is_row(*bundle.row))) and outlet.lossy
        ):
            return self._offer_in_a_row(burst, mono)
        # The frequent case ends four lines below: one call, and the tuple of keys that all readers share.
        sent = self._link.send_burst(burst, outlet.window.next_token)
        if sent == burst.count:
            outlet.remember_all(burst.keys)
            return True
        if sent is Refusal.TOO_LARGE:
            return self._offer_cut(bundle, mono)
        return self._offered(burst, sent, mono)

    def mark(self, keys: Keys) -> None:
        """The newest values of these keys are not on their way: let them wait their turn."""
        if self._rebase.wanted is None and keys and not self.over:
            self.stale.add(keys)
            self._fall_behind()

    def learnt(self, keys: Keys) -> None:
        """The state has values of these keys that may be older than its newest frame. Where a keyframe on its way would overtake
        them everything waits until it is there (:meth:`Rebase.is_overtaken_by`)."""
        if not self._outlet.lossy or not self._outlet.streams or self._rebase.yields:
            return
        if self._rebase.is_overtaken_by(keys):
            self._rebase.yields = self.held = True
            self._fall_behind()

    def want_keyframe(self, reason: str, mono: float) -> None:
        """Give the reader everything, as soon as it can take something. ``reason`` as in ``resync``."""
        if self.over:
            return
        self._rebase.want(reason)
        self._plain, self._late_after = False, self._late.number
        self.serve(mono)
        if not self._plain:
            self._behind()

    def set_weights(self, weights: Mapping[int, float]) -> None:
        """``focus``: which keys matter more or less to this reader; the others have weight 1."""
        self.stale.set_weights(weights)

    @property
    def weights(self) -> dict[int, float]:
        """As they count now: key → weight, of those whose weight is not 1."""
        return self.stale.weights

    def set_redundancy(self, *, is_on: bool | None = None, parity: bool | None = None) -> None:
        """Whether anything is to be said twice to this reader where its path loses, and by parity where that can be; None: as
        before."""
        if self._twice is not None:
            self._twice.set(is_on, parity)

    def rests(self) -> bool:
        """The world rests. True where an application that slept may lack some of so many datagrams since the last rest, though
        they were acknowledged for it: :meth:`renew` is wanted."""
        token = self._outlet.window.next_token
        before, self._since_rest = self._since_rest, token
        return token - before >= REST_DATAGRAMS_MIN and self._outlet.lossy and not (self.over or self.ordered)

    def renew(self, keys: Keys, messages: list[bytes], mono: float) -> None:
        """The world rests: these are the newest values of what moved since it last did, as repair messages. By a stream, which is
        delivered or known to be lost; where that can't be now they wait their turn as any other."""
        if not self._plain or not self._by_stream(messages, keys, mono):
            self.mark(keys)

    def let_go(self) -> None:
        """Its session is over: it is freed with the last that holds it, not with the next collection of cycles."""
        self._outlet.let_go()
        self._twice = self._repairs.twice = None

    # --- what the link says ----------------------------------------------------------------

    def on_lost(self, token: int) -> None:
        """The newest values of what it carried go with the next frame, unless newer are on their way."""
        self._counters.lost += 1
        self._lost(self._outlet.window.lost(token))
        if self._twice is not None:
            self._twice.lost(token)

    def on_writable(self, mono: float) -> None:
        self.catch_up(mono)

    # --- what is said again ----------------------------------------------------------------

    def say_again(self, bundle: Bundle | None, mono: float) -> bool:
        """What all readers were offered some milliseconds ago (None: it needs no saying), if this one's path asks for it:
        not before it has everything. False: it loses nothing any more, and need not be asked."""
        twice = self._twice
        return twice is not None and twice.say(bundle if self._plain else None, mono)

    def say_parity(self, bundle: Bundle, mono: float) -> bool:
        """What all readers were offered this moment, by its parity, if this reader rebuilds and its losses are such as that mends.
        True: it need not be said again."""
        twice = self._twice
        return twice is not None and self._plain and twice.say_parity(bundle, mono)

    def say_values_again(self, keys: Keys, mono: float) -> bool:
        """The same for the newest values of these keys, which this reader alone was sent."""
        twice = self._twice
        return twice is not None and twice.say_values(() if self.waiting else keys, mono)

    # --- what time says --------------------------------------------------------------------

    def catch_up(self, mono: float) -> None:
        """A turn for a reader that is behind: take note of what it missed, then send what goes."""
        if self._plain or self.over:
            return
        late = self._late
        if self._rebase.wanted is None:
            self.stale.add_bits(late.since(self._late_after))
        self._late_after = late.number
        self.held = False
        self.serve(mono)

    def poll(self, mono: float) -> float | None:
        """Do what is due; answers when to call again (None: when something begins to wait)."""
        outlet = self._outlet
        if self.over:
            self.due = None
            return None
        if outlet.streams:
            self._settle_streams(mono)
        self.catch_up(mono)
        if self.waiting:
            due = self.due = self._due(mono)
            return due
        self.due = None
        return mono + STREAM_PATIENCE_S if outlet.streams else None

    def _due(self, mono: float) -> float:
        """When what waits may go: when the budget has earned a message, else about a tick from now."""
        outlet = self._outlet
        if outlet.blocked_since is not None:
            return mono + min(STREAM_PATIENCE_S, self._lag_s)
        if outlet.budget is not None and self._rebase.wanted is None:
            earned_at = outlet.budget.allows_at(len(self.stale) * RECORD_BYTES_LEAST)
            if earned_at > mono:
                return min(earned_at, mono + STREAM_PATIENCE_S)
        return mono + READER_FLUSH_S

    @property
    def taken(self) -> int | None:
        """Up to which number it has taken note of the late log; None: it doesn't need it."""
        return None if self._plain or self.over else self._late_after

    @property
    def waiting(self) -> bool:
        """True while the reader does not have, nor is being sent, the newest of everything noted."""
        return self._rebase.wanted is not None or self._rebase.yields or bool(self.stale)

    # --- sending ---------------------------------------------------------------------------

    def serve(self, mono: float) -> None:
        """A turn: everything where that is owed, else the newest values of what waits, as far as there is room and budget."""
        rebase = self._rebase
        if self._outlet.streams:
            self._settle_streams(mono)
        if rebase.wanted is None and self.stale and rebase.is_shorter():
            rebase.wanted = "lagging"
        if rebase.wanted is not None and not rebase.send(mono):
            self.held = True
        if rebase.yields and not rebase.has_arrived():
            self.held = True
            return
        if self.stale:
            end = self._repairs.serve(mono)
            if end is TurnEnd.BLOCKED:
                self._blocked(mono)
            elif end is TurnEnd.CLOSED:
                self._refused(Refusal.CLOSED)
            elif end is TurnEnd.HELD:
                self.held = True
        if not (self.waiting or self.over):
            self.held = False
            self._repairs.all_served()
            # Whoever is on a budget is never plain: it lives on turns.
            self._plain = not self.metered

    def _recovered(self, mono: float) -> bool:
        """Catch up if there may be room: True if nothing waits any more, frames may pass again."""
        if self.held or self.metered:
            return False
        self.catch_up(mono)
        return self._plain

    def _refused(self, refusal: Refusal) -> None:
        """What a refusal says of all that is to come."""
        if refusal is Refusal.UNSUPPORTED:
            self._outlet.only_streams()
        elif refusal is Refusal.CLOSED:
            self.over = self.held = True
            self._rebase.wanted, self._plain = None, False
            self.stale.clear()

    def _missed(self, mono: float) -> bool:
        """The message on offer did not go."""
        self._blocked(mono)
        self._counters.withheld += 1
        self._fall_behind()
        return False

    def _fall_behind(self) -> None:
        """No longer plain: every message from here on is read in the late log."""
        if self._plain:
            self._plain = False
            self._late_after, self.due = self._late.number, None
        self._behind()

    def _is_row(self, before: int, count: int) -> bool:
        """Whether the reader, which may have come just now, was sent so many in a row that so many more are too many."""
        return min(before, self._outlet.window.next_token) + count > self._outlet.datagrams_max

    def _offered(self, burst: Burst, sent: int | Refusal, mono: float) -> bool:
        """So many of them went; the rest begins to wait. Or none did: where the link takes no datagrams they go by a stream,
        and where it is over nothing waits for it."""
        if sent == burst.count:
            self._outlet.remember_all(burst.keys)
            return True
        if isinstance(sent, Refusal):
            self._refused(sent)
            if self.over:
                return False
            if not self._outlet.takes_datagrams:
                return self._offer_in_a_row(burst, mono)
            return self._missed(mono)
        self._missed(mono)
        self._outlet.remember_all(burst.keys[:sent])
        self.mark(tuple([key for unsent in burst.keys[sent:] for key in unsent]))
        return True

    def _offer_cut(self, bundle: Bundle, mono: float) -> bool:
        """Messages larger than a datagram: as several, or by streams."""
        burst = bundle.cut(self._zstd, self._link.message_bytes_max())
        if burst is not None and burst.count > self._outlet.datagrams_max:
            return self._offer_in_a_row(burst, mono)
        if burst is not None:
            return self._offered(burst, self._link.send_burst(burst, self._outlet.window.next_token), mono)
        if len(bundle.outs) == 1:
            return self._offer_stream(bundle.outs[0], mono)
        for out in bundle.outs:
            if not self.offer(Bundle([out]), mono):
                self.mark(out.keys)
        return True

    def _offer_stream(self, out: Outgoing, mono: float) -> bool:
        return self._by_stream([out.packed if self._zstd else out.message], out.keys, mono)

    def _offer_in_a_row(self, burst: Burst, mono: float) -> bool:
        """More messages than should go as datagrams: one stream of them, where the link takes it at once. A link that is
        narrower gets what it has room for, in a row if that is short enough, and the rest as newest values."""
        room = self._link.room_bytes()
        if room < sum(map(len, burst.messages)):
            # It has room for more than a row, but not for all of it: cut in two it would be half a frame by stream
            # and the rest as repairs.
            if (
                not self._outlet.takes_datagrams
                or room > self._outlet.datagrams_max * self._link.message_bytes_max()
            ):
                return self._missed(mono)
            return self._offered(burst, self._link.send_burst(burst, self._outlet.window.next_token), mono)
        keys = tuple(dict.fromkeys([key for some in burst.keys for key in some]))
        return self._by_stream(list(burst.messages), keys, mono)

    def _by_stream(self, messages: list[bytes], keys: Keys, mono: float) -> bool:
        if self._outlet.streams:
            self._settle_streams(mono)
        size_bytes = sum(map(len, messages))
        if self._link.room_bytes() > 0 and self._outlet.send_stream(
            messages, keys, size_bytes, mono, is_of_frame=True
        ):
            self._counters.streamed += 1
            return True
        return self._missed(mono)

    # --- room, lag, streams ----------------------------------------------------------------

    def _blocked(self, mono: float) -> None:
        """Something waits and cannot go. If nothing at all has gone for longer than the lag bound,
        a keyframe will say it all: until there is room, not even keys are kept."""
        self.held = True
        if self._link.room_bytes() > 0:
            return
        outlet = self._outlet
        if outlet.blocked_since is None:
            outlet.blocked_since = mono
        # A stream that is under way counts as progress: a large frame on a narrow link takes longer than the bound.
        elif mono - outlet.blocked_since > self._lag_s and not outlet.streams:
            self._rebase.want("lagging")

    def _settle_streams(self, mono: float) -> None:
        for stream in self._outlet.streams.settle(mono):
            self._counters.streams_reset += 1
            self._lost(stream.keys)

    def _lost(self, keys: Keys) -> None:
        """What went out and did not arrive: it has waited longer than all that waits."""
        # With a keyframe on order nothing is noted: it has everything.
        if self._rebase.wanted is None and keys:
            self.stale.add_first(keys)
            self._fall_behind()


def _budget(kbps: int | None, mono: float, link: Link) -> Budget | None:
    """The budget that a reader asked for, spent in messages of a size that suits its link."""
    if kbps is None:
        return None
    least = DATAGRAM_SAFE_BYTES
    return Budget(kbps, mono, least if link.lossy else max(least, int(kbps * 125 * READER_BATCH_S)))


def _nothing() -> None:
    """Nobody waits for this reader's polls."""
