"""One tick of many readers without sockets: ``python -m bench.quic_tick``. Room: bench.

A world, its links and an endpoint as in the gateway; only the socket and the loop are stood in for, and
the readers' ACKs are made beside the clock. So what is told is the code alone, with the memory of
``--readers`` connections to walk through (a hundred of them no longer fit a core's first caches), and
two states of the code can be compared on a machine with other work: each figure is the lower quintile
of all ticks, in microseconds a datagram (``acknowledgement``: an ACK).
"""

from __future__ import annotations

import argparse
import gc
import time
from collections.abc import Callable
from typing import Any

from bench.throwaway import throwaway_certificate
from gateway.core.ports import LiveOptions
from gateway.core.world import World
from gateway.quic.connection import Connection
from gateway.quic.connection.framing import Run
from gateway.quic.connection.packets import encode_ack
from gateway.quic.connection.sending import packet_of
from gateway.quic.endpoint import Endpoint
from gateway.quic.h3.webtransport import WebTransportLink
from gateway.quic.options import QuicOptions
from gateway.quic.peer import Peer
from gateway.quic.tls import QuicTrust, ServerTls
from gateway.wire.frames import Frame, Record, encode_frame

SERVER = ("10.1.0.1", 4433)
BATCH = 64
TICK_S, RTT_S = 0.0146, 0.002


class Quiet:
    """A socket and a loop of which nothing is wanted; ``came`` is what the socket gives."""

    bytes_max = 1_200
    """No larger packet is looked for."""

    def __init__(self) -> None:
        self.came: list[tuple[bytes, Any, float]] = []

    def receive(self) -> list[tuple[bytes, Any, float]]:
        batch, self.came = self.came[:BATCH], self.came[BATCH:]
        return batch

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return lambda *_: self


class Crowd:
    """The readers of one world, connected in memory."""

    def __init__(self, readers: int) -> None:
        self.now = 1_000.0
        self.socket: Any = Quiet()
        self.endpoint = Endpoint(self.socket, Quiet())  # type: ignore[arg-type]
        self.endpoint.time = lambda: self.now
        self.world = World("bench", mono=self.now, now_us=0)
        tls, options = ServerTls(*throwaway_certificate()), QuicOptions()
        self.ends: list[tuple[Connection, Connection, Any]] = []
        for n in range(readers):
            client = Connection(
                configuration=QuicTrust(insecure=True).configuration("localhost", options, None)
            )
            server = Connection(
                configuration=tls.configuration(options),
                original_destination_connection_id=client.original_destination_connection_id,
            )
            address = (f"10.0.{n >> 8}.{n & 255}", 1_000)
            self._shake_hands(client, server, address)
            self._attach(server)
            self.ends.append((client, server, address))

    def _shake_hands(self, client: Connection, server: Connection, address: Any) -> None:
        client.connect(SERVER, self.now)
        for _ in range(60):
            self.now += 0.01
            for end, other, source in ((client, server, address), (server, client, SERVER)):
                timer = end.get_timer()
                if timer is not None and timer <= self.now:
                    end.handle_timer(self.now)
                packets = end.packets(self.now)
                for data in packets.split() if isinstance(packets, Run) else packets:
                    other.receive(data, source, self.now)
                while end.next_event() is not None:
                    pass

    def _attach(self, server: Connection) -> None:
        peer = Peer(server, self.endpoint)
        link = WebTransportLink(peer, 0)
        link.is_accepted = True
        link.control = lambda message: None  # type: ignore[method-assign]
        peer.add_session(link)
        self.endpoint.add_peer(peer, *(one.cid for one in server.our_ids.known))
        link.attach(self.world.attach_subscriber(link, LiveOptions(), self.now))

    def spread(self, tick: int, datagrams: int) -> float:
        """Seconds that a frame takes to all links."""
        frames = [
            Frame(1, tick, [Record(part * 10 + n, bytes(96)) for n in range(10)]) for part in range(datagrams)
        ]
        messages = [encode_frame(frame) for frame in frames]
        offers: list[Callable[[], None]] = []

        def take() -> None:
            for frame, message in zip(frames, messages, strict=True):
                self.world.ingest(frame, message, 1, self.now, offers.append)
            for offer in offers:
                offer()

        return timed(take)

    def acknowledge(self) -> tuple[float, int]:
        """Seconds to read one ACK of each reader, and how many."""
        spent, count = 0.0, 0
        for start in range(0, len(self.ends), BATCH):
            self.socket.came = []
            for client, server, address in self.ends[start : start + BATCH]:
                sent = list(server.recovery.sent)
                if sent:
                    ack = encode_ack([range(max(0, sent[0] - 20), server.number)], 100)
                    self.socket.came.append((packet_of(client, ack), address, 0.0))
            count += len(self.socket.came)
            spent += timed(self.endpoint._on_readable)
        return spent, count


def timed(call: Callable[[], Any]) -> float:
    """Seconds that a call takes."""
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def measure(readers: int, datagrams: int, ticks: int) -> dict[str, float]:
    """Microseconds of each step."""
    crowd = Crowd(readers)
    gc.collect()
    gc.freeze()
    steps: dict[str, list[float]] = {"world and links": [], "flush": [], "acknowledgement": []}
    for tick in range(1, ticks + 1):
        crowd.now += TICK_S
        steps["world and links"].append(crowd.spread(tick, datagrams) / readers / datagrams)
        steps["flush"].append(timed(crowd.endpoint.flush) / readers / datagrams)
        crowd.now += RTT_S
        spent, count = crowd.acknowledge()
        if count:
            steps["acknowledgement"].append(spent / count)
    return {name: sorted(times)[len(times) // 5] * 1e6 for name, times in steps.items()}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.quic_tick", description=__doc__)
    parser.add_argument("--readers", type=int, default=100)
    parser.add_argument("--datagrams", type=int, default=1, help="of 1 KB, a frame (default 1)")
    parser.add_argument("--ticks", type=int, default=200)
    args = parser.parse_args()
    steps = measure(args.readers, args.datagrams, args.ticks)
    print(", ".join(f"{step} {value:.1f} µs" for step, value in steps.items()))


if __name__ == "__main__":
    main()
