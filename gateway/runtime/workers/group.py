"""What the workers of one start have in common. Room: runtime."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gateway.http.server import bind_tcp
from gateway.quic.connection.minting import ALONE, IdLayout, Mint
from gateway.quic.udp.handing import Pair
from gateway.runtime import places
from gateway.runtime.activation import is_listening
from gateway.runtime.sockets import Sockets
from gateway.store.world.home import Holder


@dataclass(slots=True)
class Group:
    """One start's. ``folder``: where the workers' sockets stand, which this user alone may enter; ``secret``: what each says to
    each first. ``reset_key``: as of a gateway that is one process. ``sockets``: all listening ones, those of QUIC by worker."""

    count: int
    folder: Path
    reset_key: bytes
    sockets: Sockets
    quic: Sequence[socket.socket]
    hands: Sequence[Pair]
    store_url: str | None = None
    """Where the owner of the embedded store answers; None where the store is elsewhere."""
    secret: str = field(default_factory=lambda: secrets.token_hex(32), repr=False)
    run: str = field(default_factory=lambda: secrets.token_hex(6))
    layout: IdLayout = ALONE.layout
    """Of connection IDs."""


@dataclass(slots=True)
class Worker:
    """One of a group, as it knows itself. ``control``: its end of the wire to the supervisor."""

    group: Group
    number: int
    control: socket.socket
    alive: frozenset[int] = frozenset()
    """The workers that take connections, as the supervisor told last."""
    is_leaving: bool = False
    """Whether another takes its place: sessions go to the other workers, which are there."""
    is_orphaned: bool = False
    """Whether the supervisor is gone: then nobody else clears the folder away."""
    life: str = field(default_factory=lambda: secrets.token_hex(8))
    place: str = field(default_factory=lambda: places.own(in_process_store=False))

    @property
    def mint(self) -> Mint:
        """Of its connection IDs."""
        return Mint(self.number, self.group.count, self.group.layout)

    @property
    def is_first(self) -> bool:
        """It has what only one can have: the door for plain UDP, and the admin API's."""
        return self.number == 0

    def is_alive(self, number: int) -> bool:
        """Whether that worker takes connections."""
        return number in self.alive

    def holder(self, node: str) -> Holder:
        """Itself as the home of worlds."""
        return Holder(node, self.place, f"{self.group.run}-{self.number}-{self.life}")

    def number_of(self, holder: str) -> int | None:
        """Which other worker of the group that home is, if it lives."""
        place, _, run = holder.partition("/")
        group, _, rest = run.partition("-")
        number = rest.partition("-")[0]
        if group != self.group.run or not number.isdecimal() or int(number) == self.number:
            return None
        # The same number may be a later life: a home that is gone is judged by its process, not by who has its
        # number now.
        return None if places.is_gone(place, self.place) else int(number)

    def others(self) -> list[int]:
        """The others that take connections."""
        return sorted(self.alive - {self.number})

    def sockets(self) -> Sockets:
        """What it listens on: all doors that are everybody's, and those that only one can have."""
        shared = self.group.sockets
        udp, admin = (shared.udp, shared.admin) if self.is_first else (None, None)
        plain = None if shared.plain is None else _beside(shared.plain)
        return Sockets(self.group.quic[self.number], _beside(shared.tls), plain, udp, admin)

    def path(self, number: int) -> str:
        """Where a worker answers the others."""
        return str(self.group.folder / f"{number}.sock")


def _beside(kept: socket.socket) -> socket.socket:
    """A listening socket of this process's own on a port that is kept: the kernel sends nobody there once it has died. Where
    the one that is kept listens itself, as systemd's does, connections wait there, and all accept from it."""
    if is_listening(kept):
        return kept
    host, port = kept.getsockname()[:2]
    return bind_tcp(host, port, shared=True)


__all__ = ["Group", "Worker"]
