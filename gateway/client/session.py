"""One open session as the client sees it: bytes in, frames and control messages out. Room: client.

Implements :class:`gateway.core.ports.Session` for both transports and hands what it read to a
:class:`LiveEnd`, which is a publisher or a subscriber.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from gateway import limits
from gateway.client.problems import error_for
from gateway.core.ports import CloseCode, Link
from gateway.errors import (
    Conflict,
    Forbidden,
    GatewayError,
    MalformedMessage,
    ShuttingDown,
    TooLarge,
    WorldHeld,
)
from gateway.wire import Control, Frame, MessageStream, decode_message
from gateway.wire.parity import TYPE_PARITY, Rebuilder

_PARITY = bytes([TYPE_PARITY])
_FIRST = frozenset(("welcome", "error", "bye"))
"""What counts at once, also where it comes before ``welcome``."""


class LiveEnd(Protocol):
    """What reacts to a session. Called from the event loop; every method returns at once."""

    def on_open(self) -> None: ...

    def on_welcome(self, link: Link, welcome: Control) -> None: ...

    def on_frame(self, frame: Frame, size_bytes: int) -> None: ...

    def on_control(self, control: Control) -> None: ...

    def on_malformed(self) -> None: ...

    def on_rebuilt(self) -> None: ...

    def on_acked(self, token: int, count: int = 1) -> None: ...

    def on_lost(self, token: int) -> None: ...

    def on_writable(self) -> None: ...

    def on_gone(self) -> None: ...


class LiveSession:
    """Reads one session until it ends. ``welcomed`` and ``closed`` are set by what comes in."""

    def __init__(self, link: Link, end: LiveEnd) -> None:
        self.link = link
        self.welcomed = asyncio.Event()
        self.closed = asyncio.Event()
        self.ended_by: GatewayError | None = None
        self.reconnect_after_s = 0.0
        self.heard = False
        self._end = end
        self._streams: dict[int, MessageStream] = {}
        self._early: list[tuple[Frame | Control, int]] = []
        """What came by other streams before ``welcome``, and its bytes: the order of streams is nobody's."""
        self._early_bytes = 0
        self._rebuilder = Rebuilder() if link.lossy else None

    # -- ports.Session --

    def on_message(self, data: bytes, mono: float) -> None:
        # Parity is no message; but what it rebuilds is one, and messages that came are what it rebuilds
        # from.
        if data[:1] != _PARITY:
            self._take(data)
        if self._rebuilder is not None:
            lost = self._rebuilder.receive(data)
            if lost is not None:
                self._end.on_rebuilt()
                self._take(lost)

    def _take(self, data: bytes) -> None:
        self.heard = True
        try:
            message = decode_message(data)
        except MalformedMessage:
            self._end.on_malformed()
            return
        # Streams overtake each other: a keyframe may come before the `welcome` that says what it is of.
        if self.welcomed.is_set() or (isinstance(message, Control) and message.type in _FIRST):
            self._hear(message, len(data))
        else:
            self._keep(message, len(data))

    def _hear(self, message: Frame | Control, size_bytes: int) -> None:
        if isinstance(message, Frame):
            self._end.on_frame(message, size_bytes)
        else:
            self._take_control(message)

    def _keep(self, message: Frame | Control, size_bytes: int) -> None:
        self._early_bytes += size_bytes
        if self._early_bytes <= limits.CLIENT_EARLY_BYTES_MAX:
            self._early.append((message, size_bytes))
            return
        self._early.clear()
        self.ended_by = TooLarge(
            f"the gateway sent more than {limits.CLIENT_EARLY_BYTES_MAX} bytes before its welcome, and none of them can be used"
        )
        self.link.close(CloseCode.MALFORMED, "too much came before welcome")

    def on_stream_data(self, stream_id: int, data: bytes, fin: bool, mono: float) -> None:
        stream = self._streams.get(stream_id)
        if stream is None:
            stream = self._streams[stream_id] = MessageStream()
            while len(self._streams) > limits.CLIENT_STREAMS_MAX:
                # The oldest: a gateway resets streams that are out of date, and that word may be lost with
                # a restart.
                del self._streams[next(iter(self._streams))]
        stream.feed(data)
        try:
            for message in stream:
                self._take(message)
        except (MalformedMessage, TooLarge):
            self._end.on_malformed()
            self._streams.pop(stream_id, None)
        if fin:
            self._streams.pop(stream_id, None)

    def on_stream_reset(self, stream_id: int) -> None:
        self._streams.pop(stream_id, None)

    def on_acked(self, token: int, count: int = 1) -> None:
        self._end.on_acked(token, count)

    def on_lost(self, token: int) -> None:
        self._end.on_lost(token)

    def on_writable(self, mono: float) -> None:
        self._end.on_writable()

    def on_closed(self, mono: float) -> None:
        if not self.closed.is_set():
            self.closed.set()
            if self.welcomed.is_set():
                self._end.on_gone()

    # -- inside --

    def _take_control(self, control: Control) -> None:
        if control.type == "welcome":
            if not self.welcomed.is_set():
                self.welcomed.set()
                self._end.on_open()
            self._end.on_welcome(self.link, control)
        elif control.type == "error":
            facts = {name: control[name] for name in ("world", "url") if name in control.fields}
            self.ended_by = error_for(str(control.get("code")), str(control.get("message")), **facts)
        elif control.type == "bye":
            self._take_bye(control)
        # After the session has taken it, and before the early ones, which may depend on it.
        self._end.on_control(control)
        early, self._early = self._early, []
        for message, size_bytes in early if self.welcomed.is_set() else ():
            self._hear(message, size_bytes)

    def _take_bye(self, control: Control) -> None:
        reason = str(control.get("reason"))
        wait_ms = control.get("reconnect_after_ms")
        if isinstance(wait_ms, int | float):
            self.reconnect_after_s = min(max(wait_ms / 1000, 0.0), limits.CLIENT_BACKOFF_S_MAX)
        if reason in ("taken_over", "takeover", CloseCode.TAKEN_OVER.name.lower()):
            where = f", at {control['url']}" if control.get("url") else ""
            self.ended_by = _TakenOver(f"another publisher took the world over{where}")
        elif reason == "moved" and control.get("url"):
            self.ended_by = WorldHeld.at(str(control.get("world")), str(control["url"]), 0)
        elif reason in ("expired", "revoked"):
            self.ended_by = GrantEnded(f"the gateway ended this session: its grant is {reason}")
        # An error that came before says more than the farewell behind it.
        elif self.ended_by is None:
            self.ended_by = ShuttingDown(f"the gateway said bye: {reason}")


class GrantEnded(Forbidden):
    """The token by which the session was let in has expired, or was revoked; a fresh one may open another."""

    code = "grant_ended"
    title = "Grant ended"


class _TakenOver(Conflict):
    """Another publisher took the world: coming back would throw it out again."""

    code = "taken_over"
    title = "Taken over"
    retry = False
