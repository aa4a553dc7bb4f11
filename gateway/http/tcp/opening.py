"""The first bytes of a connection: TLS or not, and which protocol. Room: http.

A connection costs next to nothing until it has said something, and TLS begins only with a whole
ClientHello. Over TLS the protocol is what ALPN chose, in clear text what the first bytes are: HTTP/2
with prior knowledge begins with its preface (RFC 9113 section 3.3).
"""

from __future__ import annotations

import asyncio
import math
import ssl
from typing import cast

from gateway import limits
from gateway.http.tcp.clienthello import NO_APPLICATION_PROTOCOL, HelloVerdict, judge
from gateway.http.tcp.conversation import Conversation
from gateway.http.tcp.frameguard import PREFACE
from gateway.http.tcp.http1 import Http1
from gateway.http.tcp.http2 import Http2
from gateway.http.tcp.reading import BoundedProtocol
from gateway.http.tcp.service import TcpService
from gateway.http.tcp.slots import Slot

ALPN = (b"h2", b"http/1.1")


class Opening(BoundedProtocol):
    """An :class:`gateway.http.tcp.slots.Occupant` until the protocol is known. ``tls``: None on a clear-text door."""

    def __init__(self, service: TcpService, slot: Slot, tls: ssl.SSLContext | None) -> None:
        self.service = service
        self._slot = slot
        self._tls = tls
        self._loop = asyncio.get_running_loop()
        self._early = bytearray()
        self._begins_tls = False
        self._transport: asyncio.Transport | None = None
        self.deadline = self._loop.time() + limits.HTTP_HANDSHAKE_S_MAX

    is_idle = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        raw = cast(asyncio.Transport, transport)  # uvloop's is one in all but name
        raw.set_write_buffer_limits(high=limits.TCP_TRANSPORT_BYTES_MAX)
        self._slot.raw = self._transport = raw
        self._slot.occupant = self

    def data_received(self, data: bytes) -> None:
        self._early += data
        if self._begins_tls or self._slot.is_left:
            return
        if self._tls is None:
            self._choose()
            return
        verdict = judge(self._early, ALPN)
        if verdict is HelloVerdict.TLS:
            self._begins_tls = True
            assert self._transport is not None
            self._transport.pause_reading()
            self.service.keep(self._loop.create_task(self._secure(self._transport, self._tls)))
        elif verdict is not HelloVerdict.MORE:
            self._refuse(verdict)

    def _refuse(self, verdict: HelloVerdict) -> None:
        self.service.count("no_application_protocol" if verdict is HelloVerdict.NO_PROTOCOL else "no_tls")
        if verdict is HelloVerdict.NO_PROTOCOL and self._transport is not None:
            self._transport.write(NO_APPLICATION_PROTOCOL)
            self._transport.close()
            self._begins_tls = True
        else:
            self.abort()

    async def _secure(self, raw: asyncio.Transport, context: ssl.SSLContext) -> None:
        hello, self._early = bytes(self._early), bytearray()
        left_s = max(0.1, self.deadline - self._loop.time())
        starting = self._loop.create_task(
            self._loop.start_tls(raw, self, context, server_side=True, ssl_handshake_timeout=left_s)
        )
        try:
            # start_tls() is a task of its own: after one turn of the loop it has put its protocol in our place.
            await asyncio.sleep(0)
            self._loop.call_soon(_feed, raw, hello)  # by then TLS has asked the loop to connect it
            transport = await starting
        except (OSError, ssl.SSLError, TimeoutError):
            self.service.count("handshake")
            self.abort()
            return
        except BaseException:
            starting.cancel()
            raise
        if transport is None or self._slot.is_left:
            self.abort()
            return
        self._begins_tls = False
        self._tls = None
        self._transport = transport
        transport.set_write_buffer_limits(high=limits.TCP_TRANSPORT_BYTES_MAX)
        if transport.get_extra_info("ssl_object").selected_alpn_protocol() == "h2":
            self._hand_over(Http2(self.service, self._slot))
        elif self._early:
            self._choose()

    def _choose(self) -> None:
        """By the first bytes."""
        if self._early.startswith(PREFACE):
            self._hand_over(Http2(self.service, self._slot))
        # As long as it may still become the preface nothing is decided; "PRI" is no method that HTTP/1.1 has.
        elif not PREFACE.startswith(self._early):
            self._hand_over(Http1(self.service, self._slot))

    def _hand_over(self, conversation: Conversation) -> None:
        assert self._transport is not None
        early, self._early = bytes(self._early), bytearray()
        conversation.connection_made(self._transport)
        self._transport.set_protocol(conversation)
        if early:
            conversation.data_received(early)

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._slot.leave()

    def expire(self, now: float) -> None:
        self.deadline = math.inf
        self.service.count("silent_opening")
        self.abort()

    def go_away(self) -> None:
        self.abort()

    def abort(self) -> None:
        if self._slot.raw is not None:
            self._slot.raw.abort()
        if self._begins_tls or self._slot.raw is None:
            self._slot.leave()


def _feed(raw: asyncio.Transport, data: bytes) -> None:
    """Give bytes to the TLS protocol of a transport as if they had just been read."""
    # Neither asyncio's nor uvloop's start_tls() takes bytes that were read before: they are put into its buffer as
    # a read would.
    tls = cast(asyncio.BufferedProtocol, raw.get_protocol())
    while data and not raw.is_closing():
        buffer = cast(memoryview, tls.get_buffer(len(data)))
        size = min(len(buffer), len(data))
        buffer[:size] = data[:size]
        tls.buffer_updated(size)
        data = data[size:]
