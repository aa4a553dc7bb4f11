"""Who waits for a reader, in which order, and what is kept in common for all who are behind."""

from __future__ import annotations

import tracemalloc

import pytest

from gateway.core.late import LateLog
from gateway.core.slots import Slots, bits_of, numbers_of
from gateway.core.stale import StaleSet
from gateway.core.state import WorldState
from gateway.limits import (
    LATE_MESSAGES_MAX,
    LATE_SETS_MAX,
    SLOT_KEYS_CACHED_MAX,
    SLOT_SETS_CACHED_MAX,
    SLOTS_SPARE_MAX,
    STALE_MOVED_MAX,
)
from gateway.wire import Frame, Record


def slots_of(*keys: int) -> Slots:
    """Slots in which these keys have theirs."""
    slots = Slots(WorldState())
    for key in keys:
        slots.number(key)
    return slots


def keys_of(slots: Slots, bits: int) -> list[int]:
    return [slots.keys[number] for number in numbers_of(bits)]


def one_by_one(stale: StaleSet) -> list[int]:
    """What goes out while one key goes at a time."""
    sent = []
    while stale:
        key = next(stale.urgent(1))
        stale.served([key])
        sent.append(key)
    return sent


def outgrow(slots: Slots) -> None:
    """Give slots to keys that nobody has, until they are too many."""
    for key in range(1_000_000, 1_000_000 + 2 * SLOTS_SPARE_MAX):
        slots.number(key)


# --- sets of slots ----------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 1, 6, 7, 8, 32, 33, 300])
@pytest.mark.parametrize("first", [0, 1, 7, 8, 255])
@pytest.mark.parametrize("step", [1, 7, 64])
def test_slots_in_any_number_are_a_set_and_come_out_of_it(count: int, first: int, step: int) -> None:
    numbers = list(range(first, first + count * step, step))
    assert bits_of(numbers) == bits_of(numbers[::-1]) == sum(1 << number for number in numbers)
    assert numbers_of(bits_of(numbers)) == numbers


def test_a_list_that_comes_again_is_made_once_if_it_is_short() -> None:
    slots = Slots(WorldState())
    short, long = tuple(range(SLOT_KEYS_CACHED_MAX)), tuple(range(SLOT_KEYS_CACHED_MAX + 1))
    assert slots.bits(short) is slots.bits(short)
    assert slots.bits(long) is not slots.bits(long)


@pytest.mark.parametrize(("lists", "kept"), [(SLOT_SETS_CACHED_MAX, True), (SLOT_SETS_CACHED_MAX + 1, False)])
def test_so_many_lists_are_remembered(lists: int, kept: bool) -> None:
    slots = slots_of(*range(10_000))
    first = slots.bits((9_000, 0))
    for key in range(1, lists):
        slots.bits((9_000, key))
    assert (slots.bits((9_000, 0)) is first) is kept


def test_slots_begin_anew_once_they_are_more_than_twice_the_records_and_some() -> None:
    state = WorldState()
    state.apply(Frame(1, 1, [Record(key, b"") for key in range(5)]))
    state.apply(Frame(1, 2, [Record(key, None) for key in range(2)]))
    assert (len(state.records), len(state.tombstones)) == (3, 2)
    slots = Slots(state)
    old = slots.keys
    for key in range(2 * 5 + SLOTS_SPARE_MAX):
        assert slots.number(key) == key
    made = slots.bits((70, 5))
    slots.tidy()
    assert (slots.generation, slots.keys) == (0, old)
    slots.number(1_000_000)
    slots.tidy()
    assert (slots.generation, slots.keys) == (1, [])
    assert len(old) == 2 * 5 + SLOTS_SPARE_MAX + 1
    assert slots.bits((70, 5)) == 0b11 != made
    assert slots.number(5) == 1


# --- what waits for one reader ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("weights", "order"),
    [
        ({}, [1, 2, 3, 4, 7, 8]),
        ({7: 4.0, 8: 4.0}, [7, 1, 8, 2, 3, 4]),
        ({7: 64.0, 8: 64.0}, [7, 8, 1, 2, 3, 4]),
        ({7: 0.25, 8: 0.25}, [1, 2, 3, 4, 7, 8]),
        ({1: 2.0, 7: 4.0}, [2, 7, 3, 1, 4, 8]),
    ],
)
def test_classes_get_their_shares_by_weight_and_by_how_many_wait(
    weights: dict[int, float], order: list[int]
) -> None:
    stale = StaleSet(slots_of(1, 2, 3, 4, 7, 8), weights)
    stale.add((1, 2, 3, 4, 7, 8))
    assert stale.weights == {key: weight for key, weight in weights.items() if weight != 1}
    assert list(stale.urgent(9)) == order
    assert len(stale) == 6
    stale.served(order[:2])
    assert sorted(stale) == sorted(order[2:])
    assert len(stale) == 4
    assert order[0] not in stale
    assert order[-1] in stale


def test_a_class_that_had_its_share_waits_for_the_others_to_have_theirs() -> None:
    stale = StaleSet(slots_of(1, 2, 3, 4, 7, 8), {7: 4.0, 8: 4.0})
    sent = []
    for _ in range(12):
        stale.add((1, 2, 3, 4, 7, 8))
        key = next(stale.urgent(1))
        stale.served([key])
        sent.append(key)
    assert sent == [7, 1, 8, 7, 2, 8, 7, 3, 8, 7, 4, 8], "two keys of four times the weight: two of three"


def test_what_one_class_did_not_ask_for_is_not_owed_to_it_later() -> None:
    stale = StaleSet(slots_of(1, 2, 7, 8), {7: 4.0, 8: 4.0})
    for _ in range(50):
        stale.add((7, 8))
        stale.served(list(stale.urgent(2)))
    stale.add((1, 2, 7, 8))
    assert list(stale.urgent(9)) == [7, 8, 1, 2]
    stale.served([7, 8, 1, 2])
    assert not stale


def test_up_to_so_many_of_each_class_are_offered() -> None:
    stale = StaleSet(slots_of(*range(9)), {8: 4.0})
    stale.add(tuple(range(9)))
    assert list(stale.urgent(3)) == [0, 1, 8, 2]
    single = StaleSet(slots_of(*range(9)))
    single.add(tuple(range(9)))
    assert list(single.urgent(3)) == [0, 1, 2]
    single.clear()
    assert (list(single), len(single), bool(single)) == ([], 0, False)


@pytest.mark.parametrize(
    ("waiting", "order"),
    [
        (STALE_MOVED_MAX, [3, -1, 0, 1, 2, 4]),
        (STALE_MOVED_MAX + 1, [0, 1, 2, 3, 4, 5]),
    ],
)
def test_what_was_lost_is_moved_to_the_front_of_so_many_that_wait(waiting: int, order: list[int]) -> None:
    keys = tuple(range(waiting))
    stale = StaleSet(slots_of(*keys))
    stale.add(keys)
    stale.add_first((3, -1, 3))
    assert list(stale.urgent(6)) == order
    waits = list(stale)
    assert sorted(waits) == [-1, *keys]
    assert len(stale) == waiting + 1


def test_a_queue_that_is_served_for_long_keeps_no_more_than_what_waits() -> None:
    stale = StaleSet(slots_of(*range(100)))
    keys = tuple(range(100))
    tracemalloc.start()
    try:
        for _ in range(2_000):
            stale.add(keys)
            stale.served(list(stale.urgent(100)))
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 100_000, "200,000 slots of four bytes went through"
    stale.add((5, 3))
    assert list(stale) == [3, 5]


def test_new_weights_are_told_and_what_waits_goes_by_them() -> None:
    stale = StaleSet(slots_of(1, 2, 3), {1: 4.0})
    stale.add((1, 2, 3))
    stale.set_weights({3: 2.0, 2: 1.0})
    assert stale.weights == {3: 2.0}
    assert one_by_one(stale) == [2, 3, 1]


def test_keys_that_come_and_go_make_slots_begin_anew_under_a_set_that_waits() -> None:
    slots = Slots(WorldState())
    stale = StaleSet(slots, {2: 4.0})
    stale.add((9, 2, 5))
    outgrow(slots)
    stale.add((7,))
    assert slots.generation == 1
    assert list(stale) == [9, 5, 7, 2]
    outgrow(slots)
    stale.add_first((5, 7, 2, 4))
    assert slots.generation == 2
    assert list(stale) == [5, 7, 4, 9, 2]
    stale.add((9, 4))
    assert len(stale) == 5
    outgrow(slots)
    slots.tidy()
    stale.set_weights({})
    assert sorted(stale) == [2, 4, 5, 7, 9]
    assert one_by_one(stale) == [5, 7, 4, 9, 2]
    assert not stale


# --- what changed while some were behind ----------------------------------------------------------


def log_of(*messages: tuple[int, ...]) -> LateLog:
    log = LateLog(slots_of(*range(300)))
    for keys in messages:
        log.passed(keys)
    return log


def test_messages_that_nobody_looks_at_are_kept_up_to_a_bound_and_then_as_one_set() -> None:
    log = log_of(*[(1,)] * LATE_MESSAGES_MAX)
    assert log.number == LATE_MESSAGES_MAX
    assert len(log) == 1
    log.passed((2,))
    assert len(log) == 2
    assert keys_of(log.slots, log.since(LATE_MESSAGES_MAX)) == [2]
    assert keys_of(log.slots, log.since(LATE_MESSAGES_MAX - 1)) == [1, 2]


def test_a_message_of_no_keys_counts_and_is_not_kept() -> None:
    log = log_of((1,), (), ())
    assert log.number == 3
    log.forget(3)
    assert len(log) == 0


def test_what_many_ask_for_is_made_once_until_something_comes() -> None:
    log = log_of((1, 270))
    first = log.since(0)
    assert log.since(0) is first
    log.passed((3,))
    assert keys_of(log.slots, log.since(0)) == [1, 3, 270]


def test_what_everybody_has_taken_is_forgotten_and_nothing_else() -> None:
    log = log_of((1, 270))
    log.since(0)
    log.passed((2,))
    log.since(0)
    assert len(log) == 2
    log.forget(0)
    assert len(log) == 2
    log.forget(1)
    assert (len(log), keys_of(log.slots, log.since(0))) == (1, [2])
    log.passed((3,))
    log.forget(2)
    assert (len(log), keys_of(log.slots, log.since(2))) == (1, [3])
    assert keys_of(log.slots, log.since(0)) == [3]


def test_what_came_since_the_last_look_is_forgotten_once_all_have_it() -> None:
    log = log_of((1,), (2,))
    log.forget(1)
    assert len(log) == 1
    log.forget(2)
    assert len(log) == 0
    assert log.since(0) == 0


@pytest.mark.parametrize(("sets", "exact"), [(LATE_SETS_MAX, True), (LATE_SETS_MAX + 1, False)])
def test_so_many_sets_are_kept_apart_and_then_the_oldest_two_become_one(sets: int, exact: bool) -> None:
    log = log_of()
    for key in range(sets):
        log.passed((key,))
        log.since(key)
    assert len(log) == LATE_SETS_MAX
    assert keys_of(log.slots, log.since(1)) == list(range(1 if exact else 0, sets))
    assert keys_of(log.slots, log.since(2)) == list(range(2, sets))


def test_a_log_goes_on_over_slots_that_began_anew() -> None:
    log = log_of((7, 270))
    before = keys_of(log.slots, log.since(0))
    outgrow(log.slots)
    log.slots.tidy()
    assert sorted(keys_of(log.slots, log.since(0))) == before
    outgrow(log.slots)
    log.slots.tidy()
    log.passed((3,))
    assert sorted(keys_of(log.slots, log.since(0))) == [3, 7, 270]
    assert keys_of(log.slots, log.since(1)) == [3]
