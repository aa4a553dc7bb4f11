"""One HTTP/2 connection: h2 keeps the protocol's state, this keeps to bounds and to turns. Room: http.

What comes is counted (:mod:`frameguard`) and given to h2 a few frames at a time; what goes out goes
stream by stream in turn, as far as the peer's windows and the transport take it. A request waits
before it reaches the application while its connection takes no answers. Sources: RFC 9113, RFC 8441.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable

import h2.events as events
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes, Settings

from gateway import limits
from gateway.http.tcp.conversation import Conversation
from gateway.http.tcp.frameguard import Flood, FrameGuard
from gateway.http.tcp.http2_stream import Http2Stream
from gateway.http.tcp.service import TcpService
from gateway.http.tcp.slots import Slot

_GOAWAY_HEAD = bytes((0, 0, 8, 7, 0, 0, 0, 0, 0))


class _Connection(H2Connection):
    """h2's, which by default remembers how 65,536 streams ended."""

    MAX_CLOSED_STREAMS = limits.H2_CLOSED_STREAMS_KEPT


def new_connection() -> H2Connection:
    """h2's state of a fresh connection, with our settings. RFC 9113 section 6.5."""
    connection = _Connection(H2Configuration(client_side=False, header_encoding=None))
    connection.local_settings = Settings(
        client=False,
        initial_values={
            SettingCodes.MAX_CONCURRENT_STREAMS: limits.HTTP_H2_STREAMS_MAX,
            SettingCodes.MAX_HEADER_LIST_SIZE: limits.HTTP_HEADER_BYTES_MAX,
            SettingCodes.ENABLE_CONNECT_PROTOCOL: 1,
        },
    )
    # The setting is advice to the peer; this is what hpack holds it to while it unpacks.
    connection.decoder.max_header_list_size = limits.HTTP_HEADER_BYTES_MAX
    return connection


class Http2(Conversation):
    """The connection; :class:`Http2Stream` is one request on it."""

    def __init__(self, service: TcpService, slot: Slot) -> None:
        super().__init__(service, slot)
        self.h2 = new_connection()
        self.guard = FrameGuard()
        self.streams: dict[int, Http2Stream] = {}
        self._ready: deque[Http2Stream] = deque()
        self._parked: set[Http2Stream] = set()
        self._waiting: deque[Http2Stream] = deque()
        """Requests that have not reached the application."""
        self._unanswered = 0
        """Requests that have reached it and have no response yet."""
        self._untaken = 0
        """Bytes of responses that the peer has not taken."""
        self._is_turning = False
        self._is_greeted = False
        self._is_leaving = False
        self._heard_at = self.loop.time()
        self._is_asked = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.h2.initiate_connection()
        self.flush()

    @property
    def is_idle(self) -> bool:
        return not self.streams

    # -- what comes -----------------------------------------------------------------------

    def receive(self, data: bytes) -> None:
        self._heard_at = self.loop.time()
        self._is_asked = False
        if self.is_ending:
            self.drop(data)
            return
        self.guard.feed(data)
        if not self._is_turning:
            self._turn()

    def _turn(self) -> None:
        """Parse for a moment; what is left waits for the loop's next turn, and reading waits with it."""
        self._is_turning = False
        if self.is_ending:
            return
        until = self.service.turns.until()
        try:
            while frames := self.guard.pull(self._heard_at):
                for event in self.h2.receive_data(frames):
                    self._handle(event)
                if self.is_ending:
                    return
                # Between two pulls, for h2 cannot be stopped inside one: that is why the guard gives a few
                # frames at a time.
                if time.perf_counter() > until or self._is_clogged():
                    self._turn_soon()
                    break
        except Flood as flood:
            self._end(flood.code, flood.what)
            return
        except ProtocolError as error:
            self._break(error)
            return
        self.flush()
        if self.guard.is_peer_leaving and not self.streams:
            self.close()
        self.read_more(not self._is_turning)

    def _is_clogged(self) -> bool:
        """The peer makes us answer and reads nothing."""
        return self.transport.get_write_buffer_size() > limits.H2_REPLIES_BYTES_MAX

    def _turn_soon(self) -> None:
        if not self._is_turning:
            self._is_turning = True
            if not self._is_clogged():
                self.in_turn(self._turn)

    def on_writable(self) -> None:
        self.pump()
        self.flush()
        if self._is_turning:
            self.in_turn(self._turn)

    def _handle(self, event: events.Event) -> None:
        # By class: what has no handler (PING's answer, PRIORITY) h2 has seen to.
        handler = _HANDLERS.get(type(event))
        if handler is not None:
            handler(self, event)

    def _on_request(self, event: events.RequestReceived) -> None:
        stream = Http2Stream(self, event.stream_id)
        self.streams[event.stream_id] = stream
        self.deadline = self._heard_at + limits.H2_LOOK_S
        if self._is_leaving:
            stream.refuse(ErrorCodes.REFUSED_STREAM)
            return
        if stream.understand(event.headers):
            self._waiting.append(stream)
            self.dispatch()

    def _on_data(self, event: events.DataReceived) -> None:
        stream = self.streams.get(event.stream_id)
        size = event.flow_controlled_length
        if event.data:
            self.guard.flowed()
        if stream is None:
            # The stream is over, but its bytes count in the connection's window: without this it would shut for all
            # the others (RFC 9113 section 6.9).
            self.h2.acknowledge_received_data(size, event.stream_id)
        else:
            stream.feed(event.data, size)

    def _on_end(self, event: events.StreamEnded) -> None:
        stream = self.streams.get(event.stream_id)
        if stream is not None:
            stream.feed_end()

    def _on_reset(self, event: events.StreamReset) -> None:
        if not event.remote_reset:
            self.guard.reset_by_us(self._heard_at)
        stream = self.streams.pop(event.stream_id, None)
        if stream is not None:
            stream.disconnect()
            self._forget(stream)

    def _on_window(self, event: events.WindowUpdated) -> None:
        if event.stream_id:
            stream = self.streams.get(event.stream_id)
            if stream is not None and stream in self._parked:
                self._unpark(stream)
        else:
            self._unpark_all()
        self.pump()
        self.dispatch()

    def _on_settings(self, event: events.RemoteSettingsChanged) -> None:
        self._is_greeted = True
        if not self.streams:
            self.deadline = self._heard_at + limits.HTTP_IDLE_S_MAX
        table = self.h2.encoder
        # The peer says how large our encoder's table may be, up to 4 GiB; it is our memory, and less is always
        # allowed (RFC 7541 section 4.2).
        if table.header_table_size > limits.H2_HEADER_TABLE_BYTES_MAX:
            table.header_table_size = limits.H2_HEADER_TABLE_BYTES_MAX
        for code in event.changed_settings:
            if not isinstance(code, SettingCodes):
                # Unknown settings are to be ignored (RFC 9113 section 6.5.2), but h2 keeps each: a peer could
                # have it keep 65,536.
                self.h2.remote_settings.pop(code, None)
        self._unpark_all()
        self.pump()
        self.dispatch()

    # -- the end --------------------------------------------------------------------------

    def _break(self, error: ProtocolError) -> None:
        """The peer broke the protocol; h2 has made the GOAWAY that says how (RFC 9113 section 5.4.1)."""
        self.service.count("http2_protocol")
        self._lose_streams()
        self.flush()
        self.hang_up()

    def _end(self, code: int, what: str) -> None:
        self.service.count(f"http2_{what}")
        self._lose_streams()
        self._say_goaway(code)
        self.hang_up()

    def shed(self) -> None:
        """Of all answers that are held, one of this connection's has not moved for longest."""
        if not self.is_ending:
            self._end(ErrorCodes.ENHANCE_YOUR_CALM, "untaken")

    def _say_goaway(self, code: int) -> None:
        # Written by hand: h2's own GOAWAY closes its state, after which it would send no more of what is under way.
        last = self.h2.highest_inbound_stream_id
        self.write(_GOAWAY_HEAD + last.to_bytes(4, "big") + code.to_bytes(4, "big"))

    def _lose_streams(self) -> None:
        streams, self.streams = list(self.streams.values()), {}
        self._waiting.clear()
        self._ready.clear()
        self._parked.clear()
        for stream in streams:
            stream.disconnect()

    def on_lost(self) -> None:
        self._lose_streams()

    def eof_received(self) -> bool:
        self._lose_streams()
        return False

    def go_away(self) -> None:
        if not self._is_leaving:
            self._is_leaving = True
            self._say_goaway(0)
        if not self.streams:
            self.close()

    # -- what goes out --------------------------------------------------------------------

    def flush(self) -> None:
        """Hand what h2 has made to the transport."""
        data = self.h2.data_to_send()
        if data:
            self.write(data)

    def ready(self, stream: Http2Stream) -> None:
        """The stream has something to send."""
        if not stream.is_queued and stream not in self._parked:
            stream.is_queued = True
            self._ready.append(stream)

    def pump(self) -> None:
        """Streams in turn, a frame each, while windows and transport take it. RFC 9113 section 5.2."""
        ready = self._ready
        while ready and not self.is_paused and not self.is_ending:
            stream = ready.popleft()
            stream.is_queued = False
            sent = stream.send_frame()
            if sent is None:
                continue
            if not sent:
                self._parked.add(stream)
                continue
            if not stream.is_starved:
                self.guard.flowed()
            if stream.has_more:
                self.ready(stream)
            self.flush()

    def _unpark(self, stream: Http2Stream) -> None:
        self._parked.discard(stream)
        self.ready(stream)

    def _unpark_all(self) -> None:
        parked, self._parked = self._parked, set()
        for stream in parked:
            self.ready(stream)

    # -- requests in their turn -----------------------------------------------------------

    def dispatch(self) -> None:
        """Let requests through to the application while the peer takes answers."""
        while self._waiting and not self.is_ending and self._has_room():
            stream = self._waiting.popleft()
            if not stream.is_gone:
                self._unanswered += 1
                stream.begin()

    def _has_room(self) -> bool:
        window = min(self.h2.outbound_flow_control_window, self.h2.remote_settings.initial_window_size)
        takes = window // limits.H2_ANSWER_BYTES
        at_once = max(limits.H2_UNANSWERED_OPEN, takes) if takes > 0 else limits.H2_UNANSWERED_SHUT
        if self._unanswered >= at_once or self._untaken >= limits.H2_UNTAKEN_BYTES_MAX:
            return False
        return not self._untaken or self.service.options.untaken.has_room

    def answered(self) -> None:
        """A request that was let through has its response, or needs none."""
        self._unanswered -= 1
        if self._waiting:
            self.dispatch()

    def untaken(self, more: int) -> None:
        """So many bytes more wait for the peer (less, where negative)."""
        self._untaken += more
        if more < 0 and self._waiting:
            self.dispatch()

    def finished(self, stream: Http2Stream) -> None:
        """Nothing more happens on this stream."""
        if self.streams.pop(stream.stream_id, None) is not None:
            self._forget(stream)

    def _forget(self, stream: Http2Stream) -> None:
        self._parked.discard(stream)
        if not self.streams and not self.is_ending:
            self.deadline = self.loop.time() + limits.HTTP_IDLE_S_MAX
            if self._is_leaving or self.guard.is_peer_leaving or self.service.is_closing:
                self.loop.call_soon(self._leave_if_idle)

    def _leave_if_idle(self) -> None:
        if not self.streams and not self.is_ending:
            self.flush()
            self.close()

    # -- time -----------------------------------------------------------------------------

    def expire(self, now: float) -> None:
        if self.is_ending:
            self._expire_end(now)
        elif not self._is_greeted:
            self._end(ErrorCodes.PROTOCOL_ERROR, "no_settings")
        elif self.guard.in_block and now - self._heard_at > limits.HTTP_HEAD_S_MAX:
            self._end(ErrorCodes.ENHANCE_YOUR_CALM, "slow_head")
        elif not self.streams:
            self.go_away()
        else:
            self._look_at_streams(now)

    def _expire_end(self, now: float) -> None:
        if self.transport.is_closing():
            self.abort()
        else:
            self.transport.close()
            self.deadline = now + limits.HTTP_LINGER_S_MAX

    def _look_at_streams(self, now: float) -> None:
        self.deadline = now + limits.H2_LOOK_S
        for stream in list(self.streams.values()):
            stream.look(now)
        silent_s = now - self._heard_at
        if silent_s >= limits.WEBSOCKET_PING_S + limits.WEBSOCKET_PONG_S:
            self.service.count("silent")
            self._lose_streams()
            self.abort()
        elif silent_s >= limits.WEBSOCKET_PING_S and not self._is_asked:
            self._is_asked = True
            self.h2.ping(b"mvgatewy")
        self.flush()


_HANDLERS: dict[type[events.Event], Callable[..., None]] = {
    events.RequestReceived: Http2._on_request,
    events.DataReceived: Http2._on_data,
    events.StreamEnded: Http2._on_end,
    events.StreamReset: Http2._on_reset,
    events.WindowUpdated: Http2._on_window,
    events.RemoteSettingsChanged: Http2._on_settings,
}
