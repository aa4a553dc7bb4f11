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
