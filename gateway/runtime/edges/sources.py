"""Telling other gateways, which follow a world here as readers do, whose frames they get. Room: runtime.

They ask by the control message ``edge`` and are answered by ``source``, at once and then a few times a second: what
they hear of a home that has nothing to say. Source: docs/FRAMES.md.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from gateway.core.sessions import SubscriberSession
from gateway.limits import EDGE_BEAT_S
from gateway.wire import encode_control

if TYPE_CHECKING:
    from gateway.runtime.host import WorldHost


class Sources:
    """One open world's. ``own``: this gateway in ``via``."""

    def __init__(self, host: WorldHost, own: str) -> None:
        self._host = host
        self._own = own
        self._sessions: dict[SubscriberSession, None] = {}
        self._timer: asyncio.TimerHandle | None = None

    def ask(self, session: SubscriberSession) -> None:
        """It is another gateway's: tell it, also from now on. However often it asks."""
        if session in self._sessions or session.closed:
            return
        self._sessions[session] = None
        session.link.control(self._told(None))
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(EDGE_BEAT_S, self._beat)

    def tell(self, known: tuple[int, int] | None = None) -> None:
        """Tell everybody. ``known``: what the store holds, if this gateway has stopped being the home."""
        # Swept here and not at their end: a session knows nothing of this list.
        for session in [session for session in self._sessions if session.closed]:
            del self._sessions[session]
        # Encoded once for all of them.
        told = self._told(known) if self._sessions else b""
        for session in self._sessions:
            session.link.control(told)

    def stop(self) -> None:
        """The world is closed here. Idempotent."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _beat(self) -> None:
        self._timer = None
        self.tell()
        if self._sessions:
            self._timer = asyncio.get_running_loop().call_later(EDGE_BEAT_S, self._beat)

    def _told(self, known: tuple[int, int] | None) -> bytes:
        world, source = self._host.world, None
        if not self._host.homing.held and self._host.edge is not None:
            source = self._host.edge.source
        durable = world.journal.durable
        return encode_control(
            "source",
            home=self._host.homing.held or (source is not None and source.is_home),
            hops=0 if source is None else source.hops,
            via=[*([] if source is None else source.via), self._own],
            epoch=world.state.epoch or world.last_epoch,
            durable=None if durable is None else {"epoch": durable.epoch, "tick": durable.tick},
            records=len(world.state),
            stale_ms=0 if source is None else source.stale_ms,
            born=self._host.guard.born_us if source is None or source.born is None else source.born,
            **({} if known is None else {"known": list(known)}),
        )
