"""The worlds that are open: opened when asked for, closed when quiet, let go of when deleted. Room: runtime."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TypeVar

from gateway import limits
from gateway.config import Settings
from gateway.core.admission import Refusals
from gateway.core.events import Event, ignored
from gateway.errors import (
    GatewayError,
    Overloaded,
    ShuttingDown,
    UnknownWorld,
    WorldDeleted,
)
from gateway.runtime.delayed import Counts
from gateway.runtime.edges.peers import Peers
from gateway.runtime.homes import HomeCounts, holder_of
from gateway.runtime.host import WorldHost
from gateway.runtime.keeping import Keeper, Kept
from gateway.runtime.patiently import Patiently
from gateway.runtime.rounds import Rounds
from gateway.runtime.shares import Shares
from gateway.runtime.udp import UdpDoor
from gateway.runtime.workers.siblings import Siblings
from gateway.store.base import GroupStore, Store
from gateway.store.world import retiring
from gateway.store.world.commits import AtOnce, InGroups
from gateway.store.world.listing import WorldNames
from gateway.wallclock import now_us
from gateway.wire import world_name

log = logging.getLogger("mvgateway.world")

T = TypeVar("T")
DELETED = "world deleted"


class _Turn:
    """A lock, and how many hold it or wait for it: it may be forgotten when nobody does."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.users = 0


class OpenWorlds:
    """The registry. ``udp`` is set where the plain UDP door is open; ``refusals`` counts what bounds refuse."""

    def __init__(
        self,
        store: Store,
        settings: Settings,
        on_event: Callable[[Event], None] = ignored,
        refusals: Refusals | None = None,
        port: int = 0,
        store_failure: Callable[[], str | None] = lambda: None,
        siblings: Siblings | None = None,
        ca: Path | None = None,
    ) -> None:
        """``port``: where the gateway listens, UDP and TCP. ``siblings``: the other workers, where there are some. ``ca``:
        of the gateway's own certificates, where it makes them itself."""
        self.store = store
        self.settings = settings
        self._on_event = on_event
        self.refusals = Refusals() if refusals is None else refusals
        self.shares = Shares(settings)
        self.holder = holder_of(settings, store, port or settings.port)
        self.siblings = siblings
        if siblings is not None:
            self.holder = siblings.worker.holder(self.holder.node)
        self.peers = Peers(settings, self.holder.node, ca) if Peers.wanted(settings) else None
        """The other gateways over the store, where worlds of theirs are served here."""
        self.home_counts = HomeCounts()
        self.delayed = Counts()
        """What the delayed views of all worlds do."""
        self.udp: UdpDoor | None = None
        self.hosts: dict[str, WorldHost] = {}
        self.names = WorldNames(store)
        self.kept: list[Callable[[], Iterable[Kept]]] = [lambda: self.hosts.values()]
        """What is open here under names of the store; other parts add theirs."""
        self.keeper = Keeper(store, lambda: chain.from_iterable([more() for more in self.kept]))
        self.on_gone: list[Callable[[WorldHost], None]] = []
        """Called with a world that was deleted, whoever did it."""
        self._going: dict[str, asyncio.Task[None]] = {}
        self.draining = False
        self._turns: dict[str, _Turn] = {}
        self._room = asyncio.Lock()
        self._opening = 0
        self.patiently = Patiently(settings.store, store_failure)
        blocking = store.blocking()
        loop = asyncio.get_running_loop()
        self.rounds = Rounds(AtOnce(blocking) if isinstance(blocking, GroupStore) else InGroups(store, loop))

    # -- opening and closing --------------------------------------------------------------

    async def host(
        self,
        name: str,
        *,
        create: Mapping[str, object] | None = None,
        patience_s: float = limits.WORLD_OPEN_S_MAX,
        by: str = "",
    ) -> WorldHost:
        """The open world of that name. ``create``: its options if it may be made, which counts for the peer ``by``;
        else ``UnknownWorld``.
        ``StoreUnavailable`` where the store is silent for ``patience_s``."""
        self.refuse_when_draining()
        host = self.hosts.get(name)
        if host is None:
            if create is not None:
                self.shares.check_made(by)
            # Who may make it and who may not do not share an answer: the one's error is the other's new world.
            key = (world_name(name), create is None)
            host = await self.patiently.shared(
                key, f"world {name}", lambda: self._open(name, create), patience_s
            )
        host.last_used = time.monotonic()
        return host

    def _saw(self, event: Event) -> None:
        self.shares.saw(event)
        self._on_event(event)

    def refuse_when_draining(self) -> None:
        """Raises :class:`ShuttingDown` once it stops."""
        if self.draining:
            raise ShuttingDown("the gateway is stopping; connect again in a second", reconnect_after_ms=1_000)

    async def _open(self, name: str, create: Mapping[str, object] | None) -> WorldHost:
        self.keeper.begin()
        if name in self._going:
            # wait() and not await: its end must not be cancelled with the one who waits for it.
            await asyncio.wait([self._going[name]])
        async with self._alone(name):
            host = self.hosts.get(name)
            if host is None:
                await self._take_room()
                try:
                    options = self._options(create)
                    host = await WorldHost.open(
                        self.store,
                        name,
                        self.settings,
                        create=options,
                        holder=self.holder,
                        counts=self.home_counts,
                        rounds=self.rounds,
                        refusals=self.refusals,
                        delayed=self.delayed,
                    )
                    host.follow_by(self.siblings, self.peers)
                    host.world.on_event = self._saw
                    host.on_gone = partial(self.gone, host)
                    host.pump.on_deleted = host.homing.on_deleted = self.gone_by
                    self.hosts[name] = host
                # In both cases: an open world is counted by `hosts` from here on.
                finally:
                    self._opening -= 1
            return host

    @asynccontextmanager
    async def _alone(self, name: str) -> AsyncIterator[None]:
        """While a world is opened or closed, nobody else does either."""
        turn = self._turns.setdefault(name, _Turn())
        turn.users += 1
        try:
            async with turn.lock:
                yield
        finally:
            turn.users -= 1
            if not turn.users:
                del self._turns[name]

    def _options(self, create: Mapping[str, object] | None) -> Mapping[str, object] | None:
        if create is None:
            return None
        return {"stride": 0, "retention": self.settings.retention, "ring_s": self.settings.ring_s, **create}

    async def _take_room(self) -> None:
        async with self._room:
            # Behind a lock, since making room waits: two at once would close two worlds for one place.
            if len(self.hosts) + self._opening >= self.settings.worlds_max:
                await self._make_room()
            # Counted from here on, since opening takes a while: or else many that open at once all find the last
            # place free.
            self._opening += 1

    async def _make_room(self) -> None:
        quiet = [host for host in self.hosts.values() if host.is_quiet]
        if not quiet:
            raise Overloaded(
                f"{len(self.hosts)} worlds are in use, which is the bound; raise --worlds-max or leave one",
                bound="--worlds-max",
                limit=self.settings.worlds_max,
            )
        await self._close(min(quiet, key=lambda host: host.last_used))

    async def _close(self, host: WorldHost) -> None:
        async with self._alone(host.name):
            if self.hosts.pop(host.name, None) is not None:
                await host.close(limits.DELETED_WORLDS_WAIT_S)

    # -- deleted meanwhile ----------------------------------------------------------------

    async def with_host(
        self,
        name: str,
        work: Callable[[WorldHost], Awaitable[T]],
        *,
        create: Mapping[str, object] | None = None,
        by: str = "",
    ) -> T:
        """``work`` with the open world of that name; where it turns out to be deleted, by another gateway,
        once more with what the name means now."""
        host = await self.host(name, create=create, by=by)
        try:
            return await work(host)
        except WorldDeleted as error:
            self.gone_by(error)
        # Once and no more: who deletes as fast as others make would keep this here for ever.
        return await work(await self.host(name, create=create))

    def gone_by(self, error: WorldDeleted) -> None:
        """Let go of the world whose database has raised this, if it is open."""
        for host in list(self.hosts.values()):
            if host.guard is error.source:
                self.gone(host)

    def gone(self, host: WorldHost) -> None:
        """It was deleted elsewhere: end its sessions, and let the next one who asks find what its name means."""
        if self.hosts.get(host.name) is not host:
            return
        self._forget(host)
        task = asyncio.get_running_loop().create_task(self._end(host))
        # Whoever opens the name meanwhile waits for it: the old world's end settles the catalogue.
        self._going[host.name] = task
        task.add_done_callback(lambda _: self._going.pop(host.name))

    def _forget(self, host: WorldHost) -> None:
        self.hosts.pop(host.name, None)
        host.is_gone = True
        # First of all: what still waits to be written would go to a database that is removed.
        host.pump.give_up(host.guard.gone())
        host.shut_down(DELETED, 0)
        for tell in self.on_gone:
            tell(host)

    async def _end(self, host: WorldHost) -> None:
        async with self._alone(host.name):
            await host.close(0.0)
            with suppress(GatewayError):  # the store is away: whoever opens it next finds out
                await asyncio.to_thread(retiring.settle, self.store.blocking(), host.identity, now_us())

    async def delete(self, name: str) -> None:
        """Delete the world, open or not. Raises ``UnknownWorld``, and what the store raises."""
        self.refuse_when_draining()
        self.keeper.begin()
        async with self._alone(world_name(name)):
            host = self.hosts.get(name)
            try:
                await asyncio.to_thread(retiring.delete_world, self.store.blocking(), name, now_us())
            except UnknownWorld:
                if host is not None:
                    self.gone(host)  # another was first
                raise
            if host is not None and self.hosts.get(name) is host:
                self._forget(host)
                await host.close(0.0)
        with suppress(GatewayError):  # its name is free; what is left can wait
            await self.keeper.reap()

    # -- the end --------------------------------------------------------------------------

    @property
    def sessions(self) -> int:
        """Publishers and readers attached, of all worlds."""
        attached = 0
        for host in self.hosts.values():
            attached += len(host.world.subscribers) + host.feeds.readers + (host.world.publisher is not None)
        return attached

    def shut_down(self, reason: str, reconnect_after_ms: int) -> None:
        """Refuse what is new and say ``bye`` to every session; the time after which they may come back
        is spread, so that they do not come all at once."""
        self.draining = True
        for host in self.hosts.values():
            host.shut_down(reason, reconnect_after_ms)

    async def aclose(self, timeout_s: float) -> bool:
        """Flush every journal (together within ``timeout_s``) and close every world. False: some
        frames were not taken by the store."""
        await self.keeper.stop()
        # Taken out first: nothing that closing wakes finds a world that is half closed.
        hosts, self.hosts = list(self.hosts.values()), {}
        await asyncio.gather(*self._going.values(), return_exceptions=True)
        ends = await asyncio.gather(*(host.close(timeout_s) for host in hosts), return_exceptions=True)
        if self.rounds is not None:
            self.rounds.close()
        return all(end is True for end in ends)
