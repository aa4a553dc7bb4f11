"""What does falling back to TCP cost? Many readers, half on each transport, in a busy zone. Room: bench/scenarios.

V-Sekai's acceptance test for the fallback: a zone of 1,800 records of 100 bytes, half of them moving at
20 Hz, 50 ms added delay, 1 % loss, 100 readers each held to 256 kbit/s (by the link, or by the budget they
ask for); and 20 readers with 60 moving records without a cap. The age is that of moving records.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path as FilePath
from typing import Any

from bench.ages import AgeHistogram
from bench.gateway import Gateway
from bench.link import Direction, LinkPath, Network
from bench.load import BUSY_SHARE
from bench.processes import Worker, workers
from bench.scenarios import Measured, Settings

TITLE = "The TCP fallback in a busy zone"
NEEDS_LINK = True
HZ = 20
LOSS = 0.01
ADDED_DELAY_MS = 50.0
CAP_KBPS = 256
HEADROOM = 1.15
"""The link's rate counts packet headers; the cap is meant for what a reader gets."""
QUEUE_BYTES = 16 * 1024
WARMUP_S = 15.0
RUN_SLACK_S = 90.0
RUN_S = 20.0
"""What a run takes besides the measuring: the warm-up, and a hundred readers to connect."""
DOORS = ("webtransport", "websocket")
PUBLISHER_DOOR = "websocket"
"""Over loopback TCP: on a crowded machine the publisher's own congestion control would be measured instead."""
LATE_SHARE = 0.1
"""A publisher that missed its time at more of its ticks than this was a bottleneck itself."""


def cases(short: bool) -> list[dict[str, Any]]:
    """Capped by the budget, capped by the link, and without a cap."""
    capped = {"readers": 100, "moving": 900, "still": 900}
    return [
        {**capped, "held_by": "budget"},
        {**capped, "held_by": "link"},
        {"readers": 20, "moving": 60, "still": 0, "held_by": "nothing"},
    ]


def measure(case: Mapping[str, Any], settings: Settings) -> Sequence[Measured]:
    """Each reader has an address of its own, so that each is throttled on its own."""
    each = case["readers"] // len(DOORS)
    rate = CAP_KBPS * HEADROOM if case["held_by"] == "link" else 0.0
    rule = Direction(delay_ms=ADDED_DELAY_MS, loss=LOSS, rate_kbps=rate, queue_bytes=QUEUE_BYTES)
    path = LinkPath(up=Direction(delay_ms=0.0, loss=LOSS), down=rule)
    common = {"seconds": settings.seconds, "warmup_s": WARMUP_S, "records": case["moving"]}
    with (
        tempfile.TemporaryDirectory() as folder,
        Network([path] * len(DOORS), addresses=each, seed=settings.seed) as net,
    ):
        near = net.hosts[0]
        with Gateway(FilePath(folder), near.address, prefix=near.command([])) as gateway:
            target = gateway.target("bench")
            load = {**common, "hz": HZ, "still": case["still"], "door": PUBLISHER_DOOR, "target": target}
            publisher = Worker("publish", load, near.command([]))
            publisher.wait_ready()
            budget = {"budget_kbps": CAP_KBPS} if case["held_by"] == "budget" else {}
            fields = {**common, "readers": each, "target": {**target, **budget}}
            readers = [
                Worker("read", {**fields, "door": way, "locals": list(host.addresses)}, host.command([]))
                for way, host in zip(DOORS, net.hosts[1:], strict=True)
            ]
            with workers(publisher, *readers):
                published, results = _run(publisher, readers, settings)
                gateway_cpu_s = gateway.server.cpu_s()
    ratio = _p95(results[1]) / _p95(results[0])
    late = published["late"] > LATE_SHARE * published["frames"]
    return [
        _measured(case, way, r, ratio, gateway_cpu_s, late) for way, r in zip(DOORS, results, strict=True)
    ]


def _run(
    publisher: Worker, readers: Sequence[Worker], settings: Settings
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    for reader in readers:
        reader.wait_ready()
    for worker in (publisher, *readers):
        worker.go()
    limit_s = settings.seconds + WARMUP_S + RUN_SLACK_S
    return publisher.result(limit_s), [reader.result(limit_s) for reader in readers]


def _p95(result: Mapping[str, Any]) -> float:
    return AgeHistogram.load(result["histogram"]).quantile_ms(0.95) or float("nan")


def _measured(
    case: Mapping[str, Any],
    way: str,
    result: Mapping[str, Any],
    ratio: float,
    gateway_cpu_s: float,
    publisher_late: bool,
) -> Measured:
    histogram = AgeHistogram.load(result["histogram"])
    measures = {
        **{k: v for k, v in histogram.measures().items() if not k.startswith("stalls")},
        "tcp_p95_of_udp_p95": ratio,
        "kbps_per_reader": result["bytes"] * 8 / 1000 / result["seconds"] / (case["readers"] / len(DOORS)),
        "gateway_cpu_s": gateway_cpu_s,
    }
    busy = publisher_late or result["cpu_share"] > BUSY_SHARE
    return Measured({**case, "door": way}, measures, ("generator_bound",) if busy else ())
