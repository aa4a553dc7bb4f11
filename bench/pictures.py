"""How smoothly the map shows a large world: pictures a second in a real Chromium, and what its page holds. Room: bench.

``python -m bench.pictures [--seconds 300] [--records 1800] [--hz 60] [--json]``: a gateway, a publisher and Chromium, each a
process of its own. The publisher has made its frames before it begins, so that it keeps its rate. Told are the pictures a second,
the time between two of them and that of drawing one, frames that came, and the page's heap after a collection in the first
tenth and at the end. Asked: 60 pictures a second, and a heap that grows by less than 1 MiB. Exit 1: missed.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import shutil
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import websockets

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
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--remote-debugging-port=0",
    "--window-size=1600,1000",
    "--ignore-certificate-errors",
)
WATCHING = """(() => {
  const draw = stage.draw.bind(stage), seen = window.seen = { between: [], took: [], last: 0 };
  stage.draw = () => { const now = performance.now(); if (seen.last) seen.between.push(now - seen.last); seen.last = now; draw(); seen.took.push(stage.tookMs); };
  window.came = 0;
  reader().on("frame", () => { window.came++; });
})()"""
TOLD = """(() => {
  const at = (list, share) => [...list].sort((a, b) => a - b)[Math.min(list.length - 1, Math.floor(share * list.length))] ?? 0;
  const { between, took } = seen, told = { pictures: took.length, messages: came, between_ms: [0.5, 0.99, 1].map(s => at(between, s)), took_ms: [0.5, 0.99, 1].map(s => at(took, s)) };
  seen.between.length = seen.took.length = 0;
  window.came = 0;
  return told;
})()"""


class Page:
    """A page of a browser, by the DevTools protocol."""

    def __init__(self, socket: websockets.ClientConnection) -> None:
        self._socket = socket
        self._ids = itertools.count(1)

    async def command(self, method: str, **params: Any) -> dict[str, Any]:
        wanted = next(self._ids)
        await self._socket.send(json.dumps({"id": wanted, "method": method, "params": params}))
        while True:
            answer = json.loads(await self._socket.recv())
            if answer.get("id") == wanted:
                found: dict[str, Any] = answer["result"]
                return found

    async def evaluate(self, expression: str) -> Any:
        result = await self.command(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        if "exceptionDetails" in result:
            raise BenchError(str(result["exceptionDetails"]))
        return result["result"].get("value")

    async def until(self, expression: str) -> None:
        end = time.monotonic() + STARTED_S
        while not await self.evaluate(expression):
            if time.monotonic() > end:
                raise BenchError(f"{expression} did not come true within {STARTED_S:g} s")
            await asyncio.sleep(0.1)

    async def heap_bytes(self) -> int:
        """What scripts hold once what nobody holds is gone."""
        await self.command("HeapProfiler.collectGarbage")
        used = await self.command("Runtime.getHeapUsage")
        return int(used["usedSize"] + used.get("backingStorageSize", 0))


async def publish(settings: dict[str, Any]) -> dict[str, Any]:
    """The publisher's job: frames at a steady rate for so long."""
    hz, seconds = settings["hz"], settings["seconds"]
    walkers = Avatars(settings["records"], hz=hz)
    made = [walkers.frame(tick) for tick in range(2, LOOP + 2)]
    made += made[-2:0:-1]
    async with Publisher(settings["url"], WORLD, stride=100, ca=settings["ca"]) as publisher:
        publisher.send(made[0], keyframe=True)
        await wait_for_go()
        began, number, late_s = time.perf_counter(), 0, 0.0
        while (now := time.perf_counter()) < began + seconds:
            number += 1
            wait_s = began + number / hz - now
            late_s = max(late_s, -wait_s)
            await asyncio.sleep(max(0.0, wait_s))
            publisher.send(made[number % len(made)])
        took_s = time.perf_counter() - began
    return {"frames_per_s": number / took_s, "late_ms_max": late_s * 1000}


@contextmanager
def chromium(profile: Path) -> Iterator[int]:
    """A browser; the port at which it is asked. Raises :class:`BenchError` where none is installed."""
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        raise BenchError("there is no Chromium here; tests/system-deps.sh installs one")
    process = subprocess.Popen(
        [program, *FLAGS, f"--user-data-dir={profile}", "about:blank"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        told, end = profile / "DevToolsActivePort", time.monotonic() + STARTED_S
        while not (told.exists() and told.read_text().strip()):
            if process.poll() is not None or time.monotonic() > end:
                raise BenchError("Chromium did not start")
            time.sleep(0.05)
        yield int(told.read_text().split()[0])
    finally:
        process.terminate()
        process.wait(20)


async def watched(port: int, address: str, publisher: Worker, args: argparse.Namespace) -> dict[str, Any]:
    """The page from its first picture to the end."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}/json/new?about:blank", method="PUT")
    with urllib.request.urlopen(request) as answer:  # noqa: ASYNC210
        target = json.load(answer)["webSocketDebuggerUrl"]
    async with websockets.connect(target, max_size=None, proxy=None) as socket:
        page = Page(socket)
        await page.command("Page.navigate", url=address)
        await page.until(f"window.stage?.layout && window.reader?.()?.state.size === {args.records}")
        await page.evaluate(WATCHING)
        publisher.go()
        warm_s = args.seconds * WARM_SHARE
        await asyncio.sleep(warm_s)
        first_bytes = await page.heap_bytes()
        await page.evaluate(TOLD)
        began = time.perf_counter()
        await asyncio.sleep(args.seconds - warm_s - 1.0)
        told: dict[str, Any] = await page.evaluate(TOLD)
        told["seconds"] = time.perf_counter() - began
        told["pictures_per_s"] = told["pictures"] / told["seconds"]
        told["heap_bytes"], told["grown_bytes"] = first_bytes, await page.heap_bytes() - first_bytes
        told["by"] = await page.evaluate("reader().link?.kind ?? ''")
        return told


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
            with chromium(Path(folder, "profile")) as port:
                told = asyncio.run(watched(port, f"{gateway.url}/map#{WORLD}", publisher, args))
            told["publisher"] = publisher.result(STARTED_S)
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
            f"between two    {middle:.1f} ms, p99 {p99:.1f}, most {most:.1f}",
            f"drawing one    {took:.1f} ms, p99 {took99:.1f}, most {took_most:.1f}",
            f"heap           {told['grown_bytes']:+,} bytes over {told['heap_bytes']:,}, asked less than {GROWTH_BYTES_MAX:,} more",
            f"published      {publisher['frames_per_s']:.1f} frames a second, at worst {publisher['late_ms_max']:.0f} ms late; "
            f"{told['messages']:,} messages came by {told['by']}",
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
    except BenchError as error:
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
