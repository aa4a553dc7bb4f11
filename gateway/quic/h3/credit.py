"""What the peer's own flow control of a WebTransport session lets go out, beside QUIC's. Room: quic. Pure.

It is on where both ends announce it in SETTINGS. Source: draft-ietf-webtrans-http3-13 section 5.
"""

from __future__ import annotations

from gateway.quic.buffers import Buffer, BufferReadError

MAX_DATA, MAX_STREAMS_UNI = 0x190B4D3D, 0x190B4D40
CAPSULES = frozenset((MAX_DATA, MAX_STREAMS_UNI))
UNBOUNDED = 1 << 60
"""From here on a limit is none that a session could meet."""


class SessionCredit:
    """One session's: ``streams`` one-way streams and ``data`` bytes on streams may go out in all."""

    __slots__ = ("_data", "_opened", "_sent", "_streams")

    def __init__(self, streams: int, data: int) -> None:
        self._streams, self._data = streams, data
        self._opened = self._sent = 0

    @property
    def is_bounded(self) -> bool:
        return min(self._streams, self._data) < UNBOUNDED

    def may_open(self) -> bool:
        """Whether another one-way stream may begin; tell :meth:`opened`."""
        return self._opened < self._streams

    def opened(self) -> None:
        self._opened += 1

    def spend(self, wanted: int) -> int:
        """How many of so many bytes may go now; they count as sent."""
        taken = min(wanted, self._data - self._sent)
        self._sent += taken
        return taken

    def raised(self, capsule: int, content: bytes) -> None:
        """The peer raised a limit. What makes no sense, or would lower it, changes nothing."""
        try:
            limit = Buffer(data=content).pull_uint_var()
        except BufferReadError:
            return
        if capsule == MAX_DATA:
            self._data = max(self._data, limit)
        else:
            self._streams = max(self._streams, limit)
