"""How many machines many game servers take, by simulation with measured costs: where it is full first, and what helps. Room: bench.

``python -m bench.sizing [--json]`` places worlds and readers on workers as the kernel and a balancer do (by chance, from one seed),
and adds up what each worker has to do in a second from the costs in ``bench/results/published.jsonl``: a reader's frame, and a
publisher's frame with the journal, which is cheaper the more worlds share a worker's ticks and commits. Two ways of placing: readers land at any
worker of any gateway, or at any worker of the machine that is their world's home. A worker that has readers of a world whose
home is another follows it there as one reader does: the home pays a reader's frame, and the follower :data:`FOLLOW_SHARE` of
what a journalled one costs. What is not in the model: the store (it is told how many commits come to it), loss, repair, handshakes.
``python -m bench.sizing_check`` holds the model against one gateway and two that are measured.
"""

from __future__ import annotations

import argparse
import json
import random
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from statistics import median

from bench.results import RESULTS

HZ = 60
SIZES = (1_024, 4_096)
FITTED = (100, 400)
"""Readers: between their ticks a frame's cost is a line, of which one more reader's frame is the slope."""
SEED = 20
FULL = 0.8
"""Of a core: above it ticks come late at times, though nothing is lost on average."""
COMMITS_PER_S = 20.0
"""Rounds of one worker's journal in a second: worlds of one worker share them."""
FOLLOW_SHARE = 0.45
"""Of a journalled frame's cost: what one that is followed costs, which wakes the process as that does and is taken, but is not
written. Measured: an edge with 80 readers of one world had 1.22 ms a tick beside them, its home 2.70 ms."""
NIC_BYTES_PER_S = 1.25e9
"""10 Gbit/s."""
HEAD_BYTES = 90
"""Of a datagram with a frame: IP, UDP, QUIC and ours."""


@dataclass(frozen=True, slots=True)
class Costs:
    """Microseconds of CPU, medians over runs. ``reader_us``: of one more reader's frame, by its bytes; ``ingest_us``: of a journalled
    frame, by how many publishers share a worker; ``turn_us``: of a tick in which anybody reads, beside both."""

    reader_us: dict[int, float]
    ingest_us: dict[int, float]
    turn_us: float = 0.0

    @classmethod
    def measured(cls, lines: Iterable[str]) -> Costs:
        """From raw results."""
        ticks: dict[tuple[int, int], list[float]] = {}
        ingest: dict[int, list[float]] = {}
        for line in lines:
            row = json.loads(line)
            params, measures = row.get("params", {}), row.get("measures", {})
            if params.get("hz") != HZ:
                continue
            if (
                row["scenario"] == "fanout"
                and params.get("relay") == "gateway"
                and params.get("readers") in FITTED
            ):
                at = params["frame_bytes"], params["readers"]
                ticks.setdefault(at, []).append(measures["relay_cpu_us_per_frame"] * params["readers"])
            elif row["scenario"] == "ingest" and params.get("frame_bytes") == SIZES[0]:
                ingest.setdefault(params["publishers"], []).append(measures["cpu_us_per_frame"])
        few, many = FITTED
        tick = {at: median(value for value in values if value) for at, values in ticks.items()}
        reader_us = {size: (tick[size, many] - tick[size, few]) / (many - few) for size, _ in sorted(tick)}
        ingest_us = _medians(ingest)
        turn_us = tick[SIZES[0], few] - few * reader_us[SIZES[0]] - ingest_us[min(ingest_us)]
        return cls(reader_us, ingest_us, max(0.0, turn_us))

    def ingest_at(self, worlds: int) -> float:
        """A frame's cost where so many worlds share a worker: between the measured points in proportion."""
        points = sorted(self.ingest_us.items())
        low = max((point for point in points if point[0] <= worlds), default=points[0])
        high = min((point for point in points if point[0] >= worlds), default=points[-1])
        if low[0] == high[0]:
            return low[1]
        return low[1] + (high[1] - low[1]) * (worlds - low[0]) / (high[0] - low[0])


def _medians(found: dict[int, list[float]]) -> dict[int, float]:
    return {key: median(value for value in values if value) for key, values in sorted(found.items())}


@dataclass(frozen=True, slots=True)
class Plan:
    """``servers`` game servers with a world each, ``clients`` readers of each world."""

    servers: int
    clients: int
    machines: int
    cores: int
    frame_bytes: int
    near: bool
    """Whether readers go to the machine that is their world's home."""


@dataclass(frozen=True, slots=True)
class Load:
    """What comes of a plan. Cores: shares of one that a worker uses; ``carried_share``: of the plan's readers, so many fit
    before the fullest worker is at 80 %."""

    readers: int
    follows: int
    cores_median: float
    cores_most: float
    machine_bytes_per_s_most: float
    commits_per_s: float
    carried_share: float
    full_first: str


def share(costs: Costs, frame_bytes: int, frames: int, worlds: int, follows: int) -> float:
    """Of a core that a worker uses: so many frames a tick to readers and followers, so many worlds whose home it is, and so many
    that it follows."""
    taken_us = (worlds + FOLLOW_SHARE * follows) * costs.ingest_at(max(1, worlds + follows))
    turn_us = costs.turn_us if frames else 0.0
    return HZ * (costs.reader_us[frame_bytes] * frames + taken_us + turn_us) / 1e6


def simulate(plan: Plan, costs: Costs, seed: int = SEED) -> Load:
    """Place everybody, and add up."""
    chance, workers = random.Random(seed), plan.machines * plan.cores
    homes = [chance.randrange(workers) for _ in range(plan.servers)]
    worlds, frames_out, frames_in = Counter(homes), Counter[int](), Counter[int]()
    follows = 0
    for home in homes:
        machine = home // plan.cores * plan.cores
        landed = Counter(
            machine + chance.randrange(plan.cores) if plan.near else chance.randrange(workers)
            for _ in range(plan.clients)
        )
        for at, count in landed.items():
            frames_out[at] += count
            if at != home:
                follows += 1
                frames_out[home] += 1
                frames_in[at] += 1
    used = [
        share(costs, plan.frame_bytes, frames_out[at], worlds[at], frames_in[at]) for at in range(workers)
    ]
    by_machine = [
        HZ
        * (plan.frame_bytes + HEAD_BYTES * (1 + plan.frame_bytes // 1_100))
        * sum(frames_out[at] for at in range(first, first + plan.cores))
        for first in range(0, workers, plan.cores)
    ]
    wire = max(by_machine) / NIC_BYTES_PER_S
    return Load(
        plan.servers * plan.clients,
        follows,
        round(median(used), 3),
        round(max(used), 3),
        round(max(by_machine)),
        COMMITS_PER_S * len(worlds),
        round(min(1.0, FULL / max(max(used), wire)), 2),
        "the network of one machine" if wire > max(used) else "the core of one worker",
    )


def plans() -> list[Plan]:
    """Those that are asked for, and what one would do."""
    return [
        Plan(servers, 100, machines, 8, frame_bytes, near)
        for servers, machines in ((100, 10), (500, 40))
        for frame_bytes in SIZES
        for near in (False, True)
    ]


def row(plan: Plan, load: Load) -> str:
    """As a line of the table."""
    cells = (
        f"{plan.servers} x {plan.clients}",
        f"{plan.machines} of {plan.cores} cores",
        f"{plan.frame_bytes // 1_024} KB",
        "at the home machine" if plan.near else "anywhere",
        f"{load.follows:,}",
        f"{load.cores_median:.0%} / {load.cores_most:.0%}",
        f"{load.machine_bytes_per_s_most / 1e6:.0f} MB/s",
        f"{load.commits_per_s:,.0f}",
        f"{load.carried_share:.0%}",
        load.full_first,
    )
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Entry."""
    parser = argparse.ArgumentParser(prog="python -m bench.sizing", description=__doc__)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    costs = Costs.measured((RESULTS / "published.jsonl").read_text().splitlines())
    if args.json:
        for plan in plans():
            print(json.dumps({**asdict(plan), **asdict(simulate(plan, costs))}))
        return
    print(
        f"a reader's frame, by bytes: {costs.reader_us} us; a tick with readers: {costs.turn_us:.0f} us; a journalled frame, by publishers of a worker: {costs.ingest_us} us"
    )
    print(
        "| servers x clients | machines | frame | readers land | follows | core, median / most | machine out, most | commits/s | readers carried | full first |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for plan in plans():
        print(row(plan, simulate(plan, costs)))


if __name__ == "__main__":
    main()
