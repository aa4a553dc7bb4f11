"""Messages as server-sent events, with values by field where they are asked for. Room: http.

Source: the WHATWG HTML standard, section 9.2 (event streams); the JSON stands in ``docs/API.md``.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Awaitable, Callable
from functools import partial

from starlette.datastructures import QueryParams

from gateway import limits
from gateway.errors import BadInput, GatewayError
from gateway.http.queries import flag
from gateway.wire import Control, Frame, decode_message
from gateway.wire.layouts import Layout

LayoutOf = Callable[[str], Awaitable[Layout | None]]
"""What a world's records mean now."""
_KEY = "values"


def as_event(message: bytes, layout: Layout | None = None) -> bytes:
    """One message as one server-sent event: ``event: frame`` or the control message's type. WHATWG HTML section 9.2.5."""
    decoded = decode_message(message)
    if isinstance(decoded, Control):
        name, value = decoded.type, dict(decoded.fields)
    else:
        name, value = "frame", frame_json(decoded)
        if layout is not None:
            value |= values_json(decoded, layout)
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


def values_json(frame: Frame, layout: Layout) -> dict[str, object]:
    """``values``: ``{key: {field: value} or null}``, and ``values_left_out``, where they would be too large: how many."""
    values: dict[str, object] = {}
    size = 0
    for at, record in enumerate(frame.records):
        values[str(record.key)] = None if record.data is None else layout.read(record.data)
        size += len(record.data or b"") + len(json.dumps(values[str(record.key)]))
        # The records themselves stand beside it in full; values are for people, and for small worlds.
        if size > limits.SSE_VALUES_BYTES_MAX:
            return {_KEY: values, "values_left_out": len(frame.records) - at - 1}
    return {_KEY: values}


def taken_from(query: QueryParams) -> tuple[bool, str]:
    """Whether values are asked for, and the query without that. Raises :class:`BadInput`."""
    # Taken out as text: the rest goes on as it came, to rules that know nothing of events.
    rest = "&".join(part for part in str(query).split("&") if part.partition("=")[0] != _KEY)
    if len(query.getlist(_KEY)) > 1:
        raise BadInput(f"query key {_KEY!r} is given twice; give it once")
    return flag(query, _KEY), rest


class SharedEvents:
    """Events with values, each made once for all who read one message by one layout: most of a world's readers at once."""

    def __init__(self, bytes_max: int = limits.SSE_SHARED_BYTES_MAX) -> None:
        self._bytes_max = bytes_max
        self._bytes = 0
        self._made: dict[tuple[bytes, str], asyncio.Task[bytes]] = {}
        self._sizes: dict[tuple[bytes, str], int] = {}
        """Of those that are made, in bytes, the first that was first."""

    async def event(self, message: bytes, layout: Layout | None, named: str) -> bytes:
        """As :func:`as_event`; on another thread, for it takes far longer than a frame may on this one. ``named``: the layout, as text."""
        key = (message, named)
        task = self._made.get(key)
        if task is None:
            # A task for all who ask: a thread each would make the same text as often as there are readers.
            task = asyncio.get_running_loop().create_task(asyncio.to_thread(as_event, message, layout))
            self._made[key] = task
            task.add_done_callback(partial(self._is_made, key))
        return await asyncio.shield(task)  # who leaves does not take it from the others

    @property
    def held_bytes(self) -> int:
        """Events that are made, and the messages by which they are known."""
        return self._bytes

    def _is_made(self, key: tuple[bytes, str], task: asyncio.Task[bytes]) -> None:
        if task.cancelled() or task.exception() is not None:
            del self._made[key]
            return
        size = self._sizes[key] = len(key[0]) + len(task.result())
        self._bytes += size
        while self._bytes > self._bytes_max:
            oldest = next(iter(self._sizes))
            self._bytes -= self._sizes.pop(oldest)
            del self._made[oldest]


class Reading:
    """What a stream's records mean, looked up again every few seconds: a layout may be changed while it is on."""

    def __init__(self, world: str, layout_of: LayoutOf, shared: SharedEvents | None = None) -> None:
        self._world = world
        self._shared = shared or SharedEvents()
        self._named = ""
        self._layout_of = layout_of
        self._layout: Layout | None = None
        self._task: asyncio.Task[None] | None = None

    async def begin(self) -> None:
        """Raises :class:`BadInput` for a world that has no layout."""
        await self._learn()
        if self._layout is None:
            raise BadInput(
                f"world {self._world} has no layout, by which its values could be told; give it one: PATCH /v1/worlds/"
                f'{self._world} {{"layout": …}}, or leave out values=1'
            )
        self._task = asyncio.get_running_loop().create_task(self._look())

    async def event(self, message: bytes) -> bytes:
        """As :func:`as_event`, of what is known of the layout now."""
        return await self._shared.event(message, self._layout, self._named)

    def end(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(limits.SSE_LAYOUT_LOOK_S)
            try:
                await self._learn()
            except GatewayError:
                continue  # a store that is away: what was known holds

    async def _learn(self) -> None:
        layout = self._layout = await self._layout_of(self._world)
        self._named = "" if layout is None else json.dumps(layout.document, sort_keys=True)
