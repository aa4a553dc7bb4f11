"""A world whose home is another gateway, served here by following the home as one reader does. Room: runtime.

The home's frames go into the same rules as a publisher's do (:class:`gateway.core.world.World`), so that budgets, focus,
repairs and keyframes are this gateway's own affair, and a home pays for a gateway however many readers it has. Who falls
silent is asked on a second session before the first is let go: readers keep what there is meanwhile, and no reader reconnects.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from gateway import limits
from gateway.client.address import Address, world_path
from gateway.core.ports import Hosted, Link, LiveOptions
from gateway.core.source import SourceNews
from gateway.core.told import Posted
from gateway.errors import GatewayError, WorldHeld
from gateway.runtime.edges.feed import Feed, FeedOver
from gateway.runtime.edges.peers import RESUME, EdgeLoop, Peers, asked_via, is_ring
from gateway.runtime.edges.several import Source
from gateway.runtime.patiently import Together, Wanted, always, check_wanted
from gateway.store.world import home
from gateway.wire import Frame

if TYPE_CHECKING:
    from gateway.runtime.host import WorldHost

log = logging.getLogger("mvgateway.edge")

FED_BY_THIS = "it is fed by this gateway; look at the --upstream of both"


class PeerEdge:
    """One open world's. Implements :class:`gateway.runtime.edges.several.Edge`."""

    def __init__(self, host: WorldHost, peers: Peers) -> None:
        self._host = host
        self._peers = peers
        self._beginning = asyncio.Lock()
        self._feed: Feed | None = None
        self._turn = 0
        """Rises when nobody is to be followed: what was begun before is not accepted."""
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._wanted_at = time.monotonic()
        self._failing_since: float | None = None
        self._asking = Together()
        self._stopped = False
        self._hops = 0
        self._via: tuple[str, ...] = ()
        self._stale_ms = 0
        self._born: int | None = None
        self._heard_at: float | None = None
        """When the home was heard last, once the feed is over; None: what is here is not what it left."""
        host.world.stale_ms = lambda: 0 if self.source is None else self.source.stale_ms

    # -- what there is to say --------------------------------------------------------------

    @property
    def is_following(self) -> bool:
        return self._feed is not None

    @property
    def source(self) -> Source | None:
        heard_at = self._heard_at if self._feed is None else self._feed.heard_at
        if heard_at is None:
            return None
        silent_ms = max(0, round((time.monotonic() - heard_at) * 1_000))
        return Source(False, self._hops, self._via, silent_ms + self._stale_ms, self._born)

    def keeps_readers(self) -> bool:
        # Not at the first failure: a home that restarts is back within seconds, and readers that were sent
        # away would all come back.
        since = self._failing_since
        return since is None or time.monotonic() - since < limits.EDGE_FORSAKE_S

    # -- whom to follow --------------------------------------------------------------------

    async def _target(self) -> Address | None:
        """The gateway to follow now. Raises what the store raises."""
        homing = self._host.homing
        if homing.home.held or self._stopped:
            return None
        return self._peers.upstream or await self.address_of_home()

    async def admit(self) -> bool:
        self._wanted_at = time.monotonic()
        if self._feed is not None:
            return True
        async with self._beginning:
            # More than once: between the look at the store and the connection the world may have moved on.
            for _ in range(limits.EDGE_TRIES):
                if self._feed is not None:
                    return True
                target = await self._target()
                if target is None:
                    self._note_untrusted()
                    return False
                followed = await self._try(target, limits.EDGE_CONNECT_S)
                if followed is not None:
                    return followed
                await asyncio.sleep(limits.HOME_POLL_S)
        return False

    def _note_untrusted(self) -> None:
        """Readers of a home that this gateway is not to follow are sent there."""
        home_now = self._host.homing.home
        if home_now.elsewhere and not home_now.is_of_the_group and not home_now.held:
            # For ever so far: there is nothing to wait for.
            self._failing_since = float("-inf")

    async def _try(self, target: Address, timeout_s: float) -> bool | None:
        """Whether it is followed; None: it has moved just now."""
        try:
            await self._follow(target, timeout_s)
        except (WorldHeld, FeedOver) as error:
            log.debug("world %s: %s is not followed: %s", self._host.name, target.base_url, error.message)
            followed = None
        except GatewayError as error:
            # Without an --upstream a ring is of a moment: two gateways look at a row each that the other
            # has just changed.
            followed = None if is_ring(error) and self._peers.upstream is None else False
            self._unwell(target, error)
        except TimeoutError:
            self._peers.is_unwell(target, f"it said nothing within {timeout_s:g} s")
            followed = False
        else:
            self._failing_since = None
            self._peers.is_well(target)
            return True
        if self._failing_since is None:
            self._failing_since = time.monotonic()
        return followed

    def _unwell(self, target: Address, error: GatewayError) -> None:
        """It is not followed. A world whose home has just moved is asked for in a ring until all have looked again: that is said
        only where it lasts, and where no gateway has an ``--upstream`` it cannot."""
        since, now = self._failing_since, time.monotonic()
        lasts = since is not None and now - since > limits.EDGE_FORSAKE_S and self._peers.upstream is not None
        if is_ring(error) and not lasts:
            log.debug("world %s: %s waits for this one: %s", self._host.name, target.base_url, error.message)
            self._failing_since = now if since is None else since
        else:
            self._peers.is_unwell(target, error.message)

    async def _follow(self, target: Address, timeout_s: float) -> None:
        """The world's state is the home's on return. Raises :class:`GatewayError` and ``TimeoutError``."""
        turn = self._turn
        feed = Feed(target, self._on_source, self._on_over)
        try:
            async with asyncio.timeout(timeout_s + limits.EDGE_ANSWER_S):
                await feed.open(self._peers, world_path(self._host.name, "live", zstd=True), timeout_s)
                # Frames come from here on as well, and are held: whether they are the home's is known only
                # by this.
                told = await feed.begun
            self._check(told, turn)
        except BaseException:
            feed.close()
            raise
        # No await between the check and this: the turn cannot change in between.
        self._accept(feed, told)
        if told.records > len(self._host.world.state):
            # wait() and not wait_for(): a reader is let in with what there is by then, and the keyframe
            # goes on coming.
            await asyncio.wait([feed.whole], timeout=limits.EDGE_WHOLE_S)

    def _check(self, told: SourceNews, turn: int) -> None:
        if turn != self._turn or self._stopped or self._host.homing.home.held:
            raise FeedOver("it is not wanted any more")
        if self._peers.id in told.via:
            raise EdgeLoop(FED_BY_THIS)
        if told.hops >= limits.EDGE_HOPS_MAX:
            raise EdgeLoop(
                f"it is {told.hops} gateways from the home, and {limits.EDGE_HOPS_MAX} are the bound"
            )
        if not told.is_home and self._peers.upstream is None:
            raise FeedOver("it is the home no more")

    def _accept(self, feed: Feed, told: SourceNews) -> None:
        """From here on the state is the home's."""
        world, before = self._host.world, self._feed
        self._peers.counts["followed" if before is None else "followed_again"] += 1
        # Before the old one is closed: its end calls _over(), which must find that it is the old one.
        self._feed, self._heard_at = feed, None
        if before is not None:
            # Only now, that the new one has begun: readers keep the old one's frames until then.
            before.close()
        world.begin_fed(time.monotonic())
        self._news(told)
        feed.release(lambda frame, data: self._ingest(feed, frame, data))
        # By name: a world that is followed again keeps the task it has.
        self._begin("watch", self._watch)
        log.debug("world %s: follows %s", self._host.name, feed.address.base_url)

    def _begin(self, name: str, run: Any) -> None:
        task = self._tasks.get(name)
        if task is None or task.done():
            self._tasks[name] = asyncio.get_running_loop().create_task(run())

    # -- what the home says ---------------------------------------------------------------

    def _ingest(self, feed: Feed, frame: Frame, data: bytes) -> None:
        if feed is self._feed and feed.link is not None:
            self._host.world.ingest(frame, data, frame.epoch, time.monotonic(), feed.link.after_input)

    def _on_source(self, feed: Feed, told: SourceNews) -> None:
        if feed is not self._feed:
            return
        if not told.is_home and self._peers.upstream is None:
            self._over(feed, told.known)
        elif self._peers.id in told.via:
            self._unwell(feed.address, EdgeLoop(FED_BY_THIS))
            self._over(feed)
        else:
            self._news(told)

    def _news(self, told: SourceNews) -> None:
        world = self._host.world
        self._hops, self._via, self._stale_ms = told.hops + 1, told.via, told.stale_ms
        self._born = told.born
        # Never back: a source that lags behind the one before it must not have an epoch used twice.
        world.last_epoch = max(world.last_epoch, told.epoch)
        world.hops = self._hops
        world.journal.durable = told.durable

    def _on_over(self, feed: Feed) -> None:
        self._over(feed)

    def _over(self, feed: Feed, known: tuple[int, int] | None = None) -> None:
        """The followed gateway has stopped being the home, or cannot be reached. ``known``: what it left in the store, if it told."""
        if feed is not self._feed:
            return
        # What a home left in the store is not stale: the store has it.
        self._feed, self._heard_at = None, None if known is not None else feed.heard_at
        self._peers.counts["let_go"] += 1
        feed.close()
        self._host.world.hops = 0
        self._host.homing.fed_until(known)
        # Nobody reads: whoever comes next looks by admit().
        if self._host.world.subscribers and not self._stopped:
            self.seek()

    # -- as time goes by ------------------------------------------------------------------

    async def _watch(self) -> None:
        """Whoever falls silent is asked on another session, and whether it is the home still is looked at."""
        asked_via.set(())  # a task has the context of whoever began it: nobody waits for this one
        looked_at, tries = time.monotonic(), 0
        while (feed := self._feed) is not None:
            await asyncio.sleep(limits.EDGE_LOOK_S)
            now = time.monotonic()
            is_silent = now - feed.heard_at > limits.EDGE_SILENT_S
            tries = tries if is_silent else 0
            if feed is not self._feed or not (is_silent or now - looked_at > limits.EDGE_CHECK_S):
                continue
            looked_at = now
            try:
                async with asyncio.timeout(limits.EDGE_CHECK_S):
                    target = await self._target()
            except (GatewayError, TimeoutError):
                target = feed.address  # the store is away: nobody else can have become the home
            target = feed.address if target is None else target
            if (is_silent or target != feed.address) and feed is self._feed:
                # Slowly longer: one lost packet must not cost seconds, and a gateway that is down is not asked
                # at the first pace for ever.
                timeout_s = min(limits.EDGE_AGAIN_S * 1.25**tries, limits.EDGE_AGAIN_S_MAX)
                tries += 1
                await self._try(target, timeout_s)

    def seek(self) -> None:
        self._begin("seek", self._seek)

    async def _seek(self) -> None:
        asked_via.set(())
        until, host = time.monotonic() + limits.EDGE_SEEK_S, self._host
        while time.monotonic() < until and host.world.subscribers and not self._stopped:
            try:
                if host.homing.home.held or await self.admit():
                    return
                await host.homing.refresh()
            except GatewayError as error:
                log.debug("world %s: no word of its home: %s", host.name, error.message)
            await asyncio.sleep(limits.HOME_POLL_S)

    async def look(self) -> bool:
        asked_via.set(())
        if self._host.world.subscribers:
            return await self.admit()
        if self._feed is not None and time.monotonic() - self._wanted_at > limits.EDGE_IDLE_S:
            self.leave()
        return False

    def leave(self) -> None:
        self._turn += 1
        self._heard_at = None
        if self._feed is not None:
            self._over(self._feed)
            self._heard_at = None

    def stop(self) -> None:
        self._stopped = True
        self.leave()
        for task in self._tasks.values():
            task.cancel()

    # -- publishers -----------------------------------------------------------------------

    async def publish(self, options: LiveOptions, link: Link, wanted: Wanted) -> Hosted | None:
        claim = options.takeover, options.epoch, options.resume
        # None in every case: the asking only makes the world free, and this process becomes its home by the
        # store.
        await self._asking.wait(claim, lambda still: self._ask(*claim, still), wanted)
        return None

    async def post(self, messages: AsyncIterator[bytes], *, durable: bool, by: str) -> Posted | None:
        return None

    async def have_it_given_up(self) -> bool:
        return await self._ask(False, None, None, always)

    @property
    def foreign(self) -> Address | None:
        """The upstream, where its store has another world of this name than this gateway's: readers get that one, and nothing of it is
        recorded here. None: both have one store, or nothing was heard so far."""
        is_another = self._born is not None and self._born != self._host.guard.born_us
        return self._peers.upstream if is_another else None

    async def _refuse_foreign(self) -> None:
        """Raise :class:`WorldHeld` for a publisher of a world that is fed from another store: published here it would be two."""
        if self._peers.upstream is not None and self._born is None and not self._peers.one_store:
            with suppress(GatewayError):  # who is not to be reached tells nothing
                await self.admit()
        self._peers.one_store = self._peers.one_store or self._born == self._host.guard.born_us
        if (upstream := self.foreign) is not None:
            name, url = self._host.name, upstream.base_url
            raise WorldHeld(
                f"world {name} is followed from {url}, which has another store than this gateway: publish it there",
                world=name,
                url=url,
                fence=0,
            )

    async def _ask(self, takeover: bool, epoch: int | None, resume: str | None, wanted: Wanted) -> bool:
        """Have the home given up for a publisher that came here, as long as it is ``wanted``: one that was refused meanwhile has gone
        elsewhere, perhaps to that home. False: the store decides."""
        if not self._host.homing.held:
            await self._refuse_foreign()
        address = await self.address_of_home()
        if address is None:
            return False
        # The look above may have taken seconds, where the store is slow.
        check_wanted(self._host.name, wanted)
        self._peers.counts["asked_to_give_up"] += 1
        path = world_path(self._host.name, "home:give_up", takeover=takeover or None, epoch=epoch)
        # A colon may stand in a path as it is (RFC 3986 section 3.3), and this one is part of the route.
        path = path.replace("home%3Agive_up", "home:give_up")
        more = {} if resume is None else {RESUME: resume}
        asking = asyncio.ensure_future(self._peers.ask(address, "POST", path, more))
        try:
            while not asking.done():  # what is not looked at all the while is never taken for dead
                await asyncio.wait([asking], timeout=limits.HOME_POLL_S)
                if not asking.done() and (not wanted() or not await self._lives()):
                    return False
            # "Given up" is believed only once the store shows it, below.
            status, told = asking.result()
        except (GatewayError, TimeoutError) as error:
            log.debug("world %s: %s gives nothing up: %s", self._host.name, address.base_url, error)
            return False
        finally:
            asking.cancel()
        if status != 200:
            log.debug("world %s: %s gives nothing up: %s", self._host.name, address.base_url, told)
            return False
        return not await self._lives()

    async def address_of_home(self) -> Address | None:
        """The other gateway that is the home; None: none is, or it is not to be asked. Raises what the store raises."""
        homing = self._host.homing
        if homing.home.held:
            return None
        row = (await homing.home.look()).row
        if row is None or not homing.home.elsewhere or homing.home.is_of_the_group:
            return None
        return self._peers.address_of(home.address(row))

    async def _lives(self) -> bool:
        """Whether another gateway is the home, as far as is to be seen. Raises what the store raises."""
        await self._host.homing.home.look()
        return bool(self._host.homing.home.elsewhere)
