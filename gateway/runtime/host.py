"""One open world: its rules, its database, its publishers and readers. Room: runtime."""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

import apsw

from gateway import limits
from gateway.config import Settings
from gateway.core.admission import Refusals
from gateway.core.delay import Behind
from gateway.core.options import RESUME_HEX_DIGITS
from gateway.core.ports import Hosted, Link, LiveOptions
from gateway.core.sessions import PublisherSession
from gateway.core.told import Facts, Overview, Posted, RecordedState
from gateway.core.world import World
from gateway.errors import (
    GatewayError,
    NothingRecorded,
    Overloaded,
    PublisherPresent,
    ShuttingDown,
    StoreUnavailable,
    Unprocessable,
    WorldDeleted,
    WorldFull,
    WorldHeld,
)
from gateway.limits import DURABLE_S_MAX
from gateway.runtime.delayed import Counts, Feeds
from gateway.runtime.edges.edge import PeerEdge
from gateway.runtime.edges.several import Edge, Edges
from gateway.runtime.edges.sources import Sources
from gateway.runtime.epochs import EpochEnds
from gateway.runtime.homes import Home, HomeCounts
from gateway.runtime.homing import Homing
from gateway.runtime.journal import JournalPump
from gateway.runtime.local import LocalPublisher
from gateway.runtime.overviews import far, overview, past_overview
from gateway.runtime.patiently import Together, Wanted, always, check_wanted
from gateway.runtime.recording import WorldRecording
from gateway.runtime.reopening import world_of
from gateway.runtime.rounds import Rounds
from gateway.runtime.uploads import Upload
from gateway.runtime.workers.edge import WorkerEdge as WorkerEdge
from gateway.store.base import Store
from gateway.store.world.home import Holder
from gateway.wallclock import now_us
from gateway.wire import Record

if TYPE_CHECKING:
    from gateway.runtime.edges.peers import Peers
    from gateway.runtime.workers.siblings import Siblings

log = logging.getLogger("mvgateway.world")
T = TypeVar("T")


def _nothing() -> None: ...


class WorldHost:
    """Made by :meth:`open`, ended by :meth:`close`."""

    def __init__(
        self,
        name: str,
        database: WorldRecording,
        world: World,
        settings: Settings,
        home: Home,
        rounds: Rounds | None = None,
        delayed: Counts | None = None,
    ) -> None:
        self.name = name
        self.database = database
        self.world = world
        self.homing = Homing(world, database, home, settings.linger_ms / 1_000)
        self.pump = JournalPump(world, database, rounds, self.homing)
        self.homing.on_adopted = self._adopted
        self.edge: Edge | None = None
        """What serves this world here while its home is another worker or gateway; None: readers are sent there."""
        self.worker_edge: WorkerEdge | None = None
        """The part of it that is for other workers."""
        self.peer_edge: PeerEdge | None = None
        """The part of it that is for other gateways."""
        self.sources: Sources | None = None
        """Tells other gateways that follow this one; None: nobody is told."""
        self.followers: dict[Hosted, Callable[[tuple[int, int] | None], None]] = {}
        """Sessions of other workers that follow this one, and how to tell them that it is the home no more."""
        self.homing.on_home_over = self._end_followers
        self.identity = database.world.identity
        self.guard = database.world.guard
        self.pump.meaning_of = self.guard.of
        self.is_gone = False
        """True once the world was deleted: nothing can be written to it any more."""
        self.on_gone: Callable[[], None] = _nothing
        """What to do where it turns out that the world was deleted."""
        self.last_used = time.monotonic()
        self._behind = Behind(self.last_used, world.wall_us(self.last_used))
        self._arriving = 0
        self._closed = False
        self._linger_s = settings.linger_ms / 1_000
        self._readers_max = settings.readers_per_world_max
        self.feeds = Feeds(
            self,
            database.world,
            world.settings,
            lambda event: world.on_event(event),
            Counts() if delayed is None else delayed,
            feeds_max=settings.delayed_feeds_max,
            world_feeds_max=settings.delayed_feeds_per_world_max,
        )
        """Delayed views of the world, by delay."""
        self._attaching = asyncio.Lock()
        self._left = asyncio.Event()
        world.on_place_free = self._left.set
        self._coming = Together()
        self._epochs = EpochEnds(world, database)
        self.homing.before_given_up = self._epochs.leave
        self._poster: LocalPublisher | None = None
        self._housekeeping = asyncio.get_running_loop().create_task(self._keep_house())

    @classmethod
    async def open(
        cls,
        store: Store,
        name: str,
        settings: Settings,
        *,
        create: Mapping[str, object] | None,
        holder: Holder,
        counts: HomeCounts,
        rounds: Rounds | None = None,
        refusals: Refusals | None = None,
        delayed: Counts | None = None,
    ) -> WorldHost:
        """Open the world, recovered to its last synced state.

        ``create``: its options if it may be made where it is missing; None: ``UnknownWorld`` then.
        ``holder``: this process, as the home of worlds. ``rounds``: where its journal is written together with
        other worlds'. ``delayed``: where its delayed views count.
        """
        database = await WorldRecording.open(store, name, create=create)
        try:
            recovered = await database.recover_opened()
        except BaseException:
            await database.close()
            raise
        world = world_of(name, settings, database, recovered, refusals)
        host = cls(
            name, database, world, settings, Home(name, database.world, holder, counts), rounds, delayed
        )
        # After the constructor, whose pump may have woken: nothing is committed before the loop turns again.
        host.pump.outcomes.newest_received_us = None if recovered is None else recovered.received_at_us
        return host

    def follow_by(self, siblings: Siblings | None, peers: Peers | None) -> None:
        """Serve the world here also while another worker, or another gateway, is its home."""
        edges: list[Edge] = []
        if siblings is not None:
            self.worker_edge = WorkerEdge(self, siblings)
            edges.append(self.worker_edge)
        if peers is not None:
            self.peer_edge = PeerEdge(self, peers)
            edges.append(self.peer_edge)
            self.sources = Sources(self, peers.id)
            self.world.on_edge = self.sources.ask
        if edges:
            self.edge = self.homing.edge = edges[0] if len(edges) == 1 else Edges(*edges)

    async def make_way(self, options: LiveOptions, url: str, wanted: Wanted = always) -> None:
        """Stop being the home, for a publisher that has come to the gateway at ``url``; readers stay, and follow. ``wanted``:
        whether that gateway still waits for it, asked before anybody has to go. Raises
        ``PublisherPresent``, :class:`WorldHeld`, and as :meth:`let_go`: where that is to be seen before, the publisher that
        is here stays, or it would come back to the same home, and be sent away by whoever asks next."""
        self.homing.check()
        # One at a time: two that attach at once would both find the world free.
        async with self._attaching:
            if self._poster is not None and self._poster.is_idle:
                self._poster.detach()
                self._poster = None
            if not self.world.may_go(options):
                await self._until_left()
            check_wanted(self.name, wanted)
            if not self.world.may_go(options):
                raise PublisherPresent(f"world {self.name} has a publisher here; wait until it has left")
            if self.pump.is_failing:
                raise StoreUnavailable(
                    f"world {self.name}: the store has not taken its last frames for a while; ask again"
                )
            # Only now, with nothing left that could refuse: a publisher that was sent away for nothing comes back
            # here.
            self.world.publisher_goes("taken_over" if options.takeover else "reconnected", url)
            await self.let_go()
        if self.edge is not None and self.world.subscribers:
            self.edge.seek()

    async def let_go(self) -> None:
        """Stop being the home once everything is written. Raises ``StoreUnavailable`` if the store does not take it in time:
        then this is the home still, and gives up by itself once it has."""
        await self.pump.until_empty(limits.EDGE_FLUSH_S)
        await self.homing.give_up(closing=True, whole=True)

    def _end_followers(self, known: tuple[int, int] | None) -> None:
        if self.sources is not None:
            self.sources.tell(known)
        for end in list(self.followers.values()):
            end(known)

    def check_recorded_here(self) -> None:
        """Raise :class:`NothingRecorded` where the world is followed from a gateway with another store, and recorded there."""
        upstream = None if self.peer_edge is None else self.peer_edge.foreign
        if upstream is not None and self.world.is_fed:
            raise NothingRecorded(
                f"world {self.name} is followed from {upstream.base_url}, whose store is another than this gateway's: what was "
                "recorded of it is to be had there"
            )

    def recorded(self) -> WorldRecording:
        """What was recorded of it. Raises as :meth:`check_recorded_here`."""
        self.check_recorded_here()
        return self.database

    async def last_synced(self) -> RecordedState:
        """The last synced state: what is in memory where the store has all of it (now, or when the
        commit under way is down), else from the store. Raises ``NothingRecorded``."""
        self.check_recorded_here()
        await self.homing.refresh()
        if not self.world.journal.empty and not self.pump.is_failing:
            await self.pump.until_empty(limits.LAST_SYNCED_WAIT_S)
        received_us, state = self.pump.outcomes.newest_received_us, self.world.state
        if received_us is not None and self.world.journal.empty and not self.world.is_fed:
            return await self.database.shaped(state, state.epoch, state.tick, received_us)
        hops, stale_ms = far(self)
        return replace(await self.database.last(), hops=hops, stale_ms=stale_ms)

    async def open_session(self, options: LiveOptions, link: Link, wanted: Wanted = always) -> Hosted:
        """Attach a publisher or a subscriber. ``wanted``: whether anybody waits for it still. Raises
        ``WorldDeleted``, and as the rules do."""
        self.last_used = time.monotonic()
        if self.is_gone:
            raise self.guard.gone()
        if options.role == "publish":
            return await self._publisher(options, link, wanted)
        if options.delay_s:
            self.check_recorded_here()
            self._check_readers()
            return await self.feeds.open_session(options, link)
        # Counted before the first await: a world that looks quiet meanwhile would be closed under the reader.
        self._arriving += 1
        try:
            await self.homing.admit_reader()
        finally:
            self._arriving -= 1
        if self._closed:
            raise ShuttingDown(f"world {self.name} is being closed; connect again", reconnect_after_ms=500)
        self._check_readers()
        return self.world.attach_subscriber(link, options, time.monotonic())

    async def _publisher(self, options: LiveOptions, link: Link, wanted: Wanted) -> Hosted:
        """A publisher's session, here or at the worker that is the world's home."""
        try:
            if self.edge is None:
                return await self.attach_publisher(options, link, wanted)
            elsewhere = await self.edge.publish(options, link, wanted)
            if elsewhere is not None:
                return elsewhere
            try:
                return await self.attach_publisher(options, link, wanted)
            except WorldHeld:  # another worker was faster
                elsewhere = await self.edge.publish(options, link, wanted)
                if elsewhere is None:
                    raise
                return elsewhere
        except WorldHeld as error:
            raise self._passing(error) from None

    def _passing(self, error: WorldHeld) -> GatewayError:
        """What to say of a home that is another's: nothing final where it is this gateway's own that passes from one
        process to the next, for then it is here again soon."""
        home, url = self.homing.home, str(error.facts.get("url") or "")
        if (self._closed and not url) or (self.edge is not None and (not url or home.is_of_the_group)):
            return ShuttingDown(
                f"world {self.name} passes from one process of the gateway to another; connect again",
                reconnect_after_ms=limits.RENEWED_RECONNECT_AFTER_MS,
            )
        return error

    def _check_readers(self) -> None:
        if len(self.world.subscribers) + self.feeds.readers >= self._readers_max:
            raise Overloaded(
                f"world {self.name} has {self._readers_max} subscribers, which is the bound; raise --readers-per-world-max",
                bound="--readers-per-world-max",
                limit=self._readers_max,
            )

    def has_news(self, since_mono: float) -> bool:
        """Whether something may have been recorded since then: what others record shows in the store alone."""
        return not self.homing.held or self.pump.newest_commit >= since_mono

    def gone_by(self, error: WorldDeleted) -> None:
        """A delayed view's reading found that the world was deleted."""
        self.on_gone()

    def until_us(self, delay_s: float) -> int | None:
        """What was received after it is less than ``delay_s`` old; None where there is no delay. Raises
        :class:`Unprocessable` where nothing so old is kept."""
        if not delay_s:
            return None
        kept = self.database.world.info.retention
        if kept.mode == "ring" and kept.ring_s < delay_s:
            raise Unprocessable(
                f"world {self.name} keeps the last {kept.ring_s} s only, and delay_s={delay_s:g} is longer; ask for at "
                f"most {kept.ring_s}, or have its ring_s raised"
            )
        return self._look_at_clock().horizon_us(delay_s)

    def _look_at_clock(self) -> Behind:
        """Rows are stamped by the world's clock, which hears of a clock that was set when it is polled."""
        mono = time.monotonic()
        self._behind.saw(mono, min(now_us(), self.world.wall_us(mono)))
        return self._behind

    def _adopted(self, received_us: int | None) -> None:
        self.pump.outcomes.newest_received_us = received_us

    async def _become(self, takeover: bool, wanted: Wanted) -> None:
        async with self.homing.using(takeover=takeover, wanted=wanted):
            pass

    async def attach_publisher(
        self, options: LiveOptions, link: Link, wanted: Wanted = always
    ) -> PublisherSession:
        """Attach a publisher, with an epoch that is in the store before ``welcome`` names it. Raises
        ``WorldHeld`` where another gateway is the world's home, ``PublisherPresent``."""
        try:
            return await self._attach_publisher(options, link, wanted)
        except PublisherPresent:
            await self._until_left()
        return await self._attach_publisher(options, link, wanted)

    async def _until_left(self) -> None:
        """Whoever comes back at once may have asked before the end of its own session was heard: wait for that, a moment."""
        self._left.clear()
        if self.world.publisher is not None:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._left.wait(), limits.PUBLISHER_LEAVES_S)

    async def _attach_publisher(self, options: LiveOptions, link: Link, wanted: Wanted) -> PublisherSession:
        if not self.homing.held:
            claim = options.takeover, options.epoch, options.resume
            await self._coming.wait(claim, lambda still: self._become(options.takeover, still), wanted)
        check_wanted(self.name, wanted)
        async with self.homing.using(takeover=options.takeover, wanted=wanted), self._attaching:
            check_wanted(self.name, wanted)
            reclaimed, resume = self.world.reclaim_epoch(options), options.resume
            epoch = await self._epochs.attached(reclaimed)
            self.homing.check()
            # Looked at after the store was asked: a request that its client gave up would leave a publisher that
            # never sends.
            check_wanted(self.name, wanted)
            return self.world.attach_publisher(
                link,
                epoch,
                time.monotonic(),
                takeover=options.takeover,
                resume=None if reclaimed is None else resume,
                fresh=secrets.token_hex(RESUME_HEX_DIGITS // 2),
            )

    async def post(self, messages: AsyncIterator[bytes], *, durable: bool, by: str = "") -> Posted:
        """Take one POST's messages; the publisher behind successive POSTs is one and the same. Raises
        :class:`WorldFull` where some of its records found no room: the others were taken."""
        if self.edge is not None:
            elsewhere = await self.edge.post(messages, durable=durable, by=by)
            if elsewhere is not None:
                return elsewhere
        if self._poster is None or self._poster.ended:
            try:
                self._poster = await LocalPublisher.attach(self, "http", by)
            except WorldHeld as error:
                raise self._passing(error) from None
        upload = Upload(self, self._poster, durable=durable, patience_s=DURABLE_S_MAX)
        # What others sent meanwhile is in it, too: better told too much than a record lost unseen.
        refused = self.world.counters.records_refused
        answer = await upload.receive(messages)
        refused = self.world.counters.records_refused - refused
        if refused:
            raise WorldFull(self.world.full_message(), refused_records=refused)
        return answer

    async def put_with(self, records: Sequence[Record], also: Callable[[apsw.Connection], T]) -> T:
        """Set or remove records as the gateway's own doing, and run ``also(connection)`` in the
        transaction that journals them; its answer. Raises what ``also`` raises, of which nothing stays
        but the records. ``also`` may run more than once."""
        async with self.homing.using():
            self.world.put(list(records), time.monotonic())
            return await self.pump.awaiting.along(self.world.state.order, also, DURABLE_S_MAX)

    async def info(self) -> Overview:
        """What ``GET /v1/worlds/{world}`` tells."""
        await self.homing.refresh()
        return overview(self)

    async def info_of_past(self, delay_s: float) -> Overview:
        """What :meth:`info` told so long ago, as far as it was recorded: nothing of who is there now."""
        return await past_overview(self, delay_s, self.until_us(delay_s))

    def facts(self) -> Facts:
        """What the rules tell of the world now."""
        facts = self.world.facts(time.monotonic())
        return replace(facts, readers=facts.readers - len(self.followers)) if self.followers else facts

    @property
    def is_quiet(self) -> bool:
        """True where nobody is attached: it may be closed and opened again unnoticed."""
        is_busy = self._attaching.locked() or self.homing.in_use or self._arriving > 0 or len(self.feeds) > 0
        return self.world.publisher is None and not self.world.subscribers and not is_busy

    async def _keep_house(self) -> None:
        # worlds that were opened together are not tidied up together: the store's commits would wait for all of it
        failures, maintained = 0, time.monotonic() - random.uniform(0.0, limits.MAINTAIN_S)
        while True:
            await asyncio.sleep(limits.HOUSEKEEPING_S)
            self._look_at_clock()
            if self._poster is not None and self._poster.idle_s() > self._linger_s:
                self._poster.detach()
                self._poster = None
            if self.homing.held and not self._attaching.locked():
                await self._epochs.settle()
            if time.monotonic() - maintained < limits.MAINTAIN_S:
                continue
            maintained = time.monotonic()
            try:
                await self.tidy()
            except GatewayError as error:
                failures += 1
                # The 1st, 2nd, 4th, 8th…: a store that is away for a night does not fill the log.
                if failures & (failures - 1) == 0:
                    log.warning("world %s: old history stays for now: %s", self.name, error.message)

    async def tidy(self) -> None:
        """Let go of old history and old versions, as far as that is due. The home asks the store for it, and nobody
        else while there is one: two that ask pay for the same work twice."""
        if self.homing.held or not self.homing.home.elsewhere:
            await self.database.maintain(as_home=self.homing.held)

    def shut_down(self, reason: str, reconnect_after_ms: int) -> None:
        """Say ``bye`` to every session."""
        self._closed = True
        self.world.shutdown(reason, reconnect_after_ms)
        self.feeds.bye(reason, reconnect_after_ms)

    async def close(self, timeout_s: float) -> bool:
        """Flush the journal and close the database. False: the last frames were not taken in time."""
        self._closed = True
        self.feeds.bye("closing", limits.DELAYED_COME_BACK_MS)
        self._housekeeping.cancel()
        if self.sources is not None:
            self.sources.stop()
        flushed = self.is_gone or await self.pump.until_empty(timeout_s)
        if not flushed:
            log.warning("world %s: the store did not take the last frames in time", self.name)
        # The home first, then the pump, then the database: each needs the next to write its last.
        await self.homing.stop(timeout_s)
        await self.pump.stop()
        await self.database.close()
        return flushed
