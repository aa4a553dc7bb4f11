"""moq-relay, the gateway and stock aioquic by turns: CPU of a delivered frame, memory a reader, ages, joining. Room: bench.

``python -m bench.moq [--readers 100] [--frame-bytes 1024 4096] [--seconds 4] [--rounds 3] [--link] [--json]``,
``python -m bench.moq --build`` before the first time (needs cargo)

One publisher at 60 Hz and so many readers on loopback, relay and load on cores of their own; moq-relay in both of its
shapes, a stream a frame and a stream a second, with publisher and readers by its own crates. Then joining late: from the
beginning of the handshake to the whole state, a few readers one after the other, their clients' own work included (ours is
Python, moq's is Rust). With ``--link`` both, and the ages, behind 50 ms and 2 % loss. Told are medians over the rounds and,
for each relay, how many times the gateway's figure it is.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from bench.ages import AgeHistogram
from bench.cores import load_cores
from bench.gateway import Gateway
from bench.link import Direction, open_network, unavailable_because
from bench.link import LinkPath as LinkPath
from bench.payload import records_for
from bench.peers import moq_relay
from bench.processes import BenchError, Prefix, Station, free_port
from bench.scenarios import Measured, Run, Settings, fanout

HZ = 60
LINK_READERS = 4
JOINS = 10
"""Readers who come late, in each round."""
RTT_MS, LOSS = 50.0, 0.02
OURS = ("gateway", "stock")
Figures = Mapping[str, float | None]


@contextlib.contextmanager
def moq(shape: str, readers: int, frame_bytes: int, seconds: float, folder: Path) -> Iterator[Run]:
    """As :func:`bench.scenarios.fanout.opened`, for moq-relay."""
    with Gateway(folder) as gateway:  # for its certificates only
        certs = gateway.ca.parent
    with contextlib.ExitStack() as stack:
        port = free_port()
        server = stack.enter_context(
            moq_relay.serve("127.0.0.1", port, certs / "leaf.pem", certs / "leaf.key")
        )
        time.sleep(1.0)  # it has no TCP port to ask, and no line to wait for
        url, idle = f"https://127.0.0.1:{port}/", server.rss_bytes()
        words = ["publish", url, str(frame_bytes), str(HZ), str(moq_relay.SHAPES[shape])]
        stack.enter_context(moq_relay.Program(words, cores=load_cores())).wait_ready()

        def run(seed: int) -> Any:
            program = moq_relay.Program(["read", url, str(readers), str(seconds)], cores=load_cores())
            with program:
                program.wait_ready()
                memory_kib = (server.rss_bytes() - idle) / readers / 1024
                program.go()
                cpu_s = server.cpu_s()
                time.sleep(seconds)
                cpu_s = server.cpu_s() - cpu_s
                found = program.result(30.0)
            frames = max(found["frames_seen"], 1)
            measures = {
                "relay_cpu_us_per_frame": 1e6 * cpu_s / frames,
                "delivered_percent": 100 * frames / (readers * HZ * seconds),
                "memory_kib_per_reader": memory_kib,
                **{name: found[name] for name in ("age_p50_ms", "age_p99_ms", "join_p50_ms")},
            }
            return [Measured({}, measures)]

        yield run


def fan_out(
    args: argparse.Namespace, frame_bytes: int, relays: Sequence[str] = (*OURS, *moq_relay.SHAPES)
) -> dict[str, dict[str, list[float]]]:
    """Relay -> measure -> one figure a round; relay by relay, round by round."""
    found: dict[str, dict[str, list[float]]] = {}
    settings = Settings(seconds=args.seconds, warmup_s=1.0, short=False, seed=1)
    case = {"readers": args.readers, "frame_bytes": frame_bytes, "hz": HZ}
    for number in range(args.rounds):
        for relay in relays:
            with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
                opened = (
                    fanout.opened({**case, "relay": relay}, settings)
                    if relay in OURS
                    else moq(relay, args.readers, frame_bytes, args.seconds, Path(folder))
                )
                try:
                    (measured,) = stack.enter_context(opened)(number + 1)
                except BenchError as error:
                    print(
                        f"{relay}, {frame_bytes} bytes: no figures in round {number + 1}: {error}",
                        file=sys.stderr,
                    )
                    continue
            for name, value in measured.measures.items():
                if value is not None:
                    found.setdefault(relay, {}).setdefault(name, []).append(value)
    return found


def joining(args: argparse.Namespace, frame_bytes: int) -> dict[str, dict[str, list[float]]]:
    """A world that goes on, and readers who come late, by turns; on loopback."""
    found: dict[str, dict[str, list[float]]] = {}
    for _ in range(args.rounds):
        with tempfile.TemporaryDirectory() as folder, Gateway(Path(folder)) as gateway:
            _keep(found, "gateway", _joined_ours(gateway, frame_bytes))
            certs = gateway.ca.parent
            for shape in moq_relay.SHAPES:
                _keep(found, shape, _joined_moq(shape, "127.0.0.1", certs, frame_bytes))
    return found


def _joined_ours(gateway: Gateway, frame_bytes: int, far: Prefix = (), near: Prefix = ()) -> Figures:
    with Station(far) as publisher, Station(near) as reader:
        load = {"seconds": 1.0, "warmup_s": 1.0, "records": records_for(frame_bytes), "door": "webtransport"}
        load["target"] = gateway.target("late")
        publisher.begin("publish", {**load, "hz": HZ, "steady": True})
        publisher.wait_ready()
        publisher.go()
        reader.begin("join", {**load, "readers": JOINS})
        reader.wait_ready()
        reader.go()
        return reader.result(JOINS * 10.0)


def _joined_moq(
    shape: str, host: str, certs: Path, frame_bytes: int, far: Prefix = (), near: Prefix = ()
) -> Figures:
    port = free_port()
    url = f"https://{host}:{port}/"
    with moq_relay.serve(host, port, certs / "leaf.pem", certs / "leaf.key", far):
        time.sleep(1.0)  # it has no TCP port to ask, and no line to wait for
        words = ["publish", url, str(frame_bytes), str(HZ), str(moq_relay.SHAPES[shape])]
        with moq_relay.Program(words, far, load_cores() if not far else None) as source:
            source.wait_ready()
            words = ["read", url, str(JOINS), "0.1"]
            with moq_relay.Program(words, near, load_cores() if not near else None) as readers:
                readers.wait_ready()
                readers.go()
                seen = readers.result(30.0)
    return {name: seen[name] for name in ("join_p50_ms", "join_max_ms")}


def behind_a_link(args: argparse.Namespace, frame_bytes: int) -> dict[str, dict[str, list[float]]]:
    """Ages at a few readers behind 50 ms and 2 % loss; the publisher is beside the relay."""
    found: dict[str, dict[str, list[float]]] = {}
    path = LinkPath.symmetric(Direction(delay_ms=RTT_MS / 2, loss=LOSS))
    for number in range(args.rounds):
        with tempfile.TemporaryDirectory() as folder, open_network([path], number + 1) as network:
            far, near = (host.command([]) for host in network.hosts[:2])
            host = network.hosts[0].address
            with (
                Gateway(Path(folder), host, prefix=far) as gateway,
                Station(far) as publisher,
                Station(near) as reader,
            ):
                load = {"seconds": args.seconds, "warmup_s": 1.0, "records": records_for(frame_bytes)}
                load["target"] = gateway.target("bench")
                publisher.begin("publish", {**load, "hz": HZ, "door": "webtransport", "steady": True})
                publisher.wait_ready()
                reader.begin("read", {**load, "readers": LINK_READERS, "door": "webtransport"})
                reader.wait_ready()
                publisher.go()
                reader.go()
                ages = AgeHistogram.load(reader.result(args.seconds + 60)["histogram"]).measures()
                certs = gateway.ca.parent
                joins = _joined_ours(gateway, frame_bytes, far, near)
            _keep(
                found,
                "gateway",
                {name: ages.get(name) for name in ("age_p50_ms", "age_p99_ms")} | dict(joins),
            )
            for shape, group in moq_relay.SHAPES.items():
                port = free_port()
                url = f"https://{host}:{port}/"
                with moq_relay.serve(host, port, certs / "leaf.pem", certs / "leaf.key", far):
                    time.sleep(1.0)
                    words = ["publish", url, str(frame_bytes), str(HZ), str(group)]
                    reads = ["read", url, str(LINK_READERS), str(args.seconds)]
                    with moq_relay.Program(words, far) as source, moq_relay.Program(reads, near) as readers:
                        source.wait_ready()
                        readers.wait_ready()
                        readers.go()
                        seen = readers.result(args.seconds + 30)
                kept = ("age_p50_ms", "age_p99_ms", "join_p50_ms", "join_max_ms")
                _keep(found, shape, {name: seen[name] for name in kept})
    return found


def _keep(found: dict[str, dict[str, list[float]]], relay: str, figures: Figures) -> None:
    for name, value in figures.items():
        if value is not None:
            found.setdefault(relay, {}).setdefault(name, []).append(value)


def told(title: str, found: Mapping[str, Mapping[str, list[float]]]) -> None:
    """A line a relay: medians, and in brackets how many times the gateway's."""
    print(title)
    for relay, by_name in found.items():
        words = []
        for name, values in by_name.items():
            ours = found.get("gateway", {}).get(name)
            ratio = f" ({median(values) / median(ours):.2f})" if ours and median(ours) else ""
            words.append(f"{name} {median(values):.4g}{ratio}")
        print(f"  {relay:24} " + ", ".join(words))


def main() -> int:
    """Answers 2 where moq-relay is not here."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.moq", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--build", action="store_true", help="build moq-relay and the client, by cargo")
    parser.add_argument("--readers", type=int, default=100)
    parser.add_argument("--frame-bytes", type=int, nargs="+", default=[1_024, 4_096])
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--link", action="store_true", help="ages behind a link with loss, too")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    if args.build:
        moq_relay.build()
        return 0
    if (why := moq_relay.missing()) is not None:
        print(f"skipped: {why}", file=sys.stderr)
        return 2
    made: dict[str, Any] = {"version": moq_relay.version()}
    for size in args.frame_bytes:
        made[f"{size} bytes, {args.readers} readers"] = fan_out(args, size)
    for size in args.frame_bytes:
        made[f"joining late, {size} bytes"] = joining(args, size)
    if args.link and (why := unavailable_because()) is None:
        made[f"{args.frame_bytes[0]} bytes behind {RTT_MS:g} ms and {LOSS:.0%} loss"] = behind_a_link(
            args, args.frame_bytes[0]
        )
    elif args.link:
        print(f"no link here: {why}", file=sys.stderr)
    if args.json:
        print(json.dumps(made))
        return 0
    print(made.pop("version"))
    for title, found in made.items():
        told(title, found)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
