"""A world whose home is another worker, served here: its readers by following the home as one reader does, its publishers by
handing on what they say. Room: runtime.

The home's frames go into the same rules as a publisher's do (:class:`gateway.core.world.World`), so that budgets, focus,
repairs and keyframes are this worker's own affair; nothing goes into the journal, which is the home's alone.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, TypedDict

from gateway.core.ports import Hosted, Link, LiveOptions, Mark
from gateway.core.told import Posted
from gateway.errors import GatewayError, WorldHeld
from gateway.limits import EDGE_BEGIN_S, EDGE_IDLE_S, EDGE_SEEK_S, EDGE_TRIES, HOME_POLL_S
from gateway.runtime.edges.several import Source
from gateway.runtime.patiently import Wanted, check_wanted
from gateway.runtime.workers.channel import Channel, Kind, SiblingGone
from gateway.runtime.workers.siblings import Siblings, gone, settle
from gateway.runtime.workers.tunnel import open_tunnel
from gateway.store.world import home
from gateway.wire import Frame, decode_message

if TYPE_CHECKING:
    from gateway.runtime.host import WorldHost

log = logging.getLogger("mvgateway.edge")


class _Begun(TypedDict):
    """What a home answers to whoever follows it. ``durable``: epoch and tick, which JSON makes a list of."""

    epoch: int
    durable: tuple[int, int] | None
    records: int


class WorkerEdge:
    """One open world's, where there are workers. Made with its host, ended by :meth:`stop`."""

    def __init__(self, host: WorldHost, siblings: Siblings) -> None:
        self._host = host
        self._siblings = siblings
        self._beginning = asyncio.Lock()
        self._channel: Channel | None = None
        self._synced: asyncio.Future[None] | None = None
        self._keyframe_parts: set[int] = set()
        self._wanted_at = time.monotonic()
        self._seeking: asyncio.Task[None] | None = None
        self._stopped = False
        self.home = -1
        """The worker that is followed; -1: none."""

    @property
    def is_following(self) -> bool:
        """Whether the world's state here is the home's, frame by frame."""
        return self._channel is not None

    @property
    def source(self) -> Source | None:
        return Source(True, 0, (), 0) if self.is_following else None

    def keeps_readers(self) -> bool:
        return self._host.homing.home.is_of_the_group

    async def number_of_home(self) -> int | None:
        """Which other worker is the world's home now. Raises what the store raises."""
        if self._host.homing.home.held:
            return None
        row = (await self._host.homing.home.look()).row
        if row is None or home.is_free(row, self._host.identity.key):
            return None
        return self._siblings.worker.number_of(row.holder)

    # -- readers --------------------------------------------------------------------------

    async def admit(self) -> bool:
        """Whether the home is followed on return. False: no other worker is it. Raises what the store raises."""
        self._wanted_at = time.monotonic()
        if self.is_following:
            return True
        async with self._beginning:
            for _ in range(EDGE_TRIES):
                if self.is_following:
                    return True
                number = await self.number_of_home()
                if number is None or self._stopped:
                    return False
                try:
                    await self._follow(number)
                    return True
                except TimeoutError:
                    return False  # it is stopped, or very late: its lease decides
                except (SiblingGone, WorldHeld) as error:
                    log.debug("world %s: worker %d is not followed: %s", self._host.name, number, error)
                    await asyncio.sleep(HOME_POLL_S)
        return False

    async def _follow(self, number: int) -> None:
        """Raises :class:`SiblingGone`, ``WorldHeld`` where it is not the home, and ``TimeoutError``."""
        begun: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        synced = self._synced = asyncio.get_running_loop().create_future()
        self._keyframe_parts = set()

        def on_frame(channel: Channel, kind: int, data: bytes) -> None:
            if kind in (Kind.ANSWER, Kind.FAILED):
                settle(begun, kind, data)
                if kind == Kind.ANSWER:
                    self._begun(channel, number, json.loads(data))
            elif channel is self._channel:
                self._take(channel, kind, data)

        channel = await self._siblings.connect(number, "follow", on_frame, world=self._host.name)
        channel.on_lost = lambda: gone(begun, number)
        try:
            async with asyncio.timeout(EDGE_BEGIN_S):
                await begun
                # shield(): the timeout cancels what is awaited, and this future is set by others later.
                await asyncio.shield(synced)
        except BaseException:
            channel.close()
            self._over(channel)
            raise

    def _begun(self, channel: Channel, number: int, told: _Begun) -> None:
        """From here on the state is the home's."""
        world = self._host.world
        self._channel, self.home = channel, number
        channel.on_lost = lambda: self._lost(channel)
        world.begin_fed(time.monotonic())
        world.last_epoch = max(world.last_epoch, int(told["epoch"]))
        self._mark(told["durable"])
        if not told["records"]:
            self._is_synced()
        log.debug("world %s: follows worker %d", self._host.name, number)

    def _is_synced(self) -> None:
        if self._synced is not None and not self._synced.done():
            self._synced.set_result(None)

    def _take(self, channel: Channel, kind: int, data: bytes) -> None:
        if kind == Kind.MESSAGE:
            try:
                self._ingest(channel, data)
            except GatewayError as error:
                log.warning("world %s: its home said what cannot be taken: %s", self._host.name, error)
                channel.abort()
        elif kind == Kind.DURABLE:
            self._mark(json.loads(data))
        elif kind == Kind.CLOSE:
            self._over(channel, json.loads(data).get("known"))
            channel.close()

    def _ingest(self, channel: Channel, data: bytes) -> None:
        what = decode_message(data)
        if not isinstance(what, Frame):
            return
        self._host.world.ingest(what, data, what.epoch, time.monotonic(), channel.after_input)
        if what.keyframe and self._synced is not None and not self._synced.done():
            self._keyframe_parts.add(what.part)
            # A set, since a part may come again.
            if len(self._keyframe_parts) >= what.parts:
                # After all that came with it, which is offered to readers together.
                channel.after_input(self._is_synced)

    def _mark(self, told: tuple[int, int] | None) -> None:
        self._host.world.journal.durable = None if told is None else Mark(*told)

    def _lost(self, channel: Channel) -> None:
        self._over(channel)

    def _over(self, channel: Channel, known: tuple[int, int] | None = None) -> None:
        """The followed worker has stopped being the home, or cannot be reached. ``known``: what it left in the store, if it told."""
        if channel is not self._channel:
            return
        self._channel, self.home = None, -1
        if self._synced is not None and not self._synced.done():
            self._synced.set_exception(SiblingGone("the world's home has ended"))
            # Looked at, or asyncio logs an exception that was never retrieved where nobody waits any more.
            self._synced.exception()
        self._host.homing.fed_until(None if known is None else (known[0], known[1]))
        if self._host.world.subscribers and not self._stopped:
            self.seek()

    def seek(self) -> None:
        """Look for the next home for a while: readers wait for it."""
        if self._seeking is None or self._seeking.done():
            self._seeking = asyncio.get_running_loop().create_task(self._seek())

    async def _seek(self) -> None:
        until = time.monotonic() + EDGE_SEEK_S
        while time.monotonic() < until and self._host.world.subscribers and not self._stopped:
            try:
                if self._host.homing.home.held or await self.admit():
                    return
                await self._host.homing.refresh()
            except GatewayError as error:
                log.debug("world %s: no word of its home: %s", self._host.name, error.message)
            await asyncio.sleep(HOME_POLL_S)

    async def look(self) -> bool:
        """As time goes by: whether a home is followed, or sought, for the readers there are."""
        if self._host.world.subscribers:
            return await self.admit()
        if self.is_following and time.monotonic() - self._wanted_at > EDGE_IDLE_S:
            self.leave()
        return False

    def leave(self) -> None:
        """Follow nobody: this worker is to be the home, or has no readers."""
        channel = self._channel
        if channel is not None:
            self._over(channel)
            channel.close()

    def stop(self) -> None:
        """The world is closed here. Idempotent."""
        self._stopped = True
        if self._seeking is not None:
            self._seeking.cancel()
        self.leave()

    # -- publishers -----------------------------------------------------------------------

    async def publish(self, options: LiveOptions, link: Link, wanted: Wanted) -> Hosted | None:
        """A publisher's session at the home; None: no other worker is it. Raises what the home says, and the store."""
        for _ in range(EDGE_TRIES):
            number = await self.number_of_home()
            if number is None:
                return None
            check_wanted(self._host.name, wanted)
            try:
                return await open_tunnel(self._siblings, number, self._host.name, options, link)
            except (SiblingGone, WorldHeld) as error:
                log.debug("world %s: worker %d takes no publisher: %s", self._host.name, number, error)
                await asyncio.sleep(HOME_POLL_S)
        return None

    async def post(self, messages: AsyncIterator[bytes], *, durable: bool, by: str) -> Posted | None:
        """A POST's messages taken by the home; None: no other worker is it. Raises what the home says, and the store."""
        number = await self.number_of_home()
        if number is None:
            return None
        begun: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        done: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()

        def on_frame(channel: Channel, kind: int, data: bytes) -> None:
            if begun.done():
                settle(done, Kind.ANSWER if kind == Kind.END else kind, data)
            else:
                settle(begun, kind, data)

        channel = await self._siblings.connect(
            number, "post", on_frame, world=self._host.name, durable=durable, by=by
        )

        def on_lost() -> None:
            gone(begun, number)
            gone(done, number)

        channel.on_lost = on_lost
        try:
            await begun
            async for message in messages:
                if done.done():
                    break
                channel.write(Kind.MESSAGE, message)
                await channel.drain()
            channel.write(Kind.END)
            told = await done
        except WorldHeld:
            return None  # it has moved just now
        finally:
            done.cancel()
            channel.close()
        durable_mark = told.get("durable")
        return Posted(
            int(told["epoch"]),
            int(told["tick"]),
            int(told["frames"]),
            None if durable_mark is None else Mark(**durable_mark),
            None if "dropped" not in told else [(low, high) for low, high in told["dropped"]],
        )

    async def have_it_given_up(self) -> bool:
        """Ask the home to give the world up, so that this worker may take it. False: no other worker has it, or it does not answer. Raises
        ``PublisherPresent`` where somebody publishes there."""
        number = await self.number_of_home()
        if number is None:
            return False
        try:
            await self._siblings.ask(number, "give_up", world=self._host.name)
        except SiblingGone:
            return False
        return True
