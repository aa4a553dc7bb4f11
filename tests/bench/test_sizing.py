"""The model behind docs/operating/sizing.md: its table is what it prints, and it adds up what it says."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.results import RESULTS
from bench.sizing import FOLLOW_SHARE, HZ, Costs, Plan, plans, row, simulate
from bench.sizing_check import FRAME_BYTES, of_here, predicted

PAGE = Path(__file__).resolve().parents[2] / "docs" / "operating" / "sizing.md"
FLAT = Costs({1_024: 20.0, 4_096: 40.0}, {1: 100.0, 100: 100.0})


def plan(
    *, near: bool = True, servers: int = 1, cores: int = 1, machines: int = 1, clients: int = 10
) -> Plan:
    return Plan(servers, clients, machines, cores, 1_024, near)


def test_the_page_has_the_table_that_the_model_prints_from_the_published_costs() -> None:
    costs = Costs.measured((RESULTS / "published.jsonl").read_text().splitlines())
    page = PAGE.read_text()
    for one in plans():
        assert row(one, simulate(one, costs)) in page, "run python -m bench.sizing, and put its table there"


def test_one_worker_pays_for_its_readers_and_its_publisher() -> None:
    load = simulate(plan(), FLAT)
    assert load.cores_most == pytest.approx(HZ * (10 * 20 + 100) / 1e6, abs=1e-3)
    assert (load.follows, load.readers) == (0, 10)


def test_who_follows_costs_the_home_a_reader_and_itself_a_share_of_a_publisher() -> None:
    alone = simulate(plan(clients=100), FLAT)
    spread = simulate(plan(clients=100, cores=2), FLAT)
    assert spread.follows == 1
    total = 2 * spread.cores_median
    assert total == pytest.approx(alone.cores_most + HZ * (20 + FOLLOW_SHARE * 100) / 1e6, abs=2e-3)


def test_costs_of_here_are_the_line_through_what_one_gateway_was_measured_at() -> None:
    here = of_here({80: 0.25, 160: 0.33})
    for readers, share in ((80, 0.25), (160, 0.33)):
        assert predicted(here, readers, 0)[0] == pytest.approx(share)
    assert here.reader_us[FRAME_BYTES] == pytest.approx(0.001 * 1e6 / HZ)


def test_readers_at_the_home_machine_are_followed_for_less_than_readers_anywhere() -> None:
    near, anywhere = (
        simulate(plan(near=near, servers=100, machines=10, cores=8, clients=100), FLAT)
        for near in (True, False)
    )
    assert near.follows <= 100 * 7 < anywhere.follows
    assert near.cores_most < anywhere.cores_most


def test_a_journalled_frame_is_taken_in_proportion_between_what_was_measured() -> None:
    costs = Costs({1_024: 20.0}, {1: 100.0, 11: 50.0, 101: 14.0})
    assert [costs.ingest_at(worlds) for worlds in (1, 6, 11, 56, 101, 500)] == [100, 75, 50, 32, 14, 14]
