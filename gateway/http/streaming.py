"""``GET …/live`` as an endless answer: length-prefixed messages, or server-sent events. Room: http.

Sources: ``docs/FRAMES.md``, "Opening a session"; the WHATWG HTML standard, section 9.2 (event
streams). The JSON form of a message: ``{"epoch", "tick", "keyframe", "records": {key: base64 or null}}``;
a control message is its own JSON object.
"""

from __future__ import annotations

import asyncio
import base64
import json
import time

from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from gateway import limits
from gateway.core.events import address_text
from gateway.core.ports import Doors
from gateway.http.asgi_sink import AsgiSink
from gateway.http.links import TcpLink
from gateway.http.problems import FRAMES_TYPE
from gateway.http.tcp.wire import Wire, session_on
from gateway.wire import Control, Frame, decode_message, prefix

EVENTS_TYPE = "text/event-stream"
COMMENT = b": still here\n\n"
"""A line that event streams pass over (WHATWG HTML section 9.2.6); in a sink's queue an empty message stands for it."""


def as_event(message: bytes) -> bytes:
    """One message as one server-sent event: ``event: frame`` or the control message's type."""
    decoded = decode_message(message)
    if isinstance(decoded, Control):
        name, value = decoded.type, dict(decoded.fields)
    else:
        name, value = "frame", frame_json(decoded)
    return f"event: {name}\ndata: {json.dumps(value, separators=(',', ':'))}\n\n".encode()


def frame_json(frame: Frame) -> dict[str, object]:
    """A frame message as a JSON-ready value; record bytes in base64, a removed record as null."""
    records = {
        str(record.key): None if record.data is None else base64.b64encode(record.data).decode()
        for record in frame.records
    }
    value: dict[str, object] = {"epoch": frame.epoch, "tick": frame.tick, "keyframe": frame.keyframe}
    if frame.repair:
        value["repair"] = True
    return {**value, "part": frame.part, "parts": frame.parts, "records": records}


class StreamingDoor:
    """The ASGI endpoint of a streamed GET: which session it is, ``doors`` says."""

    def __init__(self, doors: Doors) -> None:
        self._doors = doors

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        wire = scope.get("state", {}).get("wire")
        with session_on(wire if isinstance(wire, Wire) else None):
            await self._serve(scope, receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        events = EVENTS_TYPE in request.headers.get("accept", "")
        ended = asyncio.Event()

        async def send_message(message: bytes) -> None:
            body = (as_event(message) if message else COMMENT) if events else prefix(message)
            await send({"type": "http.response.body", "body": body, "more_body": True})

        wire = scope.get("state", {}).get("wire")
        sink = AsgiSink(send_message, ended, wire.unsent_bytes if isinstance(wire, Wire) else None)
        sink.hold()
        link = TcpLink("sse" if events else "http", _message_bytes_max(events), sink)
        link.address = address_text(*(scope.get("client") or ("", 0)))
        link.standing = scope.get("standing")
        session = await self._doors.open_at(request.url.path, request.url.query, dict(request.headers), link)
        link.attach(session)
        try:
            await _begin(send, EVENTS_TYPE if events else FRAMES_TYPE)
            sink.start()
            await _until_over(receive, ended, sink if events else None)
        finally:
            link.gone()
            session.on_closed(time.monotonic())
        await sink.drained()
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def _message_bytes_max(events: bool) -> int:
    return limits.SSE_EVENT_BYTES_MAX if events else limits.STREAM_MESSAGE_BYTES_MAX


async def _begin(send: Send, media_type: str) -> None:
    headers = [
        (b"content-type", media_type.encode()),
        (b"cache-control", b"no-store"),
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
            if events is not None and not events.pending_bytes():
                events.write(b"")
    finally:
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
