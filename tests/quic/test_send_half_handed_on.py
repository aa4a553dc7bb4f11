"""The sending half of a stream while another sends what was written (the handshake does), and what is taken over from it."""

from __future__ import annotations

import pytest

from gateway.quic.connection.sendhalf import SendHalf

DATA = bytes(range(200))
ROOM = 1_000


def _written(size: int, *, end: bool = False) -> SendHalf:
    half = SendHalf(1 << 20)
    half.write(DATA[:size], end=end)
    return half


def _all(half: SendHalf) -> list[tuple[int, bytes, bool]]:
    """All frames that may go now."""
    frames = []
    while half.is_due and (frame := half.next_frame(ROOM, ROOM)) is not None:
        frames.append(frame)
    return frames


def test_what_was_written_is_carried_once_and_kept() -> None:
    half = _written(50)
    assert not half.was_carried
    assert half.carry() == (DATA[:50], False)
    assert half.carry() is None
    assert half.was_carried
    half.write(DATA[50:60], end=True)
    assert half.is_due
    assert half.carry() == (DATA[50:60], True)
    assert half.carry() is None
    assert not half.is_due
    assert half.unacknowledged == 60


def test_an_end_alone_is_carried_and_a_reset_stream_is_not() -> None:
    half = _written(0, end=True)
    assert half.carry() == (b"", True)
    assert half.carry() is None
    given_up = _written(10)
    given_up.reset(3)
    assert given_up.carry() is None
    assert SendHalf(10).carry() is None


@pytest.mark.parametrize(
    ("acked_to", "highest", "flying", "again"),
    [
        (0, 0, [], [(0, 100, True)]),
        (0, 100, [], [(0, 100, True)]),
        (30, 100, [], [(30, 100, True)]),
        (30, 60, [], [(30, 60, False), (60, 100, True)]),
        (0, 100, [(0, 100, True)], []),
        (0, 100, [(0, 100, False)], [(100, 100, True)]),
        (0, 100, [(20, 40, False)], [(0, 20, False), (40, 100, True)]),
        (10, 80, [(20, 40, False), (60, 80, False)], [(10, 20, False), (40, 60, False), (80, 100, True)]),
        (0, 100, [(100, 100, True)], [(0, 100, True)]),
        (100, 100, [], [(100, 100, True)]),
        (100, 100, [(100, 100, True)], []),
        (100, 100, [(0, 100, False)], [(100, 100, True)]),
    ],
)
def test_what_is_not_in_flight_of_what_another_sent_is_sent_again(
    acked_to: int, highest: int, flying: list[tuple[int, int, bool]], again: list[tuple[int, int, bool]]
) -> None:
    half = _written(100, end=True)
    half.carry()
    half.adopt(acked_to, highest, flying)
    assert half.is_due == bool(again)
    assert half.unacknowledged == 100 - acked_to
    sent = _all(half)
    assert [(at, at + len(data), is_end) for at, data, is_end in sent] == again
    assert all(data == DATA[at : at + len(data)] for at, data, _ in sent)
    for start, stop, is_end in [*flying, *again]:
        if stop > acked_to or is_end:
            half.on_fate(True, max(start, acked_to), stop, is_end)
    assert half.is_over


def test_no_end_is_said_of_a_stream_that_has_none() -> None:
    half = _written(100)
    half.carry()
    half.adopt(100, 100, [])
    assert not half.is_due
    assert half.takes_more


def test_of_a_stream_that_was_reset_only_how_far_it_came_is_taken_over() -> None:
    half = _written(100)
    half.carry()
    half.reset(4)
    half.adopt(10, 70, [(20, 30, False)])
    assert (half.highest, half.is_due, half.reset_due, half.unacknowledged) == (70, False, True, 0)


def test_a_stream_of_which_all_arrived_is_over() -> None:
    half = _written(100, end=True)
    half.carry()
    half.finish()
    assert (half.is_over, half.is_due, half.unacknowledged, half.takes_more) == (True, False, 0, False)
    assert (half.start, half.highest) == (100, 100)
    half.reset(4)
    assert (half.reset_code, half.reset_due) == (None, False)
    half = _written(100, end=True)
    half.finish()
    assert (half.is_over, half.is_due, half.highest) == (True, False, 100)


def test_a_stream_begins_where_another_ended() -> None:
    half = SendHalf(1 << 20)
    half.begin_at(500)
    assert (half.unacknowledged, half.is_due, half.next_offset) == (0, False, 500)
    half.write(b"abc", end=True)
    assert half.next_frame(ROOM, ROOM) == (500, b"abc", True)
    half.on_fate(True, 500, 503, True)
    assert half.is_over


@pytest.mark.parametrize(
    ("room", "credit", "frame"),
    [
        (-1, 100, None),
        (0, 100, None),
        (1, 100, (0, DATA[:1], False)),
        (50, 0, None),
        (50, 1, (0, DATA[:1], False)),
        (50, 50, (0, DATA[:50], True)),
        (49, 50, (0, DATA[:49], False)),
    ],
)
def test_a_frame_has_no_more_than_its_room_and_the_credit(
    room: int, credit: int, frame: tuple[int, bytes, bool] | None
) -> None:
    half = _written(50, end=True)
    assert half.next_frame(room, credit) == frame


def test_an_end_needs_no_room_and_no_credit_and_lost_bytes_no_credit() -> None:
    half = _written(10)
    assert half.next_frame(ROOM, 10) == (0, DATA[:10], False)
    half.write(b"", end=True)
    assert half.next_frame(-1, 0) is None
    assert half.next_frame(0, 0) == (10, b"", True)
    assert half.next_frame(0, 0) is None
    half.on_fate(False, 0, 10, False)
    assert half.next_offset == 0
    assert half.next_frame(0, 0) is None
    assert half.next_frame(4, 0) == (0, DATA[:4], False)
    assert half.next_offset == 4
    assert half.next_frame(6, 0) == (4, DATA[4:10], True)
    assert half.next_offset == 10


def test_lost_pieces_that_touch_go_in_one() -> None:
    half = _written(30)
    for _ in range(3):
        half.next_frame(10, ROOM)
    half.on_fate(False, 20, 30, False)
    half.on_fate(False, 0, 10, False)
    half.on_fate(False, 10, 20, False)
    assert half.next_frame(ROOM, 0) == (0, DATA[:30], False)
