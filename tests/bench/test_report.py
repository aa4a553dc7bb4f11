"""What was measured comes out as tables that can be read, and a run that was cut off goes on where it was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from bench import plan
from bench.__main__ import narrowed, parser, settings_of
from bench.headline import headline
from bench.processes import BenchError
from bench.results import ResultFile, Row, Spread, read, summarise
from bench.scenarios import Measured, Settings, link_marks, since
from bench.tables import markdown

FACTS = {"processor": "p", "cores": 2, "kernel": "6", "python": "3.11", "commit": "c", "tcp": "cubic"}
SETTINGS = Settings(seconds=1.0, warmup_s=0.0, short=False, seed=1, runs=3)


def frame_rows(excess_ms: dict[str, list[float]], *, rtt_ms: int = 50, stalls: float = 0.0) -> list[Row]:
    params = {"loss_percent": 2.0, "rtt_ms": rtt_ms, "hz": 60, "frame_bytes": 1024, "burst": False}
    return [
        Row(
            "frames",
            {**params, "door": door},
            run,
            {"excess_p99_ms": value, "stalls_100_per_min": stalls},
            ("link_bound",) if value > 100 else (),
        )
        for door, values in excess_ms.items()
        for run, value in enumerate(values)
    ]


def test_runs_become_median_minimum_and_maximum() -> None:
    (summary,) = summarise(frame_rows({"webtransport": [20.0, 30.0, 22.0]}))
    assert summary.measures["excess_p99_ms"] == Spread(22.0, 20.0, 30.0)
    assert summary.runs == 3


def test_a_measure_that_only_some_runs_have_is_kept() -> None:
    rows = [Row("reads", {"way": "a"}, 0, {}, ("failed",)), Row("reads", {"way": "a"}, 1, {"open_s": 2.0})]
    (summary,) = summarise(rows)
    assert summary.measures["open_s"].median == 2.0
    assert summary.marks == ("failed",)


def test_transports_stand_beside_each_other_in_a_table() -> None:
    rows = frame_rows({"webtransport": [20.0, 22.0, 30.0], "websocket, conflation off": [80.0, 90.0, 101.0]})
    page = markdown(FACTS, summarise(rows))
    assert "| loss | RTT | WebTransport | WebSocket, conflation off |" in page
    assert "| 2 % | 50 ms | 22 (20 to 30) | 90 (80 to 101) † |" in page
    assert "more than half of what the link can carry" in page
    assert "python -m bench --only frames --where hz=60 --where frame_bytes=1024" in page


def test_the_headline_says_what_was_asked_and_what_was_not_measured() -> None:
    rows = frame_rows({"webtransport": [20.0], "websocket, conflation off": [80.0]})
    rows += frame_rows({"webtransport": [45.0], "websocket, conflation off": [90.0]}, rtt_ms=100, stalls=2.0)
    told = {claim.what: claim.ok for claim in headline(summarise(rows))}
    assert list(told.values()) == [True, True, True, False, False, False]
    assert all(claim.ok is None for claim in headline([]))


class Fake:
    """A scenario of two cases whose second run breaks once."""

    TITLE, NEEDS_LINK, RUN_S = "fake", False, 0.0

    def __init__(self) -> None:
        self.ran: list[tuple[str, int]] = []
        self.breaks_at = -1

    def cases(self, short: bool) -> list[dict[str, Any]]:
        return [{"n": 1}, {"n": 2}]

    def measure(self, case: dict[str, Any], settings: Settings) -> list[Measured]:
        self.ran.append((str(case["n"]), settings.seed))
        if settings.seed == self.breaks_at:
            raise BenchError("on purpose")
        return [Measured({**case, "way": way}, {"value": 1.0}) for way in "ab"]


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Fake:
    made = Fake()
    monkeypatch.setattr(plan, "scenario", lambda name: made)
    return made


def run_plan(fake: Fake, path: Path, *, resume: bool = False) -> None:
    steps = [plan.Step("fake", case, SETTINGS) for case in fake.cases(False)]
    with ResultFile(path, FACTS, resume=resume) as file:
        plan.Plan(steps).run(file, Console(quiet=True))


def test_every_case_is_run_with_a_seed_of_its_own_for_each_run(fake: Fake, tmp_path: Path) -> None:
    run_plan(fake, tmp_path / "r.jsonl")
    assert fake.ran == [(n, seed) for n in "12" for seed in (1, 2, 3)]
    assert len(read(tmp_path / "r.jsonl")[1]) == 12


def test_a_run_that_was_cut_off_goes_on_with_what_is_missing(fake: Fake, tmp_path: Path) -> None:
    fake.breaks_at = 2
    run_plan(fake, tmp_path / "r.jsonl")
    fake.breaks_at, fake.ran = -1, []
    run_plan(fake, tmp_path / "r.jsonl", resume=True)
    assert fake.ran == [("1", 2), ("2", 2)]
    assert len(read(tmp_path / "r.jsonl")[1]) == 12


def test_without_resume_the_file_begins_anew(fake: Fake, tmp_path: Path) -> None:
    run_plan(fake, tmp_path / "r.jsonl")
    run_plan(fake, tmp_path / "r.jsonl")
    assert len(read(tmp_path / "r.jsonl")[1]) == 12


def test_a_case_that_keeps_breaking_is_given_up(fake: Fake, tmp_path: Path) -> None:
    def broken(case: dict[str, Any], settings: Settings) -> list[Measured]:
        fake.ran.append((str(case["n"]), settings.seed))
        raise BenchError("always")

    fake.measure = broken  # type: ignore[method-assign]
    run_plan(fake, tmp_path / "r.jsonl")
    assert len(fake.ran) == 2 * plan.FAILED_RUNS_MAX


def test_one_of_several_values_of_a_case_can_be_asked_for() -> None:
    case = {"rtt_ms": (1, 50), "hz": 60}
    assert narrowed(case, ["rtt_ms=50"]) == {"rtt_ms": (50,), "hz": 60}
    assert narrowed(case, ["rtt_ms=100"]) is None
    assert narrowed(case, ["hz=20"]) is None


def test_everything_with_five_runs_is_planned_for_at_most_75_minutes() -> None:
    from bench.__main__ import NAMES
    from bench.__main__ import plan as planned

    args = parser().parse_args([])
    assert settings_of("frames", args).runs == 5
    total = planned(NAMES, args).expected_s()
    assert total <= 75 * 60


def test_a_link_that_works_at_more_than_half_of_its_capacity_is_marked() -> None:
    settings = Settings(1.0, 0.0, False, 1, link_packets_per_s=1_000.0)
    before = {"carried": 100, "dropped_loss": 0, "seconds": 1.0, "cpu_s": 0.1, "bytes_down": {"a": 5}}
    after = {
        "carried": 1_500,
        "dropped_loss": 100,
        "seconds": 3.0,
        "cpu_s": 0.2,
        "bytes_down": {"a": 9, "b": 2},
    }
    made = since(before, after)
    assert made["bytes_down"] == {"a": 4, "b": 2}
    assert link_marks(made, settings) == ("link_bound",)
    assert link_marks({**made, "carried": 100}, settings) == ()
    assert link_marks({}, settings) == ()
