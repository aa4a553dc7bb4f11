"""Durable one-page commits over a lossy link. Room: bench/scenarios."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from bench.scenarios import Measured, Run, Settings
from bench.scenarios._store import site

TITLE = "Durable commits over a lossy link"
NEEDS_LINK = True
PAGE_BYTES = 8_192
LINKS = ((0.0, 1), (0.0, 50), (2.0, 50))
CASE_S = 9.0


def cases(short: bool) -> list[dict[str, Any]]:
    """Links by how many at once."""
    links = ((0.0, 50), (2.0, 50)) if short else LINKS
    return [{"loss_percent": loss, "rtt_ms": rtt, "parallel": n} for n in (1, 32) for loss, rtt in links]


def run_s(case: Mapping[str, Any], settings: Settings) -> float:
    """Seconds that a run takes, about: six ways."""
    return 6 * (settings.seconds + 0.6)


@contextlib.contextmanager
def opened(case: Mapping[str, Any], settings: Settings) -> Iterator[Run]:
    """Every way in turn, on one site; connections and the link's chances are new in each run."""
    fields = {"parallel": case["parallel"], "page_bytes": PAGE_BYTES}
    with site(case, settings, with_caddy=True) as place:

        def run(seed: int) -> Sequence[Measured]:
            seeded = replace(settings, seed=seed)
            return [place.measured("writes", way, case, fields, seeded) for way in place.ways()]

        yield run
