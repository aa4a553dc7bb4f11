"""One world: its publisher, its readers, its state, its journal. Room: core. Pure.

Rule 1 is :meth:`World.ingest`: a frame is on its way to every reader before it is entered into
the journal. Time comes in as ``mono`` (seconds of a monotonic clock) and, at :meth:`poll`, as
``now_us`` (microseconds since the Unix epoch). The caller polls at :attr:`next_poll` and carries
batches to the store: ``take_batch``, then ``committed`` or ``failed``.
"""

from __future__ import annotations

from collections.abc import Callable

from gateway.core.admission import Refusals
from gateway.core.capacity import Capacity
from gateway.core.counters import Counters
from gateway.core.events import Event, PublisherReplaced, SessionOpened, ignored
from gateway.core.fanout import FanOut
from gateway.core.farewells import come_back_later, go_elsewhere
from gateway.core.fullness import Fullness
from gateway.core.journal import JournalBuffer, Unjournalled
from gateway.core.keyframes import SharedKeyframe
from gateway.core.notices import DurableNotices
from gateway.core.outgoing import Outgoing, only
from gateway.core.place import PublisherPlace
from gateway.core.ports import CloseCode, Link, LiveOptions, Mark, Role
from gateway.core.queueing import QueueingReader
from gateway.core.rates import Rates
from gateway.core.reader import Reader
from gateway.core.sessions import PublisherSession, SubscriberSession
from gateway.core.state import WorldState
from gateway.core.told import Facts
from gateway.core.worldsettings import WorldSettings
from gateway.errors import MalformedMessage
from gateway.limits import (
    GAP_POLL_S,
    STREAM_MESSAGE_BYTES_MAX,
)
from gateway.wire.control import encode_control
from gateway.wire.frames import Frame, Record, decode_frame, encode_frame, with_epoch
from gateway.wire.journal import Batch, Tail

Later = Callable[[Callable[[], None]], None]


def _nothing() -> None:
    """Nobody waits for the place."""


def _nobody(session: SubscriberSession) -> None:
    """Other gateways are told nothing here."""


def _not_stale() -> int:
    """It is the home."""
    return 0


def at_once(call: Callable[[], None]) -> None:
    """Nothing else came with it."""
    call()


class World:
    """The rules of one world. Not thread-safe: everything is called from one event loop."""

    def __init__(
        self,
        name: str,
        settings: WorldSettings | None = None,
        *,
        mono: float,
        now_us: int,
        state: WorldState | None = None,
        next_seq: int = 0,
        last_epoch: int = 0,
        durable: Mark | None = None,
        tail: Tail | None = None,
        refusals: Refusals | None = None,
        delay_s: float = 0.0,
    ) -> None:
        """``state``, ``next_seq``, ``last_epoch``, ``durable`` (the newest row's moment) and ``tail`` are what the
        store remembers; ``refusals``: where
        records count that find no room. ``delay_s``: what is ingested comes from the store, so much later: it has
        readers and no publisher, and nothing goes into its journal."""
        self.name = name
        self.delay_s = delay_s
        self.settings = settings or WorldSettings()
        self._stride = self.settings.stride
        self._capacity = Capacity(self.settings.records_max, self.settings.bytes_max)
        self.refusals = Refusals() if refusals is None else refusals
        self.counters = Counters()
        self._full = Fullness(name, self._capacity, self.counters, self.refusals, mono)
        self._place = PublisherPlace(name, self.settings.linger_s, last_epoch)
        self.subscribers: dict[SubscriberSession, Reader] = {}
        self.on_work: Callable[[], None] | None = None
        """Called when :attr:`next_poll` has moved forward, or a batch can be taken."""
        self.on_place_free: Callable[[], None] = _nothing
        """Called when the publisher has left."""
        self.on_event: Callable[[Event], None] = ignored
        """Told of sessions that begin and end; a few a session, none a frame."""
        self.on_edge: Callable[[SubscriberSession], None] = _nobody
        """Told of a reader that is another gateway, and asks whose frames it gets."""
        self.hops = 0
        """Gateways between the world's home and this one, which is fed by them; 0: it is fed by none."""
        self.stale_ms: Callable[[], int] = _not_stale
        """For how long nothing was heard of the home, where :attr:`hops` is not 0."""
        self.rates = Rates(mono, self.counters)
        self._wall_offset_us = now_us - int(mono * 1e6)
        self._lingered_out = False
        self._notices = DurableNotices()
        self._last_keys: tuple[int, ...] = ()
        self.is_fed = False
        """What is ingested comes from the world's home, which alone keeps a journal."""
        self._forgone: Batch | None = None
        """What was in flight when the journal became another one: its end matters to nobody, and it is not to be tried again."""
        self._begin_with(WorldState() if state is None else state, next_seq, durable, tail)
        self.mono = mono

    def _begin_with(self, state: WorldState, next_seq: int, durable: Mark | None, tail: Tail | None) -> None:
        """Nobody reads now: start from what the store holds."""
        self.state = state
        self.state.capacity = self._capacity
        self.state.stride = self.state.stride or self.settings.stride
        self._fanout = FanOut(self.state, self.counters, self._wake, self.settings.reader_datagrams_max)
        self._journal_from(next_seq, durable, tail)

    def _journal_from(self, next_seq: int, durable: Mark | None, tail: Tail | None = None) -> None:
        # Whose frames come from the store, or from the home that records them, must not write them again.
        kind = Unjournalled if self.delay_s or self.is_fed else JournalBuffer
        self.journal = kind(
            self._fresh_keyframe,
            self.counters,
            next_seq=next_seq,
            durable=durable,
            keyframe_interval_s=self.settings.keyframe_interval_s,
            bytes_max=self.settings.journal_bytes_max,
            tail=tail,
        )
        self.journal.coming = self._may_come
        self._epoch_announced = self.state.epoch
        self._announce_due = False
        self._gaps_at: float | None = None

    def _may_come(self, mono: float, is_newest: bool) -> bool:
        """For the journal: :meth:`PublisherSession.may_bring`."""
        return self.publisher is not None and self.publisher.may_bring(mono, is_newest)

    @property
    def mono(self) -> float:
        """The newest time that the world was told."""
        return self._fanout.mono

    @mono.setter
    def mono(self, mono: float) -> None:
        self._fanout.mono = mono

    # --- sessions --------------------------------------------------------------------------

    @property
    def publisher(self) -> PublisherSession | None:
        """Who publishes now."""
        return self._place.publisher

    @property
    def publisher_left_us(self) -> int | None:
        """When the last publisher's link went (µs, Unix); None while there is one."""
        return self._place.left_us

    @property
    def last_epoch(self) -> int:
        """The epoch handed out last: the only one that can be asked back."""
        return self._place.last_epoch

    @last_epoch.setter
    def last_epoch(self, epoch: int) -> None:
        self._place.last_epoch = epoch

    def reclaim_epoch(self, options: LiveOptions) -> int | None:
        """:meth:`PublisherPlace.reclaim_epoch`."""
        return self._place.reclaim_epoch(options)

    def attach_publisher(
        self,
        link: Link,
        epoch: int,
        mono: float,
        *,
        takeover: bool = False,
        resume: str | None = None,
        fresh: str = "",
    ) -> PublisherSession:
        """A publisher with the epoch it was given. One that is still there gets ``bye``: it was taken
        over, or it is the same one, come back on another connection with its secret, ``resume``. ``fresh``: 32 hex
        digits that nobody can guess, the secret of an epoch that has none."""
        present = self._place.vacate(epoch, takeover=takeover, resume=resume)
        if present is not None:
            taken = epoch != present.epoch
            self.on_event(PublisherReplaced(self.name, present.epoch, epoch, link.address))
            present.bye("taken_over" if taken else "reconnected", CloseCode.TAKEN_OVER)
        self.mono = mono
        session = PublisherSession(self, link, epoch)
        told = self._place.occupy(session, resume, fresh)
        self._notices.again()
        self.counters.publishers += 1
        self.on_event(SessionOpened(self.name, "publish", link.transport, link.address, epoch))
        link.control(self._welcome("publish", epoch, link, mono, **({"resume": told} if told else {})))
        return session

    def attach_subscriber(self, link: Link, options: LiveOptions, mono: float) -> SubscriberSession:
        """A reader: ``welcome``, then ``resync`` and a keyframe if there is any state."""
        self.mono = mono
        kind = Reader if options.conflate or link.lossy else QueueingReader
        reader = kind(
            self.state,
            link,
            mono,
            late=self._fanout.late,
            keyframes=self._fanout.keyframes,
            repairs=self._fanout.repairs,
            counters=self.counters,
            zstd=options.zstd,
            budget_kbps=options.budget_kbps,
            weights=options.keys,
            lag_s=self.settings.lag_s,
            datagrams_max=self.settings.reader_datagrams_max,
            behind=self._fanout.behind,
            again=self._fanout,
            redundancy=options.redundancy,
            parity=options.parity,
        )
        session = SubscriberSession(self, link, reader, options.follow)
        if not self.subscribers:
            self._fanout.keyframes.forget()  # what came while nobody read was not noted there
        self.subscribers[session] = reader
        self._fanout.set_readers(self.subscribers.values())
        self.counters.subscribers += 1
        epoch = self.state.epoch or self.last_epoch
        self.on_event(SessionOpened(self.name, "subscribe", link.transport, link.address, epoch))
        far = {"hops": self.hops, "stale_ms": self.stale_ms()} if self.hops else {}
        more = {"delay_s": self.delay_s} if self.delay_s else far
        link.control(self._welcome("subscribe", epoch, link, mono, **more))
        if self._settled:
            reader.want_keyframe("joined", mono)
        else:
            self._announce_due = True
        return session

    def publisher_left(self, session: PublisherSession, mono: float) -> None:
        """Its link is gone: readers notice nothing until the linger time is over."""
        if self._place.left(session, mono, self.wall_us(mono)):
            self._wake()
            self.on_place_free()

    def subscriber_left(self, session: SubscriberSession) -> None:
        if self.subscribers.pop(session, None) is not None:
            self._fanout.set_readers(self.subscribers.values())

    def shutdown(self, reason: str, reconnect_after_ms: int) -> None:
        """``bye`` to everybody: the gateway is going, or the world is. Readers are told to come back
        at times that are spread over twice that, ``DRAIN_SPREAD_MS`` at most; the publisher comes first."""
        come_back_later(list(self.subscribers), reason, reconnect_after_ms)
        self._place.bye(reason, CloseCode.SHUTTING_DOWN, reconnect_after_ms)

    def adopt(
        self,
        state: WorldState | None,
        *,
        next_seq: int,
        last_epoch: int,
        durable: Mark | None,
        mono: float,
        tail: Tail | None = None,
    ) -> None:
        """Go on from what another gateway has recorded meanwhile. What waits for the store here is forgotten. Readers get what
        is news to them: of a world that was fed they have nearly all. In another epoch they start afresh."""
        self._forgo()
        self.last_epoch, self.is_fed = last_epoch, False
        if not self.subscribers:
            # The state was read meanwhile: time must not go back for what was told since.
            mono = max(mono, self.mono)
            self._begin_with(WorldState() if state is None else state, next_seq, durable, tail)
            self.mono = mono
            return
        before, epoch, news = self.state.order, self.state.epoch, dict[int, None]()
        for message in () if state is None else state.keyframe_messages(STREAM_MESSAGE_BYTES_MAX):
            applied = self.state.apply(decode_frame(message))
            news |= dict.fromkeys([*applied.changed, *applied.dropped])
        self._journal_from(next_seq, durable, tail)
        if self.state.epoch != epoch:
            self._fanout.want_keyframe("new_epoch", mono)
        elif news or self.state.order != before:
            self._fanout.lacks(tuple(news), mono)
        self._wake()

    def begin_fed(self, mono: float) -> None:
        """From here on what is ingested comes from the world's home, until :meth:`adopt`. Readers go on from what there is."""
        self._forgo()
        self.is_fed = True
        self._journal_from(self.journal.next_seq, self.journal.durable)
        self.mono = max(mono, self.mono)

    def moved_away(self, url: str, *, readers_stay: bool = False) -> None:
        """Another gateway is the world's home now, reached at ``url`` ("": not known): everybody is told, and what
        waits for the store is forgotten, since it takes nothing from here any more. ``readers_stay``: the home is
        followed from here."""
        self._forgo()
        self._journal_from(self.journal.next_seq, self.journal.durable)
        self.publisher_goes("taken_over", url)
        if not readers_stay:
            self.readers_to(url)

    def publisher_goes(self, reason: str, url: str) -> None:
        """The publisher is at another gateway now, at ``url`` ("": not known), or another one is there; nobody lingers."""
        self._place.linger_until = None
        self._place.bye(reason, CloseCode.TAKEN_OVER, url=url)

    def may_go(self, options: LiveOptions) -> bool:
        """:meth:`PublisherPlace.may_go`."""
        return self._place.may_go(options)

    def readers_to(self, url: str) -> None:
        """Readers find the world at another gateway now."""
        go_elsewhere(list(self.subscribers), self.name, url)

    @property
    def is_lingering(self) -> bool:
        """True while a publisher that went away may come back unnoticed."""
        return self._place.linger_until is not None

    def is_publishers(self, resume: str | None) -> bool:
        """:meth:`PublisherPlace.is_publishers`."""
        return self._place.is_publishers(resume)

    def _welcome(self, role: Role, epoch: int, link: Link, mono: float, **more: object) -> bytes:
        durable = self.journal.durable
        if self.delay_s:
            durable = Mark(self.state.epoch, self.state.tick) if self.state.epoch else None
        return encode_control(
            "welcome",
            world=self.name,
            role=role,
            epoch=epoch,
            tick=self.state.tick if epoch == self.state.epoch else 0,
            durable=None if durable is None else {"epoch": durable.epoch, "tick": durable.tick},
            max_datagram=link.message_bytes_max(),
            server_time=self.wall_us(mono),
            **more,
        )

    # --- frames ----------------------------------------------------------------------------

    def ingest(self, frame: Frame, message: bytes, epoch: int, mono: float, later: Later = at_once) -> bool:
        """Take a frame message of the publisher: fan it out, and enter it into the journal. False:
        it brought nothing new. ``later`` makes the call that it is given once all that came with the message has
        been taken, still in the same turn of the loop: readers get that together, and nothing is
        committed before. Raises :class:`MalformedMessage` for a stride that is not the world's."""
        counters, state, stride = self.counters, self.state, frame.stride
        counters.received += 1
        counters.received_bytes += len(message)
        if stride and stride != self._stride and self._stride:
            raise MalformedMessage(
                f"stride {stride} is not that of world {self.name}, which is {self._stride}; "
                "send stride 0, or create another world"
            )
        # A publisher may write epoch 0 for its own; readers and the journal must have the number.
        if frame.epoch != epoch:
            message = with_epoch(message, epoch)
            frame.epoch = epoch
        # The first epoch of an empty world is news to nobody: whoever joined before it has nothing to throw away.
        if not self._epoch_announced and not len(state):
            self._epoch_announced = epoch
        before = state.order
        applied = state.apply(frame)
        changed = applied.changed
        if self._capacity.refused != self._full.noted:
            self._full.note(self._place.publisher, mono)
        if not changed and not applied.dropped and state.order == before:
            counters.late += 1
            self.journal.saw(epoch, frame.tick, frame.part, frame.parts, mono)
            if self.journal.mark_is_behind:
                self._wake()
            return False
        # What is older than what readers have must not go out: they would refuse it, and it would cost as much as
        # the rest.
        if len(changed) < len(frame.keys):
            frame = only(frame, changed)
            message = encode_frame(frame)
        self._spread(frame, message, self._shared(changed), mono, later)
        if applied.dropped:
            self._spread_removals(frame, applied.dropped, mono, later)
        if self._epoch_announced != epoch or self._announce_due or self._lingered_out:
            self._announce_epoch(mono)
        return True

    def put(self, records: list[Record], mono: float) -> Frame:
        """Set or remove (data None) records on the gateway's own account, one tick after the
        newest: they are fanned out and journalled like a frame of the publisher's, which is answered. The publisher
        is told where it asked for it, or its next keyframe would undo it: in its own epoch, of which it may have sent nothing."""
        state = self.state
        frame = Frame(state.epoch, state.tick + 1, records, parts=1, sent_at=self.wall_us(mono))
        message = encode_frame(frame)
        self.ingest(frame, message, state.epoch, mono)
        publisher = self.publisher
        if publisher is not None and publisher.wants_changes:
            told = message if publisher.epoch == state.epoch else with_epoch(message, publisher.epoch)
            publisher.link.send_stream([told])
        return frame

    def full_message(self) -> str:
        """What a publisher is told whose records find no room."""
        return self._full.message()

    def _spread(self, frame: Frame, message: bytes, keys: tuple[int, ...], mono: float, later: Later) -> None:
        if self.subscribers:
            self._fanout.mono = mono
            is_first = self._fanout.collect(Outgoing(frame, message, keys), mono)
            # One call for all that came together: the first message asks for it, the others are in what it offers.
            if is_first or later is at_once:
                later(self._offer)
        journal, wall_us = self.journal, int(mono * 1e6) + self._wall_offset_us
        # Rule 1: behind the readers, whose messages are collected by now.
        must_wake = journal.add(
            frame.epoch, frame.tick, frame.part, frame.parts, frame.sent_at, message, mono, wall_us
        )
        if self._gaps_at is None and journal.is_unsure:
            self._gaps_at = mono + GAP_POLL_S
            self._wake()
        elif must_wake:
            self._wake()

    def _fresh_keyframe(self, mono: float) -> SharedKeyframe:
        """For the journal. Where nobody reads there is nobody to share it with, and it is as large as the state."""
        made = self._fanout.keyframes.fresh(mono)
        if not self.subscribers:
            self._fanout.keyframes.forget()
        return made

    def _offer(self) -> None:
        """Everybody is offered what was taken since the last time."""
        self._fanout.spread(self.mono)

    def _spread_removals(
        self,
        frame: Frame,
        dropped: tuple[int, ...],
        mono: float,
        later: Later,
    ) -> None:
        """What a whole keyframe removed, said outright: a reader may have missed one of its parts."""
        removal = Frame(
            frame.epoch, frame.tick, [Record(key, None) for key in dropped], parts=0, sent_at=frame.sent_at
        )
        self._spread(removal, encode_frame(removal), dropped, mono, later)

    def _shared(self, keys: tuple[int, ...]) -> tuple[int, ...]:
        """The same tuple for the same keys, frame after frame."""
        # Compared once here, so that everything behind it (window, slots, repairs) may compare by identity, and one
        # tuple is held for all frames in flight.
        if keys is self._last_keys or keys == self._last_keys:
            return self._last_keys
        self._last_keys = keys
        return keys

    @property
    def _settled(self) -> bool:
        """False while parts of an epoch's tick 0 may still come: in a keyframe of that moment records
        of earlier epochs, which have tick 0 there, would not give way to them."""
        return self.state.tick > 0 or not self.journal.awaits

    def _announce_epoch(self, mono: float) -> None:
        """Readers start afresh: from a keyframe, once the new epoch is settled."""
        self._announce_due = not self._settled
        if self._announce_due:
            return
        self._epoch_announced, self._lingered_out = self.state.epoch, False
        self._fanout.want_keyframe("new_epoch", mono)

    # --- journal ---------------------------------------------------------------------------

    def take_batch(self, mono: float) -> Batch | None:
        """The next batch for the store, if there is one and none is in flight."""
        self.rates.sample(mono)
        return self.journal.take_batch(mono, self.wall_us(mono))

    def is_forgone(self, batch: Batch) -> bool:
        """Whether it was taken from a journal that is none any more: its rows have numbers that another's may have."""
        return batch is self._forgone

    def _forgo(self) -> None:
        """The journal is to be another one: whoever commits what was taken from it must not."""
        self._forgone = self.journal.in_flight or self._forgone

    def committed(self, batch: Batch, mono: float) -> None:
        """The store answered: it is down."""
        if self.is_forgone(batch):
            return
        before = self.journal.durable
        self.journal.committed(batch)
        durable = self.journal.durable
        if durable is not None and durable is not before:
            self._notices.moved(durable, mono)
        self._notice(mono, fresh=True)
        self._wake()

    def failed(self, batch: Batch, mono: float) -> None:
        """The store did not answer, or said no: the same batch is given again by :meth:`take_batch`."""
        if not self.is_forgone(batch):
            self.journal.failed(batch)

    # --- time ------------------------------------------------------------------------------

    @property
    def next_poll(self) -> float | None:
        """When :meth:`poll` is wanted next (``mono``), or None."""
        soonest = self._fanout.due
        for at in (self._place.linger_until, self._gaps_at, self._notice_due()):
            if at is not None and (soonest is None or at < soonest):
                soonest = at
        return soonest

    def poll(self, mono: float, now_us: int) -> None:
        """Do what time alone must do. Cheap when nothing is due; may be called at any time."""
        self.mono = mono
        self._wall_offset_us = now_us - int(mono * 1e6)
        self._fanout.poll(mono)
        if self._gaps_at is not None and mono >= self._gaps_at:
            self.journal.note_gaps(mono)
            self._gaps_at = mono + GAP_POLL_S if self.journal.is_unsure else None
            if self._announce_due:
                self._announce_epoch(mono)
        if self._place.linger_until is not None and mono >= self._place.linger_until:
            self._place.linger_until, self._lingered_out = None, True
        self._notice(mono)

    def wall_us(self, mono: float) -> int:
        """The wall clock at ``mono``, microseconds since the Unix epoch."""
        return int(mono * 1e6) + self._wall_offset_us

    def _notice_due(self) -> float | None:
        publisher = self.publisher
        return None if publisher is None else self._notices.due(self.journal.durable, publisher.epoch)

    def _notice(self, mono: float, *, fresh: bool = False) -> None:
        """Tell the publisher how far the store is, if it is time. ``fresh``: it has just answered."""
        publisher, durable = self.publisher, self.journal.durable
        if publisher is None or durable is None:
            return
        if self._notices.is_due(durable, publisher.epoch, mono, busy=not self.journal.empty, fresh=fresh):
            wants = publisher.wants_lags
            self._notices.say(durable, publisher.link, mono, self.journal.let_go, each_commit=wants)

    def notice_lost(self) -> None:
        """A ``durable`` notice did not arrive."""
        self._notices.again()
        self._wake()

    def _wake(self) -> None:
        if self.on_work is not None:
            self.on_work()

    # --- facts -----------------------------------------------------------------------------

    def facts(self, mono: float) -> Facts:
        """What there is to say of it now."""
        publisher = self.publisher
        return Facts(
            self.name,
            self.settings.stride or self.state.stride,
            max(self.last_epoch, self.state.epoch),
            self.state.tick,
            self.journal.durable,
            None if publisher is None else publisher.link.transport,
            len(self.subscribers),
            self.rates.as_dict(mono),
            len(self.state),
        )
