"""The store behind HTTP: what a gateway in front of it adds, and what it spares it. Room: bench.

``python -m bench.store_http [--reads 1000] [--json]``

``mvgateway store`` and a ``mvgateway serve`` in front of it run as children; the load comes from here.

* a cached read of one page through the gateway, over HTTP/3, HTTP/2 and a bare HTTP/1.1 socket, against
  the same read from the store directly (wanted: at most 1.5 ms added at the median over HTTP/3);
* a cold start of 2,000 pages of 8 KiB by 20 clients at once (wanted: the store reads 2,000 pages);
* the gateway's memory once its page cache is full (wanted: within its bound + 100 MB).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import quantiles
from typing import Any

import httpx
import psutil
import uvloop
from blake3 import blake3

from gateway import limits
from gateway.client.trust import Trust
from gateway.runtime.stores.opening import open_store
from gateway.store.base import CommitRequest, Namespace, NamespaceCommit, PageRead, PageWrite, Store
from gateway.wire import mvstore

NS = Namespace("bench")
PAGE_BYTES = 8_192
COLD_PAGES = 2_000
COLD_CLIENTS = 20
CACHE_MIB = 32
ADDED_MS_WANTED = 1.5
MEMORY_OVER_BOUND_MB_WANTED = 100
_COUNTER = re.compile(r'^mvgateway_store\{what="(\w+)"\} (\d+)', re.MULTILINE)


@dataclass
class Figures:
    """What was measured. Latencies by way: ``gateway/h3``, ``store/h2c`` and so on, p50 and p99 in ms."""

    read_ms: dict[str, dict[str, float]]
    added_over_http3_ms: float
    cold_reads_by_clients: int
    cold_reads_upstream: int
    cold_batches_upstream: int
    cold_s: float
    gateway_cpu_ms_a_cold_read: float
    memory_before_mb: float
    memory_full_mb: float
    cache_mb: float
    cache_bound_mb: float
    wanted: dict[str, bool]


class Child:
    """A verb of ours as a process, ready when it says so."""

    def __init__(self, *arguments: str) -> None:
        self._arguments = arguments
        self.told = ""

    async def __aenter__(self) -> Child:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "gateway.cli", *self._arguments, stdout=asyncio.subprocess.PIPE
        )
        assert self._process.stdout is not None
        while "ready" not in self.told:
            line = (await asyncio.wait_for(self._process.stdout.readline(), 20)).decode()
            if not line:
                raise SystemExit(f"mvgateway {self._arguments[0]} did not start: {self.told}")
            self.told += line
        self.process = psutil.Process(self._process.pid)
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._process.terminate()
        await self._process.wait()

    def urls(self, scheme: str) -> list[str]:
        """Every URL of a scheme that it told."""
        return re.findall(rf"{scheme}://[0-9.]+:\d+", self.told)

    def memory_mb(self) -> float:
        """Resident memory."""
        return float(self.process.memory_info().rss) / 1e6

    def cpu_s(self) -> float:
        """CPU time so far."""
        times = self.process.cpu_times()
        return float(times.user + times.system)


async def fill(store: Store, first: int, count: int) -> str:
    """Commit so many random pages; answers the head."""
    version = (await store.stat(NS)).version
    for start in range(first, first + count, 100):
        pages = [os.urandom(PAGE_BYTES) for _ in range(min(100, first + count - start))]
        writes = [PageWrite(start + n, blake3(page).digest(), page) for n, page in enumerate(pages)]
        part = NamespaceCommit(NS, version, writes)
        version = (await store.commit(CommitRequest(os.urandom(16), [part], True))).version
    return version


async def latencies(one: Callable[[], Awaitable[object]], count: int) -> list[float]:
    """Milliseconds of ``count`` requests one after another, after a warm-up."""
    for _ in range(50):
        await one()
    taken = []
    for _ in range(count):
        start = time.perf_counter()
        await one()
        taken.append((time.perf_counter() - start) * 1e3)
    return taken


def told(taken: Sequence[float]) -> dict[str, float]:
    """p50 and p99."""
    cuts = quantiles(taken, n=100)
    return {"p50": round(cuts[49], 3), "p99": round(cuts[98], 3)}


class BareSocket:
    """The least that a client can be: HTTP/1.1 on one connection, no library in between."""

    def __init__(self, url: str, body: bytes) -> None:
        self._address = url.removeprefix("http://").split(":")
        head = f"POST /batch/read HTTP/1.1\r\nhost: x\r\nx-namespace-key: {NS.key}\r\ncontent-length: {len(body)}"
        self._request = head.encode() + b"\r\n\r\n" + body

    async def __aenter__(self) -> BareSocket:
        host, port = self._address
        self._reader, self._writer = await asyncio.open_connection(host, int(port))
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._writer.close()

    async def read(self) -> bytes:
        """One request, one page."""
        self._writer.write(self._request)
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head)
        assert length is not None, head
        return await self._reader.readexactly(int(length[1]))


async def reads(data: str, plain: str, secure: str, trust: Trust, version: str, count: int) -> dict[str, Any]:
    """The latency of one page by every way, the page being in the gateway's cache."""
    wanted = [PageRead(1, version)]
    figures = {}
    for way, url, transport in (
        ("store/h2c", data, "h2"),
        ("gateway/h3", secure, "h3"),
        ("gateway/h2", secure, "h2"),
    ):
        store = await open_store(url, transport=transport, trust=trust, cache_bytes=0)  # type: ignore[arg-type]
        figures[way] = told(await latencies(lambda s=store: s.read(NS, wanted), count))  # type: ignore[misc]
        await store.aclose()
    for way, url in (("store/bare h1", data), ("gateway/bare h1", plain)):
        async with BareSocket(url, mvstore.encode_read(1, version, None)) as bare:
            figures[way] = told(await latencies(bare.read, count))
    return figures


async def cold(url: str, pages: int) -> None:
    """One client that opens a world: the head, then every page, 50 at a time."""
    store = await open_store(url, transport="h1", cache_bytes=0)
    try:
        version = (await store.stat(NS)).version
        for start in range(0, pages, 50):
            some = range(start, min(start + 50, pages))
            found = await store.read(NS, [PageRead(page, version) for page in some])
            assert all(len(page.data) == PAGE_BYTES for page in found)
    finally:
        await store.aclose()


async def counters(plain: str) -> dict[str, int]:
    """What the gateway tells of its store at /metrics."""
    async with httpx.AsyncClient() as client:
        text = (await client.get(f"{plain}/metrics")).text
    return {name: int(value) for name, value in _COUNTER.findall(text)}


async def measure(folder: Path, count: int) -> Figures:
    """Everything, in processes of its own."""
    store_flags = ("--path", str(folder / "pages"), "--auto-create-namespace", "--admin-api", "127.0.0.1:0")
    async with Child("store", "--data-plane", "127.0.0.1:0", *store_flags) as store:
        data = store.urls("http")[0]
        inner = await open_store(data, cache_bytes=0)
        version = await fill(inner, 0, COLD_PAGES)
        flags = ("--port", "0", "--plain", "127.0.0.1:0", "--certs", str(folder / "certs"))
        async with Child("serve", *flags, "--store", data, "--store-cache-mib", str(CACHE_MIB)) as gateway:
            figures = await through(gateway, data, folder, inner, version, count)
        await inner.aclose()
    return figures


async def through(gateway: Child, data: str, folder: Path, inner: Store, version: str, count: int) -> Figures:
    """All measurements with the gateway in front: cold start, warm reads, a full cache."""
    secure, plain = gateway.urls("https")[0], next(url for url in gateway.urls("http") if url != data)
    trust = Trust(ca=folder / "certs" / "ca.pem")
    before_mb, cpu_s, start = gateway.memory_mb(), gateway.cpu_s(), time.perf_counter()
    await asyncio.gather(*(cold(plain, COLD_PAGES) for _ in range(COLD_CLIENTS)))
    cold_s, cpu_s, after_cold = time.perf_counter() - start, gateway.cpu_s() - cpu_s, await counters(plain)
    read_ms = await reads(data, plain, secure, trust, version, count)
    more = 2 * CACHE_MIB * limits.MIB // PAGE_BYTES
    await fill(inner, COLD_PAGES, more)
    await cold(plain, COLD_PAGES + more)
    cache = (await counters(plain))["cache_bytes"]
    added = read_ms["gateway/h3"]["p50"] - read_ms["store/h2c"]["p50"]
    over = gateway.memory_mb() - before_mb - CACHE_MIB * limits.MIB / 1e6
    return Figures(
        read_ms=read_ms,
        added_over_http3_ms=round(added, 3),
        cold_reads_by_clients=COLD_CLIENTS * COLD_PAGES,
        cold_reads_upstream=after_cold["upstream_pages"],
        cold_batches_upstream=after_cold["upstream_batches"],
        cold_s=round(cold_s, 2),
        gateway_cpu_ms_a_cold_read=round(cpu_s * 1e3 / (COLD_CLIENTS * COLD_PAGES), 4),
        memory_before_mb=round(before_mb, 1),
        memory_full_mb=round(gateway.memory_mb(), 1),
        cache_mb=round(cache / 1e6, 1),
        cache_bound_mb=round(CACHE_MIB * limits.MIB / 1e6, 1),
        wanted={
            "added_over_http3": added <= ADDED_MS_WANTED,
            "cold_reads_upstream": after_cold["upstream_pages"] == COLD_PAGES,
            "memory": over <= MEMORY_OVER_BOUND_MB_WANTED,
        },
    )


def main() -> int:
    """Answers 0 where every figure is as wanted."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--reads", type=int, default=1_000, help="requests for each latency")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = asdict(uvloop.run(measure(Path(folder), args.reads)))
    if args.json:
        print(json.dumps(figures))
    else:
        for name, value in figures.items():
            print(f"{name.replace('_', ' '):<28} {value}")
    return 0 if all(figures["wanted"].values()) else 1


if __name__ == "__main__":
    raise SystemExit(main())
