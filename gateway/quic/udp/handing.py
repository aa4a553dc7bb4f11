"""Packets that came to the wrong process of several on one port, handed to the one whose connection it is. Room: quic.

By datagrams of Unix sockets without names, which only processes of one start share. Each is the peer's address as JSON, a
zero byte, and the packet. One that finds no room is dropped, as by any full queue on its way. Source: unix(7).
"""

from __future__ import annotations

import json
import socket
from collections import Counter
from collections.abc import Callable, Sequence

from gateway import limits
from gateway.quic.connection.minting import Mint
from gateway.quic.connection.paths import Address

Pair = tuple[socket.socket, socket.socket]


def pairs(count: int) -> list[Pair]:
    """For each worker the end that it reads, and the one that the others write."""
    made = []
    for _ in range(count):
        # A pair without a name: nobody outside can write packets into it, as with a path in the file system.
        reads, writes = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        reads.setblocking(False)
        writes.setblocking(False)
        made.append((reads, writes))
    return made


class Handing:
    """One worker's end. ``mint``: of its own IDs; ``is_alive``: whether a worker is there to take packets."""

    def __init__(self, mint: Mint, ends: Sequence[Pair], is_alive: Callable[[int], bool]) -> None:
        self._mint = mint
        self._reads = ends[mint.number][0]
        self._writes = [writes for _, writes in ends]
        self._is_alive = is_alive
        self.counters: dict[str, int] = Counter()
        """``handed_over``, ``handed_in`` and ``handing_dropped``."""

    def fileno(self) -> int:
        """What tells of packets for this worker by becoming readable."""
        return self._reads.fileno()

    def hand_over(self, cid: bytes, data: bytes, address: object) -> bool:
        """A packet of nobody here, for the ID ``cid``. False: it is meant for this worker, or for one that is not there."""
        worker = self._mint.worker_of(cid)
        if worker == self._mint.number or not self._is_alive(worker):
            return False
        try:
            self._writes[worker].send(json.dumps(address).encode() + b"\0" + data)
        except OSError:
            self.counters["handing_dropped"] += 1
        else:
            self.counters["handed_over"] += 1
        return True

    def pop(self) -> list[tuple[bytes, Address]]:
        """What was handed in, at most a batch: packets with their peers' addresses."""
        taken = []
        for _ in range(limits.QUIC_RECEIVE_BATCH_MAX):
            try:
                told = self._reads.recv(limits.HANDED_BYTES_MAX)
            except OSError:
                break
            address, _, data = told.partition(b"\0")
            taken.append((data, tuple(json.loads(address))))
        self.counters["handed_in"] += len(taken)
        return taken
