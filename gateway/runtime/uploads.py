"""Frames that come as the body of a request: taken as fast as the journal takes them. Room: runtime.

A session is the game, and never waits; a body is an upload. What the journal has no room for waits, and
with it the reading of the body, so that the transport's flow control reaches the sender.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from gateway.core.ports import Mark
from gateway.core.told import Posted
from gateway.errors import BadInput, StoreUnavailable
from gateway.http.worldjson import down_json
from gateway.wire import TYPE_FRAME, Frame, decode_message
from gateway.wire.journal import order_of

if TYPE_CHECKING:
    from gateway.runtime.host import WorldHost
    from gateway.runtime.local import LocalPublisher

_TICK = slice(12, 16)
"""Of a frame message's header (``docs/FRAMES.md``): little-endian."""


async def from_first_frame(messages: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The messages from the first frame on, once that has come whole. So a body without one opens no
    world and takes no publisher's role. Raises :class:`BadInput`."""
    async for message in messages:
        if isinstance(decode_message(message), Frame):
            return _with(message, messages)
    raise BadInput(
        "the body holds no frame; send at least one frame message after its u32 length (little-endian), "
        "as docs/FRAMES.md has it"
    )


async def _with(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for message in rest:
        yield message


class Upload:
    """One body, given message by message to the publisher behind it."""

    def __init__(self, host: WorldHost, poster: LocalPublisher, *, durable: bool, patience_s: float) -> None:
        self._host = host
        self._poster = poster
        self._durable = durable
        self._patience_s = patience_s
        self._waits = durable or host.database.world.info.retention.mode == "record"
        """In a ring that nobody waits for, a store that is away stops no publisher."""
        self._first_order: int | None = None
        self._last: bytes | None = None
        self.frames = 0

    async def receive(self, messages: AsyncIterator[bytes]) -> Posted:
        """Take them all; the answer of the request. Raises :class:`StoreUnavailable`, naming how far the
        store is, where it did not take more for ``patience_s``; ``WorldHeld`` where another gateway took the
        world over meanwhile."""
        with self._poster.in_use():
            async for message in messages:
                await self._take(message)
        state = self._host.world.state
        # Of the world and not of the body: an older tick than the newest is durable with it.
        mark = Mark(state.epoch, state.tick)
        if self._durable:
            await self._until_durable(mark)
        return Posted(mark.epoch, mark.tick, self.frames, *self._down())

    async def _take(self, message: bytes) -> None:
        world = self._host.world
        if self._waits and not world.journal.has_room(len(message)):
            size = len(message)
            if not await self._host.pump.awaiting.until(
                lambda: world.journal.has_room(size), self._patience_s
            ):
                raise self._too_slow(
                    "what was sent before it is kept, and this and all after it was not taken"
                )
        self._poster.receive(message)
        # By the tick's bytes, without decoding: parts of one frame come one after the other, and count
        # once.
        if message[0] == TYPE_FRAME and message[_TICK] != self._last:
            self._last = message[_TICK]
            self.frames += 1
            if self._first_order is None:
                self._first_order = order_of(self._poster.epoch, int.from_bytes(self._last, "little"))

    async def _until_durable(self, mark: Mark) -> None:
        self._host.homing.check()
        if not await self._host.pump.until_mark(mark, self._patience_s):
            raise self._too_slow("all was taken, and is written as soon as it answers")
        assert self._first_order is not None
        # The mark passes over what was let go: durable up to there does not say that all of it is.
        if self._host.world.journal.dropped_upto >= self._first_order:
            raise self._too_slow("some of it was dropped: GET …/gaps names the ticks; send them again")

    def _too_slow(self, kept: str) -> StoreUnavailable:
        done = self._host.world.journal.durable
        reached = (
            "nothing is in it yet"
            if done is None
            else f"tick {done.tick} of epoch {done.epoch} is the last in it"
        )
        why = f" ({self._host.pump.failure})" if self._host.pump.failure else ""
        return StoreUnavailable(
            f"world {self._host.name}: the store took nothing more for {self._patience_s:g} s{why}; {reached}; {kept}",
            **down_json(*self._down()),
        )

    def _down(self) -> tuple[Mark | None, list[tuple[int, int]] | None]:
        """How far the store is, and which ticks of that epoch it will never have."""
        journal = self._host.world.journal
        done = journal.durable
        if not journal.let_go or done is None:
            return done, None
        return done, [(gap.from_tick, gap.to_tick) for gap in journal.let_go if gap.epoch == done.epoch]
