"""One tick of many readers through a real socket, step by step: ``python -m bench.quic_tick``. Room: bench.

Server and readers share one process, and only the server's steps are timed: the frame into the world
and to every reader's link, the flush, and the reading of ACKs. The lower quartile of each step over
all ticks is told, a datagram: what the code takes when nothing else disturbs it, so that two states
of the code can be compared on a machine with other work. The wake-ups of a loop are not in it.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import uvloop

from bench.quic_paths import answer, make_certificate
from gateway.core.ports import Link, LiveOptions, Session
from gateway.core.world import World
from gateway.quic import QuicOptions, ServerTls, Trust, connect, listen
from gateway.quic.endpoint import Endpoint
from gateway.wire.frames import Frame, Record, encode_frame

HZ = 60


class Doors:
    """Every session reads the one world."""

    def __init__(self) -> None:
        self.world = World("bench", mono=time.monotonic(), now_us=0)
        self.sessions = 0

    async def open_at(self, path: str, query: str, headers: Mapping[str, str], link: Link) -> Session:
        self.sessions += 1
        return self.world.attach_subscriber(link, LiveOptions(), time.monotonic())


class Nobody:
    """A reader's end that takes everything."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_: None


class Steps:
    """Times of the steps of one endpoint, in seconds a datagram."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.on = False
        self.times: dict[str, list[float]] = {"world and links": [], "flush": [], "acknowledgements": []}
        self._flush, self._read = endpoint.flush, endpoint._on_readable
        endpoint.flush = self._timed_flush  # type: ignore[method-assign]
        endpoint.loop.remove_reader(endpoint.udp.fileno())
        endpoint.loop.add_reader(endpoint.udp.fileno(), self._timed_read)

    def _timed_flush(self) -> None:
        sent = self.endpoint.udp.datagrams_sent
        began = time.perf_counter()
        self._flush()
        self._note("flush", began, self.endpoint.udp.datagrams_sent - sent)

    def _timed_read(self) -> None:
        came = self.endpoint.counters["datagrams_received"]
        began = time.perf_counter()
        self._read()
        self._note("acknowledgements", began, self.endpoint.counters["datagrams_received"] - came)

    def _note(self, step: str, began: float, datagrams: int) -> None:
        if self.on and datagrams >= 8:
            self.times[step].append((time.perf_counter() - began) / datagrams)

    def offer(self, send: Callable[[], Any], datagrams: int) -> None:
        """Time the frame's way to the links."""
        began = time.perf_counter()
        send()
        self._note("world and links", began, datagrams)


async def run(path: str, readers: int, datagrams: int, ticks: int, folder: Path) -> dict[str, float]:
    """Microseconds a datagram of each step."""
    doors = Doors()
    options = QuicOptions(path="fast" if path == "fast" else "stock")
    tls = ServerTls.from_files(folder / "cert.pem", folder / "key.pem")
    endpoint = await listen("127.0.0.1", 0, tls=tls, asgi_app=answer, doors=doors, options=options)
    trust = Trust(ca_pem=(folder / "cert.pem").read_bytes())
    clients = []
    for _ in range(readers):
        client = await connect("127.0.0.1", endpoint.port, trust=trust, options=QuicOptions(path="stock"))
        await client.webtransport("/live", lambda _: Nobody())
        clients.append(client)
    while doors.sessions < readers:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    steps, world = Steps(endpoint), doors.world
    gc.collect()
    gc.freeze()
    for tick in range(1, ticks + 1):
        steps.on = tick > ticks // 5
        for part in range(datagrams):
            frame = Frame(1, tick, [Record(part * 10 + n, bytes(96)) for n in range(10)])
            message = encode_frame(frame)
            steps.offer(partial(world.ingest, frame, message, 1, time.monotonic()), readers)
        await asyncio.sleep(0)
        await asyncio.sleep(1 / HZ)
    for client in clients:
        client.close()
    endpoint.close()
    return {name: sorted(t)[len(t) // 4] * 1e6 if t else float("nan") for name, t in steps.times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.quic_tick", description=__doc__)
    parser.add_argument("--readers", type=int, default=100)
    parser.add_argument("--datagrams", type=int, default=1, help="of 1 KB, a frame (default 1)")
    parser.add_argument("--ticks", type=int, default=150)
    parser.add_argument("--path", choices=("stock", "fast"), action="append")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        make_certificate(Path(name))
        for path in args.path or ("stock", "fast"):
            steps = uvloop.run(run(path, args.readers, args.datagrams, args.ticks, Path(name)))
            told = ", ".join(f"{step} {value:.1f}" for step, value in steps.items())
            print(f"{path}: {told}; together {sum(steps.values()):.1f} µs a datagram")


if __name__ == "__main__":
    main()
