"""Stream frames read in line: the same as aioquic's own handlers make of them, whatever comes."""

from __future__ import annotations

import random
from typing import Any

import pytest
from aioquic import tls
from aioquic.buffer import encode_uint_var
from aioquic.quic.connection import QuicConnectionError, QuicReceiveContext

from gateway.quic.connection.fast import FastConnection
from gateway.quic.connection.streamframes import take_stream_frames
from tests.quic.conftest import Identity
from tests.quic.pair import make_pair

STREAM_BYTES = 3_000


def _server(identity: Identity) -> FastConnection:
    pair = make_pair(identity, server=FastConnection)
    pair.connect()
    pair.run_for(0.5)
    assert isinstance(pair.server.quic, FastConnection)
    return pair.server.quic


def _context(quic: FastConnection) -> QuicReceiveContext:
    return QuicReceiveContext(tls.Epoch.ONE_RTT, quic.host_cid, quic._network_paths[0], None, 200.0, None)


def _frame(
    stream_id: int, offset: int, data: bytes, *, fin: bool, length: bool = True, kind: int = 0x08
) -> bytes:
    kind |= fin | (2 if length else 0) | (4 if offset else 0)
    parts = [bytes((kind,)), encode_uint_var(stream_id), encode_uint_var(offset) if offset else b""]
    return b"".join((*parts, encode_uint_var(len(data)) if length else b"", data))


def _take(quic: FastConnection, plain: bytes) -> tuple[Any, ...] | None:
    """In line, and the rest by aioquic. Answers the error that would close the connection."""
    at = take_stream_frames(quic, plain, 0)
    return _leave(quic, plain[at:]) if at < len(plain) else None


def _leave(quic: FastConnection, plain: bytes) -> tuple[Any, ...] | None:
    try:
        quic._payload_received(_context(quic), plain)
    except QuicConnectionError as exc:
        return exc.error_code, exc.frame_type, exc.reason_phrase
    return None


def _state(quic: FastConnection) -> Any:
    receivers = {
        stream_id: (
            stream.receiver.highest_offset,
            stream.receiver._buffer_start,
            bytes(stream.receiver._buffer),
            stream.receiver._final_size,
            stream.receiver.is_finished,
        )
        for stream_id, stream in quic._streams.items()
    }
    return receivers, quic._local_max_data.used, quic._local_max_streams_bidi.used, list(quic._events)


def _random_packet(chooser: random.Random, content: dict[int, bytes]) -> bytes:
    frames = []
    for _ in range(chooser.randint(1, 3)):
        stream_id = chooser.choice((0, 0, 0, 4, 4, 8, 12, 2, 6))
        start = chooser.choice((0, chooser.randrange(STREAM_BYTES)))
        stop = min(STREAM_BYTES, start + chooser.choice((0, 1, 700, 1_100)))
        data = content[stream_id][start:stop]
        frames.append(_frame(stream_id, start, data, fin=stop == STREAM_BYTES))
    return b"".join(frames)


@pytest.mark.parametrize("seed", range(20))
def test_random_frames_leave_what_aioquic_would_leave(identity: Identity, seed: int) -> None:
    chooser = random.Random(seed)
    mine, stock = _server(identity), _server(identity)
    content = {stream_id: chooser.randbytes(STREAM_BYTES) for stream_id in (0, 2, 4, 6, 8, 12)}
    for _ in range(120):
        plain = _random_packet(chooser, content)
        assert _take(mine, plain) == _leave(stock, plain)
        assert _state(mine) == _state(stock)


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
    ],
)
def test_what_a_peer_must_not_send_meets_the_same_refusal(identity: Identity, plain: bytes) -> None:
    mine, stock = _server(identity), _server(identity)
    assert _take(mine, plain) == _leave(stock, plain)
    assert _state(mine) == _state(stock)
