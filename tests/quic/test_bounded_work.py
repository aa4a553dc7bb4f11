"""What a packet costs its receiver depends on its own bytes, whatever came before it; what is held is bounded.

Work is counted in lines of Python that the receiver runs, not in time.
"""

from __future__ import annotations

import itertools
import random
import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import pytest
from aioquic.buffer import encode_uint_var
from aioquic.quic.packet import QuicErrorCode
from hypothesis import given
from hypothesis import strategies as st

from gateway import limits
from gateway.quic.connection import Connection
from gateway.quic.connection.ranges import Ranges
from gateway.quic.connection.sending import packet_of
from tests.quic.conftest import Identity
from tests.quic.pair import End, Pair, Sink, make_pair

ENDS = [Connection]
PACKET_BYTES = 1_150
PACKETS = 150
UNEXPECTED_MESSAGE = 10
LINES_A_BYTE_MAX = 60
"""Of a packet's content, in lines: a frame of two bytes makes a connection ID, which costs some hundred."""


def _lines(call: Callable[[], object]) -> int:
    """How many lines of Python a call runs."""
    count = 0

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(before)
    return count


def _frame(*numbers: int, tail: bytes = b"") -> bytes:
    return b"".join(map(encode_uint_var, numbers)) + tail


def _stream_gaps() -> Iterator[bytes]:
    """Single bytes of a stream with a gap before each, in order."""
    return (_frame(0x0E, 2, 2 * n + 1, 1, tail=b"x") for n in itertools.count())


def _stream_gaps_backwards() -> Iterator[bytes]:
    return (_frame(0x0E, 2, 900_000 - 2 * n, 1, tail=b"x") for n in itertools.count())


def _many_streams_with_gaps() -> Iterator[bytes]:
    """Less than the bound of them on each of many streams."""
    return (
        _frame(0x0E, 2 + 4 * stream, 2 * n + 1, 1, tail=b"x")
        for n in range(limits.QUIC_RECEIVED_PIECES_MAX - 1)
        for stream in range(100)
    )


def _crypto_gaps() -> Iterator[bytes]:
    return (_frame(0x06, 2 * n + 1, 1, tail=b"x") for n in itertools.count())


def _crypto_in_order() -> Iterator[bytes]:
    """A TLS message that never ends."""
    yield _frame(0x06, 0, 4, tail=b"\x01\xff\xff\xff")
    for n in itertools.count(4):
        yield _frame(0x06, n, 1, tail=b"x")


def _ack_ranges() -> Iterator[bytes]:
    """Nothing new, in as many ranges as fit."""
    frame = _frame(0x02, 400, 0, 150, 0) + b"\x00\x00" * 150
    return itertools.repeat(frame)


def _acks_of_nothing() -> Iterator[bytes]:
    return itertools.repeat(_frame(0x02, 0, 0, 0, 0))


def _path_challenges() -> Iterator[bytes]:
    return (b"\x1a" + n.to_bytes(8, "big") for n in itertools.count())


def _connection_ids() -> Iterator[bytes]:
    """Each retires all before it."""
    return (
        _frame(0x18, n, n, tail=b"\x08" + n.to_bytes(8, "big") + n.to_bytes(16, "big"))
        for n in itertools.count(5)
    )


def _retirements() -> Iterator[bytes]:
    """Each has another one issued."""
    return (_frame(0x19, n) for n in itertools.count(1))


def _resets() -> Iterator[bytes]:
    return (_frame(0x04, 2 + 4 * n, 7, 0) for n in itertools.count())


def _windows() -> Iterator[bytes]:
    return (_frame(0x11, 0, 1_000_000 + n) for n in itertools.count())


def _pings() -> Iterator[bytes]:
    return itertools.repeat(b"\x01")


def _small_datagrams() -> Iterator[bytes]:
    return itertools.repeat(b"\x31\x01\x3f")


FLOODS = [
    _stream_gaps,
    _stream_gaps_backwards,
    _many_streams_with_gaps,
    _crypto_gaps,
    _crypto_in_order,
    _ack_ranges,
    _acks_of_nothing,
    _path_challenges,
    _connection_ids,
    _retirements,
    _resets,
    _windows,
    _pings,
    _small_datagrams,
]
ENDED_BY = {
    "_stream_gaps": {QuicErrorCode.PROTOCOL_VIOLATION},
    "_stream_gaps_backwards": {QuicErrorCode.PROTOCOL_VIOLATION},
    "_crypto_gaps": {QuicErrorCode.CRYPTO_BUFFER_EXCEEDED},
    "_crypto_in_order": {
        QuicErrorCode.CRYPTO_BUFFER_EXCEEDED,
        QuicErrorCode.CRYPTO_ERROR + UNEXPECTED_MESSAGE,
    },
    "_connection_ids": {QuicErrorCode.CONNECTION_ID_LIMIT_ERROR},
    "_resets": {QuicErrorCode.STREAM_LIMIT_ERROR},
}
"""What is answered by closing the connection, and the error."""


def _packed(frames: Iterator[bytes]) -> Iterator[bytes]:
    """Contents of packets, as full of frames as they get."""
    content = b""
    for frame in frames:
        if len(content) + len(frame) > PACKET_BYTES:
            yield content
            content = b""
        content += frame
    yield content


def _settled(identity: Identity, server: type) -> Pair:
    pair = make_pair(identity, client=Connection, server=server, delay_s=0.001)
    pair.connect()
    pair.run_for(1)
    return pair


def _take(pair: Pair, source: End, content: bytes) -> int:
    """The other end takes a packet of this content, says what it has to say, and the lines that took."""
    quic: Any = source.quic
    packet = packet_of(quic, content)
    quic.peer_ids.spare.clear()

    def take() -> None:
        pair.give(pair.server.quic, packet, source.addr)
        pair.take_packets(pair.server.quic)

    count = _lines(take)
    pair.now += 0.001
    while pair.server.quic.next_event() is not None:
        pass
    return count


@pytest.mark.parametrize("server", ENDS)
@pytest.mark.parametrize("flood", FLOODS)
def test_a_packet_costs_no_more_for_what_came_before_it(
    identity: Identity, server: type, flood: Callable[[], Iterator[bytes]]
) -> None:
    pair = _settled(identity, server)
    pair.server.quic.number += 1_000
    costs: list[int] = []
    for content in itertools.islice(_packed(flood()), PACKETS):
        costs.append(_take(pair, pair.client, content))
        if pair.server.quic.close_event is not None:
            break
    event = pair.server.quic.close_event
    assert (event and event.error_code) in ENDED_BY.get(flood.__name__, {None}), event
    assert max(costs) <= LINES_A_BYTE_MAX * PACKET_BYTES
    assert len(costs) < 20 or max(costs[-10:]) <= 2 * max(costs[:10])


@pytest.mark.parametrize("server", ENDS)
def test_an_acknowledgement_costs_no_more_for_many_packets_in_flight(
    identity: Identity, server: type
) -> None:
    costs = {}
    for flight in (50, 1_500):
        pair = _settled(identity, server)
        quic: Any = pair.server.quic
        quic.recovery.control.window = 10_000_000
        for n in range(flight):
            quic.queue_datagram(bytes(1_000), Sink(), n)
            pair.now += 0.001
            pair.take_packets(quic)
        first = min(quic.recovery.sent)
        costs[flight] = max(
            _take(pair, pair.client, _frame(0x02, first + 2 * n, 0, 0, 0)) for n in range(1, 20)
        )
    assert costs[1_500] <= costs[50] * 1.5


@pytest.mark.parametrize("server", ENDS)
def test_a_stream_may_wait_with_as_many_pieces_as_the_bound_says(identity: Identity, server: type) -> None:
    pair = _settled(identity, server)
    data = random.Random(2).randbytes(2 * limits.QUIC_RECEIVED_PIECES_MAX)
    order = [*range(1, len(data), 2), *range(0, len(data), 2)]
    for at in order:
        inject_one = _frame(0x0E, 2, at, 1, tail=data[at : at + 1])
        pair.give(pair.server.quic, packet_of(pair.client.quic, inject_one), pair.client.addr)
    pair.pump()
    came = b"".join(e.data for e in pair.server.events if type(e).__name__ == "StreamDataReceived")
    assert came == data
    assert pair.server.quic.close_event is None


def test_an_ack_of_a_packet_that_was_never_sent_ends_the_connection(identity: Identity) -> None:
    for content in (
        _frame(0x02, 5_000, 0, 0, 0),
        _frame(0x02, 5_000, 0, 0, 0, tail=b"\x01"),
        _frame(0x02, 5_000, 0, 2, 0, 0, 0, 0, 0),
        _frame(0x03, 5_000, 0, 0, 0, 0, 0, 0),
        _frame(0x02, 5_000, 0, 0, 0) + _frame(0x0A, 0, 1, tail=b"x"),
    ):
        pair = _settled(identity, Connection)
        _take(pair, pair.client, content)
        event = pair.server.quic.close_event
        assert event is not None
        assert event.error_code == QuicErrorCode.PROTOCOL_VIOLATION


def test_the_sequence_numbers_of_a_peers_connection_ids_are_not_remembered_for_ever(
    identity: Identity,
) -> None:
    pair = _settled(identity, Connection)
    quic: Any = pair.server.quic
    for n in range(2_000):
        token = n.to_bytes(16, "big")
        quic.peer_ids.spare.clear()
        content = _frame(0x18, 5 + n, 0, tail=b"\x08" + n.to_bytes(8, "big") + token)
        _take(pair, pair.client, content)
    assert quic.close_event is None
    assert len(quic.peer_ids._numbers) <= limits.QUIC_SEQUENCE_NUMBERS_MAX


_steps = st.lists(st.tuples(st.booleans(), st.integers(0, 60), st.integers(1, 20)), max_size=60)


@given(_steps)
def test_ranges_hold_what_a_set_of_numbers_would(steps: list[tuple[bool, int, int]]) -> None:
    ranges, numbers = Ranges(), set()
    for adds, start, count in steps:
        if adds:
            ranges.add(start, start + count)
            numbers |= set(range(start, start + count))
        else:
            ranges.subtract(start, start + count)
            numbers -= set(range(start, start + count))
        held = list(ranges)
        assert {number for one in held for number in one} == numbers
        assert all(one.stop < other.start for one, other in itertools.pairwise(held))
