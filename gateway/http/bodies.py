"""Request bodies: read whole within a bound, or as a stream of messages. Room: http.

A refused body is still read to a bound, so that the refusal reaches a peer that sends first and
reads later, and so that the connection stays of use.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from dataclasses import dataclass

from starlette.requests import ClientDisconnect, Request

from gateway import limits
from gateway.errors import BadInput, TooLarge, Unsupported
from gateway.http.answers import peer_of_scope
from gateway.http.budget import ByteBudget, Lease
from gateway.http.tcp.turns import Turns
from gateway.wire import MessageStream, strictjson
from gateway.wire.streams import MESSAGE_FLAG


class SlowBody(BadInput):
    """A body that does not come. RFC 9110 section 15.5.9."""

    code = "slow_body"
    status = 408
    title = "Request timeout"


@dataclass(frozen=True, slots=True)
class BodyBounds:
    """What a body may hold: the settings, which the app puts into each request's scope."""

    json_bytes: int = limits.JSON_BODY_BYTES_MAX
    entity_bytes: int = limits.ENTITY_STATE_BYTES_MAX
    batch_bytes: int = limits.ENTITY_BATCH_BYTES_MAX
    batch_operations: int = limits.ENTITY_BATCH_OPS_MAX


DEFAULT_BOUNDS = BodyBounds()
JSON_FLAG = "--json-body-bytes-max"
ENTITY_FLAG = "--entity-bytes-max"
BATCH_BYTES_FLAG = "--batch-bytes-max"
BATCH_OPERATIONS_FLAG = "--batch-operations-max"


def bounds_of(request: Request) -> BodyBounds:
    """Those of the app that serves it."""
    bounds: BodyBounds = request.scope.get("bodies") or DEFAULT_BOUNDS
    return bounds


def check_declared(request: Request, bytes_max: int, flag: str) -> None:
    """Raise :class:`TooLarge` already on the Content-Length. ``flag``: of the setting that ``bytes_max`` is.
    RFC 9110 section 8.6."""
    declared = request.headers.get("content-length", "")
    # Cut before it is read: int() of a header of thousands of digits takes time that grows with their
    # square.
    if declared.isascii() and declared.isdigit() and int(declared[:18]) > bytes_max:
        raise _over(f"of {declared[:18]}", bytes_max, flag)


def _over(size: str, bytes_max: int, flag: str) -> TooLarge:
    text = f"a body {size} bytes is over the bound of {bytes_max}; send less at once, or raise {flag}"
    return TooLarge(text, bound=flag, limit=bytes_max, limit_bytes=bytes_max)


async def read_body(request: Request, bytes_max: int, flag: str) -> bytes:
    """The whole body. Raises :class:`TooLarge`, or :class:`BadInput` if it does not come in time."""
    check_declared(request, bytes_max, flag)
    body = bytearray()
    lease = _lease(request)
    try:
        async with asyncio.timeout(limits.HTTP_BODY_S_MAX):
            async for piece in request.stream():
                body += piece
                if len(body) > bytes_max:
                    raise _over(f"of {len(body)} or more", bytes_max, flag)
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


async def read_json(request: Request) -> Mapping[str, object]:
    """The body as one JSON object; an empty body is an empty object."""
    body = await read_body(request, bounds_of(request).json_bytes, JSON_FLAG)
    if not body:
        return {}
    kind = request.headers.get("content-type", "application/json").partition(";")[0].strip()
    # The second is what curl -d says, whatever it sends.
    if kind not in ("application/json", "application/x-www-form-urlencoded"):
        raise Unsupported(f"a body of type {kind} is not taken here; send application/json")
    try:
        value = strictjson.loads(body)
    except ValueError as error:
        raise BadInput(f"the body is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise BadInput("the body is JSON, but not an object")
    return value


async def messages(
    request: Request, message_bytes_max: int, flag: str = MESSAGE_FLAG
) -> AsyncIterator[bytes]:
    """The length-prefixed messages of a body, each as soon as it is whole. ``flag``: of the setting that
    bounds one.

    Raises :class:`MalformedMessage` where the body ends inside one, :class:`TooLarge`.
    """
    stream = MessageStream(message_bytes_max, flag)
    lease = _lease(request)
    pieces = aiter(request.stream())
    try:
        async for piece in _in_time(pieces, stream):
            stream.feed(piece)
            began = time.perf_counter()
            for message in stream:
                yield message
                worked_s = time.perf_counter() - began
                if worked_s > limits.TCP_SLICE_S:
                    await _rest(request, worked_s)
                    began = time.perf_counter()
            lease.hold(stream.buffered_bytes)
    except ClientDisconnect:
        raise BadInput("the connection ended inside the body") from None
    else:
        stream.finish()
    finally:
        stream.clear()  # an error's traceback would keep it for as long as the refusal is under way
        lease.release()


async def _rest(request: Request, worked_s: float) -> None:
    """A piece may hold thousands of messages: others have their turn in between."""
    turns: Turns | None = request.scope.get("state", {}).get("turns")
    if turns is None:
        await asyncio.sleep(0)
    else:
        await turns.admitted(peer_of_scope(request.scope), worked_s)


async def _in_time(pieces: AsyncIterator[bytes], stream: MessageStream) -> AsyncIterator[bytes]:
    """The pieces, as long as they come: a body may stream for ever, a message in it may not. Raises :class:`SlowBody`."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    try:
        while True:
            size = stream.buffered_bytes
            now = loop.time()
            # The time of one message: it begins when its first byte comes, and anew when nothing waits to
            # be whole.
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
