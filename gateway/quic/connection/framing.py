"""Messages as the contents of 1-RTT packets, made once for all readers with one session prefix. Room: quic.

Sources: RFC 9221 section 4 (DATAGRAM frames); RFC 9297 section 2.1 (the prefix: a quarter stream ID).
"""

from __future__ import annotations

from typing import NamedTuple

from gateway import limits
from gateway.core.bundle import Burst
from gateway.quic.connection.flight import Shape
from gateway.quic.connection.packets import datagram_head

HEAD_BYTES_MAX = 1 + 20 + 2 + 16
"""What a packet of ours adds at most: first byte, connection ID, packet number, tag."""


class Run(NamedTuple):
    """Packets joined as ``UDP_SEGMENT`` takes them: ``segment_bytes`` each, the last may be shorter. udp(7)."""

    data: bytes
    segment_bytes: int
    packets: int

    def split(self) -> list[bytes]:
        """The packets one by one."""
        size = self.segment_bytes
        return [self.data[at : at + size] for at in range(0, len(self.data), size)]


class Framing:
    """What is encrypted for a reader, before its packet numbers and keys.

    ``contents``: one a packet; ``is_run``: they are of one length (the last may be shorter), as
    ``UDP_SEGMENT`` wants them, and not too many for it; ``payload_bytes``: prefixes and messages alone;
    ``wire_bytes_max``: of the packets, whatever connection IDs they bear.
    """

    __slots__ = (
        "content_bytes",
        "contents",
        "count",
        "is_run",
        "largest",
        "messages",
        "packets",
        "payload_bytes",
        "prefix",
        "shape",
        "wire_bytes_max",
    )

    def __init__(self, burst: Burst, prefix: bytes, content_bytes_max: int) -> None:
        self.prefix = prefix
        self.messages = burst.messages
        self.count = burst.count
        contents: list[bytes] = []
        counts: list[int] = []
        for message in burst.messages:
            size = len(prefix) + len(message)
            frame = b"".join((datagram_head(size), prefix, message))
            if contents and len(contents[-1]) + len(frame) <= content_bytes_max:
                contents[-1] += frame
                counts[-1] += 1
            else:
                contents.append(frame)
                counts.append(1)
        sizes = list(map(len, contents))
        self.contents = tuple(contents)
        self.packets = len(contents)
        self.shape: Shape = tuple(zip(sizes, counts, strict=True))
        self.content_bytes = sum(sizes)
        self.largest = max(sizes)
        self.wire_bytes_max = self.content_bytes + HEAD_BYTES_MAX * len(sizes)
        self.payload_bytes = sum(map(len, burst.messages)) + len(prefix) * burst.count
        # The kernel cuts a run by one size, and only its last piece may be shorter (udp(7), UDP_SEGMENT).
        self.is_run = (
            sizes[-1] <= sizes[0]
            and sizes[:-1].count(sizes[0]) == len(sizes) - 1
            and len(sizes) <= limits.QUIC_SEGMENTS_MAX
            and self.wire_bytes_max <= limits.QUIC_SEGMENT_BYTES_MAX
        )

    def payloads(self) -> list[bytes]:
        """The contents of the DATAGRAM frames, one by one. RFC 9221 section 4."""
        return [self.prefix + message for message in self.messages]


def framing_of(burst: Burst, prefix: bytes, content_bytes_max: int) -> Framing:
    """The framing of these messages behind this prefix: made for one reader, and kept for the next."""
    framings = burst.framings
    framing = framings.get(prefix)
    if not isinstance(framing, Framing):
        if len(framings) >= limits.FRAMINGS_CACHED_MAX:
            # Sessions of a connection have few prefixes, so it is full only where somebody opens many: what is made
            # anew is one framing each.
            framings.clear()
        framing = framings[prefix] = Framing(burst, prefix, content_bytes_max)
    return framing
