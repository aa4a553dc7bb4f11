"""Packets and the frames that nearly all of them carry, byte by byte: at each length that an integer may have, whole and cut short."""

from __future__ import annotations

import pytest
from aioquic.buffer import Buffer, encode_uint_var
from aioquic.quic.packet import pull_ack_frame
from aioquic.quic.rangeset import RangeSet

from gateway.quic.connection.packets import (
    datagram_head,
    encode_ack,
    full_number,
    last_datagram,
    leading_ack,
    parse,
    parse_ack,
    sealed,
    short_part,
    varint,
)

EDGES = [0, 1, 63, 64, 16_383, 16_384, (1 << 30) - 1, 1 << 30, (1 << 62) - 1]
"""Where an integer takes another length (RFC 9000 section 16)."""


def _in(size: int, value: int) -> bytes:
    """An integer in more bytes than it needs."""
    return (value | {1: 0, 2: 1, 4: 2, 8: 3}[size] << (8 * size - 2)).to_bytes(size, "big")


# -- integers -------------------------------------------------------------------------------


@pytest.mark.parametrize("value", EDGES)
def test_an_integer_is_read_where_it_stands_and_refused_where_it_is_cut(value: int) -> None:
    said = encode_uint_var(value)
    assert varint(b"\xff" + said + b"\xff", 1) == (value, 1 + len(said))
    assert varint(said, 0) == (value, len(said))
    for cut in range(len(said)):
        with pytest.raises(IndexError):
            varint(said[:cut], 0)


@pytest.mark.parametrize("size", [1, 2, 4, 8])
def test_an_integer_may_take_more_bytes_than_it_needs(size: int) -> None:
    assert varint(_in(size, 37) + b"\xff", 0) == (37, size)


@pytest.mark.parametrize("length", [0, 63, 64, 1_599, 1_600, 16_383, 16_384, 70_000])
def test_a_datagram_frame_says_its_length(length: int) -> None:
    assert datagram_head(length) == b"\x31" + encode_uint_var(length)


# -- packet numbers -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("truncated", "bits", "expected", "number"),
    [
        (0x9B32, 16, 0xA82F30EB, 0xA82F9B32),  # the example of RFC 9000 appendix A.3
        (0x00, 8, 0, 0),
        (0xFF, 8, 0, 0xFF),
        (0x80, 8, 0x100, 0x180),
        (0x81, 8, 0x100, 0x81),
        (0x7F, 8, 0x17F, 0x17F),
        (0x7F, 8, 0x1FF, 0x27F),
        (0x7F, 8, 0x1FE, 0x17F),
        (0x80, 8, 0x1FF, 0x180),
        (0xFE, 8, 0x100, 0xFE),
        (0xFF, 8, 0x17F, 0x1FF),
        (0xFF, 8, 0x17E, 0xFF),
        (0xFF, 8, 0x7E, 0xFF),
        (0x00, 8, (1 << 62) - 1, (1 << 62) - 256),
        (0x00, 8, (1 << 62) - 257, (1 << 62) - 256),
        (0x00, 8, (1 << 62) - 129, (1 << 62) - 256),
        (0x00, 8, (1 << 62) - 385, (1 << 62) - 512),
        (0x00, 8, (1 << 62) - 384, (1 << 62) - 256),
    ],
)
def test_a_number_is_the_one_nearest_to_the_next(
    truncated: int, bits: int, expected: int, number: int
) -> None:
    assert full_number(truncated, bits, expected) == number


# -- acknowledgements -----------------------------------------------------------------------

ACKS = [
    [(0, 1)],
    [(5, 6)],
    [(0, 64)],
    [(1, 65), (66, 200)],
    [(0, 2), (3, 4), (10, 16_400), (16_500, 16_501)],
    [((1 << 30) - 5, 1 << 30), ((1 << 40), (1 << 40) + 70)],
]


@pytest.mark.parametrize("ranges", ACKS)
@pytest.mark.parametrize("delay", [0, 63, 64, 20_000, 1 << 31])
def test_an_ack_is_written_and_read_as_by_aioquic(ranges: list[tuple[int, int]], delay: int) -> None:
    said = encode_ack([range(*one) for one in ranges], delay)
    theirs, their_delay = pull_ack_frame(Buffer(data=said[1:]))
    assert theirs == RangeSet([range(*one) for one in ranges])
    assert their_delay == delay
    assert parse_ack(b"??" + said[1:] + b"\x01", 2) == (ranges, delay, len(said) + 1)
    assert parse(said) == ([(ranges, delay)], [], False)
    for cut in range(1, len(said)):
        with pytest.raises(IndexError):
            parse_ack(said[:cut], 1)
        assert parse(said[:cut]) is None


@pytest.mark.parametrize(
    "numbers", [(5, 0, 0, 6), (5, 0, 1, 5, 0, 0), (5, 0, 1, 1, 1, 2), (9, 0, 2, 1, 1, 1, 1, 4)]
)
def test_an_ack_of_what_is_below_none_is_refused(numbers: tuple[int, ...]) -> None:
    said = bytes(numbers)
    with pytest.raises(ValueError, match="negative"):
        parse_ack(said, 0)
    assert parse(b"\x02" + said) is None


@pytest.mark.parametrize("numbers", [(5, 0, 0, 5), (5, 0, 1, 1, 1, 1), (9, 0, 2, 1, 1, 1, 1, 1)])
def test_an_ack_down_to_the_first_packet_is_read(numbers: tuple[int, ...]) -> None:
    ranges, _, at = parse_ack(bytes(numbers), 0)
    assert (ranges[0][0], at) == (0, len(numbers))


LARGEST = [63, 64, 16_383, 16_384, (1 << 30) - 1]


@pytest.mark.parametrize("largest", LARGEST)
@pytest.mark.parametrize("delay", [0, 63, 64, 16_383, 16_384, (1 << 30) - 1])
@pytest.mark.parametrize("first", [0, 1, 63, 64, 16_383])
def test_the_ack_that_a_packet_begins_with_is_read_in_line(largest: int, delay: int, first: int) -> None:
    said = b"\x02" + b"".join(map(encode_uint_var, (largest, delay, 0, first)))
    wanted = (largest - first, largest + 1, delay, len(said)) if first <= largest else None
    assert leading_ack(said) == wanted
    assert leading_ack(said + b"\x31\x00") == wanted
    for cut in range(len(said)):
        assert leading_ack(said[:cut]) is None


@pytest.mark.parametrize(
    "numbers",
    [
        encode_uint_var(1 << 30) + b"\x00\x00\x00",
        b"\x05" + encode_uint_var(1 << 30) + b"\x00\x00",
        b"\x50\x00\x00\x00" + encode_uint_var(16_384),
        b"\x05\x00\x01\x00\x00\x00",
        b"\x05\x00\x40\x00\x00",
        b"\x05\x00\x00\x06",
    ],
)
def test_whatever_is_not_the_usual_ack_is_left_to_whoever_reads_all_frames(numbers: bytes) -> None:
    assert leading_ack(b"\x02" + numbers) is None


def test_only_an_ack_without_counts_is_read_in_line_and_only_in_front() -> None:
    assert leading_ack(b"\x02\x05\x00\x00\x00") == (5, 6, 0, 5)
    assert leading_ack(b"\x02\x05\x00\x00\x05") == (0, 6, 0, 5)
    assert leading_ack(b"\x03\x05\x00\x00\x00\x00\x00\x00") is None
    assert leading_ack(b"\x01\x02\x05\x00\x00\x00") is None
    assert leading_ack(b"") is None


# -- datagrams ------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 63, 64, 1_200])
def test_a_datagram_that_ends_a_packet_is_taken_from_where_it_begins(size: int) -> None:
    data = bytes(n % 251 for n in range(size))
    frame = b"\x31" + _in(2, size) + data
    assert last_datagram(frame) == data
    assert last_datagram(b"\x02\x05\x00\x00\x00" + frame, 5) == data
    for other in (frame + b"\x00", frame[:-1], frame[1:], b"\x30" + frame[1:]):
        assert last_datagram(other) is None
    if size < 64:
        assert last_datagram(b"\x31" + bytes([size]) + data) is None


def test_frames_of_four_kinds_are_read_in_any_order() -> None:
    ack = encode_ack([range(2, 6)], 9)
    one, last = b"\x31\x03abc", b"\x30rest\x00\x01"
    assert parse(one) == ([], [b"abc"], True)
    assert parse(b"\x31\x00") == ([], [b""], True)
    assert parse(last) == ([], [b"rest\x00\x01"], True)
    assert parse(b"\x01") == ([], [], True)
    assert parse(b"\x00") == parse(bytes(40)) == ([], [], False)
    assert parse(ack + bytes(3) + ack) == ([([(2, 6)], 9)] * 2, [], False)
    assert parse(bytes(2) + one + b"\x01" + ack + bytes(2) + one + last) == (
        [([(2, 6)], 9)],
        [b"abc", b"abc", b"rest\x00\x01"],
        True,
    )


@pytest.mark.parametrize(
    "plain", [b"", b"\x31", b"\x31\x04abc", b"\x31\x40", b"\x06\x00\x00", b"\x01\x1c", b"\x40\x01", b"\x02"]
)
def test_what_is_cut_short_or_of_another_kind_is_left_to_whoever_reads_all_frames(plain: bytes) -> None:
    assert parse(plain) is None


# -- sealing --------------------------------------------------------------------------------


@pytest.mark.parametrize("first_number", [0, 0xFE, 0xFFFE, 0xFFFF, 0x1_FFFE, (1 << 40) - 2])
@pytest.mark.parametrize("count", [1, 2, 5])
def test_packets_sealed_together_are_those_sealed_one_by_one(first_number: int, count: int) -> None:
    """With a cipher that can be read: what was to be encrypted, its nonce and what goes with it."""
    iv, cid = 0x0102030405060708090A0B0C, b"12345678"

    def encrypt(nonce: bytes, content: bytes, head: bytes) -> bytes:
        return b"".join((content, nonce, head, bytes(16)))

    def masks_of(samples: bytes) -> bytes:
        assert len(samples) % 16 == 0
        return b"".join(bytes(b ^ 0xA5 for b in samples[at : at + 16]) for at in range(0, len(samples), 16))

    contents = [bytes([n + 1]) * (2 + n) for n in range(count)]
    wanted = b""
    for offset, content in enumerate(contents):
        number = first_number + offset
        low = (number % 0x1_0000).to_bytes(2, "big")
        one = content + (iv ^ number).to_bytes(12, "big") + b"\x41" + cid + low + bytes(16)
        mask = [b ^ 0xA5 for b in one[2:18]]
        wanted += bytes([0x41 ^ mask[0] & 0x1F]) + cid + bytes([low[0] ^ mask[1], low[1] ^ mask[2]]) + one
    assert sealed(contents, first_number, 0x41, cid, (encrypt, iv, masks_of)) == wanted


# -- packets that come together -------------------------------------------------------------


def _long(kind: int, size: int, *, token: bytes = b"") -> bytes:
    """A packet with a long header (RFC 9000 section 17.2), of which nobody reads the content."""
    head = bytes([0xC0 | kind << 4]) + b"\x00\x00\x00\x01" + b"\x08" + bytes(8) + b"\x08" + bytes(8)
    length = b"\x00" * (kind == 0) if not token else bytes([len(token)]) + token
    return head + length + _in(2, size) + bytes(size)


SHORT = b"\x41" + bytes(30)


@pytest.mark.parametrize(
    "before",
    [
        _long(0, 30),
        _long(0, 50, token=b"token"),
        _long(2, 30),
        _long(2, 30) + _long(2, 70),
        _long(0, 30) + _long(2, 30) + _long(1, 40),
    ],
)
def test_the_packet_behind_those_of_a_handshake_is_found(before: bytes) -> None:
    assert short_part(before + SHORT) == len(before)
    assert short_part(before) == len(before)
    assert short_part(before + b"\x01" + SHORT) == len(before) + 1 + len(SHORT)
    assert short_part(before[:-1]) == len(before) - 1


def test_behind_what_is_no_packet_with_a_length_there_is_none() -> None:
    negotiation = b"\xc0" + bytes(4) + b"\x08" + bytes(8) + b"\x08" + bytes(8) + b"\x00\x00\x00\x01"
    retry = _long(3, 0)[:-2] + bytes(40)
    for data in (negotiation, retry, b"\xc0", b"\xc0\x00\x00\x00\x01\x30" + bytes(60)):
        assert short_part(data) == len(data)
        assert short_part(data + SHORT) == len(data + SHORT)
    assert short_part(SHORT) == 0
    assert short_part(b"") == 0
    assert short_part(b"\x01" + SHORT) == 1 + len(SHORT)
