"""World state: newest wins, removals stay removed, keyframes clear what they do not hold."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.state import WorldState
from gateway.limits import KEYFRAMES_PENDING_MAX, TOMBSTONE_TICKS, TOMBSTONES_MAX
from gateway.wire import Frame, Record, decode_frame, encode_frame, split
from tests.held import longest


def entity(key: int, text: bytes = b"") -> bytes:
    return struct.pack("<I", key) + text.ljust(12, b".")


def frame(tick: int, values: dict[int, bytes | None], epoch: int = 1, **how: object) -> Frame:
    message = Frame(epoch, tick, [Record(key, data) for key, data in values.items()], **how)  # type: ignore[arg-type]
    return decode_frame(encode_frame(message))


def test_a_newer_record_replaces_an_older_one_and_an_older_or_equal_one_is_dropped() -> None:
    state = WorldState()
    assert state.apply(frame(5, {1: b"a", 2: b"b"})).changed == (1, 2)
    assert state.apply(frame(4, {1: b"old"})).changed == ()
    assert state.apply(frame(5, {1: b"equal"})).changed == ()
    assert state.apply(frame(6, {1: b"new"})).changed == (1,)
    assert state.snapshot() == {1: b"new", 2: b"b"}


def test_a_late_frame_still_brings_the_records_nobody_has_newer() -> None:
    state = WorldState()
    state.apply(frame(5, {1: b"a"}))
    assert state.apply(frame(3, {1: b"old", 2: b"late"})).changed == (2,)
    assert (state.epoch, state.tick) == (1, 5)


def test_a_removed_record_is_not_brought_back_by_a_late_older_value() -> None:
    state = WorldState()
    state.apply(frame(1, {1: b"a"}))
    state.apply(frame(3, {1: None}))
    assert state.apply(frame(2, {1: b"ghost"})).changed == ()
    assert len(state) == 0
    state.apply(frame(4, {1: b"again"}))
    assert state.snapshot() == {1: b"again"}


def test_a_stride_frame_newer_than_all_revives_a_removed_key() -> None:
    state = WorldState()
    state.apply(frame(1, {1: None}))
    state.apply(frame(2, {1: entity(1)}, stride=16))
    assert state.snapshot() == {1: entity(1)}
    assert not state.tombstones


def test_the_first_of_two_records_with_one_key_counts_whatever_the_path() -> None:
    double = decode_frame(
        encode_frame(Frame(1, 9, [Record(1, entity(1, b"x")), Record(1, entity(1, b"y"))], stride=16))
    )
    fresh, late = WorldState(), WorldState()
    late.apply(frame(20, {7: b""}))
    fresh.apply(double)
    late.apply(double)
    assert fresh.snapshot()[1] == late.snapshot()[1] == entity(1, b"x")


def test_a_greater_epoch_wins_over_any_tick_of_an_earlier_one() -> None:
    state = WorldState()
    state.apply(frame(900, {1: b"old run"}))
    state.apply(frame(0, {1: b"new run"}, epoch=2))
    assert state.snapshot() == {1: b"new run"}
    assert (state.epoch, state.tick) == (2, 0)
    assert state.apply(frame(901, {1: b"late from the old run"})).changed == ()


def test_records_with_their_own_ticks_lose_against_values_set_between() -> None:
    state = WorldState()
    state.apply(frame(7, {1: b"at 7"}))
    repair = Frame(1, 9, [Record(1, b"at 5", 5), Record(2, b"at 8", 8)], repair=True)
    assert state.apply(decode_frame(encode_frame(repair))).changed == (2,)
    assert state.apply(frame(8, {2: b"equal"})).changed == ()
    assert state.snapshot() == {1: b"at 7", 2: b"at 8"}


def test_a_keyframe_removes_what_it_does_not_hold() -> None:
    state = WorldState()
    state.apply(frame(1, {1: b"a", 2: b"b"}))
    applied = state.apply(frame(2, {2: b"B"}, keyframe=True))
    assert applied.dropped == (1,)
    assert state.snapshot() == {2: b"B"}
    assert state.apply(frame(1, {1: b"late"})).changed == ()
    assert state.apply(frame(1, {3: b"late and never seen"})).changed == ()


def test_a_keyframe_in_parts_removes_only_when_all_have_come() -> None:
    state = WorldState()
    state.apply(frame(1, {1: b"a", 2: b"b", 3: b"c"}))
    state.apply(frame(2, {1: b"A"}, keyframe=True, part=0, parts=2))
    state.apply(frame(2, {1: b"A"}, keyframe=True, part=0, parts=2))
    assert set(state.snapshot()) == {1, 2, 3}
    assert state.apply(frame(2, {2: b"B"}, keyframe=True, part=1, parts=2)).dropped == (3,)
    assert state.snapshot() == {1: b"A", 2: b"B"}


def test_a_keyframe_keeps_what_was_set_after_it() -> None:
    state = WorldState()
    state.apply(frame(5, {9: b"newer than the keyframe"}))
    state.apply(frame(4, {1: b"a"}, keyframe=True))
    assert set(state.snapshot()) == {1, 9}


def test_keyframes_that_never_get_whole_are_forgotten() -> None:
    state = WorldState()
    for tick in range(1, 50):
        state.apply(frame(tick, {tick: b""}, keyframe=True, part=0, parts=2))
    assert state.keyframes_pending == KEYFRAMES_PENDING_MAX
    whole = [
        tick
        for tick in range(1, 50)
        if state.apply(frame(tick, {100: b""}, keyframe=True, part=1, parts=2)).dropped
    ]
    assert whole == list(range(50 - KEYFRAMES_PENDING_MAX, 50))


def test_removals_are_forgotten_after_a_while_and_bounded_in_number() -> None:
    state = WorldState()
    state.apply(frame(1, {1: None}))
    state.apply(frame(TOMBSTONE_TICKS + 10, {2: None}))
    state.apply(frame(TOMBSTONE_TICKS + 11, {3: None}))
    assert set(state.tombstones) == {2, 3}
    many = dict.fromkeys(range(10, TOMBSTONES_MAX + 500))
    state.apply(frame(TOMBSTONE_TICKS + 12, many))
    assert len(state.tombstones) == TOMBSTONES_MAX


def test_the_keyframe_of_a_state_gives_an_empty_state_the_same_records() -> None:
    state = WorldState()
    state.apply(frame(3, {key: entity(key) for key in range(40)}, stride=16))
    state.apply(frame(4, {5: None}, stride=0))
    copy = WorldState()
    for message in split(state.keyframe(), 200):
        copy.apply(decode_frame(message))
    assert copy.snapshot() == state.snapshot()
    assert copy.order == state.order
    assert decode_frame(split(state.keyframe(), 10_000)[0]).stride == 16


def test_a_record_of_an_earlier_epoch_stands_in_a_keyframe_with_tick_0() -> None:
    state = WorldState()
    state.apply(frame(77, {1: b"old"}, epoch=1))
    state.apply(frame(3, {2: b"new"}, epoch=2))
    assert state.keyframe().records == [Record(1, b"old", 0), Record(2, b"new", 3)]


updates = st.lists(
    st.tuples(
        st.integers(1, 30), st.dictionaries(st.integers(0, 5), st.none() | st.binary(max_size=3), min_size=1)
    ),
    unique_by=lambda update: update[0],
    max_size=20,
)


@given(updates=updates, data=st.data())
def test_any_order_and_any_duplicates_give_the_same_state(updates: list, data: st.DataObject) -> None:
    frames = [frame(tick, values) for tick, values in updates]
    shuffled = data.draw(st.permutations(frames + frames))
    first, second = WorldState(), WorldState()
    for one in sorted(frames, key=lambda f: f.tick):
        first.apply(one)
    for one in shuffled:
        second.apply(one)
    assert second.snapshot() == first.snapshot()


@pytest.mark.parametrize("stride", [0, 16])
def test_the_state_knows_the_newest_frame_and_counts_its_changes(stride: int) -> None:
    state = WorldState()
    state.apply(frame(2, {1: entity(1)}, stride=stride))
    before = state.revision
    state.apply(frame(2, {1: entity(1)}, stride=stride))
    assert (state.tick, state.revision) == (2, before)


steps = st.lists(
    st.tuples(
        st.integers(1, 2),
        st.integers(1, 6),
        st.sampled_from([(1,), (1, 2), (1, 2), (2, 1), (3, 3)]),
        st.sampled_from(["stride", "stride", "stride", "plain", "removed", "keyframe", "ticks"]),
    ),
    max_size=24,
)


def step(epoch: int, tick: int, keys: tuple[int, ...], kind: str) -> bytes:
    data = None if kind == "removed" else b"%d:%d" % (epoch, tick)
    rows = [Record(key, None if data is None else entity(key, data)) for key in keys]
    stride = 16 if kind in ("stride", "keyframe") else 0
    return encode_frame(
        Frame(epoch, tick, rows, stride=stride, keyframe=kind == "keyframe", ticks=kind == "ticks")
    )


@given(steps)
def test_a_state_that_is_seldom_asked_is_the_one_that_is_asked_after_each_message(
    said: list[tuple[int, int, tuple[int, ...], str]],
) -> None:
    seldom, always = WorldState(), WorldState()
    for one in said:
        message = step(*one)
        assert seldom.apply(decode_frame(message)) == always.apply(decode_frame(message))
        assert always.records is always.records
        assert (seldom.order, seldom.revision, len(seldom)) == (always.order, always.revision, len(always))
    assert seldom.records == always.records
    assert list(seldom.records) == list(always.records)
    assert seldom.keyframe_messages(65_535) == always.keyframe_messages(65_535)


def test_a_large_frame_is_read_at_once_so_that_no_world_holds_its_bytes_twice() -> None:
    state = WorldState()
    values: dict[int, bytes | None] = {key: entity(key) for key in range(5_000)}
    for tick in (1, 2):
        state.apply(frame(tick, values, stride=16))
        assert longest(state, kind=bytes) < 100


def test_what_is_older_than_the_publishers_whole_keyframe_is_gone_and_what_is_as_old_is_taken() -> None:
    state = WorldState()
    state.apply(frame(5, {1: b"a"}, keyframe=True, parts=1))
    assert state.apply(frame(4, {2: b"before"})).changed == ()
    assert state.apply(frame(5, {3: b"another part of that tick"})).changed == (3,)
    assert state.apply(frame(6, {2: b"after"})).changed == (2,)
    assert state.snapshot() == {1: b"a", 2: b"after", 3: b"another part of that tick"}


def test_an_older_keyframe_that_comes_late_takes_nothing_away() -> None:
    state = WorldState()
    state.apply(frame(5, {1: b"a", 2: b"b"}, keyframe=True, parts=1))
    assert state.apply(frame(4, {9: b"x"}, keyframe=True, parts=1)) == ((), ())
    assert state.apply(frame(5, {1: b"a"}, keyframe=True, parts=1)).dropped == ()
    assert state.snapshot() == {1: b"a", 2: b"b"}
    assert state.floor == 1 << 32 | 5


def test_a_gateways_keyframe_lets_older_values_of_other_keys_come_later() -> None:
    state = WorldState()
    message = Frame(1, 5, [Record(1, b"a", 3)], keyframe=True, ticks=True, parts=1)
    state.apply(decode_frame(encode_frame(message)))
    assert state.floor == -1
    assert state.apply(frame(4, {2: b"late"})).changed == (2,)


def test_an_older_keyframe_does_not_lower_the_floor_that_a_newer_one_set() -> None:
    state = WorldState()
    state.apply(frame(3, {1: b"a"}, keyframe=True, part=0, parts=2))
    state.apply(frame(5, {1: b"b"}, keyframe=True, parts=1))
    state.apply(frame(3, {2: b"c"}, keyframe=True, part=1, parts=2))
    assert state.floor == 1 << 32 | 5
    assert state.snapshot() == {1: b"b"}
