"""The TCP server: one door, its connections and their deadlines. Room: http.

What is spoken on a connection is in :mod:`gateway.http.tcp`; this accepts within bounds, looks at
deadlines twice a second, gives room by ending whoever has said nothing when descriptors run out, and
closes in order.
"""

from __future__ import annotations

import asyncio
import logging
import resource
import socket
import ssl
from collections.abc import Callable, Iterator

from starlette.types import ASGIApp

from gateway import limits
from gateway.core.admission import peer_of
from gateway.errors import TooMany
from gateway.http.tcp.acceptor import Acceptor
from gateway.http.tcp.acceptor import bind_tcp as bind_tcp
from gateway.http.tcp.acceptor import tune as tune
from gateway.http.tcp.opening import Opening
from gateway.http.tcp.service import TcpOptions as TcpOptions
from gateway.http.tcp.service import TcpService
from gateway.http.tcp.slots import Slot
from gateway.http.tcp.wire import Wire as Wire
from gateway.http.tcp.wire import kernel_unsent_bytes as kernel_unsent_bytes

log = logging.getLogger("mvgateway.tcp")

_HANDSHAKE_REASONS = ("handshake", "no_tls", "no_application_protocol", "silent_opening")
_BOUNDS = (
    "tcp_connections_max",
    "connections_per_address_max",
    "handshakes_per_address_per_s",
    "descriptors",
)
_OTHERS = frozenset((*_HANDSHAKE_REASONS, *_BOUNDS, "bad_request", "websocket_version", "idle_connections"))


class TcpServer:
    """Serves one ASGI app on one listening socket, with TLS if ``tls`` gives a context.

    ``tls`` is asked for each connection, so a renewed certificate needs no restart.
    """

    def __init__(
        self,
        app: ASGIApp,
        options: TcpOptions | None = None,
        tls: Callable[[], ssl.SSLContext] | None = None,
    ) -> None:
        self._service = TcpService(app, options or TcpOptions())
        self._tls = tls
        self._acceptor: Acceptor | None = None
        self._port = 0
        self._looking: asyncio.TimerHandle | None = None
        self._full_said_at = -limits.LOG_QUIET_S
        self._all_left = asyncio.Event()
        self.connections_ended = 0
        """Connections that have ended so far."""
        self._connections_max = _connections_max(self._service.options.connections_max)

    # -- counts ---------------------------------------------------------------------------

    @property
    def refused(self) -> dict[str, int]:
        """Connections and requests refused or ended by the door itself, by reason."""
        return self._service.refused

    def bytes_carried(self) -> dict[str, int]:
        """Bytes of all connections, ``in`` and ``out``, below TLS and TCP."""
        return {"in": self._service.carried.received, "out": self._service.carried.sent}

    @property
    def connections(self) -> int:
        """Connections open now."""
        return len(self._service.slots)

    @property
    def connections_refused(self) -> int:
        """Connections over a bound."""
        return sum(self.refused.get(bound, 0) for bound in _BOUNDS)

    @property
    def handshakes_failed(self) -> int:
        """Connections that broke off before a protocol was spoken."""
        return sum(self.refused.get(reason, 0) for reason in _HANDSHAKE_REASONS)

    @property
    def connections_failed(self) -> int:
        """Connections that broke a protocol's rules."""
        return sum(count for reason, count in self.refused.items() if reason not in _OTHERS)

    def transports(self) -> Iterator[asyncio.Transport]:
        """The sockets' transports of all connections."""
        return (slot.raw for slot in self._service.slots if slot.raw is not None)

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return self._port

    # -- connections ----------------------------------------------------------------------

    async def listen(self, sock: socket.socket) -> None:
        """Accept connections on ``sock`` from now on."""
        self._acceptor = Acceptor(sock, self._accepted, self._shed_some)
        self._port = self._acceptor.port
        self._look_soon()

    def _accepted(self, sock: socket.socket, address: tuple[str, int]) -> None:
        service = self._service
        peer = peer_of(str(address[0]))
        bound = self._bound_reached(peer)
        if bound is not None:
            service.count(bound)
            sock.close()
            return
        try:
            service.held.take(peer)
        except TooMany:
            service.count("connections_per_address_max")
            sock.close()
            return
        # In the count from here on, before a byte of TLS: handshakes that hang are connections, too.
        slot = Slot(peer, self._left)
        service.slots[slot] = None
        service.keep(asyncio.get_running_loop().create_task(self._open(slot, sock)))

    def _bound_reached(self, peer: str) -> str | None:
        """The bound that a newcomer meets. One that costs nothing but a place gets that of whoever uses his least."""
        service = self._service
        is_handshake = self._tls is not None
        # A handshake costs this side about a millisecond and the other nothing, if it does not go on with
        # it.
        if is_handshake and not service.rates.admits(peer, asyncio.get_running_loop().time()):
            return "handshakes_per_address_per_s"
        if len(service.slots) >= self._connections_max and not self._shed_idle(1):
            is_short = self._connections_max < service.options.connections_max
            self._say_full(is_short)
            return "descriptors" if is_short else "tcp_connections_max"
        return None

    def _say_full(self, is_short: bool) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._full_said_at < limits.LOG_QUIET_S:
            return
        self._full_said_at = now
        why = (
            "there are no more file descriptors (ulimit -n, LimitNOFILE)"
            if is_short
            else "--tcp-connections-max"
        )
        log.warning("%d connections on port %d, and no more: %s", self.connections, self.port, why)

    async def _open(self, slot: Slot, sock: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        try:
            tls = None if self._tls is None else self._tls()
            await loop.connect_accepted_socket(lambda: Opening(self._service, slot, tls), sock)
        except OSError:
            sock.close()
            slot.leave()

    def _left(self, slot: Slot) -> None:
        self.connections_ended += 1
        self._service.slots.pop(slot, None)
        self._service.held.give_back(slot.peer)
        if not self._service.slots:
            self._all_left.set()

    # -- time and need --------------------------------------------------------------------

    def _look_soon(self) -> None:
        self._looking = asyncio.get_running_loop().call_later(limits.TCP_LOOK_S, self._look)

    def _look(self) -> None:
        now = asyncio.get_running_loop().time()
        # Twice a second over all: a timer for each connection would be moved with each piece that comes.
        for slot in list(self._service.slots):
            occupant = slot.occupant
            if occupant is not None and occupant.deadline <= now:
                occupant.expire(now)
        self._look_soon()

    def _shed_some(self) -> None:
        """Descriptors have run out."""
        self._shed_idle(limits.TCP_SHED_AT_ONCE)

    def _shed_idle(self, count: int) -> bool:
        """End up to so many connections with nothing under way, those that came first. False: there is none."""
        shed = 0
        for slot in list(self._service.slots):
            occupant = slot.occupant
            if occupant is not None and occupant.is_idle:
                occupant.abort()
                # At once, not when its transport has gone: the newcomer needs the place now.
                slot.leave()
                self._service.count("idle_connections")
                shed += 1
                if shed >= count:
                    break
        return shed > 0

    # -- the end --------------------------------------------------------------------------

    def stop_accepting(self) -> None:
        """Close the listening socket; what is open goes on."""
        if self._acceptor is not None:
            self._acceptor.stop()

    async def aclose(self, timeout_s: float) -> None:
        """Let requests under way finish for ``timeout_s``, then end every connection."""
        service = self._service
        self.stop_accepting()
        service.is_closing = True
        for slot in list(service.slots):
            if slot.occupant is not None:
                slot.occupant.go_away()
        await self._until_all_left(timeout_s)
        for slot in list(service.slots):
            if slot.occupant is not None:
                slot.occupant.abort()
        await self._until_all_left(1.0)
        for task in list(service.tasks):
            task.cancel()
        if service.tasks:
            await asyncio.wait(service.tasks, timeout=1.0)
        if self._looking is not None:
            self._looking.cancel()

    async def _until_all_left(self, timeout_s: float) -> None:
        if not self._service.slots:
            return
        self._all_left.clear()
        try:
            async with asyncio.timeout(timeout_s):
                await self._all_left.wait()
        except TimeoutError:
            pass


def _connections_max(wanted: int) -> int:
    """So many that two doors leave descriptors to the store and the sockets of the others."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return wanted
    # Half at least to connections, however few descriptors there are.
    left = soft - min(limits.DESCRIPTORS_OWN, soft // 2)
    return max(1, min(wanted, left // 2))
