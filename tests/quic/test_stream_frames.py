"""Stream frames in any order make the same of a stream as aioquic's own code, and the same is refused."""

from __future__ import annotations

import random
from typing import Any

import pytest
from aioquic.buffer import encode_uint_var
from aioquic.quic.packet import QuicStreamFrame
from aioquic.quic.stream import FinalSizeError, QuicStreamReceiver, QuicStreamSender

from gateway.quic.connection import Connection
from gateway.quic.connection.faults import PeerFault
from gateway.quic.connection.recvhalf import RecvHalf
from gateway.quic.connection.sendhalf import SendHalf
from gateway.quic.connection.sending import packet_of
from tests.quic.conftest import Identity
from tests.quic.pair import CLIENT, make_pair
from tests.quic.stock import Stock

STREAM_BYTES = 3_000


def _frame(
    stream_id: int, offset: int, data: bytes, *, fin: bool, length: bool = True, kind: int = 0x08
) -> bytes:
    kind |= fin | (2 if length else 0) | (4 if offset else 0)
    parts = [bytes((kind,)), encode_uint_var(stream_id), encode_uint_var(offset) if offset else b""]
    return b"".join((*parts, encode_uint_var(len(data)) if length else b"", data))


@pytest.mark.parametrize("seed", range(40))
def test_random_pieces_come_out_as_from_aioquic(seed: int) -> None:
    rng = random.Random(seed)
    content = rng.randbytes(STREAM_BYTES)
    ours, theirs = RecvHalf(1 << 20), QuicStreamReceiver(stream_id=0, readable=True)
    for _ in range(200):
        start = rng.choice((0, rng.randrange(STREAM_BYTES), ours.taken))
        stop = min(STREAM_BYTES, start + rng.choice((0, 1, 700, 1_100)))
        fin = stop == STREAM_BYTES or rng.random() < 0.01
        mine: Any
        yours: Any
        try:
            mine = ours.receive(start, content[start:stop], is_end=fin)
        except PeerFault:
            mine = "refused"
        try:
            event = theirs.handle_frame(QuicStreamFrame(content[start:stop], fin, start))
            yours = None if event is None else (event.data, event.end_stream)
        except FinalSizeError:
            yours = "refused"
        assert mine == yours
        assert (ours.highest, ours.taken, ours.is_over) == (
            theirs.highest_offset,
            theirs.starting_offset(),
            theirs.is_finished,
        )
        if mine == "refused":
            return


@pytest.mark.parametrize("seed", range(40))
def test_what_is_to_be_sent_is_what_aioquic_would_send(seed: int) -> None:
    """Frames of any size, acknowledged or lost in any order: all of it arrives, and both know when."""
    rng = random.Random(seed)
    content = rng.randbytes(STREAM_BYTES)
    ours, theirs = SendHalf(1 << 20), QuicStreamSender(stream_id=0, writable=True)
    flying: list[tuple[int, int, bool]] = []
    came = bytearray(STREAM_BYTES)
    at = 0
    for _ in range(2_000):
        if at < STREAM_BYTES and rng.random() < 0.3:
            piece = content[at : at + rng.randrange(1, 400)]
            at += len(piece)
            ours.write(piece, end=at == STREAM_BYTES)
            theirs.write(piece, end_stream=at == STREAM_BYTES)
        room, limit = rng.randrange(1, 500), rng.choice((1 << 20, at, at // 2))
        frame = ours.next_frame(room, max(0, limit - ours.highest))
        if frame is not None:
            offset, data, is_end = frame
            assert data == content[offset : offset + len(data)]
            assert len(data) <= room
            came[offset : offset + len(data)] = data
            flying.append((offset, offset + len(data), is_end))
            assert ours.highest <= max(limit, ours.highest)
        if flying and rng.random() < 0.5:
            start, stop, is_end = flying.pop(rng.randrange(len(flying)))
            ours.on_fate(rng.random() < 0.7, start, stop, is_end)
    assert not theirs.is_finished
    while not ours.is_over:
        if flying:
            ours.on_fate(True, *flying.pop())
            continue
        frame = ours.next_frame(400, 1 << 20)
        assert frame is not None, "nothing in flight, nothing to send, and not over"
        flying.append((frame[0], frame[0] + len(frame[1]), frame[2]))
        came[frame[0] : frame[0] + len(frame[1])] = frame[1]
    assert came == content
    assert ours.unacknowledged == 0


@pytest.mark.parametrize(
    "plain",
    [
        _frame(0, 0, b"a", fin=True) + _frame(0, 0, b"ab", fin=False),
        _frame(0, 5, b"abc", fin=False) + _frame(0, 0, b"a", fin=True),
        _frame(0, 2_000_000, b"beyond the stream's window", fin=False),
        _frame(3, 0, b"our own stream", fin=False),
        _frame(1, 0, b"a stream that we never opened", fin=False),
        _frame(4 * 200, 0, b"more streams than allowed", fin=False),
        _frame(0, 0, b"cut", fin=False)[:-1],
        _frame(0, 0, b"to the end", fin=False, length=False),
        _frame(0, 0, b"", fin=False) + _frame(0, 0, b"", fin=True),
        _frame(0, 0, b"x", fin=False) + b"\x06",
        b"\x0f\xc0",
        b"\x40\x0a\x00\x01x",
        b"\x1f",
        b"\x1e",
        b"\x07\x01x",
        b"\x19\x20",
        b"\x18\x01\x00\x00" + bytes(16),
        b"\x12" + encode_uint_var((1 << 60) + 1),
        b"\x16" + encode_uint_var((1 << 60) + 1),
        b"\x02\x00\x00\x00\x01",
    ],
)
def test_what_a_peer_must_not_send_meets_the_refusal_of_aioquic(identity: Identity, plain: bytes) -> None:
    """But for a Retire Prior To above its Sequence Number, of which RFC 9000 section 19.15 says otherwise
    (``test_frame_rules.py``)."""
    closed = []
    for server in (Connection, Stock):
        pair = make_pair(identity, server=server)
        pair.connect()
        pair.run_for(0.5)
        pair.give(pair.server.quic, packet_of(pair.client.quic, plain.ljust(2, b"\0")), CLIENT)
        event = pair.server.quic.close_event
        closed.append(event and (event.error_code, event.frame_type))
    assert closed[0] == closed[1]
