"""A session over WebSocket: the TCP side of the client. Room: client.

The protocol is websockets' Sans-I/O one, driven by an asyncio protocol of ours, so that sending
never awaits and receiving needs no task. Source: RFC 6455; ``docs/FRAMES.md``, Sessions 2.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import cast

from websockets.client import ClientProtocol
from websockets.exceptions import InvalidHandshake, InvalidStatus
from websockets.frames import Frame, Opcode
from websockets.protocol import OPEN
from websockets.uri import parse_uri

from gateway import limits
from gateway.client.problems import error_of
from gateway.core.ports import CloseCode, OneByOne, Refusal, Sent, Session, Transport
from gateway.errors import StoreUnavailable
from gateway.quic import first_of, resolve
from gateway.quic.connection.paths import Address

MakeSession = Callable[["WebSocketLink"], Session]
_CLOSE_CODE_BASE = 4000


class WebSocketLink(OneByOne, asyncio.Protocol):
    """One WebSocket as a :class:`gateway.core.ports.Link`: not lossy, never waits."""

    def __init__(
        self, protocol: ClientProtocol, make_session: MakeSession, headers: Mapping[str, str]
    ) -> None:
        self._protocol = protocol
        self._make_session = make_session
        self._headers = headers
        self.session: Session | None = None
        self._tcp: asyncio.Transport | None = None
        self._pieces: list[bytes] = []
        self._heard = time.monotonic()
        self._heartbeat: asyncio.TimerHandle | None = None
        self._opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._next_handle = 0
        self._ended = False

    # -- the seam (ports.Link) --

    @property
    def transport(self) -> Transport:
        return "websocket"

    @property
    def lossy(self) -> bool:
        return False

    def message_bytes_max(self) -> int:
        return limits.WEBSOCKET_MESSAGE_BYTES_MAX

    def room_bytes(self) -> int:
        if self._tcp is None or self._tcp.is_closing() or self._protocol.state is not OPEN:
            return 0
        return max(0, limits.CLIENT_TCP_UNSENT_BYTES_MAX - self._tcp.get_write_buffer_size())

    def send(self, message: bytes, token: int) -> Sent:
        # One that is larger than all the room there ever is goes where nothing waits.
        if self.room_bytes() < min(len(message), limits.CLIENT_TCP_UNSENT_BYTES_MAX):
            return Refusal.BLOCKED
        self._put(message)
        return True

    def send_stream(self, messages: Sequence[bytes]) -> int:
        for message in messages:
            self._put(message)
        self._next_handle += 1
        return self._next_handle

    def reset_stream(self, handle: int) -> None:
        """Nothing: what is in a TCP connection's buffer cannot be taken back."""

    def stream_done(self, handle: int) -> bool:
        return self._tcp is None or self._tcp.get_write_buffer_size() == 0

    def control(self, message: bytes) -> None:
        self._put(message)

    def close(self, code: CloseCode, reason: str) -> None:
        if self._protocol.state is OPEN:
            self._protocol.send_close(1000 if code is CloseCode.OK else _CLOSE_CODE_BASE + code, reason[:120])
            self._flush()
        if self._tcp is not None:
            self._tcp.close()

    # -- asyncio.Protocol --

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._tcp = cast(asyncio.Transport, transport)
        # resume_writing() comes at a quarter of the high mark, and tells that there is room again.
        self._tcp.set_write_buffer_limits(high=limits.CLIENT_TCP_UNSENT_BYTES_MAX // 2)
        request = self._protocol.connect()
        request.headers.update(self._headers)
        self._protocol.send_request(request)
        self._flush()
        self._beat()

    def data_received(self, data: bytes) -> None:
        self._heard = time.monotonic()
        self._protocol.receive_data(data)
        self._take_events()

    def eof_received(self) -> bool:
        self._protocol.receive_eof()
        self._take_events()
        return False

    def resume_writing(self) -> None:
        if self.session is not None:
            self.session.on_writable(time.monotonic())

    def connection_lost(self, error: Exception | None) -> None:
        if self._heartbeat is not None:
            self._heartbeat.cancel()
        if not self._opened.done():
            self._fail(StoreUnavailable(f"the connection ended before the session opened: {error}"))
        if self.session is not None and not self._ended:
            self._ended = True
            self.session.on_closed(time.monotonic())

    # -- inside --

    async def opened(self) -> None:
        """Wait for the upgrade. Raises the refusal's own error class."""
        await self._opened

    def _take_events(self) -> None:
        for event in self._protocol.events_received():
            if isinstance(event, Frame):
                self._take_frame(event)
            elif self._protocol.handshake_exc is None and not self._opened.done():
                self.session = self._make_session(self)
                self._opened.set_result(None)
        refused = self._protocol.handshake_exc
        if refused is not None and not self._opened.done():
            self._fail(_refusal(refused))
        self._flush()

    def _fail(self, error: Exception) -> None:
        self._opened.set_exception(error)
        self._opened.exception()  # who gave up waiting does not hear of it

    def _take_frame(self, frame: Frame) -> None:
        # Pings and closes are answered by the protocol itself.
        if frame.opcode not in (Opcode.BINARY, Opcode.CONT):
            return
        self._pieces.append(bytes(frame.data))
        if frame.fin and self.session is not None:
            message, self._pieces = b"".join(self._pieces), []
            self.session.on_message(message, time.monotonic())

    def _put(self, message: bytes) -> None:
        if self._protocol.state is OPEN:
            self._protocol.send_binary(message)
            self._flush()

    def _flush(self) -> None:
        if self._tcp is None:
            return
        for data in self._protocol.data_to_send():
            if data:
                self._tcp.write(data)
            else:
                with contextlib.suppress(NotImplementedError, OSError):
                    self._tcp.write_eof() if self._tcp.can_write_eof() else self._tcp.close()
        if self._protocol.close_expected() and self._protocol.state is not OPEN:
            self._tcp.close()

    def _beat(self) -> None:
        silence = time.monotonic() - self._heard
        if self._tcp is not None and silence > limits.CLIENT_WS_SILENCE_S_MAX:
            # Not close(): what has not gone out would be waited for, on a path that is silent.
            self._tcp.abort()
            return
        if silence > limits.CLIENT_WS_PING_S and self._protocol.state is OPEN:
            self._protocol.send_ping(b"")
            self._flush()
        loop = asyncio.get_running_loop()
        self._heartbeat = loop.call_later(limits.CLIENT_WS_PING_S / 2, self._beat)


def _refusal(error: Exception) -> Exception:
    if isinstance(error, InvalidStatus):
        return error_of(error.response.status_code, bytes(error.response.body or b""))
    if isinstance(error, InvalidHandshake):
        return StoreUnavailable(f"what listens there speaks no WebSocket: {error}")
    return error


async def connect_websocket(
    host: str,
    port: int,
    path: str,
    *,
    tls: ssl.SSLContext | None,
    make_session: MakeSession,
    headers: Mapping[str, str] | None = None,
) -> WebSocketLink:
    """Open a session at ``path`` (with its query) over WebSocket; ``tls`` None is clear text.
    Raises OSError, TimeoutError, or the :class:`gateway.errors.GatewayError` of the refusal."""
    bracketed = f"[{host}]" if ":" in host else host
    uri = parse_uri(f"{'wss' if tls else 'ws'}://{bracketed}:{port}{path}")
    protocol = ClientProtocol(uri, max_size=limits.STREAM_MESSAGE_BYTES_MAX)
    protocol.debug = False  # it would write every header into the log, a token too
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(limits.CLIENT_CONNECT_S_MAX):
        addresses = await resolve(host, port, socket.SOCK_STREAM)
        sock = await first_of([partial(_connected, *one) for one in addresses], socket.socket.close)
        transport, link = await loop.create_connection(
            lambda: WebSocketLink(protocol, make_session, headers or {}),
            sock=sock,
            ssl=tls,
            server_hostname=host if tls else None,
        )
        try:
            await link.opened()
        except BaseException:
            transport.abort()
            raise
    return link


async def _connected(family: int, address: Address) -> socket.socket:
    """A TCP connection to one address. Nothing is said on it yet, so that of two none is a session too many."""
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.get_running_loop().sock_connect(sock, address)
    except BaseException:
        sock.close()
        raise
    return sock
