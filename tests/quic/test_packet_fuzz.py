"""Whatever bytes reach either end of a fast connection in mid-stream: no fault, no harm, no growth.

From outside come bytes without the keys: garbage, cut and flipped packets, packets heard before. From
inside, a peer with the keys may seal any frames at all: then the fast path must do what aioquic does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from aioquic.buffer import encode_uint_var
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.core.bundle import Burst
from gateway.quic.connection import Connection
from gateway.quic.connection.framing import Framing
from gateway.quic.connection.received import ALL
from gateway.quic.connection.sending import packet_of
from tests.quic.conftest import Identity
from tests.quic.pair import CLIENT, SERVER, End, Pair, Sink, make_pair
from tests.quic.stock import Stock

QUICK = settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    derandomize=True,
)
ELSEWHERE = ("10.9.9.9", 9)


def _up(identity: Identity, server: type, client: type = Connection) -> Pair:
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
    return (len(quic.paths), len(quic.our_ids.known), len(quic.streams.by_number))


@QUICK
@given(st.lists(injections, min_size=1, max_size=40))
def test_bytes_without_the_keys_change_nothing(identity: Identity, what: list[Injection]) -> None:
    pair = _up(identity, Connection)
    ends = (pair.client, pair.server)
    sinks = {end: Sink() for end in ends}
    sent = 0

    def speak() -> None:
        nonlocal sent
        for end in ends:
            assert end.quic.queue_datagram(b"%d-" % sent * 9, sinks[end], sent) is None
        sent += 1

    for _ in range(4):
        speak()
        pair.run_for(0.011)
    sizes = [_sizes(end) for end in ends]
    for n, injection in enumerate(what):
        target, source = _ends(pair, injection)
        data, is_whole = _bytes(pair, injection)
        elsewhere = injection.elsewhere and not is_whole
        pair.give(target.quic, data, ELSEWHERE if elsewhere else source.addr)
        if n % 3 == 0:
            speak()
        pair.run_for(0.004)
    pair.run_for(1.0)
    for end in ends:
        quic: Any = end.quic
        assert end.terminated() is None
        assert quic.close_event is None
        assert sorted(end.datagrams()) == sorted(b"%d-" % n * 9 for n in range(sent))
        assert sorted(sinks[end].acked) == list(range(sent))
        assert quic.received.bits <= ALL
        assert len(quic.received.ranges) <= 65
        assert not quic.recovery.packets
        assert quic.keys.old is None
    assert [_sizes(end) for end in ends] == sizes


# -- from inside ----------------------------------------------------------------------------


OURS_ALONE = {0x06, 0x24}
"""Frames that mean something else to us: of TLS nothing is expected, and RESET_STREAM_AT aioquic does not know."""


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
    st.tuples(
        st.integers(0, 0x40).filter(lambda kind: kind not in OURS_ALONE), st.lists(large, max_size=5)
    ).map(lambda t: _varints(t[0], *t[1])),
    st.binary(min_size=1, max_size=20),
)
acks = st.tuples(
    st.sampled_from([2, 3]),
    st.integers(-8, 0),
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


def _heard(pair: Pair, sink: Sink) -> dict[str, Any]:
    """What became of the server after all that."""
    quic: Any = pair.server.quic
    close = quic.close_event
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
    for server in (Connection, Stock):
        pair = _up(identity, server)
        sink = Sink()
        quic: Any = pair.server.quic
        framing = Framing(Burst([(bytes(900), ())] * 8), b"", 1_100)
        if server is Connection:
            assert quic.offer_burst(framing, sink, 0) is None
        else:
            for n in range(8):
                quic.queue_datagram(bytes(900), sink, n)
        while quic.datagrams.size:
            pair.now += 0.001
            pair.take_packets(quic)
        pair.intercept()
        newest = pair.server.quic.number - 1
        for content in packets:
            plain = b"".join(_ack(newest, *part) if isinstance(part, tuple) else part for part in content)
            data = packet_of(pair.client.quic, plain + bytes(max(0, 4 - len(plain))))
            pair.give(pair.server.quic, data, CLIENT)
            for fate, token, acked in pair.server.quic.take_fates():
                fate.on_fate(token, acked)
            while (event := pair.server.quic.next_event()) is not None:
                pair.server.events.append(event)
        outcomes.append(_heard(pair, sink))
        for _ in range(3):
            pair.take_packets(pair.server.quic)
    assert outcomes[0] == outcomes[1]


def test_the_same_bytes_mean_the_same_from_one_byte_at_a_time(identity: Identity) -> None:
    pair = _up(identity, Connection)
    pair.client.quic.queue_datagram(b"whole", Sink(), 1)
    (packet,) = pair.client.quic.packets(pair.now)
    for length in range(len(packet)):
        pair.give(pair.server.quic, packet[:length], CLIENT)
    pair.give(pair.server.quic, packet, CLIENT)
    pair.give(pair.client.quic, packet, SERVER)
    pair.pump()
    assert pair.server.datagrams() == [b"whole"]
    assert pair.client.terminated() is None
