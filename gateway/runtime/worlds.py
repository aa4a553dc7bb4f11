"""All worlds of this gateway: opens them when asked for, closes the quiet ones. Room: runtime.

Implements :class:`gateway.core.ports.Worlds`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from gateway import limits
from gateway.config import Settings
from gateway.core.admission import Refusals
from gateway.core.events import Event, ignored
from gateway.core.ports import Link, LiveOptions, Session
from gateway.errors import BadInput, NotFound, Overloaded, ShuttingDown, UnknownWorld, Unprocessable
from gateway.runtime.homes import HomeCounts, holder_of
from gateway.runtime.host import WorldHost
from gateway.runtime.rounds import Rounds
from gateway.runtime.udp import UdpDoor
from gateway.runtime.uploads import from_first_frame
from gateway.store.base import GroupStore, Store
from gateway.store.world.commits import AtOnce, InGroups
from gateway.store.world.listing import WorldNames
from gateway.wire import world_name

OPTION_NAMES = ("stride", "retention", "ring_s")


class _Turn:
    """A lock, and how many hold it or wait for it: it may be forgotten when nobody does."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.users = 0


class Worlds:
    """The registry. ``udp`` is set where the plain UDP door is open; ``refusals`` counts what bounds refuse."""

    def __init__(
        self,
        store: Store,
        settings: Settings,
        on_event: Callable[[Event], None] = ignored,
        refusals: Refusals | None = None,
        port: int = 0,
    ) -> None:
        """``port``: where the gateway listens, UDP and TCP."""
        self.store = store
        self.settings = settings
        self._on_event = on_event
        self.refusals = Refusals() if refusals is None else refusals
        self.holder = holder_of(settings, store, port or settings.port)
        self.home_counts = HomeCounts()
        self.udp: UdpDoor | None = None
        self.hosts: dict[str, WorldHost] = {}
        self._names = WorldNames(store)
        self.draining = False
        self._turns: dict[str, _Turn] = {}
        self._room = asyncio.Lock()
        self._opening = 0
        blocking = store.blocking()
        loop = asyncio.get_running_loop()
        self.rounds = Rounds(AtOnce(blocking) if isinstance(blocking, GroupStore) else InGroups(store, loop))

    # -- opening and closing --------------------------------------------------------------

    async def host(self, name: str, *, create: Mapping[str, Any] | None = None) -> WorldHost:
        """The open world of that name. ``create``: its options if it may be made; else ``UnknownWorld``."""
        if self.draining:
            raise ShuttingDown("the gateway is stopping; connect again in a second", reconnect_after_ms=1_000)
        host = self.hosts.get(name)
        if host is None:
            host = await self._open(world_name(name), create)
        host.last_used = time.monotonic()
        return host

    async def _open(self, name: str, create: Mapping[str, Any] | None) -> WorldHost:
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
                    )
                    host.world.on_event = self._on_event
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

    def _options(self, create: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
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
                f"{len(self.hosts)} worlds are in use, which is the bound; raise --worlds-max or leave one"
            )
        await self._close(min(quiet, key=lambda host: host.last_used))

    async def _close(self, host: WorldHost) -> None:
        async with self._alone(host.name):
            if self.hosts.pop(host.name, None) is not None:
                await host.close(limits.DELETED_WORLDS_WAIT_S)

    # -- ports.Worlds ---------------------------------------------------------------------

    async def create(self, name: str, options: Mapping[str, Any]) -> tuple[Mapping[str, Any], bool]:
        wanted = checked_options(options, OPTION_NAMES)
        world_name(name)
        try:
            host, created = await self.host(name), False
        except UnknownWorld:
            host, created = await self.host(name, create=wanted), True
        info = await host.info()
        if "stride" in wanted and wanted["stride"] != info["stride"]:
            raise Unprocessable(
                f"world {name} exists with stride {info['stride']}; a stride of {wanted['stride']} needs another world"
            )
        return info, created

    async def info(self, name: str) -> Mapping[str, Any]:
        return await (await self.host(name)).info()

    async def list(self) -> list[Mapping[str, Any]]:
        return [self._short(name) for name in await self._names.all(self.hosts)]

    def _short(self, name: str) -> Mapping[str, Any]:
        host = self.hosts.get(name)
        return {"world": name, "open": False} if host is None else {**host.facts(), "open": True}

    async def patch(self, name: str, options: Mapping[str, Any]) -> Mapping[str, Any]:
        wanted = checked_options(options, ("retention", "ring_s"))
        if not wanted:
            raise BadInput('nothing to change; send {"retention": "ring" | "record"} or {"ring_s": seconds}')
        host = await self.host(name)
        await host.database.set_options(wanted)
        return await host.info()

    async def delete(self, name: str) -> None:
        host = await self.host(name)
        host.shut_down("world deleted", 0)
        await self._close(host)
        try:
            await self.store.delete_namespace(name)
        except NotFound:
            raise UnknownWorld(f"world {name} was deleted by another meanwhile") from None

    async def open_session(self, name: str, options: LiveOptions, link: Link) -> Session:
        host = await self.host(name, create={} if options.role == "publish" else None)
        return await host.open_session(options, link)

    async def post_frames(
        self, name: str, messages: AsyncIterator[bytes], *, durable: bool
    ) -> Mapping[str, Any]:
        frames = await from_first_frame(messages)
        return await (await self.host(name, create={})).post(frames, durable=durable)

    async def last_synced(self, name: str) -> Mapping[str, Any]:
        return await (await self.host(name)).last_synced()

    async def state_at(
        self, name: str, *, epoch: int | None = None, tick: int | None = None, at_us: int | None = None
    ) -> Mapping[str, Any]:
        return await (await self.host(name)).database.state_at(epoch=epoch, tick=tick, at_us=at_us)

    async def history(
        self, name: str, *, epoch: int | None, from_tick: int | None, to_tick: int | None
    ) -> AsyncIterator[bytes]:
        host = await self.host(name)
        return host.database.frames(epoch=epoch, from_tick=from_tick, to_tick=to_tick)

    async def udp_token(self, name: str) -> Mapping[str, Any]:
        if self.udp is None:
            raise NotFound("the plain UDP door is closed; start the gateway with --udp 127.0.0.1:4434")
        return await self.udp.register(await self.host(name, create={}))

    # -- the end --------------------------------------------------------------------------

    @property
    def sessions(self) -> int:
        """Publishers and readers attached, of all worlds."""
        worlds = [host.world for host in self.hosts.values()]
        return sum(len(world.subscribers) + (world.publisher is not None) for world in worlds)

    def shut_down(self, reason: str, reconnect_after_ms: int) -> None:
        """Refuse what is new and say ``bye`` to every session; the time after which they may come back
        is spread, so that they do not come all at once."""
        self.draining = True
        for host in self.hosts.values():
            host.shut_down(reason, reconnect_after_ms)

    async def aclose(self, timeout_s: float) -> bool:
        """Flush every journal (together within ``timeout_s``) and close every world. False: some
        frames were not taken by the store."""
        hosts, self.hosts = list(self.hosts.values()), {}
        ends = await asyncio.gather(*(host.close(timeout_s) for host in hosts), return_exceptions=True)
        if self.rounds is not None:
            self.rounds.close()
        return all(end is True for end in ends)


def checked_options(options: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    """A world's options as a client sent them. Raises :class:`Unprocessable` naming the key."""
    for name, value in options.items():
        if name not in names:
            raise Unprocessable(f"option {name[:64]!r} is unknown here; known are {', '.join(names)}")
        if name == "retention":
            if value not in ("ring", "record"):
                raise Unprocessable(f"retention {value!r:.64} is neither 'ring' nor 'record'")
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
    return dict(options)


_OPTION_MIN = {"stride": 0, "ring_s": 1}
_OPTION_MAX = {"stride": 65_535, "ring_s": limits.RING_S_MAX}
