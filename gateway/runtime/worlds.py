"""All worlds of this gateway: opens them when asked for, closes the quiet ones. Room: runtime.

Implements :class:`gateway.core.ports.HostedWorlds`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TypeVar

from gateway import limits
from gateway.client.address import Address
from gateway.config import Settings
from gateway.core.admission import Refusals, host_of, peer_of
from gateway.core.events import Event, ignored
from gateway.core.ports import Hosted, Link, LiveOptions
from gateway.core.told import Listed, Overview, Posted, RecordedState, UdpPlace
from gateway.errors import (
    BadInput,
    Conflict,
    GatewayError,
    NotFound,
    Overloaded,
    ShuttingDown,
    UnknownWorld,
    Unprocessable,
    WorldDeleted,
    WorldHeld,
)
from gateway.runtime.delayed import Counts
from gateway.runtime.edges.peers import Peers
from gateway.runtime.homes import HomeCounts, holder_of
from gateway.runtime.host import WorldHost
from gateway.runtime.keeping import Keeper, Kept
from gateway.runtime.patiently import Patiently, is_gone
from gateway.runtime.rounds import Rounds
from gateway.runtime.shares import Shares
from gateway.runtime.udp import UdpDoor
from gateway.runtime.uploads import from_first_frame
from gateway.runtime.workers.siblings import Siblings
from gateway.runtime.workers.together import joined_facts, joined_list
from gateway.store.base import GroupStore, Store
from gateway.store.world import retiring
from gateway.store.world.commits import AtOnce, InGroups
from gateway.store.world.listing import WorldNames
from gateway.wallclock import now_us
from gateway.wire import world_name
from gateway.wire.layouts import resolve

log = logging.getLogger("mvgateway.world")

T = TypeVar("T")
DELETED = "world deleted"
OPTION_NAMES = ("stride", "retention", "ring_s", "layout")


class _Turn:
    """A lock, and how many hold it or wait for it: it may be forgotten when nobody does."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.users = 0


class HostedWorlds:
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
        self._siblings = siblings
        if siblings is not None:
            self.holder = siblings.worker.holder(self.holder.node)
        self.peers = Peers(settings, self.holder.node, ca) if Peers.wanted(settings) else None
        """The other gateways over the store, where worlds of theirs are served here."""
        self.home_counts = HomeCounts()
        self.delayed = Counts()
        """What the delayed views of all worlds do."""
        self.udp: UdpDoor | None = None
        self.hosts: dict[str, WorldHost] = {}
        self._names = WorldNames(store)
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
        self._patiently = Patiently(settings.store, store_failure)
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
        self._refuse_when_draining()
        host = self.hosts.get(name)
        if host is None:
            if create is not None:
                self.shares.check_made(by)
            key = (world_name(name), create is None)
            host = await self._patiently.shared(
                key, f"world {name}", lambda: self._open(name, create), patience_s
            )
        host.last_used = time.monotonic()
        return host

    def _saw(self, event: Event) -> None:
        self.shares.saw(event)
        self._on_event(event)

    def _refuse_when_draining(self) -> None:
        if self.draining:
            raise ShuttingDown("the gateway is stopping; connect again in a second", reconnect_after_ms=1_000)

    async def _open(self, name: str, create: Mapping[str, object] | None) -> WorldHost:
        self.keeper.begin()
        if name in self._going:
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
                    host.follow_by(self._siblings, self.peers)
                    host.world.on_event = self._saw
                    host.on_gone = partial(self.gone, host)
                    host.pump.on_deleted = host.homing.on_deleted = self.gone_by
                    self.hosts[name] = host
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
            if len(self.hosts) + self._opening >= self.settings.worlds_max:
                await self._make_room()
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
        self._going[host.name] = task
        task.add_done_callback(lambda _: self._going.pop(host.name))

    def _forget(self, host: WorldHost) -> None:
        self.hosts.pop(host.name, None)
        host.is_gone = True
        host.pump.give_up(host.guard.gone())
        host.shut_down(DELETED, 0)
        for tell in self.on_gone:
            tell(host)

    async def _end(self, host: WorldHost) -> None:
        async with self._alone(host.name):
            await host.close(0.0)
            with suppress(GatewayError):  # the store is away: whoever opens it next finds out
                await asyncio.to_thread(retiring.settle, self.store.blocking(), host.identity, now_us())

    # -- ports.Worlds ---------------------------------------------------------------------

    async def create(
        self, name: str, options: Mapping[str, object], *, by: str = ""
    ) -> tuple[Overview, bool]:
        wanted = checked_options(options, OPTION_NAMES)
        world_name(name)
        try:
            info, created = await self.info(name), False
        except UnknownWorld:
            info, created = await self.with_host(name, lambda host: host.info(), create=wanted, by=by), True
        if "stride" in wanted and wanted["stride"] != info.facts.stride:
            raise Unprocessable(
                f"world {name} exists with stride {info.facts.stride}; a stride of {wanted['stride']} needs another world"
            )
        if "layout" in wanted and wanted["layout"] != info.layout:
            info = await self._change(name, {"layout": wanted["layout"]})
        return info, created

    async def info(self, name: str, *, delay_s: float = 0.0) -> Overview:
        if delay_s:
            return await self.with_host(name, lambda host: host.info_of_past(delay_s))
        return await self.with_host(name, self._info)

    async def _info(self, host: WorldHost) -> Overview:
        """Of all workers, where there are some."""
        told = await host.info()
        if self._siblings is None:
            return told
        others = await self._siblings.ask_all("worlds", world=host.name)
        facts = [other[host.name] for other in others.values() if host.name in other]
        return replace(told, facts=joined_facts(told.facts, host.homing.held, facts))

    async def home_of(self, name: str) -> int | None:
        """Which other worker is the home of that world. Raises what the store raises."""
        host = await self.host(name)
        return None if host.worker_edge is None else await host.worker_edge.number_of_home()

    async def peer_of_home(self, name: str) -> Address | None:
        """Where the home of that world is, if it is another gateway. Raises what the store raises."""
        host = await self.host(name)
        return None if host.peer_edge is None else await host.peer_edge.address_of_home()

    async def give_up(self, name: str, options: LiveOptions, url: str) -> None:
        """Be the home of that world no more, for a publisher that has come with ``options`` to the gateway at ``url`` ("": not
        known). Raises :class:`WorldHeld` where this one is not it, ``PublisherPresent``, and what the store raises."""
        host = self.hosts.get(world_name(name))
        if host is None or not host.homing.held or self.draining:
            elsewhere = "" if host is None else host.homing.home.elsewhere
            raise WorldHeld.at(name, elsewhere, 0)
        await host.make_way(options, url)

    async def list(self, *, delay_s: float = 0.0) -> list[Listed]:
        own = [self._short(name, is_live=not delay_s) for name in await self._names.all(self.hosts)]
        if self._siblings is None or delay_s:
            return own
        homes = {name: host.homing.held for name, host in self.hosts.items()}
        others = await self._siblings.ask_all("worlds")
        return joined_list(own, homes, list(others.values()), self.holder.node)

    def _short(self, name: str, *, is_live: bool) -> Listed:
        host = self.hosts.get(name)
        if host is not None and not is_live:
            return Listed(name, True)
        if host is not None:
            return Listed(name, True, host.facts(), host.homing.home.url)
        return Listed(name, False, error=self._names.errors.get(name))

    async def patch(self, name: str, options: Mapping[str, object]) -> Overview:
        wanted = checked_options(options, ("retention", "ring_s", "layout"))
        if not wanted:
            raise BadInput(
                'nothing to change; send {"retention": "ring" | "record"}, {"ring_s": seconds} or {"layout": {...}}'
            )
        return await self._change(name, wanted)

    async def _change(self, name: str, wanted: Mapping[str, object]) -> Overview:
        async def change(host: WorldHost) -> Overview:
            await host.database.set_options(wanted)
            if self._siblings is not None:
                await self._siblings.ask_all("changed", world=name)
            return await self._info(host)

        return await self.with_host(name, change)

    async def delete(self, name: str) -> None:
        self._refuse_when_draining()
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

    async def open_session(self, name: str, options: LiveOptions, link: Link) -> Hosted:
        create: Mapping[str, object] | None = {} if options.role == "publish" else None
        peer = peer_of(host_of(link.address))
        self.shares.check_world(peer, name)
        return await self._patiently.session(
            f"a session of world {name}",
            lambda wanted: self.with_host(
                name,
                lambda host: host.open_session(options, link, lambda: wanted() and not is_gone(link)),
                create=create,
                by=peer,
            ),
            limits.SESSION_OPEN_S_MAX,
        )

    async def post_frames(
        self, name: str, messages: AsyncIterator[bytes], *, durable: bool, by: str = ""
    ) -> Posted:
        self.shares.check_world(by, name)
        frames = await from_first_frame(messages)
        begun: list[bytes] = []

        async def noted() -> AsyncIterator[bytes]:
            async for message in frames:
                begun[:] = [message]
                yield message

        async def post(host: WorldHost) -> Posted:
            try:
                return await host.post(noted(), durable=durable, by=by)
            except WorldDeleted as error:
                if begun:  # the frames are gone: only their sender has them
                    self.gone_by(error)
                    raise Conflict(error.message) from None
                raise

        return await self.with_host(name, post, create={}, by=by)

    async def last_synced(self, name: str, *, delay_s: float = 0.0) -> RecordedState:
        if delay_s:
            return await self.with_host(name, lambda host: host.database.last(host.until_us(delay_s)))
        return await self.with_host(name, lambda host: host.last_synced())

    async def state_at(
        self,
        name: str,
        *,
        epoch: int | None = None,
        tick: int | None = None,
        at_us: int | None = None,
        delay_s: float = 0.0,
    ) -> RecordedState:
        return await self.with_host(
            name,
            lambda host: host.database.state_at(
                epoch=epoch, tick=tick, at_us=at_us, until_us=host.until_us(delay_s)
            ),
        )

    async def history(
        self,
        name: str,
        *,
        epoch: int | None,
        from_tick: int | None,
        to_tick: int | None,
        rows: bool = False,
        delay_s: float = 0.0,
    ) -> AsyncIterator[bytes]:
        return await self.with_host(
            name,
            lambda host: _begun(
                host.database.frames(
                    epoch=epoch,
                    from_tick=from_tick,
                    to_tick=to_tick,
                    rows=rows,
                    until_us=host.until_us(delay_s),
                )
            ),
        )

    async def udp_token(self, name: str, *, by: str = "") -> UdpPlace:
        udp = self.udp
        if udp is None:
            raise NotFound("the plain UDP door is closed; start the gateway with --udp 127.0.0.1:4434")
        self.shares.check_world(by, name)
        return await self.with_host(name, lambda host: udp.register(host, by), create={}, by=by)

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
        hosts, self.hosts = list(self.hosts.values()), {}
        await asyncio.gather(*self._going.values(), return_exceptions=True)
        ends = await asyncio.gather(*(host.close(timeout_s) for host in hosts), return_exceptions=True)
        if self.rounds is not None:
            self.rounds.close()
        return all(end is True for end in ends)


async def _begun(messages: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The same, its first message read already: what is wrong with it shows before anything is answered."""
    first = [message async for message in _at_most_one(messages)]

    async def whole() -> AsyncIterator[bytes]:
        for message in first:
            yield message
        async for message in messages:
            yield message

    return whole()


async def _at_most_one(messages: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    async for message in messages:
        yield message
        return


def checked_options(options: Mapping[str, object], names: tuple[str, ...]) -> dict[str, object]:
    """A world's options as a client sent them, a layout read. Raises :class:`Unprocessable` naming the key."""
    checked = dict(options)
    for name, value in options.items():
        if name not in names:
            raise Unprocessable(f"option {name[:64]!r} is unknown here; known are {', '.join(names)}")
        if name == "retention":
            if value not in ("ring", "record"):
                raise Unprocessable(f"retention {value!r:.64} is neither 'ring' nor 'record'")
        elif name == "layout":
            checked[name] = None if value is None else resolve(value)
        elif (
            not isinstance(value, int)
            or isinstance(value, bool)
            or not _OPTION_MIN[name] <= value <= _OPTION_MAX[name]
        ):
            raise Unprocessable(
                f"{name} {value!r:.64} is not a whole number from {_OPTION_MIN[name]} to {_OPTION_MAX[name]}"
                + ("; to keep more, say retention 'record'" if name == "ring_s" else "")
            )
    if options.get("stride") in (1, 2, 3):
        raise Unprocessable(
            "a stride below 4 has no room for the record's key; 0 means that records carry lengths"
        )
    return checked


_OPTION_MIN = {"stride": 0, "ring_s": 1}
_OPTION_MAX = {"stride": 65_535, "ring_s": limits.RING_S_MAX}
