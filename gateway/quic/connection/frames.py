"""Frames of the peer, one by one: bytes -> calls on the parts that they concern. Room: quic. Pure.

The frames that nearly all packets carry are read elsewhere in line (:mod:`gateway.quic.connection.connection`); here is
each of them. A reader takes the packet's content and where the frame's own content begins, and answers where it ends.
Sources: RFC 9000 section 19; RFC 9221 section 4; draft-ietf-quic-reliable-stream-reset-09.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from aioquic.quic.packet import QuicErrorCode, QuicFrameType

from gateway.quic.connection.faults import PeerFault
from gateway.quic.connection.ids import TOKEN_BYTES, PeerIds
from gateway.quic.connection.packets import varint
from gateway.quic.connection.streamsin import StreamsIn
from gateway.quic.connection.streamtable import StreamTable, check_streams

RESET_STREAM_AT: Final = 0x24


class FrameTaker(Protocol):
    """A connection, as frames concern it. The methods raise :class:`PeerFault`."""

    incoming: StreamsIn
    table: StreamTable
    peer_ids: PeerIds

    def on_crypto(self, offset: int, data: bytes) -> None: ...

    def on_new_id(self, number: int, below: int, cid: bytes, token: bytes) -> None: ...

    def on_retired_id(self, number: int) -> None: ...

    def on_challenge(self, data: bytes) -> None: ...

    def on_response(self, data: bytes) -> None: ...

    def on_close(self, code: int, frame_type: int | None, reason: str) -> None: ...

    def on_handshake_done(self) -> None: ...

    def on_token(self, token: bytes) -> None: ...

    def on_datagram(self, data: bytes, frame_type: int) -> None: ...

    def on_stopped(self, number: int, code: int) -> None: ...


Reader = Callable[[FrameTaker, int, bytes, int], int]
"""Who takes it, frame type, the packet's content, where to read on; answers where the frame ends. Raises ``IndexError`` for one
that is cut short."""


def pull(plain: bytes, at: int, size: int) -> tuple[bytes, int]:
    """So many bytes, and where they end. Raises ``IndexError``."""
    if at + size > len(plain):
        # What a slice beyond the end would hide: Python cuts it short without a word.
        raise IndexError
    return plain[at : at + size], at + size


def _reset(to: FrameTaker, kind: int, plain: bytes, at: int) -> int:
    number, at = varint(plain, at)
    code, at = varint(plain, at)
    final_size, at = varint(plain, at)
    to.incoming.take_reset(kind, number, code, final_size, None)
    return at


def _reset_at(to: FrameTaker, kind: int, plain: bytes, at: int) -> int:
    number, at = varint(plain, at)
    code, at = varint(plain, at)
    final_size, at = varint(plain, at)
    reliable, at = varint(plain, at)
    if reliable > final_size:
        raise PeerFault(
            QuicErrorCode.FRAME_ENCODING_ERROR, kind, f"{reliable} reliable bytes of a stream of {final_size}"
        )
    to.incoming.take_reset(kind, number, code, final_size, reliable)
    return at


def _stop(to: FrameTaker, kind: int, plain: bytes, at: int) -> int:
    number, at = varint(plain, at)
    code, at = varint(plain, at)
    if to.incoming.take_stop(kind, number, code):
        to.on_stopped(number, code)
    return at


def _crypto(to: FrameTaker, kind: int, plain: bytes, at: int) -> int:
    offset, at = varint(plain, at)
    size, at = varint(plain, at)
    data, at = pull(plain, at, size)
    to.on_crypto(offset, data)
    return at


def _new_token(to: FrameTaker, kind: int, plain: bytes, at: int) -> int:
    size, at = varint(plain, at)
    token, at = pull(plain, at, size)
    to.on_token(token)
    return at


def _stream(to: FrameTaker, kind: int, plain: bytes, at: int) -> int:
    return to.incoming.take_frame(kind, plain, at)


def _max_data(to: FrameTaker, kind: int, plain: bytes, at: int) -> int:
    limit, at = varint(plain, at)
    peer = to.table.peer
    if limit > peer.data:
        peer.data = limit
    return at


def _max_stream_data(to: FrameTaker, kind: int, plain: bytes, at: int) -> int:
    number, at = varint(plain, at)
    limit, at = varint(plain, at)
    to.incoming.take_stream_limit(kind, number, limit)
    return at


def _max_streams(to: FrameTaker, kind: int, plain: bytes, at: int) -> int:
    limit, at = varint(plain, at)
    to.table.take_limit(kind, limit)
    return at


def _data_blocked(to: FrameTaker, kind: int, plain: bytes, at: int) -> int:
    return varint(plain, at)[1]


def _stream_data_blocked(to: FrameTaker, kind: int, plain: bytes, at: int) -> int:
    number, at = varint(plain, at)
    _, at = varint(plain, at)
    to.incoming.take_blocked(kind, number)
    return at


def _streams_blocked(to: FrameTaker, kind: int, plain: bytes, at: int) -> int:
    limit, at = varint(plain, at)
    check_streams(kind, limit)
    return at


def _new_id(to: FrameTaker, kind: int, plain: bytes, at: int) -> int:
    number, at = varint(plain, at)
    below, at = varint(plain, at)
    # One byte of length, not a variable-length integer (RFC 9000 section 19.15).
    cid, at = pull(plain, at + 1, plain[at])
    token, at = pull(plain, at, TOKEN_BYTES)
    to.on_new_id(number, below, cid, token)
    return at


def _retire_id(to: FrameTaker, kind: int, plain: bytes, at: int) -> int:
    number, at = varint(plain, at)
    to.on_retired_id(number)
    return at


def _challenge(to: FrameTaker, kind: int, plain: bytes, at: int) -> int:
    data, at = pull(plain, at, 8)
    to.on_challenge(data)
    return at


def _response(to: FrameTaker, kind: int, plain: bytes, at: int) -> int:
    data, at = pull(plain, at, 8)
    to.on_response(data)
    return at


def _close(to: FrameTaker, kind: int, plain: bytes, at: int) -> int:
    code, at = varint(plain, at)
    frame_type: int | None = None
    if kind == QuicFrameType.TRANSPORT_CLOSE:
        frame_type, at = varint(plain, at)
    size, at = varint(plain, at)
    reason, at = pull(plain, at, size)
    try:
        text = reason.decode()
    except UnicodeDecodeError:
        # The phrase is for people and should be UTF-8 (RFC 9000 section 19.19); that it is not is no reason for
        # another error.
        text = ""
    to.on_close(code, frame_type, text)
    return at


def _handshake_done(to: FrameTaker, kind: int, plain: bytes, at: int) -> int:
    to.on_handshake_done()
    return at


def _datagram(to: FrameTaker, kind: int, plain: bytes, at: int) -> int:
    size = len(plain) - at
    # 0x31 says how long it is, 0x30 goes on to the packet's end (RFC 9221 section 4).
    if kind & 1:
        size, at = varint(plain, at)
    data, at = pull(plain, at, size)
    to.on_datagram(data, kind)
    return at


OF_STREAMS: Final[dict[int, Reader]] = {
    0x04: _reset,
    0x05: _stop,
    **dict.fromkeys(range(0x08, 0x10), _stream),
    0x10: _max_data,
    0x11: _max_stream_data,
    0x12: _max_streams,
    0x13: _max_streams,
    0x14: _data_blocked,
    0x15: _stream_data_blocked,
    0x16: _streams_blocked,
    0x17: _streams_blocked,
    RESET_STREAM_AT: _reset_at,
}
"""Of streams and their limits: taken here from the first packet on."""
OF_IDS: Final[dict[int, Reader]] = {0x18: _new_id, 0x19: _retire_id}
READERS: Final[dict[int, Reader]] = {
    **OF_STREAMS,
    **OF_IDS,
    0x06: _crypto,
    0x07: _new_token,
    0x1A: _challenge,
    0x1B: _response,
    0x1C: _close,
    0x1D: _close,
    0x1E: _handshake_done,
    0x30: _datagram,
    0x31: _datagram,
}
"""Every frame besides PADDING, PING and ACK."""
PROBING: Final = frozenset((0x00, 0x18, 0x1A, 0x1B))
"""Frames that may be sent to an address that is not used (section 9.1)."""
NOT_ELICITING: Final = frozenset((0x00, 0x02, 0x03, 0x1C, 0x1D))


def unknown(kind: int | None) -> PeerFault:
    """No frame is of this type. RFC 9000 section 12.4."""
    return PeerFault(QuicErrorCode.FRAME_ENCODING_ERROR, kind, "Unknown frame type")


def cut_short(kind: int | None) -> PeerFault:
    """A frame ends before it should. RFC 9000 section 20.1 (FRAME_ENCODING_ERROR)."""
    return PeerFault(QuicErrorCode.FRAME_ENCODING_ERROR, kind, "Failed to parse frame")
