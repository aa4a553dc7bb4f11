"""The server's end of one connection: requests to the application, session requests to the doors. Room: quic."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING
from weakref import ref

from aioquic.quic import events

from gateway import limits
from gateway.core.closing import close_code
from gateway.core.origins import Misdirected, OriginRefused
from gateway.errors import (
    BadInput,
    GatewayError,
    Overloaded,
    ShuttingDown,
)
from gateway.quic.connection import Connection
from gateway.quic.h3.asgi import SAFE_METHODS, Exchange, Malformed, problem_response, request_scope
from gateway.quic.h3.codes import ErrorCode
from gateway.quic.h3.fields import names_two_hosts
from gateway.quic.h3.heads import RawHeaders
from gateway.quic.h3.http3 import Http3
from gateway.quic.h3.webtransport import WebTransportLink
from gateway.quic.peer import Hub, Peer
from gateway.wire import encode_error

if TYPE_CHECKING:
    from starlette.types import Scope

    from gateway.quic.server import ServerContext

logger = logging.getLogger(__name__)

KEEP_ALIVE_LOOKS = 6
"""How often within an idle time-out a connection in use is looked at for silence: two looks are a third of it."""
WEBTRANSPORT_PROTOCOLS = frozenset({b"webtransport", b"webtransport-h3"})


class NotImplementedHere(BadInput):
    """An extended CONNECT for a protocol that is not spoken here. RFC 9220 section 3."""

    code = "unsupported_protocol"
    status = 501
    title = "Unsupported protocol"


class FieldsTooLong(BadInput):
    """A request's field section is longer than is announced to be taken. RFC 9114 section 4.2.2."""

    code = "headers_too_large"
    status = 431
    title = "Headers too large"


class TooEarly(GatewayError):
    """A request that must not be replayed came in 0-RTT. RFC 8470 section 5.2."""

    code = "too_early"
    status = 425
    title = "Too early"
    retry = True


class ServerPeer(Peer):
    """One client's connection, as the server sees it."""

    def __init__(self, quic: Connection, hub: Hub, server: ServerContext) -> None:
        super().__init__(quic, hub)
        self._server = server
        self._exchanges: dict[int, Exchange] = {}
        self._next_request = 0
        self._going_away = False
        self._is_kept_alive = False

    def on_negotiated(self) -> None:
        self.h3 = Http3(self.quic, self._server.heads)

    def on_handshake(self, event: events.HandshakeCompleted) -> None:
        self._server.on_peer_established(self)

    # -- requests -------------------------------------------------------------------------

    def on_headers(self, stream_id: int, headers: RawHeaders, ended: bool) -> None:
        exchange = self._exchanges.get(stream_id)
        if exchange is not None:
            exchange.feed(b"", ended)
            return
        if stream_id in self.sessions:
            return
        # A client's two-way streams are numbered by fours (RFC 9000 section 2.1); GOAWAY names the first that is
        # not served.
        self._next_request = max(self._next_request, stream_id + 4)
        self.hub.counters["requests"] += 1
        try:
            self._on_request(stream_id, headers, ended)
        except GatewayError as error:
            self._refuse(stream_id, error)
        except Malformed as exc:
            self._refuse(stream_id, BadInput(str(exc)))

    def _on_request(self, stream_id: int, headers: RawHeaders, ended: bool) -> None:
        if self._going_away:
            raise ShuttingDown("the gateway is shutting down; connect again")
        if names_two_hosts(headers):
            raise Misdirected("Host differs from :authority; send one of them, or both alike")
        scope = request_scope(headers, self._client_address(), self._server.address)
        if not self.handshake_done and not self._is_replayable(scope):
            # 0-RTT may be replayed by whoever saw it: what changes something waits for the handshake (RFC 8470
            # section 5.2).
            raise TooEarly(f"{scope['method']} is not served before the handshake is complete; send it again")
        if scope["method"] == "CONNECT":
            protocol = next((value for name, value in headers if name == b":protocol"), None)
            self._on_connect(stream_id, protocol, scope)
            return
        self._server.unsent.check(self, self._server.peers, self.hub.time())
        exchange = self._exchanges[stream_id] = Exchange(
            self, stream_id, scope, ended, self._server.unsent.add
        )
        exchange.run(self._server.app)
        self._keep_alive()

    def _is_replayable(self, scope: Scope) -> bool:
        return scope["method"] in SAFE_METHODS or scope["path"] in self._server.options.early_data_paths

    def _client_address(self) -> tuple[str, int] | None:
        address = self.quic.address
        return (address[0], address[1]) if address else None

    def _refuse(self, stream_id: int, error: GatewayError) -> None:
        assert self.h3 is not None
        self.hub.counters["refused"] += 1
        headers, body = problem_response(error)
        if self.quic.streams.can_send_on(stream_id):
            self.h3.send_headers(stream_id, headers)
            self.h3.send_data(stream_id, body, end_stream=True)
        else:
            self.h3.forget(stream_id)
        # The answer does not need the rest of the request: STOP_SENDING with H3_NO_ERROR says so without taking the
        # answer back (RFC 9114 section 4.1).
        self.quic.abandon_receiving(stream_id, ErrorCode.H3_NO_ERROR)
        self.hub.mark(self)

    def on_too_large(self, stream_id: int, why: str) -> None:
        self._next_request = max(self._next_request, stream_id + 4)
        self._refuse(stream_id, FieldsTooLong(f"{why}; send fewer or shorter headers"))

    def on_data(self, stream_id: int, data: bytes, ended: bool) -> None:
        exchange = self._exchanges.get(stream_id)
        if exchange is not None:
            exchange.feed(data, ended)

    def on_reset(self, stream_id: int, *, receiving: bool) -> None:
        exchange = self._exchanges.get(stream_id)
        if exchange is not None:
            exchange.disconnect()
            if receiving:
                self.give_up_stream(stream_id, ErrorCode.H3_REQUEST_CANCELLED)

    def on_exchange_over(self, stream_id: int) -> None:
        self._exchanges.pop(stream_id, None)

    # -- sessions -------------------------------------------------------------------------

    def _on_connect(self, stream_id: int, protocol: bytes | None, scope: Scope) -> None:
        if protocol not in WEBTRANSPORT_PROTOCOLS:
            raise NotImplementedHere(f"CONNECT is for WebTransport here, not for {protocol!r}")
        if len(self.sessions) >= limits.WT_SESSIONS_PER_CONNECTION_MAX:
            raise Overloaded(
                f"{len(self.sessions)} sessions on one connection, at most "
                f"{limits.WT_SESSIONS_PER_CONNECTION_MAX}; open another connection"
            )
        link = WebTransportLink(self, stream_id)
        self.add_session(link)
        self._keep_alive()
        self.hub.counters["sessions"] += 1
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        query = scope["query_string"].decode("latin-1")
        self.hub.spawn(self._open(link, scope["path"], query, headers))

    async def _open(self, link: WebTransportLink, path: str, query: str, headers: dict[str, str]) -> None:
        try:
            session = await self._server.doors.open_at(path, query, headers, link)
        except GatewayError as error:
            if "origin" in headers and not isinstance(error, OriginRefused | Misdirected):
                link.accept()  # a page's script cannot read the answer to a CONNECT (W3C WebTransport, section 5.9)
            self._refuse_session(link, error)
        except Exception:
            self.hub.counters["faults"] += 1
            logger.exception("opening the session %s failed", path)
            self._refuse_session(link, GatewayError("the session could not be opened"))
        else:
            link.attach(session)
        self.hub.mark(self)

    def _refuse_session(self, link: WebTransportLink, error: GatewayError) -> None:
        if link.is_accepted or link.closed_code is not None:
            link.control(encode_error(error))
            link.close(close_code(error), error.message)
            return
        self.remove_session(link)
        link.closed_code, link.closed_reason = int(close_code(error)), error.message
        if not self.quic.is_ended:
            self._refuse(link.session_id, error)

    def accept_session(self, link: WebTransportLink) -> None:
        if self.h3 is None or not self.quic.streams.can_send_on(link.session_id):
            return
        # Clients of draft 02, Chromium and Firefox among them, are told by this header which draft they speak with
        # (section 6 there); others pass over it.
        headers = [(b":status", b"200"), (b"sec-webtransport-http3-draft", b"draft02")]
        self.h3.send_headers(link.session_id, headers)
        self.hub.mark(self)

    # -- keeping alive --------------------------------------------------------------------

    def _keep_alive(self) -> None:
        """While anything is under way, be heard within a third of the idle time-out, though nothing happens: clients end
        silent connections, and few of them ping."""
        if not self._is_kept_alive:
            self._is_kept_alive = True
            self._look_again()

    def _look_again(self) -> None:
        """In half a third: then silence is answered in time, whenever it began."""
        self.hub.later(self.quic.idle_timeout_s() / KEEP_ALIVE_LOOKS, partial(_look, ref(self)))

    def look_after_silence(self) -> None:
        """Ping if nothing was heard since the last look."""
        self._is_kept_alive = bool(self.sessions or self._exchanges) and not self.quic.is_ended
        if not self._is_kept_alive:
            return
        quic = self.quic
        if quic.state.silent_s(self.hub.time()) >= quic.idle_timeout_s() / KEEP_ALIVE_LOOKS:
            quic.send_ping(0)
            self.hub.counters["keep_alives"] += 1
            self.hub.mark(self)
        self._look_again()

    # -- the end --------------------------------------------------------------------------

    def on_over(self, event: events.ConnectionTerminated) -> None:
        for exchange in list(self._exchanges.values()):
            exchange.disconnect()
        self._server.on_peer_over(self)

    def go_away(self) -> None:
        self._going_away = True
        if self.h3 is not None and self.quic.is_established:
            self.h3.go_away(self._next_request)
            self.hub.mark(self)

    @property
    def is_busy(self) -> bool:
        return bool(self.sessions or self._exchanges) or self.quic.has_unsent()


def _look(peer: ref[ServerPeer]) -> None:
    """A timer does not hold what it is for: the connection may end, and is freed then."""
    held = peer()
    if held is not None and held.ended is None:
        held.look_after_silence()
