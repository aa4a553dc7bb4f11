"""The parts a reader is made of: the sent window, the stale set, the budget, shared pieces."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import limits
from gateway.core.budget import Budget
from gateway.core.newest import encode_newest, pick
from gateway.core.outgoing import Outgoing
from gateway.core.outlet import Outlet
from gateway.core.slots import Slots
from gateway.core.stale import StaleSet, weight_class
from gateway.core.state import WorldState
from gateway.core.window import SentWindow
from gateway.limits import OUTSTANDING_MAX, PIECE_SIZES_CACHED_MAX
from gateway.wire import Frame, Record, decode_frame, encode_frame
from tests.core.links import RecordingLink
from tests.held import count, longest

# --- the window -------------------------------------------------------------------------


def test_a_lost_message_names_the_keys_of_which_nothing_newer_is_on_its_way() -> None:
    window = SentWindow()
    window.add((1, 2, 3))
    window.add((2,))
    window.add((3,))
    window.acked(2)
    assert window.lost(0) == (1,)


def test_a_later_message_that_was_lost_too_does_not_count_as_on_its_way() -> None:
    window = SentWindow()
    for _ in range(3):
        window.add((1,))
    assert window.lost(0) == ()
    assert window.lost(2) == (1,)
    assert window.lost(1) == (1,)


def test_tokens_are_settled_once_and_unknown_ones_are_nothing() -> None:
    window = SentWindow()
    window.add((1,))
    window.acked(0)
    assert window.lost(0) == ()
    assert window.lost(99) == ()
    window.acked(99)
    assert len(window) == 0
    assert window.next_token == 1


@given(st.lists(st.sets(st.integers(0, 4), max_size=3).map(tuple), min_size=1, max_size=12), st.data())
def test_every_key_ends_up_arrived_or_reported(sent: list[tuple[int, ...]], data: st.DataObject) -> None:
    window = SentWindow()
    for keys in sent:
        assert window.next_token == len(window) + window.oldest
        window.add(keys)
    fates = {token: data.draw(st.booleans()) for token in range(len(sent))}
    reported: set[int] = set()
    for token in data.draw(st.permutations(range(len(sent)))):
        if fates[token]:
            window.acked(token)
        else:
            reported.update(window.lost(token))
    for key in {key for keys in sent for key in keys}:
        last = max(token for token, keys in enumerate(sent) if key in keys)
        assert fates[last] or key in reported
    assert len(window) == 0
    assert longest(window) == 0


@pytest.mark.parametrize("count", [1, 5])
def test_what_is_acknowledged_before_it_was_sent_counts_for_nothing(count: int) -> None:
    window = SentWindow()
    window.acked(3, count)
    for key in range(10):
        window.add((key,))
    assert [window.lost(token) for token in range(10)] == [(key,) for key in range(10)]


def test_an_acknowledgement_of_more_than_was_sent_settles_what_was_and_nothing_later() -> None:
    window = SentWindow()
    for key in range(3):
        window.add((key,))
    window.acked(0, 5)
    assert (len(window), window.next_token) == (0, 3)
    window.add((7,))
    window.add((8,))
    assert (window.lost(3), window.lost(4)) == ((7,), (8,))


def test_several_are_acknowledged_in_the_middle_and_the_others_are_still_to_be_lost() -> None:
    window = SentWindow()
    for key in range(6):
        window.add((key,))
    window.acked(2, 3)
    assert [window.lost(token) for token in range(6)] == [(0,), (1,), (), (), (), (5,)]
    window.add((9,))
    window.acked(6, 1)
    assert len(window) == 0


# --- the outlet -------------------------------------------------------------------------


def outlet_of(told: list[tuple[int, ...]], link: RecordingLink | None = None) -> Outlet:
    return Outlet(WorldState(), link or RecordingLink(), None, told.append)


def test_what_is_outstanding_beyond_the_bound_counts_as_lost_the_oldest_first() -> None:
    told: list[tuple[int, ...]] = []
    outlet = outlet_of(told)
    for key in range(OUTSTANDING_MAX):
        assert outlet.send(b"message", (key,))
    assert told == []
    assert outlet.send(b"message", (OUTSTANDING_MAX,))
    assert told == [(0,)]
    outlet.remember_all(((OUTSTANDING_MAX + 1,), (OUTSTANDING_MAX + 2,)))
    assert told == [(0,), (1,), (2,)]
    assert len(outlet.window) == OUTSTANDING_MAX


def test_a_stream_that_outlasts_the_bound_is_not_lost_and_no_longer_counted() -> None:
    told: list[tuple[int, ...]] = []
    outlet = outlet_of(told)
    assert outlet.send_stream([b"large"], (7,), 5, 0.0)
    for _ in range(OUTSTANDING_MAX):
        assert outlet.send(b"message", (1,))
    assert told == []
    assert len(outlet.window) == OUTSTANDING_MAX
    assert len(outlet.streams) == 1


def test_a_link_that_loses_nothing_has_nothing_outstanding() -> None:
    told: list[tuple[int, ...]] = []
    outlet = outlet_of(told, RecordingLink(lossy=False))
    for _ in range(2 * OUTSTANDING_MAX):
        outlet.send(b"message", (1,))
    outlet.remember_all(((1,), (2,)))
    assert (len(outlet.window), told) == (0, [])
    assert outlet.messages == 2 * OUTSTANDING_MAX + 2


# --- the stale set ----------------------------------------------------------------------


def test_what_has_waited_longest_goes_first_and_waiting_again_keeps_its_place() -> None:
    stale = StaleSet(Slots(WorldState()))
    stale.add((1, 2))
    stale.add((3, 1))
    assert list(stale.urgent(9)) == [1, 2, 3]
    stale.served([1])
    stale.add((1,))
    assert list(stale.urgent(9)) == [2, 3, 1]
    assert list(stale.urgent(2)) == [2, 3]


def test_a_weight_buys_a_share_and_starves_nobody() -> None:
    stale = StaleSet(Slots(WorldState()), {7: 8.0})
    sent = dict.fromkeys(range(16), 0)
    for _ in range(1_000):
        stale.add(tuple(range(16)))
        first = next(stale.urgent(1))
        stale.served([first])
        sent[first] += 1
    others = [count for key, count in sent.items() if key != 7]
    assert min(others) > 0
    assert max(others) - min(others) <= 1
    assert 6 <= sent[7] / max(others) <= 10


def test_new_weights_keep_what_waits() -> None:
    stale = StaleSet(Slots(WorldState()), {1: 4.0})
    stale.add((1, 2, 3))
    stale.set_weights({3: 64.0})
    assert len(stale) == 3
    assert next(stale.urgent(1)) == 3
    stale.served([3])
    assert 3 not in stale
    stale.clear()
    assert not stale


@pytest.mark.parametrize(("weight", "exponent"), [(1, 0), (1.2, 0), (4, 2), (0.25, -2), (1e6, 6), (1e-9, -6)])
def test_weights_are_rounded_to_powers_of_two(weight: float, exponent: int) -> None:
    assert weight_class(weight) == exponent


# --- the budget -------------------------------------------------------------------------


def test_a_budget_fills_by_its_rate_up_to_its_burst() -> None:
    budget = Budget(8, 0.0, 1_100)
    assert budget.refill(10.0) == 1_000 * limits.BUDGET_BURST_S
    budget.spend(600)
    assert budget.refill(10.25) == pytest.approx(1_000 * (limits.BUDGET_BURST_S + 0.25) - 600)


def test_a_budget_says_when_it_will_have_earned_a_message_or_all_that_waits() -> None:
    budget = Budget(8, 0.0, 200)
    budget.spend(budget.level)
    assert budget.allows(0.0, 1_000) == 0
    assert budget.allows_at(1_000) == pytest.approx(0.2)
    assert budget.allows_at(50) == pytest.approx(0.05)
    assert budget.allows(0.05, 50) == pytest.approx(50)
    assert budget.allows(0.05, 1_000) == 0
    assert budget.allows(0.201, 1_000) > 200


def test_debt_is_bounded() -> None:
    budget = Budget(8, 0.0, 1_100)
    budget.spend(1_000_000)
    assert budget.level == -1_000 * limits.BUDGET_DEBT_S_MAX


# --- pieces and newest values -----------------------------------------------------------


def outgoing(count: int, **how: object) -> Outgoing:
    frame = Frame(1, 5, [Record(key, bytes(50)) for key in range(count)], **how)  # type: ignore[arg-type]
    message = encode_frame(frame)
    return Outgoing(decode_frame(message), message, tuple(range(count)))


def test_pieces_hold_each_record_once_and_are_made_once_for_each_size() -> None:
    out = outgoing(50)
    pieces = out.pieces(500)
    assert out.pieces(500) is pieces
    assert [key for _, keys in pieces for key in keys] == list(range(50))
    for message, keys in pieces:
        assert len(message) <= 500
        assert decode_frame(message).keys == keys
    assert out.pieces(100_000)[0][0] is out.message


def test_a_keyframe_that_is_cut_again_is_no_longer_one() -> None:
    assert not any(decode_frame(message).keyframe for message, _ in outgoing(50, keyframe=True).pieces(500))


def test_sizes_of_pieces_remembered_are_bounded() -> None:
    out = outgoing(20)
    made = {size: out.pieces(size) for size in range(200, 300)}
    remembered = [size for size in reversed(made) if out.pieces(size) is made[size]]
    assert 0 < len(remembered) <= PIECE_SIZES_CACHED_MAX
    assert count(out, kind=list) <= PIECE_SIZES_CACHED_MAX + 5


def test_a_compressed_message_has_a_plain_form_for_readers_that_did_not_ask() -> None:
    out = outgoing(50, zstd=True, keyframe=True, part=1, parts=3)
    plain = decode_frame(out.message)
    assert not plain.zstd
    assert decode_frame(out.packed).zstd
    assert plain.records == decode_frame(out.packed).records
    assert (plain.keyframe, plain.part, plain.parts) == (True, 1, 3)


def test_newest_values_fill_a_message_and_a_large_record_goes_alone() -> None:
    state = WorldState()
    records = [Record(0, bytes(900)), *(Record(key, bytes(100)) for key in range(1, 20))]
    state.apply(Frame(1, 5, records))
    assert pick(state, iter(range(20)), 500) == (0,)
    picked = pick(state, iter(range(1, 20)), 500)
    assert len(encode_newest(state, picked)) <= 500
    assert len(picked) == 4


def test_a_key_that_is_gone_goes_as_removed_as_of_its_removal() -> None:
    state = WorldState()
    state.apply(Frame(1, 5, [Record(1, b"a"), Record(2, b"b")]))
    state.apply(Frame(1, 7, [Record(1, None)]))
    state.apply(Frame(1, 9, [Record(2, b"c")]))
    repair = decode_frame(encode_newest(state, [1, 2, 3]))
    assert repair.repair
    assert repair.records == [Record(1, None, 7), Record(2, b"c", 9), Record(3, None, 9)]


def test_an_acknowledgement_of_the_next_message_before_it_is_sent_does_not_settle_it() -> None:
    window = SentWindow()
    window.add((1,))
    window.acked(window.next_token)
    window.add((2,))
    assert window.lost(1) == (2,)
