"""Frame messages: what is encoded decodes to the same, and nothing malformed passes."""

from __future__ import annotations

import struct
from contextlib import suppress

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import MalformedMessage, TooLarge
from gateway.limits import RECORDS_PER_FRAME_MAX, STREAM_MESSAGE_BYTES_MAX
from gateway.wire import (
    HEADER_BYTES,
    Frame,
    Record,
    decode_frame,
    decode_message,
    encode_frame,
    fits_stride,
    split,
    with_epoch,
)

u16, u32, u64 = st.integers(0, 0xFFFF), st.integers(0, 0xFFFF_FFFF), st.integers(0, 2**64 - 1)
plain_records = st.lists(
    st.tuples(u32, st.none() | st.binary(max_size=40), u32).map(lambda row: Record(*row)), max_size=12
)


@st.composite
def frames(draw: st.DrawFn) -> Frame:
    stride = draw(st.sampled_from([0, 0, 4, 5, 32, 100]))
    records = draw(plain_records)
    if stride:
        records = [
            Record(
                r.key,
                struct.pack("<I", r.key) + (r.data or b"").ljust(stride - 4, b"!")[: stride - 4],
                r.tick,
            )
            for r in records
        ]
    tick = draw(u32)
    ticks = draw(st.booleans())
    if not ticks:
        records = [Record(r.key, r.data, tick) for r in records]
    parts = draw(u16)
    return Frame(
        draw(u32),
        tick,
        records,
        keyframe=draw(st.booleans()),
        repair=draw(st.booleans()),
        ticks=ticks,
        part=draw(st.integers(0, max(0, parts - 1))) if parts else draw(u16),
        parts=parts,
        stride=stride,
        sent_at=draw(u64),
        zstd=draw(st.booleans()),
    )


def fields(frame: Frame) -> tuple[object, ...]:
    names = ("epoch", "tick", "keyframe", "repair", "ticks", "part", "parts", "stride", "sent_at")
    return (*[getattr(frame, name) for name in names], frame.records)


@given(frames())
def test_what_is_encoded_decodes_to_the_same(frame: Frame) -> None:
    message = encode_frame(frame)
    assert fields(decode_frame(message)) == fields(frame)
    assert encode_frame(decode_frame(message)) == message


@given(frames(), st.integers(1, 400))
def test_a_frame_in_messages_holds_each_record_once_and_counts_its_parts(frame: Frame, room: int) -> None:
    messages = split(frame, HEADER_BYTES + room)
    parts = [decode_frame(message) for message in messages]
    assert [record for part in parts for record in part.records] == frame.records
    assert [(part.part, part.parts) for part in parts] == [(at, len(parts)) for at in range(len(parts))]
    for message, part in zip(messages, parts, strict=True):
        assert len(message) <= HEADER_BYTES + room or len(part.records) == 1


@given(frames(), st.binary(min_size=1, max_size=8))
def test_a_frame_cut_short_or_followed_by_garbage_is_malformed_or_another_frame(
    frame: Frame, tail: bytes
) -> None:
    message = encode_frame(frame)
    for broken in (*(message[:end] for end in range(len(message))), message + tail):
        try:
            other = decode_message(broken)
        except MalformedMessage:
            continue
        assert isinstance(other, Frame)
        assert len(broken) >= HEADER_BYTES
        assert encode_frame(other)


@given(st.binary(max_size=200))
def test_random_bytes_are_a_message_or_malformed(data: bytes) -> None:
    for message in (data, b"\x01" + data, b"\x10" + data, b"\x01\x00\x00\x00\x01\x00\x64\x00" + data):
        with suppress(MalformedMessage):
            assert decode_message(message) is not None


def header(flags: int = 0, part: int = 0, parts: int = 1, stride: int = 0) -> bytes:
    return struct.pack("<BBHHHIIQ", 1, flags, part, parts, stride, 1, 2, 3)


def test_the_header_is_laid_out_as_the_page_says() -> None:
    message = encode_frame(Frame(0x01020304, 5, [Record(7, b"ab")], part=1, parts=2, sent_at=9))
    assert (
        message.hex(" ", -4) == "01000100 02000000 04030201 05000000 09000000 00000000 07000000 02000000 6162"
    )


def test_a_removed_record_has_the_length_of_all_ones_and_no_bytes() -> None:
    assert encode_frame(Frame(1, 2, [Record(7, None)]))[24:] == b"\x07\0\0\0\xff\xff\xff\xff"


def test_a_record_with_its_own_tick_is_preceded_by_it() -> None:
    message = encode_frame(Frame(1, 9, [Record(7, b"x", 4)], stride=0))
    assert message[1] == 8
    assert message[24:] == b"\x04\0\0\0\x07\0\0\0\x01\0\0\0x"


@pytest.mark.parametrize(
    ("message", "says"),
    [
        (b"", "empty"),
        (b"\x01", "24 bytes; this message has 1"),
        (b"\x02", "type 2"),
        (header(flags=16), "0x10"),
        (header(part=2, parts=2), "part 2 of 2"),
        (header(stride=3), "stride 3"),
        (header(stride=8) + b"\x01\0\0\0abc", "7 bytes of records are not a multiple of 8"),
        (header(stride=8, flags=8) + b"\x01\0\0\0" * 2, "multiple of 12"),
        (header() + b"\x01\0\0\0\x02\0\0", "ends inside"),
        (header() + b"\x01\0\0\0\x05\0\0\0abcd", "record 1 says 5 bytes and 4 are left"),
        (header(flags=2) + b"not zstd", "zstd"),
        (header(flags=2) + zstandard.compress(b"\x01\0\0\0\0\0\0\0") + b"more", "zstd"),
    ],
)
def test_malformed_messages_are_refused_with_what_is_wrong(message: bytes, says: str) -> None:
    with pytest.raises(MalformedMessage, match=says):
        decode_message(message)


def test_a_zstd_bomb_is_refused_without_unpacking_it() -> None:
    claimed = zstandard.ZstdCompressor(level=19).compress(bytes(STREAM_MESSAGE_BYTES_MAX + 1))
    unclaimed = zstandard.ZstdCompressor(write_content_size=False).compress(
        bytes(STREAM_MESSAGE_BYTES_MAX * 3)
    )
    for bomb in (claimed, unclaimed):
        with pytest.raises(MalformedMessage, match="zstd"):
            decode_frame(header(flags=2, stride=4) + bomb)


def test_a_zstd_window_over_the_bound_is_refused() -> None:
    params = zstandard.ZstdCompressionParameters(window_log=27, write_content_size=False)
    packer = zstandard.ZstdCompressor(compression_params=params).compressobj()
    body = packer.compress(bytes(1000)) + packer.flush()
    with pytest.raises(MalformedMessage, match="zstd"):
        decode_frame(header(flags=2, stride=4) + body)


def test_too_many_records_are_refused() -> None:
    with pytest.raises(MalformedMessage, match="1000001 records"):
        decode_frame(header(stride=4) + bytes(4 * (RECORDS_PER_FRAME_MAX + 1)))


def test_compression_is_left_out_where_it_would_make_the_message_longer() -> None:
    frame = Frame(1, 1, [Record(1, b"\x93")], zstd=True)
    assert not decode_frame(encode_frame(frame)).zstd


def test_a_record_that_does_not_fit_the_stride_is_not_encoded_with_it() -> None:
    assert not fits_stride(1, b"\x02\0\0\0", 4)
    assert not fits_stride(1, None, 4)
    with pytest.raises(ValueError, match="stride 0"):
        encode_frame(Frame(1, 1, [Record(1, None)], stride=4))


def test_a_field_out_of_range_is_not_encoded() -> None:
    with pytest.raises(ValueError, match="u32"):
        encode_frame(Frame(-1, 1))


def test_more_parts_than_the_header_counts_are_refused() -> None:
    records = [Record(key, b"") for key in range(0x10000)]
    with pytest.raises(TooLarge, match="65536 messages"):
        split(Frame(1, 1, records), HEADER_BYTES + 1)


def test_the_epoch_of_a_message_can_be_filled_in() -> None:
    message = encode_frame(Frame(0, 5, [Record(1, b"a")]))
    assert with_epoch(message, 9) == encode_frame(Frame(9, 5, [Record(1, b"a")]))


def test_a_frame_shows_what_it_is() -> None:
    assert (
        repr(Frame(1, 2, [Record(3, b"")], keyframe=True))
        == "<Frame 1:2 part 0/1 stride 0 keyframe, 1 records>"
    )
