"""Replaying a recording: what a viewer may ask, and when which frame is due. Room: core. Pure.

Times of the recording are microseconds since the Unix epoch (when the gateway received a frame);
``mono`` is seconds of a monotonic clock. Source: ``docs/RECOVERY.md``, "Replay sessions".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal
from urllib.parse import parse_qsl

from gateway.core.bundle import Burst
from gateway.core.delay import KEY as DELAY
from gateway.core.gate import Standing
from gateway.core.grants import Grant
from gateway.core.ports import CloseCode, Link, Refusal, RoundTrips, Sent, Transport
from gateway.errors import BadInput
from gateway.limits import REPLAY_SPEED_MAX, REPLAY_STEP_TICKS_MAX
from gateway.wire.control import Control

Kind = Literal["play", "pause", "seek", "step", "live"]
COMMANDS: tuple[Kind, ...] = ("play", "pause", "seek", "step", "live")


@dataclass(frozen=True, slots=True)
class Command:
    """One thing asked of a replay. ``speed``: media seconds a second, negative backwards, infinite:
    as fast as it goes. A ``seek`` names a tick (of ``epoch``, or the newest), a time or a mark;
    none of them: the beginning."""

    kind: Kind
    speed: float = 1.0
    step: int = 0
    epoch: int | None = None
    tick: int | None = None
    at: str | None = None
    mark: str | None = None


def parse_command(control: Control) -> Command | None:
    """The command in a control message; None for a message that is none of a replay's.
    Raises :class:`BadInput` naming the field."""
    if control.type not in COMMANDS:
        return None
    fields = control.fields
    kind: Kind = control.type
    if kind == "play":
        return Command(kind, speed=_speed(fields.get("speed", 1.0)))
    if kind == "step":
        return Command(kind, step=_whole(fields, "n", 1, -REPLAY_STEP_TICKS_MAX, REPLAY_STEP_TICKS_MAX) or 0)
    if kind == "seek":
        return _seek(fields)
    return Command(kind)


def parse_query(query: str) -> tuple[Command, Command | None]:
    """Where a session begins, and whether it plays at once, from its query: ``tick``, ``epoch``,
    ``at``, ``mark``; ``speed`` (default 1) and ``paused=1``. Raises :class:`BadInput`."""
    given = dict(parse_qsl(query, keep_blank_values=True))
    fields: dict[str, object] = {**given}
    fields.pop(DELAY, None)  # of the whole session, and no part of the commands
    unknown = set(fields) - {"tick", "epoch", "at", "mark", "speed", "paused"}
    if unknown:
        raise BadInput(
            f"replay takes tick, epoch, at, mark, speed, paused and {DELAY}, and not {', '.join(sorted(unknown))}"
        )
    for name in ("tick", "epoch"):
        if name in fields:
            # -1 is refused by the same rule as any number that is too small, with the name of the field. Longer than
            # any u32, or of other scripts, would fail in int() with an error of its own.
            text = given[name]
            fields[name] = int(text) if text.isascii() and text.isdigit() and len(text) <= 10 else -1
    paused = fields.pop("paused", "0") not in ("0", "")
    play = Command("play", speed=_speed(fields.pop("speed", 1.0)))
    return _seek(fields), None if paused else play


def _seek(fields: Mapping[str, object]) -> Command:
    epoch, tick = (_whole(fields, name, None, 0, 0xFFFF_FFFF) for name in ("epoch", "tick"))
    at, mark = fields.get("at"), fields.get("mark")
    if sum(value is not None for value in (tick, at, mark)) > 1:
        raise BadInput("seek takes one of tick, at and mark")
    return Command(
        "seek",
        epoch=epoch,
        tick=tick,
        at=None if at is None else str(at),
        mark=None if mark is None else str(mark),
    )


def _whole(fields: Mapping[str, object], name: str, default: int | None, low: int, high: int) -> int | None:
    value = fields.get(name, default)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise BadInput(f"{name} {value!r} is not a whole number from {low} to {high}")
    return value


def _speed(value: object) -> float:
    if value in ("max", "-max"):
        return math.inf if value == "max" else -math.inf
    try:
        speed = float(value) if isinstance(value, str | int | float) else 0.0
    except (TypeError, ValueError, OverflowError):  # the last: a whole number of 400 digits is no float
        speed = 0.0
    if not 0 < abs(speed) <= REPLAY_SPEED_MAX:
        raise BadInput(f"speed {value!r} is not a number up to {REPLAY_SPEED_MAX:g} (not 0), 'max' or '-max'")
    return speed


@dataclass(slots=True)
class Pace:
    """Media time against the wall: set at a moment of both, runs at ``speed``."""

    media_us: int
    mono: float
    speed: float

    def due(self, media_us: int) -> float:
        """When (``mono``) this media time is to be shown."""
        if math.isinf(self.speed):
            return self.mono
        return self.mono + (media_us - self.media_us) / 1e6 / self.speed

    def position_us(self, mono: float) -> int:
        """The media time that belongs to ``mono``."""
        if math.isinf(self.speed):
            return self.media_us
        return self.media_us + round((mono - self.mono) * self.speed * 1e6)


class CountingLink:
    """A link lent to a live session for a while: counts the datagrams whose fate is still open, so
    that the past is not shown before the last of them is settled."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._open: set[int] = set()

    @property
    def outstanding(self) -> int:
        """Datagrams sent whose fate is not known."""
        return len(self._open)

    def settled(self, token: int, count: int = 1) -> None:
        """The fate of a datagram, or of so many, is known."""
        self._open.difference_update(range(token, token + count))

    @property
    def on_token(self) -> Callable[[Control], None] | None:
        return self._link.on_token

    @on_token.setter
    def on_token(self, call: Callable[[Control], None] | None) -> None:
        self._link.on_token = call

    @property
    def standing(self) -> Standing | None:
        return self._link.standing

    @property
    def certificate(self) -> Grant | None:
        return self._link.certificate

    @property
    def closed_code(self) -> int | None:
        return self._link.closed_code

    @property
    def transport(self) -> Transport:
        return self._link.transport

    @property
    def address(self) -> str:
        return self._link.address

    @property
    def lossy(self) -> bool:
        return self._link.lossy

    def message_bytes_max(self) -> int:
        return self._link.message_bytes_max()

    def room_bytes(self) -> int:
        return self._link.room_bytes()

    def round_trips(self) -> RoundTrips | None:
        return self._link.round_trips()

    def send(self, message: bytes, token: int) -> Sent:
        sent = self._link.send(message, token)
        if sent and self._link.lossy:
            self._open.add(token)
        return sent

    def send_burst(self, burst: Burst, token: int) -> int | Refusal:
        sent = self._link.send_burst(burst, token)
        if not isinstance(sent, Refusal) and self._link.lossy:
            self._open.update(range(token, token + sent))
        return sent

    def after_input(self, call: Callable[[], None]) -> None:
        self._link.after_input(call)

    def send_stream(self, messages: Sequence[bytes]) -> int:
        return self._link.send_stream(messages)

    def reset_stream(self, handle: int) -> None:
        self._link.reset_stream(handle)

    def stream_done(self, handle: int) -> bool:
        return self._link.stream_done(handle)

    def control(self, message: bytes) -> None:
        self._link.control(message)

    def close(self, code: CloseCode, reason: str) -> None:
        self._link.close(code, reason)
