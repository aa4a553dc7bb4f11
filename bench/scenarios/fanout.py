"""Fan-out: what does one delivered frame cost the relay, and how old is it? Room: bench/scenarios.

Loopback. Relay and readers are pinned apart; QUIC readers are lean (:mod:`bench.lean`), the same for every QUIC relay.
The relay's CPU time is read at both ends of the measured window; the load's processes have their own shares
told, and the row is marked where one was the bottleneck. The readers stay connected for the runs of a case,
the publisher goes on through all of them; peers run in the same run.
"""

from __future__ import annotations

import contextlib
import itertools
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.ages import AgeHistogram
from bench.cores import ALL
from bench.doors import LEAN
from bench.gateway import Gateway
from bench.load import BUSY_SHARE
from bench.payload import records_for
from bench.peers import servers
from bench.processes import BenchError, Server, Station, free_port
from bench.scenarios import Measured, Run, Settings

TITLE = "Fan-out to many readers"
NEEDS_LINK = False
RELAYS = ("gateway", "gateway stock path", "gateway websocket", "stock", "redis", "nats")
GRID = {1024: (1, 20, 100, 400), 4096: (20, 100, 400)}
"""Bytes a frame -> readers."""
TOO_MANY = {1024: 1000, 4096: 600}
"""More readers than one core carries, of the gateway alone: what is left of it then?"""
HZ = 60
RUN_SLACK_S = 60.0
LEAF = ("leaf.pem", "leaf.key")
CASE_S = 6.0
MORE_RUNS_MAX = 64
"""Windows that the readers' process would answer; as many as anybody asks for."""


def cases(short: bool) -> list[dict[str, Any]]:
    """Relays by readers by frame size."""
    grid = {1024: (20, 100)} if short else GRID
    relays = tuple(name for name in RELAYS if not short or name != "gateway stock path")
    wanted = [(relay, count, size) for size, counts in grid.items() for count in counts for relay in relays]
    if not short:
        wanted += [("gateway", count, size) for size, count in TOO_MANY.items()]
    return [
        {"relay": relay, "readers": count, "frame_bytes": size, "hz": HZ} for relay, count, size in wanted
    ]


def run_s(case: Mapping[str, Any], settings: Settings) -> float:
    """Seconds that a run takes: the window alone."""
    return settings.seconds + 0.4


@contextlib.contextmanager
def _relay(name: str, folder: Path) -> Iterator[tuple[Server, str, dict[str, Any]]]:
    """The relay's server process, its door, and the door's target."""
    if name.startswith("gateway"):
        extra = ("--quic-path", "stock") if name == "gateway stock path" else ()
        with Gateway(folder, extra=extra) as gateway:
            way = "websocket" if name == "gateway websocket" else "webtransport"
            yield gateway.server, way, gateway.target("bench")
        return
    reason = servers.available(name)
    if reason:
        raise BenchError(f"peer {name} is missing: {reason}")
    port = free_port()
    with _peer(name, port, folder) as server:
        yield server, name, {"host": "127.0.0.1", "port": port}


def _peer(name: str, port: int, folder: Path) -> Server:
    if name == "stock":
        with Gateway(folder) as gateway:  # for its certificates only
            certificates = gateway.ca.parent
        return servers.stock_relay("127.0.0.1", port, certificates / LEAF[0], certificates / LEAF[1])
    start = {"redis": servers.redis, "nats": servers.nats}[name]
    return start("127.0.0.1", port, folder)


@contextlib.contextmanager
def opened(case: Mapping[str, Any], settings: Settings) -> Iterator[Run]:
    """One publisher, ``readers`` readers in one process, connected for all runs of the case."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server, way, target = stack.enter_context(_relay(case["relay"], folder))
        publisher, reader = stack.enter_context(Station()), stack.enter_context(Station())
        common = {
            "seconds": settings.seconds,
            "warmup_s": settings.warmup_s,
            "records": records_for(case["frame_bytes"]),
            "target": target,
        }
        idle_bytes = server.rss_bytes()
        sender = "webtransport" if way == "websocket" else way
        publisher.begin("publish", {**common, "hz": case["hz"], "door": sender, "steady": True})
        publisher.wait_ready()  # it makes the world
        load = {"readers": case["readers"], "door": way, "lean": way in LEAN, "windows": MORE_RUNS_MAX}
        reader.begin("read", {**common, **load})
        reader.wait_ready()
        memory_kib = (server.rss_bytes() - idle_bytes) / case["readers"] / 1024
        publisher.go()
        started = itertools.count()

        def run(seed: int) -> Sequence[Measured]:
            publisher_s, publisher_at = publisher.cpu_s(), time.monotonic()
            reader.go()
            if next(started) == 0:
                time.sleep(settings.warmup_s)
            before_s = server.cpu_s()
            time.sleep(settings.seconds)
            share = (server.cpu_s() - before_s) / settings.seconds
            read = reader.result(settings.seconds + RUN_SLACK_S)
            publishing = (publisher.cpu_s() - publisher_s) / (time.monotonic() - publisher_at)
            return [_measured(case, publishing, read, share, memory_kib)]

        yield run


def _measured(
    case: Mapping[str, Any],
    publisher_share: float,
    read: Mapping[str, Any],
    relay_share: float,
    memory_kib: float,
) -> Measured:
    histogram = AgeHistogram.load(read["histogram"])
    delivered_per_s = read["frames_seen"] / read["seconds"]
    measures = {
        "relay_cpu_us_per_frame": 1e6 * relay_share / delivered_per_s if delivered_per_s else None,
        "relay_cpu_percent": 100 * relay_share,
        "delivered_percent": 100 * delivered_per_s / (case["readers"] * case["hz"]),
        **{k: v for k, v in histogram.measures().items() if k in ("age_p50_ms", "age_p99_ms")},
        "memory_kib_per_reader": memory_kib,
        "generator_cpu_percent": 100 * read["cpu_share"],
        "publisher_cpu_percent": 100 * publisher_share,
    }
    shares = (read["cpu_share"], publisher_share)
    busy = max(shares) if len(ALL) > 2 else sum(shares)  # on two cores they share one
    return Measured(case, measures, ("generator_bound",) if busy > BUSY_SHARE else ())
