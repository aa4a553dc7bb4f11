"""Limits that one end sets the other: how many streams, how many bytes in all. Room: quic. Pure. Source: RFC 9000 section 4."""

from __future__ import annotations


class Allowance:
    """A limit that we set the peer: ``value`` now, ``said`` as the peer was last told, ``used`` by it. RFC 9000 section 4.2."""

    __slots__ = ("said", "used", "value")

    def __init__(self, value: int) -> None:
        self.value = self.said = value
        self.used = 0

    def on_fate(self, acked: bool) -> None:
        """What told of it was acknowledged, or lost: then it is told again. RFC 9000 section 13.3."""
        if not acked:
            # Less than any limit: it differs from the value, and so is told again with the value of then, not of
            # the lost frame (RFC 9000 section 13.3).
            self.said = 0


class PeerLimits:
    """What the peer lets us do: ``data`` bytes on all streams, of which ``data_used``; so many streams of either kind;
    and bytes on a stream by who opened it. RFC 9000 section 4.1."""

    __slots__ = (
        "data",
        "data_used",
        "stream_bidi_ours",
        "stream_bidi_theirs",
        "stream_uni",
        "streams_bidi",
        "streams_uni",
    )

    def __init__(self) -> None:
        self.data = self.data_used = 0
        self.streams_bidi = self.streams_uni = 0
        self.stream_bidi_ours = self.stream_bidi_theirs = self.stream_uni = 0


class HeldBytes:
    """Bytes that the application was given and has not consumed, by stream; ``total``: of all. RFC 9000 section 4.1."""

    __slots__ = ("_of", "total")

    def __init__(self) -> None:
        self._of: dict[int, int] = {}
        self.total = 0

    def of(self, number: int) -> int:
        """Of one stream."""
        return self._of.get(number, 0)

    def add(self, number: int, size: int) -> None:
        """It was given so many more."""
        self._of[number] = self._of.get(number, 0) + size
        self.total += size

    def consumed(self, number: int, size: int) -> None:
        """It consumed so many."""
        left = self._of.get(number, 0) - size
        if left > 0:
            self._of[number] = left
        else:
            self._of.pop(number, None)
        self.total -= size
