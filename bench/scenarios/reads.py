"""Reads over a lossy link: open a world cold, then read single pages at random. Room: bench/scenarios."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from bench.scenarios import Measured, Run, Settings
from bench.scenarios._store import RUN_SLACK_S, site

TITLE = "Reads over a lossy link"
NEEDS_LINK = True
PAGES = {1: 2_000, 20: 100}
"""Clients at once -> pages that each opens: 16 MB together."""
PAGE_BYTES = 8_192
OPEN_S_MAX = 12.0
"""An open is cut there and has no time; its speed is told all the same."""
LINKS = ((0.0, 1), (0.0, 50), (2.0, 50))
"""Loss in percent and round trip: a good network, distance alone, distance with loss."""
CASE_S = 8.0


def cases(short: bool) -> list[dict[str, Any]]:
    """Links by how many clients at once."""
    if short:
        return [{"loss_percent": loss, "rtt_ms": 50, "parallel": 1} for loss in (0.0, 2.0)]
    return [{"loss_percent": loss, "rtt_ms": rtt, "parallel": n} for n in PAGES for loss, rtt in LINKS]


def run_s(case: Mapping[str, Any], settings: Settings) -> float:
    """Seconds that a run takes, about: six ways, of which one is slow where packets are lost."""
    opening_s = 8 + 0.1 * float(case["rtt_ms"]) + 6 * float(case["loss_percent"])
    return 6 * (settings.seconds + 0.6) + opening_s


@contextlib.contextmanager
def opened(case: Mapping[str, Any], settings: Settings) -> Iterator[Run]:
    """Every way in turn, on one site; connections and the link's chances are new in each run."""
    pages = PAGES[case["parallel"]]
    fields = {"parallel": case["parallel"], "pages": pages, "open_s_max": OPEN_S_MAX}
    with site(case, settings, with_caddy=True) as place:
        place.client.begin("prepare", {**place.straight(), "pages": pages, "page_bytes": PAGE_BYTES})
        place.client.result(RUN_SLACK_S)

        def run(seed: int) -> Sequence[Measured]:
            seeded = replace(settings, seed=seed)
            return [place.measured("reads", way, case, fields, seeded) for way in place.ways()]

        yield run
