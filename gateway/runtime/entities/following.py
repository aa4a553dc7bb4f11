"""Sessions that follow an entity from world to world. Room: runtime."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from gateway.core.bundle import Burst
from gateway.core.closing import close_code
from gateway.core.entities import EntityPlace
from gateway.core.gate import check_current
from gateway.core.grants import Need
from gateway.core.ports import CloseCode, Hosted, Link, LiveOptions, Refusal, Sent
from gateway.errors import GatewayError, NotFound
from gateway.runtime.worlds import HostedWorlds
from gateway.wire import encode_control, encode_error
from gateway.wire.entities.values import Change, Filter, Removal

if TYPE_CHECKING:
    from gateway.runtime.entities.service import EntityService


class TokenLink:
    """A link as one of the sessions that follow each other on it sees it: tokens carry which one."""

    def __init__(self, link: Link, generation: int) -> None:
        self._link = link
        # A session counts its tokens far below 2**48, and an acknowledgement may come after the next
        # session has begun.
        self._high = generation << 48

    def __getattr__(self, name: str) -> Any:
        return getattr(self._link, name)

    def send(self, message: bytes, token: int) -> Sent:
        return self._link.send(message, self._high | token)

    def send_burst(self, burst: Burst, token: int) -> int | Refusal:
        return self._link.send_burst(burst, self._high | token)

    def mine(self, token: int) -> int | None:
        """The session's own token, or None for one of another session."""
        return token & ((1 << 48) - 1) if token >> 48 << 48 == self._high else None


class FollowSession:
    """A subscription that goes with an entity: ``moved``, then the new world's keyframe, on the same link."""

    def __init__(
        self, service: EntityService, worlds: HostedWorlds, world: str, options: LiveOptions, link: Link
    ) -> None:
        self._service = service
        self._worlds = worlds
        self._world = world
        self._options = options
        self._real_link = link
        self._link = TokenLink(link, 0)
        self._generation = 0
        self._inner: Hosted | None = None
        self._closed = False
        self.moves = 0

    async def start(self) -> None:
        """Attach to the world where the entity is now."""
        await self._attach()
        self.task = asyncio.get_running_loop().create_task(self._run())

    async def _attach(self) -> None:
        check_current(Need("sub", (self._world,)))
        host = await self._worlds.host(self._world)
        if not self._closed:
            link: Any = self._link
            self._inner = await host.open_session(self._options, link)

    async def _run(self) -> None:
        try:
            while not self._closed:
                world, moved_us = await self._next_world()
                await self._until_seen(moved_us)
                await self._go(world)
        except GatewayError as error:
            self._real_link.control(encode_error(error))
            self._real_link.close(close_code(error), error.message)

    async def _until_seen(self, moved_us: int) -> None:
        """Who sees the world as it was some time ago hears of a move so much later."""
        delay_s = self._options.delay_s
        if delay_s:
            await asyncio.sleep(max(0.0, min(delay_s, moved_us / 1e6 + delay_s - time.time())))

    async def _next_world(self) -> tuple[str, int]:
        """Where the entity goes from here, as soon as it has, and when it went (µs since 1970)."""
        place = EntityPlace("world", self._world)
        news = await self._service.watch(place, Filter(), None)
        looked = False
        async for item in news:
            # By what the feed says; and once by a look, since it may have moved before the watch began, or
            # within what a reset leaves out.
            to = _moved(item.changes, self._options.follow)
            if to is None and (item.reset or not looked):
                to, looked = await self._moved_already(place), True
            if to is not None:
                return to
        raise NotFound(f"nothing more is heard of world {self._world}")

    async def _moved_already(self, place: EntityPlace) -> tuple[str, int] | None:
        try:
            await self._service.get(place, self._options.follow or "")
        except NotFound as error:
            moved_to = error.facts.get("moved_to")
            return None if moved_to is None else (str(moved_to), int(error.facts.get("moved_at_us", 0)))
        return None

    async def _go(self, world: str) -> None:
        check_current(Need("sub", (world,)))  # before it is told where that is
        # None while the next world opens: what arrives meanwhile is for neither.
        inner, self._inner = self._inner, None
        if inner is not None:
            inner.on_closed(time.monotonic())
        self._world = world
        self._generation += 1
        self._link = TokenLink(self._real_link, self._generation)
        self.moves += 1
        if not self._closed:
            url = f"/v1/worlds/{world}/live"
            self._real_link.control(
                encode_control("moved", world=world, url=url, entity=self._options.follow)
            )
        await self._attach()

    # --- ports.Session, handed on -----------------------------------------------------------

    def bye(self, reason: str, code: CloseCode) -> None:
        """As :meth:`gateway.core.ports.Hosted.bye`."""
        self._real_link.control(encode_control("bye", reason=reason, reconnect_after_ms=0))
        self._real_link.close(code, reason)

    def on_message(self, data: bytes, mono: float) -> None:
        if self._inner is not None:
            self._inner.on_message(data, mono)

    def on_stream_data(self, stream_id: int, data: bytes, fin: bool, mono: float) -> None:
        if self._inner is not None:
            self._inner.on_stream_data(stream_id, data, fin, mono)

    def on_stream_reset(self, stream_id: int) -> None:
        if self._inner is not None:
            self._inner.on_stream_reset(stream_id)

    def on_acked(self, token: int, count: int = 1) -> None:
        own = self._link.mine(token)
        if self._inner is not None and own is not None:
            self._inner.on_acked(own, count)

    def on_lost(self, token: int) -> None:
        own = self._link.mine(token)
        if self._inner is not None and own is not None:
            self._inner.on_lost(own)

    def on_writable(self, mono: float) -> None:
        if self._inner is not None:
            self._inner.on_writable(mono)

    def on_closed(self, mono: float) -> None:
        self._closed = True
        self.task.cancel()
        if self._inner is not None:
            self._inner.on_closed(mono)


def _moved(changes: Sequence[Change], entity_id: str | None) -> tuple[str, int] | None:
    for change in changes:
        if isinstance(change, Removal) and change.id == entity_id and change.moved_to:
            return change.moved_to, change.time_us
    return None
