"""Capsules as they come: whole or byte by byte, among others of any kind and length."""

from __future__ import annotations

from itertools import pairwise

import pytest
from aioquic.buffer import encode_uint_var
from hypothesis import given
from hypothesis import strategies as st

from gateway import limits
from gateway.quic.h3.capsules import CLOSE_CAPSULE, CapsuleReader, close_capsule, closing_of
from gateway.quic.h3.credit import MAX_DATA, MAX_STREAMS_UNI

CREDIT = encode_uint_var(70_000)


def capsule(kind: int, content: bytes) -> bytes:
    return encode_uint_var(kind) + encode_uint_var(len(content)) + content


def read(pieces: list[bytes]) -> list[tuple[int, bytes]]:
    reader = CapsuleReader()
    return [found for piece in pieces for found in reader.feed(piece)]


SENT = [
    capsule(0x1234, bytes(5_000)),
    capsule(MAX_DATA, CREDIT),
    capsule(0, b""),
    capsule(MAX_STREAMS_UNI, encode_uint_var(3)),
    capsule(0x1F * 7, b"x"),
    close_capsule(7, "later"),
]
READ = [
    (MAX_DATA, CREDIT),
    (MAX_STREAMS_UNI, encode_uint_var(3)),
    (CLOSE_CAPSULE, bytes((0, 0, 0, 7)) + b"later"),
]


@given(st.lists(st.integers(0, sum(map(len, SENT))), max_size=9))
def test_what_is_read_is_the_same_however_it_comes_in_pieces(cuts: list[int]) -> None:
    whole = b"".join(SENT)
    ends = [0, *sorted(cuts), len(whole)]
    assert read([whole[start:stop] for start, stop in pairwise(ends)]) == READ


def test_one_byte_at_a_time_and_with_something_unfinished_behind_it_is_read_as_well() -> None:
    assert read([bytes([byte]) for byte in b"".join(SENT) + b"\x68"]) == READ


def test_a_session_ends_with_the_code_and_the_reason_that_were_said() -> None:
    ((_, content),) = read([close_capsule(0xFFFF_FFFF, "späte")])
    assert closing_of(content) == (0xFFFF_FFFF, "späte")
    ((_, content),) = read([close_capsule(0, "x" * (limits.WT_CLOSE_REASON_BYTES_MAX + 1))])
    assert closing_of(content) == (0, "x" * limits.WT_CLOSE_REASON_BYTES_MAX)


@pytest.mark.parametrize("size", [0, 3, limits.WT_CLOSE_REASON_BYTES_MAX + 5])
def test_an_end_that_is_too_short_or_too_long_to_be_one_is_passed_over(size: int) -> None:
    after = capsule(MAX_DATA, CREDIT)
    assert read([capsule(CLOSE_CAPSULE, bytes(size)) + after]) == [(MAX_DATA, CREDIT)]


def test_a_limit_longer_than_any_number_is_passed_over() -> None:
    assert read([capsule(MAX_DATA, bytes(9)) + capsule(MAX_DATA, CREDIT)]) == [(MAX_DATA, CREDIT)]


def test_of_a_long_capsule_that_is_of_no_use_nothing_is_kept() -> None:
    reader = CapsuleReader()
    assert list(reader.feed(encode_uint_var(0x1234) + encode_uint_var(1 << 40))) == []
    for _ in range(8):
        assert list(reader.feed(bytes(1 << 20))) == []
    assert not reader._buffer
