"""What time an edge adds to a frame, beside what a plain relay of packets adds in its place. Room: bench.

One process publishes and reads, by WebTransport, so that one clock tells all: tick by tick, how much later a frame is at a
reader of the edge than at one of the home's. Beside it stand, in the same run: a second reader of the home's (what the measuring
itself adds), and a reader of the home's behind a process that hands on UDP packets and knows nothing else (what any
second process adds on this machine). Where the kernel lets it, all is measured again with these processes before all others
(``SCHED_FIFO``, sched(7)): other work on the machine is then in no figure, and what is left is the gateway's own.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import uvloop

from bench.gateway import Gateway
from bench.processes import ROOT, BenchError, free_port
from gateway.client import Publisher, Subscriber

HZ = 60
WAYS = ("edge", "relay", "second")
"""Readers besides the one that they are compared with."""
LAST_S = 0.5
"""For the last frames to come."""


class _Back(asyncio.DatagramProtocol):
    """To the client what comes for it."""

    def __init__(self, give: Callable[[bytes], None]) -> None:
        self._give = give

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self._give(data)


class _Front(asyncio.DatagramProtocol):
    """One socket to the gateway for each client."""

    def __init__(self, to: tuple[str, int]) -> None:
        self._to = to
        self._ways: dict[Any, asyncio.Future[asyncio.DatagramTransport]] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)  # uvloop's is no subclass

    async def _open(self, addr: Any) -> asyncio.DatagramTransport:
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(
            lambda: _Back(lambda data: self._transport.sendto(data, addr)), remote_addr=self._to
        )
        return transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        way = self._ways.get(addr)
        if way is None:
            way = self._ways[addr] = asyncio.ensure_future(self._open(addr))
        if way.done():
            way.result().sendto(data)
        else:
            way.add_done_callback(lambda done: done.result().sendto(data))


async def relay(port: int, to: int) -> None:
    """Hand on packets until the process is ended."""
    loop = asyncio.get_running_loop()
    await loop.create_datagram_endpoint(lambda: _Front(("127.0.0.1", to)), local_addr=("127.0.0.1", port))
    print("ready", flush=True)
    await asyncio.Event().wait()


@contextlib.contextmanager
def relayed(gateway: Gateway) -> Iterator[tuple[str, int]]:
    """A relay before that gateway, where the gateways run: its URL, and its process."""
    port = free_port()
    argv = [sys.executable, "-m", "bench.edge_delays", str(port), str(gateway.port)]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    os.sched_setaffinity(process.pid, os.sched_getaffinity(gateway.server.pid))
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield f"https://127.0.0.1:{port}", process.pid
    finally:
        process.kill()
        process.communicate()


@contextlib.contextmanager
def before_all_others(pids: Sequence[int]) -> Iterator[bool]:
    """Every thread of these processes, within. False: the kernel does not let us."""
    tasks = [int(task.name) for pid in pids for task in Path(f"/proc/{pid}/task").iterdir()]
    was = {}
    try:
        for task in tasks:
            with contextlib.suppress(ProcessLookupError):
                before = os.sched_getscheduler(task), os.sched_getparam(task)
                os.sched_setscheduler(task, os.SCHED_FIFO, os.sched_param(1))
                was[task] = before
        yield True
    except PermissionError:
        yield False
    finally:
        for task, (policy, param) in was.items():
            with contextlib.suppress(OSError):
                os.sched_setscheduler(task, policy, param)


async def later_ms(
    home: Gateway, edge: Gateway, relay_url: str, world: str, ticks: int
) -> dict[str, list[float]]:
    """By way, tick by tick, how much later than at a reader of the home's."""
    at: dict[str, dict[int, float]] = {way: {} for way in ("home", *WAYS)}

    def note(seen: dict[int, float]) -> Any:
        return lambda frame: seen.setdefault(frame.tick, time.perf_counter())

    kept: dict[str, Any] = {"transport": "webtransport", "ca": home.ca}
    urls = {"edge": edge.url, "relay": relay_url, "home": home.url, "second": home.url}
    async with contextlib.AsyncExitStack() as stack:
        publisher = await stack.enter_async_context(Publisher(home.url, world, takeover=True, **kept))
        for way, url in urls.items():
            await stack.enter_async_context(Subscriber(url, world, on_message=note(at[way]), **kept))
        values = {key: bytes(100) for key in range(10)}
        started = time.perf_counter()
        for tick in range(1, ticks + 1):
            publisher.send(values)
            await asyncio.sleep(max(0.0, started + tick / HZ - time.perf_counter()))
        await asyncio.sleep(LAST_S)
    than = at["home"]
    return {
        way: [(late - than[tick]) * 1e3 for tick, late in at[way].items() if tick > HZ and tick in than]
        for way in WAYS
    }


def added(home: Gateway, edge: Gateway, world: str, ticks: int) -> dict[str, dict[str, dict[str, float]]]:
    """p50 and p99 in ms by way: ``shared`` as the machine is, and ``alone`` before all others, where that can be had."""
    found = {}
    with relayed(home) as (url, pid):
        found["shared"] = _told(asyncio.run(later_ms(home, edge, url, world, ticks)))
        with before_all_others([pid, os.getpid(), home.server.pid, edge.server.pid]) as is_so:
            if is_so:
                found["alone"] = _told(asyncio.run(later_ms(home, edge, url, world, ticks)))
    return found


def _told(lists: dict[str, list[float]]) -> dict[str, dict[str, float]]:
    if missing := [way for way, late in lists.items() if not late]:
        raise BenchError(f"no frame came by {' nor by '.join(missing)}")
    return {
        way: {
            "p50": float(np.percentile(late, 50)),
            "p99": float(np.percentile(late, 99)),
            "ticks": len(late),
        }
        for way, late in lists.items()
    }


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(relay(int(sys.argv[1]), int(sys.argv[2])))
