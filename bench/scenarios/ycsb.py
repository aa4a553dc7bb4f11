"""YCSB A, B, C and F on a world's SQLite database over pages, by HTTP/3 and by TCP. Room: bench/scenarios."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bench.scenarios import Measured, Settings
from bench.scenarios._store import run, site
from bench.ycsb import MIXES

TITLE = "YCSB on SQLite over pages"
NEEDS_LINK = True
RECORDS = 2_000
CHOSEN = ("gateway HTTP/3", "gateway HTTP/2", "store HTTP/2")


def cases(short: bool) -> list[dict[str, Any]]:
    """Workloads, by a good and a bad path."""
    paths = ((0.0, 1), (2.0, 50))
    return [{"workload": w, "loss_percent": loss, "rtt_ms": rtt} for loss, rtt in paths for w in MIXES]


def measure(case: Mapping[str, Any], settings: Settings) -> Sequence[Measured]:
    """Every way in turn, on one site; the rows are loaded by the first."""
    fields = {"seconds": settings.seconds, "workload": case["workload"], "records": RECORDS}
    with site(case, settings, with_caddy=False) as place:
        answers = [(way, run(place.load("ycsb", way, fields), settings.seconds)) for way in CHOSEN]
    return [
        Measured({**case, "way": way}, {k: v for k, v in a.items() if k != "cpu_share"}) for way, a in answers
    ]
