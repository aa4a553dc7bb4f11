"""Packets that came: duplicates are found as aioquic finds them, and what is acknowledged stays bounded."""

from __future__ import annotations

import math

from aioquic.quic.recovery import QuicPacketNumberWindow
from hypothesis import given
from hypothesis import strategies as st

from gateway import limits
from gateway.quic.connection.packets import full_number
from gateway.quic.connection.received import ACK_DELAY_S, ACK_EVERY, ALL, SPAN, Received

moves = st.lists(
    st.one_of(st.integers(-3, 3), st.integers(-2 * SPAN, 2 * SPAN), st.integers(0, 2**40)), max_size=80
)


def _adopted(stock: QuicPacketNumberWindow, largest: int) -> Received:
    received = Received()
    if largest >= 0:
        received.adopt([], largest, stock, 0.0)
    return received


@given(moves, st.integers(0, 80))
def test_it_knows_what_the_window_of_aioquic_knows_from_whenever_it_takes_over(
    steps: list[int], takes_over: int
) -> None:
    stock, largest = QuicPacketNumberWindow(), -1
    ours: Received | None = None
    for at, step in enumerate(steps):
        if at == takes_over:
            ours = _adopted(stock, largest)
        number = max(0, largest + step)
        if ours is not None:
            assert ours.is_known(number) == (number in stock)
            if not ours.is_known(number):
                ours.add(number, 0.0)
        stock.add(number)
        largest = max(largest, number)
    ours = ours or _adopted(stock, largest)
    for number in range(max(0, largest - 2 * SPAN), largest + 3):
        assert ours.is_known(number) == (number in stock), number


def test_in_order_nothing_is_missing_and_it_takes_a_few_bytes() -> None:
    received = Received()
    for number in range(1_000):
        assert received.add(number, number / 1_000)
    assert (received.bits, received.largest) == (ALL, 999)
    assert received.ranges == [range(1_000)]


@given(st.sets(st.integers(0, 400), max_size=300))
def test_the_ranges_are_those_of_the_numbers_up_to_their_bound(numbers: set[int]) -> None:
    received = Received()
    for number in sorted(numbers, key=lambda n: (n // 7, -n)):
        if not received.is_known(number):
            received.add(number, 0.0)
    held = {number for one in received.ranges for number in one}
    assert held <= numbers
    assert len(received.ranges) <= limits.QUIC_ACK_RANGES_MAX
    if len(received.ranges) < limits.QUIC_ACK_RANGES_MAX:
        assert held == {n for n in numbers if n in held}
    assert all(a.stop < b.start for a, b in zip(received.ranges, received.ranges[1:], strict=False))


def test_an_acknowledged_ack_lets_its_ranges_go_and_a_lost_one_none() -> None:
    received = Received()
    for number in (0, 1, 5, 6, 7, 9):
        received.add(number, 0.0)
    largest = received.acknowledged()
    received.on_ack_fate(False, largest)
    assert received.ranges == [range(2), range(5, 8), range(9, 10)]
    received.on_ack_fate(True, 6)
    assert received.ranges == [range(7, 8), range(9, 10)]


def test_an_ack_is_wanted_at_once_out_of_order_after_some_and_else_in_time() -> None:
    received = Received()
    assert received.want_ack(1.0, at_once=False) == 1.0 + ACK_DELAY_S
    assert received.want_ack(1.001, at_once=False) is None
    assert received.want_ack(1.002, at_once=True) == 1.002
    received.acknowledged()
    assert received.want_ack(2.0, at_once=False) == 2.0 + ACK_DELAY_S
    wanted = [received.want_ack(2.0001, at_once=False) for _ in range(ACK_EVERY - 1)]
    assert wanted[-1] == 2.0001
    assert not any(math.isnan(one) for one in wanted if one is not None)


@given(st.integers(0, 1 << 61), st.integers(1, 4), st.data())
def test_a_truncated_packet_number_is_told_within_half_a_window_of_the_next_one(
    expected: int, size: int, data: st.DataObject
) -> None:
    """RFC 9000 appendix A.3: of those that end alike, the one that is nearest, and of two as near the later."""
    bits = 8 * size
    half = 1 << (bits - 1)
    nearest = [max(0, expected - half + 1), expected, expected + half]
    number = data.draw(st.sampled_from(nearest) | st.integers(nearest[0], nearest[-1]))
    assert full_number(number & ((1 << bits) - 1), bits, expected) == number
