"""Where the microseconds of a datagram go, without sockets: ``python -m bench.quic_steps``. Room: bench.

A server connection and a client in memory: 60 times a second of simulated time a frame is
queued, built and sealed, then its ACK is read and accounted for. The lower quartile of each step is
told, for it is what the machine takes when nothing else disturbs it. ``--profile`` adds the functions.
"""

from __future__ import annotations

import argparse
import contextlib
import cProfile
import os
import pstats
import socket
import time
from collections.abc import Callable
from typing import Any

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from bench.throwaway import throwaway_certificate
from gateway.core.bundle import Burst
from gateway.quic.connection import Connection, FateSink
from gateway.quic.connection.framing import Framing, Run
from gateway.quic.options import QuicOptions
from gateway.quic.tls import QuicTrust, ServerTls

FRAMES = 1_000
MESSAGE = bytes(1_048)


class Sink(FateSink):
    """Takes the fate of datagrams."""

    def on_fate(self, token: int, acked: bool) -> None: ...


class Bench:
    """The two ends."""

    def __init__(self) -> None:
        options = QuicOptions()
        tls = ServerTls(*throwaway_certificate())
        self.client = Connection(
            configuration=QuicTrust(insecure=True).configuration("localhost", options, None)
        )
        self.server = Connection(
            configuration=tls.configuration(options),
            original_destination_connection_id=self.client.original_destination_connection_id,
        )
        self.now = 1_000.0
        self.client.connect(("server", 1), self.now)
        for _ in range(60):
            self.now += 0.01
            self._exchange()

    def _exchange(self) -> None:
        ends = ((self.client, self.server, ("client", 1)), (self.server, self.client, ("server", 1)))
        for end, other, address in ends:
            timer = end.get_timer()
            if timer is not None and timer <= self.now:
                end.handle_timer(self.now)
            for data in _cut(end.packets(self.now)):
                other.receive(data, address, self.now)
            while end.next_event() is not None:
                pass

    def send(self, count: int) -> list[bytes]:
        """Queue a frame of ``count`` datagrams; its packets."""
        quic, sink = self.server, Sink()
        framing = Framing(Burst([(MESSAGE, ())] * count), b"\x00", quic.content_bytes_max)
        if quic.offer_burst(framing, sink, 0) is not None:
            for token in range(count):
                quic.offer_datagram(b"\x00" + MESSAGE, sink, token)
        packets = quic.packets(self.now)
        if not quic.calm:
            quic.deadline()
        return _cut(packets)

    def acknowledge(self, packets: list[bytes]) -> list[bytes]:
        """The client's answer."""
        self.now += 0.0005
        for packet in packets:
            self.client.receive(packet, ("server", 1), self.now)
        while self.client.next_event() is not None:
            pass
        self.now += 0.0015
        self.client.received.ack_at = self.now
        return _cut(self.client.packets(self.now))

    def receive(self, packets: list[bytes]) -> None:
        """Read the answer, and tell the fates."""
        quic = self.server
        for packet in packets:
            quic.receive(packet, ("client", 1), self.now)
        for sink, token, acked in quic.take_fates():
            sink.on_fate(token, acked)


def _cut(packets: list[bytes] | Run) -> list[bytes]:
    return packets.split() if isinstance(packets, Run) else packets


def quartile(values: list[float]) -> float:
    """The lower quartile, in microseconds."""
    return sorted(values)[len(values) // 4] * 1e6


def measure(count: int, profile: cProfile.Profile | None) -> tuple[float, float]:
    """Microseconds to build a frame's packets, and to account for their ACK."""
    bench = Bench()
    builds: list[float] = []
    acks: list[float] = []
    for _ in range(FRAMES):
        bench.now += 1 / 60
        if profile is not None:
            profile.enable()
        began = time.perf_counter()
        packets = bench.send(count)
        builds.append(time.perf_counter() - began)
        if profile is not None:
            profile.disable()
        answer = bench.acknowledge(packets)
        if profile is not None:
            profile.enable()
        began = time.perf_counter()
        bench.receive(answer)
        acks.append(time.perf_counter() - began)
        if profile is not None:
            profile.disable()
    return quartile(builds), quartile(acks)


def alone(call: Callable[[], Any]) -> float:
    """Microseconds of one call, undisturbed."""
    times = []
    for _ in range(5_000):
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return quartile(times)


def floor() -> dict[str, float]:
    """Encryption and system calls alone."""
    aead = AESGCM(os.urandom(16))
    mask = Cipher(algorithms.AES(os.urandom(16)), modes.ECB()).encryptor().update
    sealed = aead.encrypt(bytes(12), bytes(24), b"")
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as here,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as there,
    ):
        there.bind(("127.0.0.1", 0))
        there.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 24)
        address = there.getsockname()
        packet = bytes(1_090)
        result = {
            "seal 1 KB": alone(lambda: aead.encrypt(bytes(12), MESSAGE, bytes(11))),
            "header mask": alone(lambda: mask(packet[:16])),
            "sendto 1 KB": alone(lambda: here.sendto(packet, address)),
            "open an ACK": alone(lambda: aead.decrypt(bytes(12), sealed, b"")),
        }
        there.setblocking(False)
        result["recvfrom"] = receive_alone(here, there, address)
    return result


def receive_alone(here: socket.socket, there: socket.socket, address: Any) -> float:
    """Microseconds to read one small datagram that is there already."""
    with contextlib.suppress(BlockingIOError):
        while True:
            there.recvfrom(65_535)
    times = []
    for _ in range(2_000):
        here.sendto(bytes(40), address)
        began = time.perf_counter()
        there.recvfrom(65_535)
        times.append(time.perf_counter() - began)
    return quartile(times)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.quic_steps", description=__doc__)
    parser.add_argument("--profile", action="store_true", help="the functions of the fast path as well")
    args = parser.parse_args()
    for count in (1, 4):
        build, ack = measure(count, None)
        print(f"{count} datagram(s) a frame: build {build:.1f} µs, acknowledgement {ack:.1f} µs")
    print("alone: " + ", ".join(f"{name} {value:.1f} µs" for name, value in floor().items()))
    if args.profile:
        profile = cProfile.Profile()
        measure(1, profile)
        pstats.Stats(profile).sort_stats("tottime").print_stats(25)


if __name__ == "__main__":
    main()
