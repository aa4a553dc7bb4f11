"""Where a session request ends up, whatever transport it came by. Room: runtime.

Implements :class:`gateway.core.ports.HostedDoors`. Other rooms add their paths by :meth:`HostedDoors.add`.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import cast

from gateway.core.admission import Refusals, host_of, peer_of
from gateway.core.gate import Asked, Gate, Standing, credentials_of, current, within_grant
from gateway.core.options import parse_live_query
from gateway.core.origins import Origins
from gateway.core.ports import Hosted, Link, LiveOptions
from gateway.errors import GatewayError, NotFound
from gateway.runtime.access.pacing import PacedLink
from gateway.runtime.access.sessions import AwaitedSession, GrantedSession, renews
from gateway.runtime.events import EventLog
from gateway.runtime.worlds import HostedWorlds
from gateway.wire import world_name

Opener = Callable[[str, str, Mapping[str, str], Link], Awaitable[Hosted]]
"""``(world, query, headers, link) -> Hosted``."""

Follower = Callable[[str, LiveOptions, Link], Awaitable[Hosted]]
"""``(world, options, link) -> Hosted``."""


class HostedDoors:
    """Hosted paths of the form ``/v1/worlds/{world}/SUFFIX``.

    ``origins``: which web pages may open WebTransport sessions, None for all; requests over HTTP
    have passed the same rule before they come here. ``events``: where refusals are written down.
    ``gate``: who may open what, None: everybody everything; streams over HTTP bring their standing along.
    """

    def __init__(
        self,
        worlds: HostedWorlds,
        origins: Origins | None = None,
        refusals: Refusals | None = None,
        events: EventLog | None = None,
        gate: Gate | None = None,
    ) -> None:
        self._worlds = worlds
        self._origins = origins
        self._refusals = Refusals() if refusals is None else refusals
        self._events = events
        self._gate = gate
        self._openers: dict[str, Opener] = {"live": self._live}
        self.follow: Follower | None = None
        """Opens a subscription with ``follow=ENTITY``; None: it stays in its world."""

    def add(self, suffix: str, opener: Opener) -> None:
        """Open sessions at ``/v1/worlds/{world}/SUFFIX`` by ``opener``."""
        self._openers[suffix] = opener

    async def open_at(self, path: str, query: str, headers: Mapping[str, str], link: Link) -> Hosted:
        with self._noted(path, link):
            self._check_origin(headers, link)
            if self._gate is None:
                return await self._open(path, credentials_of((), query)[1], headers, link)
            return await self._open_granted(self._gate, path, query, headers, link)

    @contextmanager
    def _noted(self, path: str, link: Link) -> Iterator[None]:
        """Write a refusal down, and count it."""
        try:
            yield
        except GatewayError as error:
            self._refusals.note(error)
            if self._events is not None:
                bound = {"bound": error.facts["bound"]} if "bound" in error.facts else {}
                self._events.note("session refused", path=path[:128], transport=link.transport, address=link.address,
                                  code=error.code, why=error.message, **bound)  # fmt: skip
            raise

    def _check_origin(self, headers: Mapping[str, str], link: Link) -> None:
        if self._origins is not None and link.transport == "webtransport":
            self._origins.check("https", headers.get("host", ""), headers.get("origin"))
            self._origins.check_fetch(headers, headers.get("origin"), page=False)

    # -- who may --------------------------------------------------------------------------

    async def _open_granted(
        self, gate: Gate, path: str, query: str, headers: Mapping[str, str], link: Link
    ) -> Hosted:
        standing = link.standing
        peer = peer_of(host_of(link.address))
        if standing is None:
            token, query = credentials_of(headers.items(), query)
            certificate = link.certificate

            def admit(token: str | None) -> Standing:
                found = gate.admit(Asked("GET", path, query, peer, token, certificate))
                if found is None:
                    raise self._nothing_at(path)
                return found

            # A web page can set no headers on either: its token comes as the first message. A stream over
            # HTTP has headers, and is refused at once.
            if token is None and certificate is None and link.transport in ("webtransport", "websocket"):
                return AwaitedSession(
                    link, admit, partial(self._open_late, gate, path, query, headers, link, peer)
                )
            standing = admit(token)
        return await self._open_under(standing, gate, path, query, headers, link, peer)

    async def _open_late(
        self,
        gate: Gate,
        path: str,
        query: str,
        headers: Mapping[str, str],
        link: Link,
        peer: str,
        standing: Standing,
    ) -> Hosted:
        with self._noted(path, link):
            return await self._open_under(standing, gate, path, query, headers, link, peer)

    async def _open_under(
        self,
        standing: Standing,
        gate: Gate,
        path: str,
        query: str,
        headers: Mapping[str, str],
        link: Link,
        peer: str,
    ) -> Hosted:
        """Open it in the name of that standing, which is over with it."""
        # A context variable: what is opened below, however deep, asks for the grant without being given it.
        before = current.set(standing)
        try:
            # Before it opens: a renewal may come with the first message.
            link.on_token = renews(gate, standing, link, peer)
            inner = await self._open(path, standing.seen(query), headers, _paced(link, standing, path))
        except BaseException:
            standing.over()
            link.on_token = None
            raise
        finally:
            current.reset(before)
        return GrantedSession(inner, link, standing)

    # -- what there is --------------------------------------------------------------------

    async def _open(self, path: str, query: str, headers: Mapping[str, str], link: Link) -> Hosted:
        match = re.fullmatch(r"/v1/worlds/([^/]+)/(.+)", path)
        opener = self._openers.get(match[2]) if match else None
        if match is None or opener is None:
            raise self._nothing_at(path)
        return await opener(world_name(match[1]), query, headers, link)

    @staticmethod
    def _nothing_at(path: str) -> NotFound:
        return NotFound(f"no session is served at {path[:128]}; sessions are at /v1/worlds/WORLD/live")

    async def _live(self, world: str, query: str, headers: Mapping[str, str], link: Link) -> Hosted:
        if self._worlds.peers is not None:
            self._worlds.peers.note_asked(headers)
        options = within_grant(parse_live_query(query))
        if options.follow is not None and options.role == "subscribe" and self.follow is not None:
            return await self.follow(world, options, link)
        return await self._worlds.open_session(world, options, link)


def _paced(link: Link, standing: Standing, path: str) -> Link:
    """For sessions that have no budget of their own. A grant without ``kbps`` has none after a renewal either."""
    # A live session takes the grant's rate into its own budget (within_grant()): paced here too it would
    # queue what is old by the time it goes.
    if standing.grant.kbps is None or not path.endswith(("/replay", "/entities/live")):
        return link
    return cast(Link, PacedLink(link, lambda: standing.grant.kbps))
