"""Everything at once, seed after seed, in simulated time: what was promised holds. ``make simulate`` runs ten thousand."""

from __future__ import annotations

import os

import pytest

from gateway.core.gaps import GapTracker
from gateway.core.journal import JournalBuffer
from gateway.store.world import home
from tests.simulation.__main__ import command, simulate

SEEDS = 200
AT_ONCE = 20
FIRST = int(os.environ.get("MVGATEWAY_SIMULATION_FIRST", "0"))


@pytest.mark.parametrize("first", range(FIRST, FIRST + SEEDS, AT_ONCE))
def test_what_was_promised_holds_whatever_fails(first: int) -> None:
    for seed in range(first, first + AT_ONCE):
        try:
            simulate(seed)
        except Exception as error:
            raise AssertionError(f"seed {seed}: {error}; again: {command(seed)}") from error


def test_a_seed_runs_as_it_ran_before() -> None:
    once, again = simulate(7), simulate(7)
    assert once.trace.hexdigest() == again.trace.hexdigest()
    assert once.counts == again.counts
    assert once.trace.hexdigest() != simulate(8).trace.hexdigest()


def test_the_simulation_is_busy_and_things_do_fail_in_it() -> None:
    counts = [simulate(seed).counts for seed in range(20)]
    assert sum(count["fault"] for count in counts) > 50
    assert sum(count["commit"] for count in counts) > 500
    assert sum(count["fence"] for count in counts) > 20


def found_within(seeds: int) -> bool:
    for seed in range(seeds):
        try:
            simulate(seed)
        except AssertionError:
            return True
    return False


def test_a_gateway_that_does_not_ask_for_its_fence_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(home, "check", lambda connection, namespace, fence: None)
    assert found_within(SEEDS)


def test_a_tracker_that_tells_no_gaps_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(GapTracker, "_close_hole", lambda self, hole: None)
    assert found_within(SEEDS)


def test_a_journal_that_takes_a_failed_batch_for_written_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(JournalBuffer, "failed", JournalBuffer.committed)
    assert found_within(SEEDS)


def test_what_is_lost_with_a_gateway_and_not_looked_for_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(GapTracker, "going_on", classmethod(lambda cls, epoch, tick, tail: cls(epoch, tick)))
    assert found_within(SEEDS)
