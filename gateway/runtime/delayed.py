"""Delayed views of a world: one reading of its journal for all readers of one delay. Room: runtime.

A feed is a second world of ``core``, to which readers attach as to the live one, on any link. Its frames come from the
store, each when it is as old as the delay says, at the pace at which they came. What is read ahead stays
here: no message of a reader reaches it. Source: ``docs/FRAMES.md``, "A delayed view".
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from typing import Final, Protocol, cast

from gateway import limits
from gateway.core.events import Event, SessionClosed
from gateway.core.ports import Hosted, Link, LiveOptions
from gateway.core.state import WorldState
from gateway.core.world import World
from gateway.core.worldsettings import WorldSettings
from gateway.errors import GatewayError, Overloaded, ShuttingDown, StoreUnavailable, WorldDeleted
from gateway.store.world import History
from gateway.store.world.lanes import WorldLanes as Recorded
from gateway.store.world.tail import ShownRow, Stretch, TailReader
from gateway.wallclock import now_us
from gateway.wire.frames import decode_frame

log = logging.getLogger("mvgateway.delayed")

FEEDS_FLAG: Final = "--delayed-feeds-max"
WORLD_FEEDS_FLAG: Final = "--delayed-feeds-per-world-max"


class DelayedSource(Protocol):
    """The world that is shown."""

    name: str

    def until_us(self, delay_s: float) -> int | None:
        """What was received after it is less than ``delay_s`` old. Raises ``Unprocessable`` where nothing so old is kept."""

    def has_news(self, since_mono: float) -> bool:
        """Whether something may have been recorded since then."""

    def gone_by(self, error: WorldDeleted) -> None:
        """A reading found that the world was deleted."""


class Counts:
    """Of all feeds of a gateway. Plain numbers."""

    def __init__(self) -> None:
        self.feeds = 0
        self.feeds_begun = 0
        self.readings = 0
        self.readings_failed = 0
        self.rows = 0


class DelayedFeed:
    """One world as it was ``delay_s`` ago. Wait for :meth:`ready`, then attach readers to :attr:`world`."""

    def __init__(
        self,
        source: DelayedSource,
        recorded: Recorded,
        delay_s: float,
        settings: WorldSettings,
        on_event: Callable[[Event], None],
        on_over: Callable[[DelayedFeed], None],
        counts: Counts,
    ) -> None:
        self.delay_s = delay_s
        self.world: World
        self.arriving = 0
        """Readers that are about to be attached."""
        self._source = source
        self._recorded = recorded
        self._settings = settings
        self._on_event = on_event
        self._on_over = on_over
        self._counts = counts
        self._tail = TailReader()
        self._rows: deque[tuple[int, tuple[bytes, ...]]] = deque()
        """What comes next: when it came, and its messages."""
        # Read ahead so far, and at least three readings in that time: one that fails or is late leaves others before
        # anything is missed.
        self._ahead_us = round(min(delay_s * 0.75, limits.DELAYED_AHEAD_S_MAX) * 1e6)
        self._every_s = min(self._ahead_us / 3e6, limits.DELAYED_READ_S_MAX)
        self._bytes = 0
        self._has_room = asyncio.Event()
        self._offer: Callable[[], None] | None = None
        self._loop = asyncio.get_running_loop()
        self._show_timer: asyncio.TimerHandle | None = None
        self._poll_timer: asyncio.TimerHandle | None = None
        self._poll_at: float | None = None
        self._over = False
        self._began = self._loop.create_task(self._begin())
        self._following: asyncio.Task[None] | None = None

    async def ready(self) -> None:
        """The state of then is there on return. Raises what the store raises, ``ShuttingDown``."""
        # wait(): a reader that goes away must not cancel what the others wait for.
        await asyncio.wait([self._began])
        if self._began.cancelled():
            raise self._ended()
        self._began.result()

    def _ended(self) -> ShuttingDown:
        return ShuttingDown(
            f"the delayed view of world {self._source.name} is being closed; connect again",
            reconnect_after_ms=500,
        )

    @property
    def readers(self) -> int:
        """How many are attached."""
        return 0 if self._following is None or self._over else len(self.world.subscribers)

    def attach(self, options: LiveOptions, link: Link) -> Hosted:
        """A reader, once it is :meth:`ready`. Raises ``ShuttingDown``."""
        if self._over:
            raise self._ended()
        return self.world.attach_subscriber(link, options, time.monotonic())

    # --- the beginning and the end -----------------------------------------------------------

    async def _begin(self) -> None:
        until_us = self._until_us()
        state = cast(
            WorldState, await self._recorded.history(lambda history: self._tail.begin(history, until_us))
        )
        mono = time.monotonic()
        self.world = World(
            self._source.name,
            self._settings,
            mono=mono,
            now_us=now_us(),
            state=state,
            delay_s=self.delay_s,
        )
        self.world.on_event = self._saw
        self.world.on_work = self._set_poll
        self._following = self._loop.create_task(self._follow())

    def _saw(self, event: Event) -> None:
        self._on_event(event)
        if isinstance(event, SessionClosed):
            # Not at once: the session is taken off the world's list only after this event.
            self._loop.call_soon(self.end_if_idle)

    def end_if_idle(self) -> None:
        """Nobody watches any more: the feed ends."""
        # `arriving`: who waits for ready() is no reader of the world so far.
        if not self._over and not self.arriving and not self.readers:
            self.stop()

    def stop(self, error: GatewayError | None = None) -> None:
        """Read and show no more. ``error``: what the readers are told. Idempotent."""
        if self._over:
            return
        # Before `_over` is set: `readers` is 0 from then on. And a copy, as each refusal takes one off.
        sessions = list(self.world.subscribers) if self.readers else []
        self._over = True
        self._has_room.set()
        for timer in (self._show_timer, self._poll_timer):
            if timer is not None:
                timer.cancel()
        for task in (self._began, self._following):
            # Called by _follow() itself, where the store says no: it must get to its end.
            if task is not None and task is not asyncio.current_task():
                task.cancel()
        self._rows.clear()
        if error is not None:
            for session in sessions:
                session.refuse(error)
        self._on_over(self)

    def bye(self, reason: str, reconnect_after_ms: int) -> None:
        """The gateway is going, or the world is."""
        if self.readers:
            self.world.shutdown(reason, reconnect_after_ms)
        self.stop()

    # --- reading -----------------------------------------------------------------------------

    def _until_us(self) -> int:
        until_us = self._source.until_us(self.delay_s)
        assert until_us is not None
        return until_us

    async def _follow(self) -> None:
        """Read what comes, a stretch ahead of what is shown. A store that is away is asked again and again: readers see
        nothing new meanwhile, and everything afterwards."""
        try:
            while True:
                began = time.monotonic()
                more = await self._read()
                if more != "now":
                    await asyncio.sleep(self._every_s)
                # Polled: an Event would have to be set at each commit of the world, for a view that looks some
                # times a second.
                while more == "none" and not self._source.has_news(began):  # noqa: ASYNC110
                    await asyncio.sleep(self._every_s)
                while self._bytes >= limits.DELAYED_BYTES_MAX:
                    self._has_room.clear()
                    await self._has_room.wait()
        except WorldDeleted as error:
            self._source.gone_by(error)
            self.stop(error)
        except GatewayError as error:
            self.stop(error)
        except Exception as error:
            log.exception("world %s: its delayed view has failed", self._source.name)
            self.stop(
                StoreUnavailable(f"the delayed view of world {self._source.name} has failed: {error!r}")
            )

    async def _read(self) -> str:
        """One stretch, and whether there is more: as :class:`Stretch` says it."""
        until_us = self._until_us() + self._ahead_us

        def read(history: History) -> Stretch:
            return self._tail.next(history, until_us, limits.DELAYED_ROWS_MAX, limits.DELAYED_BYTES_MAX)

        self._counts.readings += 1
        try:
            stretch = await self._recorded.history(read)
        except GatewayError as error:
            if not error.retry or isinstance(error, ShuttingDown):
                raise
            self._counts.readings_failed += 1
            log.debug("world %s: its delayed view waits for the store: %s", self._source.name, error.message)
            return "later"
        for row in stretch.rows:
            self._enter(row)
        self._show()
        return stretch.more

    def _enter(self, row: ShownRow) -> None:
        """A row that came is due, and so is all before it."""
        came_us, rows = row.received_at_us, self._rows
        at = len(rows) - 1
        # A clock that was set back makes later rows older: those before it are due no later than it is.
        while at >= 0 and rows[at][0] > came_us:
            rows[at] = (came_us, rows[at][1])
            at -= 1
        if row.messages:
            rows.append((came_us, row.messages))
            self._bytes += sum(map(len, row.messages))
            self._counts.rows += 1

    # --- showing -----------------------------------------------------------------------------

    def _show(self) -> None:
        """Everything that is old enough by now, as one offer; then a timer for the next."""
        if self._show_timer is not None:
            self._show_timer.cancel()
            self._show_timer = None
        if self._over:
            return
        try:
            until_us = self._until_us()
            self._take(until_us)
        except GatewayError as error:
            self.stop(error)
            return
        if self._rows:
            # Never sooner: rows a millisecond apart go out together, in place of a timer each.
            wait_s = max((self._rows[0][0] - until_us) / 1e6, limits.DELAYED_STEP_S)
            self._show_timer = self._loop.call_later(wait_s, self._show)

    def _take(self, until_us: int) -> None:
        world, rows, mono = self.world, self._rows, time.monotonic()
        # So many in a turn of the loop: live sessions share it.
        left = limits.DELAYED_ROWS_AT_ONCE_MAX
        while rows and rows[0][0] <= until_us and left:
            _, messages = rows.popleft()
            left -= 1
            for message in messages:
                self._bytes -= len(message)
                frame = decode_frame(message)
                world.ingest(frame, message, frame.epoch, mono, self._later)
        if self._bytes < limits.DELAYED_BYTES_MAX:
            self._has_room.set()
        offer, self._offer = self._offer, None
        if offer is not None:
            offer()
        self._set_poll()

    def _later(self, offer: Callable[[], None]) -> None:
        """What was taken together goes out together."""
        self._offer = offer

    def _set_poll(self) -> None:
        """When the world wants to be polled next."""
        at = self.world.next_poll
        # Asked at each piece of work: mostly nothing has changed, and a timer is not made anew.
        if at == self._poll_at or self._over:
            return
        if self._poll_timer is not None:
            self._poll_timer.cancel()
            self._poll_timer = None
        self._poll_at = at
        if at is not None:
            self._poll_timer = self._loop.call_later(max(0.0, at - time.monotonic()), self._poll)

    def _poll(self) -> None:
        self._poll_timer, self._poll_at = None, None
        self.world.poll(time.monotonic(), now_us())
        self._set_poll()


class Feeds:
    """The feeds of one world. ``counts``: of all worlds; ``feeds_max``: of all, ``world_feeds_max``: of this one."""

    def __init__(
        self,
        source: DelayedSource,
        recorded: Recorded,
        settings: WorldSettings,
        on_event: Callable[[Event], None],
        counts: Counts,
        *,
        feeds_max: int,
        world_feeds_max: int,
    ) -> None:
        self._source = source
        self._recorded = recorded
        self._settings = settings
        self._on_event = on_event
        self._counts = counts
        self._feeds_max = feeds_max
        self._world_feeds_max = world_feeds_max
        self._feeds: dict[float, DelayedFeed] = {}
        self._closed = False

    def __len__(self) -> int:
        return len(self._feeds)

    @property
    def readers(self) -> int:
        """Of all delays."""
        return sum(feed.readers + feed.arriving for feed in self._feeds.values())

    async def open_session(self, options: LiveOptions, link: Link) -> Hosted:
        """Attach a reader to the feed of its delay, which begins with the first. Raises ``Overloaded``,
        ``Unprocessable`` where nothing so old is kept, and what the store raises."""
        # Raises before a feed is made for a delay that cannot be had.
        self._source.until_us(options.delay_s)
        feed = self._feed(options.delay_s)
        feed.arriving += 1
        try:
            await feed.ready()
            return feed.attach(options, link)
        finally:
            feed.arriving -= 1
            # Also where ready() has failed: a feed without a world is not kept for the next one to find.
            feed.end_if_idle()

    def _feed(self, delay_s: float) -> DelayedFeed:
        feed = self._feeds.get(delay_s)
        if feed is not None:
            return feed
        self._check_room()
        if self._closed:
            raise ShuttingDown(
                f"world {self._source.name} is being closed; connect again", reconnect_after_ms=500
            )
        made = self._feeds[delay_s] = DelayedFeed(
            self._source, self._recorded, delay_s, self._settings, self._on_event, self._forget, self._counts
        )
        self._counts.feeds += 1
        self._counts.feeds_begun += 1
        return made

    def _check_room(self) -> None:
        for have, most, flag, where in (
            (len(self._feeds), self._world_feeds_max, WORLD_FEEDS_FLAG, f"world {self._source.name}"),
            (self._counts.feeds, self._feeds_max, FEEDS_FLAG, "this gateway"),
        ):
            if have >= most:
                raise Overloaded(
                    f"{where} is watched with {have} different delays, which is the bound; ask for one that others "
                    f"have, or raise {flag}",
                    bound=flag,
                    limit=most,
                )

    def _forget(self, feed: DelayedFeed) -> None:
        if self._feeds.get(feed.delay_s) is feed:
            del self._feeds[feed.delay_s]
            self._counts.feeds -= 1

    def bye(self, reason: str, reconnect_after_ms: int) -> None:
        """``bye`` to every reader, and no more of them."""
        self._closed = True
        for feed in list(self._feeds.values()):
            feed.bye(reason, reconnect_after_ms)

    def tell(self) -> dict[float, int]:
        """Readers by delay."""
        return {delay_s: feed.readers for delay_s, feed in self._feeds.items()}
