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

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Final

from gateway.core.budget import Budget
from gateway.core.bundle import Bundle, Burst
from gateway.core.counters import Counters
from gateway.core.keyframes import KeyframeCache
from gateway.core.late import LateLog
from gateway.core.newest import RECORD_BYTES_LEAST, SharedRepairs
from gateway.core.outgoing import Outgoing
from gateway.core.outlet import Outlet
from gateway.core.ports import Link, Refusal
from gateway.core.slots import Slots
from gateway.core.stale import StaleSet
from gateway.core.state import WorldState
from gateway.core.states import ReaderState
from gateway.core.twice import SaysAgain, Twice
from gateway.core.window import Keys
from gateway.limits import (
    DATAGRAM_SAFE_BYTES,
    PIECES_MAX,
    READER_BATCH_S,
    READER_DATAGRAMS_MAX,
    READER_FLUSH_S,
    READER_LAG_S,
    REPAIR_MESSAGES_MAX,
    REPAIR_STREAM_BYTES_MAX,
    REPAIR_STREAM_MESSAGE_BYTES,
    REST_DATAGRAMS_MIN,
    STREAM_PATIENCE_S,
    TCP_REPAIR_BYTES_MAX,
)
from gateway.wire.control import encode_control

_UNLIMITED: Final = 1 << 30


class Reader:
    """Sends one state to one link. The caller applies a message to ``state`` first, then offers it."""

    __slots__ = (
        "_behind",
        "_counters",
        "_datagrams_max",
        "_keyframes",
        "_lag_s",
        "_late",
        "_late_after",
        "_link",
        "_only_streams",
        "_outlet",
        "_plain",
        "_repairs",
        "_row_at",
        "_row_left",
        "_rows_since",
        "_since_rest",
        "_state",
        "_twice",
        "_wanted",
        "_yields",
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
        self._keyframes = keyframes or KeyframeCache(state, self._counters)
        self._repairs = repairs or SharedRepairs(state)
        self._zstd = zstd
        self._outlet = Outlet(state, link, _budget(budget_kbps, mono, link), self._lost)
        self.on_acked: Callable[..., None] = self._outlet.window.acked
        """Called with the first token of messages that arrived, and their count: the window's own, for there are
        thousands a second."""
        self._lag_s = lag_s
        self._only_streams = False
        self._datagrams_max = datagrams_max if link.lossy else _UNLIMITED
        self._row_at, self._row_left = mono, self._datagrams_max
        self._rows_since: float | None = None
        self._behind = behind or _nothing
        self._twice: Twice | None = None
        if again is not None and link.lossy:
            losing, said = partial(again.losing, self), partial(again.said, self)
            self._twice = Twice(state, self._outlet, self._counters, mono, losing, said)
            self._twice.zstd, self._twice.datagrams_max = zstd, datagrams_max
            self.set_redundancy(is_on=redundancy, parity=parity)
        self._since_rest = 0
        self._yields = False
        """Nothing goes before the keyframe that is on its way has arrived."""
        self._wanted: str | None = None
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
        if self._wanted is not None:
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
        the caller enters them into the late log, or uses :meth:`send`."""
        if not self._plain and not self._recovered(mono):
            self._counters.withheld += len(bundle.outs)
            return False
        outlet = self._outlet
        burst = bundle.whole(self._zstd)
        # Many in a row overflow the queue of the peer's application, though they are acknowledged
        # (READER_DATAGRAMS_MAX): those go by a stream.
        if burst.count > self._datagrams_max or (
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

    def send(self, bundle: Bundle, mono: float) -> None:
        """:meth:`offer` for a reader on its own, without a late log that it shares with others."""
        if not self.offer(bundle, mono):
            for out in bundle.outs:
                self.mark(out.keys)
            self.catch_up(mono)

    def mark(self, keys: Keys) -> None:
        """The newest values of these keys are not on their way: let them wait their turn."""
        if self._wanted is None and keys and not self.over:
            self.stale.add(keys)
            self._fall_behind()

    def learnt(self, keys: Keys) -> None:
        """The state has values of these keys that may be older than its newest frame. A keyframe that is on its way may not have
        them, and says that what it does not have is gone as of its frame. A datagram may overtake the stream: who took such a
        value first would drop it, and refuse it ever after. So everything waits until the keyframe is there."""
        if not self._outlet.lossy or not self._outlet.streams or self._yields:
            return
        order = self._outlet.streams.keyframe_order
        if order is not None and self._has_older(keys, order):
            self._yields = self.held = True
            self._fall_behind()

    def _has_older(self, keys: Iterable[int], order: int) -> bool:
        order_at = self._state.order_at
        return any(order_at(key) < order for key in keys)

    def want_keyframe(self, reason: str, mono: float) -> None:
        """Give the reader everything, as soon as it can take something. ``reason`` as in ``resync``."""
        if self.over:
            return
        self._wanted = reason
        self.stale.clear()
        self._plain, self._late_after = False, self._late.number
        self.flush(mono)
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
        self._twice = None

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
        if self._wanted is None:
            self.stale.add_bits(late.since(self._late_after))
        self._late_after = late.number
        self.held = False
        self.flush(mono)

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
        if outlet.budget is not None and self._wanted is None:
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
        return self._wanted is not None or self._yields or bool(self.stale)

    # --- sending ---------------------------------------------------------------------------

    def flush(self, mono: float) -> None:
        """Send newest values of what waits, as far as there is room and budget."""
        if self._outlet.streams:
            self._settle_streams(mono)
        if self._wanted is None and self.stale and self._better_all_at_once():
            self._wanted = "lagging"
        if self._wanted is not None:
            self._send_keyframe(mono)
        if self._yields:
            if self._outlet.streams.keyframe_order is not None:
                self.held = True
                return
            self._yields = False
        if self.stale:
            if self._too_many_wait(mono):
                self._send_waiting(mono)
            self._flush_datagrams(mono)
        if not (self.waiting or self.over):
            self.held, self._rows_since = False, None
            # Whoever is on a budget is never plain: it lives on turns.
            self._plain = not self.metered

    def _flush_datagrams(self, mono: float) -> None:
        """Messages of newest values, so many in a turn and in a row."""
        if mono - self._row_at >= READER_FLUSH_S:
            self._row_at = mono
            if self._rows_since is None:
                self._rows_since = mono
            self._row_left = REPAIR_MESSAGES_MAX if self._only_streams else self._datagrams_max
        for _ in range(min(REPAIR_MESSAGES_MAX, self._row_left)):
            if not self.stale or not self._flush_one(mono):
                return
            self._row_left -= 1
        if self.stale and not self._row_left:
            self.held = True

    def _too_many_wait(self, mono: float) -> bool:
        """More newest values wait than should go as datagrams in a row, and a stream is the better way: the link takes all of them
        at once, or rows have not brought them and it takes more than a turn's. Rows alone would never fill such a window, and a
        window that is not filled does not grow (RFC 9002 section 7.8): a world whose frames it nearly holds would stay there."""
        if self._datagrams_max == _UNLIMITED or self.metered or self._outlet.streams:
            return False
        waiting_bytes = len(self.stale) * self._state.record_bytes
        message_bytes = self._link.message_bytes_max()
        if waiting_bytes <= self._datagrams_max * message_bytes:
            return False
        room = self._link.room_bytes()
        if waiting_bytes <= room:
            return True
        tried = self._rows_since is not None and mono - self._rows_since >= READER_FLUSH_S
        return tried and room > REPAIR_MESSAGES_MAX * message_bytes

    def _send_waiting(self, mono: float) -> None:
        """Newest values of what waits by one stream, the most urgent first, as far as the link takes them at once."""
        messages: list[bytes] = []
        keys: list[int] = []
        size_bytes, bytes_max = 0, min(REPAIR_STREAM_BYTES_MAX, self._link.room_bytes())
        while self.stale and size_bytes < bytes_max:
            limit = min(REPAIR_STREAM_MESSAGE_BYTES, bytes_max - size_bytes)
            some, message = self._repairs.next(self.stale, limit)
            self.stale.served(some)
            keys += some
            messages.append(message)
            size_bytes += len(message)
        self._counters.repaired += len(messages)
        self._outlet.send_stream(messages, tuple(keys), size_bytes, mono)

    def _recovered(self, mono: float) -> bool:
        """Catch up if there may be room: True if nothing waits any more, frames may pass again."""
        if self.held or self.metered:
            return False
        self.catch_up(mono)
        return self._plain

    def _refused(self, refusal: Refusal) -> None:
        """What a refusal says of all that is to come."""
        if refusal is Refusal.UNSUPPORTED:
            self._only_streams, self._datagrams_max = True, 0
        elif refusal is Refusal.CLOSED:
            self.over = self.held = True
            self._wanted, self._plain = None, False
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
        return min(before, self._outlet.window.next_token) + count > self._datagrams_max

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
            if self._only_streams:
                return self._offer_in_a_row(burst, mono)
            return self._missed(mono)
        self._missed(mono)
        self._outlet.remember_all(burst.keys[:sent])
        self.mark(tuple([key for unsent in burst.keys[sent:] for key in unsent]))
        return True

    def _offer_cut(self, bundle: Bundle, mono: float) -> bool:
        """Messages larger than a datagram: as several, or by streams."""
        burst = bundle.cut(self._zstd, self._link.message_bytes_max())
        if burst is not None and burst.count > self._datagrams_max:
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
            if self._only_streams or room > self._datagrams_max * self._link.message_bytes_max():
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

    def _flush_one(self, mono: float) -> bool:
        """One repair message. False: no room, or what is most urgent doesn't fit now."""
        outlet, stale = self._outlet, self.stale
        waiting_bytes = len(stale) * RECORD_BYTES_LEAST
        allowed = outlet.allowed(mono, waiting_bytes)
        if allowed <= 0:
            self.held = True
            return False
        room = outlet.room(waiting_bytes)
        if room > 0:
            # The least of four bounds; only with the last a WebSocket's 64 KiB message would hold everything that
            # waits, and block what is newer.
            limit = int(min(room, allowed, self._link.message_bytes_max(), TCP_REPAIR_BYTES_MAX))
            keys, message = self._repairs.next(stale, limit)
            if self._only_streams:
                sent = outlet.send_stream([message], keys, len(message), mono) or Refusal.BLOCKED
            elif len(message) <= limit:
                sent = outlet.send(message, keys)
            else:
                sent = outlet.send_large(message, keys, mono)
            if sent is Refusal.TOO_LARGE or sent is Refusal.UNSUPPORTED:
                self._refused(sent)
                sent = outlet.send_stream([message], keys, len(message), mono) or Refusal.BLOCKED
            if sent:
                stale.served(keys)
                self._counters.repaired += 1
                if self._twice is not None and self._twice.watch is not None and self.metered:
                    self._twice.said(keys, mono)
                return True
            if sent is Refusal.CLOSED:
                self._refused(sent)
                return False
        self._blocked(mono)
        return False

    def _send_keyframe(self, mono: float) -> None:
        """``resync`` and everything, once the link takes anything at all."""
        if self._link.room_bytes() <= 0:
            self.held = True
            return
        reason, self._wanted = self._wanted, None
        self._outlet.streams.reset_all()
        self.stale.clear()
        if not self._state.records and reason == "joined":
            return
        keyframe = self._keyframes.get(mono, zstd=self._zstd)
        self._link.control(encode_control("resync", reason=reason))
        self._counters.resyncs += 1
        self._outlet.send_stream(keyframe.messages, keyframe.keys, keyframe.size_bytes, mono, keyframe=True)
        # It may be a shared one, some tenths of a second old: what changed since goes right behind it. If some of that is older than
        # the keyframe, not before it has arrived: see learnt().
        self.stale.add(tuple(keyframe.changed))
        self._yields = self._outlet.lossy and self._has_older(keyframe.changed, keyframe.order)

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
            self._wanted = "lagging"
            self.stale.clear()

    def _settle_streams(self, mono: float) -> None:
        for stream in self._outlet.streams.settle(mono):
            self._counters.streams_reset += 1
            self._lost(stream.keys)

    def _lost(self, keys: Keys) -> None:
        """What went out and did not arrive: it has waited longer than all that waits."""
        # With a keyframe on order nothing is noted: it has everything.
        if self._wanted is None and keys:
            self.stale.add_first(keys)
            self._fall_behind()

    def _better_all_at_once(self) -> bool:
        """More than half of all records wait, they would take more datagrams than one stream is worth,
        and there is room for everything: then a keyframe is the shortest way."""
        if self.metered:
            return False
        waiting, records = len(self.stale), len(self._state)
        if waiting * 2 <= records or waiting <= PIECES_MAX or self._outlet.streams:
            return False
        keyframe_bytes = records * self._state.record_bytes
        bytes_max = self._link.message_bytes_max()
        return keyframe_bytes > PIECES_MAX * bytes_max and self._link.room_bytes() >= keyframe_bytes


def _budget(kbps: int | None, mono: float, link: Link) -> Budget | None:
    """The budget that a reader asked for, spent in messages of a size that suits its link."""
    if kbps is None:
        return None
    least = DATAGRAM_SAFE_BYTES
    return Budget(kbps, mono, least if link.lossy else max(least, int(kbps * 125 * READER_BATCH_S)))


def _nothing() -> None:
    """Nobody waits for this reader's polls."""
