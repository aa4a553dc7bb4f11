"""The receiving half of a stream: pieces put in order, within bounds, and how it ends. Room: quic. Pure.

A sender may give up all but the first bytes of a stream (``RESET_STREAM_AT``): they still come, and the reset counts once
they are there. Sources: RFC 9000 sections 3.2 and 4.5; draft-ietf-quic-reliable-stream-reset-09.
"""

from __future__ import annotations

from aioquic.quic.packet import QuicErrorCode, QuicFrameType

from gateway import limits
from gateway.quic.connection.faults import PeerFault
from gateway.quic.connection.ranges import Ranges

Piece = tuple[bytes, bool]
"""Bytes in order, and whether they are the last."""


class RecvHalf:
    """``limit``: the offset that the peer may reach, ``limit_said`` as it was last told. ``taken``: where the next byte in
    order goes. ``is_over``: the end came, or a reset counts. RFC 9000 section 3.2."""

    __slots__ = (
        "_pieces",
        "final_size",
        "highest",
        "is_over",
        "limit",
        "limit_said",
        "reliable_bytes",
        "reset_code",
        "stop_code",
        "stop_due",
        "taken",
    )
    reliable_bytes: int

    def __init__(self, limit: int) -> None:
        self.limit = self.limit_said = limit
        self.highest = self.taken = 0
        self.final_size: int | None = None
        self.is_over = False
        self.stop_code: int | None = None
        self.stop_due = False
        self.reset_code: int | None = None
        """Of a reset that waits for what was promised: ``reliable_bytes``."""
        self._pieces: tuple[bytearray, Ranges] | None = None
        """What came behind a gap, from ``taken`` on, and where: None while there is none."""

    def receive(self, offset: int, data: bytes, *, is_end: bool) -> Piece | None:
        """A frame's data. Answers what is in order now. Raises :class:`PeerFault` where it contradicts what came.
        RFC 9000 section 4.5."""
        stop = offset + len(data)
        self._check_size(stop, is_end)
        # With a partial reset the size is known already, and is only compared.
        if is_end and self.reset_code is None:
            self.final_size = stop
        self.highest = max(self.highest, stop)
        if self.is_over:
            return None
        if self.reset_code is not None:
            return self._take_promised(offset, data)
        return self._take(offset, data)

    def _check_size(self, stop: int, is_end: bool) -> None:
        final = self.final_size
        if final is not None and (stop > final or (is_end and stop != final)):
            raise PeerFault(
                QuicErrorCode.FINAL_SIZE_ERROR,
                QuicFrameType.STREAM_BASE,
                "data beyond the final size, or another one",
            )
        if is_end and stop < self.highest:
            raise PeerFault(
                QuicErrorCode.FINAL_SIZE_ERROR,
                QuicFrameType.STREAM_BASE,
                "data beyond the final size came before",
            )

    def _take(self, offset: int, data: bytes) -> Piece | None:
        at = offset - self.taken
        if at <= 0 and self._pieces is None:
            fresh = data[-at:]
            self.taken += len(fresh)
        else:
            fresh = self._assemble(at, data)
        ends = self.taken == self.final_size
        if ends:
            self._finish()
        return (fresh, ends) if fresh or ends else None

    def _assemble(self, at: int, data: bytes) -> bytes:
        """Keep a piece, and answer what it completes."""
        # What came before is cut off: an overlap is allowed, and its bytes are the same (RFC 9000 section 2.2).
        data, at = data[max(0, -at) :], max(0, at)
        pieces, ranges = self._pieces or (bytearray(), Ranges(limits.QUIC_RECEIVED_PIECES_MAX))
        if data:
            ranges.add(self.taken + at, self.taken + at + len(data))
            if at > len(pieces):
                pieces += bytes(at - len(pieces))
            pieces[at : at + len(data)] = data
        fresh = b""
        if ranges.parts and ranges.parts[0].start == self.taken:
            size = len(ranges.parts.pop(0))
            fresh = bytes(pieces[:size])
            del pieces[:size]
            self.taken += size
        self._pieces = (pieces, ranges) if ranges.parts else None
        return fresh

    def _finish(self) -> None:
        """Nothing more is taken, and nothing kept."""
        self.is_over = True
        self._pieces = None

    # -- resets ---------------------------------------------------------------------------

    def _take_promised(self, offset: int, data: bytes) -> Piece | None:
        """Of what was given up nothing is handed on."""
        final, self.final_size = self.final_size, None
        piece = self._take(offset, data[: max(0, self.reliable_bytes - offset)])
        self.final_size = final
        return piece

    def take_reset(self, code: int, final_size: int, frame_type: int = QuicFrameType.RESET_STREAM) -> bool:
        """A reset. Answers whether it counts, and is news. Raises :class:`PeerFault` for another final size.
        RFC 9000 section 19.4."""
        if (self.final_size is not None and final_size != self.final_size) or final_size < self.highest:
            raise PeerFault(
                QuicErrorCode.FINAL_SIZE_ERROR, frame_type, "another final size, or data beyond it came"
            )
        self.highest = max(self.highest, final_size)
        if self.is_over:
            return False
        self.final_size = final_size
        self._finish()
        return True

    def take_partial_reset(self, code: int, final_size: int, reliable_bytes: int, frame_type: int) -> None:
        """A reset that promises the first bytes. Ask :meth:`settles` after it. Raises :class:`PeerFault`."""
        if (self.final_size is not None and final_size != self.final_size) or final_size < self.highest:
            raise PeerFault(
                QuicErrorCode.FINAL_SIZE_ERROR, frame_type, "another final size, or data beyond it came"
            )
        if self.reset_code is not None:
            if code != self.reset_code:
                raise PeerFault(
                    QuicErrorCode.STREAM_STATE_ERROR, frame_type, "another error code for the same reset"
                )
            self.reliable_bytes = min(self.reliable_bytes, reliable_bytes)
        elif not self.is_over:
            self.reset_code, self.reliable_bytes = code, reliable_bytes
        self.highest = max(self.highest, final_size)
        if not self.is_over:
            self.final_size = final_size

    def settles(self) -> bool:
        """Whether a reset that waited counts from now on."""
        if self.reset_code is None or self.is_over or self.taken < self.reliable_bytes:
            return False
        self._finish()
        return True

    # -- stopping -------------------------------------------------------------------------

    def stop(self, code: int) -> None:
        """Ask the peer to stop sending. RFC 9000 section 19.5."""
        self.stop_code = code
        self.stop_due = True

    def on_stop_fate(self, acked: bool) -> None:
        """The request to stop was acknowledged, or lost."""
        self.stop_due = self.stop_due or not acked
