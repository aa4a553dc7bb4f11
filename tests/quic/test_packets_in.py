"""Single packets made by hand arrive at one end: which it takes, which it drops, and what it says to them."""

from __future__ import annotations

import itertools

import pytest
from aioquic.quic.packet import QuicErrorCode, QuicFrameType

from gateway.quic.connection.intake import PACKET_BYTES_MIN, STREAM_ACK_S
from gateway.quic.connection.received import SPAN
from tests.quic.conftest import Identity
from tests.quic.pair import End, Pair, make_pair

DISTANCES = {
    size: (1, (1 << 8 * size - 1) - 1, (1 << 8 * size - 1), -(1 << 8 * size - 1) + 2) for size in (1, 2, 3)
}
"""From the next number expected, by bytes of the number: the nearest, and up to half a window either way."""


class _Talk:
    """Two ends that are connected; from then on the one hears only what the test makes in the other's name."""

    def __init__(self, identity: Identity, *, from_server: bool = False) -> None:
        self.pair: Pair = make_pair(identity)
        self.pair.connect()
        self.pair.run_for(1.0)
        ends = self.pair.client, self.pair.server
        self.far, self.near = reversed(ends) if from_server else ends
        self.next = self.far.quic.sending.number
        self._contents = itertools.count()

    def packet(self, number: int, frames: bytes, *, size: int = 2, bits: int = 0) -> bytes:
        """A packet whose number takes ``size`` bytes, with these bits of the first byte turned."""
        sending = self.far.quic.sending
        encrypt, iv, masks_of = sending.keys.sealing
        first = (0x40 | sending.keys.bits | (size - 1)) ^ bits
        low = (number % (1 << 8 * size)).to_bytes(size, "big")
        head = bytes([first]) + self.far.quic.peer_ids.cid
        body = encrypt((iv ^ number).to_bytes(12, "big"), frames, head + low)
        mask = masks_of(body[4 - size : 20 - size])
        hidden = bytes(a ^ b for a, b in zip(low, mask[1:], strict=False))
        return bytes([first ^ mask[0] & 0x1F]) + head[1:] + hidden + body

    def hear(self, packet: bytes, port: int | None = None) -> None:
        host, usual = self.far.addr
        self.pair.give(self.near.quic, packet, (host, port or usual))
        self.pair.pump()

    def hears_datagram(
        self, number: int, *, size: int = 2, bits: int = 0, front: bytes = b"", port: int | None = None
    ) -> bool:
        """Whether the content of a packet with a datagram comes out."""
        content = b"datagram %d" % next(self._contents)
        # With a length of two bytes, as the world's frames have it: that is what is read in line.
        frame = front + b"\x31" + (0x4000 | len(content)).to_bytes(2, "big") + content
        self.hear(self.packet(number, frame, size=size, bits=bits), port)
        return content in self.near.datagrams()

    def spin(self, end: End) -> int:
        """The bit of the last packet that an end sent."""
        return end.packets[-1][0] >> 5 & 1


@pytest.mark.parametrize("low", [0x0000, 0x0001, 0x7FFF, 0x8000, 0x8001, 0xFFFF])
@pytest.mark.parametrize("size", DISTANCES)
@pytest.mark.parametrize("port", [None, 9_999], ids=["in line", "from elsewhere"])
def test_a_number_is_read_up_to_half_a_window_from_the_next(
    identity: Identity, size: int, low: int, port: int | None
) -> None:
    talk = _Talk(identity)
    for turn, distance in enumerate(DISTANCES[size], 1):
        expected = (turn << 26) + low
        assert talk.hears_datagram(expected - 1, size=4)
        number = expected + distance
        assert talk.hears_datagram(number, size=size, port=port) is (number > expected - 1 - SPAN), distance


@pytest.mark.parametrize("front", [b"", b"\0", b"\x01"], ids=["in line", "padded", "with a ping"])
@pytest.mark.parametrize("port", [None, 9_999], ids=["from there", "from elsewhere"])
def test_a_packet_is_taken_once_and_while_its_like_are_remembered(
    identity: Identity, front: bytes, port: int | None
) -> None:
    talk = _Talk(identity)
    largest = talk.next + 2 * SPAN
    taken = [
        (largest - back, talk.hears_datagram(largest - back, front=front, port=port))
        for back in (0, 0, 1, 1, SPAN - 1, SPAN - 1, SPAN, SPAN + 1)
    ]
    assert [came for _, came in taken] == [True, False, True, False, True, False, False, False]


@pytest.mark.parametrize("bits", [0x08, 0x10, 0x18])
def test_reserved_bits_are_a_violation_of_whoever_has_the_keys_and_of_nobody_else(
    identity: Identity, bits: int
) -> None:
    talk = _Talk(identity)
    packet = talk.packet(talk.next, b"\x01\0\0", bits=bits)
    talk.hear(packet[:-1] + bytes([packet[-1] ^ 1]))
    assert talk.near.terminated() is None
    assert talk.hears_datagram(talk.next + 1)
    talk.hear(packet)
    quic = talk.near.quic
    while talk.near.terminated() is None and (at := quic.get_timer()) is not None:
        talk.pair.now = at
        quic.handle_timer(at)
        talk.pair.pump()
    ended = talk.near.terminated()
    assert ended is not None
    assert (ended.error_code, ended.frame_type) == (QuicErrorCode.PROTOCOL_VIOLATION, QuicFrameType.PADDING)


def test_a_packet_without_the_fixed_bit_is_none(identity: Identity) -> None:
    talk = _Talk(identity)
    assert not talk.hears_datagram(talk.next, bits=0x40)
    assert talk.hears_datagram(talk.next)
    assert talk.near.terminated() is None


def test_packets_cut_anywhere_are_dropped_and_change_nothing(identity: Identity) -> None:
    talk = _Talk(identity)
    packet = talk.packet(talk.next, b"\x31\x08" + b"a packet")
    for stop in range(len(packet)):
        talk.hear(packet[:stop])
    assert talk.near.datagrams() == []
    assert talk.near.terminated() is None
    talk.hear(packet)
    assert talk.near.datagrams() == [b"a packet"]


def test_the_shortest_packet_with_a_sample_is_read(identity: Identity) -> None:
    talk = _Talk(identity)
    packet = talk.packet(talk.next, b"\x30", size=3)
    assert len(packet) == PACKET_BYTES_MIN
    talk.hear(packet)
    assert talk.near.datagrams() == [b""]


@pytest.mark.parametrize("front", [b"", b"\x01"], ids=["in line", "with a ping"])
@pytest.mark.parametrize("from_server", [False, True])
def test_the_spin_bit_of_the_newest_packet_is_reflected_by_a_server_and_turned_by_a_client(
    identity: Identity, from_server: bool, front: bytes
) -> None:
    talk = _Talk(identity, from_server=from_server)
    number, near = talk.next, talk.near
    for step, (ahead, bit, newest) in enumerate([(10, 1, 1), (9, 0, 1), (11, 0, 0), (8, 1, 0), (12, 1, 1)]):
        assert talk.hears_datagram(number + ahead, bits=bit << 5, front=front)
        near.quic.send_stream_data(1 if near is talk.pair.server else 0, b"%d" % step)
        talk.pair.now += 1.0
        talk.pair.pump()
        assert talk.spin(near) == newest ^ from_server, step


@pytest.mark.parametrize("front", [b"", b"\x01"], ids=["in line", "with a ping"])
def test_each_packet_puts_the_idle_close_off(identity: Identity, front: bytes) -> None:
    talk = _Talk(identity)
    pair, quic = talk.pair, talk.near.quic
    idle_s = quic.configuration.idle_timeout
    for step in range(4):
        assert talk.hears_datagram(talk.next + step, front=front)
        pair.now += 0.9 * idle_s
        quic.handle_timer(pair.now)
        pair.pump()
        assert talk.near.terminated() is None
    pair.now += 0.2 * idle_s
    quic.handle_timer(pair.now)
    pair.pump()
    assert talk.near.terminated() is not None


@pytest.mark.parametrize("before", [0, 1])
def test_a_packet_with_a_stream_is_acknowledged_in_a_millisecond_of_the_first(
    identity: Identity, before: int
) -> None:
    talk = _Talk(identity)
    pair, quic = talk.pair, talk.near.quic
    for number in range(before):
        assert talk.hears_datagram(talk.next + number)
    sent = len(talk.near.packets)
    due = pair.now + STREAM_ACK_S
    for step in range(2):
        talk.hear(talk.packet(talk.next + before + step, b"\x0e\0" + bytes([step, 1]) + b"x"))
        assert quic.get_timer() == pytest.approx(due, abs=1e-9)
        pair.now += STREAM_ACK_S / 4
    assert len(talk.near.packets) == sent
    pair.now = due
    quic.handle_timer(pair.now)
    pair.pump()
    assert len(talk.near.packets) == sent + 1


@pytest.mark.parametrize(
    "front", [b"", b"\0", b"\x01", b"\x10\0"], ids=["in line", "padded", "with a ping", "with a limit"]
)
def test_what_comes_in_order_is_acknowledged_in_time_and_what_does_not_at_once(
    identity: Identity, front: bytes
) -> None:
    talk = _Talk(identity)
    sent = talk.near.packets
    before = len(sent)
    assert talk.hears_datagram(talk.next, front=front)
    assert talk.hears_datagram(talk.next + 1, front=front)
    assert len(sent) == before
    assert talk.hears_datagram(talk.next + 3, front=front)
    assert len(sent) == before + 1, "one is missing"
    assert talk.hears_datagram(talk.next + 2, front=front)
    assert len(sent) == before + 2, "it came late"


def test_a_packet_behind_one_of_the_handshake_is_read(identity: Identity) -> None:
    talk = _Talk(identity)
    ours = talk.packet(talk.next, b"\x31\x04ours")
    handshake = b"\xe0\0\0\0\x01\x08" + ours[1:9] + b"\0" + b"\x14" + bytes(20)
    talk.hear(handshake)
    assert talk.near.datagrams() == []
    talk.hear(handshake + ours)
    assert talk.near.datagrams() == [b"ours"]


def test_a_client_reads_nothing_that_comes_from_elsewhere(identity: Identity) -> None:
    """Servers do not move (RFC 9000 section 9)."""
    talk = _Talk(identity, from_server=True)
    assert not talk.hears_datagram(talk.next, port=9_999)
    assert talk.hears_datagram(talk.next)


@pytest.mark.parametrize(
    ("ahead", "front", "moves"),
    [(5, b"\x31\x01x", True), (5, b"\x1a" + b"whereami", False), (-1, b"\x31\x01x", False)],
    ids=["the newest", "one that only probes", "one that was overtaken"],
)
def test_a_server_follows_the_newest_packet_that_does_more_than_probe(
    identity: Identity, ahead: int, front: bytes, moves: bool
) -> None:
    talk = _Talk(identity)
    assert talk.hears_datagram(talk.next + 1)
    host, usual = talk.far.addr
    talk.hear(talk.packet(talk.next + 1 + ahead, front), 9_999)
    assert talk.near.quic.address == (host, 9_999 if moves else usual)
