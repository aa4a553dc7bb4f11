"""Accepting connections by hand, so that running out of descriptors ends nothing. Room: http.

An event loop's own server gives its listening socket up when ``accept`` fails for want of a descriptor
(uvloop), or logs each time and waits a second (asyncio). Here the socket rests for a moment, it is said
once in a while, and whoever holds descriptors for nothing may be asked for them. Sources: accept(2), tcp(7).
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import Callable

from gateway import limits

log = logging.getLogger("mvgateway.tcp")

_SHORT = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_TCP_OPTIONS = {
    "TCP_NOTSENT_LOWAT": limits.TCP_UNSENT_BYTES,
    "TCP_KEEPIDLE": limits.TCP_PROBE_S,
    "TCP_KEEPINTVL": limits.TCP_PROBE_S,
    "TCP_USER_TIMEOUT": limits.TCP_SILENCE_S_MAX * 1_000,
}
"""Set where the system has them; accepted connections inherit them."""


def bind_tcp(host: str, port: int, *, shared: bool = False, listens: bool = True) -> socket.socket:
    """A listening socket, whose connections inherit its options. ``shared``: others may be bound there with it, and the
    kernel deals connections out to those that listen; without ``listens`` it only keeps the port. Raises ``OSError``.
    socket(7), tcp(7)."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        # A gateway that is started anew finds its port though connections of the last run are in TIME_WAIT
        # (socket(7)).
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        tune(sock)
        sock.bind((host, port))
        if listens:
            sock.listen(limits.TCP_BACKLOG)
        sock.setblocking(False)
    except OSError:
        sock.close()
        raise
    return sock


def tune(sock: socket.socket) -> None:
    """Set what connections inherit on a socket that listens, or will."""
    # Nagle's algorithm (RFC 896) would keep a frame back until the last one is acknowledged: a round trip a tick.
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in _TCP_OPTIONS.items():
        try:
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
        except (OSError, AttributeError):
            pass  # not on this system: it works without, only later or with longer queues


class Acceptor:
    """Accepts on one listening socket. ``on_accepted`` takes the connection's socket and the peer's address;
    ``on_short`` is told that descriptors have run out. accept(2)."""

    def __init__(
        self,
        sock: socket.socket,
        on_accepted: Callable[[socket.socket, tuple[str, int]], None],
        on_short: Callable[[], None],
    ) -> None:
        self._sock = sock
        self._on_accepted = on_accepted
        self._on_short = on_short
        self._loop = asyncio.get_running_loop()
        self._resting: asyncio.TimerHandle | None = None
        self._is_stopped = False
        self._said_at = -limits.LOG_QUIET_S
        self._unsaid = 0
        self._loop.add_reader(sock, self._accept_some)

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return int(self._sock.getsockname()[1])

    def stop(self) -> None:
        """Close the listening socket. Idempotent."""
        if self._is_stopped:
            return
        self._is_stopped = True
        if self._resting is None:
            self._loop.remove_reader(self._sock)
        else:
            self._resting.cancel()
        self._sock.close()

    def _accept_some(self) -> None:
        # So many a turn: a flood of connections must not keep the loop from those that are served.
        for _ in range(limits.TCP_ACCEPTS_PER_TURN):
            try:
                connection, address = self._sock.accept()
            except (BlockingIOError, InterruptedError):
                return
            except ConnectionError:
                continue  # it has gone again
            except OSError as error:
                self._rest(error)
                return
            connection.setblocking(False)
            self._on_accepted(connection, address)

    def _rest(self, error: OSError) -> None:
        """Leave the others in the backlog for a moment: they are served as soon as there is room."""
        self._say(error)
        # Unwatched meanwhile: the socket stays readable, and the loop would come back at once, for ever.
        self._loop.remove_reader(self._sock)
        self._resting = self._loop.call_later(limits.TCP_ACCEPT_REST_S, self._resume)
        if error.errno in _SHORT:
            self._on_short()

    def _resume(self) -> None:
        self._resting = None
        self._loop.add_reader(self._sock, self._accept_some)

    def _say(self, error: OSError) -> None:
        self._unsaid += 1
        now = self._loop.time()
        if now - self._said_at < limits.LOG_QUIET_S:
            return
        log.error(
            "no connection can be accepted on port %d: %s (%d times since this was last said); "
            "raise the limit of open files (ulimit -n, LimitNOFILE)",
            *(self.port, error.strerror, self._unsaid),
        )
        self._said_at, self._unsaid = now, 0
