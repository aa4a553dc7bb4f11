"""The pages' ratios: stated as they are checked, and judged by their spread."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.floor import PAGE_US, Floor
from bench.headline import expected
from bench.ratios import RATIOS, Ratio
from bench.results import Spread, Summary

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "BENCHMARKS.md").read_text()


@pytest.mark.parametrize("ratio", RATIOS, ids=lambda ratio: ratio.key)
def test_the_page_states_the_ratio_that_is_checked(ratio: Ratio) -> None:
    assert f"| {ratio.what} | {ratio.low:g} to {ratio.high:g} |" in PAGE


def test_a_ratio_holds_within_its_spread_and_where_it_is_better() -> None:
    less = Ratio("a", "b", 1.0, 2.0, "lower")
    more = Ratio("a", "b", 1.0, 2.0, "higher")
    assert [less.holds(value) for value in (0.5, 2.0, 2.1)] == [True, True, False]
    assert [more.holds(value) for value in (0.9, 1.0, 3.0)] == [False, True, True]
    assert less.told(2.1).startswith("MISSED")
    assert less.told(None).startswith("not measured")


def test_what_is_expected_scales_with_the_floor() -> None:
    assert Floor(2 * PAGE_US).expected(10.0) == pytest.approx(20.0)
    assert "2.00 times" in str(Floor(2 * PAGE_US))
    row = Summary("fanout", {"relay": "gateway", "readers": 100, "frame_bytes": 1_024})
    row.measures["relay_cpu_us_per_frame"] = Spread(60.0, 60.0, 60.0)
    assert [claim.ok for claim in expected([row], PAGE_US)] == [False]
    assert [claim.ok for claim in expected([row], 3 * PAGE_US)] == [True]
    assert expected([row], None) == []
