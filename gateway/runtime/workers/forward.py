"""Requests that only one worker can answer, served there: those that write into a live world, and those of the door for plain
UDP. Room: runtime. Both ends speak ASGI. The near gate has let the request pass; the far one is shown the grant by which, as if
it stood in the client's certificate, and asks again whether it may.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict
from typing import Any, Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.core.grants import Grant
from gateway.errors import GatewayError
from gateway.http.problems import status_response
from gateway.limits import FORWARD_QUEUE_BYTES
from gateway.runtime.workers.channel import Channel, Kind, SiblingGone
from gateway.runtime.workers.siblings import Siblings

_HOMES: Final = re.compile(r"/v1/worlds/([^/]+)(?:/entities/[^/]+:(?:hibernate|wake)|/home:give_up)?")
_UDP: Final = re.compile(r"/v1/worlds/([^/]+)/udp")
FIRST: Final = 0
"""The worker that has the door for plain UDP."""

HomeOf = Callable[[str], Awaitable[int | None]]


class Forward:
    """ASGI: hands on what is another worker's, and all the rest to ``app``. ``home_of``: which other worker a world's home is."""

    def __init__(self, app: ASGIApp, siblings: Siblings, home_of: HomeOf) -> None:
        self._app = app
        self._siblings = siblings
        self._home_of = home_of

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        number = await self._number(scope) if scope["type"] == "http" else None
        if number is None:
            await self._app(scope, receive, send)
            return
        try:
            exchange = await _Near.begin(self._siblings, number, scope, send)
        # Served here: this worker may become the home itself, or says what is wrong.
        except SiblingGone:
            await self._app(scope, receive, send)
            return
        await exchange.run(scope, receive)

    async def _number(self, scope: Scope) -> int | None:
        method, path = scope["method"], scope["path"]
        if method == "POST" and _UDP.fullmatch(path):
            return None if self._siblings.worker.is_first else FIRST
        found = _HOMES.fullmatch(path)
        if found is None or method not in ("POST", "DELETE"):
            return None
        try:
            return await self._home_of(found[1])
        except GatewayError:
            return None  # whoever serves it here says what is wrong


class _Near:
    """One request on its way."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._came: asyncio.Queue[tuple[int, bytes]] = asyncio.Queue()
        self._channel = Channel()

    @classmethod
    async def begin(cls, siblings: Siblings, number: int, scope: Scope, send: Send) -> _Near:
        near, standing = cls(send), scope.get("standing")
        near._channel = await siblings.connect(
            *(number, "request", near._take),
            method=scope["method"],
            path=scope["path"],
            query=scope["query_string"].decode("latin-1"),
            headers=[
                [name.decode("latin-1"), value.decode("latin-1")]
                for name, value in scope["headers"]
                # The near gate has looked at it; its grant goes along instead, and the token stays where it
                # came in.
                if name != b"authorization"
            ],
            client=scope.get("client"),
            server=scope.get("server"),
            scheme=scope.get("scheme", "http"),
            http_version=scope.get("http_version", "1.1"),
            grant=None if standing is None else asdict(standing.grant),
        )
        near._channel.on_lost = lambda: near._came.put_nowait((Kind.CLOSE, b""))
        return near

    def _take(self, channel: Channel, kind: int, data: bytes) -> None:
        self._came.put_nowait((kind, data))

    async def run(self, scope: Scope, receive: Receive) -> None:
        asking = asyncio.ensure_future(self._ask(receive))
        try:
            await self._answer(scope, receive)
        finally:
            asking.cancel()
            self._channel.close()

    async def _ask(self, receive: Receive) -> None:
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                self._channel.abort()
                return
            self._channel.write(Kind.BODY, message.get("body", b""))
            await self._channel.drain()
            if not message.get("more_body", False):
                self._channel.write(Kind.END)

    async def _answer(self, scope: Scope, receive: Receive) -> None:
        begun = False
        while True:
            kind, data = await self._came.get()
            if kind == Kind.ANSWER:
                told = json.loads(data)
                headers = [
                    (name.encode("latin-1"), value.encode("latin-1")) for name, value in told["headers"]
                ]
                await self._send(
                    {"type": "http.response.start", "status": told["status"], "headers": headers}
                )
                begun = True
            elif kind in (Kind.BODY, Kind.END):
                more = kind == Kind.BODY
                await self._send({"type": "http.response.body", "body": data, "more_body": more})
                if not more:
                    return
            elif begun:
                # The status is sent: only breaking off tells the client that the body is not whole (RFC 9112
                # section 8).
                raise ConnectionResetError("the worker that answered has ended")
            else:
                response = status_response(503, "the worker that has this world has ended; ask again")
                await response(scope, receive, self._send)
                return


class Far:
    """The same request where it is served."""

    def __init__(self, channel: Channel, told: dict[str, Any]) -> None:
        self._channel = channel
        self._told = told
        self._body: deque[Message] = deque()
        self._waiting = 0
        self._news = asyncio.Event()
        channel.on_lost = self._lost
        channel.listen(self._take)

    def _take(self, kind: int, data: bytes) -> None:
        self._body.append({"type": "http.request", "body": data, "more_body": kind != Kind.END})
        self._waiting += len(data)
        # Not read any more: the socket fills, drain() at the near end waits, and so the client is held up by TCP or
        # QUIC.
        if self._waiting > FORWARD_QUEUE_BYTES and self._channel.transport is not None:
            self._channel.transport.pause_reading()
        self._news.set()

    def _lost(self) -> None:
        self._body.append({"type": "http.disconnect"})
        self._news.set()

    async def _receive(self) -> Message:
        while not self._body:
            self._news.clear()
            await self._news.wait()
        # Looked at, not taken: a disconnect stays, for ASGI answers it as often as it is asked for.
        message = self._body[0]
        if message["type"] == "http.request":
            self._body.popleft()
            self._waiting -= len(message["body"])
            transport = self._channel.transport
            if self._waiting <= FORWARD_QUEUE_BYTES and transport is not None and not self._channel.is_lost:
                transport.resume_reading()
        return message

    async def _send(self, message: Message) -> None:
        if self._channel.is_lost:
            raise ConnectionResetError("whoever asked has left")
        if message["type"] == "http.response.start":
            headers = [
                [bytes(name).decode("latin-1"), bytes(value).decode("latin-1")]
                for name, value in message.get("headers", ())
            ]
            self._channel.write_json(Kind.ANSWER, {"status": message["status"], "headers": headers})
        else:
            body = message.get("body", b"")
            if message.get("more_body", False):
                self._channel.write(Kind.BODY, body)
            else:
                if body:
                    self._channel.write(Kind.BODY, body)
                self._channel.write(Kind.END)
        await self._channel.drain()

    async def run(self, app: ASGIApp) -> None:
        """Serve it."""
        told = self._told
        scope: Scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": told["http_version"],
            "method": told["method"],
            "scheme": told["scheme"],
            "path": told["path"],
            "raw_path": told["path"].encode(),
            "query_string": told["query"].encode("latin-1"),
            "root_path": "",
            "headers": [(name.encode("latin-1"), value.encode("latin-1")) for name, value in told["headers"]],
            "client": told["client"] and tuple(told["client"]),
            "server": told["server"] and tuple(told["server"]),
            "state": {} if told["grant"] is None else {"grant": _grant(told["grant"])},
        }
        try:
            await app(scope, self._receive, self._send)
        except BaseException:
            self._channel.abort()
            raise
        self._channel.finish()


def _grant(told: Mapping[str, object]) -> Grant:
    """Lists were tuples before they were JSON."""
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in told.items()
    }
    return Grant(**values)
