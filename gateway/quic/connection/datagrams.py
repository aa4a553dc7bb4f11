"""Datagrams that wait to be sent, within a bound, and the one burst that may wait before them. Room: quic. Pure.

What is offered answers None, or why nothing of it was taken. A burst goes first, for it came to an empty queue; where it cannot
go as one, its messages stand in the queue before all else. Sources: RFC 9221 section 5; RFC 9002 section 7.
"""

from __future__ import annotations

from collections import deque

from gateway import limits
from gateway.core.ports import Refusal
from gateway.quic.connection.flight import Fates, FateSink
from gateway.quic.connection.framing import Framing
from gateway.quic.connection.packets import datagram_head
from gateway.quic.connection.recovery import Recovery
from gateway.quic.connection.state import HANDSHAKE, OPEN, State

HEAD_BYTES_MAX = 3
"""Frame type and length of a datagram that a packet of ours can hold."""


class Datagrams:
    """``queue``: payload, sink and token of each; ``size``: payload bytes of all that waits, the burst's too.
    ``payload_bytes_max``: the largest that fits one packet now, 0: the peer takes none; ``content_bytes_max``: the same for
    the content of a burst's packets, 0 before the handshake is confirmed."""

    __slots__ = (
        "_recovery",
        "_state",
        "burst",
        "content_bytes_max",
        "dropped",
        "payload_bytes_max",
        "queue",
        "size",
    )

    def __init__(self, state: State, recovery: Recovery) -> None:
        self._state, self._recovery = state, recovery
        self.payload_bytes_max = self.content_bytes_max = 0
        self.queue: deque[tuple[bytes, FateSink, int]] = deque()
        self.burst: tuple[Framing, FateSink, int] | None = None
        self.size = 0
        self.dropped = 0

    # -- what may join --------------------------------------------------------------------

    def _refusal(self, size: int) -> Refusal | None:
        """Why a datagram of ``size`` bytes can't be taken, whatever room there is."""
        if self._state.is_closing:
            return Refusal.CLOSED
        largest = self.payload_bytes_max
        if size <= largest:
            return None
        if largest:
            return Refusal.TOO_LARGE
        # Before the handshake is complete nobody knows what the peer takes (max_datagram_frame_size, RFC 9221
        # section 3): later, perhaps.
        return Refusal.UNSUPPORTED if self._state.is_complete else Refusal.BLOCKED

    def offer(self, payload: bytes, sink: FateSink, token: int) -> Refusal | None:
        """Queue a datagram if the congestion window has room for it now."""
        if self.burst is not None:
            self.spill()
        control = self._recovery.control
        size = len(payload)
        queued = self.size + size
        if size > self.payload_bytes_max or self._state.phase != OPEN:
            refusal = self._refusal(size)
            if refusal is not None:
                return refusal
        # Refused rather than queued behind a full window: the caller sends newer values when there is room.
        if queued > control.window - control.in_flight or queued > limits.QUIC_DATAGRAM_QUEUE_BYTES_MAX:
            return Refusal.BLOCKED
        self.queue.append((payload, sink, token))
        self.size = queued
        return None

    def push(self, payload: bytes, sink: FateSink, token: int) -> Refusal | None:
        """Queue a datagram to go out with the next packets; the oldest queued ones make room beyond the bound, and count as
        lost."""
        self.spill()
        refusal = self._refusal(len(payload))
        if refusal is None:
            self.queue.append((payload, sink, token))
            self.size += len(payload)
            self.drop_beyond(self._recovery.fates)
        return refusal

    def offer_burst(self, framing: Framing, sink: FateSink, token: int) -> Refusal | None:
        """Queue a burst if the congestion window has room for all of it now and nothing waits before it. Refused, offer its
        messages one by one."""
        control, state = self._recovery.control, self._state.phase
        if framing.largest > self.content_bytes_max or state != OPEN:
            if state != OPEN:
                return Refusal.UNSUPPORTED if state == HANDSHAKE else Refusal.CLOSED
            return Refusal.TOO_LARGE if self.content_bytes_max else Refusal.UNSUPPORTED
        size = framing.wire_bytes_max
        if (
            self.burst is not None
            or self.queue
            or size > control.window - control.in_flight
            or size > limits.QUIC_DATAGRAM_QUEUE_BYTES_MAX
        ):
            return Refusal.BLOCKED
        self.burst = (framing, sink, token)
        self.size = framing.payload_bytes
        return None

    # -- what goes ------------------------------------------------------------------------

    def spill(self) -> None:
        """The burst that waits goes into the queue."""
        if self.burst is None:
            return
        (framing, sink, token), self.burst = self.burst, None
        waiting = [(payload, sink, token + n) for n, payload in enumerate(framing.payloads())]
        # extendleft turns the order round.
        self.queue.extendleft(reversed(waiting))

    def drop_oldest(self, fates: list[tuple[FateSink, int, bool]]) -> None:
        """Let the first go: it counts as lost."""
        payload, sink, token = self.queue.popleft()
        self.size -= len(payload)
        self.dropped += 1
        fates.append((sink, token, False))

    def drop_beyond(self, fates: list[tuple[FateSink, int, bool]]) -> None:
        """The oldest make room beyond the bound."""
        while self.size > limits.QUIC_DATAGRAM_QUEUE_BYTES_MAX:
            self.drop_oldest(fates)

    def drop_all(self, fates: list[tuple[FateSink, int, bool]]) -> None:
        """All that waits counts as lost. Idempotent."""
        self.spill()
        while self.queue:
            self.drop_oldest(fates)

    def fits_first(self, room: int) -> bool:
        """Whether a packet with so much room has any for the first."""
        return len(self.queue[0][0]) + HEAD_BYTES_MAX <= room

    def fill(self, content: bytes, fates: Fates, room: int) -> tuple[bytes, Fates]:
        """Add datagrams to a packet's content while it stays within ``room`` bytes. RFC 9221 section 4."""
        queue = self.queue
        while queue and len(content) + len(queue[0][0]) + HEAD_BYTES_MAX <= room:
            payload, sink, token = queue.popleft()
            size = len(payload)
            self.size -= size
            # With its length in any case (type 0x31), though the last frame could do without: last_datagram, and so
            # the quick way of reading, expects it.
            content = b"".join((content, datagram_head(size), payload))
            fates = (*fates, (sink, token, 1))
        return content, fates
