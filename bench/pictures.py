"""How smoothly the map shows a large world: pictures a second in a real Chromium, and what its page holds. Room: bench.

``python -m bench.pictures [--seconds 300] [--records 1800] [--hz 60] [--json]``: a gateway, a publisher and Chromium, each a
process of its own. The publisher has made its frames before it begins, so that it keeps its rate. Told are the pictures a second
beside those that the browser could have shown (its animation frames), the time between two of them and that of drawing one,
ticks and bytes that came, the CPU of each process, and the page's heap after a collection in the first tenth and at the end.
Asked: 60 pictures a second, and a heap that grows by less than 1 MiB. Exit 1: missed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import ssl
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx

from bench.devtools import Browser, PageError
from bench.gateway import Gateway
from bench.jobs import main as jobs
from bench.jobs import wait_for_go
from bench.processes import BenchError, Worker
from gateway.cli._motion import Avatars
from gateway.client import Publisher

WORLD = "arena"
ASKED_PER_S, GROWTH_BYTES_MAX = 60.0, 1 << 20
SHARE_OF_ASKED = 0.99
"""A screen of 60 Hz shows 59.94 pictures a second, and a second may end within one."""
LOOP = 120
"""Frames made beforehand, played there and back."""
STARTED_S, WARM_SHARE = 60.0, 0.1
FLAGS = ("--window-size=1600,1000", "--ignore-certificate-errors")
WATCHING = """(() => {
  const draw = stage.draw.bind(stage), seen = window.seen = { between: [], took: [], last: 0, possible: 0, ticks: 0, tick: -1, began: reader().counts.messages };
  stage.draw = now => { const at = performance.now(); if (seen.last) seen.between.push(at - seen.last); seen.last = at; draw(now); seen.took.push(stage.tookMs); };
  const animate = () => { seen.possible++; requestAnimationFrame(animate); };
  requestAnimationFrame(animate);
  reader().on("frame", frame => { if (frame.tick > seen.tick) { seen.tick = frame.tick; seen.ticks++; } });
})()"""
TOLD = """(() => {
  const at = (list, share) => [...list].sort((a, b) => a - b)[Math.min(list.length - 1, Math.floor(share * list.length))] ?? 0;
  const { between, took, possible, ticks, began } = seen, { messages, bytes } = reader().counts;
  const told = { pictures: took.length, possible, ticks, messages: messages - began, bytes: bytes - (seen.bytes ?? 0), between_ms: [0.5, 0.99, 1].map(s => at(between, s)), took_ms: [0.5, 0.99, 1].map(s => at(took, s)) };
  Object.assign(seen, { between: [], took: [], possible: 0, ticks: 0, began: messages, bytes });
  return told;
})()"""


async def publish(settings: dict[str, Any]) -> dict[str, Any]:
    """The publisher's job: frames at a steady rate for so long."""
    hz, seconds = settings["hz"], settings["seconds"]
    walkers = Avatars(settings["records"], hz=hz)
    made = [walkers.frame(tick) for tick in range(2, LOOP + 2)]
    made += made[-2:0:-1]
    async with Publisher(settings["url"], WORLD, stride=100, ca=settings["ca"]) as publisher:
        publisher.send(made[0], keyframe=True)
        await wait_for_go()
        began, number, late_s, cpu_s = time.perf_counter(), 0, 0.0, time.process_time()
        while (now := time.perf_counter()) < began + seconds:
            number += 1
            wait_s = began + number / hz - now
            late_s = max(late_s, -wait_s)
            await asyncio.sleep(max(0.0, wait_s))
            publisher.send(made[number % len(made)])
        took_s = time.perf_counter() - began
        cpu_share = (time.process_time() - cpu_s) / took_s
    return {"frames_per_s": number / took_s, "late_ms_max": late_s * 1000, "cpu_share": cpu_share}


async def watched(
    browser: Browser, address: str, publisher: Worker, gateway: Gateway, args: argparse.Namespace
) -> dict[str, Any]:
    """The page from its first picture to the end."""

    def cpu_s() -> dict[str, float]:
        return {"browser": browser.cpu_s(), "gateway": gateway.server.cpu_s()}

    page = await browser.open(address)
    await page.until(f"window.stage?.layout && window.reader?.()?.state.size === {args.records}")
    await page.evaluate(WATCHING)
    publisher.go()
    warm_s = args.seconds * WARM_SHARE
    await asyncio.sleep(warm_s)
    first_bytes = await page.heap_bytes()
    await page.evaluate(TOLD)
    began, cpu_before = time.perf_counter(), cpu_s()
    await asyncio.sleep(args.seconds - warm_s - 1.0)
    told: dict[str, Any] = await page.evaluate(TOLD)
    cpu_after = cpu_s()
    seconds = told["seconds"] = time.perf_counter() - began
    for name in ("pictures", "possible", "ticks"):
        told[f"{name}_per_s"] = told[name] / seconds
    told["cpu_share"] = {name: (cpu_after[name] - before) / seconds for name, before in cpu_before.items()}
    told["heap_bytes"], told["grown_bytes"] = first_bytes, await page.heap_bytes() - first_bytes
    told["by"] = await page.evaluate("reader().link?.kind ?? ''")
    return told


async def browsed(
    profile: Path, publisher: Worker, gateway: Gateway, args: argparse.Namespace
) -> dict[str, Any]:
    """The same in a browser of its own."""
    async with Browser(profile, *FLAGS) as browser:
        return await watched(browser, f"{gateway.url}/map#{WORLD}", publisher, gateway, args)


def measured(args: argparse.Namespace) -> dict[str, Any]:
    """One run."""
    with tempfile.TemporaryDirectory() as folder, Gateway(Path(folder)) as gateway:
        context = ssl.create_default_context(cafile=gateway.ca)
        httpx.put(
            f"{gateway.url}/v1/worlds/{WORLD}", json={"stride": 100, "layout": "avatars"}, verify=context
        ).raise_for_status()
        settings = {"records": args.records, "hz": args.hz, "seconds": args.seconds, **gateway.target(WORLD)}
        publisher = Worker("publish", settings, module="bench.pictures")
        try:
            publisher.wait_ready()
            told = asyncio.run(browsed(Path(folder, "profile"), publisher, gateway, args))
            told["publisher"] = publisher.result(STARTED_S)
            told["cpu_share"]["publisher"] = told["publisher"]["cpu_share"]
        finally:
            publisher.kill()
    return told


def shown(told: dict[str, Any]) -> str:
    """For people."""
    middle, p99, most = told["between_ms"]
    took, took99, took_most = told["took_ms"]
    publisher = told["publisher"]
    return "\n".join(
        [
            f"pictures       {told['pictures_per_s']:.1f} a second over {told['seconds']:.0f} s, asked {ASKED_PER_S:g}",
            f"possible       {told['possible_per_s']:.1f} animation frames a second; {told['ticks_per_s']:.1f} ticks a second came",
            f"CPU            {', '.join(f'{name} {share:.0%}' for name, share in told['cpu_share'].items())} of a core",
            f"between two    {middle:.1f} ms, p99 {p99:.1f}, most {most:.1f}",
            f"drawing one    {took:.1f} ms, p99 {took99:.1f}, most {took_most:.1f}",
            f"heap           {told['grown_bytes']:+,} bytes over {told['heap_bytes']:,}, asked less than {GROWTH_BYTES_MAX:,} more",
            f"published      {publisher['frames_per_s']:.1f} frames a second, at worst {publisher['late_ms_max']:.0f} ms late; "
            f"{told['messages']:,} messages of {told['bytes'] / 1e6:,.0f} MB came by {told['by']}",
        ]
    )


def main() -> int:
    """Entry."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.pictures",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--records", type=int, default=1_800)
    parser.add_argument("--hz", type=float, default=60.0)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    try:
        told = measured(args)
    except (BenchError, FileNotFoundError, PageError) as error:
        print(error, file=sys.stderr)
        return 1
    print(json.dumps(told) if args.json else shown(told))
    is_smooth = told["pictures_per_s"] >= SHARE_OF_ASKED * min(ASKED_PER_S, args.hz)
    return 0 if is_smooth and told["grown_bytes"] < GROWTH_BYTES_MAX else 1


if __name__ == "__main__":
    if len(sys.argv) > 1 and sys.argv[1] == "publish":
        jobs({"publish": publish})
    else:
        sys.exit(main())
