"""What the rules tell of a world to whoever asks by a door: values, of which ``http/worldjson.py`` makes JSON. Room: core. Pure.

The fields are those of ``docs/API.md``, "Worlds"; times are microseconds since the Unix epoch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateway.core.ports import Mark, Transport
    from gateway.wire.layouts import Layout


@dataclass(frozen=True, slots=True)
class Facts:
    """A world as the rules see it now. ``durable``: how far the store has it; ``publisher``: by which transport there
    is one; ``rates``: per second, by name; ``records``: how many."""

    world: str
    stride: int
    epoch: int
    tick: int
    durable: Mark | None
    publisher: Transport | None = None
    readers: int = 0
    rates: Mapping[str, float] = field(default_factory=dict)
    records: int = 0


@dataclass(frozen=True, slots=True)
class Overview:
    """A world with what its database says of it. ``home``: the URL of the gateway that has it; ``delay_s``: told as it
    was so long ago, None: as it is. ``hops``, ``stale_ms``: gateways between the home and this one, which follows it, and
    how long nothing was heard of it; None: this is the home, or the world is read from the store."""

    facts: Facts
    home: str | None
    retention: str
    ring_s: int
    delay_s: float | None = None
    layout: Layout | None = None
    hops: int | None = None
    stale_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Listed:
    """A world in the list of all. ``facts`` and ``home``: of one that is open, for who may see it live; ``error``: why
    it could not be read."""

    world: str
    is_open: bool
    facts: Facts | None = None
    home: str | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Posted:
    """What became of frames that were posted. ``dropped``: ticks of the durable epoch that the journal had no room
    for, from and to; None: it never had to drop any."""

    epoch: int
    tick: int
    frames: int
    durable: Mark | None
    dropped: Sequence[tuple[int, int]] | None = None


@dataclass(frozen=True, slots=True)
class RecordedState:
    """A state as it was recorded. ``messages``: the same as one keyframe, cut for WebSockets."""

    epoch: int
    tick: int
    durable_at_us: int
    stride: int
    records: Mapping[int, bytes]
    messages: Sequence[bytes]
    layout: Layout | None = None
    hops: int | None = None
    """Of the gateway that tells it, as :class:`Overview` has them; both None: it is the home, or follows none."""
    stale_ms: int | None = None


@dataclass(frozen=True, slots=True)
class UdpPlace:
    """Where a plain UDP publisher sends, and as whom. ``token``: 16 hex digits."""

    token: str
    host: str
    port: int
    epoch: int
    silence_ms_max: int
