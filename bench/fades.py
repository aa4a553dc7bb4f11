"""After a fade of the link: how long until the first new frame is shown? Real packets over our own link. Room: bench.

``python -m bench.fades``: a publisher of 60 frames of 1 KB a second beside the gateway, a reader at 50 and one at 100 ms of round
trip; the link loses everything for a tenth to six tenths of a second, again and again. Told is what passes from the moment that the
link carries again to the first frame, less the one-way delay: 0 to 17 ms are the publisher's tick. Needs root.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path as FilePath
from typing import Any

from bench.doors.webtransport_door import subscribe
from bench.gateway import Gateway
from bench.link import Direction, Host, LinkPath, Network
from bench.processes import Station

RTT_MS = (50, 100)
FADES_S = (0.1, 0.133, 0.2, 0.3, 0.4, 0.6)
BETWEEN_S = 1.6
TYPE_FRAME = 1


async def arrive(target: dict[str, Any]) -> list[float]:
    """When each newer tick came (Unix seconds), until a line of input."""
    newest, times = 0, []

    def take(message: bytes) -> None:
        nonlocal newest
        tick = int.from_bytes(message[12:16], "little")
        if message[0] == TYPE_FRAME and tick > newest:
            newest = tick
            times.append(time.time())

    close = await subscribe(target, take)
    print("ready", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    await close()
    return times


def measure(fades: int, seed: int) -> list[list[float]]:
    """For each round trip, the milliseconds after each fade."""
    chances = random.Random(seed)
    there, away = (
        [LinkPath.symmetric(Direction(delay_ms=r / 2, loss=loss)) for r in RTT_MS] for loss in (0.0, 1.0)
    )
    back_at: list[float] = []
    with tempfile.TemporaryDirectory() as folder, Network(there, seed=seed) as network:
        near, *far = network.hosts
        with (
            Gateway(FilePath(folder), near.address, prefix=near.command([])) as gateway,
            Station(near.command([])) as publisher,
        ):
            target = gateway.target("fades")
            job = {"seconds": 0, "warmup_s": 0, "records": 10, "target": target, "hz": 60, "steady": True}
            publisher.begin("publish", {**job, "door": "webtransport"})
            publisher.wait_ready()
            readers = [_reader(host, target) for host in far]
            publisher.go()
            time.sleep(BETWEEN_S)
            for number in range(fades):
                network.begin(away, seed + number)
                time.sleep(chances.choice(FADES_S))
                network.begin(there, seed + number)
                back_at.append(time.time())
                time.sleep(BETWEEN_S)
            came = [json.loads(reader.communicate("\n", timeout=20)[0]) for reader in readers]
    return [
        [(min(t for t in times if t > at + rtt / 2_200) - at) * 1_000 - rtt / 2 for at in back_at]
        for rtt, times in zip(RTT_MS, came, strict=True)
    ]


def _reader(host: Host, target: dict[str, Any]) -> subprocess.Popen[str]:
    argv = [sys.executable, "-m", "bench.fades", "--arrive", json.dumps({**target, "local": host.address})]
    process: subprocess.Popen[str] = host.popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    process.stdout.readline()
    return process


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.fades", description=(__doc__ or "").split("\n\n")[0]
    )
    parser.add_argument("--fades", type=int, default=24, help="how many (default 24)")
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--arrive", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.arrive:
        print(json.dumps(asyncio.run(arrive(json.loads(args.arrive)))), flush=True)
        return
    for rtt, found in zip(RTT_MS, measure(args.fades, args.seed), strict=True):
        found.sort()
        print(
            f"{rtt} ms: first frame after a fade: median {statistics.median(found):.0f} ms, "
            f"90th percentile {found[int(0.9 * len(found))]:.0f}, worst {found[-1]:.0f}"
        )


if __name__ == "__main__":
    main()
