"""Which of the pages' ratios hold on this machine? In under ten minutes. Room: bench.

``python -m bench.check`` (``make bench-check``): the floor first, then the headline rows by turns: fan-out of the gateway,
stock aioquic and moq-relay, frames over a link with loss, the page plane beside Caddy, bulk reads over HTTP/3 and TCP.
What is not here (moq-relay, Caddy, a link), or no longer fits the time, is said and left out. Exit 1: a ratio does not
hold. ``--record`` puts the run on record, from which the pages' spreads are made (:mod:`bench.ratios`); ``--table`` writes
the page's table anew from what is on record.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from statistics import median

from bench import floor as floors
from bench import forwarding, moq
from bench.link import LinkError, unavailable_because
from bench.peers import moq_relay, servers
from bench.processes import BenchError
from bench.ratios import PAGE, RATIOS, record, recorded, with_table
from bench.results import short
from bench.scenarios import Settings, frames
from gateway.store.base import Namespace, PageRead

SIZES = {1_024: "1k", 4_096: "4k"}
BULK_PAGES = 2_000
BULK_BATCH = 200
BUDGET_S = 510
"""What is not done by then is left out; servers that are told to stop in the middle of it take a minute of the ten at most."""
LOSS_PERCENT = 2.0
DELIVERED_PERCENT_LEAST = 50.0
"""Of a fan-out's frames, or its cost a frame says nothing: on a machine with other work a relay may not come to its first."""


def fan_out(seconds: float, rounds: int, floor: floors.Floor, made: dict[str, float]) -> None:
    """Ratios of CPU a delivered frame, into ``made``."""
    here = moq_relay.missing()
    if here is not None:
        print(f"moq-relay is left out: {here}")
    for size, name in SIZES.items():
        relays = moq.OURS if here else (*moq.OURS, *moq_relay.SHAPES)
        if size != min(SIZES):
            relays = tuple(relay for relay in relays if relay != "stock")
        args = argparse.Namespace(readers=100, seconds=seconds, rounds=rounds)
        found = moq.fan_out(args, size, relays)
        found = delivering(found)
        us = {relay: median(by["relay_cpu_us_per_frame"]) for relay, by in found.items()}
        kib = {relay: median(by["memory_kib_per_reader"]) for relay, by in found.items()}
        print(f"fan-out, 100 readers of {size} bytes, µs a delivered frame: {us}; KiB a reader: {kib}")
        if "gateway" not in us:
            continue
        ours = us["gateway"]
        print(f"  expected of the gateway here, by the floor: {_expected(name, floor)}")
        made[f"floor_{name}"] = ours / floor.us
        if "stock" in us:
            made[f"stock_{name}"] = us["stock"] / ours
        for shape, key in zip(moq_relay.SHAPES, ("frame", "second"), strict=True):
            if shape in us:
                made[f"moq_{key}_{name}"] = us[shape] / ours
                if key == "second" and name == "1k":
                    made["moq_memory"] = kib[shape] / kib["gateway"]


def delivering(found: Mapping[str, dict[str, list[float]]]) -> dict[str, dict[str, list[float]]]:
    """Those of the relays that delivered: what a frame cost one that did not, whatever the reason, is no figure."""
    made = {}
    for relay, by in found.items():
        percent = median(by["delivered_percent"])
        if percent >= DELIVERED_PERCENT_LEAST:
            made[relay] = by
        else:
            print(f"fan-out of {relay} does not count: {percent:.1f} % was delivered")
    return made


def _expected(name: str, floor: floors.Floor) -> str:
    ratio = next(ratio for ratio in RATIOS if ratio.key == f"floor_{name}")
    if not ratio.runs:
        return "nothing is on record"
    return f"{short(ratio.low * floor.us)} to {short(ratio.high * floor.us)} µs"


def link(seconds: float, rounds: int) -> dict[str, float]:
    """UDP against TCP behind 50 ms and 2 % loss."""
    if (why := unavailable_because()) is not None:
        print(f"frames over a link are left out: {why}")
        return {}
    settings = Settings(seconds=seconds, warmup_s=1.0, short=True, seed=1, runs=rounds)
    (case,) = (case for case in frames.cases(True) if case["loss_percent"] == LOSS_PERCENT)
    found: dict[str, list[float]] = {}
    with frames.opened(case, settings) as run:
        for number in range(rounds):
            rows = run(number + 1)
            late = sorted({mark for row in rows for mark in row.marks})
            if late:
                print(f"frames over a link, round {number + 1}, do not count: {', '.join(late)}")
                continue
            for row in rows:
                value = row.measures.get("excess_p99_ms")
                if value is not None:
                    found.setdefault(str(row.params.get("door")), []).append(value)
    print(
        f"frames behind 50 ms and 2 % loss, p99 excess ms: { {door: median(all_) for door, all_ in found.items()} }"
    )
    udp, tcp = found.get("webtransport"), found.get("websocket, conflation off") or found.get("websocket")
    return {"udp_tcp": median(udp) / median(tcp)} if udp and tcp else {}


async def _bulk(way: forwarding.Way, ns: Namespace, version: str) -> float:
    store = await way.open()
    try:
        began = time.monotonic()
        for first in range(0, BULK_PAGES, BULK_BATCH):
            await store.read(ns, [PageRead(first + n, version) for n in range(BULK_BATCH)])
        return BULK_PAGES * forwarding.PAGE_BYTES / (time.monotonic() - began) / 1e6
    finally:
        await store.aclose()


async def page_plane(
    ways: list[forwarding.Way], bench: forwarding.Bench, rounds: int, made: dict[str, float]
) -> None:
    """Ratios to Caddy, and of HTTP/3 to TCP, into ``made``."""
    await bench.run()
    found = bench.medians()
    print(forwarding.told(found))
    commit = f"{bench.clients} at once"
    for protocol, end in (("HTTP/1.1", ""), ("HTTP/3", "_h3")):
        ours, theirs = f"gateway, {protocol}", f"Caddy, {protocol}"
        if theirs in found[f"commits/s, {commit}"]:
            cpu, rate = found[f"CPU ms a commit, {commit}"], found[f"commits/s, {commit}"]
            made[f"commit_cpu{end}"] = cpu[ours] / cpu[theirs]
            made[f"commit_rate{end}"] = rate[ours] / rate[theirs]
    if "Caddy, HTTP/1.1" in found["CPU ms a read, first"]:
        read = found["CPU ms a read, first"]
        made["read_cpu"] = read["gateway, HTTP/1.1"] / read["Caddy, HTTP/1.1"]
        again = found["CPU ms a read, again"]
        made["cached_cpu"] = again["gateway, HTTP/1.1"] / again["Caddy, HTTP/1.1"]
    straight = await ways[0].open()
    ns = Namespace("bulk")
    version = await forwarding.fill(straight, ns, BULK_PAGES)
    await straight.aclose()
    speeds: dict[str, list[float]] = {}
    for _ in range(rounds + 1):  # the first fills the gateway's cache
        for way in ways:
            if way.name.startswith("gateway"):
                speeds.setdefault(way.name, []).append(await _bulk(way, ns, version))
    mb = {name: median(all_[1:]) for name, all_ in speeds.items()}
    print(f"bulk reads from the gateway's cache, MB/s: {mb}")
    made["bulk"] = mb["gateway, HTTP/3"] / mb["gateway, HTTP/1.1"]


class _OutOfTime(SystemExit):
    """The budget is used up. An exit, for asyncio's transports swallow whatever else is raised in the middle of them."""


def _stop(signum: int, frame: object) -> None:
    raise _OutOfTime


def measure(seconds: float, rounds: int, measured: dict[str, float]) -> floors.Floor:
    """Everything that is here, into ``measured`` as it is found; the page plane first, for all of it is always here."""
    floor = floors.measure(seconds)
    print(floor)
    if servers.available("caddy") is not None:
        print("caddy is not here: its ratios are left out")
    signal.signal(signal.SIGALRM, _stop)
    signal.alarm(BUDGET_S)
    try:
        with tempfile.TemporaryDirectory() as folder, forwarding.site(Path(folder)) as (ways, backend):
            fields = {"rounds": rounds, "seconds": seconds / 2, "clients": 32, "pages": 0}
            bench = forwarding.Bench(ways, backend, argparse.Namespace(**fields))
            asyncio.run(page_plane(ways, bench, rounds, measured))
        measured |= link(seconds, rounds)
        fan_out(seconds, rounds, floor, measured)
    except (BenchError, LinkError) as error:
        print(f"not all could be measured: {error}")
    except _OutOfTime:
        print(f"not all was measured: {BUDGET_S} s are over")
    finally:
        signal.alarm(0)
    return floor


def main() -> int:
    """Answers 0 where every ratio that was measured holds."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.check",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=2.5)
    parser.add_argument("--record", action="store_true", help="put this run on record")
    parser.add_argument("--table", action="store_true", help="write the page's table, and measure nothing")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    if args.table:
        PAGE.write_text(with_table(PAGE.read_text(), recorded()))
        return 0
    began, load = time.monotonic(), os.getloadavg()[0]
    measured: dict[str, float] = {}
    floor = measure(args.seconds, args.rounds, measured)
    kept = {key: round(value, 4) for key, value in measured.items()}
    run = {"date": time.strftime("%Y-%m-%d"), "load": round(load, 1), "floor_us": round(floor.us, 2)}
    run |= {"rounds": args.rounds, "seconds": args.seconds, "ratios": kept}
    if args.json:
        print(json.dumps(run))
    if args.record:
        record(run)
    for ratio in RATIOS:
        print(ratio.told(measured.get(ratio.key)))
    judged = [ratio for ratio in RATIOS if ratio.key in measured and ratio.is_judged]
    missed = [ratio for ratio in judged if not ratio.holds(measured[ratio.key])]
    took = time.monotonic() - began
    print(f"{len(measured)} measured, {len(judged)} judged, {len(missed)} missed, in {took:.0f} s")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
