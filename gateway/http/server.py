"""The TCP server: hypercorn's protocols on our own loop and our own sockets. Room: http.

hypercorn parses HTTP/1.1, HTTP/2 and WebSocket; accepting, TLS and buffers are ours, because
stale bytes hide in buffers: TLS is started over a transport whose write limit is already low, and
each connection's transports are handed to the application (``scope["state"]["wire"]``), so
that a link can see what has not gone out yet.
"""

from __future__ import annotations

import asyncio
import fcntl
import socket
import ssl
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.asyncio.tcp_server import TCPServer
from hypercorn.asyncio.worker_context import WorkerContext
from hypercorn.config import Config
from starlette.types import ASGIApp

from gateway import limits

SIOCOUTQNSD = 0x894B
"""Linux's ioctl for the unsent bytes of a TCP socket (linux/sockios.h)."""
_TCP_OPTIONS = {
    "TCP_NOTSENT_LOWAT": limits.TCP_UNSENT_BYTES,
    "TCP_KEEPIDLE": limits.TCP_PROBE_S,
    "TCP_KEEPINTVL": limits.TCP_PROBE_S,
    "TCP_USER_TIMEOUT": limits.TCP_SILENCE_S_MAX * 1_000,
}
"""Set where the system has them; accepted connections inherit them."""


@dataclass(slots=True)
class Wire:
    """One connection's transports: ``app`` is what is written to, ``raw`` the socket's own below TLS."""

    app: asyncio.Transport
    raw: asyncio.Transport

    def pending_bytes(self) -> int:
        """Bytes written and not yet handed to the kernel; 0 once the connection is closing."""
        if self.app.is_closing() or self.raw.is_closing():
            return 0
        waiting = self.raw.get_write_buffer_size()
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


def kernel_unsent_bytes(sock: socket.socket | None) -> int:
    """What the kernel holds of a TCP socket's data beyond what it has sent once. 0 where it can't be asked."""
    if sock is None or sys.platform != "linux":
        return 0
    try:
        answer = fcntl.ioctl(sock.fileno(), SIOCOUTQNSD, bytes(4))
    except (OSError, ValueError):
        return 0  # closed meanwhile
    return int.from_bytes(answer, sys.byteorder)


def hypercorn_config(alt_svc: str | None, message_bytes_max: int) -> Config:
    """hypercorn with the time-outs and bounds that long streams need, and no logs of its own."""
    config = Config()
    config.accesslog = None
    config.errorlog = None
    config.include_server_header = False
    config.keep_alive_timeout = limits.HTTP_IDLE_S_MAX
    config.keep_alive_max_requests = 1 << 62
    config.max_app_queue_size = limits.HTTP_APP_QUEUE_ITEMS_MAX
    config.h11_max_incomplete_size = limits.HTTP_HEADER_BYTES_MAX
    config.h2_max_concurrent_streams = limits.HTTP_H2_STREAMS_MAX
    config.h2_max_header_list_size = limits.HTTP_HEADER_BYTES_MAX
    config.websocket_max_message_size = message_bytes_max
    config.alt_svc_headers = [alt_svc] if alt_svc else []
    return config


def bind_tcp(host: str, port: int) -> socket.socket:
    """A listening socket, whose connections inherit its options. Raises ``OSError``."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in _TCP_OPTIONS.items():
            try:
                sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
            except (OSError, AttributeError):
                pass  # not on this system: it works without, only later or with longer queues
        sock.bind((host, port))
        sock.listen(1_024)
        sock.setblocking(False)
    except OSError:
        sock.close()
        raise
    return sock


class _Accepted(asyncio.Protocol):
    """A fresh connection: reading waits until TLS (or the plain protocol) is in place.

    uvloop starts reading after ``connection_made`` whatever was said in it: what comes too early is
    kept in ``early``, for the protocol that follows.
    """

    def __init__(self, server: TcpServer) -> None:
        self._server = server
        self.early = bytearray()

    def data_received(self, data: bytes) -> None:
        self.early += data

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        raw = cast(asyncio.Transport, transport)  # uvloop's is one in all but name
        raw.pause_reading()
        self._server.accepted(raw)


class TcpServer:
    """Serves one ASGI app on one listening socket, with TLS if ``tls`` gives a context.

    ``tls`` is asked for each connection, so a renewed certificate needs no restart.
    """

    def __init__(self, app: ASGIApp, config: Config, tls: Callable[[], ssl.SSLContext] | None = None) -> None:
        self._app: Any = ASGIWrapper(app)  # type: ignore[arg-type]
        self._config = config
        self._tls = tls
        self._context = WorkerContext(None)
        self._tasks: dict[asyncio.Task[None], asyncio.Transport] = {}
        self._server: asyncio.Server | None = None
        self.connections_refused = 0
        self.handshakes_failed = 0
        self.connections_failed = 0

    @property
    def connections(self) -> int:
        """Connections open now."""
        return len(self._tasks)

    @property
    def port(self) -> int:
        """The port that it listens on."""
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    async def listen(self, sock: socket.socket) -> None:
        """Accept connections on ``sock`` from now on."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Accepted(self), sock=sock)

    def accepted(self, raw: asyncio.Transport) -> None:
        """Called for each new connection, whose reading is paused."""
        if len(self._tasks) >= limits.TCP_CONNECTIONS_MAX:
            self.connections_refused += 1
            raw.abort()
            return
        task = asyncio.get_running_loop().create_task(self._serve(raw))
        self._tasks[task] = raw
        task.add_done_callback(self._tasks.pop)

    async def _serve(self, raw: asyncio.Transport) -> None:
        try:
            await self._converse(raw)
        except (OSError, ssl.SSLError, TimeoutError, asyncio.CancelledError):
            self.handshakes_failed += 1
        except Exception:
            # what breaks inside hypercorn for one peer ends that peer's connection only
            self.connections_failed += 1
        finally:
            raw.abort()

    async def _converse(self, raw: asyncio.Transport) -> None:
        loop = asyncio.get_running_loop()
        raw.set_write_buffer_limits(high=limits.TCP_TRANSPORT_BYTES_MAX)
        reader = asyncio.StreamReader(loop=loop)
        protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
        transport = await self._secured(raw, protocol)
        protocol.connection_made(transport)
        if transport is raw:
            early = _early(raw)
            raw.set_protocol(protocol)
            if early:
                protocol.data_received(early)
            raw.resume_reading()
        writer = asyncio.StreamWriter(transport, protocol, reader, loop)
        state: Any = {"wire": Wire(transport, raw)}
        await TCPServer(self._app, loop, self._config, self._context, state, reader, writer)

    async def _secured(self, raw: asyncio.Transport, protocol: asyncio.Protocol) -> asyncio.Transport:
        if self._tls is None:
            return raw
        loop, early = asyncio.get_running_loop(), _early(raw)
        starting = loop.create_task(
            loop.start_tls(
                raw,
                protocol,
                self._tls(),
                server_side=True,
                ssl_handshake_timeout=limits.HTTP_HANDSHAKE_S_MAX,
            )
        )
        try:
            if early:
                # after this, TLS has asked the loop to connect it, and is fed in the same turn
                await asyncio.sleep(0)
                loop.call_soon(_feed, raw, early)
            transport = await starting
        except BaseException:
            starting.cancel()
            raise
        assert transport is not None
        transport.set_write_buffer_limits(high=limits.TCP_TRANSPORT_BYTES_MAX)
        return transport

    def stop_accepting(self) -> None:
        """Close the listening socket; what is open goes on."""
        if self._server is not None:
            self._server.close()

    async def aclose(self, timeout_s: float) -> None:
        """Let requests under way finish for ``timeout_s``, then end every connection."""
        self.stop_accepting()
        await self._context.terminated.set()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=timeout_s)
        for task, raw in list(self._tasks.items()):
            raw.abort()
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=1.0)


def _early(raw: asyncio.Transport) -> bytes:
    """Stop reading for good, and answer what was read before that."""
    raw.pause_reading()
    accepted = raw.get_protocol()
    return bytes(accepted.early) if isinstance(accepted, _Accepted) else b""


def _feed(raw: asyncio.Transport, data: bytes) -> None:
    """Give bytes to the TLS protocol of a transport as if they had just been read."""
    tls = cast(asyncio.BufferedProtocol, raw.get_protocol())
    while data and not raw.is_closing():
        buffer = cast(memoryview, tls.get_buffer(len(data)))
        size = min(len(buffer), len(data))
        buffer[:size] = data[:size]
        tls.buffer_updated(size)
        data = data[size:]
