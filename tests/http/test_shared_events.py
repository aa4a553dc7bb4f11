"""Server-sent events with values: made once for all who read the same message by the same layout."""

from __future__ import annotations

import asyncio
import json

from gateway.http.events import Reading, SharedEvents
from gateway.wire import Frame, Record, encode_frame
from gateway.wire.layouts import Layout, resolve
from gateway.wire.xrgrid import EntityPacket


def packet(key: int) -> bytes:
    return EntityPacket(key, (0, 0, 0), (0, 0, 0), 0, 0, 0, (0, 0, 0), b"somebody").encode()


def frame(tick: int) -> bytes:
    return encode_frame(Frame(1, tick, [Record(1, packet(1))]))


async def reading(shared: SharedEvents, layout: str) -> Reading:
    async def layout_of(world: str) -> Layout | None:
        return resolve(layout)

    made = Reading("arena", layout_of, shared)
    await made.begin()
    return made


async def test_readers_of_one_layout_get_one_event_between_them_and_those_of_another_their_own() -> None:
    shared, message = SharedEvents(), frame(1)
    one, other, odd = [await reading(shared, layout) for layout in ("avatars", "avatars", "xrgrid")]
    try:
        first, second, third = await asyncio.gather(*(each.event(message) for each in (one, other, odd)))
        assert first is second
        assert await other.event(message) is first
        assert json.loads(first.split(b"data: ")[1])["values"]["1"]["player"] == "somebody"
        assert "player" not in json.loads(third.split(b"data: ")[1])["values"]["1"]
    finally:
        for each in (one, other, odd):
            each.end()


async def test_who_leaves_while_an_event_is_made_does_not_take_it_from_the_others() -> None:
    shared, message = SharedEvents(), frame(1)
    one, other = await reading(shared, "avatars"), await reading(shared, "avatars")
    try:
        leaving, staying = (asyncio.ensure_future(each.event(message)) for each in (one, other))
        await asyncio.sleep(0)
        leaving.cancel()
        assert (await staying).startswith(b"event: frame")
    finally:
        one.end()
        other.end()


async def test_what_is_kept_of_them_is_bounded_in_bytes_and_the_oldest_go_first() -> None:
    least = SharedEvents(bytes_max=5_000)
    each = await reading(least, "avatars")
    try:
        newest = b""
        for tick in range(1, 50):
            newest = await each.event(frame(tick))
            assert least.held_bytes <= 5_000
        assert await each.event(frame(49)) is newest
        assert least.held_bytes > 0
    finally:
        each.end()
