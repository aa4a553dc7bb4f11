"""The load generators of the store scenarios: cold opens, point reads, durable commits, YCSB. Room: bench.

Started as :mod:`bench.jobs` tells, as ``bench.store_load``. Fields of a job: ``url``, ``transport`` (h3, h2, h1), ``ca``,
``seconds``, ``parallel``, and by role ``pages``, ``page_bytes``, ``open_s_max``, ``workload``, ``records``.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

import blake3

from bench.doors import trust
from bench.jobs import main, wait_for_go
from bench.ycsb import run_ycsb
from gateway.runtime.stores.opening import open_store
from gateway.store.base import CommitRequest, Namespace, NamespaceCommit, PageRead, PageWrite, Store, Version

COLD = Namespace("bench~cold")
INLINE_PAGES = 50
READ_BATCH_PAGES = 200


async def _open(settings: dict[str, Any]) -> Store:
    return await open_store(
        settings["url"],
        transport=settings["transport"],
        cache_bytes=0,
        trust=trust(settings),
        auto_create=True,
    )


def _percentiles(times_s: Sequence[float]) -> dict[str, float | None]:
    ordered = sorted(times_s)
    if not ordered:
        return {"p50_ms": None, "p99_ms": None}
    return {"p50_ms": 1e3 * ordered[len(ordered) // 2], "p99_ms": 1e3 * ordered[int(len(ordered) * 0.99)]}


async def _commit(
    store: Store, ns: Namespace, version: Version, pages: Sequence[tuple[int, bytes]]
) -> Version:
    writes = [PageWrite(number, blake3.blake3(data).digest(), data) for number, data in pages]
    request = CommitRequest(os.urandom(16), [NamespaceCommit(ns, version, writes)], first_attempt=True)
    return (await store.commit(request)).version


async def prepare(settings: dict[str, Any]) -> dict[str, Any]:
    """Fill the namespace that readers open: ``pages`` pages of ``page_bytes`` that don't compress."""
    store = await _open(settings)
    version = (await store.stat(COLD)).version
    for first in range(0, settings["pages"], INLINE_PAGES):
        numbers = range(first, min(first + INLINE_PAGES, settings["pages"]))
        version = await _commit(
            store, COLD, version, [(n, os.urandom(settings["page_bytes"])) for n in numbers]
        )
    await store.aclose()
    return {"version": version}


async def reads(settings: dict[str, Any]) -> dict[str, Any]:
    """``parallel`` clients, each with a connection of its own: a cold open, then random point reads.

    An open that takes longer than ``open_s_max`` is cut; its speed is told all the same.
    """
    stores = [await _open(settings) for _ in range(settings["parallel"])]
    await asyncio.gather(*(store.stat(COLD) for store in stores))
    await wait_for_go()
    cpu, started = time.process_time(), time.monotonic()
    pages, limit_s = settings["pages"], settings["open_s_max"]
    opens = await asyncio.gather(*(_open_cold(s, pages, limit_s) for s in stores))
    opened_s = time.monotonic() - started
    bytes_read = sum(size for _, size in opens)
    deadline = time.monotonic() + settings["seconds"]
    point_started = time.monotonic()
    lists = await asyncio.gather(*(_points(s, n, pages, deadline) for n, s in enumerate(stores)))
    took = time.monotonic() - point_started
    times = [t for one in lists for t in one]
    share = (time.process_time() - cpu) / (time.monotonic() - started)
    await asyncio.gather(*(store.aclose() for store in stores))
    whole = sorted(seconds for seconds, _ in opens if seconds is not None)
    return {
        "open_s": whole[len(whole) // 2] if len(whole) == len(opens) else None,
        "open_mb_per_s": bytes_read / opened_s / 1e6,
        "reads_per_s": len(times) / took,
        "cpu_share": share,
        **_percentiles(times),
    }


async def _timed(work: Callable[[], Awaitable[Any]]) -> float:
    started = time.monotonic()
    await work()
    return time.monotonic() - started


async def _open_cold(store: Store, pages: int, limit_s: float) -> tuple[float | None, int]:
    """Read every page in batches; answers the seconds (None: cut) and the bytes that came."""
    started, size = time.monotonic(), 0
    try:
        async with asyncio.timeout(limit_s):
            version = (await store.stat(COLD)).version
            for first in range(0, pages, READ_BATCH_PAGES):
                numbers = range(first, min(first + READ_BATCH_PAGES, pages))
                contents = await store.read(COLD, [PageRead(page, version) for page in numbers])
                if not all(content.data for content in contents):
                    raise RuntimeError(f"pages {numbers} did not all come")
                size += sum(len(content.data) for content in contents)
    except TimeoutError:
        return None, size
    return time.monotonic() - started, size


async def _points(store: Store, seed: int, pages: int, deadline: float) -> list[float]:
    chooser, times = random.Random(seed), []
    version = (await store.stat(COLD)).version
    while time.monotonic() < deadline:
        wanted = [PageRead(chooser.randrange(pages), version)]
        times.append(await _timed(partial(store.read, COLD, wanted)))
    return times


async def writes(settings: dict[str, Any]) -> dict[str, Any]:
    """``parallel`` clients on one connection, each committing one page after another to a namespace of its own."""
    store = await _open(settings)
    spaces = [Namespace(f"bench~write-{n}") for n in range(settings["parallel"])]
    await asyncio.gather(*(store.stat(ns) for ns in spaces))
    await wait_for_go()
    cpu, started = time.process_time(), time.monotonic()
    deadline = started + settings["seconds"]
    lists = await asyncio.gather(*(_commits(store, ns, settings["page_bytes"], deadline) for ns in spaces))
    took = time.monotonic() - started
    share = (time.process_time() - cpu) / took
    times = [t for one in lists for t in one]
    await store.aclose()
    return {"commits_per_s": len(times) / took, "cpu_share": share, **_percentiles(times)}


async def _commits(store: Store, ns: Namespace, page_bytes: int, deadline: float) -> list[float]:
    version, times = (await store.stat(ns)).version, []
    while time.monotonic() < deadline:
        started = time.monotonic()
        version = await _commit(store, ns, version, [(0, os.urandom(page_bytes))])
        times.append(time.monotonic() - started)
    return times


async def ycsb(settings: dict[str, Any]) -> dict[str, Any]:
    """One client running a YCSB workload on a SQLite database over the store's pages."""
    store = await _open(settings)
    await wait_for_go()
    cpu, started = time.process_time(), time.monotonic()
    times, counts = await asyncio.to_thread(run_ycsb, store.blocking(), settings)
    share = (time.process_time() - cpu) / (time.monotonic() - started)
    await store.aclose()
    return {
        "ops_per_s": len(times) / settings["seconds"],
        "cpu_share": share,
        **counts,
        **_percentiles(times),
    }


if __name__ == "__main__":
    main({"prepare": prepare, "reads": reads, "writes": writes, "ycsb": ycsb})
