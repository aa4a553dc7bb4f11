"""What runs inside the namespaces to measure the link: a UDP echo, a counting sink, a prober.

Room: bench/link. ``python -m bench.link.probe ROLE …``; results are one JSON line on standard output.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import statistics
import struct
import sys
import time
from typing import Any

PORT = 9
HEAD = struct.Struct("<IQ")
QUIET_S = 0.5
POURED = bytes(65_536)
BLAST_BUFFER_BYTES = 8 * 1024 * 1024


def echo() -> None:
    """Send every packet back where it came from, until killed."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BLAST_BUFFER_BYTES)
    sock.bind(("0.0.0.0", PORT))
    print("ready", flush=True)
    while True:
        data, peer = sock.recvfrom(2048)
        sock.sendto(data, peer)


def sink() -> None:
    """Count packets and bytes; report after the first has come and then ``QUIET_S`` without any."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BLAST_BUFFER_BYTES)
    sock.bind(("0.0.0.0", PORT))
    print("ready", flush=True)
    count = total = 0
    first = last = 0.0
    while True:
        try:
            data = sock.recv(2048)
        except TimeoutError:
            break
        last = time.monotonic()
        if count == 0:
            first = last
            sock.settimeout(QUIET_S)
        count += 1
        total += len(data) + 28
    print(json.dumps({"packets": count, "ip_bytes": total, "seconds": last - first}), flush=True)


def ping(target: str, count: int, interval_s: float) -> None:
    """Round trips: ``count`` packets ``interval_s`` apart; reports milliseconds and how many came back."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.connect((target, PORT))
    sock.settimeout(interval_s)
    times_ms: list[float] = []
    start = time.monotonic()
    for number in range(count):
        sock.send(HEAD.pack(number, time.monotonic_ns()) + bytes(52))
        _receive_until(sock, start + (number + 1) * interval_s, times_ms)
    _receive_until(sock, time.monotonic() + QUIET_S, times_ms)
    print(json.dumps(_summary(times_ms, count)), flush=True)


def _receive_until(sock: socket.socket, deadline: float, times_ms: list[float]) -> None:
    while (left := deadline - time.monotonic()) > 0:
        sock.settimeout(left)
        try:
            _, sent_ns = HEAD.unpack_from(sock.recv(2048))
        except (TimeoutError, ConnectionRefusedError):
            continue
        times_ms.append((time.monotonic_ns() - sent_ns) / 1e6)


def _summary(times_ms: list[float], count: int) -> dict[str, Any]:
    return {
        "sent": count,
        "returned": len(times_ms),
        "rtt_ms_median": statistics.median(times_ms) if times_ms else None,
        "rtt_ms_mean": statistics.fmean(times_ms) if times_ms else None,
    }


def blast(target: str, packets: int, size_bytes: int, per_second: float) -> None:
    """Send ``packets`` UDP packets of ``size_bytes`` IP bytes at ``per_second``; reports the CPU it took."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BLAST_BUFFER_BYTES)
    sock.connect((target, PORT))
    body = bytes(size_bytes - 28)
    start = time.monotonic()
    for number in range(packets):
        sock.send(body)
        ahead = start + number / per_second - time.monotonic()
        if ahead > 0.0005:
            time.sleep(ahead)
    took = time.monotonic() - start
    print(json.dumps({"sent": packets, "seconds": took, "cpu_s": time.process_time()}), flush=True)


def pour(algorithm: str = "") -> None:
    """Send to whoever connects, as fast as TCP lets it by that congestion control ("": the machine's), until killed: one process a flow."""
    listening = socket.create_server(("0.0.0.0", PORT))
    if algorithm:
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, algorithm.encode())
    print("ready", flush=True)
    while True:
        sock, _ = listening.accept()
        if os.fork() == 0:
            with contextlib.suppress(OSError):
                while True:
                    sock.sendall(POURED)
            os._exit(0)
        sock.close()


def drain(target: str, local: str, seconds: float) -> None:
    """Take what :func:`pour` sends, from one address, for so long; reports the bytes."""
    sock = socket.create_connection((target, PORT), timeout=10.0, source_address=(local, 0))
    print("ready", flush=True)
    end, total = time.monotonic() + seconds, 0
    while (left := end - time.monotonic()) > 0:
        sock.settimeout(left)
        try:
            total += len(sock.recv(65_536))
        except TimeoutError:
            break
    print(json.dumps({"bytes": total, "seconds": seconds}), flush=True)


def main(argv: list[str]) -> None:
    """Entry: the role and its numbers."""
    role = argv[0]
    if role == "echo":
        echo()
    elif role == "sink":
        sink()
    elif role == "ping":
        ping(argv[1], int(argv[2]), float(argv[3]))
    elif role == "blast":
        blast(argv[1], int(argv[2]), int(argv[3]), float(argv[4]))
    elif role == "pour":
        pour(*argv[1:])
    elif role == "drain":
        drain(argv[1], argv[2], float(argv[3]))
    else:
        raise SystemExit(f"unknown role {role!r}: echo, sink, ping, blast, pour or drain")


if __name__ == "__main__":
    main(sys.argv[1:])
