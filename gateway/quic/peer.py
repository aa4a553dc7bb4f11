"""One QUIC connection with HTTP/3 on it: events in, streams and sessions out. Room: quic.

A :class:`Peer` is driven by a :class:`Hub` (an endpoint on a socket, or a simulated link in tests)
and knows neither sockets nor tasks. Server and client derive from it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Protocol

from aioquic.quic import events

from gateway import limits
from gateway.quic.buffers import Buffer, BufferReadError
from gateway.quic.connection.connection import QUIET, Connection
from gateway.quic.connection.paths import Address
from gateway.quic.connection.state import PeerCloses
from gateway.quic.h3.codes import ErrorCode
from gateway.quic.h3.http3 import Http3
from gateway.quic.h3.sessionstreams import WtError
from gateway.quic.h3.told import (
    DataReceived,
    H3Event,
    HeadersReceived,
    MessageRefused,
    WebTransportStreamDataReceived,
)
from gateway.quic.h3.webtransport import WebTransportLink
from gateway.quic.unsent import send_buffer_bytes

logger = logging.getLogger(__name__)


class Hub(Protocol):
    """What drives peers: time, a place to run tasks, and sending on their behalf."""

    counters: dict[str, int]

    def time(self) -> float:
        """Seconds of a monotonic clock."""

    def mark(self, peer: Peer) -> None:
        """This peer has something to send, or another deadline."""

    def spawn(self, work: Coroutine[object, object, None]) -> asyncio.Task[None]: ...

    def after_input(self, peer: Peer, call: Callable[[], None]) -> None:
        """Make this call, which ``peer`` caused, once all that was read together has been handed over: at
        once where nothing is being read."""

    def later(self, delay_s: float, call: Callable[[], None]) -> None: ...

    def on_ids(self, peer: Peer, cid: bytes, *, issued: bool) -> None:
        """A connection ID of ours came into use or went out of it."""

    def on_ended(self, peer: Peer) -> None:
        """The connection is over; forget it."""


class Peer:
    """The base of both sides. Subclasses take requests or responses, see the ``on_`` methods."""

    def __init__(self, quic: Connection, hub: Hub) -> None:
        self.quic = quic
        quic.listen(on_payload=self.on_datagram)
        self.hub = hub
        self.h3: Http3 | None = None
        self.wheel_slot = 0
        self.wheel_entry: list[Peer] = [self]
        self.is_marked = False
        self.handshake_done = False
        self.ended: events.ConnectionTerminated | None = None
        self.sessions: dict[int, WebTransportLink] = {}
        self.waiting: set[WebTransportLink] = set()
        self._session_streams: dict[int, WebTransportLink] = {}
        self._by_quarter: dict[bytes, WebTransportLink] = {}
        self._draining: dict[int, asyncio.Future[None]] = {}

    # -- input ----------------------------------------------------------------------------

    def receive(self, data: bytes, addr: Address, now: float) -> None:
        """Take one UDP datagram. Never raises: a fault of ours ends this connection only."""
        quic = self.quic
        try:
            # Nearly every packet of a reader is this: an ACK of datagrams and nothing else. It tells the rules so
            # and goes no further: no events, no fates, nothing to flush.
            if quic.receive(data, addr, now) == QUIET and not self.waiting and not self._draining:
                recovery = quic.recovery
                acked, recovery.acked = recovery.acked, []
                for sink, token, count in acked:
                    sink.on_acked(token, count)
                return
        except Exception:
            self.fault("receiving a packet")
        if quic.events or quic.recovery.fates or self.waiting or self._draining:
            self.hand_on(now)
            return
        if quic.recovery.acked:
            self._tell_acked()
        if not self.is_marked and quic.needs_flush:
            self.hub.mark(self)

    def on_timer(self, now: float) -> None:
        """Its deadline has come."""
        try:
            self.quic.on_deadline(now)
        except Exception:
            self.fault("a timer")
        self.hand_on(now)
        self.hub.mark(self)

    def hand_on(self, now: float) -> None:
        """Hand on what the input caused, then ask to be flushed."""
        quic = self.quic
        while quic.events:
            try:
                self._on_event(quic.events.popleft())
            except Exception:
                self.fault("an event")
        if quic.recovery.acked or quic.recovery.fates or self.waiting or self._draining:
            try:
                self._tell_progress(now)
            except Exception:
                self.fault("telling what arrived")
        if not self.is_marked and quic.needs_flush:
            self.hub.mark(self)

    def _tell_progress(self, now: float) -> None:
        """Acknowledgements may have freed room: tell whoever waits for it."""
        quic = self.quic
        if quic.recovery.acked:
            self._tell_acked()
        if quic.recovery.fates:
            for sink, token, arrived in quic.take_fates():
                sink.on_fate(token, arrived)
        if self._draining:
            self._wake_writers()
        if self.waiting:
            for link in tuple(self.waiting):
                link.on_progress(now)

    def _tell_acked(self) -> None:
        recovery = self.quic.recovery
        acked, recovery.acked = recovery.acked, []
        try:
            for sink, token, count in acked:
                sink.on_acked(token, count)
        except Exception:
            self.fault("telling what arrived")

    def fault(self, doing: str) -> None:
        """A fault in our own code: counted, told once a connection, and the connection is closed."""
        self.hub.counters["faults"] += 1
        if self.quic.close_event is None:
            logger.exception("fault in %s; closing the connection", doing)
        self.quic.close(error_code=ErrorCode.H3_INTERNAL_ERROR, reason_phrase="internal error")

    # -- events ---------------------------------------------------------------------------

    def _on_event(self, event: events.QuicEvent) -> None:
        if isinstance(event, events.DatagramFrameReceived):
            self.on_datagram(event.data)
        elif isinstance(event, events.StreamDataReceived):
            self._on_h3(event)
        elif isinstance(event, (events.StreamReset, events.StopSendingReceived)):
            self._on_h3(event)
            self._on_stream_given_up(event)
        elif isinstance(event, events.ConnectionIdIssued):
            self.hub.on_ids(self, event.connection_id, issued=True)
        elif isinstance(event, events.ConnectionIdRetired):
            self.hub.on_ids(self, event.connection_id, issued=False)
        elif isinstance(event, events.HandshakeCompleted):
            self.handshake_done = True
            self.on_handshake(event)
        elif isinstance(event, events.ProtocolNegotiated):
            self.on_negotiated()
        elif isinstance(event, events.PingAcknowledged):
            self.on_ping(event.uid)
        elif isinstance(event, PeerCloses):
            self._end_sessions(event.reason)
        elif isinstance(event, events.ConnectionTerminated):
            self._on_terminated(event)

    def _on_h3(self, event: events.QuicEvent) -> None:
        if self.h3 is not None:
            for h3_event in self.h3.handle_event(event):
                self._on_h3_event(h3_event)

    def _on_h3_event(self, event: H3Event) -> None:
        if isinstance(event, WebTransportStreamDataReceived):
            self._on_session_stream(event)
        elif isinstance(event, DataReceived):
            link = self.sessions.get(event.stream_id)
            if link is not None:
                link.on_capsules(event.data, event.stream_ended)
            else:
                self.on_data(event.stream_id, event.data, event.stream_ended)
        elif isinstance(event, HeadersReceived):
            self.on_headers(event.stream_id, event.headers, event.stream_ended)
        elif isinstance(event, MessageRefused):
            self._on_refused(event)

    def _on_refused(self, event: MessageRefused) -> None:
        """A message that is not sound ends its own stream alone."""
        self.hub.counters["refused"] += 1
        session = self.sessions.get(event.stream_id)
        if session is not None:
            session.on_connection_over(event.reason)
        elif event.too_large:
            self.on_too_large(event.stream_id, event.reason)
        else:
            self.on_reset(event.stream_id, receiving=True)
        self.hub.mark(self)

    def on_datagram(self, data: bytes) -> None:
        """A DATAGRAM frame: a session's quarter stream ID, then the payload (RFC 9297 section 2.1)."""
        # A quarter stream ID below 64 is one byte (RFC 9000 section 16), so the sessions of a connection's first 64
        # requests are found without reading a number.
        link = self._by_quarter.get(data[:1])
        if link is not None:
            link.on_datagram(data[1:])
            return
        buf = Buffer(data=data)
        try:
            session_id = buf.pull_uint_var() * 4
        except BufferReadError:
            self.quic.close(error_code=ErrorCode.H3_DATAGRAM_ERROR, reason_phrase="no quarter stream ID")
            return
        link = self.sessions.get(session_id)
        if session_id >= 1 << 62:
            self.quic.close(error_code=ErrorCode.H3_DATAGRAM_ERROR, reason_phrase="no stream has this number")
        # Of a stream that the client may not open yet: H3_ID_ERROR (RFC 9297 section 2.1).
        elif not self.quic.streams.is_within_limit(session_id):
            self.quic.close(error_code=ErrorCode.H3_ID_ERROR, reason_phrase="a stream beyond the limit")
        # UDP reorders: a datagram may overtake the CONNECT of its session, or come behind its end. It is dropped,
        # not an error (RFC 9297 section 2.1).
        elif link is None:
            self.hub.counters["datagrams_unknown_session"] += 1
        else:
            link.on_datagram(data[buf.tell() :])

    def _on_session_stream(self, event: WebTransportStreamDataReceived) -> None:
        link = self.sessions.get(event.session_id)
        if link is None:
            self.hub.counters["streams_unknown_session"] += 1
            # A stream may overtake its session's CONNECT, too. It is given up, not kept
            # (draft-ietf-webtrans-http3-16 section 4.6 lets either): our clients and browsers open none before the
            # session is there.
            self.give_up_stream(event.stream_id, WtError.BUFFERED_STREAM_REJECTED)
            return
        if event.stream_ended:
            self._session_streams.pop(event.stream_id, None)
        else:
            self._session_streams[event.stream_id] = link
        link.on_stream(event.stream_id, event.data, event.stream_ended)
        # A two-way stream of the peer's: nothing is ever said on it, and until our side has ended it counts against
        # the streams that it may open.
        if event.stream_ended and not event.stream_id & 2:
            self.finish_stream(event.stream_id)

    def _on_stream_given_up(self, event: events.StreamReset | events.StopSendingReceived) -> None:
        link = self._session_streams.get(event.stream_id)
        if link is not None:
            if isinstance(event, events.StreamReset):
                del self._session_streams[event.stream_id]
                link.on_stream_reset(event.stream_id)
            return
        session = self.sessions.get(event.stream_id)
        if session is not None:
            session.on_connection_over("the session's stream was reset")
        else:
            self.on_reset(event.stream_id, receiving=isinstance(event, events.StreamReset))

    def _on_terminated(self, event: events.ConnectionTerminated) -> None:
        self.ended = event
        self._end_sessions(event.reason_phrase)
        self.on_over(event)
        self.hub.on_ended(self)
        self.let_go()

    def _end_sessions(self, reason: str) -> None:
        """Not only once the peer's close is drained: whoever publishes again at once would find its own place taken."""
        self.quic.forget_datagrams()
        self._tell_progress(self.hub.time())
        for link in list(self.sessions.values()):
            link.on_connection_over(reason)

    def let_go(self) -> None:
        """Everybody has been told that the connection is over: hold nothing that holds this."""
        self.quic.let_go()
        self.h3 = None
        self._session_streams.clear()
        self.waiting.clear()

    # -- what subclasses take -------------------------------------------------------------

    def accept_session(self, link: WebTransportLink) -> None:
        """Answer a session's CONNECT with success (servers only)."""

    def on_session_closed(self, link: WebTransportLink) -> None:
        """A session is over; it is no longer in ``sessions``."""

    def on_negotiated(self) -> None:
        """ALPN is known. RFC 9001 section 8.1."""

    def on_handshake(self, event: events.HandshakeCompleted) -> None:
        """The handshake is complete. RFC 9001 section 4.1.1."""

    def on_headers(self, stream_id: int, headers: list[tuple[bytes, bytes]], ended: bool) -> None:
        """A header section: a request's, a response's, or trailers."""

    def on_too_large(self, stream_id: int, why: str) -> None:
        """A request's field section is beyond the bound (servers only). RFC 9114 section 4.2.2."""

    def on_data(self, stream_id: int, data: bytes, ended: bool) -> None:
        """Content of a request or response."""

    def on_reset(self, stream_id: int, *, receiving: bool) -> None:
        """The peer gave up its side (``receiving``) or does not want ours. RFC 9000 sections 19.4 and 19.5."""

    def on_exchange_over(self, stream_id: int) -> None:
        """A request was served to its end."""

    def on_ping(self, uid: int) -> None:
        """A ping of ours was acknowledged."""

    def on_over(self, event: events.ConnectionTerminated) -> None:
        """The connection is over."""

    # -- what sessions and exchanges use --------------------------------------------------

    def add_session(self, link: WebTransportLink) -> None:
        self.sessions[link.session_id] = link
        if len(link.prefix) == 1:
            self._by_quarter[link.prefix] = link

    def remove_session(self, link: WebTransportLink) -> None:
        if self.sessions.pop(link.session_id, None) is None:
            return
        self._by_quarter.pop(link.prefix, None)
        self.waiting.discard(link)
        for stream_id in [s for s, owner in self._session_streams.items() if owner is link]:
            del self._session_streams[stream_id]
            self.give_up_stream(stream_id, WtError.SESSION_GONE)

    def give_up_stream(self, stream_id: int, error_code: int) -> None:
        """Neither read nor write a stream any longer."""
        quic = self.quic
        if quic.is_ended:
            return
        quic.abandon_receiving(stream_id, error_code)
        if quic.streams.can_send(stream_id) and stream_id in quic.streams.by_number:
            quic.reset_stream(stream_id, error_code)
        if self.h3 is not None:
            self.h3.forget(stream_id)
        self.hub.mark(self)

    def finish_stream(self, stream_id: int) -> None:
        """End our side of a stream, if it is still open."""
        if not self.quic.is_ended and self.quic.streams.can_send_on(stream_id):
            self.quic.send_stream_data(stream_id, b"", end_stream=True)
            if self.h3 is not None:
                self.h3.forget(stream_id)
            self.hub.mark(self)

    def consumed(self, stream_id: int, size: int) -> None:
        """The application took ``size`` held bytes of a stream: the peer may send as many more. RFC 9000 section 4.1."""
        if size:
            self.quic.release(stream_id, size)
            self.hub.mark(self)

    async def drained(self, stream_id: int, *, whole: bool = False) -> None:
        """Wait until a stream's unacknowledged bytes are below the bound (``whole``: few), or it is over."""
        quic = self.quic
        while self.ended is None and quic.streams.unsent_bytes(stream_id) > (
            limits.H3_ANSWER_REST_BYTES if whole else self._buffer_bytes()
        ):
            waiter = self._draining.get(stream_id)
            if waiter is None:
                waiter = self._draining[stream_id] = asyncio.get_running_loop().create_future()
            # Several writers may wait on one future: one that is cancelled must not cancel it for the others.
            await asyncio.shield(waiter)

    def _buffer_bytes(self) -> int:
        return send_buffer_bytes(self.quic.recovery.control.window, len(self._draining))

    def _wake_writers(self) -> None:
        # A quarter below what they wait for, or each ACK would wake a writer for a packet's worth.
        low = self._buffer_bytes() * 3 // 4
        for stream_id, waiter in list(self._draining.items()):
            if self.ended or self.quic.streams.unsent_bytes(stream_id) <= low:
                del self._draining[stream_id]
                if not waiter.done():
                    waiter.set_result(None)

    def send_capsule(self, session_id: int, capsule: bytes) -> None:
        """Send a session's last capsule and end its stream."""
        assert self.h3 is not None
        self.h3.send_data(session_id, capsule, end_stream=True)
        self.hub.mark(self)

    def abort(self) -> None:
        """Forget the connection at once, without a word to the peer."""
        if self.ended is None:
            event = self.quic.close_event
            self._on_terminated(event or events.ConnectionTerminated(0, None, "the endpoint was closed"))

    def go_away(self) -> None:
        """Announce that no new requests will be taken. RFC 9114 section 5.2."""

    @property
    def is_busy(self) -> bool:
        """Whether closing now would cut something off."""
        return bool(self.sessions)

    def close(self, error_code: int = ErrorCode.H3_NO_ERROR, reason: str = "") -> None:
        """Close the connection at the next flush. Idempotent."""
        self.quic.close(error_code=error_code, reason_phrase=reason)
        self.hub.mark(self)
