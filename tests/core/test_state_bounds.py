"""World state on its bounds: removals, keyframes in parts, and what is told of it, case by case."""

from __future__ import annotations

import pytest

from gateway.core.capacity import Capacity
from gateway.core.state import RECORD_HEAD_BYTES, Entry, WorldState
from gateway.limits import KEYFRAMES_PENDING_MAX, RECORDS_SAMPLED, TOMBSTONE_TICKS, TOMBSTONES_MAX
from gateway.wire import Frame, Record, decode_frame, encode_frame


def frame(tick: int, values: dict[int, bytes | None], epoch: int = 1, **how: object) -> Frame:
    message = Frame(epoch, tick, [Record(key, data) for key, data in values.items()], **how)  # type: ignore[arg-type]
    return decode_frame(encode_frame(message))


def state_of(*frames: Frame, capacity: Capacity | None = None) -> WorldState:
    state = WorldState(capacity)
    for one in frames:
        state.apply(one)
    return state


def test_a_state_that_saw_nothing_says_so() -> None:
    state = WorldState()
    assert (len(state), state.records, state.tombstones, state.snapshot()) == (0, {}, {}, {})
    assert (state.order, state.epoch, state.tick, state.revision) == (0, 0, 0, 0)
    assert (state.stride, state.sent_at, state.floor) == (0, 0, -1)
    assert state.get(1) is None
    assert state.order_at(1) == -1
    assert state.record_bytes == RECORD_HEAD_BYTES


@pytest.mark.parametrize("stride", [0, 8])
def test_what_a_frame_brings_is_told(stride: int) -> None:
    state = state_of(frame(5, {1: b"\1\0\0\0aaaa", 2: b"\2\0\0\0bbbb"}, epoch=3, stride=stride, sent_at=77))
    assert state.get(1) == Entry(3 << 32 | 5, b"\1\0\0\0aaaa")
    assert (state.order, state.epoch, state.tick) == (3 << 32 | 5, 3, 5)
    assert (state.stride, state.sent_at, state.revision, len(state)) == (stride, 77, 1, 2)
    state.apply(frame(6, {1: b"\1\0\0\0cccc", 2: b"\2\0\0\0dddd"}, epoch=3, stride=stride, sent_at=78))
    assert (state.tick, state.stride, state.sent_at, state.revision) == (6, stride, 78, 2)
    assert state.order_at(2) == 3 << 32 | 6
    state.apply(frame(4, {1: b"\1\0\0\0cccc"}, epoch=3, stride=stride, sent_at=76))
    assert (state.tick, state.sent_at, state.revision) == (6, 78, 2), "nothing of it was newer"


@pytest.mark.parametrize(("tick", "kept"), [(TOMBSTONE_TICKS + 5, True), (TOMBSTONE_TICKS + 6, False)])
def test_a_removal_is_remembered_for_so_many_ticks(tick: int, kept: bool) -> None:
    state = state_of(frame(5, {1: None}), frame(tick, {9: b""}), frame(tick, {2: None}))
    assert set(state.tombstones) == ({1, 2} if kept else {2})
    assert state.order_at(1) == (1 << 32 | 5 if kept else -1)
    assert state.order_at(2) == 1 << 32 | tick


@pytest.mark.parametrize(("removed", "first"), [(TOMBSTONES_MAX, 0), (TOMBSTONES_MAX + 1, 1)])
def test_so_many_removals_are_remembered_and_the_oldest_go_first(removed: int, first: int) -> None:
    state = state_of(frame(5, dict.fromkeys(range(removed))))
    assert len(state.tombstones) == TOMBSTONES_MAX
    assert next(iter(state.tombstones)) == first


def part(tick: int, part: int, parts: int, *keys: int) -> Frame:
    return frame(tick, dict.fromkeys(keys, b"%d" % tick), keyframe=True, part=part, parts=parts)


@pytest.mark.parametrize(
    ("pending", "is_whole"), [(KEYFRAMES_PENDING_MAX, True), (KEYFRAMES_PENDING_MAX + 1, False)]
)
def test_so_many_keyframes_may_lack_parts_and_the_oldest_is_given_up(pending: int, is_whole: bool) -> None:
    state = state_of(frame(1, {9: b"rests"}))
    for tick in range(2, 2 + pending):
        state.apply(part(tick, 0, 2, 1))
    assert state.apply(part(2, 1, 2, 2)).dropped == ((9,) if is_whole else ())


def test_a_keyframe_that_is_whole_ends_the_older_ones_and_not_the_newer() -> None:
    state = state_of(frame(1, {9: b"rests"}), part(2, 0, 2, 1), part(4, 0, 2, 1, 9))
    assert state.apply(part(3, 0, 1, 1, 9)).dropped == ()
    assert state.apply(part(2, 1, 2, 2)).dropped == ()
    assert state.apply(frame(3, {7: b"as old as the keyframe"})).changed == (7,)
    assert state.apply(part(4, 1, 2, 3)).dropped == (7,)
    assert set(state.snapshot()) == {1, 3, 9}


def test_a_part_that_comes_again_after_its_keyframe_was_whole_takes_nothing_away() -> None:
    parts = [
        frame(5, {key: b"k"}, keyframe=True, ticks=True, part=at, parts=2) for at, key in enumerate((1, 2))
    ]
    state = state_of(*parts)
    assert state.apply(frame(3, {7: b"a gateway's keyframe did not know of it"})).changed == (7,)
    for again in parts[:1]:
        assert state.apply(again).dropped == ()
    assert set(state.snapshot()) == {1, 2, 7}


def test_a_keyframe_takes_nothing_away_that_is_as_new_as_itself() -> None:
    state = state_of(frame(5, {7: b"of the same tick"}), frame(4, {8: b"older"}))
    assert state.apply(part(5, 0, 1, 1)).dropped == (8,)
    assert set(state.snapshot()) == {1, 7}
    assert state.floor == 1 << 32 | 5
    assert state.order_at(99) == state.floor - 1


def test_a_keyframe_of_unknown_parts_takes_nothing_away() -> None:
    state = state_of(frame(1, {9: b"rests"}))
    assert state.apply(part(2, 0, 0, 1)).dropped == ()
    assert (state.floor, set(state.snapshot())) == (-1, {1, 9})


def test_a_keyframe_that_only_takes_away_is_a_change() -> None:
    state = state_of(frame(5, {1: b"a"}), frame(4, {2: b"b"}))
    before = state.revision
    applied = state.apply(frame(5, {1: b"a"}, keyframe=True, parts=1))
    assert (applied.changed, applied.dropped, state.revision) == ((), (2,), before + 1)


@pytest.mark.parametrize(("removed", "is_whole"), [(3, True), (4, False)])
def test_a_keyframe_of_more_keys_than_twice_the_records_is_none(removed: int, is_whole: bool) -> None:
    state = state_of(frame(1, {9: b"rests"}), capacity=Capacity(2, 1 << 20))
    gone: dict[int, bytes | None] = dict.fromkeys(range(100, 100 + removed))
    state.apply(frame(2, gone, keyframe=True, part=0, parts=2))
    assert state.apply(frame(2, {1: b"a"}, keyframe=True, part=1, parts=2)).dropped == (
        (9,) if is_whole else ()
    )


def test_what_finds_no_room_is_left_out_and_the_rest_keeps_its_own_ticks() -> None:
    state = state_of(frame(3, {1: b"a"}), capacity=Capacity(2, 1 << 20))
    records = [Record(1, b"A", 5), Record(2, b"B", 7), Record(3, b"C", 6), Record(4, None, 9)]
    applied = state.apply(decode_frame(encode_frame(Frame(1, 8, records, repair=True))))
    assert applied.changed == (1, 2, 4)
    assert state.records == {1: (1 << 32 | 5, b"A"), 2: (1 << 32 | 7, b"B")}
    assert state.tombstones == {4: 1 << 32 | 9}
    assert state.order == 1 << 32 | 9


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [([0], 0), ([10], 10), ([10, 13], 11), ([4] * RECORDS_SAMPLED + [9_000], 4), ([5, 6, 7], 6)],
)
def test_a_record_s_bytes_are_those_of_the_first_ones(sizes: list[int], expected: int) -> None:
    state = state_of(frame(1, {key: bytes(size) for key, size in enumerate(sizes)}))
    assert state.record_bytes == RECORD_HEAD_BYTES + expected


@pytest.mark.parametrize(
    ("order", "tick"),
    [(3 << 32 | 7, 7), (3 << 32, 0), (2 << 32 | 7, 0), (3 << 32 | 0xFFFF_FFFF, 0xFFFF_FFFF)],
)
def test_a_record_of_an_earlier_epoch_has_tick_0_in_a_message(order: int, tick: int) -> None:
    assert state_of(frame(5, {1: b""}, epoch=3)).wire_tick(order) == tick


def test_a_keyframe_s_messages_hold_the_records_and_the_remembered_removals() -> None:
    state = state_of(
        frame(3, {1: b"\1\0\0\0abcd", 2: b"\2\0\0\0efgh"}, stride=8, sent_at=9), frame(4, {2: None, 5: None})
    )
    frames = [decode_frame(message) for message in state.keyframe_messages(65_535)]
    assert all(one.keyframe and not one.zstd and one.sent_at == state.sent_at for one in frames)
    assert [record for one in frames for record in one.records] == [
        Record(1, b"\1\0\0\0abcd", 3),
        Record(2, None, 4),
        Record(5, None, 4),
    ]
    assert frames[0].stride == 8


@pytest.mark.parametrize(
    ("values", "fits"),
    [
        ({1: b"\1\0\0\0abcd"}, True),
        ({1: b"\1\0\0\0abcd", 2: b"\2\0\0\0abcde"}, False),
        ({1: b"\1\0\0\0abcd", 2: b"\3\0\0\0abcd"}, False),
    ],
)
def test_a_keyframe_has_the_stride_where_all_records_fit_it(values: dict[int, bytes], fits: bool) -> None:
    state = state_of(frame(1, {1: b"\1\0\0\0abcd"}, stride=8), frame(2, dict(values)))
    assert state.stride == 8
    assert state.keyframe().stride == (8 if fits else 0)


# --- frames of the same keys, which are read when somebody asks ----------------------------------------


def poses(tick: int, text: bytes, *keys: int, **how: object) -> Frame:
    """A frame of one stride."""
    return frame(tick, {key: key.to_bytes(4, "little") + text for key in keys}, stride=8, **how)


def test_a_frame_of_the_same_keys_is_read_before_another_message_is() -> None:
    state = state_of(poses(1, b"aaaa", 1, 2), poses(2, b"bbbb", 1, 2))
    state.apply(frame(3, {1: b"plain"}))
    assert state.records == {1: (1 << 32 | 3, b"plain"), 2: (1 << 32 | 2, b"\2\0\0\0bbbb")}


def test_frames_of_the_same_keys_change_the_same_and_are_told_by_one_object() -> None:
    state = state_of(poses(1, b"aaaa", 1, 2))
    second, third = state.apply(poses(2, b"bbbb", 1, 2)), state.apply(poses(3, b"cccc", 1, 2))
    assert second is third
    assert second == ((1, 2), ())
    assert state.snapshot() == {1: b"\1\0\0\0cccc", 2: b"\2\0\0\0cccc"}


def test_a_keyframe_of_the_same_keys_takes_away_what_it_does_not_hold() -> None:
    state = state_of(frame(1, {3: b"rests"}), poses(2, b"aaaa", 1, 2))
    assert state.apply(poses(3, b"bbbb", 1, 2, keyframe=True, parts=1)).dropped == (3,)
    assert set(state.snapshot()) == {1, 2}


def test_the_further_parts_of_a_frame_are_taken_and_its_first_time_stays() -> None:
    state = state_of(poses(5, b"aaaa", 1, 2, sent_at=7), poses(5, b"aaaa", 3, 4, sent_at=8))
    assert state.snapshot().keys() == {1, 2, 3, 4}
    state.apply(frame(5, {9: b"plain"}, sent_at=9))
    assert state.sent_at == 7


def test_a_part_that_is_no_newer_than_a_removal_or_a_whole_keyframe_is_not_taken() -> None:
    removed = state_of(frame(5, {1: None}))
    assert removed.apply(poses(5, b"aaaa", 1)).changed == ()
    cleared = state_of(part(5, 0, 1, 1))
    assert cleared.apply(poses(4, b"aaaa", 9)).changed == ()


@pytest.mark.parametrize("stride", [0, 8])
def test_a_key_that_is_there_again_is_no_longer_known_as_removed(stride: int) -> None:
    state = state_of(poses(1, b"aaaa", 1, 2), frame(2, {1: None}))
    assert state.tombstones == {1: 1 << 32 | 2}
    values = {1: b"\1\0\0\0bbbb", 2: b"\2\0\0\0bbbb"}
    state.apply(frame(3, dict(values), stride=stride))
    assert (state.tombstones, state.snapshot()) == ({}, values)


def test_a_key_that_is_removed_again_is_remembered_from_then_on() -> None:
    state = state_of(frame(1, {1: None}), frame(2, {2: None}), frame(3, {1: None}))
    assert list(state.tombstones.items()) == [(2, 1 << 32 | 2), (1, 1 << 32 | 3)]
