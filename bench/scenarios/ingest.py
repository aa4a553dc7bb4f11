"""Ingest: what does one frame cost from datagram to disk, and how far behind is the disk? Room: bench/scenarios.

Loopback, each game server a world of its own, journalled on the embedded engine. ``durable_lag`` is from the
receipt of each frame to its being in the store, by the gateway's own metric (the smallest of its bounds that
the share kept within). ``told_after`` is from the publisher's sending to the ``durable`` notice that names the
tick: notices come at most every 100 ms a world and name the newest durable tick only.
"""

from __future__ import annotations

import re
import ssl
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx

from bench.gateway import Gateway
from bench.load import BUSY_SHARE
from bench.payload import records_for
from bench.processes import Worker, workers
from bench.scenarios import Measured, Settings
from gateway.runtime.lags import quantile_ms

TITLE = "Ingest from many game servers"
NEEDS_LINK = False
PUBLISHERS = (1, 10, 100, 500)
HZ = 60
RUN_SLACK_S = 90.0
WORLDS_SPARE = 64
"""Of worlds that may be open: the default bound is for fewer game servers than are tried here."""
LAGS = r'^mvgateway_journal_frames_total{[^}]*within_ms="([^"]+)"[^}]*} (\S+)$'
RECEIVED = r'^mvgateway_world_events_total{[^}]*what="received"[^}]*} (\S+)$'


def cases(short: bool) -> list[dict[str, Any]]:
    """Publishers by frame size."""
    counts = (1, 10) if short else PUBLISHERS
    made = [{"publishers": n, "hz": HZ, "frame_bytes": 1024} for n in counts]
    return made if short else [*made, {"publishers": 10, "hz": HZ, "frame_bytes": 5120}]


def frames_by_lag(gateway: Gateway) -> tuple[float, Counter[str]]:
    """Frame messages that the gateway took, and its frames by durable lag, over all worlds."""
    context = ssl.create_default_context(cafile=str(gateway.ca))
    text = httpx.get(f"{gateway.url}/metrics", verify=context).text
    lags = Counter[str]()
    for bound, count in re.findall(LAGS, text, re.MULTILINE):
        lags[bound] += int(count)
    return sum(float(v) for v in re.findall(RECEIVED, text, re.MULTILINE)), lags


def measure(case: Mapping[str, Any], settings: Settings) -> Sequence[Measured]:
    """``publishers`` publishers in one process. What becomes durable in the warm-up does not count."""
    common = {
        "seconds": settings.seconds,
        "warmup_s": settings.warmup_s,
        "records": records_for(case["frame_bytes"]),
    }
    worlds = ("--worlds-max", str(case["publishers"] + WORLDS_SPARE))
    with tempfile.TemporaryDirectory() as folder, Gateway(Path(folder), extra=worlds) as gateway:
        load = {**common, "publishers": case["publishers"], "hz": case["hz"], "door": "webtransport"}
        worker = Worker("ingest", {**load, "target": gateway.target("bench")})
        with workers(worker):
            worker.wait_ready()
            worker.go()
            time.sleep(settings.warmup_s)
            _, early = frames_by_lag(gateway)
            before = gateway.server.cpu_s()
            time.sleep(settings.seconds)
            cpu_share = (gateway.server.cpu_s() - before) / settings.seconds
            result = worker.result(settings.seconds + RUN_SLACK_S)
            received, lags = frames_by_lag(gateway)
    return [_measured(case, result, received, lags - early, cpu_share)]


def _measured(
    case: Mapping[str, Any],
    result: Mapping[str, Any],
    received: float,
    lags: Counter[str],
    cpu_share: float,
) -> Measured:
    told = sorted(result["lags_ms"])
    within = {bound: float(count) for bound, count in lags.items()}
    frames_per_s = result["frames"] / result["seconds"]
    taken_per_s = frames_per_s * min(1.0, received / result["messages"])
    measures = {
        "cpu_us_per_frame": 1e6 * cpu_share / taken_per_s if taken_per_s else None,
        "gateway_cpu_percent": 100 * cpu_share,
        "messages_lost_percent": 100 * max(0.0, 1 - received / result["messages"]),
        "durable_lag_p50_ms": quantile_ms(within, 0.5),
        "durable_lag_p99_ms": quantile_ms(within, 0.99),
        "told_after_p50_ms": told[len(told) // 2] if told else None,
        "told_after_p99_ms": told[int(len(told) * 0.99)] if told else None,
        "offered_percent": 100 * frames_per_s / (case["publishers"] * case["hz"]),
        "generator_cpu_percent": 100 * result["cpu_share"],
    }
    return Measured(case, measures, ("generator_bound",) if result["cpu_share"] > BUSY_SHARE else ())
