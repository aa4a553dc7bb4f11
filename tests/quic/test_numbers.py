"""The window against duplicates is aioquic's in all but its size."""

from __future__ import annotations

from aioquic.quic.recovery import QuicPacketNumberWindow
from hypothesis import given
from hypothesis import strategies as st

from gateway.quic.connection.numbers import ALL, SPAN, NumberWindow

moves = st.lists(
    st.one_of(st.integers(-3, 3), st.integers(-2 * SPAN, 2 * SPAN), st.integers(0, 2**40)), max_size=80
)


@given(moves, st.integers(0, 80))
def test_it_knows_what_the_window_of_aioquic_knows_from_whenever_it_takes_over(
    steps: list[int], takes_over: int
) -> None:
    stock, largest = QuicPacketNumberWindow(), -1
    ours: NumberWindow | None = None
    for at, step in enumerate(steps):
        if at == takes_over:
            ours = NumberWindow(stock, largest)
        number = max(0, largest + step)
        if ours is not None:
            assert (number in ours) == (number in stock)
            ours.add(number)
        stock.add(number)
        largest = max(largest, number)
    ours = ours or NumberWindow(stock, largest)
    for number in range(max(0, largest - 2 * SPAN), largest + 3):
        assert (number in ours) == (number in stock), number


def test_in_order_nothing_is_missing_and_it_takes_a_few_bytes() -> None:
    window = NumberWindow(QuicPacketNumberWindow(), -1)
    for number in range(1_000):
        window.add(number)
    assert (window.bits, window.largest) == (ALL, 999)
    window.add(10**12)
    assert window.bits == 1
