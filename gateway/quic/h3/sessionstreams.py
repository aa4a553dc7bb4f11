"""The one-way streams that this end of a session opens: one for control messages, one each for large frames. Room: quic.

What QUIC or the session's own flow control (:mod:`credit`) does not let out yet waits here, and is forgotten with its stream.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from enum import IntEnum
from typing import TYPE_CHECKING

from gateway import limits
from gateway.quic.h3.credit import SessionCredit

if TYPE_CHECKING:
    from gateway.quic.peer import Peer

_LENGTH = struct.Struct("<I")
_APPLICATION_ERROR_FIRST = 0x52E4A40FA8DB


class WtError(IntEnum):
    """Stream error codes of WebTransport over HTTP/3."""

    BUFFERED_STREAM_REJECTED = 0x3994BD84
    SESSION_GONE = 0x170D7B68


def stream_error(code: int) -> int:
    """An application's error code as HTTP/3 carries it (draft-ietf-webtrans-http3-16 section 4.4)."""
    # Every thirty-first number is left out: those are HTTP/3's reserved codes of the form 0x1f * N + 0x21 (RFC 9114
    # section 8.1).
    return _APPLICATION_ERROR_FIRST + code + code // 0x1E


class SessionStreams:
    """Those of one session. A *handle* names one of a large frame before and after it has a stream ID."""

    __slots__ = (
        "_credit",
        "_next_handle",
        "_peer",
        "_session_id",
        "_started",
        "_unfed",
        "control",
        "waiting",
    )

    def __init__(self, peer: Peer, session_id: int) -> None:
        self._peer = peer
        self._session_id = session_id
        self._next_handle = 1
        self._started: dict[int, int] = {}
        self.waiting: dict[int, bytes] = {}
        """Content of streams that may not begin yet, by handle."""
        self.control: int | None = None
        """The ID of the stream of control messages, once there is one."""
        self._credit: SessionCredit | None = None
        self._unfed: dict[int, tuple[bytes, bool]] = {}

    # -- large frames ---------------------------------------------------------------------

    def handle(self) -> int:
        """Another one's handle."""
        handle = self._next_handle
        self._next_handle += 1
        return handle

    def add(self, handle: int, messages: Sequence[bytes]) -> None:
        """A stream of these and nothing else, which :meth:`start` begins. Where there are too many, the oldest goes."""
        self.waiting[handle] = b"".join(part for m in messages for part in (_LENGTH.pack(len(m)), m))
        while len(self._started) + len(self.waiting) > limits.WT_STREAMS_PER_SESSION_MAX:
            for started in list(self._started):
                self.is_done(started)
            if len(self._started) + len(self.waiting) <= limits.WT_STREAMS_PER_SESSION_MAX:
                break
            # Handles rise: the smallest is the oldest frame, which newer state has overtaken.
            self.reset(min([*self._started, *self.waiting]))

    def start(self) -> None:
        """Begin what may begin now."""
        peer, started = self._peer, False
        while self.waiting and not peer.quic.is_ended and self._may_open():
            handle = next(iter(self.waiting))
            stream_id = self._open()
            self._write(stream_id, self.waiting.pop(handle), end=True)
            self._started[handle] = stream_id
            started = True
        if started:
            peer.hub.mark(peer)

    def reset(self, handle: int) -> None:
        """Newer state has overtaken it: whatever of it has not arrived need not."""
        self.waiting.pop(handle, None)
        stream_id = self._started.pop(handle, None)
        if stream_id is not None:
            self._unfed.pop(stream_id, None)
            self._peer.give_up_stream(stream_id, stream_error(0))

    def is_done(self, handle: int) -> bool:
        """Whether all of it has arrived, or nothing more of it will be sent."""
        if handle in self.waiting:
            return False
        stream_id = self._started.get(handle)
        if stream_id is None:
            return True
        if self._peer.quic.streams.send_is_over(stream_id):
            del self._started[handle]
            return True
        return False

    # -- control messages -----------------------------------------------------------------

    def open_control(self) -> bool:
        """Begin the stream of control messages. False: no stream may begin now."""
        if not self._may_open():
            return False
        self.control = self._open()
        return True

    def write_control(self, message: bytes) -> int | None:
        """Put a message on it; answers how many bytes wait there now, or None where the peer has stopped it."""
        streams, control = self._peer.quic.streams, self.control
        assert control is not None
        if not streams.can_send_on(control):
            return None
        self._write(control, _LENGTH.pack(len(message)) + message, end=False)
        self._peer.hub.mark(self._peer)
        return streams.unsent_bytes(control) + len(self._unfed.get(control, (b"", False))[0])

    @property
    def control_is_over(self) -> bool:
        """Whether there was one, and all of it has arrived."""
        return self.control is not None and self._peer.quic.streams.send_is_over(self.control)

    def finish_control(self) -> None:
        """No control message follows."""
        if self.control is not None:
            self._peer.finish_stream(self.control)

    # -- credit ---------------------------------------------------------------------------

    def raised(self, capsule: int, content: bytes) -> None:
        """The peer raised a limit of the session's own flow control; call :meth:`start` next."""
        if self._credit is None:
            return
        self._credit.raised(capsule, content)
        for stream_id, (data, end) in list(self._unfed.items()):
            if self._peer.quic.streams.can_send_on(stream_id):
                del self._unfed[stream_id]
                self._write(stream_id, data, end=end)
            else:
                del self._unfed[stream_id]
        self._peer.hub.mark(self._peer)

    def end(self) -> None:
        """The session is over: what has not arrived is given up, but for control messages."""
        self.waiting.clear()
        self._unfed.clear()
        for handle in list(self._started):
            if not self.is_done(handle):
                self.reset(handle)
        self._started.clear()

    def _open(self) -> int:
        assert self._peer.h3 is not None
        if self._credit is not None:
            self._credit.opened()
        return self._peer.h3.create_webtransport_stream(self._session_id, is_unidirectional=True)

    def _may_open(self) -> bool:
        """Whether QUIC and, where it has one, the session's own flow control let another stream begin now."""
        h3 = self._peer.h3
        if self._credit is None and h3 is not None and (found := h3.session_limits()):
            credit = SessionCredit(*found)
            self._credit = credit if credit.is_bounded else None
        return self._peer.quic.streams.can_open_uni() and (self._credit is None or self._credit.may_open())

    def _write(self, stream_id: int, data: bytes, *, end: bool) -> None:
        """Onto a stream, as far as the session's credit goes; the rest when there is more."""
        quic = self._peer.quic
        if self._credit is None:
            quic.send_stream_data(stream_id, data, end_stream=end)
            return
        before, _ = self._unfed.pop(stream_id, (b"", False))
        data = before + data
        taken = self._credit.spend(len(data))
        if taken < len(data):
            self._unfed[stream_id] = data[taken:], end
            end = False
        if taken or end:
            quic.send_stream_data(stream_id, data[:taken], end_stream=end)
