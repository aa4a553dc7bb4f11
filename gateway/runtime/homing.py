"""A world's rules and its home, kept together: who becomes the home starts from what the store holds, who loses it
lets everybody go, and who only has readers sees what others record. Room: runtime.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, cast

from gateway.core.ports import Mark
from gateway.core.state import WorldState
from gateway.core.world import World
from gateway.errors import GatewayError, StoreUnavailable, WorldDeleted, WorldHeld
from gateway.limits import HOME_BEAT_S
from gateway.runtime.homes import Home
from gateway.runtime.patiently import Wanted, always, check_wanted
from gateway.runtime.recording import WorldRecording
from gateway.store.world.home import Sign

if TYPE_CHECKING:
    from gateway.runtime.edges.several import Edge

log = logging.getLogger("mvgateway.home")


async def _nothing() -> None: ...


class Homing:
    """Made with the world's host, ended by :meth:`stop`. ``linger_s``: how long a home without a publisher stays one."""

    def __init__(self, world: World, recording: WorldRecording, home: Home, linger_s: float) -> None:
        self.home = home
        self.on_lost: Callable[[WorldHeld], None] = lambda error: None
        """Called when another gateway has become the home, after everybody was told."""
        self.on_deleted: Callable[[WorldDeleted], None] = lambda error: None
        """Called where it turns out that the world was deleted."""
        self.on_adopted: Callable[[int | None], None] = lambda received_us: None
        """Called when the rules start from what another has recorded: when the newest frame of it was received."""
        self.before_given_up: Callable[[], Awaitable[None]] = _nothing
        """What this process still has to write before it gives the home up: afterwards the store refuses it."""
        self.edge: Edge | None = None
        """Where there are workers, or other gateways are followed: what serves readers here while the home is elsewhere."""
        self.on_home_over: Callable[[tuple[int, int] | None], None] = lambda known: None
        """Called when this process has stopped being the home; with the row and epoch that the store holds, if it holds everything."""
        self.wrote_at = float("-inf")
        """When the journal last gave a sign of life (``time.monotonic``); told by the pump."""
        self._world = world
        home.on_event = lambda event: world.on_event(event)
        self._recording = recording
        self._linger_s = linger_s
        self._known: tuple[int, int] | None = (recording.opened.last_seq, recording.opened.epoch)
        self._changing = asyncio.Lock()
        self._begun = False
        self._users = 0
        self._used_at = time.monotonic()
        self._refreshed_at = float("-inf")
        self._keeping = asyncio.get_running_loop().create_task(self._keep())

    @property
    def held(self) -> bool:
        """True while this gateway is the world's home, and its rules start from what the store holds: before that, what
        is published would be forgotten when they do."""
        return self.home.held and self._begun

    @property
    def in_use(self) -> bool:
        """True while somebody is becoming the home, or needs it to stay."""
        return self._users > 0 or self._changing.locked()

    @asynccontextmanager
    async def using(self, *, takeover: bool = False, wanted: Wanted = always) -> AsyncIterator[None]:
        """This gateway is the home within, unless the store says otherwise meanwhile. ``takeover``: from whoever
        has it; ``wanted``: asked before it becomes the home. Raises :class:`WorldHeld`, and what the store raises."""
        # Before the first await: a home that is being become is wanted, or the keeper gives it up in
        # between.
        self._users += 1
        try:
            await self.become(takeover=takeover, wanted=wanted)
            yield
        except WorldHeld as error:
            self.lost(error)
            raise self.home.named(error) from None
        finally:
            self._users -= 1
            self._used_at = time.monotonic()

    async def become(self, *, takeover: bool = False, wanted: Wanted = always) -> None:
        """Be the home on return. Raises as :meth:`using`."""
        if self.held:
            return
        # Outside of the lock, since another's silence is judged for seconds; acquire() looks again at what was found.
        judged = None if takeover else await self.home.until_free()
        async with self._changing:
            if self.held:
                return
            check_wanted(self.home.name, wanted)
            # Until the rules start from what the store holds `held` is no, though the fence is ours.
            self._begun = False
            sign = await self.home.acquire(judged)
            if self.edge is not None:
                self.edge.leave()
            if self._world.is_fed:
                self._known = None  # what was fed is no journal's: it begins anew
            self.wrote_at = time.monotonic()
            try:
                await self._adopt(sign)
                self._begun = True
                self._recording.rest()
            except BaseException:
                # A home whose rules do not know the recording would hold everybody off and could serve
                # nobody.
                with suppress(Exception):
                    await self.home.give_up()
                raise

    def check(self) -> None:
        """Raise :class:`WorldHeld` where the home was lost meanwhile."""
        if not self.held:
            raise WorldHeld.at(self.home.name, self.home.elsewhere, 0)

    async def admit_reader(self) -> None:
        """Whoever reads here sees the newest there is. Raises :class:`WorldHeld`: it is to be seen elsewhere. While
        the store does not answer, what is known here is the newest."""
        if self.held:
            return
        try:
            if self.edge is not None and await self.edge.admit():
                return
            await self.home.until_free()
        except (WorldHeld, WorldDeleted):
            raise
        except GatewayError as error:
            log.debug("world %s: its home was not looked at: %s", self.home.name, error.message)
            return
        await self.refresh()

    @property
    def is_fed(self) -> bool:
        """True while the world's state is that of its home, another worker or gateway."""
        return self.edge is not None and self.edge.is_following

    def fed_until(self, known: tuple[int, int] | None) -> None:
        """The home is no longer followed. ``known``: what the store holds, if that is everything that was fed."""
        self._known = known
        self._refreshed_at = float("-inf")

    async def refresh(self) -> None:
        """What others have recorded since is known on return; nothing changes while the store does not answer.
        Raises ``WorldDeleted``."""
        asked = time.monotonic()
        async with self._changing:
            # Whoever had the lock meanwhile has looked later than this one asked.
            if self.held or self.is_fed or self._refreshed_at > asked:
                return
            began = time.monotonic()
            try:
                await self._adopt(await self.home.look())
                self._refreshed_at = began
            except WorldDeleted:
                raise
            except GatewayError as error:
                log.debug("world %s: what others recorded is not known: %s", self.home.name, error.message)

    async def _adopt(self, sign: Sign) -> None:
        """Bring the rules up to what the store holds."""
        if self._known == (sign.last_seq, sign.epoch):
            return
        # Only the epoch has moved: no row came, and nothing needs to be read.
        if self._known is not None and self._known[0] == sign.last_seq:
            self._world.last_epoch = sign.epoch
        else:
            found = await self._recording.recover()
            self._world.adopt(
                None if found is None else cast(WorldState, found.state),
                next_seq=sign.last_seq + 1,
                last_epoch=sign.epoch,
                durable=None if found is None else Mark(found.epoch, found.tick),
                tail=None if found is None else found.tail,
                mono=time.monotonic(),
            )
            self.on_adopted(None if found is None else found.received_at_us)
        self._known = (sign.last_seq, sign.epoch)

    def lost(self, error: WorldHeld) -> None:
        """The store refused what was written here: another gateway is the home. Everybody is told; idempotent."""
        # Only the first of several writes that are refused: the others would end the next home's sessions.
        if self.home.held:
            self.home.lose(self.home.named(error))
            self.forgo(error)

    def forgo(self, error: WorldHeld) -> None:
        """Drop what waits to be written here: another process is the home."""
        named = self.home.named(error)
        self._known = None
        self.on_home_over(None)
        self._world.moved_away(str(named.facts["url"]), readers_stay=self.edge is not None)
        if self.edge is not None:
            self.edge.seek()
        self.on_lost(named)

    # --- as time goes by ---------------------------------------------------------------------

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(HOME_BEAT_S)
            try:
                if self.held:
                    await self._keep_home()
                elif self._world.subscribers or self.is_fed:
                    # Also without readers while it is fed: that is how the edge lets an idle home go.
                    await self._look_after_readers()
            except WorldHeld as error:
                self.lost(error)
            except WorldDeleted as error:
                self.on_deleted(error)
            except GatewayError as error:
                log.debug("world %s: no word of its home: %s", self.home.name, error.message)
            except Exception:
                log.exception("world %s: looking after its home failed; it is tried again", self.home.name)

    async def _keep_home(self) -> None:
        if not self._is_wanted():
            await self.give_up()
        # A commit is a sign of life as good as any; 0.9, since timers come early or late, and a beat must not be
        # left out for that.
        elif time.monotonic() - self.wrote_at >= HOME_BEAT_S * 0.9:
            await self.home.beat()

    def _is_wanted(self) -> bool:
        """True while this gateway has a reason to stay the home."""
        world = self._world
        if world.publisher is not None or world.is_lingering or self._users or not world.journal.empty:
            return True
        return time.monotonic() - self._used_at < self._linger_s

    async def give_up(self, *, closing: bool = False, whole: bool = False) -> None:
        """Let others become the home at once, unless this one is still needed. ``whole``: only with everything written, else raise
        ``StoreUnavailable``: what is written under a later home of this process would take numbers of rows that another's
        have by then. Raises as :meth:`Home.give_up`."""
        async with self._changing:
            if not self.held or (self._is_wanted() and not closing):
                return
            await self.before_given_up()
            if whole and not self._world.journal.empty:
                raise StoreUnavailable(
                    f"world {self.home.name}: the store has not taken its last frames yet; ask again"
                )
            # What the store holds after before_given_up(): who becomes the home here again reads nothing
            # anew if no other wrote.
            self._known = (self._world.journal.next_seq - 1, self._world.last_epoch)
            await self.home.give_up()
            self.on_home_over(self._known)

    async def _look_after_readers(self) -> None:
        if self.edge is not None and await self.edge.look():
            return
        await self.refresh()
        if self.home.stirred and not self.held and not (self.edge is not None and self.edge.keeps_readers()):
            self._world.readers_to(self.home.elsewhere)

    async def stop(self, timeout_s: float) -> None:
        """End: give the home up if the store holds everything and answers in time."""
        # First: it could become busy with the home again while this waits for it.
        self._keeping.cancel()
        if self.edge is not None:
            self.edge.stop()
        await asyncio.gather(self._keeping, return_exceptions=True)
        if self.held and self._world.journal.empty:
            with suppress(GatewayError, TimeoutError):
                await asyncio.wait_for(self.give_up(closing=True), timeout_s)
