"""``GET …/live`` as an endless answer: length-prefixed messages, or server-sent events. Room: http.

Sources: ``docs/FRAMES.md``, "Opening a session"; the WHATWG HTML standard, section 9.2 (event streams).
"""

from __future__ import annotations

import asyncio
import time

from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from gateway import limits
from gateway.core.events import address_text
from gateway.core.ports import Doors
from gateway.errors import BadInput
from gateway.http.asgi_sink import AsgiSink
from gateway.http.events import LayoutOf, Reading, SharedEvents, as_event, taken_from
from gateway.http.links import TcpLink
from gateway.http.problems import FRAMES_TYPE
from gateway.http.tcp.wire import Wire, session_on
from gateway.wire import prefix, world_name

EVENTS_TYPE = "text/event-stream"
COMMENT = b": still here\n\n"
"""A line that event streams pass over (WHATWG HTML section 9.2.6); in a sink's queue an empty message stands for it."""


class StreamingDoor:
    """The ASGI endpoint of a streamed GET: which session it is, ``doors`` says. ``layout_of``: what a world's records mean,
    for events with ``values=1``."""

    def __init__(self, doors: Doors, layout_of: LayoutOf | None = None) -> None:
        self._doors = doors
        self._layout_of = layout_of
        self._events = SharedEvents()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        wire = scope.get("state", {}).get("wire")
        with session_on(wire if isinstance(wire, Wire) else None):
            await self._serve(scope, receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        events = EVENTS_TYPE in request.headers.get("accept", "")
        ended = asyncio.Event()
        reading, query = self._reading(request, events)

        async def send_message(message: bytes) -> None:
            if not events:
                body = prefix(message)
            elif not message:
                body = COMMENT
            else:
                body = as_event(message) if reading is None else await reading.event(message)
            await send({"type": "http.response.body", "body": body, "more_body": True})

        wire = scope.get("state", {}).get("wire")
        sink = AsgiSink(send_message, ended, wire.unsent_bytes if isinstance(wire, Wire) else None)
        # Nothing goes out before the answer's head, which waits until the session is open: it may yet be
        # refused by a status.
        sink.hold()
        link = TcpLink("sse" if events else "http", _message_bytes_max(events), sink)
        link.address = address_text(*(scope.get("client") or ("", 0)))
        link.standing = scope.get("standing")
        session = await self._doors.open_at(request.url.path, query, dict(request.headers), link)
        link.attach(session)
        try:
            if reading is not None:
                await reading.begin()
            # With an empty piece, so that proxies and clients see the head at once and not with the first
            # frame.
            await _begin(send, EVENTS_TYPE if events else FRAMES_TYPE)
            sink.start()
            await _until_over(receive, ended, sink if events else None)
        finally:
            link.gone()
            session.on_closed(time.monotonic())
            if reading is not None:
                reading.end()
        await sink.drained()
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    def _reading(self, request: Request, events: bool) -> tuple[Reading | None, str]:
        """How values are read, if they are asked for, and the query of the session."""
        if self._layout_of is None or "values" not in request.query_params:
            return None, request.url.query
        wanted, query = taken_from(request.query_params)
        if not wanted:
            return None, query
        if not events:
            raise BadInput("values=1 is told in server-sent events; say Accept: text/event-stream")
        return Reading(world_name(request.path_params["world"]), self._layout_of, self._events), query


def _message_bytes_max(events: bool) -> int:
    return limits.SSE_EVENT_BYTES_MAX if events else limits.STREAM_MESSAGE_BYTES_MAX


async def _begin(send: Send, media_type: str) -> None:
    headers = [
        (b"content-type", media_type.encode()),
        (b"cache-control", b"no-store"),
        # nginx would otherwise gather the stream to pages
        # (https://nginx.org/en/docs/http/ngx_http_proxy_module.html).
        (b"x-accel-buffering", b"no"),
    ]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"", "more_body": True})


async def _until_over(receive: Receive, ended: asyncio.Event, events: AsgiSink | None) -> None:
    """Wait for either side's end. An event stream says something now and then, so that proxies keep it."""

    async def disconnected() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    waiting = [asyncio.ensure_future(disconnected()), asyncio.ensure_future(ended.wait())]
    every_s = None if events is None else limits.SSE_COMMENT_S
    try:
        while True:
            done, _ = await asyncio.wait(waiting, timeout=every_s, return_when=asyncio.FIRST_COMPLETED)
            if done:
                return
            # Where something waits, it speaks for itself; and a comment behind it would only make the queue
            # longer.
            if events is not None and not events.pending_bytes():
                events.write(b"")
    finally:
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
