"""Frames over a lossy link: how old is what a reader shows, by transport? Room: bench/scenarios.

The publisher is beside the gateway. Every round trip has a namespace of its own, every reader in it an address of its
own: their losses are independent and their bytes can be told apart. All transports and all round
trips of a case run at once, so that they meet the same machine; the readers are not pinned, because a dozen of
them on one core would wait for each other. Link and gateway stay up for the runs of
a case; world, connections and the link's chances are new in each.
"""

from __future__ import annotations

import contextlib
import itertools
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path as FilePath
from typing import Any

from bench.ages import AgeHistogram
from bench.gateway import Gateway
from bench.link import Direction, GilbertElliott, Host, LinkPath, open_network
from bench.link.beside import Beside
from bench.load import BUSY_SHARE
from bench.payload import records_for
from bench.processes import Station
from bench.scenarios import Measured, Run, Settings, link_marks, since

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
FRAMES = ((60, 1024), (60, 4500), (20, 1024), (20, 4500))
BURST_SLOTS = 8
SLOT_MS = 1000 / 60
"""Bursts last eight frames of 60 Hz on average, 133 ms, by the clock: as long as a fade of a radio link."""
BURST_SECONDS_FACTOR = 3.0
"""A fade comes once in six seconds: those cases are measured for longer."""
RUN_SLACK_S = 30.0
CASE_S = 9.0
RUN_S = 2.5


def cases(short: bool) -> list[dict[str, Any]]:
    """Every loss by every kind of frame, and bursts, each at every round trip; in short, 60 Hz of 1 KB at 50 ms."""
    if short:
        return [_case(loss, (50,), 60, 1024) for loss in (0.0, 2.0)]
    grid = [_case(loss, RTT_MS, hz, size) for (hz, size), loss in itertools.product(FRAMES, LOSS_PERCENT)]
    return [*grid, _case(2.0, RTT_MS[1:], 60, 1024, burst=True)]


def _case(
    loss_percent: float, rtt_ms: tuple[int, ...], hz: int, frame_bytes: int, *, burst: bool = False
) -> dict[str, Any]:
    return {
        "loss_percent": loss_percent,
        "rtt_ms": rtt_ms,
        "hz": hz,
        "frame_bytes": frame_bytes,
        "burst": burst,
    }


def seconds_of(case: Mapping[str, Any], settings: Settings) -> float:
    """Seconds measured in one run of a case."""
    return settings.seconds * (BURST_SECONDS_FACTOR if case["burst"] and not settings.short else 1.0)


def direction(case: Mapping[str, Any], rtt_ms: float) -> Direction:
    """The link's rule for one round trip of a case, the same both ways."""
    loss = case["loss_percent"] / 100
    if case.get("rate_kbps"):
        return Direction(
            delay_ms=rtt_ms / 2, loss=loss, rate_kbps=case["rate_kbps"], queue_bytes=case["queue_bytes"]
        )
    if case["burst"]:
        burst = GilbertElliott.of_mean(loss, BURST_SLOTS, SLOT_MS)
        return Direction(delay_ms=rtt_ms / 2, burst=burst)
    return Direction(delay_ms=rtt_ms / 2, loss=loss)


@contextlib.contextmanager
def opened(
    case: Mapping[str, Any], settings: Settings, doors: Sequence[Mapping[str, Any]] = DOORS
) -> Iterator[Run]:
    """Link, gateway and load generators for all runs of a case. ``doors``: the ways of reading that are compared."""
    settings = replace(settings, seconds=seconds_of(case, settings))
    paths = [LinkPath.symmetric(direction(case, rtt_ms)) for rtt_ms in case["rtt_ms"]]
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        network = stack.enter_context(
            open_network(paths, settings.seed, netem=settings.netem, addresses=len(doors), tcp=settings.tcp)
        )
        near = network.hosts[0]
        publisher = stack.enter_context(Station(near.command([]), spread=True))
        readers = [
            _Reader(rtt_ms, way, host, address, stack.enter_context(Station(host.command([]), spread=True)))
            for rtt_ms, host in zip(case["rtt_ms"], network.hosts[1:], strict=True)
            for way, address in zip(doors, host.addresses, strict=True)
        ]
        gateway = stack.enter_context(Gateway(FilePath(folder), near.address, prefix=near.command([])))
        runs = itertools.count()

        beside = stack.enter_context(Beside(near, case.get("bulk_flows", 0), case.get("bulk_tcp", "")))

        def run(seed: int) -> Sequence[Measured]:
            network.begin(paths, seed)
            _connect(case, settings, gateway.target(f"bench-{next(runs)}"), publisher, readers)
            before_s, before = gateway.server.cpu_s(), network.counters()
            _go(publisher, readers)
            time.sleep(settings.warmup_s / 2)
            beside.begin(
                [(r.station_host, r.address) for r in readers], settings.seconds + settings.warmup_s / 2
            )
            published, results = _results(settings, publisher, readers)
            shares = beside.shares()
            counters = since(before, network.counters())
            share = (gateway.server.cpu_s() - before_s) / published["seconds"]
            marks = link_marks(counters, settings)
            if published["cpu_share"] > BUSY_SHARE or published["late"] > 0.1 * published["frames"]:
                marks = (*marks, "generator_bound")
            if share > BUSY_SHARE:
                marks = (*marks, "gateway_bound")
            measured = [
                _measured(case, reader, result, counters, settings, marks)
                for reader, result in zip(readers, results, strict=True)
            ]
            return [
                replace(one, measures={**one.measures, **share})
                for one, share in zip(measured, shares, strict=True)
            ]

        yield run


class _Reader:
    """One reader's place and process."""

    def __init__(
        self, rtt_ms: int, way: Mapping[str, Any], host: Host, address: str, station: Station
    ) -> None:
        self.rtt_ms, self.way, self.address, self.station = rtt_ms, way, address, station
        self.station_host = host
        self.door = way.get("label") or way["door"] + (
            "" if way.get("conflate", True) else ", conflation off"
        )


def _connect(
    case: Mapping[str, Any],
    settings: Settings,
    target: Mapping[str, Any],
    publisher: Station,
    readers: Sequence[_Reader],
) -> None:
    """A new world, a new publisher, new readers."""
    common = {
        "seconds": settings.seconds,
        "warmup_s": settings.warmup_s,
        "records": records_for(case["frame_bytes"]),
        "target": target,
    }
    publisher.begin("publish", {**common, "hz": case["hz"], "door": "webtransport"})
    publisher.wait_ready()  # it makes the world
    for reader in readers:
        place = {**target, **reader.way, "local": reader.address}
        reader.station.begin("read", {**common, "readers": 1, "target": place, "door": reader.way["door"]})
    for reader in readers:
        reader.station.wait_ready()


def _go(publisher: Station, readers: Sequence[_Reader]) -> None:
    for station in (*(reader.station for reader in readers), publisher):
        station.go()


def _results(
    settings: Settings, publisher: Station, readers: Sequence[_Reader]
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What the publisher and each reader say of one run."""
    limit_s = settings.seconds + settings.warmup_s + RUN_SLACK_S
    results = [reader.station.result(limit_s) for reader in readers]
    return publisher.result(limit_s), results


def _measured(
    case: Mapping[str, Any],
    reader: _Reader,
    result: Mapping[str, Any],
    counters: Mapping[str, Any],
    settings: Settings,
    marks: tuple[str, ...],
) -> Measured:
    histogram = AgeHistogram.load(result["histogram"])
    one_way_ms = reader.rtt_ms / 2
    p99 = histogram.quantile_ms(0.99)
    offered = case["hz"] * result["seconds"]
    down_bytes = None if counters.get("by") == "netem" else counters["bytes_down"].get(reader.address, 0)
    per_minute = 60 / result["seconds"] / records_for(case["frame_bytes"])
    measures = {
        **{k: v for k, v in histogram.measures().items() if k.startswith("age")},
        "stalls_100_per_min": histogram.stalls_100 * per_minute,
        "stalls_250_per_min": histogram.stalls_250 * per_minute,
        "excess_p99_ms": None if p99 is None else p99 - one_way_ms,
        "above_100ms_percent": 100 * histogram.share_above(one_way_ms + 100),
        "frames_never_seen_percent": 100 * max(0.0, 1 - result["frames_seen"] / offered),
        "wire_kbps": None
        if down_bytes is None
        else down_bytes * 8 / 1000 / (settings.seconds + settings.warmup_s),
        "reader_cpu_percent": 100 * result["cpu_share"],
    }
    if result["cpu_share"] > BUSY_SHARE:
        marks = tuple(dict.fromkeys((*marks, "generator_bound")))
    return Measured({**case, "rtt_ms": reader.rtt_ms, "door": reader.door}, measures, marks)
