"""A compressed message causes no more work than it has bytes for: short ones unpack to little and hold few records."""

from __future__ import annotations

import struct

import pytest
import zstandard

from gateway.errors import MalformedMessage
from gateway.wire import Frame, decode_frame, decode_message
from gateway.wire.compress import inflated_bytes_max, inflated_records_max
from gateway.wire.frames import FLAG_ZSTD


def message(body: bytes, stride: int = 0) -> bytes:
    head = struct.pack("<BBHHHIIQ", 1, FLAG_ZSTD, 0, 1, stride, 0, 1, 0)
    return head + zstandard.ZstdCompressor(level=19).compress(body)


def keys(count: int, stride: int) -> bytes:
    return b"".join(struct.pack("<I", key) + bytes(stride - 4) for key in range(count))


@pytest.mark.parametrize("stride", [4, 16, 100, 1_000])
@pytest.mark.parametrize("count", [1, 100, 2_000])
def test_whole_worlds_of_zeros_under_rising_keys_are_taken(stride: int, count: int) -> None:
    frame = decode_message(message(keys(count, stride), stride), proportionate=True)
    assert isinstance(frame, Frame)
    assert len(frame.keys) == count


BOMBS = {
    "a million times the same key": (struct.pack("<I", 1) * 1_000_000, 4),
    "a million removals": (struct.pack("<II", 1, 0xFFFF_FFFF) * 1_000_000, 0),
    "one record of zeros": (struct.pack("<II", 1, 4 << 20) + bytes(4 << 20), 0),
    "zeros": (bytes(16 << 20), 0),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_by_the_bound_that_its_bytes_set(name: str) -> None:
    bomb = message(*BOMBS[name])
    assert len(bomb) < 2_000
    with pytest.raises(MalformedMessage, match=r"bound of \d+"):
        decode_message(bomb, proportionate=True)


def test_recordings_of_such_messages_are_still_read() -> None:
    assert len(decode_frame(message(*BOMBS["a million times the same key"])).keys) == 1_000_000


def test_at_the_bound_of_records_passes_and_one_over_is_refused() -> None:
    body = struct.pack("<I", 7) * 100
    packed = len(message(body, 4)) - 24
    for count, passes in ((inflated_records_max(packed), True), (inflated_records_max(packed) + 9, False)):
        bomb = message(struct.pack("<I", 7) * count, 4)
        assert (count <= inflated_records_max(len(bomb) - 24)) == passes
        if passes:
            decode_message(bomb, proportionate=True)
        else:
            with pytest.raises(MalformedMessage, match="records in one message"):
                decode_message(bomb, proportionate=True)


def test_the_bounds_rise_with_the_bytes_to_those_of_any_message() -> None:
    assert inflated_bytes_max(0) == 64 << 10
    assert inflated_bytes_max(1 << 30) == 16 << 20
    assert inflated_records_max(1 << 30) == 1_000_000
