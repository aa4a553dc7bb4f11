"""How long readers see nothing while a gateway is restarted: stopped and started, as one process or two workers, or its
workers replaced while it serves. Room: bench.

``python -m bench.restarts [--rounds 3] [--readers 8] [--json]``: one publisher at 60 Hz and readers, half of them over QUIC and half
over TCP, all with the Python client in one process; the ways by turns. Told is each reader's longest time between two frames
(asked: at most 500 ms where the workers are replaced), beside that of as long a time without any restart.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from statistics import median

from gateway.client import Publisher, Subscriber
from gateway.client.connect import TransportChoice

WORLD = "restarted"
HZ = 60
SETTLE_S = 1.0
PATIENCE_S = 120.0

Way = Callable[["Served"], Awaitable[None]]


class Served:
    """``mvgateway serve`` on a port that stays the same from one start to the next."""

    def __init__(self, folder: Path, port: int, workers: int) -> None:
        self._command = [sys.executable, "-m", "gateway.cli", "serve", "--port", str(port), "--plain", ""]
        self._command += ["--store", str(folder / "store"), "--certs", str(folder / "certs"), "--json-logs"]
        self._command += ["--workers", str(workers)]
        self.url, self.ca, self._log = (
            f"https://127.0.0.1:{port}",
            folder / "certs" / "ca.pem",
            folder / "log",
        )
        self._process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        """Until it says that it is ready."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=subprocess.PIPE, stderr=log)  # noqa: ASYNC220
        out = self._process.stdout
        assert out is not None
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.to_thread(out.readline)

    async def stop(self) -> None:
        """As ``systemctl stop`` does."""
        if self._process is not None:
            self._process.terminate()
            await asyncio.to_thread(self._process.wait, PATIENCE_S)
            self._process = None

    async def renew(self) -> None:
        """Every worker, while it serves."""
        assert self._process is not None
        times = self._renewed()
        os.kill(self._process.pid, signal.SIGUSR2)
        async with asyncio.timeout(PATIENCE_S):
            while self._renewed() == times:  # noqa: ASYNC110
                await asyncio.sleep(0.05)

    def _renewed(self) -> int:
        return len(re.findall(r'"workers renewed"', self._log.read_text()))


async def _restart(served: Served) -> None:
    await served.stop()
    await served.start()


async def _renew(served: Served) -> None:
    await served.renew()


async def _nothing(served: Served) -> None:
    await asyncio.sleep(10.0)


WAYS: dict[str, tuple[int, Way]] = {
    "no restart, two workers": (2, _nothing),
    "stopped and started, one process": (1, _restart),
    "stopped and started, two workers": (2, _restart),
    "workers replaced, two workers": (2, _renew),
}


class Gaps:
    """Each reader's longest time between two frames."""

    def __init__(self) -> None:
        self._came: dict[int, float] = {}
        self.longest_s: dict[int, float] = defaultdict(float)

    def of(self, reader: int) -> Callable[[object], None]:
        """What tells of its frames."""
        return lambda frame: self.note(reader)

    def note(self, reader: int) -> None:
        """A frame has come."""
        now = time.monotonic()
        self.longest_s[reader] = max(self.longest_s[reader], now - self._came.get(reader, now))
        self._came[reader] = now


async def measured(workers: int, way: Way, readers: int) -> list[float]:
    """The longest silence of each reader, in milliseconds."""
    with tempfile.TemporaryDirectory() as folder, socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
        free.close()
        served = Served(Path(folder), port, workers)
        await served.start()
        try:
            return await _watched(served, way, readers)
        finally:
            await served.stop()


async def _watched(served: Served, way: Way, readers: int) -> list[float]:
    gaps = Gaps()
    async with AsyncExitStack() as stack:
        publisher = await stack.enter_async_context(Publisher(served.url, WORLD, ca=served.ca))
        for at in range(readers):
            transport: TransportChoice = "websocket" if at % 2 else "webtransport"
            await stack.enter_async_context(
                Subscriber(
                    served.url,
                    WORLD,
                    ca=served.ca,
                    transport=transport,
                    on_message=gaps.of(at),
                )
            )
        publishing = asyncio.create_task(_publish(publisher))
        await asyncio.sleep(SETTLE_S)
        gaps.longest_s.clear()
        await way(served)
        seen = dict(gaps._came)
        async with asyncio.timeout(PATIENCE_S):
            while any(gaps._came[at] == seen[at] for at in seen):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        publishing.cancel()
        with suppress(asyncio.CancelledError):
            await publishing
    return [1_000 * gaps.longest_s[at] for at in range(readers)]


async def _publish(publisher: Publisher) -> None:
    while True:
        publisher.send({1: b"%d" % time.monotonic_ns()})
        await asyncio.sleep(1 / HZ)


def main() -> None:
    """Entry."""
    parser = argparse.ArgumentParser(prog="python -m bench.restarts", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--readers", type=int, default=8)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    found: dict[str, list[list[float]]] = defaultdict(list)
    for _ in range(args.rounds):
        for name, (workers, way) in WAYS.items():
            found[name].append(asyncio.run(measured(workers, way, args.readers)))
    for name, rounds in found.items():
        medians, worst = [median(one) for one in rounds], [max(one) for one in rounds]
        told = {
            "way": name,
            "median_ms": [round(one) for one in medians],
            "longest_ms": [round(one) for one in worst],
        }
        if args.json:
            print(json.dumps(told))
        else:
            print(f"{name:34} median of readers {told['median_ms']} ms, longest {told['longest_ms']} ms")


if __name__ == "__main__":
    main()
