"""Handshakes of many readers, full and resumed: ``python -m bench.handshakes``. Room: bench.

A server process and a load process, each pinned to a core of its own; the clients pin the server's certificate
by its hash, as browsers do. First ``--readers`` of them (400) connect at the same moment. Then as many come in
full, and as many with the tickets of those, ``--at-once`` (10) by turns: what one costs without the packets that
a crowd sends again because its own core is full; of the turns the lower quartile counts, which nothing else on
the machine disturbed. Told are the CPU time of either process for one handshake, its close
included, and the packets it took. Both ends collect garbage as a gateway does, which sets its thresholds and freezes what is
there when it has begun: with those of Python a collection of all that was ever imported, some 60 ms, falls into one round
or another, and into the crowd's as soon as either end makes a few objects more or less. The time until the last of the crowd is in is the load's, whose clients cost
more than the server. Wanted: 400 within 3 s of the server's core, and a resumed one cheaper than a full one.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import hashlib
import json
import os
import ssl
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import uvloop

from bench.quic_paths import Doors, answer, make_certificate
from gateway.quic import Client, QuicOptions, QuicTrust, ServerTls, connect, listen
from gateway.runtime.serve import GC_THRESHOLD

WANTED_S = 3.0
PATIENCE_S = 60.0
CLOSED_S = 0.05


def collect_as_a_gateway() -> None:
    """As :mod:`gateway.runtime.serve` has it once a gateway has begun."""
    gc.collect()
    gc.set_threshold(*GC_THRESHOLD)
    gc.freeze()


async def serve(folder: Path) -> None:
    """The server process: its port, then at each line its CPU seconds and counters."""
    tls = ServerTls.from_files(folder / "cert.pem", folder / "key.pem")
    crowd = QuicOptions(connections_per_address_max=10_000, handshakes_per_address_per_s=100_000)
    endpoint = await listen("127.0.0.1", 0, tls=tls, asgi_app=answer, doors=Doors(), options=crowd)
    collect_as_a_gateway()
    print(endpoint.port, flush=True)
    while await asyncio.to_thread(sys.stdin.readline):
        counters = endpoint.counters
        packets = {"received": counters["datagrams_received"], "sent": endpoint.udp.datagrams_sent}
        print(
            json.dumps({"cpu_s": time.process_time(), "retries": counters["retries"], **packets}), flush=True
        )
    endpoint.close()


class Load:
    """The readers: where they connect to, and the tickets of those that came last."""

    def __init__(self, args: argparse.Namespace) -> None:
        der = ssl.PEM_cert_to_DER_cert((args.folder / "cert.pem").read_text())
        self._trust = QuicTrust(certificate_hashes=frozenset((hashlib.sha256(der).digest(),)))
        self._port = args.load
        self._tickets: list[Any] = []

    async def _one(self, ticket: Any) -> tuple[Client, float]:
        options = QuicOptions(idle_timeout_s=PATIENCE_S)
        client = await connect(
            "127.0.0.1", self._port, trust=self._trust, ticket=ticket, options=options, timeout_s=PATIENCE_S
        )
        return client, time.perf_counter()

    async def round(self, kind: str, readers: int) -> dict[str, float]:
        """So many connect at once, wait for their tickets and close. Answers sums, and when the last was in."""
        tickets = self._tickets if kind == "resumed" else [None] * readers
        cpu, began = time.process_time(), time.perf_counter()
        arrived = await asyncio.gather(*(self._one(ticket) for ticket in tickets))
        clients = [client for client, _ in arrived]
        async with asyncio.timeout(PATIENCE_S):
            while any(client.ticket is None for client in clients):  # noqa: ASYNC110
                await asyncio.sleep(0.002)
        self._tickets = [client.ticket for client in clients]
        for client in clients:
            client.close()
        cpu = time.process_time() - cpu
        await asyncio.sleep(CLOSED_S)
        resumed = sum(client.was_resumed for client in clients)
        return {"resumed": resumed, "client_cpu_s": cpu, "last_s": max(at for _, at in arrived) - began}


async def load(args: argparse.Namespace) -> None:
    """The load process: at each line (a kind, and how many) a round, its figures on a line."""
    readers = Load(args)
    collect_as_a_gateway()
    while line := await asyncio.to_thread(sys.stdin.readline):
        kind, count = line.split()
        print(json.dumps(await readers.round(kind, int(count))), flush=True)


def _start(core: int, *words: object) -> Any:
    argv = [sys.executable, "-m", "bench.handshakes", *map(str, words)]
    process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    os.sched_setaffinity(process.pid, {core})
    return process


def _ask(process: Any, line: str = "") -> dict[str, Any]:
    process.stdin.write(line + "\n")
    process.stdin.flush()
    return dict(json.loads(process.stdout.readline()))


def _round(processes: list[Any], kind: str, readers: int) -> Counter[str]:
    server, load = processes
    before = _ask(server)
    figures = _ask(load, f"{kind} {readers}")
    after = _ask(server)
    return Counter({key: after[key] - before[key] for key in before} | figures)


def _row(turns: list[Counter[str]], kind: str, readers: int) -> dict[str, Any]:
    """Figures of one handshake, of rounds of so many."""
    quiet = sorted(turns, key=lambda turn: turn["cpu_s"])[len(turns) // 4]
    cpu = {f"{end}_ms": round(quiet[f"{end}_s"] / readers * 1e3, 2) for end in ("cpu", "client_cpu")}
    each = {key: round(quiet[key] / readers, 1) for key in ("received", "sent", "resumed", "retries")}
    return {"handshakes": kind, "at_once": readers, **cpu, "last_s": round(quiet["last_s"], 2), **each}


def measure(readers: int, at_once: int) -> list[dict[str, Any]]:
    """Three rows: the crowd, and full and resumed by turns."""
    cores = sorted(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as name:
        make_certificate(Path(name))
        processes = [_start(cores[0], "--serve", "--folder", name)]
        try:
            port = processes[0].stdout.readline().strip()
            processes.append(_start(cores[-1], "--load", port, "--folder", name))
            crowd = _row([_round(processes, "full", readers)], "full", readers)
            turns: dict[str, list[Counter[str]]] = {"full": [], "resumed": []}
            for _ in range(max(1, readers // at_once)):
                for kind, made in turns.items():
                    made.append(_round(processes, kind, at_once))
            return [crowd, *(_row(made, kind, at_once) for kind, made in turns.items())]
        finally:
            for process in processes:
                process.kill()
                process.wait()


def main() -> None:
    """Entry. Exit 1: the full ones take longer than wanted, or resuming saves nothing."""
    parser = argparse.ArgumentParser(prog="python -m bench.handshakes", description=__doc__)
    parser.add_argument("--readers", type=int, default=400)
    parser.add_argument("--at-once", type=int, default=10)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--load", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve or args.load:
        uvloop.run(serve(args.folder) if args.serve else load(args))
        return
    rows = measure(args.readers, args.at_once)
    for row in rows:
        print(row, flush=True)
    core_s = rows[0]["cpu_ms"] * args.readers / 1e3
    full, resumed = (row["cpu_ms"] for row in rows[1:])
    print(f"{args.readers} at once take {core_s:.2f} s of the server's core, wanted {WANTED_S:g} s")
    print(f"a full one takes {full:.2f} ms, a resumed one {resumed:.2f} ms: {resumed / full:.0%}")
    sys.exit(0 if core_s <= WANTED_S and resumed < full else 1)


if __name__ == "__main__":
    main()
