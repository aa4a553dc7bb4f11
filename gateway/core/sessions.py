"""The rules' end of a publisher's and of a subscriber's session. Room: core. Pure.

Both implement :class:`gateway.core.ports.Session`: a link calls them, they act on their world.
Whatever a peer sends, the answer is an ``error`` message and a close code, never an exception.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.core.events import SessionClosed
from gateway.core.gate import hand_on
from gateway.core.inbox import Inbox
from gateway.core.options import FOCUS_WEIGHT, parse_weights
from gateway.core.pings import Pongs
from gateway.core.ports import CloseCode, Link, Role
from gateway.core.reader import Reader
from gateway.core.states import PublisherState
from gateway.errors import BadInput, GatewayError, MalformedMessage
from gateway.limits import CONTROL_MESSAGE_BYTES_MAX, LATE_RUN_MAX, SESSION_STREAMS_MAX
from gateway.wire.control import CONTROL_BOUND, Control, encode_control, encode_error
from gateway.wire.frames import Frame, decode_message
from gateway.wire.streams import MESSAGE_FLAG

if TYPE_CHECKING:
    from gateway.core.world import World


class _Session:
    """What both roles share: streams into messages, errors into an answer and a close."""

    __slots__ = ("_attached_at", "_inbox", "_pongs", "closed", "link", "world")
    role: Role

    def __init__(self, world: World, link: Link, message_bytes_max: int, bound: str = MESSAGE_FLAG) -> None:
        self.world = world
        self.link = link
        self.closed = False
        self._inbox = Inbox(message_bytes_max, bound)
        self._attached_at = world.mono
        self._pongs = Pongs()

    @property
    def messages(self) -> int:
        """Taken from the peer, or given to its link."""
        raise NotImplementedError

    @property
    def buffered_bytes(self) -> int:
        """Of messages whose streams have not brought them whole yet; ``SESSION_STREAM_BYTES_MAX`` at most."""
        return self._inbox.buffered_bytes

    def receive(self, message: bytes, mono: float) -> None:
        """One whole message of the peer; raises :class:`GatewayError` where it cannot be taken."""
        raise NotImplementedError

    def on_message(self, data: bytes, mono: float) -> None:
        if self.closed:
            return
        try:
            self.receive(data, mono)
        except GatewayError as error:
            self.world.mono = mono
            self.refuse(error)

    def on_stream_data(self, stream_id: int, data: bytes, fin: bool, mono: float) -> None:
        if self.closed:
            return
        try:
            for message in self._inbox.feed(stream_id, data, fin):
                self.receive(message, mono)
        except GatewayError as error:
            self.world.mono = mono
            self.refuse(error)

    def on_stream_reset(self, stream_id: int) -> None:
        self._inbox.reset(stream_id)

    def refuse(self, error: GatewayError) -> None:
        """End the session with the reason."""
        if isinstance(error, BadInput):
            self.world.counters.malformed += 1
        self.world.refusals.note(error)
        code = CloseCode.MALFORMED if isinstance(error, BadInput) else CloseCode.ERROR
        self._end(encode_error(error), code, error.message)

    def bye(self, reason: str, code: CloseCode, reconnect_after_ms: int = 0, *, url: str = "") -> None:
        """End the session without blame. ``url``: the gateway where the world is from now on."""
        fields = {"world": self.world.name, "url": url} if url else {}
        message = encode_control("bye", reason=reason, reconnect_after_ms=reconnect_after_ms, **fields)
        self._end(message, code, reason)

    def _end(self, last: bytes, code: CloseCode, reason: str) -> None:
        if self.closed:
            return
        # Before anything is sent: a link that fails at it would call back, and must find the session over.
        self._left(reason)
        self.link.control(last)
        self.link.close(code, reason)

    def _left(self, why: str) -> None:
        if not self.closed:
            self.world.on_event(self._closed_event(why))
        self.closed = True
        self._inbox.clear()

    def _closed_event(self, why: str) -> SessionClosed:
        world, link = self.world, self.link
        seconds = max(0.0, world.mono - self._attached_at)
        return SessionClosed(world.name, self.role, link.transport, link.address, why, seconds, self.messages)


class PublisherSession(_Session):
    """A publisher's: its frames go to the world, with its epoch."""

    __slots__ = (
        *("_late_run", "_newest_tick", "_received_before", "_streams"),
        *("epoch", "wants_changes", "wants_lags"),
    )
    role = "publish"

    def __init__(self, world: World, link: Link, epoch: int) -> None:
        super().__init__(world, link, world.settings.message_bytes_max)
        self._streams: dict[int, float] = {}
        """Streams that have begun and not ended, and when; ``SESSION_STREAMS_MAX`` at most."""
        self.epoch = epoch
        self._received_before = world.counters.received
        self.wants_lags = False
        """It asked to hear when each commit was, to know the lag of every frame."""
        self.wants_changes = False
        """It asked for the frames by which the gateway changes the world: an entity goes to sleep, or wakes."""
        self._late_run = 0
        self._newest_tick = 0

    def on_stream_data(self, stream_id: int, data: bytes, fin: bool, mono: float) -> None:
        if not fin:
            self._streams.setdefault(stream_id, mono)
            if len(self._streams) > SESSION_STREAMS_MAX:  # no more are waited for; what they bring is taken
                del self._streams[next(iter(self._streams))]
        super().on_stream_data(stream_id, data, fin, mono)
        if fin:
            self._streams.pop(stream_id, None)

    def on_stream_reset(self, stream_id: int) -> None:
        super().on_stream_reset(stream_id)
        self._streams.pop(stream_id, None)

    @property
    def state(self) -> PublisherState:
        """Where it is, in the words of :data:`gateway.core.states.PUBLISHER`."""
        if self.closed:
            return PublisherState.OVER
        return PublisherState.LATE if self._late_run else PublisherState.IN_ORDER

    def may_bring(self, mono: float, is_newest: bool) -> bool:
        """Whether the rest of a frame that began by ``mono`` may be on its way to here and cannot be lost: by a stream
        that is open, or in order where nothing newer has come."""
        # In order, so that the newest frame is the only one that may be in the middle of coming.
        if not self.link.lossy:
            return is_newest
        return any(since <= mono for since in self._streams.values())

    def receive(self, message: bytes, mono: float) -> None:
        """One message: fanned out and on its way to the journal on return. Raises
        :class:`MalformedMessage`, also for a foreign epoch, another stride, or ticks that went back."""
        # A publisher's compressed message may unpack to so many times its size and no more (INFLATED_RATIO_MAX),
        # and hold as many records as it has bytes for: one of 1 KB must not cost megabytes.
        what = decode_message(message, proportionate=True)
        if isinstance(what, Control):
            self.wants_lags = self.wants_lags or what.type == "lags"
            self.wants_changes = self.wants_changes or what.type == "changes"
            hand_on(what, self.link)
            self._pongs.answer(what, self.link, mono)
            return
        if what.epoch and what.epoch != self.epoch:
            raise MalformedMessage(
                f"epoch {what.epoch} is not this session's, which is {self.epoch}; write 0, or attach anew"
            )
        # By after_input: what came to the socket in one read is offered to readers together (World.ingest).
        if self.world.ingest(what, message, self.epoch, mono, self.link.after_input):
            self._late_run = 0
            if what.tick > self._newest_tick:
                self._newest_tick = what.tick
        else:
            self._was_late(what)

    def _was_late(self, frame: Frame) -> None:
        """Late datagrams are nothing special; nothing but late messages means that ticks went back.
        The newest tick said again (a keyframe on reconnecting) is neither."""
        if frame.tick >= self._newest_tick:
            return
        # A run, not a count: one newer tick in between and they were reordered datagrams.
        self._late_run += 1
        if self._late_run >= LATE_RUN_MAX or not self.link.lossy:
            raise MalformedMessage(
                f"tick {frame.tick} went back: the newest of epoch {self.epoch} is {self.world.state.tick}; "
                "ticks rise within an epoch, attach without epoch= to start a new one"
            )

    def on_acked(self, token: int, count: int = 1) -> None:
        """A ``durable`` notice arrived; nobody has to read them."""

    def on_lost(self, token: int) -> None:
        """The ``durable`` notice is said again: it may have been the last one."""
        self.world.notice_lost()

    def on_writable(self, mono: float) -> None:
        """Nothing ever waits for a publisher."""

    def on_closed(self, mono: float) -> None:
        self.world.mono = mono
        self._left("left")

    @property
    def messages(self) -> int:
        return self.world.counters.received - self._received_before

    def _left(self, why: str) -> None:
        super()._left(why)
        self.world.publisher_left(self, self.world.mono)


class SubscriberSession(_Session):
    """A subscriber's: one :class:`Reader` of the world, and ``focus``."""

    __slots__ = ("follow", "on_acked", "reader")
    role = "subscribe"

    def __init__(self, world: World, link: Link, reader: Reader, follow: str | None = None) -> None:
        super().__init__(world, link, CONTROL_MESSAGE_BYTES_MAX, CONTROL_BOUND)
        self.reader = reader
        # The reader's own method: an ACK of a thousand readers' datagrams a tick comes here.
        self.on_acked = reader.on_acked
        self.follow = follow

    def receive(self, message: bytes, mono: float) -> None:
        """One message: ``focus`` sets weights, ``redundancy`` what is said twice; other control messages are for later versions."""
        what = decode_message(message)
        if isinstance(what, Frame):
            raise MalformedMessage(
                "a subscriber sent a frame; open the session with role=publish to send frames"
            )
        if what.type == "focus":
            self.reader.set_weights(focus_weights(what))
        elif what.type == "redundancy":
            is_on, parity = redundancy_of(what)
            self.reader.set_redundancy(is_on=is_on, parity=parity)
        elif what.type == "edge":
            self.world.on_edge(self)
        hand_on(what, self.link)
        self._pongs.answer(what, self.link, mono)

    def on_lost(self, token: int) -> None:
        self.reader.on_lost(token)

    def on_writable(self, mono: float) -> None:
        if not self.closed:
            self.reader.on_writable(mono)

    def on_closed(self, mono: float) -> None:
        self.world.mono = mono
        self._left("left")

    @property
    def messages(self) -> int:
        return self.reader.messages

    def _left(self, why: str) -> None:
        super()._left(why)
        self.world.subscriber_left(self)
        self.reader.let_go()


def focus_weights(message: Control) -> dict[int, float]:
    """``{"type":"focus","keys":[7,9],"weights":[4,0.5]}`` as key → weight; ``weights`` may be left out."""
    keys, weights = message.get("keys"), message.get("weights")
    if weights is None and isinstance(keys, list):
        weights = [FOCUS_WEIGHT] * len(keys)
    if not _numbers(keys, int) or not _numbers(weights, (int, float)) or len(keys) != len(weights):
        raise MalformedMessage('focus has "keys", a list of u32, and may have "weights", as many numbers')
    try:
        return parse_weights(list(zip(keys, map(float, weights), strict=True)))
    except OverflowError:
        raise MalformedMessage("a weight of focus is far too large") from None


def redundancy_of(message: Control) -> tuple[bool | None, bool | None]:
    """``{"type":"redundancy","mode":"auto","parity":true}`` as (on, parity), None for what it leaves out."""
    mode, parity = message.get("mode"), message.get("parity")
    if mode not in (None, "auto", "off"):
        raise MalformedMessage(f'the mode of redundancy is "auto" or "off", not {str(mode)[:40]!r}')
    if parity is not None and not isinstance(parity, bool):
        raise MalformedMessage(f"the parity of redundancy is true or false, not {str(parity)[:40]!r}")
    return None if mode is None else mode == "auto", parity


def _numbers(value: object, kind: type | tuple[type, ...]) -> bool:
    return isinstance(value, list) and all(
        isinstance(one, kind) and not isinstance(one, bool) for one in value
    )
