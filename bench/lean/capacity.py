"""What lean readers can carry: CPU of one datagram, in one process and without a network. Room: bench/lean.

``python -m bench.lean.capacity``: a server of ours seals packets for one reader; the reader's turn on them is timed (header
protection, decryption, counting, ages, acknowledgements through a real socket), and apart from it reading them in batches
from a real socket. Told are microseconds of CPU a datagram, and how many a second fill one core.
"""

from __future__ import annotations

import asyncio
import socket
import tempfile
import time
from pathlib import Path
from typing import Any

import uvloop

from bench.lean import LeanAges, LeanPool, LeanReader, Samples
from bench.lean.batch import MESSAGES, SOL_UDP, UDP_GRO, Batch, large_buffer
from bench.payload import messages, records_for
from bench.quic_paths import Doors, Reader, answer, make_certificate
from gateway.quic import QuicTrust, ServerTls, listen
from gateway.quic.connection.packets import datagram_head
from gateway.quic.connection.sending import packet_of
from gateway.quic.udp import UdpSocket

TICKS = 4_000
FRAME_BYTES = {1: 1_024, 4: 4_096}
"""Datagrams a tick -> bytes a frame."""


def sealed(link: Any, records: int) -> list[tuple[bytes, int]]:
    """Each tick's packets in one piece, as a segmented send brings them, and the size of one."""
    quic, made = link.peer.quic, []
    for tick in range(1, TICKS + 1):
        payloads = [link.prefix + m for m in messages(tick, records, time.time_ns() // 1000)]
        packets = [packet_of(quic, datagram_head(len(p)) + p) for p in payloads]
        made.append((b"".join(packets), len(packets[0])))
    return made


def turns(reader: LeanReader, runs: list[tuple[bytes, int]]) -> float:
    """CPU seconds a datagram of everything but receiving."""
    with socket.socket(type=socket.SOCK_DGRAM) as sink, socket.socket(type=socket.SOCK_DGRAM) as out:
        sink.bind(("127.0.0.1", 0))
        out.connect(sink.getsockname())
        reader.send = out.send
        before, cpu_s = reader.datagrams, time.process_time()
        for number, (data, size) in enumerate(runs):
            reader.receive(data, size if size < len(data) else 0, number / 60, time.time_ns() // 1000)
        return (time.process_time() - cpu_s) / (reader.datagrams - before)


def receiving(runs: list[tuple[bytes, int]]) -> float:
    """CPU seconds a datagram of reading batches."""
    batch, cpu_s, count = Batch(), 0.0, 0
    sender = UdpSocket(socket.socket(type=socket.SOCK_DGRAM))
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.setsockopt(SOL_UDP, UDP_GRO, 1)
        large_buffer(sock)
        for start in range(0, len(runs), MESSAGES):
            for data, size in runs[start : start + MESSAGES]:
                packets = [data[at : at + size] for at in range(0, len(data), size)]
                sender.send_packets(packets, sock.getsockname())
            before_s = time.process_time()
            got = batch.receive(sock)
            cpu_s += time.process_time() - before_s
            count += sum(-(-len(data) // (segment or len(data))) for data, segment in got)
    sender.close()
    return cpu_s / count


async def measure(folder: Path, datagrams: int) -> str:
    """One line: so many datagrams a tick."""
    tls, doors = ServerTls.from_files(folder / "cert.pem", folder / "key.pem"), Doors()
    endpoint = await listen("127.0.0.1", 0, tls=tls, asgi_app=answer, doors=doors)
    pool, records = LeanPool(), records_for(FRAME_BYTES[datagrams])
    trust = QuicTrust(ca_pem=(folder / "cert.pem").read_bytes())
    reader = await pool.webtransport(
        "127.0.0.1",
        endpoint.port,
        "/live",
        trust=trust,
        take=LeanAges(records, Samples()).take,
        make_session=lambda link: Reader(),
    )
    await asyncio.sleep(0.5)  # for the handshake's last packets
    runs = sealed(doors.links[0], records)
    turn_us, receive_us = 1e6 * turns(reader, runs), 1e6 * receiving(runs)
    await pool.close()
    endpoint.close()
    whole = turn_us + receive_us
    return (
        f"{datagrams} a tick: {turn_us:.1f} µs a datagram and {receive_us:.1f} µs to receive it: "
        f"{1e6 / whole:,.0f} a second fill a core"
    )


def main() -> None:
    """Entry."""
    with tempfile.TemporaryDirectory() as folder:
        make_certificate(Path(folder))
        for datagrams in FRAME_BYTES:
            print(uvloop.run(measure(Path(folder), datagrams)))


if __name__ == "__main__":
    main()
