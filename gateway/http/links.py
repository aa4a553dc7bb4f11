"""One session's transport over TCP, as the rules see it. Room: http.

A :class:`TcpLink` never lets a stale frame wait: it admits a message only while little waits
before it (in this process or, unsent, in the kernel), says so by ``room_bytes``, and calls
``Session.on_writable`` when half of that "little" is free again. How much it is it learns
(:mod:`gateway.http.linkwindow`). Keyframes wait in the link message by message, and can be given up
(``reset_stream``) until they have gone out. Where the bytes go is a :class:`Sink`'s business.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

from gateway import limits
from gateway.core.gate import Standing
from gateway.core.grants import Grant
from gateway.core.ports import CloseCode, OneByOne, Refusal, Sent, Session, Transport
from gateway.http.linkwindow import LinkWindow


class Sink(Protocol):
    """Where a link's messages go. Every method returns at once."""

    @property
    def close(self) -> tuple[CloseCode, str] | None:
        """How the session was ended; None while it was not."""

    def write(self, message: bytes) -> None:
        """Take one message; it goes out as soon as it can."""

    def pending_bytes(self) -> int:
        """Bytes taken and not yet sent to the peer, as far as can be known."""

    def finish(self, code: CloseCode, reason: str) -> None:
        """End the session after what was written."""


class TcpLink(OneByOne):
    """Implements :class:`gateway.core.ports.Link` over a :class:`Sink`.

    Call :meth:`attach` once the session is there; it drives ``on_writable`` from then on.
    """

    lossy = False

    def __init__(
        self,
        transport: Transport,
        message_bytes_max: int,
        sink: Sink,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._transport: Transport = transport
        self.address = ""
        self.standing: Standing | None = None
        """The grant that the request of this session was let in by, where its door has asked for it already."""
        self.certificate: Grant | None = None
        """The grant of the connection's client certificate."""
        self.on_token = None
        self._message_bytes_max = message_bytes_max
        self._sink = sink
        self._clock = clock
        self._session: Session | None = None
        self._window = LinkWindow()
        self._is_blocked = False
        self._streams: deque[tuple[int, bytes]] = deque()
        self._stream_bytes = 0
        self._handles = 0
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
        # What waits as a stream goes first, and a link that has refused stays shut until it says on_writable.
        if self._closed or self._is_blocked or self._streams:
            return 0
        window = self._window
        if window.room < limits.DATAGRAM_SAFE_BYTES:
            self._look_at_sink()
            if window.room < limits.DATAGRAM_SAFE_BYTES:
                # Until half of the window is free again: refusing and taking by turns, message by message,
                # would cost a look at the socket for each.
                self._is_blocked = True
                self._watch()
                return 0
        return window.room

    def _look_at_sink(self) -> None:
        """What has not gone out, as far as it can be known: uvloop tells of bytes only once their turn
        of the loop is over, so what was written in this turn counts as waiting."""
        waiting = self._sink.pending_bytes()
        if self._judged is not None:
            waiting = max(waiting, self._window.written - self._judged_bytes)
        self._window.saw(waiting, self._clock())

    def send(self, message: bytes, token: int) -> Sent:
        if self._closed:
            return Refusal.CLOSED
        if len(message) > self._message_bytes_max:
            return Refusal.TOO_LARGE
        room = self.room_bytes()
        if len(message) > room and not self._is_the_first(message, room):
            return Refusal.BLOCKED
        self._write(message)
        return True

    def _is_the_first(self, message: bytes, room: int) -> bool:
        """A message larger than the whole window goes where nothing waits before it."""
        if not room:
            return False
        self._look_at_sink()
        if self._window.waiting == 0 or len(message) <= self._window.room:
            return True
        self._is_blocked = True
        self._watch()
        return False

    def send_stream(self, messages: Sequence[bytes]) -> int:
        self._handles += 1
        if self._closed:
            return self._handles
        self._streams.extend((self._handles, message) for message in messages)
        self._stream_bytes += sum(map(len, messages))
        # A reader that takes keyframes more slowly than they are made will never be current.
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
        # Never written, or asked before and gone.
        if mark is None:
            return True
        self._look_at_sink()
        if self._window.written - self._window.waiting < mark:
            return False
        del self._done_at[handle]
        return True

    def control(self, message: bytes) -> None:
        if self._closed:
            return
        # Control messages pass the window, so they have a bound of their own.
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
        window = self._window
        self._sink.write(message)
        window.written += len(message)
        # Only where the window fills: a link that keeps up is not measured at each message.
        if self._judged is None and window.waiting * 2 > window.size and not self._closed:
            self._judged_bytes = window.written - len(message)
            window.measure_from(self._clock())
            self._judged = asyncio.get_running_loop().call_soon(self._judge)

    def _judge(self) -> None:
        """The turn of the loop is over: is what was written in it out?"""
        self._judged = None
        self._look_at_sink()
        if self._window.waiting == 0:
            self._feed_streams()
        else:
            self._watch()

    def _feed_streams(self) -> None:
        window = self._window
        if self._streams and window.room < limits.DATAGRAM_SAFE_BYTES:
            self._look_at_sink()
        while self._streams and window.room >= limits.DATAGRAM_SAFE_BYTES:
            handle, message = self._streams.popleft()
            self._stream_bytes -= len(message)
            self._write(message)
            self._done_at[handle] = window.written
        # Handles that nobody asks for any more are looked at now and then, and go.
        if len(self._done_at) > 64:
            for handle in list(self._done_at):
                self.stream_done(handle)
        if self._streams:
            self._watch()

    def _watch(self) -> None:
        if self._poll is None and not self._closed:
            loop = asyncio.get_running_loop()
            self._poll = loop.call_later(self._window.drained_in(), self._look)

    def _look(self) -> None:
        """Half of the window is free again, or it is looked at again."""
        self._poll = None
        if self._closed:
            return
        window = self._window
        self._look_at_sink()
        self._feed_streams()
        if self._streams or window.room < window.size // 2:
            self._watch()
        elif self._is_blocked:
            self._is_blocked = False
            if self._session is not None:
                self._session.on_writable(time.monotonic())
