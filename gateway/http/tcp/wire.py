"""One TCP connection as its link sees it: what was written and has not gone out. Room: http."""

from __future__ import annotations

import asyncio
import fcntl
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from gateway import limits
from gateway.errors import TooMany

SIOCOUTQNSD = 0x894B
"""Linux's ioctl for the unsent bytes of a TCP socket (linux/sockios.h)."""


@dataclass(slots=True)
class Carried:
    """Bytes of all connections of a door, without TLS's own and TCP's headers."""

    received: int = 0
    sent: int = 0


@dataclass(slots=True)
class Wire:
    """One connection's transports: ``app`` is what is written to, ``raw`` the socket's own below TLS."""

    app: asyncio.Transport
    raw: asyncio.Transport
    sessions: int = 0
    """Live sessions on this connection: HTTP/2 carries several."""
    carried: Carried = field(default_factory=Carried)

    def write(self, data: bytes | memoryview) -> None:
        """Hand to the transport, if it still takes anything."""
        if not self.app.is_closing() and not self.raw.is_closing():
            self.app.write(data)
            self.carried.sent += len(data)

    def write_all(self, pieces: Sequence[memoryview]) -> None:
        """The same for several pieces, in one call of the kernel's where the event loop can (``writev``)."""
        if not self.app.is_closing() and not self.raw.is_closing():
            self.app.writelines(pieces)
            self.carried.sent += sum(map(len, pieces))

    def pending_bytes(self) -> int:
        """Bytes written and not yet handed to the kernel; 0 once the connection is closing."""
        if self.app.is_closing() or self.raw.is_closing():
            return 0
        waiting = self.raw.get_write_buffer_size()
        # Over TLS both hold some: plain text that waits for the record, and records that wait for the
        # socket.
        if self.app is not self.raw:
            waiting += self.app.get_write_buffer_size()
        return waiting

    def unsent_bytes(self) -> int:
        """Bytes written and not yet sent to the peer for the first time, those in the kernel included: it
        takes up to 64 KB at once, whatever ``TCP_NOTSENT_LOWAT`` says, which is two seconds of 256 kbit/s."""
        waiting = self.pending_bytes()
        if self.raw.is_closing() or self.app.is_closing():
            return 0
        return waiting + kernel_unsent_bytes(self.raw.get_extra_info("socket"))


@contextmanager
def session_on(wire: Wire | None) -> Iterator[None]:
    """While one more session is on the connection. Raises :class:`TooMany`: each may hold a world open."""
    if wire is None:
        yield
        return
    if wire.sessions >= limits.SESSIONS_PER_CONNECTION_MAX:
        raise TooMany(
            f"{wire.sessions} live sessions are on this connection, which is the bound; "
            "end one, or open another connection",
            bound="sessions per connection",
            limit=limits.SESSIONS_PER_CONNECTION_MAX,
        )
    wire.sessions += 1
    try:
        yield
    finally:
        wire.sessions -= 1


def kernel_unsent_bytes(sock: socket.socket | None) -> int:
    """What the kernel holds of a TCP socket's data beyond what it has sent once. 0 where it can't be asked.
    tcp(7) (SIOCOUTQ), ``TCP_INFO``."""
    if sock is None or sys.platform != "linux":
        return 0
    try:
        answer = fcntl.ioctl(sock.fileno(), SIOCOUTQNSD, bytes(4))
    except (OSError, ValueError):
        return 0  # closed meanwhile
    return int.from_bytes(answer, sys.byteorder)
