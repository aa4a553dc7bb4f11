"""Whatever bytes reach either end of a fast connection in mid-stream: no fault, no harm, no growth.

From outside come bytes without the keys: garbage, cut and flipped packets, packets heard before. From
inside, a peer with the keys may seal any frames at all: then the fast path must do what aioquic does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from aioquic.buffer import encode_uint_var
from aioquic.quic.connection import QuicConnection
from aioquic.tls import Epoch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.core.bundle import Burst
from gateway.quic.connection import Connection
from gateway.quic.connection.fast import FastConnection
from gateway.quic.connection.framing import Framing
from gateway.quic.connection.numbers import ALL
from tests.quic.conftest import Identity
from tests.quic.pair import CLIENT, SERVER, End, Pair, Sink, make_pair

QUICK = settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    derandomize=True,
)
ELSEWHERE = ("10.9.9.9", 9)


def _up(identity: Identity, server: type, client: type = FastConnection) -> Pair:
    pair = make_pair(identity, client=client, server=server)
    pair.connect()
    pair.run_for(0.3)
    return pair


# -- from outside ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Injection:
    at_server: bool
    how: str
    index: int
    place: int
    noise: bytes
    elsewhere: bool


injections = st.builds(
    Injection,
    at_server=st.booleans(),
    how=st.sampled_from(["noise", "addressed", "long", "cut", "flip", "first", "append", "again", "joined"]),
    index=st.integers(0, 30),
    place=st.integers(0, 1_300 * 8),
    noise=st.binary(max_size=80),
    elsewhere=st.booleans(),
)


def _bytes(pair: Pair, injection: Injection) -> tuple[bytes, bool]:
    """What to inject, and whether it may be a packet that is valid as it is."""
    target, source = _ends(pair, injection)
    heard = [packet for packet in source.packets if not packet[0] & 0x80]
    packet = heard[-1 - injection.index % len(heard)]
    cid = target.quic.host_cid
    place = injection.place % (8 * len(packet))
    if injection.how == "noise":
        return injection.noise, False
    if injection.how == "addressed":
        return bytes([0x40 | injection.place & 0x3F]) + cid + injection.noise, False
    if injection.how == "long":
        head = bytes([0xC0 | injection.place & 0x3F]) + b"\0\0\0\1\x08" + cid
        return head + b"\x08" + bytes(8) + injection.noise, False
    if injection.how == "cut":
        return packet[: place // 8], False
    if injection.how == "flip":
        flipped = bytearray(packet)
        flipped[place // 8] ^= 1 << place % 8
        return bytes(flipped), False
    if injection.how == "first":
        return bytes([packet[0] ^ (1 + injection.place % 255)]) + packet[1:], False
    if injection.how == "append":
        return packet + (injection.noise or b"\0"), False
    if injection.how == "joined":
        return packet + packet, False
    return packet, True


def _ends(pair: Pair, injection: Injection) -> tuple[End, End]:
    ends = (pair.server, pair.client)
    return ends if injection.at_server else ends[::-1]


def _sizes(end: End) -> tuple[int, ...]:
    quic: Any = end.quic
    return (len(quic._network_paths), len(quic._host_cids), len(quic._streams), len(quic._cryptos))


@QUICK
@given(st.lists(injections, min_size=1, max_size=40))
def test_bytes_without_the_keys_change_nothing(identity: Identity, what: list[Injection]) -> None:
    pair = _up(identity, FastConnection)
    ends = (pair.client, pair.server)
    sinks = {end: Sink() for end in ends}
    sent = 0

    def speak() -> None:
        nonlocal sent
        for end in ends:
            assert end.quic.queue_datagram(b"%d-" % sent * 9, sinks[end], sent)
        sent += 1

    for _ in range(4):
        speak()
        pair.run_for(0.011)
    sizes = [_sizes(end) for end in ends]
    for n, injection in enumerate(what):
        target, source = _ends(pair, injection)
        data, is_whole = _bytes(pair, injection)
        elsewhere = injection.elsewhere and not is_whole
        pair._give(target.quic, data, ELSEWHERE if elsewhere else source.addr)
        if n % 3 == 0:
            speak()
        pair.run_for(0.004)
    pair.run_for(1.0)
    for end in ends:
        quic: Any = end.quic
        assert end.terminated() is None
        assert quic._close_event is None
        assert sorted(end.datagrams()) == sorted(b"%d-" % n * 9 for n in range(sent))
        assert sorted(sinks[end].acked) == list(range(sent))
        assert quic._space.received_packets.bits <= ALL
        assert len(quic._space.ack_queue) <= 65
        assert not quic._space.ack_eliciting_in_flight
        assert quic._pair.old is None
    assert [_sizes(end) for end in ends] == sizes


# -- from inside ----------------------------------------------------------------------------


def _varints(*values: int) -> bytes:
    return b"".join(encode_uint_var(value) for value in values)


small = st.integers(0, 70)
large = st.one_of(small, st.integers(0, 2**62 - 1))
payloads = st.binary(max_size=60)
frames = st.one_of(
    st.just(b"\x01"),
    st.integers(1, 30).map(bytes),
    payloads.map(lambda data: b"\x31" + encode_uint_var(len(data)) + data),
    payloads.map(lambda data: b"\x30" + data),
    st.tuples(small, payloads).map(lambda t: b"\x31" + encode_uint_var(t[0]) + t[1]),
    st.tuples(st.sampled_from([0x08, 0x0A, 0x0B, 0x0C, 0x0E, 0x0F]), small, large, payloads).map(
        lambda t: _stream(*t)
    ),
    st.tuples(st.integers(0, 0x40), st.lists(large, max_size=5)).map(lambda t: _varints(t[0], *t[1])),
    st.binary(min_size=1, max_size=20),
)
acks = st.tuples(
    st.sampled_from([2, 3]),
    st.integers(-8, 4),
    st.integers(0, 5_000),
    st.lists(small, max_size=6),
    small,
    small,
)
contents = st.lists(st.one_of(frames, frames, acks), min_size=1, max_size=4)


def _stream(kind: int, stream_id: int, offset: int, data: bytes) -> bytes:
    head = _varints(kind, stream_id)
    if kind & 4:
        head += encode_uint_var(offset)
    if kind & 2:
        head += encode_uint_var(len(data))
    return head + data


def _ack(newest: int, kind: int, ahead: int, delay: int, gaps: list[int], first: int, _: int) -> bytes:
    """An ACK around the newest packet of the other side, sound or not."""
    largest = max(0, newest + ahead)
    frame = _varints(kind, largest, delay, len(gaps) // 2, min(first, largest))
    frame += _varints(*gaps[: len(gaps) // 2 * 2])
    return frame + (_varints(1, 2, 3) if kind == 3 else b"")


def _seal(quic: QuicConnection, plain: bytes) -> bytes:
    """A packet with any content, by aioquic's own cipher."""
    number = quic._packet_number
    quic._packet_number += 1
    header = b"\x41" + quic._peer_cid.cid + (number & 0xFFFF).to_bytes(2, "big")
    pair = quic._cryptos[Epoch.ONE_RTT]
    first = bytes([header[0] | pair.recv.key_phase << 2])
    sealed: bytes = pair.encrypt_packet(first + header[1:], plain, number)
    return sealed


def _forget_acks_alone(quic: Any) -> None:
    """aioquic also remembers packets that ask for no ACK, the fast path does not. An ACK of one makes
    aioquic look for losses a moment earlier: the only difference allowed, and left out here."""
    sent = quic._spaces[Epoch.ONE_RTT].sent_packets
    for number in [n for n, packet in sent.items() if not packet.in_flight]:
        del sent[number]


def _heard(pair: Pair, sink: Sink) -> dict[str, Any]:
    """What became of the server after all that."""
    quic: Any = pair.server.quic
    close = quic._close_event
    streams: dict[int, bytes] = {}
    for event in pair.server.events:
        if type(event).__name__ == "StreamDataReceived":
            streams[event.stream_id] = streams.get(event.stream_id, b"") + event.data  # type: ignore[attr-defined]
    return {
        "closed": close and (close.error_code, close.frame_type),
        "datagrams": pair.server.datagrams(),
        "streams": streams,
        "acked": sorted(sink.acked),
        "lost": sorted(sink.lost),
    }


@QUICK
@given(st.lists(contents, min_size=1, max_size=8))
def test_frames_of_a_peer_with_the_keys_do_what_they_do_to_aioquic(
    identity: Identity, packets: list[list[Any]]
) -> None:
    outcomes = []
    for server in (FastConnection, Connection):
        pair = _up(identity, server, client=Connection)
        sink = Sink()
        quic: Any = pair.server.quic
        framing = Framing(Burst([(bytes(900), ())] * 8), b"", quic.content_bytes_max)
        if not quic.offer_burst(framing, sink, 0):
            assert server is Connection
            for n in range(8):
                quic.queue_datagram(bytes(900), sink, n)
        _forget_acks_alone(pair.server.quic)
        pair.pump()
        pair._wire.clear()
        newest = pair.server.quic._packet_number - 1
        for content in packets:
            plain = b"".join(_ack(newest, *part) if isinstance(part, tuple) else part for part in content)
            data = _seal(pair.client.quic, plain + bytes(max(0, 4 - len(plain))))
            pair._give(pair.server.quic, data, CLIENT)
            for fate, token, acked in pair.server.quic.take_fates():
                fate.on_fate(token, acked)
            while (event := pair.server.quic.next_event()) is not None:
                pair.server.events.append(event)
        outcomes.append(_heard(pair, sink))
        for _ in range(3):
            pair.server.quic.datagrams_to_send(pair.now)
    assert outcomes[0] == outcomes[1]


def test_the_same_bytes_mean_the_same_from_one_byte_at_a_time(identity: Identity) -> None:
    pair = _up(identity, FastConnection)
    pair.client.quic.queue_datagram(b"whole", Sink(), 1)
    (packet,) = pair.client.quic.fast_packets(pair.now) or [b""]
    for length in range(len(packet)):
        pair._give(pair.server.quic, packet[:length], CLIENT)
    pair._give(pair.server.quic, packet, CLIENT)
    pair._give(pair.client.quic, packet, SERVER)
    pair.pump()
    assert pair.server.datagrams() == [b"whole"]
    assert pair.client.terminated() is None
