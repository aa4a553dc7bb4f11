"""Just enough ASGI: a whole request in, one answer out, with mvstore's bare headers."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from gateway.errors import GatewayError
from tests.store.standin.rules import Failed

log = logging.getLogger("standin")
JSON_BYTES_MAX = 40 * 1024


@dataclass(frozen=True, slots=True)
class Asked:
    """A request, its body still to come from ``pieces``."""

    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    pieces: Callable[[], AsyncIterator[bytes]]

    async def body(self) -> bytes:
        """All of it."""
        return b"".join([piece async for piece in self.pieces()])

    async def json_body(self) -> bytes:
        """A JSON body, as mvstore takes one: its length said beforehand. Raises :class:`Failed`."""
        if int(self.headers.get("content-length", JSON_BYTES_MAX + 1)) > JSON_BYTES_MAX:
            raise Failed("response too large")
        return await self.body()


@dataclass(slots=True)
class Answer(Exception):
    """Raise or return it. ``lines``: a body that comes by and by."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    lines: AsyncIterator[bytes] | None = None


Serve = Callable[[Asked], Awaitable[Answer]]


def app(serve: Serve, *, words: bool) -> Any:
    """The ASGI app. What fails is a 500: with a word about it (the admin API), or empty."""

    async def run(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            raise RuntimeError("HTTP only")

        more = True

        async def pieces() -> AsyncIterator[bytes]:
            nonlocal more
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    more = False
                    raise Failed("client disconnected")
                more = message.get("more_body", False)
                yield message.get("body", b"")

        headers = {name.decode("latin-1").lower(): value.decode("utf-8") for name, value in scope["headers"]}
        query = dict(parse_qsl(scope.get("query_string", b"").decode("latin-1"), keep_blank_values=True))
        answer = await _guarded(serve, Asked(scope["path"], query, headers, pieces), words)
        with contextlib.suppress(Failed, TimeoutError):
            async with asyncio.timeout(1.0):  # (its own time) else a refusal may be lost to a reset
                async for _ in pieces():
                    pass
        await _send(answer, send)

    return run


async def _guarded(serve: Serve, asked: Asked, words: bool) -> Answer:
    try:
        return await serve(asked)
    except Answer as answer:
        return answer
    except Failed as error:
        return Answer(500, str(error).encode() if words else b"")
    except GatewayError as error:
        log.warning("unforeseen refusal of %s: %s", asked.path, error)
        return Answer(500, b"")
    except Exception as error:
        log.exception("the stand-in failed at %s", asked.path)
        return Answer(500, str(error).encode() if words else b"")


async def _send(answer: Answer, send: Any) -> None:
    headers = [(name.encode(), value.encode()) for name, value in answer.headers.items()]
    if answer.lines is None:
        headers.append((b"content-length", b"%d" % len(answer.body)))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    if answer.lines is not None:
        async for line in answer.lines:
            await send({"type": "http.response.body", "body": line, "more_body": True})
    await send({"type": "http.response.body", "body": answer.body, "more_body": False})
