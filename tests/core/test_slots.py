"""Keys as slots, sets of them as integers, and the log that readers catch up from."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.core.late import LateLog
from gateway.core.slots import Slots, bits_of, numbers_of
from gateway.core.stale import StaleSet
from gateway.core.state import WorldState
from gateway.limits import LATE_SETS_MAX, SLOT_SETS_CACHED_MAX, SLOTS_SPARE_MAX
from tests.held import count


def keys_of(slots: Slots, bits: int) -> list[int]:
    return [slots.keys[number] for number in numbers_of(bits)]


@given(st.sets(st.integers(0, 5_000), max_size=300))
def test_a_set_of_slots_is_what_it_was_made_of(numbers: set[int]) -> None:
    assert numbers_of(bits_of(sorted(numbers))) == sorted(numbers)


def test_a_key_keeps_its_slot_and_a_list_of_keys_is_the_same_set_however_long() -> None:
    slots = Slots(WorldState())
    assert keys_of(slots, slots.bits((9, 3, 7))) == [9, 3, 7]
    many = tuple(range(1_000))
    assert sorted(keys_of(slots, slots.bits(many))) == list(many)
    assert slots.bits((3,)) == slots.bits((3, 3)) == 1 << 1


def test_remembered_lists_of_keys_are_bounded() -> None:
    slots = Slots(WorldState())
    before = count(slots, kind=tuple)
    for key in range(10 * SLOT_SETS_CACHED_MAX):
        slots.bits((key, key + 1))
    assert 0 < count(slots, kind=tuple) - before <= SLOT_SETS_CACHED_MAX


def test_slots_of_keys_that_are_gone_are_given_anew_and_what_waits_keeps_its_order() -> None:
    slots = Slots(WorldState())
    stale, other, log = StaleSet(slots, {5: 4.0}), StaleSet(slots), LateLog(slots)
    stale.add((8, 5, 2))
    stale.add((1,))
    other.add((2,))
    log.passed((4, 2))
    log.since(0)
    for key in range(100, 100 + 2 * SLOTS_SPARE_MAX):
        slots.number(key)
    slots.tidy()
    assert slots.generation == 1
    assert len(slots.keys) == 0
    other.add((1,))
    stale.add_bits(log.since(0))
    assert list(stale) == [8, 2, 1, 4, 5]
    assert list(other) == [2, 1]
    assert len(slots.keys) == 5


def test_a_reader_takes_from_the_log_what_came_after_its_last_look() -> None:
    slots = Slots(WorldState())
    log = LateLog(slots)
    log.passed((1, 2))
    log.passed_all(1)
    first = log.number
    assert keys_of(slots, log.since(0)) == [1, 2]
    log.passed((2, 3))
    assert keys_of(slots, log.since(first)) == [2, 3]
    assert keys_of(slots, log.since(0)) == [1, 2, 3]
    assert log.since(log.number) == 0
    log.forget(first)
    assert keys_of(slots, log.since(0)) == [2, 3]
    log.forget(log.number)
    assert len(log) == 0


def test_a_log_that_somebody_never_reads_stays_short_and_says_rather_too_much() -> None:
    slots = Slots(WorldState())
    log = LateLog(slots)
    for key in range(3 * LATE_SETS_MAX):
        log.passed((key,))
        log.since(log.number - 1)
    assert len(log) <= LATE_SETS_MAX
    assert set(keys_of(slots, log.since(0))) == set(range(3 * LATE_SETS_MAX))
    assert set(keys_of(slots, log.since(10))) >= set(range(10, 3 * LATE_SETS_MAX))


def test_what_was_lost_goes_first_and_once() -> None:
    stale = StaleSet(Slots(WorldState()), {4: 8.0})
    stale.add((1, 2, 3, 4, 5))
    stale.served(list(stale.urgent(1)))
    stale.add_first((3, 9, 4))
    assert sorted(stale) == [2, 3, 4, 5, 9]
    assert [key for key in stale if key != 4] == [3, 9, 2, 5]
    sent = []
    while stale:
        keys = [next(stale.urgent(1))]
        stale.served(keys)
        sent += keys
    assert sorted(sent) == sorted(set(sent))


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("add"), st.lists(st.integers(0, 30), max_size=12)),
            st.tuples(st.just("first"), st.lists(st.integers(0, 30), max_size=12)),
            st.tuples(st.just("serve"), st.lists(st.integers(1, 9), min_size=1, max_size=1)),
        ),
        max_size=30,
    )
)
def test_without_weights_it_is_a_queue_that_holds_each_key_once(steps: list[tuple[str, list[int]]]) -> None:
    slots = Slots(WorldState())
    for key in range(31):
        slots.number(key)
    stale, queue = StaleSet(slots), list[int]()
    for step, values in steps:
        keys = tuple(values)
        if step == "add":
            stale.add(keys)
            queue += sorted({*keys} - {*queue})
        elif step == "first":
            stale.add_first(keys)
            queue = [*dict.fromkeys(keys), *(key for key in queue if key not in keys)]
        else:
            served = list(stale.urgent(values[0]))
            assert served == queue[: values[0]]
            stale.served(served)
            del queue[: len(served)]
        assert list(stale) == queue
        assert (len(stale), bool(stale)) == (len(queue), bool(queue))
