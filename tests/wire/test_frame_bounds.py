"""Frame messages at their bounds: the least and the most of each field, what just fits, and what is one over."""

from __future__ import annotations

import random
import struct
import sys
import threading

import pytest
import zstandard

from gateway.errors import MalformedMessage, ShuttingDown, TooLarge, WorldHeld
from gateway.limits import (
    INFLATED_BYTES_MIN,
    INFLATED_RATIO_MAX,
    INFLATED_RECORDS_MIN,
    INFLATED_RECORDS_RATIO_MAX,
    RECORDS_AT_ONCE_MAX,
    RECORDS_PER_FRAME_MAX,
    STREAM_COMPACT_BYTES,
    STREAM_MESSAGE_BYTES_MAX,
)
from gateway.wire import Frame, Record, decode_frame, decode_message, encode_frame, split
from gateway.wire.compress import compress, decompress, inflated_bytes_max, inflated_records_max
from gateway.wire.control import decode_control, encode_error
from gateway.wire.framecodec import ALONE, COLUMNS, FrameDecoder, FrameEncoder
from gateway.wire.frames import encode_repair
from gateway.wire.parity import Rebuilder, encode_parity
from gateway.wire.records import RecordColumns, check_stride, fits_stride, read_keys, read_records
from gateway.wire.streams import MessageStream, prefix

HEADER = 24


def value(key: int, size: int) -> bytes:
    return key.to_bytes(4, "little") + bytes(size - 4)


# --- the header -----------------------------------------------------------------------------


def test_an_empty_message_and_one_of_an_unknown_type_are_told_apart() -> None:
    with pytest.raises(MalformedMessage, match="an empty message"):
        decode_message(b"")
    for kind in (0, 2, 15, 17, 255):
        with pytest.raises(MalformedMessage, match=f"message type {kind} is unknown"):
            decode_message(bytes([kind]) * HEADER)


@pytest.mark.parametrize("stride", [1, 2, 3])
def test_a_stride_without_room_for_a_key_is_malformed(stride: int) -> None:
    message = bytearray(encode_frame(Frame(1, 1)))
    message[6] = stride
    with pytest.raises(MalformedMessage, match=f"stride {stride} is too short"):
        decode_frame(bytes(message))


@pytest.mark.parametrize(
    ("part", "parts", "is_sound"), [(0, 1, True), (1, 1, False), (1, 2, True), (2, 1, False), (7, 0, True)]
)
def test_a_part_is_counted_from_0_and_below_the_parts_where_those_are_known(
    part: int, parts: int, is_sound: bool
) -> None:
    message = encode_frame(Frame(1, 1, part=part, parts=parts))
    if is_sound:
        assert (decode_frame(message).part, decode_frame(message).parts) == (part, parts)
    else:
        with pytest.raises(MalformedMessage, match=f"part {part} of {parts}"):
            decode_frame(message)


def test_a_control_message_is_no_frame() -> None:
    with pytest.raises(MalformedMessage, match="message type 16 is not a frame"):
        decode_frame(b"\x10" + bytes(23))


def test_a_header_alone_is_a_frame_and_one_byte_less_is_not() -> None:
    message = encode_frame(Frame(1, 1))
    assert len(message) == HEADER
    assert decode_frame(message).records == []
    with pytest.raises(MalformedMessage, match="has 23 in all"):
        decode_frame(message[:-1])


def test_a_repair_of_encoded_records_is_the_frame_that_it_says() -> None:
    records = [(5).to_bytes(4, "little"), value(1, 8), (6).to_bytes(4, "little"), value(2, 8)]
    rows = [Record(1, value(1, 8), 5), Record(2, value(2, 8), 6)]
    frame = Frame(2, 7, rows, repair=True, ticks=True, part=0, parts=0, stride=8, sent_at=9)
    assert encode_repair(2, 7, 9, 8, records) == encode_frame(frame)


# --- compression ----------------------------------------------------------------------------


def test_nothing_is_compressed_that_was_not_asked_to_be() -> None:
    frame = Frame(1, 1, [Record(1, bytes(1_000))])
    assert not decode_frame(encode_frame(frame)).zstd
    frame.zstd = True
    assert decode_frame(encode_frame(frame)).zstd


def test_records_that_compress_to_just_their_length_go_as_they_are() -> None:
    dice = random.Random(1)
    noise = dice.randbytes(400)
    found = 0
    for same in range(4, 60):
        records = encode_frame(Frame(1, 1, [Record(1, noise + bytes(same))]))[HEADER:]
        if len(compress(records)) == len(records):
            found += 1
            message = encode_frame(Frame(1, 1, [Record(1, noise + bytes(same))], zstd=True))
            assert not decode_frame(message).zstd
    assert found


def test_what_unpacks_to_just_the_bound_passes_and_one_byte_more_is_refused() -> None:
    for claimed in (True, False):
        packer = zstandard.ZstdCompressor(write_content_size=claimed)
        assert decompress(packer.compress(bytes(100)), 100) == bytes(100)
        with pytest.raises(MalformedMessage):
            decompress(packer.compress(bytes(101)), 100)


def test_what_a_message_may_unpack_to_rises_with_its_bytes_up_to_the_bound() -> None:
    for size in (0, 1, 100):
        assert inflated_bytes_max(size) == INFLATED_BYTES_MIN + INFLATED_RATIO_MAX * size
        assert inflated_records_max(size) == INFLATED_RECORDS_MIN + INFLATED_RECORDS_RATIO_MAX * size
    assert inflated_bytes_max(1 << 40) == STREAM_MESSAGE_BYTES_MAX
    assert inflated_records_max(1 << 40) == RECORDS_PER_FRAME_MAX


def test_every_thread_packs_and_unpacks_with_contexts_of_its_own() -> None:
    found: list[bytes] = []
    thread = threading.Thread(target=lambda: found.append(decompress(compress(b"abc" * 100))))
    thread.start()
    thread.join()
    assert found == [b"abc" * 100]


# --- records --------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 1, RECORDS_AT_ONCE_MAX, RECORDS_AT_ONCE_MAX + 1])
@pytest.mark.parametrize("stride", [4, 5, 20])
@pytest.mark.parametrize("ticks", [False, True])
def test_records_of_a_stride_are_read_the_same_however_many_they_are(
    count: int, stride: int, ticks: bool
) -> None:
    rows = [Record(3 * n, value(3 * n, stride), n if ticks else 9) for n in range(count)]
    message = encode_frame(Frame(1, 9, rows, ticks=ticks, stride=stride))
    frame = decode_frame(message)
    assert frame.records == rows
    assert decode_frame(message).keys == tuple(row.key for row in rows)
    if not ticks:
        assert read_keys(message, HEADER, stride) == tuple(row.key for row in rows)


@pytest.mark.parametrize("ticks", [False, True])
def test_of_just_so_many_records_is_read_and_one_more_is_refused(ticks: bool) -> None:
    one = bytes(12 if ticks else 8)
    assert read_records(one * 5, ticks, 5).keys == (0,) * 5
    assert read_records(b"head" + one * 5, ticks, 5, 4).keys == (0,) * 5
    with pytest.raises(MalformedMessage, match="6 records"):
        read_records(one * 6, ticks, 5)
    check_stride(8 * 5, 8, 5)
    for size, says in ((8 * 6, "6 records"), (8 * 5 + 1, "not a multiple of 8")):
        with pytest.raises(MalformedMessage, match=says):
            check_stride(size, 8, 5)


@pytest.mark.parametrize("ticks", [False, True])
def test_a_record_that_ends_with_the_message_is_whole_and_one_byte_less_is_torn(ticks: bool) -> None:
    message = encode_frame(Frame(1, 5, [Record(1, b"abc"), Record(2, b"de")], ticks=ticks))
    assert [row.data for row in decode_frame(message).records] == [b"abc", b"de"]
    heads = 12 if ticks else 8
    with pytest.raises(MalformedMessage, match="record 2 says 2 bytes and 1 are left"):
        decode_frame(message[:-1])
    with pytest.raises(
        MalformedMessage, match=f"the record at byte {heads + 3} ends inside its {heads}-byte head"
    ):
        decode_frame(message[:-3])


def test_a_frame_given_by_columns_has_its_ticks_where_they_are_given() -> None:
    for own, row_ticks in ((None, [7, 7]), ([3, 4], [3, 4])):
        frame = Frame.of_columns(1, 7, RecordColumns((1, 2), [b"a", None], own), sent_at=9)
        assert frame.ticks is (own is not None)
        read = decode_frame(encode_frame(frame))
        assert [row.tick for row in read.records] == row_ticks
        assert (read.epoch, read.tick, read.sent_at, read.stride) == (1, 7, 9, 0)


def test_whether_a_record_fits_a_stride_is_its_length_and_its_key() -> None:
    assert fits_stride(7, value(7, 8), 8)
    for data, stride in ((None, 8), (value(7, 8), 9), (value(8, 8), 8), (value(7, 12), 8)):
        assert not fits_stride(7, data, stride)


@pytest.mark.parametrize("data", [None, value(7, 9), value(7, 7), value(8, 8)])
def test_a_record_that_does_not_fit_its_messages_stride_is_refused_by_its_key(data: bytes | None) -> None:
    with pytest.raises(ValueError, match="record 7 is not 8 bytes"):
        encode_frame(Frame(1, 1, [Record(7, data)], stride=8))


# --- split ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("room", "lengths"), [(32, [56, 40]), (31, [40, 40, 40]), (16, [40] * 3), (15, [40] * 3)]
)
def test_messages_are_as_full_as_they_may_be_and_a_record_that_is_too_long_goes_alone(
    room: int, lengths: list[int]
) -> None:
    frame = Frame(1, 1, [Record(n, value(n, 16)) for n in range(3)], stride=16)
    messages = split(frame, HEADER + room)
    assert [len(message) for message in messages] == lengths
    told = [(decode_frame(one).part, decode_frame(one).parts) for one in messages]
    assert told == [(n, len(lengths)) for n in range(len(lengths))]


def test_each_message_and_not_only_the_first_is_as_full_as_it_may_be() -> None:
    frame = Frame(1, 1, [Record(n, value(n, 16)) for n in range(7)], stride=16)
    assert [len(message) for message in split(frame, HEADER + 32)] == [56, 56, 56, 40]


def test_as_many_parts_as_the_header_counts_are_made_and_one_more_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys.modules["gateway.wire.split"], "U16_MAX", 3)
    rows = [Record(n, None) for n in range(4)]
    assert len(split(Frame(1, 1, rows[1:]), HEADER + 8)) == 3
    with pytest.raises(TooLarge, match="takes 4 messages of 32 bytes"):
        split(Frame(1, 1, rows), HEADER + 8)


# --- control messages -----------------------------------------------------------------------


def test_what_is_no_control_message_is_malformed_by_name() -> None:
    for message in (b"", b"\x01{}", b'{"type":"ping"}'):
        with pytest.raises(MalformedMessage, match="starts with the byte 16"):
            decode_control(message)


def test_an_error_of_a_world_held_elsewhere_says_where_and_others_say_nothing_of_it() -> None:
    held = decode_control(encode_error(WorldHeld("it is there", world="arena", url="https://there", age=3)))
    assert (held.get("world"), held.get("url"), held.get("age")) == ("arena", "https://there", None)
    assert decode_control(encode_error(WorldHeld("it is somewhere", world="arena"))).get("url") is None
    other = decode_control(encode_error(ShuttingDown("going", world="arena", url="x")))
    assert (other.type, other.get("message"), other.get("world")) == ("error", "going", None)


# --- parity and streams ---------------------------------------------------------------------


@pytest.mark.parametrize("stride", [8, 300])
@pytest.mark.parametrize("lost", [0, 1])
def test_a_part_without_records_and_its_sibling_are_made_again_from_each_other_once(
    stride: int, lost: int
) -> None:
    parts = [
        encode_frame(Frame(1, 5, rows, stride=stride, part=part, parts=2, sent_at=9))
        for part, rows in enumerate(([], [Record(1, value(1, stride))]))
    ]
    parity = encode_parity(parts)
    assert parity is not None
    rebuilder = Rebuilder()
    assert rebuilder.receive(parts[1 - lost]) is None
    assert rebuilder.receive(parity) == parts[lost]
    assert rebuilder.receive(parity) is None, "nothing is missing any more"


def test_a_stream_that_lets_go_of_what_was_read_reads_on_where_it_was() -> None:
    one, stream, found = bytes([7]) * (STREAM_COMPACT_BYTES // 3), MessageStream(), []
    data = prefix(one) * 7
    for at in range(0, len(data), STREAM_COMPACT_BYTES):
        stream.feed(data[at : at + STREAM_COMPACT_BYTES])
        found += list(stream)
    stream.feed(prefix(one) * 4 + prefix(b"last")[:-1])
    found += list(stream)
    assert stream.buffered_bytes == 7
    stream.feed(b"t")
    assert [*found, *stream] == [one] * 11 + [b"last"]
    stream.finish()


# --- rows by columns ------------------------------------------------------------------------


@pytest.mark.parametrize(("stride", "count"), [(4, 100), (0xFFFF, 2)])
def test_records_of_the_shortest_and_of_the_longest_stride_are_packed_by_columns(
    stride: int, count: int
) -> None:
    encoder, decoder = FrameEncoder(), FrameDecoder()
    rows = [
        [encode_frame(Frame(1, tick, [Record(n, value(n, stride)) for n in range(count)], stride=stride))]
        for tick in range(3)
    ]
    packed = [encoder.encode(row) for row in rows]
    assert [codec for codec, _ in packed] == [ALONE, COLUMNS, COLUMNS]
    assert [decoder.decode(*row) for row in packed] == rows


def columns(heads: bytes, stride: int, rest: bytes) -> bytes:
    u32 = struct.Struct("<I").pack
    return zstandard.compress(u32(len(heads)) + heads + u32(stride) + rest)


HEADS = struct.pack("<I", HEADER + 8) + encode_frame(Frame(1, 2, stride=8))


@pytest.mark.parametrize(
    ("heads", "stride", "rest"),
    [
        (HEADS, 8, bytes(13)),
        (HEADS, 3, bytes(7)),
        (HEADS, 0x10000, bytes(0x10004)),
        (HEADS[:-1], 8, bytes(12)),
        (HEADS, 5, bytes(9)),
    ],
    ids=["a torn record", "no room for a key", "too long a stride", "half a head", "half a lane"],
)
def test_columns_that_are_not_whole_records_are_refused(heads: bytes, stride: int, rest: bytes) -> None:
    first = FrameEncoder().encode([encode_frame(Frame(1, 1, [Record(0, value(0, 8))], stride=8))])
    decoder = FrameDecoder()
    decoder.decode(*first)
    assert len(decoder.decode(COLUMNS, columns(HEADS, 8, bytes(12)))) == 1
    with pytest.raises(MalformedMessage, match="are not whole records"):
        decoder.decode(COLUMNS, columns(heads, stride, rest))


def test_rows_lean_on_so_many_keys_and_on_one_more_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.wire.framecodec.FRAME_CHAIN_KEYS_MAX", 1)
    for keys, is_sound in ((2, True), (3, False)):
        encoder, decoder = FrameEncoder(), FrameDecoder()
        rows = [Record(n, value(n, 100)) for n in range(keys)]
        packed = [encoder.encode([encode_frame(Frame(1, tick, rows, stride=100))]) for tick in (1, 2)]
        decoder.decode(*packed[0])
        if is_sound:
            decoder.decode(*packed[1])
        else:
            with pytest.raises(MalformedMessage, match="more than 2 keys"):
                decoder.decode(*packed[1])
