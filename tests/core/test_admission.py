"""How much one peer may have is counted by its address, in bounded memory, and a refusal names the bound."""

from __future__ import annotations

import pytest

from gateway import limits
from gateway.core.admission import Held, PeerRates, Refusals, host_of, peer_of
from gateway.errors import TooMany


@pytest.mark.parametrize(
    ("host", "peer"),
    [
        ("198.51.100.7", "198.51.100.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::", "2001:db8:1:2::/64"),
        ("::ffff:198.51.100.7", "198.51.100.7"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::1%lo", "::1"),
        ("::1", "::1"),
        ("", ""),
        ("nonsense", "nonsense"),
    ],
)
def test_an_address_counts_for_whoever_has_it(host: str, peer: str) -> None:
    assert peer_of(host) == peer


@pytest.mark.parametrize(("text", "host"), [("127.0.0.1:4433", "127.0.0.1"), ("[::1]:7", "::1"), ("", "")])
def test_the_port_does_not_count(text: str, host: str) -> None:
    assert host_of(text) == host


def test_at_the_bound_passes_and_one_over_is_refused_by_name() -> None:
    held = Held(2, "worlds", "--worlds-per-address-max")
    held.take("a")
    held.take("a")
    with pytest.raises(TooMany, match="--worlds-per-address-max") as refused:
        held.take("a")
    assert refused.value.facts == {"bound": "--worlds-per-address-max", "limit": 2}
    held.take("b")
    held.give_back("a")
    held.take("a")
    for peer in ("a", "a", "b", "b"):
        held.give_back(peer)
    assert len(held) == 0


def test_a_rate_is_spent_at_once_or_bit_by_bit_and_comes_back() -> None:
    rates = PeerRates(2.0, "requests", "--requests", burst_s=2.0)
    assert [rates.admits("a", 100.0) for _ in range(5)] == [True] * 4 + [False]
    assert rates.admits("b", 100.0)
    assert [rates.admits("a", 100.5), rates.admits("a", 100.5)] == [True, False]
    with pytest.raises(TooMany, match="2 requests a second"):
        rates.take("a", 100.5)
    assert sum(rates.admits("a", 200.0) for _ in range(9)) == 4


def test_no_flood_of_addresses_grows_the_memory_of_rates() -> None:
    rates = PeerRates(1.0, "requests", "--requests")
    for n in range(limits.ADDRESSES_COUNTED_MAX + 100):
        rates.admits(str(n), 1.0)
    assert len(rates) == limits.ADDRESSES_COUNTED_MAX


def test_a_refusal_is_counted_once_under_its_settings_name() -> None:
    refusals, error = Refusals(), TooMany("too many", bound="--worlds-max")
    refusals.note(error)
    refusals.note(error)
    refusals.note(TooMany("of nothing that has a name"))
    assert refusals.counts == {"worlds_max": 1}


def test_what_a_peer_holds_is_counted_one_by_one_and_given_back_one_by_one() -> None:
    held = Held(3, "worlds", "--worlds")
    counts = [held.of("a")]
    for step in (held.take, held.take, held.take, held.give_back, held.give_back, held.give_back):
        step("a")
        counts.append(held.of("a"))
    assert counts == [0, 1, 2, 3, 2, 1, 0]
    assert len(held) == 0
    held.give_back("never seen")
    assert (held.of("never seen"), len(held)) == (0, 0)


def test_a_bound_of_one_lets_one_in() -> None:
    held = Held(1, "worlds", "--worlds")
    assert held.has_room("a")
    held.take("a")
    assert not held.has_room("a")
    assert held.has_room("b")


def test_a_bound_of_none_lets_nobody_in() -> None:
    assert not Held(0, "worlds", "--worlds").has_room("a")


def test_whether_something_is_left_is_answered_without_taking_it() -> None:
    rates = PeerRates(2.0, "requests", "--requests", burst_s=1.0)
    assert rates.has_left("a", 100.0)
    assert len(rates) == 0
    assert [rates.admits("a", 100.0), rates.admits("a", 100.0)] == [True, True]
    for now, is_left in ((100.0, False), (100.375, False), (100.5, True), (103.0, True)):
        assert rates.has_left("a", now) is is_left
    assert [rates.admits("a", 100.5), rates.admits("a", 100.5)] == [True, False]


def test_a_rate_below_one_still_lets_one_in_at_once() -> None:
    rates = PeerRates(0.25, "requests", "--requests", burst_s=2.0)
    assert rates.burst == 1.0
    assert [rates.admits("a", now) for now in (8.0, 8.0, 11.0, 12.0, 12.0)] == [
        True,
        False,
        False,
        True,
        False,
    ]


def test_who_was_let_in_lately_is_remembered_before_who_was_not() -> None:
    rates = PeerRates(1.0, "requests", "--requests", burst_s=1.0)
    for n in range(limits.ADDRESSES_COUNTED_MAX):
        rates.admits(str(n), 1.0)
    rates.admits("0", 1.0)
    rates.admits("new", 1.0)
    assert not rates.has_left("0", 1.0)
    assert rates.has_left("1", 1.0), "the one that came longest ago is forgotten, and may come again"


def test_every_refusal_by_a_bound_counts_and_under_one_name() -> None:
    refusals = Refusals()
    for bound in ("--replays-max", "replays_max", "replays max"):
        refusals.count(bound)
    assert refusals.counts == {"replays_max": 3}
    error = TooMany("too many", bound="session streams")
    refusals.note(error)
    assert error.is_noted
    assert refusals.counts["session_streams"] == 1
