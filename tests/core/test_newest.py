"""Repairs: messages of newest values, the same bytes for all readers of one turn that miss the same."""

from __future__ import annotations

import pytest

from gateway.core.newest import SharedRepairs, encode_newest, encode_since, encode_strided, pick
from gateway.core.slots import Slots
from gateway.core.stale import StaleSet
from gateway.core.state import WorldState
from gateway.limits import REPAIR_STREAM_MESSAGE_BYTES, REPAIRS_SHARED_MAX
from gateway.wire import Frame, Record, decode_frame

STRIDE = 16
HEADER = 24


def value(key: int, size: int = STRIDE, mark: int = 0) -> bytes:
    return key.to_bytes(4, "little") + bytes([mark]) * (size - 4)


def strided(*keys: int, tick: int = 5, sent_at: int = 77) -> WorldState:
    state = WorldState()
    state.apply(Frame(2, tick, [Record(key, value(key)) for key in keys], stride=STRIDE, sent_at=sent_at))
    return state


def stale_of(state: WorldState, *keys: int) -> StaleSet:
    stale = StaleSet(Slots(state))
    stale.add(keys)
    return stale


@pytest.mark.parametrize(
    ("size", "count"), [(HEADER + 3 * 20, 3), (HEADER + 3 * 20 - 1, 2), (HEADER + 20, 1)]
)
def test_a_repair_holds_as_many_whole_records_as_fit(size: int, count: int) -> None:
    state = strided(1, 2, 3, 4, 5)
    keys, message = SharedRepairs(state).next(stale_of(state, 1, 2, 3, 4, 5), size)
    assert keys == (1, 2, 3, 4, 5)[:count]
    assert len(message) == HEADER + count * 20
    frame = decode_frame(message)
    assert frame.records == [Record(key, value(key), 5) for key in keys]
    assert (frame.epoch, frame.tick, frame.sent_at, frame.stride) == (2, 5, 77, STRIDE)
    assert (frame.repair, frame.ticks, frame.keyframe, frame.part, frame.parts) == (True, True, False, 0, 0)


@pytest.mark.parametrize("size", [HEADER + 19, HEADER, 10, 0])
def test_where_not_even_one_fits_that_one_comes_alone_and_is_longer(size: int) -> None:
    state = strided(1, 2)
    keys, message = SharedRepairs(state).next(stale_of(state, 1, 2), size)
    assert (keys, decode_frame(message).keys) == ((1,), (1,))
    assert len(message) > size


def test_a_record_that_is_not_of_the_stride_or_gone_makes_a_repair_without_one() -> None:
    state = strided(1, 2, 3)
    state.apply(Frame(2, 6, [Record(2, b"short")]))
    state.apply(Frame(2, 7, [Record(3, None)]))
    for keys in ((1, 2), (1, 3), (2, 1)):
        assert encode_strided(state, keys) is None
    keys, message = SharedRepairs(state).next(stale_of(state, 1, 2, 3), 1_000)
    frame = decode_frame(message)
    assert (keys, frame.stride, frame.parts) == ((1, 2, 3), 0, 0)
    assert frame.records == [Record(1, value(1), 5), Record(2, b"short", 6), Record(3, None, 7)]


def test_a_record_of_the_strides_length_that_does_not_begin_with_its_key_is_not_of_the_stride() -> None:
    state = strided(1)
    state.apply(Frame(2, 6, [Record(9, value(8))]))
    assert encode_strided(state, (9,)) is None
    assert decode_frame(encode_newest(state, (1, 9))).stride == 0
    assert decode_frame(encode_newest(state, (1,))).stride == STRIDE


def test_a_message_of_the_stride_stays_within_what_its_records_are() -> None:
    """The first urgent keys might fit by the stride, and do not as they are: fewer go."""
    state = strided(1)
    state.apply(Frame(2, 6, [Record(key, bytes(100)) for key in (7, 8)]))
    keys, message = SharedRepairs(state).next(stale_of(state, 7, 8, 1), HEADER + 150)
    assert keys == (7,)
    assert len(message) <= HEADER + 150


@pytest.mark.parametrize("encode", [encode_newest, encode_strided])
def test_what_is_of_an_earlier_epoch_has_tick_0_and_what_is_of_this_one_its_own(encode: object) -> None:
    state = strided(1, 2)
    state.apply(Frame(3, 0, [Record(2, value(2))], stride=STRIDE))
    state.apply(Frame(3, 1, [Record(3, value(3))], stride=STRIDE))
    message = encode(state, (1, 2, 3))  # type: ignore[operator]
    assert [row.tick for row in decode_frame(message).records] == [0, 0, 1]


def test_within_a_turn_who_misses_the_same_gets_the_same_bytes() -> None:
    state = strided(1, 2, 3)
    repairs = SharedRepairs(state)
    repairs.begin()
    first = repairs.next(stale_of(state, 1, 2), 1_000)[1]
    assert repairs.next(stale_of(state, 1, 2), 1_000)[1] is first
    assert repairs.next(stale_of(state, 1, 3), 1_000)[1] is not first
    repairs.end()
    repairs.begin()
    assert repairs.next(stale_of(state, 1, 2), 1_000)[1] is not first


def test_the_same_holds_of_records_without_a_stride() -> None:
    state = WorldState()
    state.apply(Frame(2, 5, [Record(1, b"a"), Record(2, b"b")]))
    repairs = SharedRepairs(state)
    repairs.begin()
    first = repairs.next(stale_of(state, 1, 2), 1_000)[1]
    assert repairs.next(stale_of(state, 1, 2), 1_000)[1] is first


def test_outside_a_turn_nothing_is_shared_for_the_state_may_have_changed() -> None:
    state = strided(1, 2)
    repairs = SharedRepairs(state)
    repairs.begin()
    repairs.next(stale_of(state, 1), 1_000)
    repairs.end()
    state.apply(Frame(2, 6, [Record(1, value(1, mark=9))], stride=STRIDE))
    assert decode_frame(repairs.next(stale_of(state, 1), 1_000)[1]).records == [
        Record(1, value(1, mark=9), 6)
    ]


def test_so_many_repairs_are_shared_and_one_more_is_made_again() -> None:
    state = strided(*range(REPAIRS_SHARED_MAX + 1))
    repairs = SharedRepairs(state)
    repairs.begin()
    made = [repairs.next(stale_of(state, key), 1_000)[1] for key in range(REPAIRS_SHARED_MAX + 1)]
    again = [repairs.next(stale_of(state, key), 1_000)[1] for key in range(REPAIRS_SHARED_MAX + 1)]
    assert [one is other for one, other in zip(made, again, strict=True)] == [True] * REPAIRS_SHARED_MAX + [
        False
    ]


@pytest.mark.parametrize(
    ("size", "picked"),
    [
        (HEADER + 2 * 112, (1, 2)),
        (HEADER + 2 * 112 - 1, (1,)),
        (HEADER + 2 * 112 + 11, (1, 2)),
        (HEADER + 2 * 112 + 12, (1, 2, 9)),
        (HEADER + 111, (1,)),
    ],
)
def test_keys_are_picked_as_long_as_their_newest_values_fit(size: int, picked: tuple[int, ...]) -> None:
    """A record stands after at most twelve bytes; one that is gone is those alone."""
    state = WorldState()
    state.apply(Frame(2, 5, [Record(1, bytes(100)), Record(2, bytes(100))]))
    assert pick(state, (1, 2, 9), size) == picked


def test_many_small_records_fill_a_repair_to_its_end() -> None:
    state = WorldState()
    state.apply(Frame(2, 5, [Record(key, b"abcd") for key in range(200)]))
    keys, message = SharedRepairs(state).next(stale_of(state, *range(200)), 1_200)
    assert len(keys) == (1_200 - HEADER) // 16
    assert 1_200 - 16 < len(message) <= 1_200


@pytest.mark.parametrize("size", [HEADER + 12, HEADER, 15, 0])
def test_without_a_stride_too_one_comes_alone_where_not_even_that_fits(size: int) -> None:
    state = WorldState()
    state.apply(Frame(2, 5, [Record(1, b"abcd"), Record(2, b"abcd")]))
    keys, message = SharedRepairs(state).next(stale_of(state, 1, 2), size)
    assert (keys, decode_frame(message).records) == ((1,), [Record(1, b"abcd", 5)])


def test_what_is_shared_for_a_large_message_is_not_taken_for_a_small_one() -> None:
    state = strided(1)
    state.apply(Frame(2, 6, [Record(key, bytes(100)) for key in (7, 8)]))
    repairs = SharedRepairs(state)
    repairs.begin()
    assert repairs.next(stale_of(state, 7, 8), 1_000)[0] == (7, 8)
    keys, message = repairs.next(stale_of(state, 7, 8), HEADER + 150)
    assert (keys, len(message) <= HEADER + 150) == ((7,), True)


def test_what_is_younger_is_said_with_its_removals_and_what_is_as_old_is_not() -> None:
    state = WorldState()
    state.apply(Frame(2, 5, [Record(key, b"old") for key in (1, 2, 3, 4)]))
    state.apply(Frame(2, 6, [Record(3, None)]))
    since = state.order
    state.apply(Frame(2, 7, [Record(1, b"new"), Record(4, None)]))
    keys, messages = encode_since(state, since)
    assert keys == (1, 4)
    assert [decode_frame(message).records for message in messages] == [
        [Record(1, b"new", 7), Record(4, None, 7)]
    ]
    assert encode_since(state, state.order) == ((), [])


def test_what_is_younger_is_said_once_in_messages_within_their_bound() -> None:
    state = WorldState()
    state.apply(Frame(2, 5, [Record(key, bytes(1_000)) for key in range(150)]))
    keys, messages = encode_since(state, 0)
    assert keys == tuple(range(150))
    assert [key for message in messages for key in decode_frame(message).keys] == list(keys)
    full = (REPAIR_STREAM_MESSAGE_BYTES - HEADER) // 1_012
    assert [len(decode_frame(message).keys) for message in messages] == [full, full, 150 - 2 * full]


def test_removals_which_are_their_heads_alone_fill_a_repair() -> None:
    """Twelve bytes each: as many keys are looked at as fit."""
    state = WorldState()
    keys = range(5_000)
    state.apply(Frame(1, 1, [Record(key, b"here") for key in keys]))
    state.apply(Frame(1, 2, [Record(key, None) for key in keys]))
    gone, message = SharedRepairs(state).next(stale_of(state, *keys), HEADER + 100 * 12)
    assert (gone, len(message)) == (tuple(range(100)), HEADER + 100 * 12)
    gone, messages = encode_since(state, 1)
    assert (len(gone), len(messages)) == (5_000, 1)
    assert len(messages[0]) <= REPAIR_STREAM_MESSAGE_BYTES
