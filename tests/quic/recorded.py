"""Real traces of a server's datagrams and their ACKs, recorded on a link that loses, and replayed.

``python -m tests.quic.recorded record FILE`` records one (root, Linux: it makes network namespaces):
a server sends game ticks to one client over a link that is 25 ms long and loses in bursts. What is kept
is what loss recovery lives on: when how many bytes were offered, and when which packets were
acknowledged, with what delay. Packets are counted by the datagram in them (each holds one), so that
a trace fits whatever else took packet numbers.
"""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import random
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.patience import HANG_S

TRACES = Path(__file__).parent / "traces"
SECONDS, TICK_S, SETTLE_S = 12.0, 1 / 60, 0.5
PORT = 4433


@dataclass(frozen=True)
class Event:
    """At ``at_s`` either a datagram of ``size`` bytes was offered, or an ACK came for the datagrams in
    ``ranges`` (first, one past the last; ascending) with an encoded ``delay``."""

    at_s: float
    size: int = 0
    ranges: tuple[tuple[int, int], ...] = ()
    delay: int = 0


def load(name: str) -> list[Event]:
    """A trace of the folder ``traces``."""
    rows = json.loads(gzip.decompress((TRACES / name).read_bytes()))
    return [Event(row[0] / 1e6, row[1], tuple(map(tuple, row[2])), row[3]) for row in rows]


# -- recording ------------------------------------------------------------------------------


def main(file: str) -> None:
    """Record a trace into ``file``."""
    from bench.link import Direction, GilbertElliott, Network
    from bench.link import LinkPath as LinkPath

    down = Direction(delay_ms=25.0, jitter_ms=3.0, burst=GilbertElliott.of_mean(0.04, 3.0))
    path = LinkPath(up=Direction(delay_ms=25.0, loss=0.02, jitter_ms=2.0), down=down)
    with Network([path], seed=20) as network:
        home, away = network.hosts
        module = [sys.executable, "-m", "tests.quic.recorded"]
        server = home.popen([*module, "serve", home.address], stdout=subprocess.PIPE, text=True)
        assert server.stdout is not None
        server.stdout.readline()
        client = away.popen([*module, "follow", home.address])
        out, _ = server.communicate(timeout=HANG_S)
        client.wait(timeout=HANG_S)
    rows = json.loads(out)
    Path(file).write_bytes(gzip.compress(json.dumps(rows, separators=(",", ":")).encode(), mtime=0))
    print(f"{len(rows)} events, {network.report['dropped_loss']} packets lost")


async def serve(host: str) -> None:
    """Send ticks to the first session, and print what happened as rows of a trace."""
    from dataclasses import replace

    from aioquic.quic.configuration import QuicConfiguration

    from gateway.quic import QuicOptions, ServerTls, listen
    from tests.quic.conftest import App, RecordingDoors, make_identity

    doors, log, identity = RecordingDoors(), io.StringIO(), make_identity()

    class Keyed(ServerTls):
        def configuration(self, options: QuicOptions) -> QuicConfiguration:
            return replace(super().configuration(options), secrets_log_file=log)

    endpoint = await listen(
        host, PORT, tls=Keyed(identity.cert_pem, identity.key_pem), asgi_app=App(), doors=doors
    )
    print("listening", flush=True)
    while not doors.sessions:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    (peer,), link = endpoint.peers, doors.sessions[0].link
    await asyncio.sleep(SETTLE_S)
    tape = _tap(peer.quic)
    rng, began = random.Random(4), endpoint.time()
    offered: list[tuple[float, int]] = []
    while (now := endpoint.time()) - began < SECONDS:
        for _ in range(rng.choice((1, 2, 3, 6))):
            size = rng.randrange(600, 1_000)
            if link.send(len(offered).to_bytes(4, "big") + bytes(size - 4), len(offered)):
                offered.append((now, size + len(link.prefix)))  # type: ignore[attr-defined]
        await asyncio.sleep(TICK_S)
    await asyncio.sleep(1.0)
    print(json.dumps(_rows(tape, offered, began, log.getvalue())), flush=True)
    endpoint.close()


def _tap(quic: Any) -> list[tuple[str, float, bytes]]:
    """Keep the packets that a connection takes and builds from now on."""
    tape: list[tuple[str, float, bytes]] = []
    receive, fast, stock = quic.receive_short, quic.fast_packets, quic.datagrams_to_send

    from gateway.quic.connection.framing import Run

    def receiving(data: bytes, addr: Any, now: float) -> Any:
        tape.append(("in", now, data))
        return receive(data, addr, now)

    def sending_fast(now: float) -> Any:
        packets = fast(now)
        single = packets.split() if isinstance(packets, Run) else packets or ()
        tape.extend(("out", now, packet) for packet in single)
        return packets

    def sending_stock(now: float) -> Any:
        packets = stock(now)
        tape.extend(("out", now, packet) for packet, _ in packets)
        return packets

    quic.receive_short, quic.fast_packets, quic.datagrams_to_send = receiving, sending_fast, sending_stock
    return tape


def _rows(
    tape: list[tuple[str, float, bytes]], offered: list[tuple[float, int]], began: float, keys: str
) -> list[list[Any]]:
    from aioquic.buffer import Buffer
    from aioquic.quic.packet import pull_ack_frame

    from tests.quic.opened import AES_256, Opener, log_secret

    ours = Opener(AES_256, log_secret(keys, "SERVER_TRAFFIC_SECRET_0"))
    theirs = Opener(AES_256, log_secret(keys, "CLIENT_TRAFFIC_SECRET_0"))
    rows: list[tuple[float, list[Any]]] = [
        (at, [round((at - began) * 1e6), size, [], 0]) for at, size in offered
    ]
    index_of: dict[int, int] = {}
    for way, at, packet in tape:
        opened = (theirs if way == "in" else ours).open(packet)
        if opened is None:
            continue
        if way == "out":
            for data in opened.datagrams:
                index_of[opened.number] = int.from_bytes(data[1:5], "big")
        elif opened.frames[0] == "ack":
            ranges, delay = pull_ack_frame(Buffer(data=opened.plain[1:]))
            found = sorted(index_of[n] for r in ranges for n in r if n in index_of)
            if found:
                rows.append((at, [round((at - began) * 1e6), 0, _runs(found), delay]))
    rows.sort(key=lambda row: row[0])
    return [row for _, row in rows]


def _runs(numbers: list[int]) -> list[list[int]]:
    runs: list[list[int]] = []
    for number in numbers:
        if runs and runs[-1][1] == number:
            runs[-1][1] = number + 1
        else:
            runs.append([number, number + 1])
    return runs


async def follow(host: str) -> None:
    """Be the server's one reader until it closes."""
    from gateway.quic import QuicTrust, connect
    from tests.quic.serving import open_session

    client = await connect(host, PORT, trust=QuicTrust(insecure=True), timeout_s=HANG_S)
    await open_session(client)
    await client.wait_closed()
    client.close()


if __name__ == "__main__":
    if sys.argv[1] == "record":
        main(sys.argv[2])
    else:
        asyncio.run({"serve": serve, "follow": follow}[sys.argv[1]](sys.argv[2]))
