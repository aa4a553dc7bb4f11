"""Where a session request ends up, whatever transport it came by. Room: runtime.

Implements :class:`gateway.core.ports.Doors`. Other rooms add their paths by :meth:`Doors.add`.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping

from gateway.core.admission import Refusals
from gateway.core.options import parse_live_query
from gateway.core.origins import Origins
from gateway.core.ports import Link, LiveOptions, Session
from gateway.errors import GatewayError, NotFound
from gateway.runtime.events import EventLog
from gateway.runtime.worlds import Worlds
from gateway.wire import world_name

Opener = Callable[[str, str, Mapping[str, str], Link], Awaitable[Session]]
"""``(world, query, headers, link) -> Session``."""

Follower = Callable[[str, LiveOptions, Link], Awaitable[Session]]
"""``(world, options, link) -> Session``."""


class Doors:
    """Session paths of the form ``/v1/worlds/{world}/SUFFIX``.

    ``origins``: which web pages may open WebTransport sessions, None for all; requests over HTTP
    have passed the same rule before they come here. ``events``: where refusals are written down.
    """

    def __init__(
        self,
        worlds: Worlds,
        origins: Origins | None = None,
        refusals: Refusals | None = None,
        events: EventLog | None = None,
    ) -> None:
        self._worlds = worlds
        self._origins = origins
        self._refusals = Refusals() if refusals is None else refusals
        self._events = events
        self._openers: dict[str, Opener] = {"live": self._live}
        self.follow: Follower | None = None
        """Opens a subscription with ``follow=ENTITY``; None: it stays in its world."""

    def add(self, suffix: str, opener: Opener) -> None:
        """Open sessions at ``/v1/worlds/{world}/SUFFIX`` by ``opener``."""
        self._openers[suffix] = opener

    async def open_at(self, path: str, query: str, headers: Mapping[str, str], link: Link) -> Session:
        try:
            return await self._open_at(path, query, headers, link)
        except GatewayError as error:
            self._refusals.note(error)
            if self._events is not None:
                self._events.note("session refused", path=path[:128], transport=link.transport,
                                  address=link.address, code=error.code, why=error.message)  # fmt: skip
            raise

    async def _open_at(self, path: str, query: str, headers: Mapping[str, str], link: Link) -> Session:
        if self._origins is not None and link.transport == "webtransport":
            self._origins.check("https", headers.get("host", ""), headers.get("origin"))
            self._origins.check_fetch(headers, headers.get("origin"), page=False)
        match = re.fullmatch(r"/v1/worlds/([^/]+)/(.+)", path)
        opener = self._openers.get(match[2]) if match else None
        if match is None or opener is None:
            raise NotFound(f"no session is served at {path[:128]}; sessions are at /v1/worlds/WORLD/live")
        return await opener(world_name(match[1]), query, headers, link)

    async def _live(self, world: str, query: str, headers: Mapping[str, str], link: Link) -> Session:
        options = parse_live_query(query)
        if options.follow is not None and options.role == "subscribe" and self.follow is not None:
            return await self.follow(world, options, link)
        return await self._worlds.open_session(world, options, link)
