"""What all connections of one door share: the app, the bounds, the counts, the sockets' places. Room: http."""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.utils import formatdate

from starlette.types import ASGIApp

from gateway import limits
from gateway.core.admission import Held, PeerRates
from gateway.core.grants import Grant
from gateway.errors import GatewayError
from gateway.http.budget import Backlog, ByteBudget
from gateway.http.tcp.heads import Headers
from gateway.http.tcp.ordinary import KnownHeads
from gateway.http.tcp.slots import Slot
from gateway.http.tcp.turns import Turns
from gateway.http.tcp.wire import Carried

log = logging.getLogger("mvgateway.tcp")


@dataclass(frozen=True, slots=True)
class TcpOptions:
    """A door's bounds. ``alt_svc``: where the same is served by HTTP/3 (RFC 7838); ``unfinished``,
    ``untaken`` and ``turns`` may be shared by several doors."""

    alt_svc: str | None = None
    message_bytes_max: int = limits.STREAM_MESSAGE_BYTES_MAX
    connections_max: int = limits.TCP_CONNECTIONS_MAX
    connections_per_address_max: int = limits.CONNECTIONS_PER_ADDRESS_MAX
    handshakes_per_address_per_s: int = limits.HANDSHAKES_PER_ADDRESS_PER_S
    unfinished: ByteBudget = field(default_factory=ByteBudget)
    untaken: Backlog = field(default_factory=Backlog)
    turns: Turns = field(default_factory=Turns)
    grant_of: Callable[[Mapping[str, object] | None], Grant | None] | None = None
    """The grant in a client's certificate; None: clients are asked for none."""


class TcpService:
    """One door's."""

    def __init__(self, app: ASGIApp, options: TcpOptions) -> None:
        self.app = app
        self.options = options
        self.refused: dict[str, int] = {}
        """Refusals and broken connections by reason."""
        self.carried = Carried()
        self.turns = options.turns
        self.heads = KnownHeads()
        # One for all connections of the door: the loop reads from one at a time, and what came is taken out
        # of it at once.
        self.read_buffer = memoryview(bytearray(limits.TCP_READ_BYTES_MAX))
        self.is_closing = False
        self.slots: dict[Slot, None] = {}
        self.held = Held(
            options.connections_per_address_max, "TCP connections", "--connections-per-address-max"
        )
        self.rates = PeerRates(
            options.handshakes_per_address_per_s, "new TLS connections", "--handshakes-per-address-per-s"
        )
        self.tasks: set[asyncio.Task[None]] = set()
        self._failure_told_at = -limits.LOG_QUIET_S
        self._date_at = 0
        self._common: Headers = []

    def grant_by(self, tls: ssl.SSLObject | None) -> Grant | None:
        """The grant in the certificate of a connection's client, ``tls`` being its ``SSLObject``. One that cannot be
        understood is none, and counted."""
        if tls is None or self.options.grant_of is None:
            return None
        try:
            return self.options.grant_of(tls.getpeercert())
        except GatewayError:
            self.count("bad_client_certificate")
            return None

    def count(self, reason: str) -> None:
        """One refusal, or one connection ended, for this reason."""
        self.refused[reason] = self.refused.get(reason, 0) + 1

    def failed(self, peer: object) -> None:
        """A connection broke in a way that nobody foresaw. Call inside the ``except``."""
        self.count("failed")
        now = time.monotonic()
        if now - self._failure_told_at >= limits.LOG_QUIET_S:
            self._failure_told_at = now
            log.exception("the connection of %s failed inside the gateway, and was ended", peer)

    def keep(self, task: asyncio.Task[None]) -> None:
        """Hold on to a task until it ends."""
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def common_headers(self) -> Headers:
        """What stands in every response: the date (RFC 9110 section 6.6.1), and where HTTP/3 is."""
        now = int(time.time())
        # The same list for a second of answers: HTTP dates are no finer.
        if now != self._date_at:
            self._date_at = now
            self._common = [(b"date", formatdate(now, usegmt=True).encode())]
            if self.options.alt_svc:
                self._common.append((b"alt-svc", self.options.alt_svc.encode()))
        return self._common
