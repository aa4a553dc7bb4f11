"""What is on its way to a reader, settled in every order."""

from __future__ import annotations

import pytest

from gateway.core.window import SentWindow


def window_of(*keys: tuple[int, ...]) -> SentWindow:
    window = SentWindow()
    for one in keys:
        window.add(one)
    return window


def numbered(count: int) -> SentWindow:
    """Each message carries its own key."""
    return window_of(*((key,) for key in range(count)))


@pytest.mark.parametrize(
    ("lost", "acked", "then", "count", "oldest"),
    [
        ((), (), (0, 1), 1, 5),
        ((), (), (0, 2), 2, 4),
        ((), (), (0, 6), 6, 0),
        ((), (), (0, 9), 6, 0),
        ((), (3,), (0, 3), 4, 2),
        ((), (1,), (0, 3), 3, 3),
        ((), (1,), (0, 1), 2, 4),
        ((2,), (), (0, 2), 3, 3),
        ((2,), (4,), (0, 2), 3, 3),
        ((1,), (), (0, 1), 2, 4),
        ((1, 2), (), (0, 1), 3, 3),
        ((), (), (2, 3), 0, 6),
        ((), (), (5, 2), 0, 6),
        ((), (0, 1), (0, 3), 3, 3),
        ((), (0, 1), (1, 1), 2, 4),
        ((), (), (6, 1), 0, 6),
    ],
)
def test_what_is_settled_at_the_old_end_is_outstanding_no_longer(
    lost: tuple[int, ...], acked: tuple[int, ...], then: tuple[int, int], count: int, oldest: int
) -> None:
    window = numbered(6)
    for token in lost:
        assert window.lost(token) == (token,)
    for token in acked:
        window.acked(token)
    window.acked(*then)
    assert (window.oldest, len(window)) == (count, oldest)
    assert window.next_token == 6
    settled = {*lost, *acked, *range(then[0], then[0] + then[1])}
    assert [token for token in range(-1, 7) if window.lost(token)] == sorted({*range(6)} - settled)
    assert len(window) == 0
    assert window.oldest == window.next_token == 6


def test_what_is_lost_is_told_once() -> None:
    window = numbered(3)
    assert [window.lost(1), window.lost(1)] == [(1,), ()]
    assert [window.lost(0), window.oldest, len(window)] == [(0,), 2, 1]


def test_of_a_lost_message_s_keys_those_in_none_after_it_are_named_in_their_order() -> None:
    keys = (900, 5, 3)
    assert window_of(keys, (4,)).lost(0) == (900, 5, 3)
    assert window_of(keys, (5,)).lost(0) in {(900, 3), (3, 900)}
    assert window_of(keys, keys).lost(0) == ()
    assert window_of(keys, (900,), (3, 5)).lost(0) == ()
    assert window_of(keys, ()).lost(0) == keys
    assert window_of((1,), (1,), (2,)).lost(1) == (1,), "what went before is older"


def test_several_are_remembered_under_the_tokens_that_follow_and_counted() -> None:
    window = numbered(2)
    assert window.add_all(((7,), (8,), (9,))) == 5
    assert window.next_token == 5
    assert window.lost(3) == (8,)
