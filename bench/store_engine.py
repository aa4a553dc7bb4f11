"""The embedded engine by itself: group commit, warm reads, and commits beside collection.

``python -m bench.store_engine [--seconds 5] [--folder DIR] [--json]``

* one-page durable commits a second, 1 client against 32 (wanted: ten times), by threads on the
  blocking face and by tasks on the awaited one; each client has a namespace of its own;
* point reads of warm pages a second on one core (wanted: 20,000);
* how long a commit waits at most while versions are truncated and content collected (wanted: 20 ms).

The page is 8 KiB with 1 KiB of noise: a journal's page with one frame on it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from blake3 import blake3

from gateway.store.base import CommitRequest, Namespace, NamespaceCommit, PageRead, PageWrite
from gateway.store.embedded import EmbeddedStore, Engine

CLIENTS = 32
ROUNDS = 5
PAGE_BYTES = 8_192
NOISE_BYTES = 1_024


@dataclass
class Commits:
    """One run of committing clients."""

    clients: int
    face: str
    per_second: float
    p50_ms: float
    p99_ms: float
    max_ms: float
    commits_per_sync: float
    user_cpu_us: float
    kernel_cpu_us: float


def contents(count: int) -> list[PageWrite]:
    """So many different pages, hashed."""
    pages = []
    for n in range(count):
        data = os.urandom(NOISE_BYTES) + bytes(PAGE_BYTES - NOISE_BYTES)
        pages.append(PageWrite(n % 64, blake3(data).digest(), data))
    return pages


def request(ns: Namespace, version: str, page: PageWrite) -> CommitRequest:
    """A commit of one page, as a client's first attempt."""
    return CommitRequest(os.urandom(16), [NamespaceCommit(ns, version, [page], frozenset())], True)


def client_in_a_thread(
    engine: Engine, ns: Namespace, pages: Iterator[PageWrite], end: float, times: list[float]
) -> None:
    """Commit page after page until ``end``, noting how long each took."""
    version = engine.stat(ns).version
    while (began := time.perf_counter()) < end:
        version = engine.commit(request(ns, version, next(pages))).version
        times.append(time.perf_counter() - began)


async def client_on_a_loop(
    store: EmbeddedStore, ns: Namespace, pages: Iterator[PageWrite], end: float, times: list[float]
) -> None:
    """The same by the awaited face."""
    version = (await store.stat(ns)).version
    while (began := time.perf_counter()) < end:
        version = (await store.commit(request(ns, version, next(pages)))).version
        times.append(time.perf_counter() - began)


def by_threads(store: EmbeddedStore, clients: int, pages: Iterator[PageWrite], seconds: float) -> list[float]:
    """Blocking clients, a thread each (the caller's own for one)."""
    times: list[float] = []
    end = time.perf_counter() + seconds
    runs = [
        threading.Thread(
            target=client_in_a_thread, args=(store.engine, Namespace(f"w{n}"), pages, end, times)
        )
        for n in range(clients)
    ]
    for run in runs:
        run.start()
    for run in runs:
        run.join()
    return times


def by_tasks(store: EmbeddedStore, clients: int, pages: Iterator[PageWrite], seconds: float) -> list[float]:
    """Awaiting clients on one event loop."""
    times: list[float] = []

    async def run() -> None:
        end = time.perf_counter() + seconds
        await asyncio.gather(
            *(client_on_a_loop(store, Namespace(f"w{n}"), pages, end, times) for n in range(clients))
        )

    asyncio.run(run())
    return times


def measure_commits(
    store: EmbeddedStore, face: str, clients: int, seconds: float, pages: list[PageWrite]
) -> Commits:
    """Commits a second of so many clients."""
    supply = endless(pages)
    run: Callable[[EmbeddedStore, int, Iterator[PageWrite], float], list[float]]
    run = by_threads if face == "threads" else by_tasks
    run(store, clients, supply, seconds / 5)
    before, usage = dict(store.engine.writer.counters), resource.getrusage(resource.RUSAGE_SELF)
    began = time.perf_counter()
    times = sorted(run(store, clients, supply, seconds))
    took, after = time.perf_counter() - began, store.engine.writer.counters
    used = resource.getrusage(resource.RUSAGE_SELF)
    return Commits(
        clients,
        face,
        len(times) / took,
        times[len(times) // 2] * 1e3,
        times[len(times) * 99 // 100] * 1e3,
        times[-1] * 1e3,
        (after["jobs"] - before["jobs"]) / max(1, after["batches"] - before["batches"]),
        (used.ru_utime - usage.ru_utime) / len(times) * 1e6,
        (used.ru_stime - usage.ru_stime) / len(times) * 1e6,
    )


def compare(store: EmbeddedStore, face: str, seconds: float, pages: list[PageWrite]) -> list[Commits]:
    """One client and many, in turns, so that both meet the same disk and neighbours: of each the
    round in the middle."""
    rounds = [
        [measure_commits(store, face, clients, seconds / ROUNDS, pages) for clients in (1, CLIENTS)]
        for _ in range(ROUNDS)
    ]
    return [sorted((pair[n] for pair in rounds), key=lambda run: run.per_second)[ROUNDS // 2] for n in (0, 1)]


def endless(pages: list[PageWrite]) -> Iterator[PageWrite]:
    """The pages over and over, each time with other content. Safe for threads."""
    lock, n = threading.Lock(), 0

    def take() -> PageWrite:
        nonlocal n
        with lock:
            n += 1
            here = n
        page = pages[here % len(pages)]
        if here < len(pages):
            return page
        assert page.data is not None
        data = here.to_bytes(8, "big") + page.data[8:]
        return PageWrite(page.page, blake3(data).digest(), data)

    return iter(take, None)


def measure_reads(store: EmbeddedStore, seconds: float) -> float:
    """Point reads a second of pages that are in memory, one thread."""
    engine, ns = store.engine, Namespace("w0")
    version = engine.stat(ns).version
    reads = [[PageRead(page, version)] for page in range(64)]
    for read in reads:
        engine.read(ns, read)
    count, end = 0, time.perf_counter() + seconds
    while time.perf_counter() < end:
        for read in reads:
            engine.read(ns, read)
        count += len(reads)
    return count / seconds


def measure_beside_collection(store: EmbeddedStore, pages: list[PageWrite]) -> dict[str, float]:
    """One client commits while everything old is truncated and collected."""
    engine, times, stop = store.engine, list[float](), threading.Event()

    def commit() -> None:
        ns, supply = Namespace("beside"), endless(pages)
        version = engine.stat(ns).version
        while not stop.is_set():
            began = time.perf_counter()
            version = engine.commit(request(ns, version, next(supply))).version
            times.append(time.perf_counter() - began)

    client = threading.Thread(target=commit)
    client.start()
    removed = 0
    for info in engine.list_namespaces("w"):
        removed += int(
            ([*engine.truncate_namespace(info.key, engine.stat(Namespace(info.key)).version)] or ["0"])[-1]
        )
        removed += int(([*engine.delete_unreferenced_content(info.key)] or ["0"])[-1])
    stop.set()
    client.join()
    times.sort()
    return {
        "removed_rows": removed,
        "commits": len(times),
        "p50_ms": times[len(times) // 2] * 1e3,
        "p99_ms": times[len(times) * 99 // 100] * 1e3,
        "max_ms": times[-1] * 1e3,
    }


def measure_sync(folder: Path, count: int = 300) -> float:
    """What the disk alone takes to make 32 KiB durable (us): the floor of a lone commit."""
    fd = os.open(folder / "sync-probe", os.O_RDWR | os.O_CREAT)
    block = os.urandom(32_768)
    try:
        for n in range(100):
            os.pwrite(fd, block, n * len(block))
        os.fsync(fd)
        began = time.perf_counter()
        for n in range(count):
            os.pwrite(fd, block, n % 100 * len(block))
            os.fdatasync(fd)
        return (time.perf_counter() - began) / count * 1e6
    finally:
        os.close(fd)


def main() -> None:
    """Run all of it and print the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=5.0, help="per measurement")
    parser.add_argument("--folder", type=Path, help="where the store is made; its disk is what is measured")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="store-bench-", dir=args.folder))
    try:
        report(run_all(folder, args.seconds), as_json=args.json)
    finally:
        shutil.rmtree(folder)


def run_all(folder: Path, seconds: float) -> dict[str, Any]:
    """Every figure, by name."""
    pages = contents(4_096)
    sync_us = measure_sync(folder)
    store = EmbeddedStore.open(folder / "store", auto_create=True)
    try:
        runs = [run for face in ("threads", "tasks") for run in compare(store, face, seconds, pages)]
        reads = measure_reads(store, seconds)
        beside = measure_beside_collection(store, pages)
    finally:
        store.close()
    ratios = {runs[n].face: runs[n + 1].per_second / runs[n].per_second for n in (0, 2)}
    return {
        "sync_us": sync_us,
        "commits": [asdict(run) for run in runs],
        "group_commit_ratio": ratios,
        "reads_per_second": reads,
        "beside_collection": beside,
    }


def report(figures: dict[str, Any], *, as_json: bool) -> None:
    """Print the figures as a table, or as JSON."""
    if as_json:
        print(json.dumps(figures))
        return
    print(f"disk: 32 KiB made durable in {figures['sync_us']:.0f} us")
    for run in figures["commits"]:
        print(
            f"commits, {run['clients']:2} {run['face']:7} {run['per_second']:8.0f}/s  p50 {run['p50_ms']:.2f} ms"
            f"  p99 {run['p99_ms']:.2f} ms  {run['commits_per_sync']:.1f} a sync"
            f"  cpu {run['user_cpu_us']:.0f} us + kernel {run['kernel_cpu_us']:.0f} us each"
        )
    for face, ratio in figures["group_commit_ratio"].items():
        print(f"32 clients against 1, {face}: {ratio:.1f} times")
    print(f"warm point reads: {figures['reads_per_second']:.0f}/s on one core")
    beside = figures["beside_collection"]
    print(
        f"commits beside removing {beside['removed_rows']} rows: p50 {beside['p50_ms']:.2f} ms"
        f"  p99 {beside['p99_ms']:.2f} ms  max {beside['max_ms']:.2f} ms"
    )


if __name__ == "__main__":
    main()
