"""All worlds of this gateway, as the doors ask for them. Room: runtime.

Implements :class:`gateway.core.ports.HostedWorlds`.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace

from gateway import limits
from gateway.client.address import Address
from gateway.core.admission import host_of, peer_of
from gateway.core.ports import Hosted, Link, LiveOptions
from gateway.core.told import Listed, Overview, Posted, RecordedState, UdpPlace
from gateway.errors import (
    BadInput,
    Conflict,
    NotFound,
    UnknownWorld,
    Unprocessable,
    WorldDeleted,
    WorldHeld,
)
from gateway.runtime.host import WorldHost
from gateway.runtime.openworlds import OpenWorlds
from gateway.runtime.patiently import Wanted, always, is_gone
from gateway.runtime.uploads import from_first_frame
from gateway.runtime.workers.together import joined_facts, joined_list
from gateway.runtime.worldoptions import OPTION_NAMES, checked_options
from gateway.wire import world_name

log = logging.getLogger("mvgateway.world")


class HostedWorlds(OpenWorlds):
    """What the doors ask for, of the worlds that are open here, and of all workers where there are some."""

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
        """The facts of all workers joined, if there are several."""
        told = await host.info()
        if self.siblings is None:
            return told
        others = await self.siblings.ask_all("worlds", world=host.name)
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

    async def give_up(self, name: str, options: LiveOptions, url: str, wanted: Wanted = always) -> None:
        """Stop being the home of that world, for a publisher that has come with ``options`` to the gateway at ``url`` ("": not
        known), where that is still ``wanted``. Raises :class:`WorldHeld` where this one is not it, ``PublisherPresent``, and what the store raises."""
        host = self.hosts.get(world_name(name))
        if host is None or not host.homing.held or self.draining:
            elsewhere = "" if host is None else host.homing.home.elsewhere
            raise WorldHeld.at(name, elsewhere, 0)
        await host.make_way(options, url, wanted)

    async def list(self, *, delay_s: float = 0.0) -> list[Listed]:
        own = [self._short(name, is_live=not delay_s) for name in await self.names.all(self.hosts)]
        if self.siblings is None or delay_s:
            return own
        homes = {name: host.homing.held for name, host in self.hosts.items()}
        others = await self.siblings.ask_all("worlds")
        return joined_list(own, homes, list(others.values()), self.holder.node)

    def _short(self, name: str, *, is_live: bool) -> Listed:
        host = self.hosts.get(name)
        if host is not None and not is_live:
            return Listed(name, True)
        if host is not None:
            return Listed(name, True, host.facts(), host.homing.home.url)
        return Listed(name, False, error=self.names.errors.get(name))

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
            if self.siblings is not None:
                await self.siblings.ask_all("changed", world=name)
            return await self._info(host)

        return await self.with_host(name, change)

    async def open_session(self, name: str, options: LiveOptions, link: Link) -> Hosted:
        create: Mapping[str, object] | None = {} if options.role == "publish" else None
        peer = peer_of(host_of(link.address))
        self.shares.check_world(peer, name)
        return await self.patiently.session(
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
            lambda host: host.recorded().state_at(
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
                host.recorded().frames(
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


async def _begun(messages: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The same, its first message read already: what is wrong with it shows before anything is answered."""
    # Once a status was sent nothing can be refused any more.
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
