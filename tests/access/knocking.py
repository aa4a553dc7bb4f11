"""Every door of a gateway, knocked at with a token or without: what it answered."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import websockets

from gateway import quic
from gateway.core.ports import CloseCode, Link
from gateway.runtime.gateway import Gateway
from gateway.wire import Control, MessageStream, decode_message, encode_control
from tests.patience import HANG_S


class Answer(NamedTuple):
    """``status``: of HTTP, or 4000 + the close code of a session that was opened; ``said``: all text that came."""

    status: int
    said: str


def trust_of(gateway: Gateway) -> quic.QuicTrust:
    assert gateway.certificates.ca_path is not None
    return quic.QuicTrust(ca_pem=Path(gateway.certificates.ca_path).read_bytes())


def tls_of(gateway: Gateway) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(gateway.certificates.ca_path))


def http_of(gateway: Gateway, **more: Any) -> httpx.AsyncClient:
    url = f"https://127.0.0.1:{gateway.port}"
    return httpx.AsyncClient(base_url=url, verify=tls_of(gateway), timeout=HANG_S, **more)


def plain_of(gateway: Gateway) -> httpx.AsyncClient:
    assert gateway.plain_server is not None
    return httpx.AsyncClient(base_url=f"http://127.0.0.1:{gateway.plain_server.port}", timeout=HANG_S)


def bearer(token: str | None) -> dict[str, str]:
    return {} if token is None else {"authorization": f"Bearer {token}"}


Knock = Callable[[Gateway, str | None], Awaitable[Answer]]


def request(method: str, path: str, *, version: str = "1.1", headers: dict[str, str] | None = None) -> Knock:
    async def knock(gateway: Gateway, token: str | None) -> Answer:
        client = http_of(gateway) if version == "1.1" else http_of(gateway, http1=False, http2=True)
        async with client:
            try:
                async with client.stream(
                    method, path, headers={**bearer(token), **(headers or {})}
                ) as answer:
                    if answer.status_code == 200 and "live" in path:
                        return Answer(200, "")
                    body = await answer.aread()
            except httpx.RemoteProtocolError as error:  # a head beyond every bound
                return Answer(431, str(error))
        return Answer(answer.status_code, body.decode("latin-1") + str(answer.headers))

    return knock


def at_admin(method: str, path: str) -> Knock:
    async def knock(gateway: Gateway, token: str | None) -> Answer:
        assert gateway.admin_server is not None
        url = f"http://127.0.0.1:{gateway.admin_server.port}{path}"
        async with httpx.AsyncClient(timeout=HANG_S) as client:
            try:
                answer = await client.request(
                    method, url, headers=bearer(token), content=b"{}" if method == "POST" else None
                )
            except httpx.RemoteProtocolError as error:
                return Answer(431, str(error))
        return Answer(answer.status_code, answer.text + str(answer.headers))

    return knock


def by_http3(method: str, path: str) -> Knock:
    async def knock(gateway: Gateway, token: str | None) -> Answer:
        client = await quic.connect("127.0.0.1", gateway.port, trust=trust_of(gateway), timeout_s=HANG_S)
        try:
            headers = [
                (name.encode(), value.encode("latin-1", "replace")) for name, value in bearer(token).items()
            ]
            answer = await client.request(method, path, headers=headers)
            if answer.status == 200 and "live" in path:
                return Answer(200, "")
            body = await answer.read(1 << 20)
            return Answer(answer.status, body.decode("latin-1") + str(answer.headers))
        finally:
            client.close()
            await client.wait_closed()

    return knock


class Session:
    """A session's messages, by whatever door."""

    def __init__(self) -> None:
        self.controls: list[Control] = []
        self.frames = 0
        self.closed = asyncio.Event()
        self._news = asyncio.Event()
        self.link: Any = None
        self._streams: dict[int, MessageStream] = {}

    def bye(self, reason: str, code: CloseCode) -> None:
        self.link.close(code, reason)

    def on_message(self, data: bytes, mono: float = 0.0) -> None:
        message = decode_message(data)
        if isinstance(message, Control):
            self.controls.append(message)
        else:
            self.frames += 1
        self._news.set()

    async def until_true(self, holds: Callable[[], bool]) -> None:
        """Look again with every message."""
        async with asyncio.timeout(HANG_S):
            while not holds():
                self._news.clear()
                await self._news.wait()

    def on_stream_data(self, stream_id: int, data: bytes, fin: bool, mono: float = 0.0) -> None:
        stream = self._streams.setdefault(stream_id, MessageStream())
        stream.feed(data)
        for message in stream:
            self.on_message(message)

    def on_stream_reset(self, stream_id: int) -> None: ...

    def on_acked(self, token: int, count: int = 1) -> None: ...

    def on_lost(self, token: int) -> None: ...

    def on_writable(self, mono: float) -> None: ...

    def on_closed(self, mono: float = 0.0) -> None:
        self.closed.set()
        self._news.set()

    @property
    def types(self) -> list[str]:
        return [control.type for control in self.controls]

    def said(self) -> str:
        return json.dumps([[control.type, control.fields] for control in self.controls])

    async def until(self, kind: str) -> Control:
        await self.until_true(lambda: kind in self.types)
        return next(control for control in self.controls if control.type == kind)


class WebSocketSession(Session):
    """One by WebSocket. ``code``: what it closed with."""

    def __init__(self, socket: Any) -> None:
        super().__init__()
        self.socket = socket
        self.reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        try:
            async for data in self.socket:
                self.on_message(data)
        except websockets.ConnectionClosed:
            pass
        self.on_closed()

    async def send(self, message: bytes) -> None:
        await self.socket.send(message)

    async def code(self) -> int:
        async with asyncio.timeout(HANG_S):
            await self.closed.wait()
            await self.socket.wait_closed()
        return int(self.socket.close_code or 0)

    async def close(self) -> None:
        await self.socket.close()
        await self.reading


class WebTransportSession(Session):
    client: Any = None

    async def send(self, message: bytes) -> None:
        self.link.send_stream([message])

    async def code(self) -> int:
        async with asyncio.timeout(HANG_S):
            await self.closed.wait()
        return 4000 + int(self.link.closed_code)

    async def close(self) -> None:
        self.client.close()
        await self.client.wait_closed()


async def open_websocket(
    gateway: Gateway, path: str, token: str | None = None, *, header: bool = False
) -> WebSocketSession:
    url = f"wss://127.0.0.1:{gateway.port}{path}"
    more = bearer(token) if header else {}
    if token is not None and not header:
        url += ("&" if "?" in url else "?") + f"token={token}"
    return WebSocketSession(
        await websockets.connect(
            url, ssl=tls_of(gateway), additional_headers=more, compression=None, open_timeout=HANG_S
        )
    )


async def open_webtransport(
    gateway: Gateway, path: str, token: str | None = None, *, header: bool = False
) -> WebTransportSession:
    session = WebTransportSession()

    def make(link: Link) -> WebTransportSession:
        session.link = link
        return session

    if token is not None and not header:
        path += ("&" if "?" in path else "?") + f"token={token}"
    session.client, _ = await quic.connect_webtransport(
        "127.0.0.1", gateway.port, path, trust=trust_of(gateway), make_session=make, timeout_s=HANG_S
    )
    return session


def token_message(token: str) -> bytes:
    return encode_control("token", token=token)


def by_websocket(path: str, *, first_message: bool = False) -> Knock:
    async def knock(gateway: Gateway, token: str | None) -> Answer:
        try:
            session = await open_websocket(gateway, path, None if first_message else token)
        except websockets.InvalidStatus as error:
            return Answer(error.response.status_code, (error.response.body or b"").decode())
        except (websockets.InvalidMessage, websockets.ConnectionClosed) as error:  # a head beyond every bound
            return Answer(431, str(error))
        if first_message and token is not None:
            await session.send(token_message(token))
        return await _settled(session)

    return knock


def by_webtransport(path: str, *, first_message: bool = False) -> Knock:
    async def knock(gateway: Gateway, token: str | None) -> Answer:
        try:
            session = await open_webtransport(gateway, path, None if first_message else token)
        except quic.SessionRefused as error:
            return Answer(error.http_status, json.dumps(error.document))
        if first_message and token is not None:
            await session.send(token_message(token))
        return await _settled(session)

    return knock


async def _settled(session: Any) -> Answer:
    """Until the session is welcome, or closed."""
    await session.until_true(lambda: "welcome" in session.types or session.closed.is_set())
    if "welcome" in session.types:
        await session.close()
        return Answer(200, session.said())
    code = await session.code()
    said = session.said()
    await session.close()
    return Answer(code, said)
