"""A replay session: a viewer plays, seeks, steps and rewinds a world's recording. Room: runtime.

Everything goes out by streams, one at a time, each only when the one before has arrived: so frames,
``resync`` and keyframes keep their order, and a slow viewer holds nobody but itself.
Source: ``docs/RECOVERY.md``, "Replay sessions"; the rules are in :mod:`gateway.core.replay`.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Awaitable, Callable
from copy import copy
from typing import Protocol, TypeVar, cast

from gateway import limits
from gateway.core.gate import hand_on
from gateway.core.inbox import Inbox
from gateway.core.pings import Pongs
from gateway.core.ports import CloseCode, Hosted, Link, LiveOptions
from gateway.core.replay import Command, CountingLink, Pace, parse_command
from gateway.core.state import WorldState
from gateway.core.steady import SteadyTime
from gateway.errors import BadInput, GatewayError, NothingRecorded
from gateway.http.queries import time_us
from gateway.runtime.rewinding import Shown, beginning, keyframe_messages, neighbour, states_before
from gateway.store.world import FrameCursor, History, Recovered
from gateway.wallclock import now_us
from gateway.wire import Control, decode_message, encode_control, encode_error
from gateway.wire.control import CONTROL_BOUND
from gateway.wire.journal import Gap, JournalFrame, gap_message

T = TypeVar("T")
OpenLive = Callable[[LiveOptions, Link], Awaitable[Hosted]]


class Recorded(Protocol):
    """What a viewer may see of a world's recording."""

    async def history(self, fn: Callable[[History], T]) -> T:
        """``fn(history)`` on a reading thread."""


class ReplaySession:
    """One viewer. Implements :class:`gateway.core.ports.Session`; :meth:`start` begins."""

    def __init__(
        self, world: Recorded, link: Link, open_live: OpenLive, on_over: Callable[[], None] = lambda: None
    ) -> None:
        """``open_live`` opens the session that ``live`` goes to; ``on_over`` is called once, when the viewer is gone."""
        self.world = world
        self.link = link
        self.pace: Pace | None = None
        self._open_live = open_live
        self._on_over = on_over
        self._seek_at = 0.0
        self._inbox = Inbox(limits.CONTROL_MESSAGE_BYTES_MAX, CONTROL_BOUND)
        self._commands: deque[Command] = deque()
        self._wake = asyncio.Event()
        self._live: Hosted | None = None
        self._lent: CountingLink | None = None
        self._place = (0, 0)
        self._media_us = 0
        self._cursor: FrameCursor | None = None
        self._rows: deque[tuple[JournalFrame | Gap, int]] = deque()
        """What comes next, and the steady time of each."""
        self._read = SteadyTime()
        """The time of what was read last, without the steps of clocks."""
        self._paced_us = 0
        """That of what was shown last."""
        self._is_backwards = False
        self._past: list[Shown] = []
        self._task: asyncio.Task[None] | None = None
        self._pongs = Pongs()

    def start(self, *commands: Command | None) -> None:
        """Run these commands and then those that the viewer sends."""
        self._commands.extend(command for command in commands if command is not None)
        self._task = asyncio.get_running_loop().create_task(self._run())

    # -- ports.Session --------------------------------------------------------------------

    def bye(self, reason: str, code: CloseCode) -> None:
        """As :meth:`gateway.core.ports.Hosted.bye`."""
        self.link.control(encode_control("bye", reason=reason, reconnect_after_ms=0))
        self.link.close(code, reason)

    def on_message(self, data: bytes, mono: float) -> None:
        try:
            self._take(data, mono)
        except GatewayError as error:
            self._refuse(error)

    def on_stream_data(self, stream_id: int, data: bytes, fin: bool, mono: float) -> None:
        try:
            for message in self._inbox.feed(stream_id, data, fin):
                self._take(message, mono)
        except GatewayError as error:
            self._refuse(error)

    def on_stream_reset(self, stream_id: int) -> None:
        self._inbox.reset(stream_id)

    def on_acked(self, token: int, count: int = 1) -> None:
        if self._lent is not None:
            self._lent.settled(token, count)
        if self._live is not None:
            self._live.on_acked(token, count)

    def on_lost(self, token: int) -> None:
        if self._lent is not None:
            self._lent.settled(token)
        if self._live is not None:
            self._live.on_lost(token)

    def on_writable(self, mono: float) -> None:
        if self._live is not None:
            self._live.on_writable(mono)

    def on_closed(self, mono: float) -> None:
        self._on_over()
        if self._task is not None:
            self._task.cancel()
        live, self._live = self._live, None
        if live is not None:
            live.on_closed(mono)

    # -- what the viewer says -------------------------------------------------------------

    def _take(self, message: bytes, mono: float) -> None:
        decoded = decode_message(message)
        if not isinstance(decoded, Control):
            raise BadInput("a replay takes control messages only: play, pause, seek, step, live")
        hand_on(decoded, self.link)
        if self._live is None:
            self._pongs.answer(decoded, self.link, mono)
        command = parse_command(decoded)
        if command is None:
            if self._live is not None:
                self._live.on_message(message, mono)
            return
        if len(self._commands) >= limits.REPLAY_COMMANDS_WAITING_MAX:
            raise BadInput(f"{len(self._commands)} commands wait already; wait for their answers")
        self._commands.append(command)
        self._wake.set()

    def _refuse(self, error: GatewayError) -> None:
        self.link.control(encode_error(error))
        code = CloseCode.MALFORMED if isinstance(error, BadInput) else CloseCode.ERROR
        self.link.close(code, error.message)

    # -- the film -------------------------------------------------------------------------

    async def _run(self) -> None:
        try:
            while True:
                if self._commands:
                    await self._do(self._commands.popleft())
                elif self.pace is not None and self._live is None:
                    await (self._forward() if self.pace.speed > 0 else self._backward())
                else:
                    await self._pause_until(None)
        except GatewayError as error:
            self._refuse(error)

    async def _do(self, command: Command) -> None:
        try:
            if command.kind == "live":
                await self._go_live()
                return
            await self._leave_live()
            if command.kind == "play":
                self._turn_round(command.speed)
                self.pace = Pace(self._paced_us, time.monotonic(), command.speed)
            elif command.kind == "pause":
                self.pace = None
            if command.kind == "step":
                self.pace = None
                await self._step(command.step)
            elif command.kind == "seek":
                await self._seek(command)
            else:
                await self._tell()
        except (NothingRecorded, BadInput) as error:
            facts = {"code": error.code, "message": error.message}
            await self._put([encode_control("refused", command=command.kind, **facts)])

    async def _seek(self, command: Command) -> None:
        # A slider that is dragged sends a command for each step, and each costs the reading of a keyframe.
        await asyncio.sleep(max(0.0, self._seek_at - time.monotonic()))
        self._seek_at = time.monotonic() + limits.REPLAY_SEEK_S_MIN
        at_us = None if command.at is None else time_us(command.at, now_us())

        def find(history: History) -> Recovered:
            epoch, tick = command.epoch, command.tick
            if command.mark is not None:
                epoch, tick = _mark(history, command.mark)
                return history.state_at(epoch, tick, None, exact=False)
            if tick is None and at_us is None:
                return history.state_at(*beginning(history), None, exact=False)
            return history.state_at(epoch, tick, at_us)

        await self._show(await self.world.history(find), tell=True)

    async def _show(self, found: Recovered, *, tell: bool = False) -> None:
        """The state of a moment, after a ``resync`` that makes the viewer forget its own."""
        messages = keyframe_messages(cast(WorldState, found.state))
        await self._show_state(Shown((found.epoch, found.tick), found.received_at_us, messages), tell=tell)

    async def _show_state(self, shown: Shown, *, tell: bool = False) -> None:
        self._place, self._media_us = shown.place, shown.media_us
        self._begin_here()
        if self.pace is not None:
            self.pace = Pace(self._paced_us, time.monotonic(), self.pace.speed)
        last = [self._position()] if tell else []
        await self._put([encode_control("resync", reason="seek"), *shown.messages, *last])

    def _begin_here(self) -> None:
        """What was read ahead is nothing any more, forwards and backwards."""
        self._cursor, self._past = None, []
        self._rows.clear()
        self._read.start(self._place, self._media_us)
        self._paced_us = self._media_us

    def _turn_round(self, speed: float) -> None:
        if self._is_backwards != (speed < 0):
            self._is_backwards = speed < 0
            self._begin_here()

    async def _forward(self) -> None:
        pace = self.pace
        assert pace is not None
        if not self._rows and not await self._fill():
            self.pace = None
            await self._tell(ended=True)
            return
        now = time.monotonic()
        wait = pace.due(self._rows[0][1]) - now
        if wait > 0:
            await self._pause_until(wait)
        elif -wait > limits.REPLAY_BEHIND_S_MAX and math.isfinite(pace.speed):
            await self._catch_up(pace, now)
        else:
            await self._put(self._due(pace, now))

    async def _catch_up(self, pace: Pace, now: float) -> None:
        """The state of the moment instead of every frame until it: by its time, or, where a clock was set, by
        going through what is left out."""
        if not self._read.shift_us:
            at_us = pace.position_us(now)
            await self._show(await self.world.history(lambda history: history.state_at_time(at_us)))
            return
        place = self._place
        while self._rows and pace.due(self._rows[0][1]) <= now:
            item = self._rows.popleft()[0]
            if isinstance(item, JournalFrame):
                place = max(place, (item.epoch, item.tick))
            if not self._rows:
                await self._fill()
        await self._show(await self.world.history(lambda history: history.state_at_tick(*place, exact=False)))

    def _due(self, pace: Pace, now: float) -> list[bytes]:
        messages: list[bytes] = []
        size = 0
        while self._rows and size < limits.REPLAY_BATCH_BYTES_MAX:
            item, steady_us = self._rows[0]
            if pace.due(steady_us) > now:
                break
            self._rows.popleft()
            self._paced_us = steady_us
            if isinstance(item, Gap):
                messages.append(gap_message(item))
                continue
            messages += item.messages
            size += sum(map(len, item.messages))
            self._place = max(self._place, (item.epoch, item.tick))
            self._media_us = item.received_at_us
        return messages

    async def _fill(self) -> bool:
        def page(history: History) -> list[JournalFrame | Gap]:
            if self._cursor is None:
                self._cursor = FrameCursor(history, (self._place[0], self._place[1] + 1))
            self._cursor.history = history
            return self._cursor.next()

        self._rows.extend((item, self._steady_us(item)) for item in await self.world.history(page))
        return bool(self._rows)

    def _steady_us(self, item: JournalFrame | Gap) -> int:
        if isinstance(item, Gap):
            return self._read.now_us
        return self._read.follow((item.epoch, item.tick), item.received_at_us)

    async def _backward(self) -> None:
        pace, place = self.pace, self._place
        assert pace is not None
        if not self._past:
            self._past = await self.world.history(lambda history: states_before(history, place))
        if not self._past:
            self.pace = None
            await self._tell(ended=True)
            return
        shown = self._past[-1]
        steady_us = copy(self._read).follow(shown.place, shown.media_us, backwards=True)
        wait = pace.due(steady_us) - time.monotonic()
        if wait > 0 and await self._pause_until(wait):
            return
        if -wait > limits.REPLAY_BEHIND_S_MAX and math.isfinite(pace.speed) and not self._read.shift_us:
            await self._show(await self._at_or_first(pace.position_us(time.monotonic())))
            return
        self._read.follow(shown.place, shown.media_us, backwards=True)
        self._past.pop()
        # _show_state() begins anew, which is right for a seek: going backwards what was read ahead stays.
        past, read = self._past, copy(self._read)
        await self._show_state(shown)
        self._past, self._read, self._paced_us = past, read, steady_us
        self.pace = pace

    async def _at_or_first(self, at_us: int) -> Recovered:
        def find(history: History) -> Recovered:
            try:
                return history.state_at_time(at_us)
            except NothingRecorded:
                return history.state_at_tick(*beginning(history), exact=False)

        return await self.world.history(find)

    async def _step(self, ticks: int) -> None:
        place = self._place

        def find(history: History) -> Recovered:
            return history.state_at_tick(*neighbour(history, place, ticks), exact=False)

        found = await self.world.history(find)
        await self._show(found, tell=True)

    # -- live and back --------------------------------------------------------------------

    async def _go_live(self) -> None:
        await self._leave_live()
        self.pace = None
        self._lent = CountingLink(self.link)
        self._live = await self._open_live(LiveOptions(), self._lent)

    async def _leave_live(self) -> None:
        live, lent = self._live, self._lent
        if live is None or lent is None:
            return
        self._live = None
        live.on_closed(time.monotonic())
        # What live sent may be under way: a frame that arrived after the ``resync`` would be taken for the
        # recording's.
        end = time.monotonic() + limits.REPLAY_SETTLE_S_MAX
        # Polled: what settles comes through several hands, and this is waited for once in a session.
        while lent.outstanding and time.monotonic() < end:  # noqa: ASYNC110
            await asyncio.sleep(limits.REPLAY_LOOK_S)
        self._lent = None

    # -- out ------------------------------------------------------------------------------

    async def _put(self, messages: list[bytes]) -> None:
        """Send these in order and wait until they have arrived."""
        if not messages:
            return
        handle = self.link.send_stream(messages)
        # Polled: a link does not tell of the end of a stream; TCP and QUIC are both asked.
        while not self.link.stream_done(handle):  # noqa: ASYNC110
            await asyncio.sleep(limits.REPLAY_LOOK_S)

    async def _tell(self, *, ended: bool = False) -> None:
        await self._put([self._position(ended=ended)])

    def _position(self, *, ended: bool = False) -> bytes:
        speed = 0.0 if self.pace is None else self.pace.speed
        fields: dict[str, object] = {"epoch": self._place[0], "tick": self._place[1], "at_us": self._media_us}
        fields["speed"] = speed if math.isfinite(speed) else ("max" if speed > 0 else "-max")
        return encode_control("position", **fields, ended=ended)

    async def _pause_until(self, seconds: float | None) -> bool:
        """Wait so long, or until a command comes; True where one came."""
        self._wake.clear()
        if self._commands:
            return True
        try:
            await asyncio.wait_for(self._wake.wait(), seconds)
        except TimeoutError:
            return False
        return True


def _mark(history: History, name: str) -> tuple[int, int]:
    for mark in history.marks():
        if mark["name"] == name:
            return mark["epoch"], mark["tick"]
    raise NothingRecorded(f"there is no mark {name!r}; GET …/marks lists them")
