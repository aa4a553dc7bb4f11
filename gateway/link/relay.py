"""A relay that delays, drops and holds back: the link where no network namespace can be made. Room: link.

``python -m gateway.link.relay JSON`` (``to``: the port on loopback, ``path``, ``seed``) prints its own port, of UDP and TCP, and ends
with its standard input. UDP packets are dropped and delayed by :mod:`gateway.link.model`. A connection of TCP ends here and
begins anew on the other side, so that no segment of it can really be lost: a piece that the model takes comes a round trip
later, which is the least that sending it again takes (RFC 5681 section 3.2), and all behind it waits, as TCP has it. Windows that
shrink are not played: TCP looks better here than it is.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Callable
from typing import Any

from gateway import limits
from gateway.link.carrier import path_from
from gateway.link.model import Direction, LinkPath, Shaper

Address = tuple[str, int]
Pieces = asyncio.Queue[tuple[float, bytes]]
"""When each arrives; an empty one is the end."""


class Relay:
    """UDP and TCP at one port number of loopback, handed on to ``to`` as ``path`` has it."""

    def __init__(self, to: int, path: LinkPath, seed: int) -> None:
        self._to, self.path, self._seed = to, path, seed
        self._loop = asyncio.get_running_loop()
        self._back: dict[Address, _Back] = {}
        self._front: asyncio.DatagramTransport | None = None
        self._flows = 0
        self._waiting = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> int:
        """Listen; answers the port."""
        server = await asyncio.start_server(self._on_tcp, "127.0.0.1", 0)
        port: int = server.sockets[0].getsockname()[1]
        self._front, _ = await self._loop.create_datagram_endpoint(
            lambda: _Front(self), local_addr=("127.0.0.1", port)
        )
        return port

    def shaper(self, rule: Direction) -> Shaper:
        """The state of a direction of one more flow."""
        self._flows += 1
        return Shaper(rule, f"{self._seed}/{self._flows}")

    # -- UDP --

    def from_reader(self, data: bytes, address: Address) -> None:
        """A packet upwards; one of a sender too many is dropped."""
        back = self._back.get(address)
        if back is None:
            if len(self._back) >= limits.RELAY_SENDERS_MAX:
                return
            back = self._back[address] = _Back(self, address)
            task = self._loop.create_task(back.open(self._to))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        # Admitted though the socket behind may not be open yet: by the time it arrives it is, or it is lost
        # as on a real path.
        self._later(back.up.admit(len(data), time.monotonic()), back.send, data)

    def to_reader(self, down: Shaper, data: bytes, address: Address) -> None:
        """A packet downwards."""
        assert self._front is not None
        self._later(down.admit(len(data), time.monotonic()), self._front.sendto, data, address)

    def _later(self, arrives: float | None, send: Callable[..., None], *what: object) -> None:
        if arrives is None or self._waiting >= limits.RELAY_PACKETS_WAITING_MAX:
            return
        self._waiting += 1
        self._loop.call_later(arrives - time.monotonic(), self._now, send, what)

    def _now(self, send: Callable[..., None], what: tuple[object, ...]) -> None:
        self._waiting -= 1
        send(*what)

    # -- TCP --

    async def _on_tcp(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            beyond, onward = await asyncio.open_connection("127.0.0.1", self._to)
        except OSError:
            writer.transport.abort()
            return
        try:
            async with asyncio.TaskGroup() as group:
                for source, sink, rule in (
                    (reader, onward, self.path.up),
                    (beyond, writer, self.path.down),
                ):
                    pieces: Pieces = asyncio.Queue(limits.RELAY_PIECES_WAITING_MAX)
                    group.create_task(self._take(source, pieces, self.shaper(rule)))
                    group.create_task(_hand_on(pieces, sink))
        except* OSError:
            pass  # either side went away: the other is told by the end of its connection
        finally:
            writer.transport.abort()
            onward.transport.abort()

    async def _take(self, source: asyncio.StreamReader, pieces: Pieces, shaper: Shaper) -> None:
        round_trip_s = (self.path.up.delay_ms + self.path.down.delay_ms) / 1e3
        while data := await source.read(limits.RELAY_PIECE_BYTES):
            await pieces.put((arrival(shaper, len(data), time.monotonic(), round_trip_s), data))
        await pieces.put((time.monotonic() + shaper.rule.delay_ms / 1e3, b""))


def arrival(shaper: Shaper, size_bytes: int, now: float, round_trip_s: float) -> float:
    """When a piece of a connection that is sent at ``now`` has arrived, however often it was lost."""
    sent = now
    for _ in range(limits.RELAY_RESENDS_MAX):
        arrives = shaper.admit(size_bytes, sent)
        if arrives is not None:
            return arrives
        # Sent again no sooner than the loss can be known.
        sent += round_trip_s
    return sent


async def _hand_on(pieces: Pieces, writer: asyncio.StreamWriter) -> None:
    while True:
        arrives, data = await pieces.get()
        await asyncio.sleep(max(0.0, arrives - time.monotonic()))
        if not data:
            # Raised, so that the group ends the other direction too.
            raise ConnectionResetError("the other side has ended")
        writer.write(data)
        await writer.drain()


class _Front(asyncio.DatagramProtocol):
    def __init__(self, relay: Relay) -> None:
        self._relay = relay

    def datagram_received(self, data: bytes, addr: Address) -> None:
        self._relay.from_reader(data, addr)


class _Back(asyncio.DatagramProtocol):
    """The relay's socket towards the gateway for one sender."""

    def __init__(self, relay: Relay, address: Address) -> None:
        self._relay, self._address = relay, address
        self.up, self._down = relay.shaper(relay.path.up), relay.shaper(relay.path.down)
        self._transport: asyncio.DatagramTransport | None = None

    async def open(self, to: int) -> None:
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(lambda: self, remote_addr=("127.0.0.1", to))

    def send(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.sendto(data)

    def datagram_received(self, data: bytes, addr: Address) -> None:
        self._relay.to_reader(self._down, data, self._address)

    def error_received(self, exc: Exception) -> None:
        """The gateway is away: a packet is lost."""


async def relay(settings: dict[str, Any]) -> None:
    """Relay until standard input ends."""
    print(await Relay(settings["to"], path_from(settings["path"]), settings["seed"]).start(), flush=True)
    loop, over = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), over.set)  # nothing is ever said on it: readable is ended
    await over.wait()


if __name__ == "__main__":
    asyncio.run(relay(json.loads(sys.argv[1])))
