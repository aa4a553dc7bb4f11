"""CPU of the QUIC paths, stock against fast, in one run: ``python -m bench.quic_paths``. Room: bench.

A server process sends frames over WebTransport datagrams; a load process on the other core holds
lean readers (:mod:`bench.lean`), which acknowledge every second packet or after 25 ms as RFC 9000
section 13.2.2 has it. What is counted is
CPU time (user and system) of the server process for each datagram that a reader's QUIC stack
*acknowledged*. ``--case`` picks one row; ``--json`` prints the rows as JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import uvloop
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from bench.lean import LeanPool
from gateway.core.bundle import Burst
from gateway.core.ports import Link
from gateway.quic import Client, QuicOptions, QuicTrust, ServerTls, connect, listen
from gateway.quic.udp import bind
from gateway.runtime.serve import GC_THRESHOLD

PATHS = ("fast",)
WARMUP_S = 1.5
MEMORY_AFTER = 20
"""Readers that are in before memory is counted: what the first ones cause is not a reader's."""


@dataclass(frozen=True)
class Case:
    """One row: ``readers`` each get ``datagrams`` of ``size`` bytes at ``hz``; or they publish them."""

    name: str
    kind: str
    readers: int
    hz: float
    datagrams: int = 1
    size: int = 1_048


CASES = (
    Case("100 readers, 1 datagram of 1 KB a frame", "send", 100, 60),
    Case("400 readers, 4 datagrams of 1 KB a frame", "send", 400, 60, datagrams=4),
    Case("100 publishers, 1 datagram of 1 KB a frame", "receive", 100, 60),
    Case("HTTP/3 requests of 1 KB from memory", "request", 8, 0),
    Case("memory of a connected reader", "idle", 200, 0),
    Case("the floor: encryption and system calls alone, 100 readers", "floor", 100, 60),
)
ANSWER_BYTES = 40
"""What a QUIC acknowledgement takes."""


class Reader:
    """A session end that counts."""

    acked = 0
    lost = 0
    received = 0

    def on_message(self, data: bytes, mono: float) -> None:
        Reader.received += 1

    def on_stream_data(self, stream_id: int, data: bytes, fin: bool, mono: float) -> None: ...

    def on_stream_reset(self, stream_id: int) -> None: ...

    def on_acked(self, token: int, count: int = 1) -> None:
        Reader.acked += count

    def on_lost(self, token: int) -> None:
        Reader.lost += 1

    def on_writable(self, mono: float) -> None: ...

    def on_closed(self, mono: float) -> None: ...


class Doors:
    """Takes every session."""

    def __init__(self) -> None:
        self.links: list[Link] = []

    async def open_at(self, path: str, query: str, headers: Mapping[str, str], link: Link) -> Reader:
        self.links.append(link)
        return Reader()


BODY = bytes(1_024)


async def answer(scope: Any, receive: Callable[[], Any], send: Callable[[Any], Any]) -> None:
    """1 KB from memory."""
    headers = [(b"content-type", b"application/octet-stream"), (b"content-length", b"1024")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": BODY})


def percentile(values: list[float], share: float) -> float:
    """The value below which that share of them lies."""
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def collector_pauses() -> list[float]:
    """The seconds of every garbage collection from now on, as they come."""
    pauses: list[float] = []
    began = 0.0

    def on_collection(phase: str, info: Mapping[str, int]) -> None:
        nonlocal began
        if phase == "start":
            began = time.perf_counter()
        else:
            pauses.append(time.perf_counter() - began)

    gc.callbacks.append(on_collection)
    return pauses


def cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def rss_kib() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() // 1024


class Flushes:
    """Notes when an endpoint has given its packets to the socket: frames are out then, whatever the loop does next."""

    def __init__(self, endpoint: Any) -> None:
        self.last_s = 0.0
        self._flush = endpoint.flush
        endpoint.flush = self

    def __call__(self) -> None:
        self._flush()
        self.last_s = time.perf_counter()


async def send_frames(
    links: list[Link], case: Case, seconds: float, flushes: Flushes | None = None
) -> list[float]:
    """Frames at the case's rate; answers how long each took, in seconds from its start to the last socket."""
    loop = asyncio.get_running_loop()
    message, token, ticks = bytes(case.size), 0, []
    at = loop.time()
    end = at + seconds
    while (at := at + 1 / case.hz) < end:
        await asyncio.sleep(max(0.0, at - loop.time()))
        began = time.perf_counter()
        burst = Burst([(message, ())] * case.datagrams)
        for link in links:
            token += case.datagrams
            link.send_burst(burst, token)
        await asyncio.sleep(0)
        out = time.perf_counter()
        if flushes is not None and began < flushes.last_s:
            out = flushes.last_s
        ticks.append(out - began)
    return ticks


async def serve(case: Case, path: str, folder: Path, seconds: float) -> None:
    """The server process: prints its port, then the measures as JSON."""
    tls = ServerTls.from_files(folder / "cert.pem", folder / "key.pem")
    doors = Doors()
    options = QuicOptions()
    endpoint = await listen("127.0.0.1", 0, tls=tls, asgi_app=answer, doors=doors, options=options)
    print(endpoint.port, flush=True)
    handshakes = time.perf_counter()
    handshake_cpu = cpu_s()
    first = min(MEMORY_AFTER, case.readers - 1)
    before_kib = 0
    while len(doors.links) < case.readers:
        if not before_kib and len(doors.links) >= first:
            first, before_kib = len(doors.links), rss_kib()
        await asyncio.sleep(0.01)
    handshake_cpu = cpu_s() - handshake_cpu
    handshakes = time.perf_counter() - handshakes
    await asyncio.sleep(WARMUP_S)
    gc.collect()
    per_reader_kib = (rss_kib() - before_kib) / max(1, case.readers - first)
    links = doors.links
    if case.kind == "send":
        await send_frames(links, case, WARMUP_S)
        await asyncio.sleep(0.2)
    gc.set_threshold(*GC_THRESHOLD)
    gc.freeze()
    pauses = collector_pauses()
    counts = (Reader.acked, Reader.received, endpoint.counters["requests"])
    began_cpu, began = cpu_s(), time.perf_counter()
    ticks = [0.0]
    if case.kind == "send":
        ticks = await send_frames(links, case, seconds, Flushes(endpoint))
        await asyncio.sleep(0.2)
    else:
        await asyncio.sleep(seconds)
    cpu = cpu_s() - began_cpu
    done = (Reader.acked - counts[0], Reader.received - counts[1], endpoint.counters["requests"] - counts[2])
    units = {"send": done[0], "receive": done[1], "request": done[2], "idle": 0}[case.kind]
    print(
        json.dumps(
            {
                "path": path,
                "units": units,
                "cpu_us": round(cpu / units * 1e6, 1) if units else None,
                "cpu_us_per_frame": round(cpu / units * 1e6 * case.datagrams, 1) if units else None,
                "lost": Reader.lost,
                "busy": round(cpu / (time.perf_counter() - began), 3),
                "gc_pauses": len(pauses),
                "gc_pause_max_ms": round(max(pauses, default=0.0) * 1e3, 2),
                "frames": len(ticks),
                "tick_p50_ms": round(percentile(ticks, 0.5) * 1e3, 2),
                "tick_p99_ms": round(percentile(ticks, 0.99) * 1e3, 2),
                "handshake_cpu_ms": round(handshake_cpu / case.readers * 1e3, 2),
                "handshakes_s": round(handshakes, 2),
                "memory_kib": round(per_reader_kib, 1),
            }
        ),
        flush=True,
    )
    endpoint.close()


async def load(case: Case, port: int, folder: Path, seconds: float) -> None:
    """The load process: connects, then reads, publishes or asks until it is ended."""
    trust = QuicTrust(ca_pem=(folder / "cert.pem").read_bytes())
    if case.kind == "send":
        pool = await read_lean(case, port, trust)
        await asyncio.sleep(seconds + 60)
        await pool.close()
        return
    options = QuicOptions(idle_timeout_s=60)
    clients: list[Client] = []
    links: list[Link] = []
    for start in range(0, case.readers, 10):
        some = await asyncio.gather(
            *(
                connect("127.0.0.1", port, trust=trust, options=options, timeout_s=20)
                for _ in range(start, min(start + 10, case.readers))
            )
        )
        clients += some
        links += await asyncio.gather(*(c.webtransport("/live", lambda _: Reader()) for c in some))
    if case.kind == "receive":
        await asyncio.sleep(WARMUP_S / 2)
        await send_frames(links, case, seconds + 60)
    elif case.kind == "request":
        await asyncio.sleep(WARMUP_S / 2)
        await asyncio.gather(*(ask_forever(client) for client in clients))
    await asyncio.sleep(seconds + 60)


async def read_lean(case: Case, port: int, trust: QuicTrust) -> LeanPool:
    """Readers that cost the load process as little as acknowledging allows."""
    pool = LeanPool()

    def take(packet: bytes, start: int, stop: int, now_us: int) -> None: ...

    await asyncio.gather(
        *(
            pool.webtransport(
                "127.0.0.1", port, "/live", trust=trust, take=take, make_session=lambda _: Reader()
            )
            for _ in range(case.readers)
        )
    )
    gc.collect()
    gc.freeze()
    return pool


async def ask_forever(client: Client) -> None:
    """Requests one after another."""
    while True:
        response = await client.request("GET", "/")
        await response.read()


async def serve_floor(case: Case, seconds: float) -> None:
    """What no server in Python can do without: seal each datagram, send it, read and open its answer."""
    sock = bind("127.0.0.1", 0)
    sock.setblocking(False)
    aead, answers = AESGCM(os.urandom(16)), 0
    mask = Cipher(algorithms.AES(os.urandom(16)), modes.ECB()).encryptor().update
    nonce, header = bytes(12), bytes(11)
    sealed_answer = aead.encrypt(nonce, bytes(ANSWER_BYTES - 27), header)
    readers: set[Any] = set()

    def on_readable() -> None:
        nonlocal answers
        with contextlib.suppress(BlockingIOError):
            while True:
                data, address = sock.recvfrom(65_535)
                readers.add(address)
                mask(data[:16])
                aead.decrypt(nonce, sealed_answer, header)
                answers += 1

    loop = asyncio.get_running_loop()
    loop.add_reader(sock.fileno(), on_readable)
    print(sock.getsockname()[1], flush=True)
    while len(readers) < case.readers:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    plain, answers, began, at = bytes(case.size), 0, cpu_s(), loop.time()
    end = at + seconds
    while (at := at + 1 / case.hz) < end:
        await asyncio.sleep(max(0.0, at - loop.time()))
        for address in readers:
            sealed = aead.encrypt(nonce, plain, header)
            mask(sealed[:16])
            with contextlib.suppress(BlockingIOError):
                sock.sendto(header + sealed, address)
    await asyncio.sleep(0.2)
    cost = round((cpu_s() - began) / answers * 1e6, 1)
    print(json.dumps({"path": "floor", "units": answers, "cpu_us": cost}), flush=True)


class Answering(asyncio.DatagramProtocol):
    """A reader of the floor: answers each datagram."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.DatagramTransport", transport)
        self.transport.sendto(bytes(ANSWER_BYTES))

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.transport.sendto(bytes(ANSWER_BYTES))


async def load_floor(case: Case, port: int, seconds: float) -> None:
    """Readers that answer."""
    loop = asyncio.get_running_loop()
    for _ in range(case.readers):
        await loop.create_datagram_endpoint(Answering, remote_addr=("127.0.0.1", port))
    await asyncio.sleep(seconds + 60)


def make_certificate(folder: Path) -> None:
    """A self-signed P-256 certificate for localhost."""
    command = (
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost "
        "-addext subjectAltName=DNS:localhost,IP:127.0.0.1 -keyout key.pem -out cert.pem"
    )
    subprocess.run(command.split(), cwd=folder, check=True, capture_output=True)


def run_case(index: int, path: str, folder: Path, seconds: float, cores: list[int]) -> dict[str, Any]:
    """One row on one path: both processes started, pinned, ended."""
    base = [sys.executable, "-m", "bench.quic_paths", "--case", str(index), "--seconds", str(seconds)]
    env = {**os.environ, "PYTHONHASHSEED": "0"}
    server = subprocess.Popen(
        [*base, "--serve", path, "--folder", str(folder)], stdout=subprocess.PIPE, text=True, env=env
    )
    loader: subprocess.Popen[str] | None = None
    try:
        os.sched_setaffinity(server.pid, {cores[0]})
        assert server.stdout is not None
        port = server.stdout.readline().strip()
        loader = subprocess.Popen([*base, "--load", port, "--folder", str(folder)], text=True, env=env)
        os.sched_setaffinity(loader.pid, {cores[-1]})
        return dict(json.loads(server.stdout.readline()))
    finally:
        for process in (loader, server):
            if process is not None:
                process.kill()
                process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.quic_paths", description=__doc__)
    parser.add_argument("--case", type=int, help="only this row, from 0")
    parser.add_argument("--seconds", type=float, default=5.0, help="seconds measured (default 5)")
    parser.add_argument("--path", choices=PATHS, action="append", help="only this path (repeatable)")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--serve", choices=PATHS, help=argparse.SUPPRESS)
    parser.add_argument("--load", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    floor = args.case is not None and CASES[args.case].kind == "floor"
    if args.serve and floor:
        uvloop.run(serve_floor(CASES[args.case], args.seconds))
        return
    if args.load and floor:
        uvloop.run(load_floor(CASES[args.case], args.load, args.seconds))
        return
    if args.serve:
        uvloop.run(serve(CASES[args.case], args.serve, args.folder, args.seconds))
        return
    if args.load:
        uvloop.run(load(CASES[args.case], args.load, args.folder, args.seconds))
        return
    cores = sorted(os.sched_getaffinity(0))
    rows = []
    with tempfile.TemporaryDirectory() as name:
        make_certificate(Path(name))
        for index, case in enumerate(CASES):
            if args.case not in (None, index):
                continue
            if not args.json:
                print(case.name)
            for path in ("fast",) if case.kind == "floor" else args.path or PATHS:
                measured = run_case(index, path, Path(name), args.seconds, cores)
                rows.append({"case": case.name, **measured})
                if not args.json:
                    print("  ", {k: v for k, v in measured.items() if v is not None}, flush=True)
    if args.json:
        print(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
