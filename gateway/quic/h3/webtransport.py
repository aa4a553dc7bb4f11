"""A WebTransport session as a :class:`gateway.core.ports.Link`, on either side. Room: quic.

Datagrams go under tokens whose fate comes back; control messages go on one unidirectional stream;
each large frame has a stream of its own that can be reset when newer state overtakes it. Closing
is the capsule of draft-ietf-webtrans-http3 section 6 on the session's own stream.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from aioquic.buffer import encode_uint_var

from gateway import limits
from gateway.core.bundle import Burst
from gateway.core.events import address_text
from gateway.core.ports import CloseCode, Refusal, RoundTrips, Sent, Session, Transport, send_each
from gateway.core.states import LINK
from gateway.limits import WT_CLOSE_WAIT_S
from gateway.quic.connection.fades import excuse_unanswered
from gateway.quic.connection.framing import Framing, framing_of
from gateway.quic.h3.capsules import CLOSE_CAPSULE, CapsuleReader, close_capsule, closing_of
from gateway.quic.h3.sessionstreams import SessionStreams, WtError
from gateway.wire.control import Control

if TYPE_CHECKING:
    from gateway.core.gate import Standing
    from gateway.core.grants import Grant
    from gateway.quic.peer import Peer


class WebTransportLink:
    """One session. ``session_id``: the stream of its CONNECT. Made by the peer that serves or asked.

    ``closed_code`` and ``closed_reason`` tell how it ended, once it has.
    """

    transport: Transport = "webtransport"
    lossy = True
    standing: Standing | None = None
    certificate: Grant | None = None

    def __init__(self, peer: Peer, session_id: int) -> None:
        self.peer = peer
        self.session_id = session_id
        # A quarter: client's requests are every fourth stream, and a datagram names the session by it (RFC
        # 9297 section 2.1).
        self.prefix = encode_uint_var(session_id // 4)
        self.closed_code: int | None = None
        self.closed_reason = ""
        self._address = ""
        self.is_accepted = False
        self.on_token: Callable[[Control], None] | None = None
        """What to do with a fresh token that the peer sends; None: nobody asked for one."""
        self.state = LINK.first
        self._session: Session | None = None
        self.on_acked: Callable[[int, int], None] = _nobody
        """Told of datagrams that arrived: the session's own, for there are thousands a second."""
        self._early: list[tuple[int | None, bytes, bool]] = []
        self._early_bytes = 0
        self._capsules = CapsuleReader()
        self._closing: tuple[int, str] | None = None
        self._wants_room = False
        self._streams = SessionStreams(peer, session_id)

    # -- Link -----------------------------------------------------------------------------

    @property
    def address(self) -> str:
        """As it was when it was first asked for: what is counted by it must be given back by it."""
        if not self._address:
            peer_address = self.peer.quic.address
            self._address = address_text(*peer_address[:2]) if peer_address else ""
        return self._address

    def message_bytes_max(self) -> int:
        size = self.peer.quic.datagram_bytes_max() - len(self.prefix)
        return size if size > 0 else 0

    def room_bytes(self) -> int:
        if self._closing is not None:
            return 0
        quic = self.peer.quic
        room = quic.room_bytes()
        if quic.excused_bytes or room < quic.sending.bytes_max:
            room = excuse_unanswered(quic, self.peer.hub.time())
            if room < quic.sending.bytes_max:
                self._want_room()
        return room

    def round_trips(self) -> RoundTrips | None:
        return self.peer.quic.round_trips()

    def send(self, message: bytes, token: int) -> Sent:
        if self._closing is not None:
            return Refusal.CLOSED
        if not self.is_accepted:
            self.accept()
        peer, quic = self.peer, self.peer.quic
        if quic.excused_bytes:
            excuse_unanswered(quic, peer.hub.time())
        datagram = self.prefix + message
        refusal = quic.datagrams.offer(datagram, self, token)
        if refusal is Refusal.BLOCKED:
            excuse_unanswered(quic, peer.hub.time())
            if quic.excused_bytes:
                refusal = quic.datagrams.offer(datagram, self, token)
            if refusal is not None:
                self._want_room()
        if refusal is not None:
            return refusal
        if not peer.is_marked:
            peer.hub.mark(peer)
        return True

    def send_burst(self, burst: Burst, token: int) -> int | Refusal:
        peer = self.peer
        quic = peer.quic
        if self._closing is not None:
            return Refusal.CLOSED
        if not self.is_accepted:
            self.accept()
        framing = burst.framings.get(self.prefix)
        if framing is None and quic.content_bytes_max and burst.largest <= self.message_bytes_max():
            framing = framing_of(burst, self.prefix, quic.content_bytes_max)
        if quic.excused_bytes:
            excuse_unanswered(quic, peer.hub.time())
        if isinstance(framing, Framing) and quic.datagrams.offer_burst(framing, self, token) is None:
            if not peer.is_marked:
                peer.hub.mark(peer)
            return burst.count
        return send_each(self, burst, token)

    def after_input(self, call: Callable[[], None]) -> None:
        self.peer.hub.after_input(self.peer, call)

    def _want_room(self) -> None:
        self._wants_room = True
        self.peer.waiting.add(self)

    def send_stream(self, messages: Sequence[bytes]) -> int:
        handle = self._streams.handle()
        if self._closing is None:
            self.accept()
            self._streams.add(handle, messages)
            self._start_streams()
        return handle

    def reset_stream(self, handle: int) -> None:
        self._streams.reset(handle)

    def stream_done(self, handle: int) -> bool:
        return self._streams.is_done(handle)

    def control(self, message: bytes) -> None:
        if self._closing is not None:
            return
        self.accept()
        streams = self._streams
        if streams.control is None and not streams.open_control():
            self.close(CloseCode.TOO_SLOW, "no unidirectional stream allowed for control messages")
            return
        waiting_bytes = streams.write_control(message)
        if waiting_bytes is None:
            self.close(CloseCode.ERROR, "the control stream was stopped")
        elif waiting_bytes > limits.WT_CONTROL_BYTES_MAX:
            self.close(CloseCode.TOO_SLOW, "control messages were not read")

    def close(self, code: CloseCode, reason: str) -> None:
        if self._closing is not None:
            return
        self.state = LINK.after(self.state, "close")
        self._closing = (int(code), reason)
        self._streams.waiting.clear()
        if self._streams.control is None or self.peer.ended:
            # Not at once: the rules close a session while they go through their own lists.
            self.peer.hub.later(0, self._finish_closing)
            return
        # The capsule goes on another stream and would overtake the last control messages, the reason for closing
        # among them: it waits until they have arrived, or for a moment.
        self._streams.finish_control()
        self.peer.waiting.add(self)
        self.peer.hub.later(WT_CLOSE_WAIT_S, self._finish_closing)

    # -- the opening ----------------------------------------------------------------------

    def accept(self) -> None:
        """Answer the CONNECT with success, once; on the asking side it came from the peer."""
        if not self.is_accepted:
            self.is_accepted = True
            self.peer.accept_session(self)

    def attach(self, session: Session) -> None:
        """The rules' end is there: give it what came meanwhile."""
        self.state = LINK.after(self.state, "attach")
        self._session = session
        self.on_acked = session.on_acked
        mono = self.peer.hub.time()
        if self.closed_code is None:
            self.accept()
        early, self._early, self._early_bytes = self._early, [], 0
        for stream_id, data, ended in early:
            if stream_id is None:
                session.on_message(data, mono)
            else:
                session.on_stream_data(stream_id, data, ended, mono)
        if self.closed_code is not None:
            session.on_closed(mono)

    def _keep_early(self, stream_id: int | None, data: bytes, ended: bool) -> None:
        # 64: about what Python's objects around the bytes take, so that many empty messages are bounded, too.
        self._early_bytes += len(data) + 64
        if self._early_bytes <= limits.WT_EARLY_BYTES_MAX:
            self._early.append((stream_id, data, ended))
        else:
            self.peer.hub.counters["early_dropped"] += 1
            if stream_id is not None:
                self.peer.give_up_stream(stream_id, WtError.BUFFERED_STREAM_REJECTED)

    # -- from the peer --------------------------------------------------------------------

    def on_datagram(self, data: bytes) -> None:
        session = self._session
        if session is None:
            self._keep_early(None, data, False)
        elif self._closing is None:
            session.on_message(data, self.peer.hub.time())

    def on_stream(self, stream_id: int, data: bytes, ended: bool) -> None:
        if self._session is None:
            self._keep_early(stream_id, data, ended)
        elif self._closing is None:
            self._session.on_stream_data(stream_id, data, ended, self.peer.hub.time())

    def on_stream_reset(self, stream_id: int) -> None:
        if self._session is None:
            self._early = [kept for kept in self._early if kept[0] != stream_id]
        else:
            self._session.on_stream_reset(stream_id)

    def on_fate(self, token: int, acked: bool) -> None:
        if acked:
            self.on_acked(token, 1)
        elif self._session is not None:
            self._session.on_lost(token)

    def on_progress(self, now: float) -> None:
        """Something was acknowledged or lost: go on with what waited for it."""
        if self._closing is not None:
            if self._streams.control_is_over:
                self._finish_closing()
            return
        if self._streams.waiting:
            self._start_streams()
        if self._wants_room and self._session is not None:
            quic = self.peer.quic
            if quic.room_bytes() >= quic.sending.bytes_max:
                self._wants_room = False
                self._session.on_writable(now)
        if not self._streams.waiting and not self._wants_room and self._closing is None:
            # A peer with nobody waiting takes the short way for ACKs (Peer.receive).
            self.peer.waiting.discard(self)

    def on_capsules(self, data: bytes, ended: bool) -> None:
        """Content of the session's own stream: capsules, of which only the closing one matters. RFC 9297 section 3."""
        if self.closed_code is not None:
            return
        for kind, content in self._capsules.feed(data):
            if kind == CLOSE_CAPSULE:
                self._end(*closing_of(content))
                return
            self._streams.raised(kind, content)
            self._start_streams()
        if ended:
            self._end(0, "")

    def on_connection_over(self, reason: str) -> None:
        """The connection, or the session's stream, is gone."""
        self._end(int(CloseCode.ERROR), reason)

    # -- the end --------------------------------------------------------------------------

    def _finish_closing(self) -> None:
        if self.closed_code is not None or self._closing is None:
            return
        code, reason = self._closing
        quic = self.peer.quic
        if not self.peer.ended and quic.streams.can_send_on(self.session_id):
            self.peer.send_capsule(self.session_id, close_capsule(code, reason))
        self._end(code, reason)

    def _end(self, code: int, reason: str) -> None:
        if self.closed_code is not None:
            return
        self.state = LINK.after(self.state, "end")
        self.closed_code, self.closed_reason = code, reason
        self._closing = self._closing or (code, reason)
        self._streams.end()
        if not self.peer.ended:
            self.peer.finish_stream(self.session_id)
            self._streams.finish_control()
        self.peer.remove_session(self)
        self.peer.on_session_closed(self)
        # Taken off first: on_closed() may close this link, which is then over.
        session, self._session = self._session, None
        self.on_acked = _nobody
        self._early.clear()
        if session is not None:
            session.on_closed(self.peer.hub.time())

    def _start_streams(self) -> None:
        self._streams.start()
        if self._streams.waiting:
            self.peer.waiting.add(self)


def _nobody(token: int, count: int) -> None:
    """The rules' end is not there yet."""
