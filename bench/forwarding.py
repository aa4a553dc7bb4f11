"""In front of a store: the gateway by turns with Caddy as a plain reverse proxy, and with nothing. Room: bench.

``python -m bench.forwarding [--rounds 3] [--seconds 3] [--clients 32] [--pages 45000] [--json]``

One ``mvgateway store``; before it a ``mvgateway serve`` and a Caddy; the load comes from here, by the least client
that there is (HTTP/1.1, llhttp), or by HTTP/3. Every round goes through all ways, so that each meets the same machine.

* commits of one page by so many clients at once, and by one: a second, and CPU time of what stands in the middle;
* reads of 10 pages at once, each page for the first time, and again;
* one transaction of so many pages: content in tens, ten requests at a time, then the commit.

CPU times are of whole processes, per commit or per read, with the kernel's part; of the middle process alone, and for commits
of the store and of the load as well: where all together are more than the machine has left, they decide the rate, and no
middle alone.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import uvloop
from blake3 import blake3

from bench.peers import servers
from bench.processes import Server, free_port
from gateway.client.trust import Trust
from gateway.runtime.stores.opening import open_store
from gateway.store.base import CommitRequest, Namespace, NamespaceCommit, PageRead, PageWrite, Store, Version

PAGE_BYTES = 8_192
READ_PAGES = 10
COLD_PAGES = 2_000
WRITES_AT_ONCE = 10
"""As mvSQLite's client has under way."""
WANTED = {
    "gateway, HTTP/1.1": {"commit": 1.0, "read, first": 0.5, "read, again": 0.25},
    "gateway, HTTP/3": {"commit": 1.2},
}
"""CPU milliseconds of the middle process."""
RATE_WANTED = 0.8
"""Of Caddy's commits a second."""
TRANSACTION_WANTED = 2.5
"""Times the direct transaction."""


@dataclass(frozen=True, slots=True)
class Way:
    """One way to the store; ``middle``: the process that stands in it."""

    name: str
    url: str
    transport: Any
    middle: Server | None
    trust: Trust | None = None

    async def open(self) -> Store:
        """A client by it, without a cache of its own."""
        return await open_store(self.url, transport=self.transport, trust=self.trust, cache_bytes=0)

    def cpu_s(self) -> float:
        """What the middle has used."""
        return 0.0 if self.middle is None else self.middle.cpu_s()


@contextlib.contextmanager
def site(folder: Path, store_argv: Sequence[str] = ()) -> Iterator[tuple[list[Way], Server]]:
    """The store and all ways to it."""
    data, api, plain, secure, by_caddy, by_caddy_tls = (free_port() for _ in range(6))
    cli = [sys.executable, "-m", "gateway.cli"]
    store_url = f"http://127.0.0.1:{data}"
    with contextlib.ExitStack() as stack:
        argv = [*cli, "store", "--path", str(folder / "pages"), "--auto-create-namespace", *store_argv]
        argv += ["--data-plane", f"127.0.0.1:{data}", "--admin-api", f"127.0.0.1:{api}"]
        store = stack.enter_context(Server(argv))
        store.wait_for_line("ready")
        argv = [*cli, "serve", "--host", "127.0.0.1", "--port", str(secure), "--plain", f"127.0.0.1:{plain}"]
        argv += ["--store", store_url, "--certs", str(folder / "certs"), "--page-plane", "public"]
        gateway = stack.enter_context(Server(argv))
        gateway.wait_for_line("ready")
        trust = Trust(ca=folder / "certs" / "ca.pem")
        ways = [
            Way("direct", store_url, "h1", None),
            Way("gateway, HTTP/1.1", f"http://127.0.0.1:{plain}", "h1", gateway),
            Way("gateway, HTTP/3", f"https://127.0.0.1:{secure}", "h3", gateway, trust),
        ]
        if servers.available("caddy") is None:
            certs = folder / "certs"
            caddy = stack.enter_context(
                servers.caddy(
                    "127.0.0.1",
                    by_caddy_tls,
                    store_url,
                    certs / "leaf.pem",
                    certs / "leaf.key",
                    folder,
                    plain=by_caddy,
                )
            )
            ways.insert(1, Way("Caddy, HTTP/1.1", f"http://127.0.0.1:{by_caddy}", "h1", caddy))
            ways.append(Way("Caddy, HTTP/3", f"https://127.0.0.1:{by_caddy_tls}", "h3", caddy, trust))
        yield ways, store


async def commit(store: Store, ns: Namespace, version: Version, pages: dict[int, bytes]) -> Version:
    """One commit, its pages inline."""
    writes = [PageWrite(page, blake3(data).digest(), data) for page, data in pages.items()]
    part = NamespaceCommit(ns, version, writes)
    return (await store.commit(CommitRequest(os.urandom(16), [part], True))).version


async def committing(store: Store, name: str, clients: int, seconds: float) -> int:
    """So many clients, each with a namespace of its own; answers the commits."""
    until = time.monotonic() + seconds

    async def one(ns: Namespace) -> int:
        version, count, data = (await store.stat(ns)).version, 0, os.urandom(PAGE_BYTES)
        while time.monotonic() < until:
            data = count.to_bytes(8, "big") + data[8:]
            version = await commit(store, ns, version, {count % 64: data})
            count += 1
        return count

    return sum(await asyncio.gather(*(one(Namespace(f"{name}-{n}")) for n in range(clients))))


async def reading(store: Store, ns: Namespace, version: Version) -> int:
    """Every page once, ten a read, one read after the other; answers the reads."""
    for first in range(0, COLD_PAGES, READ_PAGES):
        pages = await store.read(ns, [PageRead(first + n, version) for n in range(READ_PAGES)])
        if len(pages) != READ_PAGES or not all(len(page.data) == PAGE_BYTES for page in pages):
            raise RuntimeError(f"pages from {first} did not all come")
    return COLD_PAGES // READ_PAGES


async def fill(store: Store, ns: Namespace, pages: int) -> Version:
    """Random pages."""
    version = (await store.stat(ns)).version
    for first in range(0, pages, 100):
        some = {first + n: os.urandom(PAGE_BYTES) for n in range(min(100, pages - first))}
        version = await commit(store, ns, version, some)
    return version


async def transaction(store: Store, ns: Namespace, pages: int) -> None:
    """Content in tens, ten requests at a time, then one commit that names it all."""
    version = (await store.stat(ns)).version
    places = asyncio.Semaphore(WRITES_AT_ONCE)
    noise = os.urandom(PAGE_BYTES)
    writes: list[PageWrite] = []

    async def ahead(first: int) -> None:
        some = [(first + n).to_bytes(8, "big") + noise[8:] for n in range(min(10, pages - first))]
        hashes = await store.write(ns, some)
        writes.extend(PageWrite(first + n, digest) for n, digest in enumerate(hashes))
        places.release()

    async with asyncio.TaskGroup() as group:
        for first in range(0, pages, 10):
            await places.acquire()
            group.create_task(ahead(first))
    await store.commit(CommitRequest(os.urandom(16), [NamespaceCommit(ns, version, writes)], True))


class Bench:
    """All measurements on one site; ``kept``: figures by name and way, one for each round."""

    def __init__(self, ways: Sequence[Way], backend: Server, args: argparse.Namespace) -> None:
        self._ways, self._backend, self._args = ways, backend, args
        self.clients: int = args.clients
        self.kept: dict[str, dict[str, list[float]]] = {}

    def _keep(self, name: str, way: Way, value: float) -> None:
        self.kept.setdefault(name, {}).setdefault(way.name, []).append(value)

    async def _timed(self, way: Way, work: Callable[[], Awaitable[int]]) -> tuple[int, float, float]:
        cpu_s, began = way.cpu_s(), time.monotonic()
        count = await work()
        return count, time.monotonic() - began, (way.cpu_s() - cpu_s) * 1e3 / max(count, 1)

    async def run(self) -> None:
        """Round after round, way after way."""
        for number in range(self._args.rounds):
            for way in self._ways:
                store = await way.open()
                try:
                    await self._round(number, way, store)
                finally:
                    await store.aclose()
        if self._args.pages:
            await self._transactions()

    async def _round(self, number: int, way: Way, store: Store) -> None:
        name = f"{way.name}-{number}".replace(" ", "").replace("/", "").replace(",", "-")
        for clients in (self._args.clients, 1):
            await committing(store, f"warm-{name}-{clients}", clients, 0.3)
            store_s, load_s = self._backend.cpu_s(), time.process_time()
            count, took, cpu_ms = await self._timed(
                way,
                lambda n=clients: committing(store, f"{name}-{n}", n, self._args.seconds),  # type: ignore[misc]
            )
            self._keep(f"commits/s, {clients} at once", way, count / took)
            self._keep(f"CPU ms a commit, {clients} at once", way, cpu_ms)
            store_s, load_s = self._backend.cpu_s() - store_s, time.process_time() - load_s
            self._keep(f"... of the store, {clients} at once", way, store_s * 1e3 / max(count, 1))
            self._keep(f"... of the load, {clients} at once", way, load_s * 1e3 / max(count, 1))
        ns = Namespace(f"cold-{name}")
        straight = await self._ways[0].open()
        version = await fill(straight, ns, COLD_PAGES)
        await straight.aclose()
        await store.stat(ns)
        for what in ("first", "again"):
            count, took, cpu_ms = await self._timed(way, lambda: reading(store, ns, version))
            self._keep(f"CPU ms a read, {what}", way, cpu_ms)
            self._keep(f"ms a read, {what}", way, took * 1e3 / count)

    async def _transactions(self) -> None:
        for way in self._ways:
            if way.transport == "h3":
                continue
            store = await way.open()
            began, cpu_s = time.monotonic(), way.cpu_s()
            await transaction(store, Namespace(f"large-{len(way.name)}"), self._args.pages)
            self._keep(f"s, {self._args.pages} pages", way, time.monotonic() - began)
            self._keep(f"CPU s, {self._args.pages} pages", way, way.cpu_s() - cpu_s)
            await store.aclose()

    def medians(self) -> dict[str, dict[str, float]]:
        """The round in the middle."""
        return {name: {way: median(all_) for way, all_ in by.items()} for name, by in self.kept.items()}


def verdicts(found: dict[str, dict[str, float]], clients: int, pages: int) -> dict[str, bool]:
    """What is wanted, and whether it is so."""
    made: dict[str, bool] = {}
    for way, wanted in WANTED.items():
        for what, most in wanted.items():
            name = f"CPU ms a {what}" + (f", {clients} at once" if what == "commit" else "")
            made[f"{way}: {name} of at most {most:g}"] = found[name][way] <= most
    rates = found[f"commits/s, {clients} at once"]
    for protocol in ("HTTP/1.1", "HTTP/3"):
        if f"Caddy, {protocol}" in rates:
            ratio = rates[f"gateway, {protocol}"] / rates[f"Caddy, {protocol}"]
            made[f"commits a second of Caddy's over {protocol}: {ratio:.2f} of {RATE_WANTED:g}"] = (
                ratio >= RATE_WANTED
            )
    if pages:
        taken = found[f"s, {pages} pages"]
        ratio = taken["gateway, HTTP/1.1"] / taken["direct"]
        made[f"{pages} pages: {ratio:.2f} times direct, at most {TRANSACTION_WANTED:g}"] = (
            ratio <= TRANSACTION_WANTED
        )
    return made


def told(found: dict[str, dict[str, float]]) -> str:
    """A table."""
    ways = list(dict.fromkeys(way for by in found.values() for way in by))
    lines = [" " * 30 + "".join(f"{way:>19}" for way in ways)]
    for name, by in found.items():
        lines.append(f"{name:30}" + "".join(f"{by[way]:19.3f}" if way in by else " " * 19 for way in ways))
    return "\n".join(lines)


def main() -> int:
    """Answers 0 where everything is as wanted."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.forwarding",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--pages", type=int, default=45_000, help="of the large transaction; 0: none")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, site(Path(folder)) as (ways, backend):
        bench = Bench(ways, backend, args)
        uvloop.run(bench.run())
    found = bench.medians()
    wanted = verdicts(found, args.clients, args.pages)
    if args.json:
        print(json.dumps({"found": found, "rounds": bench.kept, "wanted": wanted}))
    else:
        print(told(found))
        for claim, ok in wanted.items():
            print(f"{'ok    ' if ok else 'MISSED'} {claim}")
    return 0 if all(wanted.values()) else 1


if __name__ == "__main__":
    raise SystemExit(main())
