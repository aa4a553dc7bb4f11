"""The subscriber: follows one world, keeps its state, tells what changed. Room: client.

Source: ``docs/FRAMES.md``. Records are applied by the newer rule, so order and duplicates do not
matter; a reader that does not take its frames in time loses the oldest, never the state.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Literal, Unpack

from gateway import limits
from gateway.client.address import world_path
from gateway.client.counts import ReaderCounts
from gateway.client.live import ConnectionOptions, Live
from gateway.core.options import parse_weights
from gateway.core.ports import Link
from gateway.core.state import WorldState
from gateway.wallclock import now_us
from gateway.wire import Control, Frame, encode_control
from gateway.wire.journal import order_of


@dataclass(frozen=True, slots=True)
class ReceivedFrame:
    """One message of a frame as it changed the state: ``records`` has only what was newer
    (key → bytes, None: removed). Times are microseconds since the Unix epoch."""

    epoch: int
    tick: int
    records: Mapping[int, bytes | None]
    keyframe: bool
    repair: bool
    part: int
    parts: int
    sent_at_us: int
    received_at_us: int


class Subscriber(Live):
    """Follows one world. ``async for frame in sub`` gives what changed, ``sub.state`` is the whole.

    ``zstd`` asks for compressed frames; ``budget_kbps`` bounds what the gateway sends; ``keys``
    weighs records (key → weight) under a budget; ``follow`` an entity from world to world; ``delay_s``: as it
    was so many seconds ago (0: now).
    ``redundancy``: ``auto`` lets the gateway say newest values twice, or by parity, where this path loses; ``off``: never.
    ``replay``: the query of a replay session instead of the live one. ``on_message`` is called with
    every :class:`ReceivedFrame` at once; with it nothing is kept for the iterator.
    """

    def __init__(
        self,
        url: str,
        world: str,
        *,
        zstd: bool = False,
        budget_kbps: int | None = None,
        keys: Mapping[int, float] | None = None,
        follow: str | None = None,
        delay_s: float = 0.0,
        redundancy: Literal["auto", "off"] = "auto",
        replay: Mapping[str, object] | None = None,
        on_message: Callable[[ReceivedFrame], None] | None = None,
        on_event: Callable[[Control], None] | None = None,
        clock_us: Callable[[], int] = now_us,
        **connection: Unpack[ConnectionOptions],
    ) -> None:
        super().__init__(url, world, **connection)
        self.follows = replay is None
        self.state = WorldState()
        self.delay_s = 0.0
        """How far behind the gateway says that it shows the world, in seconds: no less than was asked for."""
        self.counts = ReaderCounts()
        self._query: dict[str, object] = {"zstd": zstd or None, "budget_kbps": budget_kbps, "follow": follow}
        self._query["delay_s"] = f"{delay_s:.3f}" if delay_s else None
        self._query["keys"] = _weights_text(keys or {})
        self._redundancy = redundancy
        self._replay = replay
        self._on_message = on_message
        self._on_event = on_event
        self._clock_us = clock_us
        self._waiting: deque[ReceivedFrame] = deque()
        self._arrived = asyncio.Event()
        self._reset_due = False

    def records(self) -> dict[int, bytes]:
        """key → bytes of every live record now."""
        return self.state.snapshot()

    def focus(self, keys: Mapping[int, float]) -> None:
        """Weigh records anew: key → weight (1 is as any other), in the place of the weights before, also after the
        next connect; {}: all alike. Raises :class:`BadInput` for what the gateway would refuse."""
        weights = parse_weights([(int(key), float(weight)) for key, weight in keys.items()])
        self._query["keys"] = _weights_text(keys)
        self.control("focus", keys=list(weights), weights=list(weights.values()))

    def control(self, type: str, **fields: object) -> None:
        """Send a control message, such as ``play`` or ``seek`` in a replay; nothing while not connected."""
        if self.link is not None:
            self.link.control(encode_control(type, **fields))

    async def __aiter__(self) -> AsyncIterator[ReceivedFrame]:
        while True:
            while self._waiting:
                yield self._waiting.popleft()
            if self._over.is_set():
                if self.error is not None:
                    raise self.error
                return
            self._arrived.clear()
            await self._arrived.wait()

    # -- Live --

    def path(self) -> str:
        if self._replay is not None:
            return world_path(self.world, "replay", **self._replay)
        return world_path(self.world, "live", **self._query)

    def on_welcome(self, link: Link, welcome: Control) -> None:
        self.epoch, self.tick = int(welcome.get("epoch") or 0), int(welcome.get("tick") or 0)
        self.delay_s = float(welcome.get("delay_s") or 0)
        self.counts.connects += 1
        if (
            link.lossy and self._replay is None
        ):  # not in the query, where a gateway that knows no redundancy refuses it
            says = {"parity": True} if self._redundancy == "auto" else {"mode": "off"}
            link.control(encode_control("redundancy", **says))

    def on_control(self, control: Control) -> None:
        if control.type == "resync":
            self.counts.resyncs += 1
            self.counts.ticks.restart()
            self._reset_due = control.get("reason") == "seek"
        elif control.type == "moved":
            self._move_to(str(control["world"]))
        if self._on_event is not None:
            self._on_event(control)

    def on_frame(self, frame: Frame, size_bytes: int) -> None:
        now = self._clock_us()
        # With the first part of the keyframe, not with the word that it comes: frames between are of the
        # old state.
        if self._reset_due and frame.keyframe:
            self.state, self._reset_due = WorldState(), False
        applied = self.state.apply(frame)
        # The cheap question first: nearly every message changes something.
        if not applied.changed and self._has(frame):
            self._count_again(size_bytes)
            return
        self._count(frame, size_bytes, len(applied.changed), now)
        self.epoch, self.tick = self.state.epoch, self.state.tick
        self._give(frame, {**self._values(applied.changed), **dict.fromkeys(applied.dropped)}, now)

    def on_malformed(self) -> None:
        self.counts.malformed += 1

    def on_rebuilt(self) -> None:
        self.counts.rebuilt_messages += 1

    def on_over(self) -> None:
        self._arrived.set()

    # -- inside --

    def _move_to(self, world: str) -> None:
        """To another world at once; to another home of this one with its keyframe."""
        if world == self.world:
            self._reset_due = True
        else:
            self.world, self.state = world, WorldState()

    def _has(self, frame: Frame) -> bool:
        """Whether it was said before, value for value: the gateway's redundancy, which nobody need see."""
        if frame.keyframe or frame.repair or frame.ticks or not frame.keys:
            return False
        order = order_of(frame.epoch, frame.tick)
        return all(self.state.order_at(key) == order for key in frame.keys)

    def _count_again(self, size_bytes: int) -> None:
        self.counts.messages += 1
        self.counts.bytes += size_bytes
        self.counts.repeated_messages += 1

    def _values(self, keys: tuple[int, ...]) -> dict[int, bytes | None]:
        records = self.state.records
        return {key: records[key][1] if key in records else None for key in keys}

    def _count(self, frame: Frame, size_bytes: int, changed: int, now: int) -> None:
        counts = self.counts
        counts.messages += 1
        counts.bytes += size_bytes
        if frame.keyframe:
            counts.keyframes += frame.part == 0
            return
        if frame.repair:
            counts.repaired_records += changed
            return
        counts.ticks.see(frame.epoch, frame.tick)
        counts.latency.add(counts.clock.corrected_ms((now - frame.sent_at) / 1000 - self.delay_s * 1000))
        counts.late_messages += not changed and bool(frame.keys)

    def _give(self, frame: Frame, records: dict[int, bytes | None], now: int) -> None:
        received = ReceivedFrame(
            frame.epoch,
            frame.tick,
            records,
            frame.keyframe,
            frame.repair,
            frame.part,
            frame.parts,
            frame.sent_at,
            now,
        )
        if self._on_message is not None:
            self._on_message(received)
            return
        self._waiting.append(received)
        # The oldest: the state is whole anyway, and what is newest is what a game wants.
        if len(self._waiting) > limits.CLIENT_FRAMES_WAITING_MAX:
            self._waiting.popleft()
            self.counts.dropped_frames += 1
        self._arrived.set()


def _weights_text(keys: Mapping[int, float]) -> str | None:
    """As ``?keys=`` takes them."""
    return ",".join(f"{key}:{weight:g}" for key, weight in keys.items()) or None
