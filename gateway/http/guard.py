"""The gate before the app: whose request this is, before anything is looked at for it. Room: http.

The token goes no further than here: not into the query that routes see, nor into a log. A request whose grant ends while
it is answered is cut off; a stream says ``bye`` first. Sessions by WebSocket pass: their door asks the gate itself,
for a token may come with their first message. Source: docs/ACCESS.md.
"""

from __future__ import annotations

import asyncio
import json

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.core.gate import Asked, Gate, Standing, credentials_of, current
from gateway.core.ports import CloseCode
from gateway.errors import GatewayError, Unauthorized
from gateway.http.answers import peer_of_scope
from gateway.http.origins import refuse
from gateway.http.problems import FRAMES_TYPE
from gateway.wire import encode_control, prefix
from gateway.wire.entities.messages import ENTITIES_TYPE

EVENTS = b"text/event-stream"
MESSAGES = (FRAMES_TYPE.encode(), ENTITIES_TYPE.encode())


class AccessGuard:
    """ASGI: lets pass what ``gate`` admits. None: everything, and a token that comes along is put aside."""

    def __init__(self, app: ASGIApp, gate: Gate | None) -> None:
        self._app = app
        self._gate = gate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            standing = self._admitted(scope)
        except GatewayError as error:
            await refuse(error, scope, receive, send)
            return
        if standing is None or self._gate is None:
            await self._app(scope, receive, send)
            return
        # A context variable: what is called from here on, however deep, acts in this name, and tasks that
        # it begins inherit it.
        token = current.set(standing)
        try:
            await _Use(self._app, standing, self._gate, send).run(scope, receive)
        finally:
            current.reset(token)
            standing.over()

    def _admitted(self, scope: Scope) -> Standing | None:
        headers = ((name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"])
        query = scope["query_string"].decode("latin-1")
        if self._gate is None:
            scope["query_string"] = credentials_of((), query)[1].encode("latin-1")
            return None
        token, query = credentials_of(headers, query)
        scope["query_string"] = query.encode("latin-1")
        asked = Asked(
            scope["method"],
            scope["path"],
            query,
            peer_of_scope(scope),
            token,
            scope.get("state", {}).get("grant"),
        )
        scope["standing"] = standing = self._gate.admit(asked)
        if standing is not None:
            try:
                scope["query_string"] = standing.seen(query).encode("latin-1")
            except GatewayError:
                standing.over()
                raise
        return standing


class _Use:
    """One request under a grant."""

    def __init__(self, app: ASGIApp, standing: Standing, gate: Gate, send: Send) -> None:
        self._app = app
        self._standing = standing
        self._gate = gate
        self._send = send
        self._kind: bytes | None = None
        self._is_over = False

    async def run(self, scope: Scope, receive: Receive) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._standing.ends_by(lambda reason, code: _cancel(task))
        try:
            await self._app(scope, receive, self.send)
        except asyncio.CancelledError:
            # Cancelled by somebody else, or by both: that cancellation is not ours to swallow
            # (https://docs.python.org/3/library/asyncio-task.html#asyncio.Task.uncancel).
            if self._standing.ended is None or not task.uncancel() == 0:
                raise
            await self._say_end(*self._standing.ended, scope, receive)

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = message.get("headers", ())
            self._kind = next(
                (value for name, value in headers if bytes(name).lower() == b"content-type"), b""
            )
        elif message["type"] == "http.response.body":
            size = len(message.get("body", b""))
            # A session's link paces itself: it chooses what to send, where this can only wait.
            if size and not self._standing.is_session:
                await self._gate.pace(self._standing, size)
            self._is_over = not message.get("more_body", False)
        await self._send(message)

    async def _say_end(self, reason: str, code: CloseCode, scope: Scope, receive: Receive) -> None:
        """What there is left to say of an answer that was cut off."""
        if self._is_over:
            return
        if self._kind is None:
            error = Unauthorized(
                f"the grant of this request has ended ({reason}); get a fresh token", rule=reason
            )
            await refuse(error, scope, receive, self._send)
            return
        last = _bye(self._kind, reason)
        if last is None:
            # Broken off, and not ended: half an answer that ends well would be taken for a whole one.
            raise ConnectionAbortedError(f"the grant has ended ({reason})")
        await self._send({"type": "http.response.body", "body": last, "more_body": False})


def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()


def _bye(kind: bytes, reason: str) -> bytes | None:
    """The last of a stream of this content type; None where a half answer would be taken for a whole one."""
    if kind.startswith(EVENTS):
        fields = json.dumps({"type": "bye", "reason": reason, "reconnect_after_ms": 0})
        return f"event: bye\ndata: {fields}\n\n".encode()
    if kind.startswith(MESSAGES):
        return prefix(encode_control("bye", reason=reason, reconnect_after_ms=0))
    return None
