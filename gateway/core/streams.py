"""The streams on their way to one reader: at most one large frame, whose messages may come one by one, or one keyframe at a
time. Room: core. Pure.

A stream that newer state has overtaken is reset once it has had :data:`STREAM_PATIENCE_S` to get
through; the patience doubles with every reset, so that a link on which every large frame takes
longer than a tick still gets whole ones.
"""

from __future__ import annotations

from dataclasses import dataclass

from gateway.core.ports import Link
from gateway.core.state import WorldState
from gateway.core.window import Keys, SentWindow
from gateway.limits import FRAME_STREAMS_MAX, STREAM_PATIENCE_S, STREAM_PATIENCE_S_MAX


@dataclass(slots=True)
class OpenStream:
    """A stream in flight: its handle, its place in the window, and what it carries."""

    handle: int
    token: int
    keys: Keys
    order: int
    since: float
    keyframe: bool


class OpenStreams:
    """Watches the streams of one reader."""

    __slots__ = ("_link", "_open", "_patience_s", "_state", "_window")

    def __init__(self, link: Link, state: WorldState, window: SentWindow) -> None:
        self._link = link
        self._state = state
        self._window = window
        self._open: list[OpenStream] = []
        self._patience_s = STREAM_PATIENCE_S

    def __len__(self) -> int:
        return len(self._open)

    @property
    def keyframe_order(self) -> int | None:
        """Order of the newest frame of when the keyframe left that is on its way still; None: there is none."""
        done = self._link.stream_done
        orders = [one.order for one in self._open if one.keyframe and not done(one.handle)]
        return max(orders, default=None)

    @property
    def is_of_frame(self) -> bool:
        """Whether a further message of the newest frame may go beside them, which are its others: had it come as one message, it would
        be under way as a whole too."""
        some, order = self._open, self._state.order
        return len(some) < FRAME_STREAMS_MAX and all(one.order == order and not one.keyframe for one in some)

    def start(self, messages: list[bytes], keys: Keys, mono: float, *, keyframe: bool) -> None:
        """Send messages by a stream of their own; enter it into the window next."""
        handle = self._link.send_stream(messages)
        order = self._state.order
        self._open.append(OpenStream(handle, self._window.next_token, keys, order, mono, keyframe))

    def settle(self, mono: float) -> list[OpenStream]:
        """Let go of the finished ones and reset those that have been overtaken for too long; these
        are answered: the newest values of what they carried have to be sent again."""
        reset = []
        for stream in list(self._open):
            if self._link.stream_done(stream.handle):
                self._open.remove(stream)
                self._window.acked(stream.token)
                self._patience_s = STREAM_PATIENCE_S
            elif mono - stream.since > self._patience_s and self._overtaken(stream):
                # Else a link on which a large frame takes longer than the patience would never get a whole one.
                self._patience_s = min(self._patience_s * 2, STREAM_PATIENCE_S_MAX)
                self._open.remove(stream)
                self._link.reset_stream(stream.handle)
                self._window.lost(stream.token)
                reset.append(stream)
        return reset

    def reset_all(self) -> None:
        """Something that says everything anew takes their place."""
        for stream in self._open:
            self._link.reset_stream(stream.handle)
            self._window.acked(stream.token)
        self._open.clear()

    def owns(self, token: int) -> bool:
        """True where the window's entry ``token`` is a stream still on its way."""
        return any(stream.token == token for stream in self._open)

    def _overtaken(self, stream: OpenStream) -> bool:
        """True when the state has newer values for everything the stream carries. A keyframe also
        says what is gone, which nothing that is newer says again."""
        order_at, order = self._state.order_at, stream.order
        # One value that nothing newer replaces keeps the stream: resetting it would cost the whole of it to send
        # that one.
        return not stream.keyframe and all(order_at(key) > order for key in stream.keys)
