"""The link's model does to packets what its numbers say: no kernel, no clock."""

from __future__ import annotations

import itertools

import pytest

from bench.link.netem import words
from gateway.link.model import Direction, GilbertElliott, LinkPath, Shaper


def test_a_perfect_direction_delivers_at_once_and_in_order() -> None:
    shaper = Shaper(Direction(), 1)
    assert [shaper.admit(100, float(t)) for t in range(5)] == [0.0, 1.0, 2.0, 3.0, 4.0]


def test_delay_is_added_to_every_packet() -> None:
    assert Shaper(Direction(delay_ms=25.0), 1).admit(100, 1.0) == pytest.approx(1.025)


def test_jitter_alone_never_reorders() -> None:
    shaper = Shaper(Direction(delay_ms=20.0, jitter_ms=15.0), 3)
    arrivals = [shaper.admit(100, n / 1000) for n in range(2_000)]
    assert arrivals == sorted(a for a in arrivals if a is not None)


def test_reordering_lets_later_packets_overtake() -> None:
    shaper = Shaper(Direction(delay_ms=5.0, reorder=0.1), 3)
    arrivals = [a for n in range(2_000) if (a := shaper.admit(100, n / 1000)) is not None]
    overtaken = sum(later < earlier for earlier, later in itertools.pairwise(arrivals))
    assert 150 < overtaken < 250


@pytest.mark.parametrize("loss", [0.005, 0.02, 0.05])
def test_random_loss_takes_the_share_that_was_asked(loss: float) -> None:
    shaper = Shaper(Direction(loss=loss), 11)
    for _ in range(300_000):
        shaper.admit(100, 0.0)
    assert shaper.dropped_loss / 300_000 == pytest.approx(loss, rel=0.05)


def test_burst_loss_has_the_asked_mean_and_burst_length() -> None:
    shaper = Shaper(Direction(burst=GilbertElliott.of_mean(0.02, burst_steps=8)), 5)
    fates = [shaper.admit(100, 0.0) is None for _ in range(500_000)]
    bursts = sum(now and not before for before, now in zip([False, *fates], fates, strict=False))
    # 1,250 bursts: 10 % is three standard deviations of their mean.
    assert sum(fates) / len(fates) == pytest.approx(0.02, rel=0.1)
    assert sum(fates) / bursts == pytest.approx(8, rel=0.1)


def test_the_bottleneck_spaces_packets_by_its_rate_and_drops_what_its_queue_cannot_hold() -> None:
    shaper = Shaper(Direction(rate_kbps=800.0, queue_bytes=3_000), 1)
    arrivals = [shaper.admit(1_000, 0.0) for _ in range(5)]
    assert arrivals == [pytest.approx(0.01), pytest.approx(0.02), pytest.approx(0.03), None, None]
    assert shaper.dropped_queue == 2


def test_the_same_seed_gives_the_same_fates() -> None:
    def fates(seed: int) -> list[float | None]:
        shaper = Shaper(Direction(loss=0.3, jitter_ms=2.0), seed)
        return [shaper.admit(100, n / 100) for n in range(500)]

    assert fates(4) == fates(4)
    assert fates(4) != fates(5)


def test_the_mean_loss_of_both_models_together_is_told() -> None:
    rule = Direction(loss=0.01, burst=GilbertElliott.of_mean(0.02, 4))
    assert rule.mean_loss == pytest.approx(1 - 0.99 * 0.98)
    assert LinkPath.symmetric(rule).describe()["up"]["loss"] == 0.01


def test_a_fade_passes_by_the_clock_even_if_nobody_sends() -> None:
    """About 200 of 2,000 links are in a fade; ten slots later about one in three of those still is."""
    lasting = 0
    for seed in range(2_000):
        shaper = Shaper(Direction(burst=GilbertElliott.of_mean(0.1, burst_steps=8, slot_ms=10.0)), seed)
        if shaper.admit(100, 5.0) is None:
            lasting += shaper.admit(100, 5.1) is None
    assert 30 < lasting < 110


def test_fades_by_the_clock_have_the_asked_mean_loss() -> None:
    shaper = Shaper(Direction(burst=GilbertElliott.of_mean(0.05, burst_steps=8, slot_ms=10.0)), 3)
    for n in range(400_000):
        shaper.admit(100, n * 0.005)
    assert shaper.dropped_loss / 400_000 == pytest.approx(0.05, rel=0.1)


def test_netem_is_told_the_same_rules() -> None:
    said = " ".join(words(Direction(delay_ms=25.0, jitter_ms=2.0, loss=0.02, rate_kbps=800.0, reorder=0.1)))
    assert said.startswith("delay 25.0ms 2.0ms limit ")
    assert "loss random 2.000000%" in said
    assert "reorder 90.000000%" in said
    assert said.endswith("rate 800kbit")
    bursts = words(Direction(burst=GilbertElliott.of_mean(0.02, burst_steps=8)))
    assert bursts[bursts.index("loss") + 1] == "gemodel"
