"""Several gateways over one store: what an edge's reader and an edge cost, and what time an edge adds. Room: bench.

``python -m bench.edges [--rounds 3] [--seconds 4] [--frame-bytes 1024] [--link] [--json]`` (part of ``make scale``): a store and two gateways, each
a process; one publisher at 60 Hz at the first. Told are microseconds of CPU a delivered frame at the home and at the edge, the slope over
windows with few and with many readers at one of them by turns (asked: an edge's within 10 % of a home's); those of the home for a session that is another
gateway's, beside an ordinary reader's by the same client (asked: at most twice; a gateway has one session a world, however
many readers it has); and tick by tick how much later a frame is at a reader of the edge than at one of the home's, both
of one process, by WebTransport (asked: p50 below 1 ms, p99 below 4).

``--link``: instead, over a link of 50 ms round trip and 2 % loss the home's own readers beside those of an edge on their side of it: ages
of frames when they arrive, p99 (asked: at most 5 ms more through the edge). Needs root (network namespaces).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np

from bench.ages import AgeHistogram, merged
from bench.gateway import Gateway
from bench.link import Direction, LinkPath, open_network, unavailable_because
from bench.payload import messages, records_for
from bench.processes import Station, free_port
from bench.scale import HZ, WARMUP_S, WORLD, Window, cost, counters
from bench.scenarios._store import start_store
from gateway.client import Publisher, Subscriber
from gateway.client.address import Address, world_path
from gateway.config import Settings
from gateway.runtime.edges.feed import Feed
from gateway.runtime.edges.peers import Peers
from gateway.wire import Control, Frame

READERS = (20, 80)
SESSIONS = (10, 40)
TICKS = 900
PUBLISHED_S = 600.0
"""Longer than the windows of a round."""
COST_MAX, SESSION_MAX, P50_MS_MAX, P99_MS_MAX, STALER_MS_MAX = 1.10, 2.0, 1.0, 4.0, 5.0
RTT_MS, LOSS = 50.0, 0.02


class Site(NamedTuple):
    """A store and two gateways over it."""

    home: Gateway
    edge: Gateway


@contextlib.contextmanager
def site() -> Iterator[Site]:
    """On loopback."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        port = free_port()
        stack.enter_context(start_store(folder, "127.0.0.1", port, ()))
        flags = ("--store", f"http://127.0.0.1:{port}", "--peers", "store")
        home, edge = [stack.enter_context(Gateway(folder, extra=flags)) for _ in range(2)]
        yield Site(home, edge)


@contextlib.contextmanager
def published(gateway: Gateway, frame_bytes: int, seconds: float) -> Iterator[None]:
    """A world under way, for so long."""
    with Station() as publisher:
        publisher.begin(
            "publish",
            {
                "seconds": seconds,
                "warmup_s": WARMUP_S,
                "records": records_for(frame_bytes),
                "target": gateway.target(WORLD),
                "hz": HZ,
                "door": "webtransport",
                "steady": True,
            },
        )
        publisher.wait_ready()
        publisher.go()
        yield


def window(gateway: Gateway, frame_bytes: int, seconds: float) -> Window:
    """What that gateway did within so many seconds."""
    before, began = counters(gateway)[""], time.monotonic()
    time.sleep(seconds)
    after, took = counters(gateway)[""], time.monotonic() - began
    delivered = after.get("delivered", 0.0) - before.get("delivered", 0.0)
    return Window(after["cpu_s"] - before["cpu_s"], delivered / _a_tick(frame_bytes), took)


def _a_tick(frame_bytes: int) -> int:
    return len(messages(1, records_for(frame_bytes), 0))


def of_readers(gateways: Site, frame_bytes: int, seconds: float, readers: int, *, at_edge: bool) -> Window:
    """One window of the gateway that has the readers."""
    gateway = gateways.edge if at_edge else gateways.home
    with Station() as reader:
        common = {
            "seconds": seconds + 4 * WARMUP_S,
            "warmup_s": WARMUP_S,
            "records": records_for(frame_bytes),
        }
        more = {"readers": readers, "door": "webtransport", "lean": True, "windows": 1}
        reader.begin("read", {**common, **more, "target": gateway.target(WORLD)})
        reader.wait_ready()
        reader.go()
        time.sleep(WARMUP_S)
        return window(gateway, frame_bytes, seconds)


def of_sessions(gateways: Site, frame_bytes: int, seconds: float, sessions: int, *, as_edges: bool) -> Window:
    """One window of the home, whose readers are all of the same client: other gateways, or none."""
    told = {
        "url": gateways.home.url,
        "ca": str(gateways.home.ca),
        "sessions": sessions,
        "as_edges": as_edges,
    }
    argv = [sys.executable, "-m", "bench.edges", "--sessions", json.dumps(told)]
    client = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert client.stdout is not None
        assert client.stdout.readline() == "ready\n"
        time.sleep(WARMUP_S)
        return window(gateways.home, frame_bytes, seconds)
    finally:
        client.kill()
        client.communicate()


class _Reader(Feed):
    """The same client, which does not say that it is another gateway."""

    def _control(self, message: Control) -> None:
        if message.type == "welcome" and not self.begun.done():
            self.begun.cancel()


async def _follow(told: dict[str, Any]) -> None:
    """``sessions`` sessions that read and keep nothing, until the process is ended."""
    peers = Peers(Settings(peers=("store",)), "", Path(told["ca"]))
    kind = Feed if told["as_edges"] else _Reader
    for _ in range(told["sessions"]):
        feed = kind(Address.parse(told["url"]), lambda feed, news: None, lambda feed: None)
        await feed.open(peers, world_path(WORLD, "live", zstd=True), 20.0)
        await asyncio.wait([feed.begun], timeout=20.0)
        feed.release(_nothing)
    print("ready", flush=True)
    await asyncio.sleep(3_600)


def _nothing(frame: Frame, data: bytes) -> None:
    """It has come."""


async def added_ms(gateways: Site, ticks: int) -> tuple[list[float], list[float]]:
    """Tick by tick, how much later a frame is at a reader of the edge than at one of the home's; and how much later it is at
    another reader of the home's, which is what a busy machine adds to whatever is measured so."""
    at: list[dict[int, float]] = [{}, {}, {}]

    def note(seen: dict[int, float]) -> Any:
        return lambda frame: seen.setdefault(frame.tick, time.perf_counter())

    kept: dict[str, Any] = {"transport": "webtransport", "ca": gateways.home.ca}
    async with (
        Publisher(gateways.home.url, WORLD, takeover=True, **kept) as publisher,
        Subscriber(gateways.edge.url, WORLD, on_message=note(at[1]), **kept),
        Subscriber(gateways.home.url, WORLD, on_message=note(at[0]), **kept),
        Subscriber(gateways.home.url, WORLD, on_message=note(at[2]), **kept),
    ):
        values = {key: bytes(100) for key in range(10)}
        started = time.perf_counter()
        for tick in range(1, ticks + 1):
            publisher.send(values)
            await asyncio.sleep(max(0.0, started + tick / HZ - time.perf_counter()))
        await asyncio.sleep(0.5)
    return _later(at[1], at[0]), _later(at[2], at[0])


def _later(seen: dict[int, float], than: dict[int, float]) -> list[float]:
    return [(late - than[tick]) * 1e3 for tick, late in seen.items() if tick > HZ and tick in than]


def over_a_link(rounds: int, seconds: float, frame_bytes: int) -> dict[str, list[dict[str, Any]]]:
    """Ages in ms of frames at readers on the far side of the link, straight and through an edge that is there: by turns."""
    link = LinkPath(*[Direction(delay_ms=RTT_MS / 2, loss=LOSS / 2)] * 2)
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        network = stack.enter_context(open_network([link], 1))
        near, far = (host.command([]) for host in network.hosts[:2])
        here, there = (host.address for host in network.hosts[:2])
        port = free_port()
        stack.enter_context(start_store(folder, here, port, near))
        flags = (
            "--store",
            f"http://{here}:{port}",
            "--peers",
            "store",
            "--peer-ca",
            str(folder / "certs" / "ca.pem"),
        )
        home = stack.enter_context(Gateway(folder, here, prefix=near, extra=flags))
        edge = stack.enter_context(
            Gateway(folder, there, prefix=far, extra=(*flags, "--certs", str(folder / "edge")))
        )
        edge.ca = folder / "edge" / "ca.pem"
        common = {"warmup_s": 2 * WARMUP_S, "records": records_for(frame_bytes)}
        with Station(near) as publisher:
            told = {"seconds": PUBLISHED_S, "hz": HZ, "door": "webtransport", "steady": True}
            publisher.begin("publish", {**common, **told, "target": home.target(WORLD)})
            publisher.wait_ready()
            publisher.go()
            found: dict[str, list[dict[str, Any]]] = {"straight": [], "edge": []}
            for _ in range(rounds):
                for way, gateway in (("straight", home), ("edge", edge)):
                    with Station(far) as reader:
                        told = {"seconds": seconds, "readers": 4, "door": "webtransport", "windows": 1}
                        reader.begin("read", {**common, **told, "target": gateway.target(WORLD)})
                        reader.wait_ready()
                        reader.go()
                        found[way].append(reader.result(seconds + 60.0))
        return found


def measured(frame_bytes: int, rounds: int, seconds: float) -> dict[str, Any]:
    """All of one size of frames."""
    windows: dict[str, list[Window]] = {}
    for _ in range(rounds):
        with site() as gateways, published(gateways.home, frame_bytes, PUBLISHED_S):
            for at in (0, 1):
                for name, is_edge in (("home", False), ("edge", True)):
                    found = of_readers(gateways, frame_bytes, seconds, READERS[at], at_edge=is_edge)
                    windows.setdefault(name, []).append(found)
                for name, is_edge in (("reader", False), ("gateway", True)):
                    found = of_sessions(gateways, frame_bytes, seconds, SESSIONS[at], as_edges=is_edge)
                    windows.setdefault(name, []).append(found)
    costs = {name: cost(some) for name, some in windows.items()}
    return {
        "frame_bytes": frame_bytes,
        "frame_us": {name: one.frame_us for name, one in costs.items()},
        "rest": {name: one.rest for name, one in costs.items()},
        "edge_to_home": costs["edge"].frame_us / costs["home"].frame_us,
        "gateway_to_reader": costs["gateway"].frame_us / costs["reader"].frame_us,
    }


def main() -> int:
    """Entry."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.edges",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--frame-bytes", type=int, default=1_024)
    parser.add_argument("--link", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--sessions", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.sessions:
        asyncio.run(_follow(json.loads(args.sessions)))
        return 0
    if args.link:
        why = unavailable_because()
        if why is not None:
            print(why, file=sys.stderr)
            return 2
        return _show_link(over_a_link(args.rounds, args.seconds, args.frame_bytes), as_json=args.json)
    told = measured(args.frame_bytes, args.rounds, args.seconds)
    with site() as gateways:
        added, beside = asyncio.run(added_ms(gateways, TICKS))
    p50, p99 = (float(np.percentile(added, part)) for part in (50, 99))
    noise = float(np.percentile(beside, 99))
    told["added_ms"] = {"p50": p50, "p99": p99, "ticks": len(added), "p99_of_a_second_reader_at_home": noise}
    print(json.dumps(told) if args.json else _text(told))
    held = told["edge_to_home"] <= COST_MAX and told["gateway_to_reader"] <= SESSION_MAX
    return 0 if held and p50 < P50_MS_MAX and p99 < P99_MS_MAX else 1


def _show_link(found: dict[str, list[dict[str, Any]]], *, as_json: bool) -> int:
    """Ages as they were shown, which grow between two frames; the medians of the rounds are judged."""
    p99 = {way: [one.quantile_ms(0.99) or 0.0 for one in map(_ages, some)] for way, some in found.items()}
    p50 = {way: [one.quantile_ms(0.5) or 0.0 for one in map(_ages, some)] for way, some in found.items()}
    staler = median(p99["edge"]) - median(p99["straight"])
    if as_json:
        print(json.dumps({"p50_ms": p50, "p99_ms": p99, "staler_ms": staler}))
    else:
        for way in found:
            print(f"{way}: ages p50 {p50[way]}, p99 {p99[way]} ms")
        print(f"through an edge staler at p99 by {staler:.1f} ms (asked: at most {STALER_MS_MAX})")
    return 0 if staler <= STALER_MS_MAX else 1


def _ages(result: dict[str, Any]) -> AgeHistogram:
    return merged([result["histogram"]])


def _text(told: dict[str, Any]) -> str:
    frame, added = told["frame_us"], told["added_ms"]
    return "\n".join(
        (
            f"frames of {told['frame_bytes']} bytes at {HZ} Hz; CPU a reader's frame, µs: "
            + "  ".join(f"{name} {value:.1f}" for name, value in frame.items()),
            f"  an edge's reader costs {told['edge_to_home']:.2f} of a home's (asked: at most {COST_MAX})",
            f"  another gateway costs the home {told['gateway_to_reader']:.2f} of a reader (asked: at most {SESSION_MAX})",
            f"  an edge adds p50 {added['p50']:.2f} ms, p99 {added['p99']:.2f} ms over {added['ticks']} ticks "
            f"(asked: {P50_MS_MAX}, {P99_MS_MAX}); a second reader at the home p99 {added['p99_of_a_second_reader_at_home']:.2f} ms",
        )
    )


if __name__ == "__main__":
    sys.exit(main())
