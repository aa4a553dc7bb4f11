"""Frames over a lossy link: how old is what a reader shows, by transport? Room: bench/scenarios.

The publisher is beside the gateway; every reader is alone in its namespace behind a path of its own
with the same rules, so that their losses are independent and their bytes can be told apart.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path as FilePath
from typing import Any

from bench.ages import AgeHistogram
from bench.gateway import Gateway
from bench.link import Direction, GilbertElliott, Path, open_network
from bench.payload import records_for
from bench.processes import Worker, workers
from bench.scenarios import Measured, Settings

TITLE = "Frames over a lossy link"
NEEDS_LINK = True
DOORS: tuple[dict[str, Any], ...] = (
    {"door": "webtransport"},
    {"door": "websocket"},
    {"door": "websocket", "conflate": False},
    {"door": "http"},
)
LOSS_PERCENT = (0.0, 0.5, 1.0, 2.0, 5.0)
RTT_MS = (1, 50, 100)
FRAMES = ((20, 1024), (60, 1024), (20, 4500), (60, 4500))
BURST_SLOTS = 8
SLOT_MS = 1000 / 60
"""Bursts last eight frames of 60 Hz on average, 133 ms, by the clock: as long as a fade of a radio link."""
RUN_SLACK_S = 30.0


def cases(short: bool) -> list[dict[str, Any]]:
    """Every loss by every round trip by every kind of frame, and bursts; in short, 60 Hz of 1 KB."""
    if short:
        return [_case(loss, 50, 60, 1024) for loss in (0.0, 2.0)]
    grid = [
        _case(loss, rtt, hz, size)
        for loss, rtt, (hz, size) in itertools.product(LOSS_PERCENT, RTT_MS, FRAMES)
    ]
    return grid + [_case(2.0, rtt, 60, 1024, burst=True) for rtt in (50, 100)]


def _case(
    loss_percent: float, rtt_ms: int, hz: int, frame_bytes: int, *, burst: bool = False
) -> dict[str, Any]:
    return {
        "loss_percent": loss_percent,
        "rtt_ms": rtt_ms,
        "hz": hz,
        "frame_bytes": frame_bytes,
        "burst": burst,
    }


def direction(case: Mapping[str, Any]) -> Direction:
    """The link's rule for a case, the same both ways."""
    loss = case["loss_percent"] / 100
    if case["burst"]:
        return Direction(
            delay_ms=case["rtt_ms"] / 2, burst=GilbertElliott.of_mean(loss, BURST_SLOTS, SLOT_MS)
        )
    return Direction(delay_ms=case["rtt_ms"] / 2, loss=loss)


def measure(case: Mapping[str, Any], settings: Settings) -> Sequence[Measured]:
    """One publisher, one reader per door, all at once."""
    records = records_for(case["frame_bytes"])
    common = {"seconds": settings.seconds, "warmup_s": settings.warmup_s, "records": records}
    path = Path.symmetric(direction(case))
    with (
        tempfile.TemporaryDirectory() as folder,
        open_network([path] * len(DOORS), settings.seed, netem=settings.netem) as network,
    ):
        server = network.hosts[0]
        with Gateway(FilePath(folder), server.address, prefix=server.command([])) as gateway:
            target = gateway.target("bench")
            publisher = Worker(
                "publish",
                {**common, "hz": case["hz"], "door": "webtransport", "target": target},
                server.command([]),
            )
            publisher.wait_ready()  # it makes the world
            readers = [
                Worker(
                    "read",
                    {**common, "readers": 1, "target": {**target, **way}, "door": way["door"]},
                    host.command([]),
                )
                for way, host in zip(DOORS, network.hosts[1:], strict=True)
            ]
            with workers(publisher, *readers):
                results = _run(publisher, readers, settings)
    down = network.report.get("bytes_down") or [0] * len(DOORS)
    return [_measured(case, way, r, d, settings) for way, r, d in zip(DOORS, results, down, strict=True)]


def _run(publisher: Worker, readers: Sequence[Worker], settings: Settings) -> list[dict[str, Any]]:
    for reader in readers:
        reader.wait_ready()
    for worker in (*readers, publisher):
        worker.go()
    limit_s = settings.seconds + settings.warmup_s + RUN_SLACK_S
    publisher.result(limit_s)
    return [reader.result(limit_s) for reader in readers]


def _measured(
    case: Mapping[str, Any],
    way: Mapping[str, Any],
    result: Mapping[str, Any],
    down_bytes: int,
    settings: Settings,
) -> Measured:
    histogram = AgeHistogram.load(result["histogram"])
    one_way_ms = case["rtt_ms"] / 2
    p99 = histogram.quantile_ms(0.99)
    offered = case["hz"] * result["seconds"]
    measures = {
        **histogram.measures(),
        "excess_p99_ms": None if p99 is None else p99 - one_way_ms,
        "above_100ms_percent": 100 * histogram.share_above(one_way_ms + 100),
        "frames_never_seen_percent": 100 * max(0.0, 1 - result["frames_seen"] / offered),
        "wire_kbps": down_bytes * 8 / 1000 / (settings.seconds + settings.warmup_s),
    }
    door = way["door"] + ("" if way.get("conflate", True) else ", conflation off")
    return Measured({**case, "door": door}, measures)
