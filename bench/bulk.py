"""What bulk bodies over HTTP/3 cost: ``python -m bench.bulk [--rtt 50 --loss 2]``. Room: bench.

A server process answers with bodies from memory, a client process reads them one after another, each pinned
to a core. Without ``--rtt`` they talk over loopback; with it over a link of the bench's own (root).
Told are the time, the CPU of either end for a megabyte, and beside them the floor: what the system calls and the
encryption alone take at the same packet size. ``--profile`` prints the functions of one end.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import cProfile
import json
import os
import pstats
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import uvloop
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from bench.link import Direction, open_network
from bench.link import LinkPath as LinkPath
from bench.quic_paths import Doors, make_certificate
from gateway.quic import QuicOptions, QuicTrust, ServerTls, connect, listen
from gateway.quic.udp import UdpSocket, bind

PIECE_BYTES = 64 * 1_024
MB = 1_000_000


def answering(body_bytes: int) -> Any:
    """An application whose every answer is that long, in pieces as large as a file server's."""
    piece = os.urandom(PIECE_BYTES)

    async def app(scope: Any, receive: Callable[[], Any], send: Callable[[Any], Any]) -> None:
        headers = [(b"content-length", str(body_bytes).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        left = body_bytes
        while left > 0:
            part = piece[:left]
            left -= len(part)
            await send({"type": "http.response.body", "body": part, "more_body": left > 0})

    return app


@contextlib.contextmanager
def profiled(wanted: bool) -> Iterator[None]:
    """Print the functions by their own time afterwards."""
    if not wanted:
        yield
        return
    profile = cProfile.Profile()
    profile.enable()
    yield
    profile.disable()
    pstats.Stats(profile, stream=sys.stderr).sort_stats("tottime").print_stats(32)


async def serve(args: argparse.Namespace) -> None:
    """The server process: its port on a line, then its CPU seconds as the client's lines ask for them."""
    tls = ServerTls.from_files(args.folder / "cert.pem", args.folder / "key.pem")
    options = QuicOptions()
    app = answering(args.body_bytes)
    endpoint = await listen(args.host, 0, tls=tls, asgi_app=app, doors=Doors(), options=options)
    print(endpoint.port, flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    cpu, sent = time.process_time(), endpoint.udp.datagrams_sent
    calls = endpoint.udp.send_calls
    with profiled(args.profile == "server"):
        await asyncio.to_thread(sys.stdin.readline)
    udp = endpoint.udp
    made = {
        "cpu_s": time.process_time() - cpu,
        "packets": udp.datagrams_sent - sent,
        "calls": udp.send_calls - calls,
    }
    made["dropped"] = udp.sends_dropped
    for peer in endpoint.peers:
        made["window_bytes"] = peer.quic.recovery.control.window
    print(json.dumps(made), flush=True)
    endpoint.close()


async def load(args: argparse.Namespace) -> None:
    """The client process: ``ready``, then at a line the bodies, then its figures."""
    trust = QuicTrust(ca_pem=(args.folder / "cert.pem").read_bytes())
    options = QuicOptions()
    client = await connect(
        args.host, args.load, trust=trust, server_name="localhost", options=options, timeout_s=5
    )
    async with client:
        await asyncio.sleep(0.3)
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        cpu, began = time.process_time(), time.perf_counter()
        got = 0
        with profiled(args.profile == "client"):
            for _ in range(args.bodies):
                response = await client.request("GET", "/")
                got += len(await response.read())
        made = {"wall_s": time.perf_counter() - began, "cpu_s": time.process_time() - cpu, "bytes": got}
        print(json.dumps(made), flush=True)


def floor_us_per_packet(size: int) -> tuple[float, float]:
    """Microseconds of a packet for the sender and the receiver: encryption and system calls alone, sent as runs."""
    here, there = UdpSocket(bind("127.0.0.1", 0)), bind("127.0.0.1", 0)
    there.setblocking(False)
    there.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 23)
    aead, plain, head = AESGCM(os.urandom(16)), bytes(size - 28), bytes(12)
    address, runs, count = there.getsockname(), 300, 16
    sending = receiving = 0.0
    for _ in range(runs):
        began = time.process_time()
        here._send_segments([head + aead.encrypt(head, plain, head) for _ in range(count)], address)
        sending += time.process_time() - began
        began = time.process_time()
        for _ in range(count):
            packet, _ = there.recvfrom(65_535)
            aead.decrypt(head, packet[12:], packet[:12])
        receiving += time.process_time() - began
    here.close()
    there.close()
    return sending / runs / count * 1e6, receiving / runs / count * 1e6


def _process(args: argparse.Namespace, extra: Sequence[str], prefix: Sequence[str], core: int) -> Any:
    words = [
        "--body-bytes",
        args.body_bytes,
        "--bodies",
        args.bodies,
        "--folder",
        args.folder,
    ]
    argv = [*prefix, sys.executable, "-m", "bench.bulk", *map(str, words), *extra]
    if args.profile:
        argv += ["--profile", args.profile]
    process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    os.sched_setaffinity(process.pid, {core})
    return process


def measure(args: argparse.Namespace, host: str, near: Sequence[str], far: Sequence[str]) -> dict[str, Any]:
    """Both processes started, pinned, ended; their figures."""
    cores = sorted(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as name:
        args.folder = Path(name)
        make_certificate(args.folder)
        server = _process(args, ["--host", host, "--serve"], near, cores[0])
        client = None
        try:
            port = server.stdout.readline().strip()
            client = _process(args, ["--host", host, "--load", port], far, cores[-1])
            client.stdout.readline()
            for process in (server, client):
                process.stdin.write("\n")
                process.stdin.flush()
            read = json.loads(client.stdout.readline())
            server.stdin.write("\n")
            server.stdin.flush()
            sent = json.loads(server.stdout.readline())
        finally:
            for process in (client, server):
                if process is not None:
                    process.kill()
                    process.wait()
    megabytes = read["bytes"] / MB
    return {
        "wall_s": round(read["wall_s"], 2),
        "megabytes_per_s": round(megabytes / read["wall_s"], 1),
        "server_ms_per_mb": round(sent["cpu_s"] * 1e3 / megabytes, 1),
        "client_ms_per_mb": round(read["cpu_s"] * 1e3 / megabytes, 1),
        **{key: sent.get(key) for key in ("packets", "calls", "dropped", "window_bytes")},
    }


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Over loopback, or over a link with a round trip and loss."""
    if not args.rtt:
        return measure(args, "127.0.0.1", [], [])
    rule = Direction(delay_ms=args.rtt / 2, loss=args.loss / 100)
    with open_network([LinkPath.symmetric(rule)], 1, netem=False) as network:
        near, far = (host.command([]) for host in network.hosts[:2])
        return measure(args, network.hosts[0].address, near, far)


def main() -> None:
    """Entry."""
    parser = argparse.ArgumentParser(prog="python -m bench.bulk", description=__doc__)
    parser.add_argument("--bodies", type=int, default=10)
    parser.add_argument("--body-bytes", type=int, default=1_640_000, help="200 pages of 8 KiB by default")
    parser.add_argument("--rtt", type=float, default=0.0, help="milliseconds; needs root and /dev/net/tun")
    parser.add_argument("--loss", type=float, default=0.0, help="per cent, each way")
    parser.add_argument("--profile", choices=("server", "client"))
    parser.add_argument("--host", default="127.0.0.1", help=argparse.SUPPRESS)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--load", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve or args.load:
        uvloop.run(serve(args) if args.serve else load(args))
        return
    print(json.dumps(run(args)), flush=True)
    if not args.profile:
        sending, receiving = (us * MB / 1_150 / 1e3 for us in floor_us_per_packet(1_200))
        print(
            f"the floor: {sending:.1f} ms of the sender and {receiving:.1f} ms of the receiver for a megabyte"
        )


if __name__ == "__main__":
    main()
