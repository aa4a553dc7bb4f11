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
from aioquic.quic.events import StreamDataReceived
from aioquic.quic.packet import QuicErrorCode
from hypothesis import given
from hypothesis import strategies as st

from gateway import limits
from gateway.limits import QUIC_PATHS_MAX
from gateway.quic.connection import Connection
from gateway.quic.connection.ranges import Ranges
from gateway.quic.connection.sending import packet_of
from tests.held import longest
from tests.quic.conftest import Identity
from tests.quic.pair import CLIENT, End, Pair, Sink, make_pair

ENDS = [Connection]
PACKET_BYTES = 1_150
PACKETS = 150
UNEXPECTED_MESSAGE = 10
LINES_MORE_MAX = 20
"""Of a packet while many streams are open that have nothing to say: not so much as a line for each."""
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


def _open_all_streams() -> bytes:
    """As many as may be, both kinds, each with a byte and no end."""
    last = 4 * (limits.QUIC_PEER_STREAMS_MAX - 1)
    return _frame(0x0A, last, 1, tail=b"x") + _frame(0x0A, last + 2, 1, tail=b"x")


def _tiny_pieces_on_all_streams() -> Iterator[bytes]:
    yield _open_all_streams()
    for at in itertools.count(1):
        for stream in range(0, 4 * (limits.QUIC_PEER_STREAMS_MAX - 1), 2):
            if not stream & 1:
                yield _frame(0x0E, stream, at - 1, 1, tail=b"x")


def _pings_beside_open_streams() -> Iterator[bytes]:
    yield _open_all_streams()
    yield from itertools.repeat(b"\x01" + bytes(PACKET_BYTES // 2))


def _windows_of_all_streams() -> Iterator[bytes]:
    yield _open_all_streams()
    for n in itertools.count():
        for stream in range(0, 4 * limits.QUIC_PEER_STREAMS_MAX, 4):
            yield _frame(0x11, stream, 1_000_000 + n)


def _stops() -> Iterator[bytes]:
    yield _open_all_streams()
    for stream in itertools.cycle(range(0, 4 * limits.QUIC_PEER_STREAMS_MAX, 4)):
        yield _frame(0x05, stream, 7)


def _streams_opened_and_reset_within_the_limit() -> Iterator[bytes]:
    """Each packet as many as the limit was raised for meanwhile."""
    for first in itertools.count(0, 16):
        yield b"".join(_frame(0x04, 2 + 4 * (first + n), 7, 0) for n in range(16)).ljust(PACKET_BYTES, b"\0")


def _ends_said_again() -> Iterator[bytes]:
    """Of streams that are over, and forgotten."""
    return itertools.cycle(_frame(0x0F, 2 + 4 * n, 0, 1, tail=b"x") for n in range(100))


def _ack_ranges_of_the_most_that_fit() -> Iterator[bytes]:
    """Alternating: what the one left out the other says."""
    for n in itertools.count():
        yield _frame(0x02, 1_000 - n % 2, 0, 490, 0) + b"\x00\x00" * 490


def _marks() -> Iterator[bytes]:
    return (_frame(0x03, 0, 0, 0, 0, n, n, n) for n in itertools.count())


def _blocked() -> Iterator[bytes]:
    return (
        _frame(0x14, n) + _frame(0x15, 2, n) + _frame(0x16, n % 100) + _frame(0x17, n % 100)
        for n in itertools.count()
    )


def _limits_of_the_connection() -> Iterator[bytes]:
    return (
        _frame(0x10, 2_000_000 + n) + _frame(0x12, 200 + n) + _frame(0x13, 200 + n) for n in itertools.count()
    )


def _the_same_connection_id() -> Iterator[bytes]:
    return itertools.repeat(_frame(0x18, 1, 0, tail=b"\x08" + bytes(8) + bytes(16)))


def _responses() -> Iterator[bytes]:
    """To challenges that nobody made."""
    return (b"\x1b" + n.to_bytes(8, "big") for n in itertools.count())


def _padding() -> Iterator[bytes]:
    return itertools.repeat(b"\x01" + bytes(PACKET_BYTES - 1))


FLOODS = [
    _tiny_pieces_on_all_streams,
    _pings_beside_open_streams,
    _windows_of_all_streams,
    _stops,
    _streams_opened_and_reset_within_the_limit,
    _ends_said_again,
    _ack_ranges_of_the_most_that_fit,
    _marks,
    _blocked,
    _limits_of_the_connection,
    _the_same_connection_id,
    _responses,
    _padding,
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


def test_a_packet_costs_no_more_for_the_addresses_that_packets_came_from(identity: Identity) -> None:
    pair = _settled(identity, Connection)
    costs, quic = [], pair.server.quic
    for n in range(300):
        pair.client.addr = (CLIENT[0], 2_000 + n)
        content = b"\x1a" + n.to_bytes(8, "big") + _frame(0x0E, 2, n, 1, tail=b"x")
        costs.append(_take(pair, pair.client, content.ljust(PACKET_BYTES, b"\0")))
    assert quic.close_event is None
    assert len(quic.paths) <= QUIC_PATHS_MAX
    assert max(costs[-50:]) <= 2 * max(costs[QUIC_PATHS_MAX : QUIC_PATHS_MAX + 50])


def test_a_window_that_opens_by_one_byte_a_time_costs_its_sender_one_packet_each(identity: Identity) -> None:
    pair = _settled(identity, Connection)
    server, costs, sent = pair.server.quic, [], 0
    peer = server.streams.peer
    peer.data = peer.data_used
    server.send_stream_data(3, bytes(100_000), end_stream=False)
    for _ in range(1, 300):
        frame = _frame(0x10, peer.data_used + 1)
        before = server.number
        costs.append(_take(pair, pair.client, frame))
        sent = max(sent, server.number - before)
    assert sent <= 2
    assert max(costs[-50:]) <= 2 * max(costs[:50])


def test_a_packet_costs_no_more_for_streams_that_are_open(identity: Identity) -> None:
    costs = {}
    for is_open in (False, True):
        pair = _settled(identity, Connection)
        if is_open:
            _take(pair, pair.client, _open_all_streams())
            assert len(pair.server.quic.streams.by_number) >= 2 * limits.QUIC_PEER_STREAMS_MAX
        costs[is_open] = max(_take(pair, pair.client, b"\x01\x00") for _ in range(20))
    assert costs[True] - costs[False] <= LINES_MORE_MAX


def test_a_flush_costs_no_more_for_streams_that_have_nothing_to_send(identity: Identity) -> None:
    """What one stream has to send, while others are open that the application has not read, or that wait for bytes."""
    costs = {}
    for is_open in (False, True):
        pair = _settled(identity, Connection)
        server = pair.server.quic
        _take(pair, pair.client, _frame(0x0A, 0, 1, tail=b"x"))
        if is_open:
            _take(pair, pair.client, _open_all_streams())
            for number in range(4, 200, 4):
                _take(pair, pair.client, _frame(0x0E, number, 0, 3, tail=b"abc"))
                server.hold(number, 3)
        costs[is_open] = min(_flush_lines(pair) for _ in range(4))
    assert costs[True] - costs[False] <= LINES_MORE_MAX


def _flush_lines(pair: Pair) -> int:
    """Of one write and one flush of the server's."""
    server = pair.server.quic

    def write_and_flush() -> None:
        server.send_stream_data(0, b"answer")
        assert server.packets(pair.now)

    pair.now += 0.01  # the pacer's turn
    return _lines(write_and_flush)


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
    came = b"".join(e.data for e in pair.server.events if isinstance(e, StreamDataReceived))
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
    assert longest(quic.peer_ids) <= limits.QUIC_SEQUENCE_NUMBERS_MAX


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
