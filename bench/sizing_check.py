"""The model of :mod:`bench.sizing` held against what is measured: one gateway with all readers, and two that share them. Room: bench.

``python -m bench.sizing_check [--rounds 2] [--seconds 4] [--json]`` (a minute on a quiet machine): a store and two gateways, one
publisher at 60 Hz, frames of 1 KB; for each gateway its measured share of a core, the model's, and by how much the model is
off. The model has the costs of the published run, so a machine that is slower or faster now is in that error. The last column is
without it: how far off the model is with what the first two rows, one gateway alone, say that a tick and a reader's frame cost here.
"""

from __future__ import annotations

import argparse
import json
import sys
from statistics import median
from typing import Any

from bench.edges import PUBLISHED_S, of_readers, published, site
from bench.results import RESULTS
from bench.sizing import HZ, Costs, share

FRAME_BYTES = 1_024
CASES = ((80, 0), (160, 0), (40, 40), (80, 80))
"""Readers at the home, and at the other gateway."""


def predicted(costs: Costs, near: int, far: int) -> tuple[float, float]:
    """Shares of a core of the home and of the other gateway, which follows where it has readers."""
    follows = int(far > 0)
    return share(costs, FRAME_BYTES, near + follows, 1, 0), share(costs, FRAME_BYTES, far, 0, follows)


def of_here(alone: dict[int, float]) -> Costs:
    """What one gateway's shares of a core say, by readers: the line through the first and the last."""
    (few, low), (many, high) = min(alone.items()), max(alone.items())
    reader = max(0.0, (high - low) / (many - few))
    return Costs({FRAME_BYTES: reader * 1e6 / HZ}, {1: (low - few * reader) * 1e6 / HZ})


def measured(rounds: int, seconds: float) -> dict[tuple[int, int], list[tuple[float, float]]]:
    """The same, as it was."""
    found: dict[tuple[int, int], list[tuple[float, float]]] = {case: [] for case in CASES}
    with site() as gateways, published(gateways.home, FRAME_BYTES, PUBLISHED_S):
        for case in CASES * rounds:
            home, edge = of_readers(gateways, FRAME_BYTES, seconds, case)
            found[case].append((home.cpu_s / home.seconds, edge.cpu_s / edge.seconds))
    return found


def told(rounds: int, seconds: float) -> list[dict[str, Any]]:
    """A row a gateway that has readers."""
    costs = Costs.measured((RESULTS / "published.jsonl").read_text().splitlines())
    rows: list[dict[str, Any]] = []
    for case, shares in measured(rounds, seconds).items():
        model = predicted(costs, *case)
        for at, where in enumerate(("home", "edge")):
            if not case[at]:
                continue
            is_so = median(one[at] for one in shares)
            rows.append(
                {
                    "readers": case,
                    "gateway": where,
                    "measured": is_so,
                    "model": model[at],
                    "off": model[at] / is_so - 1,
                }
            )
    here = of_here({sum(row["readers"]): row["measured"] for row in rows if not all(row["readers"])})
    for row in rows:
        is_said = predicted(here, *row["readers"])[row["gateway"] == "edge"]
        row["off_by_costs_of_here"] = is_said / row["measured"] - 1
    return rows


def main() -> int:
    """Entry."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.sizing_check",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    rows = told(args.rounds, args.seconds)
    if args.json:
        print(json.dumps(rows))
        return 0
    print(
        "| readers at the home + at the edge | gateway | measured, of a core | model | off by | by costs of here |"
    )
    print("| --- | --- | --- | --- | --- | --- |")
    for row in rows:
        near, far = row["readers"]
        print(
            f"| {near} + {far} | {row['gateway']} | {row['measured']:.1%} | {row['model']:.1%} | {row['off']:+.0%} "
            f"| {row['off_by_costs_of_here']:+.0%} |"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
