"""The access log: one line a request, when its answer has ended. Room: http.

Wraps the whole app, so that refusals and failures are in it too. Never a query: it may hold a secret.
"""

from __future__ import annotations

import logging
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.core.events import address_text

log = logging.getLogger("mvgateway.access")


class AccessLog:
    """ASGI: logs method, path, status, bytes, seconds, protocol and peer of what ``app`` answers."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        answer = _Answer(send)
        began = time.monotonic()
        try:
            await self._app(scope, receive, answer.send)
        finally:
            _write(scope, answer, time.monotonic() - began)


class _Answer:
    """Passes an answer on and remembers its status and size."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.status = 0
        self.size_bytes = 0

    async def send(self, message: Message) -> None:
        kind = message["type"]
        if kind in ("http.response.start", "websocket.http.response.start"):
            self.status = message["status"]
        elif kind == "websocket.accept":
            self.status = 101
        elif kind in ("http.response.body", "websocket.http.response.body"):
            self.size_bytes += len(message.get("body", b""))
        await self._send(message)


def _write(scope: Scope, answer: _Answer, seconds: float) -> None:
    facts = {
        "method": scope.get("method", "WEBSOCKET"),
        "path": scope["path"],
        "status": answer.status,
        "bytes": answer.size_bytes,
        "seconds": round(seconds, 4),
        "http": scope.get("http_version", ""),
        "address": address_text(*(scope.get("client") or ("", 0))[:2]),
    }
    log.info("request", extra={"facts": facts})
