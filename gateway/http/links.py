"""One session's transport over TCP, as the rules see it. Room: http.

A :class:`TcpLink` never lets a stale frame wait: it admits a message only while little waits
before it, says so by ``room_bytes``, and calls ``Session.on_writable`` when there is room
again. How much is "little" it learns: a window that halves when the connection blocks and
doubles while it does not. Keyframes wait in the link message by message, and can be given up
(``reset_stream``) until they have gone out. Where the bytes go is a :class:`Sink`'s business.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from typing import Protocol

from gateway import limits
from gateway.core.ports import CloseCode, Session, Transport


class Sink(Protocol):
    """Where a link's messages go. Every method returns at once."""

    def write(self, message: bytes) -> None:
        """Take one message; it goes out as soon as it can."""

    def pending_bytes(self) -> int:
        """Bytes taken and not yet handed to the kernel."""

    def finish(self, code: CloseCode, reason: str) -> None:
        """End the session after what was written."""


class TcpLink:
    """Implements :class:`gateway.core.ports.Link` over a :class:`Sink`.

    Call :meth:`attach` once the session is there; it drives ``on_writable`` from then on.
    """

    lossy = False

    def __init__(self, transport: Transport, message_bytes_max: int, sink: Sink) -> None:
        self._transport: Transport = transport
        self._message_bytes_max = message_bytes_max
        self._sink = sink
        self._session: Session | None = None
        self._window = limits.LINK_WINDOW_BYTES_MAX
        self._streams: deque[tuple[int, bytes]] = deque()
        self._stream_bytes = 0
        self._handles = 0
        self._written_bytes = 0
        self._done_at: dict[int, int] = {}
        self._poll: asyncio.TimerHandle | None = None
        self._judged: asyncio.Handle | None = None
        self._judged_bytes = 0
        self._closed = False

    @property
    def transport(self) -> Transport:
        return self._transport

    @property
    def closed(self) -> bool:
        """True once either side has ended the session."""
        return self._closed

    def attach(self, session: Session) -> None:
        """The session that ``on_writable`` is called on."""
        self._session = session

    def message_bytes_max(self) -> int:
        return self._message_bytes_max

    def room_bytes(self) -> int:
        room = self._room()
        if room == 0:
            self._watch()
        return room

    def _room(self) -> int:
        if self._closed or self._streams:
            return 0
        return max(0, self._window - self._waiting_bytes())

    def _waiting_bytes(self) -> int:
        """What has not gone out, as far as it can be known: uvloop tells of bytes only once their turn
        of the loop is over, so what was written in this turn counts as waiting."""
        pending = self._sink.pending_bytes()
        return pending if self._judged is None else max(pending, self._written_bytes - self._judged_bytes)

    def send(self, message: bytes, token: int) -> bool:
        if len(message) > self._message_bytes_max or self.room_bytes() == 0:
            return False
        self._write(message)
        return True

    def send_stream(self, messages: Sequence[bytes]) -> int:
        self._handles += 1
        if self._closed:
            return self._handles
        self._streams.extend((self._handles, message) for message in messages)
        self._stream_bytes += sum(map(len, messages))
        if self._stream_bytes > limits.LINK_STREAM_BYTES_MAX:
            self.close(CloseCode.TOO_SLOW, "more keyframes wait than are kept")
        self._feed_streams()
        return self._handles

    def reset_stream(self, handle: int) -> None:
        kept = deque(item for item in self._streams if item[0] != handle)
        self._stream_bytes -= sum(len(m) for h, m in self._streams if h == handle)
        self._streams = kept
        self._done_at.pop(handle, None)

    def stream_done(self, handle: int) -> bool:
        if any(h == handle for h, _ in self._streams):
            return False
        mark = self._done_at.get(handle)
        if mark is not None and self._written_bytes - self._waiting_bytes() >= mark:
            del self._done_at[handle]
            mark = None
        return mark is None

    def control(self, message: bytes) -> None:
        if self._closed:
            return
        if self._sink.pending_bytes() > limits.LINK_CONTROL_BYTES_MAX + self._message_bytes_max:
            self.close(CloseCode.TOO_SLOW, "the peer does not read")
            return
        self._write(message)

    def close(self, code: CloseCode, reason: str) -> None:
        if self._closed:
            return
        self.gone()
        self._sink.finish(code, reason)

    def gone(self) -> None:
        """The transport has ended: nothing is sent any more. Idempotent."""
        self._closed = True
        self._streams.clear()
        self._stream_bytes = 0
        if self._poll is not None:
            self._poll.cancel()
            self._poll = None

    def _write(self, message: bytes) -> None:
        self._sink.write(message)
        self._written_bytes += len(message)
        if self._judged is None and not self._closed:
            self._judged_bytes = self._written_bytes - len(message)
            self._judged = asyncio.get_running_loop().call_soon(self._judge)

    def _judge(self) -> None:
        """Narrow the window if what was written in one turn is not out in the next, else widen it."""
        self._judged = None
        if self._sink.pending_bytes() > 0:
            self._window = max(limits.LINK_WINDOW_BYTES_MIN, self._window // 2)
        else:
            written = self._written_bytes - self._judged_bytes
            self._window = min(limits.LINK_WINDOW_BYTES_MAX, self._window + written)
            self._feed_streams()

    def _feed_streams(self) -> None:
        while self._streams and self._waiting_bytes() < self._window:
            handle, message = self._streams.popleft()
            self._stream_bytes -= len(message)
            self._write(message)
            self._done_at[handle] = self._written_bytes
        if len(self._done_at) > 64:
            for handle in list(self._done_at):
                self.stream_done(handle)
        if self._streams:
            self._watch()

    def _watch(self) -> None:
        if self._poll is None and not self._closed:
            self._poll = asyncio.get_running_loop().call_later(limits.LINK_POLL_S, self._look)

    def _look(self) -> None:
        self._poll = None
        if self._closed:
            return
        self._feed_streams()
        if self._room() == 0:
            self._watch()
        elif self._session is not None:
            self._session.on_writable(time.monotonic())
