"""The publisher: frames of records out, sent and forgotten, newest values repaired. Room: client.

Source: ``docs/FRAMES.md``, Publishing. Nothing here waits: :meth:`Publisher.send` returns at once
whether or not a gateway is there.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any, Unpack

from gateway import limits
from gateway.client.address import world_path
from gateway.client.counts import EverySample
from gateway.client.lags import FrameLags
from gateway.client.live import ConnectionOptions, Live
from gateway.client.sender import FrameSender, PublisherCounts
from gateway.core.ports import Link, Mark
from gateway.errors import BadInput, TooLarge
from gateway.wallclock import now_us
from gateway.wire import Control, Frame, encode_control


class Publisher(Live):
    """Publishes one world. ``async with Publisher(url, world) as pub: pub.send({1: b"..."})``.

    ``stride``: every record is exactly so many bytes and starts with its key (u32, little-endian);
    0: any length. ``takeover`` throws another publisher out. ``epoch`` asks for that run's epoch
    back, with ``resume``, its secret, also while another connection holds it; a reconnect does so by itself.
    ``on_notice`` is called with what the gateway has to say (a world that is full), ``on_changed`` with records that others
    changed (key → bytes, None: removed): an entity that went to sleep, or woke; :meth:`records` has them already. Further arguments: :class:`gateway.client.live.Live`.
    """

    def __init__(
        self,
        url: str,
        world: str,
        *,
        stride: int = 0,
        epoch: int | None = None,
        resume: str | None = None,
        takeover: bool = False,
        clock_us: Callable[[], int] = now_us,
        on_notice: Callable[[Control], None] | None = None,
        on_changed: Callable[[Mapping[int, bytes | None]], None] | None = None,
        **connection: Unpack[ConnectionOptions],
    ) -> None:
        super().__init__(url, world, **connection)
        self.stride = stride
        self.durable: Mark | None = None
        self._sender = FrameSender(stride, clock_us)
        self._asked_epoch = epoch
        self.resume = resume
        """The secret by which this epoch is given back while an older connection still holds it; keep it to yourself."""
        self._on_notice = on_notice
        self._on_changed = on_changed
        self._takeover = takeover
        self._lags = FrameLags(self.counts.durable_lag, self.counts.durable_lag_ticks)
        self._durable_moved = asyncio.Event()
        self._repair_due: asyncio.TimerHandle | None = None

    @property
    def counts(self) -> PublisherCounts:
        """What was sent, lost and repaired, and the durable lag."""
        return self._sender.counts

    def send(
        self, records: Mapping[int, bytes | None], *, tick: int | None = None, keyframe: bool = False
    ) -> int:
        """Send one frame: key → bytes, None removes. Answers its tick (default: the next one).

        ``keyframe``: these are all live records; any other is gone. Never waits. Raises
        :class:`BadInput` for a tick that does not rise or a record that is not as the stride says,
        :class:`TooLarge` for a record over 16 MiB, and the session's final error once there is one.
        """
        if self.error is not None:
            raise self.error
        # Before the tick is taken: a frame that is refused leaves no gap.
        self._check(records)
        self.tick = self._sender.tick = self._next_tick(tick)
        self.counts.frames += 1
        self._lags.sent(self.tick, time.monotonic())
        outbox = self._sender.outbox
        (outbox.replace if keyframe else outbox.put)(records, self.tick)
        if self.link is None:
            self.counts.unsent_frames += 1
        else:
            self._sender.send(self.link, records, keyframe=keyframe)
            # This may be the last frame for long; what of it is lost must not wait for the next.
            self._repair_later()
        return self.tick

    def keyframe(self) -> None:
        """Send every live record again, as a keyframe of the newest tick."""
        if self.link is not None:
            self._sender.send_keyframe(self.link)
            self._repair_later()

    async def wait_durable(self, tick: int | None = None) -> Mark:
        """Wait until ``tick`` (default: the newest) of this epoch is in the store; a time-out is the
        caller's. Raises the session's final error."""
        wanted = (self.epoch, self.tick if tick is None else tick)
        while self.durable is None or self.durable_order() < wanted:
            if self._over.is_set() and self.error is not None:
                raise self.error
            self._durable_moved.clear()
            await self._durable_moved.wait()
        return self.durable

    def facts(self) -> dict[str, object]:
        """The counts, JSON-ready, as they stand now: frames that are not known to be stored count in the lags
        with what they have waited, and ``not_durable`` says how many they are."""
        ms, ticks = self._lags.so_far(time.monotonic())
        lags = {"durable_lag_ms": ms.summary(), "durable_lag_ticks": ticks.summary()}
        return {**self.counts.as_json(), "not_durable": len(self._lags), **lags}

    def lags(self) -> tuple[EverySample, EverySample]:
        """(milliseconds, ticks) from sending each frame to its being stored, or to now where it is not."""
        return self._lags.so_far(time.monotonic())

    def durable_order(self) -> tuple[int, int]:
        """(epoch, tick) up to which everything is in the store; (0, 0) before anything is known."""
        return (self.durable.epoch, self.durable.tick) if self.durable else (0, 0)

    def records(self) -> dict[int, bytes]:
        """key → newest bytes of every live record, as they were given to :meth:`send`."""
        return self._sender.outbox.live()

    # -- Live --

    def path(self) -> str:
        epoch = self.epoch or self._asked_epoch
        resume = self.resume if epoch else None
        takeover = self._takeover or None
        return world_path(self.world, "live", role="publish", epoch=epoch, resume=resume, takeover=takeover)

    def on_welcome(self, link: Link, welcome: Control) -> None:
        epoch = int(welcome.get("epoch") or 0)
        if epoch != self.epoch:
            self._lags.settle(time.monotonic())
            if epoch == self._asked_epoch:
                self.tick = max(self.tick, int(welcome.get("tick") or 0))
        resume = welcome.get("resume")
        if isinstance(resume, str):
            self.resume = resume
        elif epoch not in (self.epoch, self._asked_epoch):
            self.resume = None
        self.epoch = self._sender.epoch = epoch
        self._sender.tick = self.tick
        # Once in: a reconnect comes back by its secret, and must not throw out whoever took over meanwhile.
        self._takeover = False
        self._take_durable(welcome.get("durable"))

    def on_connected(self) -> None:
        if self.link is not None:
            self.link.control(encode_control("lags"))
            self.link.control(encode_control("changes"))
        if self.counts.frames:
            self.keyframe()

    def on_frame(self, frame: Frame, size_bytes: int) -> None:
        if frame.epoch != self.epoch:
            return
        records = {record.key: record.data for record in frame.records}
        self._sender.outbox.adopt(records, frame.tick)
        # The gateway's own change has a tick; the next frame must stand above it.
        self.tick = self._sender.tick = max(self.tick, frame.tick)
        if self._on_changed is not None:
            self._on_changed(records)

    def on_control(self, control: Control) -> None:
        if control.type == "durable":
            self._take_durable(control.fields)
        elif control.type == "notice" and self._on_notice is not None:
            self._on_notice(control)

    def on_acked(self, token: int, count: int = 1) -> None:
        for one in range(token, token + count):
            self._sender.outbox.on_acked(one)

    def on_lost(self, token: int) -> None:
        self._sender.on_lost(token)
        self._repair_later()

    def _repair_later(self) -> None:
        """The next frame carries what is owed; where none comes, as after a publisher's last, it goes alone. No link tells
        that a stream has ended, or a datagram would go again: so it is tried until nothing is owed."""
        if self._repair_due is None and self.link is not None and self._sender.owes:
            loop = asyncio.get_running_loop()
            self._repair_due = loop.call_later(limits.CLIENT_REPAIR_S, self._repair)

    def _repair(self) -> None:
        self._repair_due = None
        self.on_writable()
        self._repair_later()

    def on_writable(self) -> None:
        if self.link is not None:
            self._sender.repair(self.link)

    def on_gone(self) -> None:
        if self._repair_due is not None:
            self._repair_due.cancel()
            self._repair_due = None
        self._sender.link_gone()

    def on_over(self) -> None:
        self._durable_moved.set()

    # -- inside --

    def _next_tick(self, tick: int | None) -> int:
        if tick is None:
            return self.tick + 1
        # Tick 0 is allowed as the first.
        if tick <= self.tick and self.tick:
            raise BadInput(f"tick {tick} is not above {self.tick}, the newest of this epoch; ticks rise")
        return tick

    def _check(self, records: Mapping[int, bytes | None]) -> None:
        bytes_max = limits.STREAM_MESSAGE_BYTES_MAX - limits.CLIENT_MESSAGE_OVERHEAD_BYTES
        for key, data in records.items():
            if data is None:
                continue
            if len(data) > bytes_max:
                raise TooLarge(f"record {key} has {len(data)} bytes, a message holds {bytes_max}; split it")
            if self.stride and (len(data) != self.stride or int.from_bytes(data[:4], "little") != key):
                raise BadInput(
                    f"record {key} is not {self.stride} bytes that begin with its key, as stride={self.stride} says"
                )

    def _take_durable(self, fields: dict[str, Any]) -> None:
        try:
            mark = Mark(int(fields["epoch"]), int(fields["tick"]))
        except (TypeError, KeyError, ValueError):
            return
        self.durable = mark
        self._durable_moved.set()
        if mark.epoch == self.epoch:
            self._lags.stored(mark.tick, fields, time.monotonic())
            self.counts.dropped_frames = self._lags.dropped
