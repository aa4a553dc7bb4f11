"""How many datagrams go in a row, and how a message is cut into pieces: at the bounds of both."""

from __future__ import annotations

import pytest

from gateway.core.outgoing import Outgoing, only
from gateway.core.row import Row
from gateway.limits import PIECE_SIZES_CACHED_MAX, PIECES_MAX, READER_ROW_S, ROW_DATAGRAM_BYTES
from gateway.wire import Frame, Record, decode_frame, encode_frame


def out_of(tick: int, size: int, *, parts: int = 1, records: int = 1) -> Outgoing:
    """A message of just so many bytes."""
    each = (size - 24) // records - 8
    message = encode_frame(Frame(1, tick, [Record(key, bytes(each)) for key in range(records)], parts=parts))
    assert len(message) == size
    return Outgoing(decode_frame(message), message, tuple(range(records)))


@pytest.mark.parametrize(
    ("size", "parts", "pieces"),
    [(ROW_DATAGRAM_BYTES, 1, 0), (ROW_DATAGRAM_BYTES + 1, 1, 2), (100, 2, 1), (100, 0, 1)],
)
def test_a_row_counts_the_datagrams_of_frames_of_several(size: int, parts: int, pieces: int) -> None:
    row = Row(3)
    for n in range(3):
        assert row.bundle([out_of(n, size, parts=parts)], 1.0).row is None or pieces == 2
    told = row.bundle([out_of(9, 2 * ROW_DATAGRAM_BYTES + 1)], 1.0).row
    assert told == {0: None, 1: (3, 3), 2: (2, 3)}[pieces]


def test_a_row_begins_anew_at_the_end_of_its_time_and_not_before() -> None:
    large = out_of(1, 2 * ROW_DATAGRAM_BYTES)
    for later, is_over in ((READER_ROW_S, True), (READER_ROW_S * 0.99, False)):
        row = Row(2)
        assert row.bundle([large], 0.0).row is None
        assert (row.bundle([large], later).row is None) is is_over


def test_after_its_time_a_row_begins_anew() -> None:
    row = Row(2)
    large = out_of(1, 2 * ROW_DATAGRAM_BYTES)
    assert row.bundle([large], 8.0).row is None
    assert row.bundle([large], 8.0 + READER_ROW_S / 2).row == (2, 2)
    assert row.bundle([large], 8.0 + READER_ROW_S * 1.01).row is None
    assert row.bundle([large], 8.0 + READER_ROW_S * 1.5).row == (2, 2)


def test_a_frame_that_does_not_tell_its_parts_is_large_from_one_more_than_it_may_have() -> None:
    row = Row(1_000)
    told = [row.bundle([out_of(1, 100, parts=0)], 1.0).is_large for _ in range(PIECES_MAX + 1)]
    assert told == [False] * PIECES_MAX + [True]
    assert not row.bundle([out_of(2, 100, parts=0)], 1.0).is_large
    assert not row.bundle([out_of(2, 100, parts=0)] * (PIECES_MAX - 1), 1.0).is_large
    assert row.bundle([out_of(2, 100, parts=0)], 1.0).is_large


def test_pieces_are_as_many_as_a_frame_may_go_out_as_and_one_more_takes_a_stream() -> None:
    for records, is_stream in ((PIECES_MAX, False), (PIECES_MAX + 1, True)):
        out = out_of(1, 24 + records * 108, records=records)
        pieces = out.datagrams(24 + 108)
        assert (pieces is None) is is_stream
    assert out_of(1, 132).datagrams(132) is not None
    assert out_of(1, 132).datagrams(131) is None


def test_pieces_say_which_part_they_are_and_keep_the_frames_words() -> None:
    rows = [Record(key, key.to_bytes(4, "little") + bytes(4), 5) for key in range(4)]
    message = encode_frame(Frame(2, 7, rows, ticks=True, repair=True, stride=8, sent_at=9, part=1, parts=3))
    out = Outgoing(decode_frame(message), message, (0, 1, 3))
    found = [(decode_frame(piece), keys) for piece, keys in out.pieces(24 + 24)]
    assert [keys for _, keys in found] == [(0, 1), (3,)]
    for part, (frame, keys) in enumerate(found):
        assert frame.keys == keys
        assert (frame.epoch, frame.tick, frame.sent_at, frame.stride) == (2, 7, 9, 8)
        assert (frame.part, frame.parts, frame.repair, frame.ticks) == (part, 2, True, True)
        assert [row.tick for row in frame.records] == [5] * len(keys)


def test_so_many_sizes_of_pieces_are_kept_and_one_more_begins_anew() -> None:
    out = out_of(1, 24 + 20 * 108, records=20)
    first = out.pieces(500)
    for size in range(501, 500 + PIECE_SIZES_CACHED_MAX):
        out.pieces(size)
    assert out.pieces(500) is first
    out.pieces(499)
    assert out.pieces(500) is not first


def test_of_a_frame_the_records_of_some_keys_are_left_each_once() -> None:
    frame = Frame(2, 7, [Record(1, b"a"), Record(2, b"b"), Record(1, b"c"), Record(3, None)], part=1, parts=3)
    left = only(frame, (1, 3))
    assert left.records == [Record(1, b"a", 7), Record(3, None, 7)]
    assert (left.part, left.parts) == (1, 3)
