"""Opening a session: WebTransport first, WebSocket when UDP gets no answer. Room: client."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from gateway import limits
from gateway.client.address import Address
from gateway.client.problems import error_for
from gateway.client.session import LiveEnd, LiveSession
from gateway.client.trust import Trust
from gateway.client.turns import turn
from gateway.client.websocket import connect_websocket
from gateway.core.ports import CloseCode, Link
from gateway.errors import ConfigError, GatewayError, StoreUnavailable
from gateway.quic import Client, ConnectFailed, RequestFailed, SessionRefused, connect

TransportChoice = Literal["auto", "webtransport", "websocket"]


class Unanswered(StoreUnavailable):
    """No gateway answers: what is said of it is said here, not there."""


@dataclass(slots=True)
class OpenSession:
    """A session under way and the QUIC connection below it (None: TCP)."""

    session: LiveSession
    client: Client | None

    @property
    def link(self) -> Link:
        return self.session.link

    async def wait_closed(self) -> None:
        """Wait until the session or the connection below it has ended, then let go of both."""
        watching: list[asyncio.Future[object]] = [asyncio.ensure_future(self.session.closed.wait())]
        if self.client is not None:
            watching.append(asyncio.ensure_future(self.client.wait_closed()))
            watching.append(asyncio.ensure_future(_watch(self.session, self.client)))
        try:
            await asyncio.wait(watching, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.release()
            for task in watching:
                task.cancel()
            await asyncio.gather(*watching, return_exceptions=True)

    def release(self) -> None:
        """Close what is still open. Idempotent."""
        if self.client is not None:
            self.client.close()
        else:
            self.link.close(CloseCode.OK, "")
        self.session.on_closed(0.0)


async def open_session(
    address: Address,
    path: str,
    *,
    trust: Trust,
    end: LiveEnd,
    transport: TransportChoice = "auto",
    udp_patience_s: float = limits.CLIENT_UDP_PATIENCE_S,
    headers: Mapping[str, str] | None = None,
) -> OpenSession:
    """Open the session at ``path`` and wait for its ``welcome``.

    ``auto`` tries TCP where UDP is silent for ``udp_patience_s``; a refusal is an answer and is not
    tried again elsewhere. ``headers`` go with the request. Raises the refusal's own class, :class:`StoreUnavailable` where nothing
    answers, :class:`ConfigError` where the certificate is not trusted. Of many at once some wait for their turn.
    """
    async with turn(address) as turns:
        if address.secure and transport != "websocket":
            patience_s = turns.patience_s(udp_patience_s)
            try:
                session = await _open_webtransport(address, path, trust, end, patience_s, headers or {})
            # Only where UDP does not get through: what the gateway refuses it would refuse over TCP too.
            except (ConnectFailed, RequestFailed):
                if transport == "webtransport":
                    raise
            else:
                # Others that wait for their turn now wait longer for QUIC: a slow answer to many at once is
                # no silence.
                turns.udp_answers = True
                return session
        elif transport == "webtransport":
            raise ConfigError(f"WebTransport needs https; {address.base_url} is in clear text")
        return await _open_websocket(address, path, trust, end, headers or {})


async def _open_webtransport(
    address: Address, path: str, trust: Trust, end: LiveEnd, patience_s: float, headers: Mapping[str, str]
) -> OpenSession:
    sessions: list[LiveSession] = []

    def make_session(link: Link) -> LiveSession:
        sessions.append(LiveSession(link, end))
        return sessions[-1]

    client = await connect(address.host, address.port, trust=trust.for_quic(), timeout_s=patience_s)
    try:
        raw = [(name.encode(), value.encode()) for name, value in headers.items()]
        await client.webtransport(path, make_session, raw, timeout_s=limits.CLIENT_CONNECT_S_MAX)
        # Open for QUIC, but not for the rules yet: only `welcome` says that the session was let in.
        await _welcome(sessions[-1])
    except SessionRefused as refused:
        client.close()
        raise _refusal(refused) from None
    except BaseException:
        client.close()
        raise
    return OpenSession(sessions[-1], client)


async def _open_websocket(
    address: Address, path: str, trust: Trust, end: LiveEnd, headers: Mapping[str, str]
) -> OpenSession:
    try:
        link = await connect_websocket(
            address.host,
            address.port,
            path,
            tls=trust.ssl_context() if address.secure else None,
            make_session=lambda link: LiveSession(link, end),
            headers=headers,
        )
    except ssl.SSLCertVerificationError as error:
        raise ConfigError(
            f"the certificate of {address.authority} is not trusted ({error.verify_message or error}); "
            "give --ca the gateway's ca.pem, or --certificate-sha256"
        ) from error
    except (OSError, TimeoutError) as error:
        raise Unanswered(
            f"no gateway answers at {address.base_url}: {str(error) or type(error).__name__}"
        ) from error
    session = link.session
    assert isinstance(session, LiveSession)
    try:
        await _welcome(session)
    except BaseException:
        link.close(CloseCode.OK, "")
        raise
    return OpenSession(session, None)


async def _welcome(session: LiveSession) -> None:
    """Wait for ``welcome``; an ``error`` or the end instead of it is raised."""
    waiting = [asyncio.ensure_future(session.welcomed.wait()), asyncio.ensure_future(session.closed.wait())]
    try:
        await asyncio.wait(waiting, timeout=limits.CLIENT_CONNECT_S_MAX, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waiting:
            task.cancel()
    if not session.welcomed.is_set():
        raise session.ended_by or Unanswered("the session ended or stayed silent before its welcome")


async def udp_answers(address: Address, trust: Trust) -> bool:
    """Whether the gateway can be reached by QUIC now: a handshake, and nothing on it."""
    try:
        client = await connect(
            address.host, address.port, trust=trust.for_quic(), timeout_s=limits.CLIENT_UDP_PATIENCE_S
        )
    except GatewayError:
        return False
    client.close()
    return True


def _refusal(refused: SessionRefused) -> GatewayError:
    code = refused.document.get("code")
    facts = {name: refused.document[name] for name in ("world", "url") if name in refused.document}
    return error_for(str(code), refused.message, **facts) if code else refused


async def _watch(session: LiveSession, client: Client) -> None:
    """Ask a silent gateway whether it is still there; return when it does not answer."""
    pause_s = limits.CLIENT_SILENCE_S_MIN
    while True:
        session.heard = False
        await asyncio.sleep(pause_s)
        # Frames come: no ping is needed, and the pause starts anew.
        if session.heard:
            pause_s = limits.CLIENT_SILENCE_S_MIN
            continue
        if not await _answers(session, client):
            return
        pause_s = min(2 * pause_s, limits.CLIENT_SILENCE_S_MAX)


async def _answers(session: LiveSession, client: Client) -> bool:
    for _ in range(limits.CLIENT_PINGS_MAX):
        try:
            await asyncio.wait_for(client.ping(), limits.CLIENT_PING_ANSWER_S_MAX)
            return True
        except TimeoutError:
            if session.heard:
                return True
        except GatewayError:
            return False
    return False
