"""One home a world: becoming it, showing signs of life, giving it up, and seeing who has it. Room: runtime.

The rule itself is the store's (:mod:`gateway.store.world.home`): a home that lost its fence can commit nothing. What
stands here decides only who asks for the home and when, and whom the others are sent to.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass

from gateway.config import Settings, in_brackets
from gateway.core.events import Event, HomeGivenUp, HomeLost, HomeTaken, ignored
from gateway.core.lease import HomeVerdict, HomeWatch
from gateway.errors import WorldHeld
from gateway.limits import HOME_BEAT_S, HOME_LEASE_MS, HOME_POLL_S
from gateway.runtime import places
from gateway.store.base import Store
from gateway.store.world import home
from gateway.store.world.home import Holder, Sign
from gateway.store.world.lanes import WorldLanes


@dataclass(slots=True)
class HomeCounts:
    """Plain counts of this process, over all worlds."""

    taken: int = 0
    taken_over: int = 0
    lost: int = 0
    given_up: int = 0
    refused: int = 0

    def as_dict(self) -> dict[str, int]:
        """By name, as ``/metrics`` tells them."""
        return {name: getattr(self, name) for name in self.__slots__}


def holder_of(settings: Settings, store: Store, port: int) -> Holder:
    """This process as a home: others reach it at ``--node``, or where it listens."""
    place = places.own(in_process_store=store.traits.in_process)
    return Holder(settings.node.rstrip("/") or _own_url(settings.host, port), place, secrets.token_hex(16))


def _own_url(host: str, port: int) -> str:
    # No address that anybody else could go to.
    if host in ("0.0.0.0", "::", ""):
        host = socket.gethostname()
    return f"https://{in_brackets(host)}:{port}"


class Home:
    """A world's home as this process sees it, or is it. Every method on the event loop."""

    def __init__(self, name: str, world: WorldLanes, holder: Holder, counts: HomeCounts) -> None:
        self.name = name
        self.fence = 0
        """The fence under which this process is the home; 0: it is not."""
        self.elsewhere = ""
        """Where the world's home is, as far as was seen; "" where there is none, or it is here."""
        self.on_event: Callable[[Event], None] = ignored
        """Told when this process becomes the home, or is it no more."""
        self._world = world
        self._holder = holder
        self._counts = counts
        self._watch = HomeWatch()
        self._held: WorldHeld | None = None
        self._looking = asyncio.Lock()
        self._found_free = (float("-inf"), Sign(None, -1, 0))
        """When it was last begun to look for a home with nobody found, and what was found."""

    @property
    def held(self) -> bool:
        """True while this process is the home, as far as it knows: the store may know better."""
        return self.fence > 0

    @property
    def url(self) -> str | None:
        """Where the home is; None where there is none, or nobody has looked."""
        return self._holder.node if self.held else self.elsewhere or None

    @property
    def is_of_the_group(self) -> bool:
        """Whether it is reached where this process is: another worker of the same gateway."""
        return self.elsewhere == self._holder.node

    # --- seeing ------------------------------------------------------------------------------

    async def look(self) -> Sign:
        """What is to be seen now. Raises what the store raises."""
        sign = await self._world.home_sign()
        self._judge(sign)
        return sign

    def _judge(self, sign: Sign, *, attended: bool = False) -> HomeVerdict:
        """``DEAD`` also where there is no home, and where its process is known to have ended."""
        row, now = sign.row, time.monotonic()
        # No waiting for the lease in these cases: a gateway that is restarted on its machine has its worlds
        # back at once.
        if row is None or home.is_free(row, self._world.identity.key) or self._is_gone(row):
            self.elsewhere, self._held = "", None
            self._watch.forget()
            return HomeVerdict.DEAD
        verdict = self._watch.look(sign, home.lease_s(row), now, attended=attended)
        self.elsewhere = "" if verdict is HomeVerdict.DEAD else home.address(row)
        self._held = None if verdict is HomeVerdict.DEAD else WorldHeld.at(self.name, row.node, row.fence)
        return verdict

    def _is_gone(self, row: home.HomeRow) -> bool:
        """True where its process is known to have ended, or is this one, which has closed the world since."""
        if row.holder == self._holder.text:
            return True
        return places.is_gone(row.holder.partition("/")[0], self._holder.place)

    @property
    def stirred(self) -> bool:
        """True where the home elsewhere gave a sign of life between the last two looks, or about then."""
        return bool(self.elsewhere) and self._watch.stirred_within(2 * HOME_BEAT_S, time.monotonic())

    async def until_free(self) -> Sign:
        """Look until it is certain that no other home lives: what there was to be seen then. Raises
        :class:`WorldHeld` as soon as it is certain that one does, and what the store raises."""
        self._refuse_if_alive()
        asked = time.monotonic()
        async with self._looking:
            began, free = self._found_free
            # Begun after this one asked: as good as a look of its own. A look begun before may have seen
            # what is over.
            if began >= asked:
                return (
                    free  # by who asked just before: a thousand readers come at once, where a gateway is back
                )
            attended = False
            while True:
                self._refuse_if_alive()
                began = time.monotonic()
                sign = await self._world.home_sign()
                if self.held or self._judge(sign, attended=attended) is HomeVerdict.DEAD:
                    self._found_free = (began, sign)
                    return sign
                self._refuse_if_alive()
                # From the second look on the time between is known to have been watched: silence in it
                # counts.
                attended = True
                await asyncio.sleep(HOME_POLL_S)

    def _refuse_if_alive(self) -> None:
        if self._held is not None and self._watch.is_alive(time.monotonic()):
            self._counts.refused += 1
            raise WorldHeld(self._held.message, **self._held.facts)

    # --- being it ----------------------------------------------------------------------------

    async def acquire(self, judged: Sign | None) -> Sign:
        """Become the home, over one that is free or dead as it was ``judged``, or over any (None): the recording as
        it is from then on. Raises :class:`WorldHeld` where another was faster, and what the store raises."""
        before = judged or await self._world.home_sign()
        try:
            sign = await self._world.take_home(self._holder, HOME_LEASE_MS, judged)
        except WorldHeld as error:
            self._counts.refused += 1
            raise self.named(error) from None
        assert sign.row is not None
        self.fence, self.elsewhere, self._held = sign.row.fence, "", None
        self._watch.forget()
        self._tell_taken(before, by_force=judged is None)
        return sign

    def _tell_taken(self, before: Sign, *, by_force: bool) -> None:
        row = before.row
        if row is None or home.is_free(row, self._world.identity.key):
            self._counts.taken += 1
            self.on_event(HomeTaken(self.name, self.fence))
            return
        self._counts.taken_over += 1
        why = "nothing was seen of it for as long as its lease"
        if by_force:
            why = "its publisher asked for it"
        elif self._is_gone(row):
            why = "its process has ended"
        self.on_event(HomeTaken(self.name, self.fence, home.address(row), why))

    async def beat(self) -> None:
        """A sign of life. Raises :class:`WorldHeld`, and what the store raises."""
        await self._world.beat_home()

    async def give_up(self) -> None:
        """Others may be the home at once. Raises as :meth:`beat`; then this process is it still, or never again."""
        # 0 before the store is asked: nothing is to be written under a fence that may be given up at any
        # moment from here on.
        fence, self.fence = self.fence, 0
        try:
            await self._world.give_home_up()
        except WorldHeld:
            raise
        except BaseException:
            # Whether the store has taken it is not known; if it has, the next write is refused, which is
            # the truth.
            self.fence = fence
            raise
        self._counts.given_up += 1
        self.on_event(HomeGivenUp(self.name, fence))

    def lose(self, error: WorldHeld) -> None:
        """The store has told that another is the home."""
        if not self.held:
            return
        fence, self.fence = self.fence, 0
        self._world.lose_home()
        self._counts.lost += 1
        self.elsewhere = str(error.facts.get("url") or "")
        by_fence = int(error.facts.get("fence") or 0)
        self.on_event(HomeLost(self.name, fence, by_fence, self.elsewhere))

    def named(self, error: WorldHeld) -> WorldHeld:
        """The store's refusal, with the world's own name."""
        return WorldHeld.at(self.name, str(error.facts.get("url") or ""), int(error.facts.get("fence") or 0))


__all__ = ["Home", "HomeCounts", "holder_of"]
