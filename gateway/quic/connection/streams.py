"""The streams of a connection, as the application sees them: written, given up, consumed. Room: quic. Pure: no clock.

Of its parts :class:`StreamTable` knows which there are, :class:`StreamsIn` what the peer says of them, :class:`StreamsOut`
what is to be sent. Sources: RFC 9000 sections 2, 3 and 4.
"""

from __future__ import annotations

from collections.abc import Callable

from aioquic.quic.events import QuicEvent

from gateway.quic.connection.flow import Allowance, HeldBytes, PeerLimits
from gateway.quic.connection.streamsin import StreamsIn
from gateway.quic.connection.streamsout import StreamsOut
from gateway.quic.connection.streamtable import NO_SEND, Stream, StreamTable


class Streams:
    """``window``: bytes that a stream may hold unread; ``data_window``: all streams together. ``emit`` is given the events."""

    __slots__ = ("_held", "by_number", "data", "incoming", "outgoing", "table")

    def __init__(
        self, *, is_client: bool, window: int, data_window: int, emit: Callable[[QuicEvent], None]
    ) -> None:
        table = self.table = StreamTable(is_client=is_client, window=window)
        self.by_number: dict[int, Stream] = table.by_number
        self._held = HeldBytes()
        self.data = Allowance(data_window)
        self.incoming = StreamsIn(table, self.data, emit)
        self.outgoing = StreamsOut(table, self.data, data_window, self._held)

    @property
    def peer(self) -> PeerLimits:
        """What the peer lets us do."""
        return self.table.peer

    @property
    def held_bytes(self) -> int:
        """What the application was given and has not consumed."""
        return self._held.total

    # -- which streams there are ----------------------------------------------------------

    def can_send(self, number: int) -> bool:
        """Whether we may send on such a stream. RFC 9000 section 2.1."""
        return self.table.can_send(number)

    def can_receive(self, number: int) -> bool:
        """Whether the peer may send on such a stream. RFC 9000 section 2.1."""
        return self.table.can_receive(number)

    def next_number(self, *, one_way: bool) -> int:
        """The number of the next stream that we open."""
        return self.table.next_number(one_way=one_way)

    def can_open_uni(self) -> bool:
        """Whether the peer lets another one-way stream begin now. RFC 9000 section 4.6."""
        return self.table.can_open_uni()

    def is_within_limit(self, number: int) -> bool:
        """Whether a client may have opened this two-way stream of its own."""
        return self.table.is_within_limit(number)

    # -- the application ------------------------------------------------------------------

    def write(self, number: int, data: bytes, *, end: bool) -> None:
        """Data to send. Raises ``ValueError``, ``RuntimeError``."""
        stream = self.by_number.get(number)
        if stream is None or stream.send is NO_SEND:
            stream = self.table.ours(number)
        stream.send.write(data, end=end)
        self.table.queue.setdefault(number, stream)

    def reset(self, number: int, code: int) -> None:
        """Give up sending. Raises ``ValueError`` for a stream that is not ours to send on. RFC 9000 section 3.1."""
        if self.can_send(number) and number not in self.by_number and self.table.was_opened(number):
            return
        stream = self.table.ours(number)
        stream.send.reset(code)
        self.table.touch(stream)

    def stop(self, number: int, code: int) -> None:
        """Ask the peer to stop sending. Raises ``ValueError``. RFC 9000 section 3.5."""
        stream = self.by_number.get(number)
        if stream is None or not self.table.can_receive(number):
            raise ValueError("Cannot stop receiving on a stream that is unknown, or one-way to the peer")
        stream.recv.stop(code)
        self.table.touch(stream)

    def abandon_receiving(self, number: int, code: int) -> bool:
        """Ask the peer to stop sending, if it is still at it. Answers whether it was."""
        stream = self.by_number.get(number)
        if stream is None or stream.recv.is_over:
            return False
        stream.recv.stop(code)
        self.table.touch(stream)
        return True

    def hold(self, number: int, size: int) -> None:
        """Bytes that the application was given but has not consumed: windows stay shut for them. RFC 9000 section 4.1."""
        self._held.add(number, size)

    def release(self, number: int, size: int) -> None:
        """The application consumed ``size`` held bytes."""
        self._held.consumed(number, size)
        stream = self.by_number.get(number)
        if stream is not None:
            self.table.touch(stream)

    # -- questions ------------------------------------------------------------------------

    def unsent_bytes(self, number: int) -> int:
        """Bytes of a stream that are not acknowledged yet; 0 once it is done or gone."""
        stream = self.by_number.get(number)
        return 0 if stream is None else stream.send.unacknowledged

    def unsent_total(self) -> int:
        """Bytes of all streams that are not acknowledged yet."""
        return sum([stream.send.unacknowledged for stream in self.by_number.values()])

    def acked_total(self) -> int:
        """Bytes acknowledged on the streams that are open."""
        return sum([stream.send.start for stream in self.by_number.values()])

    def send_is_over(self, number: int) -> bool:
        """True once all bytes and the end of our side were acknowledged, or it was reset."""
        stream = self.by_number.get(number)
        return stream is None or stream.send.is_over or stream.send.reset_code is not None

    def can_send_on(self, number: int) -> bool:
        """Whether :meth:`write` may be called: not ended, not reset, not discarded."""
        stream = self.by_number.get(number)
        return not self.table.was_opened(number) if stream is None else stream.send.takes_more

    def let_go(self) -> None:
        """Hold nothing any more."""
        self.table.let_go()
        self.incoming.let_go()
