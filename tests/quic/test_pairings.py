"""Our ends against aioquic's own: same rules, any pairing; and the packets that an independent stack reads."""

from __future__ import annotations

import random
from typing import Any

import pytest
from aioquic.buffer import Buffer
from aioquic.quic.packet import QuicErrorCode, QuicFrameType, pull_ack_frame, push_ack_frame
from aioquic.quic.rangeset import RangeSet
from hypothesis import given
from hypothesis import strategies as st

from gateway.quic import QuicOptions
from gateway.quic.connection import Connection
from gateway.quic.connection.packets import (
    datagram_head,
    encode_ack,
    full_number,
    last_datagram,
    leading_ack,
    parse,
)
from gateway.quic.connection.sending import packet_of
from tests.quic.conftest import Identity
from tests.quic.pair import Pair, Sink, make_pair
from tests.quic.stock import Stock

ENDS = [Stock, Connection]


@pytest.mark.parametrize("client", ENDS)
@pytest.mark.parametrize("server", ENDS)
@pytest.mark.parametrize("seed", [1, 2])
def test_any_pairing_carries_datagrams_and_streams_over_a_bad_link(
    identity: Identity, client: type, server: type, seed: int
) -> None:
    pair = make_pair(
        identity, client=client, server=server, loss=0.08, duplicates=0.08, jitter_s=0.02, seed=seed
    )
    pair.connect()
    body = random.Random(seed).randbytes(60_000)
    sinks = {pair.client: Sink(), pair.server: Sink()}
    for end in sinks:
        stream = end.quic.get_next_available_stream_id()
        end.quic.send_stream_data(stream, body, end_stream=True)
    for n in range(150):
        for end, sink in sinks.items():
            assert end.quic.queue_datagram(b"%d-" % n * (1 + n), sink, n) is None
        pair.run_for(0.01)
    pair.run(lambda: all(len(s.acked) + len(s.lost) == 150 for s in sinks.values()), within_s=60)
    pair.run(lambda: _stream(pair.client) == body == _stream(pair.server), within_s=60)
    for end, other in ((pair.client, pair.server), (pair.server, pair.client)):
        sink = sinks[end]
        assert sorted(sink.acked + sink.lost) == list(range(150))
        arrived = {int(d.split(b"-")[0]) for d in other.datagrams()}
        assert set(sink.acked) <= arrived
        assert len(other.datagrams()) == len(arrived)
        assert end.quic.recovery.control.in_flight >= 0
    assert pair.client.terminated() is None


def _stream(end: Any) -> bytes:
    return b"".join(e.data for e in end.events if type(e).__name__ == "StreamDataReceived")


@pytest.mark.parametrize("server", ENDS)
@pytest.mark.parametrize(
    ("plain", "error"),
    [
        (b"\x0a\x00\x20abc", QuicErrorCode.FRAME_ENCODING_ERROR),
        (b"\x0a\x03\x01a", QuicErrorCode.STREAM_STATE_ERROR),
        (b"\x0a\x00\x01a\x21", QuicErrorCode.FRAME_ENCODING_ERROR),
    ],
)
def test_a_wrong_stream_packet_ends_the_connection_as_with_aioquic(
    identity: Identity, server: type, plain: bytes, error: int
) -> None:
    pair = make_pair(identity, client=Connection, server=server)
    pair.connect()
    pair.run_for(0.5)
    client: Any = pair.client.quic
    packet = packet_of(client, plain + bytes(20 if plain[-1] == 0x21 else 0))
    pair.give(pair.server.quic, packet, pair.client.addr)
    assert pair.server.quic.close_event is not None
    assert pair.server.quic.close_event.error_code == error


@pytest.mark.parametrize("server", ENDS)
def test_a_stream_packet_that_comes_twice_counts_once(identity: Identity, server: type) -> None:
    pair = make_pair(identity, client=Connection, server=server)
    pair.connect()
    pair.run_for(0.5)
    client: Any = pair.client.quic
    packet = packet_of(client, b"\x0b\x00\x03abc")
    for _ in range(2):
        pair.give(pair.server.quic, packet, pair.client.addr)
    pair.pump()
    assert _stream(pair.server) == b"abc"


def _stream_of_datagrams(
    pair: Pair, count: int, at: dict[int, Any], tick_s: float = 0.01
) -> tuple[Sink, Sink]:
    up, down = Sink(), Sink()
    for n in range(count):
        if n in at:
            at[n]()
        pair.client.quic.queue_datagram(b"up%d" % n, up, n)
        pair.server.quic.queue_datagram(b"down%d" % n, down, n)
        pair.run_for(tick_s)
    pair.run(lambda: len(up.acked + up.lost) == count == len(down.acked + down.lost))
    return up, down


@pytest.mark.parametrize("who", ["client", "server", "both"])
def test_keys_are_updated_in_mid_stream_by_either_side(identity: Identity, who: str) -> None:
    pair = make_pair(identity, client=Connection, server=Connection)
    pair.connect()
    pair.run_for(0.5)
    ends = {"client": [pair.client], "server": [pair.server], "both": [pair.client, pair.server]}[who]
    before = pair.client.quic.keys.phase
    up, down = _stream_of_datagrams(pair, 60, {20: lambda: [e.quic.request_key_update() for e in ends]})
    for sink in (up, down):
        assert not sink.lost
        assert sorted(sink.acked) == list(range(60))
    assert pair.client.quic.keys.phase != before
    fast = pair.server.quic.packets_fast
    assert fast > 60


def test_a_fast_connection_moves_to_a_new_address_in_mid_stream(identity: Identity) -> None:
    pair = make_pair(identity, client=Connection, server=Connection)
    pair.connect()
    pair.run_for(0.5)
    _, down = _stream_of_datagrams(pair, 60, {20: pair.move_client})
    assert pair.server.quic.address == pair.client.addr
    assert len(down.lost) < 10
    assert set(range(40, 60)) <= set(down.acked)


def test_acknowledgements_are_thinned_but_never_late(identity: Identity) -> None:
    sent = {}
    for server in ENDS:
        pair = make_pair(identity, client=Stock, server=server)
        pair.connect()
        pair.run_for(1)
        sink, before = Sink(), len(pair.server.packets)
        for n in range(120):
            pair.client.quic.queue_datagram(bytes(1000), sink, n)
            pair.run_for(1 / 60)
        pair.run(lambda sink=sink: len(sink.acked) == 120)
        assert not sink.lost
        sent[server] = len(pair.server.packets) - before
    assert sent[Connection] < 0.7 * sent[Stock]


def test_a_receiver_that_never_sends_holds_no_growing_state(identity: Identity) -> None:
    pair = make_pair(identity, client=Connection, server=Connection)
    pair.connect()
    pair.run_for(1)
    sink = Sink()
    for n in range(600):
        pair.client.quic.queue_datagram(b"x", sink, n)
        pair.run_for(1 / 60)
    assert pair.server.quic.recovery.packets < 5
    assert len(pair.server.quic.received.ranges) < 5


def test_closing_with_packets_in_flight_tells_each_fate_once(identity: Identity) -> None:
    pair = make_pair(identity, client=Connection, server=Connection)
    pair.connect()
    pair.run_for(0.5)
    sink = Sink()
    for n in range(5):
        pair.server.quic.queue_datagram(bytes(1000), sink, n)
    pair.pump()
    pair.client.quic.close(reason_phrase="enough")
    pair.run(lambda: pair.server.terminated() is not None)
    assert len(set(sink.acked + sink.lost)) == len(sink.acked + sink.lost)


def test_a_loss_timer_that_began_since_the_last_packet_is_heeded(identity: Identity) -> None:
    pair = make_pair(identity)
    pair.connect()
    pair.run_for(1.0)
    quic, now, sink = pair.server.quic, pair.now, Sink()
    for token in range(4):
        assert quic.queue_datagram(bytes(1_000), sink, token) is None
    assert len(quic.packets(now)) == 4
    assert quic.calm
    sent = list(quic.recovery.sent)
    quic.recovery.on_ack([(sent[1], sent[1] + 1)], 0.0, now + 0.03, quic.number)
    assert quic.recovery.loss_at is not None
    assert quic.packets(now + 0.03) == []
    assert not quic.calm
    assert quic.deadline() == quic.recovery.loss_at


def test_an_independent_stack_reads_every_packet_of_the_fast_path(identity: Identity) -> None:
    """qh3 (another TLS and packet code, in Rust) decrypts and parses what the fast path builds."""
    qh3_connection = pytest.importorskip("qh3.quic.connection")
    qh3_configuration = pytest.importorskip("qh3.quic.configuration")
    configuration = qh3_configuration.QuicConfiguration(
        is_client=True, alpn_protocols=["h3"], server_name="localhost", max_datagram_frame_size=65_535
    )
    configuration.verify_mode = __import__("ssl").CERT_NONE
    client = qh3_connection.QuicConnection(configuration=configuration)
    server = Connection(
        configuration=identity.server().configuration(QuicOptions()),
        original_destination_connection_id=client.original_destination_connection_id,
    )
    now, got, sink, sent = 50.0, [], Sink(), 0
    client.connect(("10.0.0.2", 4433), now=now)
    while len(sink.acked) < 300:
        now += 0.005
        for data, _ in client.datagrams_to_send(now=now):
            server.receive(data, ("10.0.0.1", 1111), now)
        if server.is_established and sent < 300 and server.is_taken_over:
            assert server.queue_datagram(b"%d:" % sent * (1 + sent % 250), sink, sent) is None
            sent += 1
        for data in server.packets(now):
            client.receive_datagram(data, ("10.0.0.2", 4433), now=now)
        for quic in (client, server):
            timer = quic.get_timer()
            if timer is not None and timer <= now:
                quic.handle_timer(now)
        while (event := client.next_event()) is not None:
            if type(event).__name__ == "DatagramFrameReceived":
                got.append(event.data)
        while server.next_event() is not None:
            pass
        for to, token, acked in server.take_fates():
            to.on_fate(token, acked)
        assert now < 120
    assert not sink.lost
    assert got == [b"%d:" % n * (1 + n % 250) for n in range(300)]
    assert server.packets_fast >= 250


@given(st.binary(max_size=200))
def test_any_bytes_are_parsed_or_left_to_the_readers_of_single_frames(plain: bytes) -> None:
    frames = parse(plain)
    if frames is not None:
        acks, payloads, _ = frames
        assert sum(map(len, payloads)) <= len(plain)
        for ranges, _ in acks:
            assert all(0 <= start < stop for start, stop in ranges)
            assert ranges == sorted(ranges)


@given(st.sets(st.integers(0, 5_000), min_size=1, max_size=40), st.integers(0, 2**20))
def test_ack_frames_are_those_of_aioquic(numbers: set[int], delay: int) -> None:
    ranges = RangeSet()
    for number in numbers:
        ranges.add(number)
    encoded = encode_ack(ranges, delay)
    buf = Buffer(capacity=1_200)
    buf.push_uint_var(QuicFrameType.ACK)
    push_ack_frame(buf, ranges, delay, 1_100)
    assert encoded == buf.data
    parsed = parse(encoded)
    assert parsed is not None
    theirs, their_delay = pull_ack_frame(Buffer(data=encoded[1:]))
    assert parsed[0] == [([(r.start, r.stop) for r in theirs], their_delay)]


@given(
    st.integers(0, 2**29),
    st.integers(0, 12_000),
    st.integers(0, 2**29),
    st.binary(max_size=2),
    st.integers(0, 12),
)
def test_an_ack_at_the_front_is_read_as_any_other(
    largest: int, length: int, delay: int, tail: bytes, cut: int
) -> None:
    whole = encode_ack([range(max(0, largest - length), largest + 1)], delay)
    for plain in (whole, whole + tail, whole[:-cut] if cut else whole, b"\x02" + tail + whole[1:]):
        ack = leading_ack(plain)
        if ack is not None:
            first, stop, encoded, end = ack
            assert parse(plain[:end]) == ([([(first, stop)], encoded)], [], False)
    assert leading_ack(whole + tail) == (max(0, largest - length), largest + 1, delay, len(whole))


@given(st.binary(max_size=300), st.binary(max_size=3), st.integers(0, 4))
def test_a_datagram_at_the_end_is_read_as_any_other(payload: bytes, tail: bytes, cut: int) -> None:
    whole = datagram_head(len(payload)) + payload
    for plain in (whole, whole + tail, whole[:-cut] if cut else whole, b"\x31" + tail + whole):
        last = last_datagram(plain)
        if last is not None:
            assert parse(plain) == ([], [last], True)
        last = last_datagram(tail + plain, len(tail))
        if last is not None:
            assert parse(plain) == ([], [last], True)
    if len(payload) >= 64:
        assert last_datagram(whole) == payload


@given(st.integers(0, 2**40), st.integers(-(2**14), 2**14))
def test_packet_numbers_are_completed_as_the_rfc_says(expected: int, distance: int) -> None:
    number = max(0, expected + distance)
    assert full_number(number & 0xFFFF, 16, expected) == number
