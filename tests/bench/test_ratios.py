"""The pages' ratios: stated as they are checked, made of the runs on record, and judged by their spread."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import ratios
from bench.check import delivering
from bench.floor import PAGE_US, Floor
from bench.headline import expected
from bench.ratios import (
    HEADLINES,
    MARGIN,
    PAGE,
    QUIET_LOAD,
    RATIOS,
    RUNS_LEAST,
    Ratio,
    recorded,
    spreads,
    with_table,
)
from bench.results import Spread, Summary


def runs(*values: float) -> list[dict[str, object]]:
    return [{"load": 1.0, "floor_us": 12.0, "ratios": {"bulk": value}} for value in values]


def of(record: list[dict[str, object]]) -> Ratio:
    return next(ratio for ratio in spreads(record) if ratio.key == "bulk")


def of_bulk(*values: float) -> Ratio:
    return of(runs(*values))


def test_the_page_states_what_is_on_record() -> None:
    page = PAGE.read_text()
    assert with_table(page, recorded()) == page, "run python -m bench.check --table"


def test_every_run_on_record_says_how_busy_its_machine_was_and_measures_what_is_stated() -> None:
    for run in recorded():
        assert run["load"] >= 0
        assert run["floor_us"] > 0
        assert run["ratios"].keys() <= HEADLINES.keys()


def test_a_spread_is_the_least_and_the_most_on_record_with_a_margin() -> None:
    ratio = of_bulk(0.5, 0.4, 0.6, 0.5, 0.45)
    assert (ratio.low, ratio.high, ratio.runs) == (round(0.4 / MARGIN, 2), round(0.6 * MARGIN, 2), 5)
    assert ratio.is_judged


def test_too_few_runs_make_no_spread() -> None:
    ratio = of_bulk(*[0.5] * (RUNS_LEAST - 1))
    assert not ratio.is_judged
    assert "not stated" in ratio.row()
    assert ratio.told(0.1).startswith("not judged")
    assert of_bulk().told(None).endswith("nothing on record")


def test_runs_of_a_busy_machine_count_only_while_there_are_not_enough_of_a_quiet_one() -> None:
    busy = [{**run, "load": QUIET_LOAD + 0.1} for run in runs(0.1, 0.9)]
    few, enough = runs(*[0.5] * (RUNS_LEAST - 1)), runs(*[0.5] * RUNS_LEAST)
    assert of(busy + few).low == round(0.1 / MARGIN, 2)
    assert of(busy + enough).low == round(0.5 / MARGIN, 2)


def test_a_run_is_put_on_record(tmp_path: Path) -> None:
    path = tmp_path / "check.jsonl"
    assert recorded(path) == []
    for run in runs(0.5, 0.6):
        ratios.record(run, path)
    assert recorded(path) == runs(0.5, 0.6)


def test_a_ratio_holds_within_its_spread_and_where_it_is_better() -> None:
    less = Ratio("a", "b", 1.0, 2.0, "lower", 5)
    more = Ratio("a", "b", 1.0, 2.0, "higher", 5)
    assert [less.holds(value) for value in (0.5, 2.0, 2.1)] == [True, True, False]
    assert [more.holds(value) for value in (0.9, 1.0, 3.0)] == [False, True, True]
    assert less.told(2.1).startswith("MISSED")
    assert less.told(None).startswith("not measured")


def test_what_is_expected_scales_with_the_floor() -> None:
    assert Floor(2 * PAGE_US).expected(10.0) == pytest.approx(20.0)
    assert "2.00 times" in str(Floor(2 * PAGE_US))
    row = Summary("fanout", {"relay": "gateway", "readers": 100, "frame_bytes": 1_024})
    high = next(ratio for ratio in RATIOS if ratio.key == "floor_1k")
    row.measures["relay_cpu_us_per_frame"] = Spread(*[1.01 * high.high * PAGE_US] * 3)
    claims = [claim.ok for claim in expected([row], PAGE_US)]
    assert claims == ([False] if high.is_judged else [])
    assert [claim.ok for claim in expected([row], 3 * PAGE_US)] == ([True] if high.is_judged else [])
    assert expected([row], None) == []


def test_a_relay_that_delivered_next_to_nothing_gives_no_figure(capsys: pytest.CaptureFixture[str]) -> None:
    found = {
        "gateway": {"delivered_percent": [97.0, 99.0], "relay_cpu_us_per_frame": [47.0, 48.0]},
        "moq": {"delivered_percent": [0.0], "relay_cpu_us_per_frame": [210_310.6]},
    }
    assert list(delivering(found)) == ["gateway"]
    assert "fan-out of moq does not count: 0.0 % was delivered" in capsys.readouterr().out
