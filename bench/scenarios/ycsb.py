"""YCSB A, B, C and F on a world's SQLite database over pages, by HTTP/3 and by TCP. Room: bench/scenarios."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from bench.scenarios import Measured, Run, Settings
from bench.scenarios._store import site
from bench.ycsb import MIXES

TITLE = "YCSB on SQLite over pages"
NEEDS_LINK = True
RECORDS = 2_000
CHOSEN = ("gateway HTTP/3", "gateway HTTP/2", "store HTTP/2")
LINKS = ((0.0, 1), (2.0, 50))
CASE_S = 15.0


def cases(short: bool) -> list[dict[str, Any]]:
    """Workloads, by a good and a bad path."""
    return [{"workload": w, "loss_percent": loss, "rtt_ms": rtt} for loss, rtt in LINKS for w in MIXES]


def run_s(case: Mapping[str, Any], settings: Settings) -> float:
    """Seconds that a run takes, about: three ways."""
    return len(CHOSEN) * (settings.seconds + 1.0)


@contextlib.contextmanager
def opened(case: Mapping[str, Any], settings: Settings) -> Iterator[Run]:
    """Every way in turn, on one site; the rows are loaded by the first, the caches are empty in each run."""
    fields = {"workload": case["workload"], "records": RECORDS}
    with site(case, settings, with_caddy=False) as place:

        def run(seed: int) -> Sequence[Measured]:
            seeded = replace(settings, seed=seed)
            return [place.measured("ycsb", way, case, fields, seeded) for way in CHOSEN]

        yield run
