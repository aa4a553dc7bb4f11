"""Request bodies: read whole within a bound, or as a stream of messages. Room: http.

A refused body is still read to a bound, so that the refusal reaches a peer that sends first and
reads later, and so that the connection stays of use.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from typing import Any

from starlette.requests import ClientDisconnect, Request

from gateway import limits
from gateway.errors import BadInput, TooLarge, Unsupported
from gateway.http.budget import ByteBudget, Lease
from gateway.wire import MessageStream


class SlowBody(BadInput):
    """A body that does not come."""

    code = "slow_body"
    status = 408
    title = "Request timeout"


def check_declared(request: Request, bytes_max: int) -> None:
    """Raise :class:`TooLarge` already on the Content-Length."""
    declared = request.headers.get("content-length", "")
    if declared.isascii() and declared.isdigit() and int(declared) > bytes_max:
        raise TooLarge(f"a body of {declared} bytes is over the bound of {bytes_max}", limit_bytes=bytes_max)


async def read_body(request: Request, bytes_max: int) -> bytes:
    """The whole body. Raises :class:`TooLarge`, or :class:`BadInput` if it does not come in time."""
    check_declared(request, bytes_max)
    body = bytearray()
    lease = _lease(request)
    try:
        async with asyncio.timeout(limits.HTTP_BODY_S_MAX):
            async for piece in request.stream():
                body += piece
                if len(body) > bytes_max:
                    raise TooLarge(f"a body of over {bytes_max} bytes is not taken", limit_bytes=bytes_max)
                lease.hold(len(body))
    except TimeoutError:
        raise SlowBody(f"the body did not come within {limits.HTTP_BODY_S_MAX:.0f} s") from None
    except ClientDisconnect:
        raise BadInput("the connection ended inside the body") from None
    else:
        return bytes(body)
    finally:
        body.clear()  # an error's traceback would keep it for as long as the refusal is under way
        lease.release()


def _lease(request: Request) -> Lease:
    """Of the budget that all bodies share, where the app has one."""
    budget: ByteBudget = request.scope.get("unfinished") or ByteBudget()
    return budget.lease()


async def read_json(request: Request) -> Mapping[str, Any]:
    """The body as one JSON object; an empty body is an empty object."""
    body = await read_body(request, limits.JSON_BODY_BYTES_MAX)
    if not body:
        return {}
    kind = request.headers.get("content-type", "application/json").partition(";")[0].strip()
    if kind not in ("application/json", "application/x-www-form-urlencoded"):
        raise Unsupported(f"a body of type {kind} is not taken here; send application/json")
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BadInput(f"the body is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise BadInput("the body is JSON, but not an object")
    return value


async def messages(request: Request, message_bytes_max: int) -> AsyncIterator[bytes]:
    """The length-prefixed messages of a body, each as soon as it is whole.

    Raises :class:`MalformedMessage` where the body ends inside one.
    """
    stream = MessageStream(message_bytes_max)
    lease = _lease(request)
    pieces = aiter(request.stream())
    try:
        async for piece in _in_time(pieces, stream):
            stream.feed(piece)
            for message in stream:
                yield message
            lease.hold(stream.buffered_bytes)
    except ClientDisconnect:
        raise BadInput("the connection ended inside the body") from None
    else:
        stream.finish()
    finally:
        stream.clear()  # an error's traceback would keep it for as long as the refusal is under way
        lease.release()


async def _in_time(pieces: AsyncIterator[bytes], stream: MessageStream) -> AsyncIterator[bytes]:
    """The pieces, as long as they come: a body may stream for ever, a message in it may not. Raises :class:`SlowBody`."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    try:
        while True:
            size = stream.buffered_bytes
            now = loop.time()
            began = began if size else now
            allowed_s = limits.HTTP_BODY_S_MAX + size / limits.HTTP_MESSAGE_BYTES_PER_S_MIN
            async with asyncio.timeout(min(limits.HTTP_BODY_S_MAX, began + allowed_s - now)):
                piece = await anext(pieces)
            yield piece
    except StopAsyncIteration:
        return
    except TimeoutError:
        raise SlowBody(
            f"nothing of the body came for {limits.HTTP_BODY_S_MAX:.0f} s, or one message took far longer"
        ) from None


async def discard_upload(request: Request) -> None:
    """Read what is left of an upload that was given up half way, within bounds: who sends it all before
    reading learns how far it came."""
    left = limits.HTTP_UPLOAD_DISCARD_BYTES_MAX
    with suppress(
        TimeoutError, ClientDisconnect, RuntimeError
    ):  # the last: starlette's, where nothing is left
        async with asyncio.timeout(limits.HTTP_UPLOAD_DISCARD_S_MAX):
            async for piece in request.stream():
                left -= len(piece)
                if left <= 0:
                    return
