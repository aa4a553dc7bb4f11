"""Packing recorded frames against the ones before them."""

from __future__ import annotations

import math
import random
import struct

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import MalformedMessage
from gateway.limits import FRAME_BODY_BYTES_MAX
from gateway.wire import Frame, Record, encode_frame, framecodec, split
from gateway.wire.framechain import join, messages_of
from gateway.wire.framecodec import (
    ALONE,
    COLUMNS,
    PLAIN,
    PREFIXED,
    QUICK,
    FrameDecoder,
    FrameEncoder,
    pack_quick,
)

STRIDE = 100


def packet(key: int, seconds: float) -> bytes:
    """One bone of an avatar: key, position in mm relative to the world, a 16-bit quaternion."""
    dice = random.Random(key)
    avatar = key // 56
    phase = [dice.random() * 6.28 for _ in range(6)]
    speed = [0.6 + 3 * dice.random() for _ in range(6)]
    swing = [0.3 * dice.random() * math.sin(s * seconds + p) for s, p in zip(speed, phase, strict=True)]
    x, z = 10 * math.sin(0.1 * seconds + avatar), 10 * math.cos(0.13 * seconds + avatar)
    w = math.sqrt(1 - sum(s * s for s in swing[3:]))
    place = [round(1000 * v) for v in (x + swing[0], 1 + swing[1], z + swing[2])]
    turn = [round(32767 * v) for v in (*swing[3:], w)]
    return struct.pack("<I3i4h", key, *place, *turn).ljust(STRIDE, b"\0")


def avatars(tick: int, *, count: int = 8, datagrams: bool = True) -> list[bytes]:
    records = [Record(key, packet(key, tick / 20)) for key in range(56 * count)]
    frame = Frame(1, tick, records, stride=STRIDE, sent_at=1_700_000_000_000_000 + tick * 50_000)
    return split(frame, 1100 if datagrams else 1 << 20)


def keyframe(tick: int) -> list[bytes]:
    records = [Record(key, packet(key, tick / 20), tick) for key in range(448)]
    return [encode_frame(Frame(1, tick, records, keyframe=True, ticks=True, stride=STRIDE))]


def test_frames_of_eight_avatars_take_less_than_3400_bytes_each() -> None:
    encoder = FrameEncoder(level=3)
    sizes = []
    for tick in range(60):
        if tick % 20 == 0:
            sizes.append(len(encoder.encode(keyframe(tick), fresh=True)[1]))
        sizes.append(len(encoder.encode(avatars(tick))[1]))
    assert sum(sizes) / 60 < 3400


@pytest.mark.parametrize("level", [0, 1, 3, 9])
@pytest.mark.parametrize("datagrams", [True, False])
def test_what_was_packed_comes_back_byte_for_byte(level: int, datagrams: bool) -> None:
    encoder, decoder = FrameEncoder(level), FrameDecoder()
    rows = []
    for tick in range(12):
        if tick % 5 == 0:
            rows.append((keyframe(tick), True))
        rows.append((avatars(tick, count=1 + tick % 3, datagrams=datagrams), False))
    packed = [encoder.encode(messages, fresh=fresh) for messages, fresh in rows]
    assert [decoder.decode(*row) for row in packed] == [messages for messages, _ in rows]
    assert {codec for codec, _ in packed} == ({PLAIN} if level == 0 else {ALONE, COLUMNS})


def test_decoding_may_start_at_every_keyframe() -> None:
    encoder = FrameEncoder()
    rows = []
    for tick in range(30):
        if tick % 10 == 0:
            rows.append((tick, encoder.encode(keyframe(tick), fresh=True)))
        rows.append((tick, encoder.encode(avatars(tick))))
    for start in (0, 11, 22):
        decoder = FrameDecoder()
        assert [decoder.decode(*row) for _, row in rows[start + 1 :][:0]] == []
        decoder.decode(*rows[start][1])
        for tick, row in rows[start + 1 : start + 11]:
            assert decoder.decode(*row) == avatars(tick)


def test_records_of_their_own_length_pack_against_the_row_before() -> None:
    encoder, decoder = FrameEncoder(), FrameDecoder()
    blob = random.Random(1).randbytes(3000)
    rows = [[encode_frame(Frame(1, tick, [Record(7, blob + bytes([tick]))]))] for tick in range(5)]
    packed = [encoder.encode(row) for row in rows]
    assert [codec for codec, _ in packed[1:]] == [PREFIXED] * 4
    assert all(len(body) < 100 for _, body in packed[1:])
    assert [decoder.decode(*row) for row in packed] == rows


def test_after_a_restart_the_next_row_stands_alone() -> None:
    encoder, decoder = FrameEncoder(), FrameDecoder()
    before = [encoder.encode(avatars(tick)) for tick in range(3)]
    encoder.restart()
    after = [encoder.encode(avatars(tick)) for tick in range(3, 6)]
    assert [codec for codec, _ in after] == [ALONE, COLUMNS, COLUMNS]
    for tick, row in enumerate(before + after):
        assert decoder.decode(*row) == avatars(tick)


@pytest.mark.parametrize("codec", [ALONE, PREFIXED, COLUMNS, 9])
def test_a_damaged_row_is_an_error_and_the_next_that_stands_alone_decodes(codec: int) -> None:
    decoder = FrameDecoder()
    with pytest.raises(MalformedMessage, match="does not unpack"):
        decoder.decode(codec, b"\x28\xb5\x2f\xfd nothing of the kind")
    encoder = FrameEncoder()
    assert decoder.decode(*encoder.encode(avatars(1))) == avatars(1)


record_lists = st.lists(
    st.tuples(st.integers(0, 6), st.binary(min_size=4, max_size=4)), max_size=8, unique_by=lambda r: r[0]
)
frames = st.builds(
    lambda rows, stride, tick, ticks: Frame(
        1,
        tick,
        [
            Record(key, struct.pack("<I", key) + (data * 3)[: stride - 4] if stride else data, tick)
            for key, data in rows
        ],
        stride=stride,
        ticks=ticks,
    ),
    record_lists,
    st.sampled_from([0, 4, 5, 8, 11]),
    st.integers(0, 9),
    st.booleans(),
)


@given(st.lists(st.tuples(st.lists(frames, max_size=3), st.booleans()), max_size=12))
def test_any_sequence_of_rows_comes_back(rows: list[tuple[list[Frame], bool]]) -> None:
    encoder, decoder = FrameEncoder(1), FrameDecoder()
    for parts, fresh in rows:
        messages = [encode_frame(part) for part in parts]
        assert decoder.decode(*encoder.encode(messages, fresh=fresh)) == messages


@given(st.integers(0, 4), st.binary(max_size=200), st.booleans())
def test_no_bytes_make_the_decoder_raise_anything_else(codec: int, data: bytes, primed: bool) -> None:
    decoder = FrameDecoder()
    if primed:
        decoder.decode(*FrameEncoder().encode(avatars(1, count=1)))
    try:
        decoder.decode(codec, data)
    except MalformedMessage:
        pass


@given(st.lists(st.binary(max_size=50)))
def test_messages_join_and_part_again(messages: list[bytes]) -> None:
    assert messages_of(join(messages)) == messages


@pytest.mark.parametrize("count", [1, 3, 100])
def test_quick_rows_are_packed_together_and_unpack_alone(count: int) -> None:
    encoder = FrameEncoder()
    encoder.quick_bytes_max = 1 << 20
    rows = [avatars(tick) for tick in range(1, count + 1)]
    left = [encoder.encode(row) for row in rows]
    assert {codec for codec, _ in left} == {QUICK}
    packed = pack_quick([body for _, body in left])
    for row, (codec, body) in zip(rows, packed, strict=True):
        assert codec == ALONE
        assert FrameDecoder().decode(codec, body) == row


def test_after_a_quick_row_the_next_larger_one_stands_alone_and_is_leant_on_again() -> None:
    encoder, decoder = FrameEncoder(), FrameDecoder()
    rows = [avatars(1), avatars(2), [b"\1" * 40], avatars(3), avatars(4)]
    encoder.quick_bytes_max = 100
    codecs = []
    for row in rows:
        codec, body = encoder.encode(row)
        if codec == QUICK:
            ((codec, body),) = pack_quick([body])
        codecs.append(codec)
        assert decoder.decode(codec, body) == row
    assert codecs == [ALONE, COLUMNS, ALONE, ALONE, COLUMNS]


def claiming(size: int) -> bytes:
    """A zstd frame of nothing whose header claims so many bytes (RFC 8878, 3.1.1.1: single segment, 8 bytes of size)."""
    return b"\x28\xb5\x2f\xfd\xe0" + struct.pack("<Q", size) + b"\x01\0\0"


@pytest.mark.parametrize("codec", [ALONE, PREFIXED, COLUMNS])
@pytest.mark.parametrize("size", [FRAME_BODY_BYTES_MAX + 1, 1 << 40])
def test_a_row_that_claims_more_than_the_bound_is_refused_by_its_claim(codec: int, size: int) -> None:
    decoder = FrameDecoder()
    decoder.decode(*FrameEncoder().encode(avatars(1, count=1)))
    with pytest.raises(
        MalformedMessage, match=f"claims {size} bytes and the bound is {FRAME_BODY_BYTES_MAX}"
    ):
        decoder.decode(codec, claiming(size))


def test_a_row_that_does_not_say_its_size_is_refused() -> None:
    packed = zstandard.ZstdCompressor(write_content_size=False).compress(b"".join(avatars(1)))
    with pytest.raises(MalformedMessage, match="claims"):
        FrameDecoder().decode(ALONE, packed)


def test_a_row_of_exactly_the_bound_unpacks() -> None:
    message = bytes([1]) + bytes(FRAME_BODY_BYTES_MAX - 5)
    packed = zstandard.ZstdCompressor(level=1).compress(join([message]))
    assert FrameDecoder().decode(ALONE, packed) == [message]


RECORDED = [
    (
        1,
        "28b52ffd207ce50100e8780000000118010000006402000000c802030000002c030400000090040d00e0c4ce53d002bceb94509003cca579694f19640a9ae3586977c16901",
    ),
    (
        3,
        "28b52ffd2094ed010054021c0000007800000001180000e803001801000e0e0e0e000000000606060600000000010101090000042a45478e5b307027899979714d571c5b7072",
    ),
    (
        3,
        "28b52ffd209435020084021c00000078000000011802000000d00700180000000300010a0c000004cc000004040c0c181803030c00c1034b4da02230cd8140629586398581133f9bc689addcbd7547",
    ),
    (
        3,
        "28b52ffd205ccd010054021c00000048000000011803000000b80b00180000000700000e1000a26a05063636000005050700390a6e426f53c8cfd3b8662b72bfdc11",
    ),
    (
        3,
        "28b52ffd209405020074021c00000078000000011804000000a00f0018001c1c0e0e000000005454363600000000030301010a008108188a63c0002cec08c0ddcec670b22bc76e9d1c",
    ),
    (
        3,
        "28b52ffd205c8d0100f81c000000480000000118050000008813001801002a2a00007e7e00000505000700e01cb00030ce4c866bbb22eccbc901",
    ),
    (
        3,
        "28b52ffd2094fd010024021c00000078000000011806000000701700180000000300011b1b30303b3b040400000c000307c0223591008b293bc040ce3bd0d84f79b8db95c6169c1c",
    ),
    (
        3,
        "28b52ffd2094cd0100f81c00000078000000011807000000581b0018000d0d000000006c6c292902020b000307008c770e08040083dd0320b7f318aeed8ab02f2707",
    ),
]
"""Rows as they stand in recordings: lists of keys that come again, that overlap, and that do not."""


def test_rows_that_were_recorded_once_unpack_for_ever() -> None:
    lists = [
        (1, 2, 3, 4),
        (1, 2, 3, 4),
        (3, 4, 5, 6),
        (7, 8),
        (1, 2, 3, 4),
        (5, 6),
        (3, 4, 5, 6),
        (1, 2, 3, 4),
    ]
    decoder = FrameDecoder()
    for tick, (keys, (codec, row)) in enumerate(zip(lists, RECORDED, strict=True)):
        records = [
            Record(
                key,
                struct.pack("<I4h", key, key * 100 + 7 * tick, 3 * tick * tick, -tick, key).ljust(24, b"\0"),
            )
            for key in keys
        ]
        frame = Frame(1, tick, records, stride=24, sent_at=1_000 * tick)
        assert decoder.decode(codec, bytes.fromhex(row)) == [encode_frame(frame)]


def test_a_row_that_leans_on_too_many_keys_is_refused_with_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = FrameEncoder()
    records = [Record(key, key.to_bytes(4, "little") + bytes(12)) for key in range(4)]
    rows = [encoder.encode([encode_frame(Frame(1, tick, records, stride=16))]) for tick in range(3)]
    assert rows[-1][0] not in (PLAIN, ALONE), "it leans on nothing"
    for bound, keys in (("FRAME_CHAIN_KEYS_MAX", 2), ("FRAME_CHAIN_KEYS_MAX", 1)):
        monkeypatch.setattr(framecodec, bound, keys)
        decoder = FrameDecoder()
        decoder.decode(*rows[0])
        if keys * 2 >= len(records):
            decoder.decode(*rows[1])
            continue
        with pytest.raises(MalformedMessage, match=f"more than {2 * keys} keys"):
            decoder.decode(*rows[1])


@pytest.mark.parametrize("cut", [1, 4, 6])
@pytest.mark.parametrize("codec", [PLAIN, ALONE])
def test_a_body_that_ends_within_a_message_is_refused_and_so_is_what_leans_on_it_or_on_what_was_before_it(
    cut: int, codec: int
) -> None:
    """Whoever unpacks a row may not ask for its messages; and the next one leans on this one, of which there is nothing."""
    rows = [[b"first message %d" % n * 20, b"second"] for n in range(4)]
    encoder, decoder = FrameEncoder(), FrameDecoder()
    packed = [encoder.encode(messages, fresh=n == 0) for n, messages in enumerate(rows)]
    assert {codec for codec, _ in packed[1:]} == {PREFIXED}
    assert [decoder.decode(*row) for row in packed[:2]] == rows[:2]
    body = join(rows[2])[:-cut]
    with pytest.raises(MalformedMessage, match=r"ends inside a message.*go on at the next keyframe"):
        decoder.unpack(codec, zstandard.compress(body) if codec else body)
    with pytest.raises(MalformedMessage, match="needs the row before it"):
        decoder.unpack(*packed[3])
    assert [decoder.decode(*row) for row in packed] == rows
