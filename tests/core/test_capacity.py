"""A world's state has bounds: at them all is taken, beyond them new records are left out, told, and the rest is sound."""

from __future__ import annotations

import random

import pytest

from gateway.core.capacity import Capacity, held_bytes
from gateway.core.state import WorldState
from gateway.core.world import World, WorldSettings
from gateway.limits import CAPACITY_RECOUNT_MESSAGES, RECORD_HELD_BYTES
from gateway.wire import Frame, Record, decode_frame, encode_frame
from tests.core.links import RecordingLink
from tests.held import longest


def taken(state: WorldState, tick: int, records: dict[int, bytes | None], **more: int) -> tuple[int, ...]:
    rows = [Record(key, data) for key, data in records.items()]
    return state.apply(decode_frame(encode_frame(Frame(1, tick, rows, **more)))).changed


def bounded(records_max: int = 100, bytes_max: int = 10_000) -> tuple[WorldState, Capacity]:
    capacity = Capacity(records_max, bytes_max)
    return WorldState(capacity), capacity


def test_at_the_bound_of_records_all_are_taken_and_one_more_is_left_out() -> None:
    state, capacity = bounded(records_max=10)
    assert len(taken(state, 1, dict.fromkeys(range(10), b"a"))) == 10
    assert taken(state, 2, {0: b"b", 10: b"b", 9: b"b"}) == (0, 9)
    assert (len(state), capacity.refused, capacity.is_short_of_bytes) == (10, 1, False)
    assert state.snapshot()[9] == b"b"


def test_at_the_bound_of_bytes_all_are_taken_and_one_more_byte_is_left_out() -> None:
    state, capacity = bounded(bytes_max=10 * (RECORD_HELD_BYTES + 8))
    assert len(taken(state, 1, {key: bytes(8) for key in range(10)})) == 10
    assert taken(state, 2, {0: bytes(9), 1: b"12345678", 2: b"less"}) == (1, 2)
    assert (capacity.refused, capacity.is_short_of_bytes) == (1, True)
    assert state.snapshot()[0] == bytes(8)


def test_what_is_removed_gives_room_again() -> None:
    state, _ = bounded(records_max=10, bytes_max=10 * (RECORD_HELD_BYTES + 100))
    taken(state, 1, {key: bytes(100) for key in range(10)})
    assert taken(state, 2, {10: b"x"}) == ()
    taken(state, 3, {0: None})
    for tick in range(4, 80):  # a state that is nearly full is counted anew now and then
        taken(state, tick, {10: bytes(100)})
    assert state.get(10) is not None


def test_a_stride_frame_that_finds_no_room_is_taken_in_part() -> None:
    state, capacity = bounded(records_max=5)
    records: dict[int, bytes | None] = {key: key.to_bytes(4, "little") + b"data" for key in range(8)}
    assert taken(state, 1, records, stride=8) == (0, 1, 2, 3, 4)
    assert taken(state, 2, records, stride=8) == (0, 1, 2, 3, 4)
    assert capacity.refused == 6


@pytest.mark.parametrize("seed", range(8))
def test_no_order_of_messages_brings_a_state_far_over_its_bounds(seed: int) -> None:
    """Late ones, shrinking ones and ones of the same keys try to make the count too low."""
    rng = random.Random(seed)
    state, capacity = bounded(records_max=200, bytes_max=20_000)
    for step in range(3_000):
        tick = step + 1 if rng.random() < 0.8 else rng.randrange(1, step + 2)
        keys = rng.sample(range(400), rng.randrange(1, 12))
        if rng.random() < 0.4:
            size = rng.choice((8, 200))
            taken(state, tick, {k: k.to_bytes(4, "little") + bytes(size - 4) for k in keys}, stride=size)
        else:
            taken(state, tick, {k: rng.choice((None, bytes(rng.randrange(400)))) for k in keys})
        assert len(state) <= capacity.records_max
        assert held_bytes(state.records) <= capacity.bytes_max + 12 * 200
    assert capacity.refused


def test_a_publisher_is_told_once_a_second_that_its_world_is_full_and_stays() -> None:
    world = World("w", WorldSettings(records_max=3), mono=100.0, now_us=0)
    link = RecordingLink()
    session = world.attach_publisher(link, 1, 100.0)
    for tick in range(1, 100):
        session.on_message(
            encode_frame(Frame(0, tick, [Record(k, b"v") for k in range(tick, tick + 5)])), 100.0 + tick / 60
        )
    notices = [m for m in link.controls if m.type == "notice"]
    assert 2 <= len(notices) <= 3
    told = notices[0].fields
    assert (told["code"], told["bound"], told["limit"]) == ("world_full", "records_per_world_max", 3)
    assert "--records-per-world-max" in str(told["message"])
    assert world.counters.records_refused > 100
    assert world.refusals.counts["records_per_world_max"] == 99
    assert not session.closed
    assert len(world.state) == 3


def test_removals_of_keys_that_never_were_grow_nothing_in_a_keyframe_without_end() -> None:
    state, capacity = bounded(records_max=100)
    held = []
    for part in range(2_000):
        rows = [Record(part * 50 + n, None) for n in range(50)]
        state.apply(decode_frame(encode_frame(Frame(1, 1, rows, keyframe=True, part=part, parts=60_000))))
        held.append(longest(state, kind=set))
        assert held[-1] <= 2 * capacity.records_max + 50
    assert max(held) > 100, "it has keys"


SIZE = RECORD_HELD_BYTES + 100


def of_records(**counts: int) -> tuple[Capacity, dict[int, tuple[int, bytes]]]:
    """A capacity for ten records of 100 bytes, and a state that took so many of them."""
    capacity, held = Capacity(counts.get("records_max", 1_000), 10 * SIZE), counts["held"]
    assert capacity.misfits({}, range(held), [bytes(100)] * held) is None
    return capacity, {key: (1, bytes(100)) for key in range(held)}


def test_what_records_count_for_is_their_bytes_and_so_many_for_each() -> None:
    assert held_bytes({}) == 0
    assert held_bytes({1: (5, b"abc"), 2: (6, b"")}) == 3 + 2 * RECORD_HELD_BYTES


@pytest.mark.parametrize(("held", "fits"), [(8, 2), (9, 1), (10, 0)])
def test_of_new_records_those_that_fit_are_taken_and_the_rest_is_named_by_its_place(
    held: int, fits: int
) -> None:
    capacity, records = of_records(held=held)
    misfits = capacity.misfits(records, (50, 51, 52), [bytes(100)] * 3)
    assert misfits == frozenset(range(fits, 3))
    assert (capacity.refused, capacity.is_short_of_bytes) == (3 - fits, True)


def test_a_record_twice_in_one_message_counts_by_how_much_it_grows() -> None:
    capacity, records = of_records(held=9)
    keys, values = (50, 50, 50, 50), [bytes(60), bytes(100), bytes(101), bytes(90)]
    assert capacity.misfits(records, keys, values) == {2}


def test_a_removal_has_always_room() -> None:
    capacity, records = of_records(held=10)
    assert capacity.misfits(records, (1, 50, 2), [None, bytes(100), None]) == {1}


def test_at_the_bound_of_records_only_new_ones_are_too_many() -> None:
    capacity, records = of_records(held=4, records_max=5)
    assert capacity.misfits(records, (0, 50, 51, 1), [bytes(100)] * 4) == {2}
    assert (capacity.refused, capacity.is_short_of_bytes) == (1, False)
    assert capacity.misfits(records, (0, 1, 2, 3, 50), [b"a"] * 5) is None


def test_what_only_renews_the_state_is_never_refused_however_often_it_comes() -> None:
    capacity, records = of_records(held=8)
    for _ in range(1_000):
        assert capacity.misfits(records, tuple(range(8)), [bytes(100)] * 8) is None
    assert capacity.refused == 0


def test_a_state_that_became_smaller_has_room_after_some_messages_and_not_before() -> None:
    capacity, records = of_records(held=10)
    assert capacity.misfits(records, (50,), [bytes(100)]) == {0}
    del records[0]
    tries = 0
    while capacity.misfits(records, (50,), [bytes(100)]) is not None:
        tries += 1
    assert tries == CAPACITY_RECOUNT_MESSAGES - 1
    assert capacity.refused == tries + 1


def test_a_message_of_exactly_the_room_that_is_left_is_taken_and_one_byte_more_is_not() -> None:
    for more, misfits in ((0, None), (1, {0})):
        capacity, records = of_records(held=0)
        assert capacity.misfits(records, (1,), [bytes(10 * SIZE - RECORD_HELD_BYTES + more)]) == misfits


def test_before_anything_is_refused_nothing_was_for_its_bytes() -> None:
    assert (Capacity(1, 1).refused, Capacity(1, 1).is_short_of_bytes) == (0, False)


def test_what_was_only_renewed_takes_no_room_from_what_is_new() -> None:
    """The count of bytes rises with every message; where a record too many comes it is made anew first."""
    capacity, records = of_records(held=2, records_max=4)
    for _ in range(4):
        assert capacity.misfits(records, (0, 1), [bytes(100)] * 2) is None
    assert capacity.misfits(records, (50, 51, 52), [bytes(100)] * 3) == {2}


@pytest.mark.parametrize(("more", "is_near"), [(0, False), (1, True)])
def test_a_state_that_is_an_eighth_from_its_bound_has_room_again_at_once_and_a_fuller_one_later(
    more: int, is_near: bool
) -> None:
    """Near the bound what became smaller gives room once the state is counted anew."""
    capacity = Capacity(1_000, 8 * SIZE)
    records = {key: (1, bytes(100)) for key in range(7)}
    records[0] = (1, bytes(100 + more))
    keys, values = tuple(records), [data for _, data in records.values()]
    assert capacity.misfits({}, keys, values) is None
    assert capacity.misfits(records, (50,), [bytes(200)]) == {0}
    for key in range(5):
        del records[key]
    assert (capacity.misfits(records, (51, 52), [bytes(100)] * 2) is not None) is is_near
