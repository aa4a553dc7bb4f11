"""Publishers that one process starts at the same moment: ``python -m bench.many_publishers``. Room: bench.

A gateway in a process of its own, and ``--publishers`` (300) in this one, each of a world of its own that is new. Told are
the seconds until all have their welcome, until the first frame of all is in the store, how many came by TCP although UDP
gets through, and what the event loop's exception handler heard ("exception was never retrieved"). Wanted: 300 within 10 s,
none by TCP, nothing heard.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.processes import Server, free_port
from gateway.client import Publisher

WANTED_S = 10.0
DURABLE_S_MAX = 60.0
PER_ADDRESS = (
    "--worlds-per-address-max",
    "10000",
    "--worlds-made-per-address-per-min",
    "100000",
    "--worlds-max",
    "10000",
)


async def start(url: str, ca: Path, count: int) -> dict[str, Any]:
    """Start so many at once, publish one frame each, end them; what is told."""
    heard: list[str] = []
    asyncio.get_running_loop().set_exception_handler(
        lambda _, told: heard.append(f"{told.get('message')}: {told.get('exception')!r}")
    )
    publishers = [Publisher(url, f"w{number}", ca=ca, connect_timeout_s=60.0) for number in range(count)]
    begun, cpu = time.monotonic(), time.process_time()
    ended = await asyncio.gather(*(one.start() for one in publishers), return_exceptions=True)
    told: dict[str, Any] = {"publishers": count, "started_s": round(time.monotonic() - begun, 2)}
    told["cpu_s"] = round(time.process_time() - cpu, 2)
    told["failed"] = sorted({repr(error)[:160] for error in ended if error is not None})
    told["by_tcp"] = sum(one.transport == "websocket" for one in publishers)
    for one in publishers:
        one.send({1: b"x"})
    async with asyncio.timeout(DURABLE_S_MAX):
        await asyncio.gather(*(one.wait_durable() for one in publishers if one.connected))
    told["durable_s"] = round(time.monotonic() - begun, 2)
    await asyncio.gather(*(one.aclose() for one in publishers))
    del publishers, ended
    gc.collect()  # an exception that nobody retrieved is told when its future goes
    await asyncio.sleep(0)
    return {**told, "heard": len(heard), "first_heard": heard[:2]}


def main() -> int:
    """0 where it is as wanted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--publishers", type=int, default=300)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        port, certs = free_port(), Path(folder) / "certs"
        argv = [sys.executable, "-m", "gateway.cli", "serve", "--port", str(port), "--no-plain", *PER_ADDRESS]
        argv += ["--store", str(Path(folder) / "store"), "--certs", str(certs)]
        with Server(argv) as server:
            server.wait_for_line("ready")
            told = asyncio.run(start(f"https://127.0.0.1:{port}", certs / "ca.pem", args.publishers))
            told["gateway_cpu_s"] = round(server.cpu_s(), 2)
    print(json.dumps(told))
    is_as_wanted = told["started_s"] <= WANTED_S and not (told["failed"] or told["by_tcp"] or told["heard"])
    return 0 if is_as_wanted else 1


if __name__ == "__main__":
    sys.exit(main())
