"""Datagrams that wait to be sent, within a bound, and the one burst that may wait before them. Room: quic. Pure.

A burst goes first, for it came to an empty queue; where it cannot go as one, its messages stand in the queue before all else.
Source: RFC 9221 section 5.
"""

from __future__ import annotations

from collections import deque

from gateway import limits
from gateway.quic.connection.framing import Framing
from gateway.quic.connection.packets import datagram_head
from gateway.quic.connection.recovery import Fates, FateSink

HEAD_BYTES_MAX = 3
"""Frame type and length of a datagram that a packet of ours can hold."""
QUEUE_BYTES_MAX = limits.QUIC_DATAGRAM_QUEUE_BYTES_MAX


class Datagrams:
    """``queue``: payload, sink and token of each; ``size``: payload bytes of all that waits, the burst's too."""

    __slots__ = ("burst", "dropped", "queue", "size")

    def __init__(self) -> None:
        self.queue: deque[tuple[bytes, FateSink, int]] = deque()
        self.burst: tuple[Framing, FateSink, int] | None = None
        self.size = 0
        self.dropped = 0

    def spill(self) -> None:
        """The burst that waits goes into the queue."""
        if self.burst is None:
            return
        (framing, sink, token), self.burst = self.burst, None
        waiting = [(payload, sink, token + n) for n, payload in enumerate(framing.payloads())]
        self.queue.extendleft(reversed(waiting))

    def drop_oldest(self, fates: list[tuple[FateSink, int, bool]]) -> None:
        """Let the first go: it counts as lost."""
        payload, sink, token = self.queue.popleft()
        self.size -= len(payload)
        self.dropped += 1
        fates.append((sink, token, False))

    def drop_beyond(self, fates: list[tuple[FateSink, int, bool]]) -> None:
        """The oldest make room beyond the bound."""
        while self.size > QUEUE_BYTES_MAX:
            self.drop_oldest(fates)

    def drop_all(self, fates: list[tuple[FateSink, int, bool]]) -> None:
        """All that waits counts as lost. Idempotent."""
        self.spill()
        while self.queue:
            self.drop_oldest(fates)

    def fill(self, content: bytes, fates: Fates, room: int) -> tuple[bytes, Fates]:
        """Add datagrams to a packet's content while it stays within ``room`` bytes."""
        queue = self.queue
        while queue and len(content) + len(queue[0][0]) + HEAD_BYTES_MAX <= room:
            payload, sink, token = queue.popleft()
            size = len(payload)
            self.size -= size
            content = b"".join((content, datagram_head(size), payload))
            fates = (*fates, (sink, token, 1))
        return content, fates
