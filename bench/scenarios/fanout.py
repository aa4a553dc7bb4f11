"""Fan-out: what does one delivered frame cost the relay, and how old is it? Room: bench/scenarios.

Loopback. The relay's CPU time is read at both ends of the measured window; the readers' process has
its own share told, and the row is marked where that was the bottleneck. Peers run in the same run.
"""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.ages import AgeHistogram
from bench.doors import LEAN
from bench.gateway import Gateway
from bench.load import BUSY_SHARE
from bench.payload import records_for
from bench.peers import servers
from bench.processes import BenchError, Server, Worker, free_port, workers
from bench.scenarios import Measured, Settings

TITLE = "Fan-out to many readers"
NEEDS_LINK = False
RELAYS = ("gateway", "gateway stock path", "gateway websocket", "stock", "redis", "nats")
READERS = (1, 20, 100, 400)
HZ = 60
RUN_SLACK_S = 60.0
LEAF = ("leaf.pem", "leaf.key")


def cases(short: bool) -> list[dict[str, Any]]:
    """Relays by readers by frame size."""
    sizes, counts = ((1024,), (20, 100)) if short else ((1024, 4096), READERS)
    relays = ("gateway", "gateway websocket", "stock", "redis") if short else RELAYS
    return [
        {"relay": relay, "readers": count, "frame_bytes": size, "hz": HZ}
        for size in sizes
        for count in counts
        for relay in relays
    ]


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


def measure(case: Mapping[str, Any], settings: Settings) -> Sequence[Measured]:
    """One publisher, ``readers`` readers in one process."""
    common = {
        "seconds": settings.seconds,
        "warmup_s": settings.warmup_s,
        "records": records_for(case["frame_bytes"]),
    }
    with (
        tempfile.TemporaryDirectory() as folder,
        _relay(case["relay"], Path(folder)) as (server, way, target),
    ):
        idle_bytes = server.rss_bytes()
        sender = "webtransport" if way == "websocket" else way
        publisher = Worker("publish", {**common, "hz": case["hz"], "door": sender, "target": target})
        publisher.wait_ready()  # it makes the world
        load = {**common, "readers": case["readers"], "door": way, "lean": way in LEAN, "target": target}
        reader = Worker("read", load)
        with workers(reader, publisher):
            reader.wait_ready()
            connected_bytes = server.rss_bytes()
            reader.go()
            publisher.go()
            cpu_s = _window_cpu_s(server, settings)
            limit_s = settings.seconds + settings.warmup_s + RUN_SLACK_S
            published, read = publisher.result(limit_s), reader.result(limit_s)
    memory_bytes = (connected_bytes - idle_bytes) / case["readers"]
    return [_measured(case, published, read, cpu_s / settings.seconds, memory_bytes)]


def _window_cpu_s(server: Server, settings: Settings) -> float:
    """CPU seconds of the relay over the measured window."""
    time.sleep(settings.warmup_s)
    before = server.cpu_s()
    time.sleep(settings.seconds)
    return server.cpu_s() - before


def _measured(
    case: Mapping[str, Any],
    published: Mapping[str, Any],
    read: Mapping[str, Any],
    relay_share: float,
    memory_bytes: float,
) -> Measured:
    histogram = AgeHistogram.load(read["histogram"])
    delivered_per_s = read["frames_seen"] / read["seconds"]
    measures = {
        "relay_cpu_us_per_frame": 1e6 * relay_share / delivered_per_s if delivered_per_s else None,
        "relay_cpu_percent": 100 * relay_share,
        "delivered_percent": 100 * delivered_per_s / (case["readers"] * case["hz"]),
        **{k: v for k, v in histogram.measures().items() if k in ("age_p50_ms", "age_p99_ms")},
        "memory_kib_per_reader": memory_bytes / 1024,
        "generator_cpu_percent": 100 * read["cpu_share"],
    }
    busy = max(read["cpu_share"], published["cpu_share"]) > BUSY_SHARE
    return Measured(case, measures, ("generator_bound",) if busy else ())
