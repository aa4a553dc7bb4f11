"""Keeping one session open: connect, follow it to its end, back off, connect again. Room: client.

The base of :class:`gateway.client.Publisher` and :class:`gateway.client.Subscriber`.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self, TypedDict
from urllib.parse import urlsplit

from gateway import limits
from gateway.client.address import Address
from gateway.client.connect import OpenSession, TransportChoice, Unanswered, open_session, udp_answers
from gateway.client.token import Chances, Token, TokenSource, check_secret
from gateway.client.trust import Trust
from gateway.core.ports import Link
from gateway.errors import ConfigError, GatewayError, StoreUnavailable, WorldHeld
from gateway.quic import ConnectFailed, RequestFailed
from gateway.wire import Control, Frame, encode_control


@dataclass(frozen=True, slots=True)
class ConnectionEvent:
    """``connected``: a session is open. ``disconnected``: it ended, another is looked for. ``ended``: none will follow, for
    ``error``, or (None) because it was closed. ``address``: of the gateway; ``transport`` of the session that began or ended."""

    kind: Literal["connected", "disconnected", "ended"]
    address: str
    transport: str | None = None
    error: GatewayError | None = None


class ConnectionOptions(TypedDict, total=False):
    """How to reach the gateway: the arguments of :class:`Live` that every end takes."""

    transport: TransportChoice
    ca: str | Path | None
    certificate_sha256: str | bytes | None
    insecure: bool
    token: TokenSource | Token | None
    connect_timeout_s: float
    on_connection: Callable[[ConnectionEvent], object] | None


class Live:
    """A session that comes back by itself. An async context manager: entering waits for ``welcome``.

    ``transport``: ``auto`` (QUIC, else TCP), ``webtransport`` or ``websocket``. Whom to believe:
    ``ca``, ``certificate_sha256`` or ``insecure`` as in :class:`gateway.client.Trust`. ``token``: by which the gateway lets
    this client in, a string, or a function (async or not) that fetches a fresh one: it is called before the old one
    ends, and the session goes on.
    ``on_connection`` is called with each :class:`ConnectionEvent`, on the event loop; what it raises goes to the loop's
    exception handler, and the session goes on.
    ``connect_timeout_s`` bounds the first connect; later ones go on until :meth:`aclose` or a
    refusal that trying again will not mend, which :attr:`error` then holds.
    """

    def __init__(
        self,
        url: str,
        world: str,
        *,
        transport: TransportChoice = "auto",
        ca: str | Path | None = None,
        certificate_sha256: str | bytes | None = None,
        insecure: bool = False,
        token: TokenSource | Token | None = None,
        connect_timeout_s: float = 10.0,
        on_connection: Callable[[ConnectionEvent], object] | None = None,
    ) -> None:
        self.address = Address.parse(url)
        """The gateway that is asked next: the one that was given, or the home of the world that it named."""
        self.world = world
        self.error: GatewayError | None = None
        self.refusal: GatewayError | None = None
        """Why the newest attempt to connect failed; None while connected."""
        self.epoch = 0
        self.tick = 0
        self.connects = 0
        self._transport: TransportChoice = transport
        self._trust = Trust.of(ca=ca, certificate_sha256=certificate_sha256, insecure=insecure)
        self._chances = Chances(Token.of(token))
        check_secret(self.address, self._chances.token)
        self._connect_timeout_s = connect_timeout_s
        self._open: OpenSession | None = None
        self._keeping: asyncio.Task[None] | None = None
        self._udp_answered = False
        self.udp_again_s = limits.CLIENT_UDP_AGAIN_S
        """After so long on TCP it is tried whether UDP gets through by now; twice as long the next time."""
        self._given = self.address
        self._hops = 0
        self._first = asyncio.Event()
        self._over = asyncio.Event()
        self._on_connection = on_connection

    follows = False
    """True for an end that goes where the world's home is, by the same trust; others get the refusal."""

    # -- what a user sees --

    @property
    def link(self) -> Link | None:
        """The transport while connected, else None."""
        return self._open.link if self._open is not None else None

    @property
    def transport(self) -> str | None:
        """``webtransport`` or ``websocket`` while connected, else None."""
        return self._open.link.transport if self._open is not None else None

    @property
    def connected(self) -> bool:
        return self._open is not None

    async def start(self) -> None:
        """Connect and wait for ``welcome``. Raises what the gateway refused, or
        :class:`StoreUnavailable` after ``connect_timeout_s``."""
        # A task of its own: the session comes back for as long as it is open, whatever its user waits for.
        self._keeping = asyncio.create_task(self._keep_open())
        waiting = [asyncio.create_task(self._first.wait()), asyncio.create_task(self._over.wait())]
        try:
            await asyncio.wait(waiting, timeout=self._connect_timeout_s, return_when=asyncio.FIRST_COMPLETED)
        except BaseException:
            await self.aclose()
            raise
        finally:
            for task in waiting:
                task.cancel()
        if not self._first.is_set():
            error = self.error or self._not_opened()
            await self.aclose()
            raise error

    def _not_opened(self) -> GatewayError:
        """In the gateway's own words, where there is one."""
        refusal = self.refusal
        if refusal is not None and not isinstance(refusal, (Unanswered, ConnectFailed, RequestFailed)):
            return refusal
        last = f"; the last attempt: {refusal.message}" if refusal is not None else ""
        waited = f"{self._connect_timeout_s:g} s"
        return Unanswered(f"no gateway answered at {self.address.base_url} within {waited}{last}")

    async def aclose(self) -> None:
        """End the session and let go of the connection. Idempotent."""
        keeping, self._keeping = self._keeping, None
        if keeping is not None:
            keeping.cancel()
            try:
                await asyncio.gather(keeping, return_exceptions=True)
            finally:
                if self._open is not None:
                    self._open.release()
        self._end()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()

    # -- what the two ends fill in --

    def path(self) -> str:
        """The session's path and query, asked for at every connect."""
        raise NotImplementedError

    def on_open(self) -> None:
        """The first welcome of a session, before its first frame."""
        self.connects += 1

    def on_welcome(self, link: Link, welcome: Control) -> None:
        """The session is open, or shows another world: epoch and tick as the gateway has them."""

    def on_frame(self, frame: Frame, size_bytes: int) -> None: ...

    def on_control(self, control: Control) -> None: ...

    def on_malformed(self) -> None: ...

    def on_rebuilt(self) -> None:
        """A message that was lost is made again from the others and its parity; it follows."""

    def on_acked(self, token: int, count: int = 1) -> None: ...

    def on_lost(self, token: int) -> None: ...

    def on_writable(self) -> None: ...

    def on_gone(self) -> None:
        """The session ended; another one follows unless :attr:`error` is set."""

    def on_connected(self) -> None:
        """:attr:`link` may be sent to from here on."""

    def on_over(self) -> None:
        """No session will follow: :meth:`aclose`, or :attr:`error` is set."""

    # -- where the world is --

    def follow(self, url: str) -> bool:
        """Ask the gateway at ``url`` next; False where it may not be: an address that cannot be used, or that is in
        clear text where the given one is not, or one hop too many."""
        try:
            to = Address.parse("://".join(urlsplit(url)[:2]))
        except (ConfigError, ValueError):
            return False
        # Whoever answers at https must not send the token on in clear text.
        downgrade = self._given.secure and not to.secure
        if downgrade or to == self.address or self._hops >= limits.CLIENT_HOPS_MAX:
            return False
        self._hops += 1
        self.address = to
        return True

    # -- inside --

    async def _keep_open(self) -> None:
        wait_s = limits.CLIENT_BACKOFF_S_MIN
        while self.error is None:
            before = self.connects
            asked, hops = self.address, self._hops
            asked_s = await self._once()
            # A session that was open begins anew: only attempts in vain are made more rarely.
            wait_s = limits.CLIENT_BACKOFF_S_MIN if self.connects > before else wait_s
            # To the home at once: it was named by a gateway that answered.
            if self._hops > hops:
                continue
            self._hops = 0
            if self.connects == before and asked != self._given:
                self.address = self._given  # it knows where the world is now
            if self.error is None:
                # Scattered: all readers of a gateway that restarts lost it in the same moment.
                await asyncio.sleep(max(asked_s, wait_s * random.uniform(0.5, 1.0)))
                wait_s = min(2 * wait_s, limits.CLIENT_BACKOFF_S_MAX)
        self._end()

    def _end(self) -> None:
        if not self._over.is_set():
            self._over.set()
            self._tell("ended", error=self.error)
        self.on_over()

    def _tell(
        self,
        kind: Literal["connected", "disconnected", "ended"],
        transport: str | None = None,
        error: GatewayError | None = None,
    ) -> None:
        if self._on_connection is None:
            return
        try:
            self._on_connection(ConnectionEvent(kind, self.address.base_url, transport, error))
        except Exception as fault:
            told = {"message": f"on_connection failed at {kind!r}", "exception": fault}
            asyncio.get_running_loop().call_exception_handler(told)

    async def _once(self) -> float:
        """Open one session and follow it to its end; answers the wait that the gateway asked for."""
        credentials: dict[str, str] = {}
        try:
            credentials = await self._chances.headers()
            session = await open_session(
                self.address,
                self.path(),
                trust=self._trust,
                end=self,
                transport=self._transport,
                # It has answered before: silence is then more likely a gateway that restarts than a network
                # without UDP.
                udp_patience_s=limits.CLIENT_UDP_PATIENCE_S * (2 if self._udp_answered else 1),
                headers=credentials,
            )
        except GatewayError as error:
            await self._refused(error, credentials)
            return 0.0
        self._open, self.refusal = session, None
        self._chances.let_in()
        self._udp_answered = session.client is not None
        self._first.set()
        self.on_connected()
        self._tell("connected", session.link.transport)
        renewing = coming_back = None
        token = self._chances.token
        if token is not None and token.can_renew:
            renewing = asyncio.create_task(self._renew(token, session.link))
        if session.client is None and self._transport == "auto" and self.address.secure:
            coming_back = asyncio.create_task(self._back_to_udp(session))
        try:
            await session.wait_closed()
        finally:
            self._open = None
            for task in (coming_back, renewing):
                if task is not None:
                    task.cancel()
            self._tell("disconnected", session.link.transport, session.session.ended_by)
        if session.session.ended_by is not None:
            await self._refused(session.session.ended_by, credentials)
        return session.session.reconnect_after_s

    async def _renew(self, token: Token, link: Link) -> None:
        """A fresh token before the old one ends, on the session that is open."""
        while (wait_s := token.due_in_s) is not None:
            await asyncio.sleep(wait_s)
            try:
                text = await token.fresh()
            except GatewayError as error:
                self.refusal = error
                await asyncio.sleep(limits.CLIENT_TOKEN_AGAIN_S)
                continue
            link.control(encode_control("token", token=text))
            await asyncio.sleep(limits.CLIENT_TOKEN_AGAIN_S)

    async def _back_to_udp(self, session: OpenSession) -> None:
        """A session by TCP ends once QUIC gets an answer: the next one goes by it. If that does not last, it is asked
        more and more rarely."""
        while True:
            # Longer by chance: a network that lets UDP through again must not be tried by all in one
            # second.
            await asyncio.sleep(self.udp_again_s * random.uniform(1.0, 1.25))
            self.udp_again_s = min(2 * self.udp_again_s, limits.CLIENT_UDP_AGAIN_S_MAX)
            if await udp_answers(self.address, self._trust):
                session.release()
                return

    async def _refused(self, error: GatewayError, credentials: Mapping[str, str]) -> None:
        """Go where the world is, try again, with a fresh token if need be, or give up with :attr:`error`."""
        self.refusal = error
        try:
            if await self._chances.renewed(error, credentials):
                return
        except GatewayError as no_token:
            error = self.refusal = no_token
        if self.follows and isinstance(error, WorldHeld):
            self.follow(str(error.facts.get("url") or ""))
        elif self.address != self._given and isinstance(error, ConfigError):
            self.error = ConfigError(
                f"world {self.world} has its home at {self.address.base_url}, which could not be followed: {error.message}"
            )
        # Nothing mends it but another call: a wrong name, no rights. All others are tried again.
        elif not error.retry and not isinstance(error, StoreUnavailable):
            self.error = error
