"""One link's share of a world: newest values to one reader, whatever the network does. Room: core. Pure.

The frequent case forwards the frame's own bytes, the same object to every reader. Whatever does
not go out at once (no room, no budget, lost on the way) leaves its *keys* in the stale set; when
there is room again the newest values of the most urgent keys go out as repair messages. So
nothing ever waits in a queue, and a slow reader costs a set of keys at most.

Large frames: up to ``PIECES_MAX`` datagrams they are cut into datagrams, which lose little when
one is lost; above that they go by a stream of their own, one at a time. A stream that newer state
has overtaken is reset once it has had :data:`PATIENCE_S` to get through; the patience doubles
with every reset, so that a link on which every large frame takes longer than a tick still gets
whole ones.

The publisher's client uses the same class towards the gateway.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from gateway.core.budget import Budget
from gateway.core.counters import Counters
from gateway.core.keyframes import KeyframeCache
from gateway.core.newest import encode_newest, pick
from gateway.core.outgoing import Outgoing
from gateway.core.ports import Link
from gateway.core.stale import StaleSet
from gateway.core.state import WorldState
from gateway.core.window import Keys, SentWindow
from gateway.limits import OUTSTANDING_MAX, PIECES_MAX, REPAIR_MESSAGES_MAX
from gateway.wire.control import encode_control
from gateway.wire.frames import HEADER_BYTES

FLUSH_S: Final = 0.02
"""How soon what is stale is tried again when no frame comes: about one tick."""
PATIENCE_S: Final = 0.25
PATIENCE_S_MAX: Final = 60.0
LAG_S: Final = 2.0
"""The default bound on how long a reader may take nothing at all before it is given a keyframe."""


@dataclass(slots=True)
class _OpenStream:
    """A stream in flight: its handle, its place in the window, and what it carries."""

    handle: int
    token: int
    keys: Keys
    order: int
    since: float
    keyframe: bool


class Reader:
    """Sends one state to one link. The caller applies a message to ``state`` first, then offers it."""

    __slots__ = (
        "_behind",
        "_blocked_since",
        "_budget",
        "_counters",
        "_keyframes",
        "_lag_s",
        "_link",
        "_lossy",
        "_patience_s",
        "_plain",
        "_state",
        "_streams",
        "_wanted",
        "_window",
        "_zstd",
        "stale",
    )

    def __init__(
        self,
        state: WorldState,
        link: Link,
        mono: float,
        *,
        keyframes: KeyframeCache | None = None,
        counters: Counters | None = None,
        zstd: bool = False,
        budget_kbps: int | None = None,
        weights: Mapping[int, float] | None = None,
        lag_s: float = LAG_S,
        behind: Callable[[], None] | None = None,
    ) -> None:
        """``behind`` is called when something begins to wait: :meth:`poll` is wanted within ``FLUSH_S``."""
        self.stale = StaleSet(weights)
        self._state = state
        self._link = link
        self._lossy = link.lossy
        self._counters = counters or Counters()
        self._keyframes = keyframes or KeyframeCache(state, self._counters)
        self._zstd = zstd
        self._budget = None if budget_kbps is None else Budget(budget_kbps, mono)
        self._lag_s = lag_s
        self._behind = behind or _nothing
        self._window = SentWindow()
        self._streams: list[_OpenStream] = []
        self._patience_s = PATIENCE_S
        self._blocked_since: float | None = None
        self._wanted: str | None = None
        self._plain = self._budget is None

    # --- what the world says ---------------------------------------------------------------

    def offer(self, out: Outgoing, mono: float) -> bool:
        """A message that the state has just taken. True if its own bytes went out at once."""
        if self._plain:
            message = out.packed if self._zstd else out.message
            link = self._link
            if len(message) > link.message_bytes_max():
                return self._offer_large(out, mono)
            window = self._window
            if link.send(message, window.next_token):
                if self._lossy:
                    window.add(out.keys)
                    if len(window) > OUTSTANDING_MAX:
                        self._give_up_oldest()
                return True
        return self._offer_late(out, mono)

    def mark(self, marks: dict[int, None]) -> None:
        """The newest values of these keys are not on their way: let them wait their turn."""
        if self._wanted is not None or not marks:
            return
        self.stale.add(marks)
        self._plain = False
        self._behind()

    def want_keyframe(self, reason: str, mono: float) -> None:
        """Give the reader everything, as soon as it can take something. ``reason`` as in ``resync``."""
        self._wanted = reason
        self._plain = False
        self.stale.clear()
        self.flush(mono)
        if self._wanted is not None:
            self._behind()

    def set_weights(self, weights: Mapping[int, float]) -> None:
        """``focus``: which keys matter more or less to this reader; the others have weight 1."""
        self.stale.set_weights(weights)

    # --- what the link says ----------------------------------------------------------------

    def on_acked(self, token: int) -> None:
        self._window.acked(token)

    def on_lost(self, token: int) -> None:
        """The newest values of what it carried go with the next frame, unless newer are on their way."""
        self._counters.lost += 1
        self.mark(dict.fromkeys(self._window.lost(token)))

    def on_writable(self, mono: float) -> None:
        self.flush(mono)

    # --- what time says --------------------------------------------------------------------

    def poll(self, mono: float) -> float | None:
        """Do what is due; answers when to call again (None: when something begins to wait)."""
        self.flush(mono)
        if self.stale or self._wanted is not None:
            return mono + (FLUSH_S if self._blocked_since is None else min(PATIENCE_S, self._lag_s))
        return mono + PATIENCE_S if self._streams else None

    @property
    def waiting(self) -> bool:
        """True while the reader does not have, nor is being sent, the newest of everything."""
        return self._wanted is not None or len(self.stale) > 0

    # --- sending ---------------------------------------------------------------------------

    def flush(self, mono: float) -> None:
        """Send newest values of what waits, as far as there is room and budget."""
        if self._streams:
            self._settle_streams(mono)
        if self._wanted is not None:
            self._send_keyframe(mono)
        if self.stale and self._better_all_at_once():
            self.want_keyframe("lagging", mono)
        for _ in range(REPAIR_MESSAGES_MAX):
            if not self.stale or not self._flush_one(mono):
                break
        self._plain = self._budget is None and self._wanted is None and not self.stale

    def _offer_late(self, out: Outgoing, mono: float) -> bool:
        """Not the frequent case: something waits already, or the message was not admitted. It goes
        only if what waits can go besides; else its keys wait behind the others."""
        if self._wanted is not None:
            self.flush(mono)
            return False
        record_bytes = out.size // max(1, len(out.keys)) + HEADER_BYTES
        if self._room(mono) >= out.size + len(self.stale) * record_bytes:
            return self._offer_large(out, mono)
        self._withhold(out.marks, mono)
        return False

    def _offer_large(self, out: Outgoing, mono: float) -> bool:
        """As datagrams, as many as are admitted, or by a stream; the rest begins to wait."""
        pieces = out.datagrams(self._link.message_bytes_max())
        if pieces is None:
            message = out.packed if self._zstd else out.message
            if self._room(mono) <= 0 or not self._send_stream([message], out.keys, len(message), mono):
                self._withhold(out.marks, mono)
                return False
            self.stale.discard(out.keys)
            self.flush(mono)
            return True
        for at, (message, keys) in enumerate(pieces):
            if not self._send(message, keys, mono):
                self._withhold({key: None for _, unsent in pieces[at:] for key in unsent}, mono)
                return False
            self.stale.discard(keys)
        self.flush(mono)
        return True

    def _withhold(self, marks: dict[int, None], mono: float) -> None:
        self._counters.withheld += 1
        self.mark(marks)
        self.flush(mono)

    def _flush_one(self, mono: float) -> bool:
        """One repair message. False: no room, or nothing of what is most urgent fits now."""
        room = self._room(mono)
        if room <= 0:
            self._blocked(mono)
            return False
        limit = min(room, self._link.message_bytes_max())
        keys = pick(self._state, self.stale.urgent(), limit)
        message = encode_newest(self._state, keys)
        if (
            self._send(message, keys, mono)
            if len(message) <= limit
            else self._send_large(message, keys, mono)
        ):
            self.stale.served(keys)
            self._counters.repaired += 1
            return True
        self._blocked(mono)
        return False

    def _send_large(self, message: bytes, keys: Keys, mono: float) -> bool:
        """One record that is larger than what may go now: overdraw the budget, or use a stream."""
        link = self._link
        if len(message) <= link.message_bytes_max() and len(message) <= link.room_bytes():
            return self._send(message, keys, mono)
        if self._lossy and len(message) <= link.message_bytes_max():
            return False
        return self._send_stream([message], keys, len(message), mono)

    def _send(self, message: bytes, keys: Keys, mono: float) -> bool:
        """One message by ``Link.send``, entered into the window."""
        if not self._link.send(message, self._window.next_token):
            self._blocked(mono)
            return False
        self._sent(keys, len(message))
        return True

    def _send_stream(
        self, messages: list[bytes], keys: Keys, size_bytes: int, mono: float, *, keyframe: bool = False
    ) -> bool:
        """Messages by a stream, one stream at a time."""
        if self._streams:
            return False
        handle = self._link.send_stream(messages)
        self._streams.append(
            _OpenStream(handle, self._window.next_token, keys, self._state.order, mono, keyframe)
        )
        self._counters.streamed += 1
        self._sent(keys, size_bytes)
        return True

    def _sent(self, keys: Keys, size_bytes: int) -> None:
        self._blocked_since = None
        if self._budget is not None:
            self._budget.spend(size_bytes)
        if self._lossy:
            self._window.add(keys)
            if len(self._window) > OUTSTANDING_MAX:
                self._give_up_oldest()

    def _send_keyframe(self, mono: float) -> None:
        """``resync`` and everything, once the link takes anything at all."""
        if self._link.room_bytes() <= 0:
            return
        reason, self._wanted, self._plain = self._wanted, None, self._budget is None
        for stream in self._streams:
            self._link.reset_stream(stream.handle)
            self._window.acked(stream.token)
        self._streams.clear()
        self.stale.clear()
        if not self._state.records and reason == "joined":
            return
        keyframe = self._keyframes.get(mono, zstd=self._zstd)
        self._link.control(encode_control("resync", reason=reason))
        self._counters.resyncs += 1
        self._send_stream(keyframe.messages, keyframe.keys, keyframe.size_bytes, mono, keyframe=True)
        self.mark(keyframe.changed)

    # --- room, lag, streams ----------------------------------------------------------------

    def _room(self, mono: float) -> int:
        """Bytes that may go now, by the link and by the budget."""
        room = self._link.room_bytes()
        if self._budget is None:
            return room
        return min(room, int(self._budget.refill(mono)))

    def _blocked(self, mono: float) -> None:
        """Something waits and cannot go. If nothing at all has gone for longer than the lag bound,
        a keyframe will say it all: until there is room, not even keys are kept. A reader that is
        held back by its budget alone is not lagging, it is getting what it asked for."""
        if self._link.room_bytes() > 0:
            return
        if self._blocked_since is None:
            self._blocked_since = mono
        elif mono - self._blocked_since > self._lag_s and not self._streams:
            self._wanted, self._plain = "lagging", False
            self.stale.clear()

    def _settle_streams(self, mono: float) -> None:
        """Let go of finished streams, and reset those that newer state has overtaken for too long."""
        for stream in list(self._streams):
            if self._link.stream_done(stream.handle):
                self._streams.remove(stream)
                self._window.acked(stream.token)
                self._patience_s = PATIENCE_S
            elif mono - stream.since > self._patience_s and self._overtaken(stream):
                self._patience_s = min(self._patience_s * 2, PATIENCE_S_MAX)
                self._reset(stream)

    def _overtaken(self, stream: _OpenStream) -> bool:
        """True when the state has newer values for everything the stream carries. A keyframe also
        says what is gone, which nothing that is newer says again."""
        order_at, order = self._state.order_at, stream.order
        return not stream.keyframe and all(order_at(key) > order for key in stream.keys)

    def _reset(self, stream: _OpenStream) -> None:
        self._streams.remove(stream)
        self._link.reset_stream(stream.handle)
        self._counters.streams_reset += 1
        if stream.token >= self._window.oldest:
            self._window.lost(stream.token)
        self.mark(dict.fromkeys(stream.keys))

    def _better_all_at_once(self) -> bool:
        """More than half of all records wait, they would take more datagrams than one stream is worth,
        and there is room for everything: then a keyframe is the shortest way."""
        waiting, records = len(self.stale), len(self._state)
        if waiting * 2 <= records or waiting <= PIECES_MAX or self._budget is not None or self._streams:
            return False
        keyframe_bytes = records * self._state.record_bytes
        bytes_max = self._link.message_bytes_max()
        return keyframe_bytes > PIECES_MAX * bytes_max and self._link.room_bytes() >= keyframe_bytes

    def _give_up_oldest(self) -> None:
        """The window is full: count its oldest message as lost rather than remember more. A stream
        is still being delivered, and goes on outside the window."""
        oldest = self._window.oldest
        if any(stream.token == oldest for stream in self._streams):
            self._window.acked(oldest)
        else:
            self.mark(dict.fromkeys(self._window.lost(oldest)))


def _nothing() -> None:
    """Nobody waits for this reader's polls."""
