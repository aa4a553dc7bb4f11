"""What is asked of whatever serves a world whose home is elsewhere, and several of them as one. Room: runtime."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import NamedTuple, Protocol

from gateway.core.ports import Hosted, Link, LiveOptions
from gateway.core.told import Posted
from gateway.runtime.patiently import Wanted


class Source(NamedTuple):
    """Where what is fed comes from. ``is_home``: from this gateway's own home, another worker; ``hops``: gateways between the
    home and here, this one included; ``via``: which they are, the home first; ``stale_ms``: how long nothing was heard of it."""

    is_home: bool
    hops: int
    via: tuple[str, ...]
    stale_ms: int
    born: int | None = None
    """When the world was made in the home's store, where that was told."""


class Edge(Protocol):
    """One open world's. Methods raise only what their docstrings say."""

    @property
    def is_following(self) -> bool:
        """Whether the world's state here is the home's, frame by frame."""

    @property
    def source(self) -> Source | None:
        """Of what is fed, or was until the home fell silent; None: nothing is."""

    async def admit(self) -> bool:
        """Whether the home is followed on return. False: readers are not served by this. Raises what the store raises."""

    def leave(self) -> None:
        """Follow nobody: this process is to be the home, or has no readers."""

    def seek(self) -> None:
        """Look for the next home for a while: readers wait for it."""

    async def look(self) -> bool:
        """As time goes by: whether a home is followed for the readers there are. Raises what the store raises."""

    def keeps_readers(self) -> bool:
        """Whether readers wait here for a home that lives elsewhere, instead of being sent there."""

    def stop(self) -> None:
        """The world is closed here. Idempotent."""

    async def publish(self, options: LiveOptions, link: Link, wanted: Wanted) -> Hosted | None:
        """A publisher's session at the home; None: this process is to be the home. ``wanted``: asked before the home is.
        Raises what the home says, and the store."""

    async def post(self, messages: AsyncIterator[bytes], *, durable: bool, by: str) -> Posted | None:
        """A POST's messages taken by the home; None: as :meth:`publish`."""

    async def have_it_given_up(self) -> bool:
        """Ask the home to give the world up. False: it is not the home, or does not answer. Raises ``PublisherPresent``."""


class Edges:
    """Implements :class:`Edge`: the first that can."""

    def __init__(self, *edges: Edge) -> None:
        self._edges = edges

    @property
    def is_following(self) -> bool:
        return any(edge.is_following for edge in self._edges)

    @property
    def source(self) -> Source | None:
        sources = [edge.source for edge in self._edges if edge.source is not None]
        # Another worker that is the home is nearer, and surer, than any gateway.
        return next((source for source in sources if source.is_home), sources[0] if sources else None)

    async def admit(self) -> bool:
        for edge in self._edges:
            if await edge.admit():
                return True
        return False

    def leave(self) -> None:
        for edge in self._edges:
            edge.leave()

    def seek(self) -> None:
        for edge in self._edges:
            edge.seek()

    async def look(self) -> bool:
        found = False
        for edge in self._edges:
            # In this order, and not `found or await`: each of them has to look.
            found = await edge.look() or found
        return found

    def keeps_readers(self) -> bool:
        return any(edge.keeps_readers() for edge in self._edges)

    def stop(self) -> None:
        for edge in self._edges:
            edge.stop()

    async def publish(self, options: LiveOptions, link: Link, wanted: Wanted) -> Hosted | None:
        for edge in self._edges:
            session = await edge.publish(options, link, wanted)
            if session is not None:
                return session
        return None

    async def post(self, messages: AsyncIterator[bytes], *, durable: bool, by: str) -> Posted | None:
        for edge in self._edges:
            posted = await edge.post(messages, durable=durable, by=by)
            if posted is not None:
                return posted
        return None

    async def have_it_given_up(self) -> bool:
        for edge in self._edges:
            if await edge.have_it_given_up():
                return True
        return False
