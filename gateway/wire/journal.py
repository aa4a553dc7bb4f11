"""What goes from the journal to the world's database: one batch, one commit. Room: wire. Plain data.

The world's core makes batches, the store writes them; neither imports the other. The tables are
described in ``docs/SCHEMA.md``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from gateway.wire.control import encode_control

GapReason = Literal["partial", "unseen", "dropped"]
"""Why ticks are missing: some parts never came; a tick number never came at all though its
neighbours did; the journal was full while the store was away."""


class JournalFrame(NamedTuple):
    """Messages of one tick, as they were received (epoch filled in) or, for a keyframe, built.

    ``seq`` rises by one from row to row within a world, over epochs and restarts, in order of
    arrival; a tick may have several rows (parts that came late). The state after a row is the
    newest keyframe row at or before it, and every row after that one, applied by the "newer" rule.
    Writing a row again under the same ``seq`` changes nothing. Times are microseconds since the
    Unix epoch: ``received_at_us`` by the gateway's clock (of several messages the last one's), ``sent_at_us`` by the
    publisher's.
    """

    seq: int
    epoch: int
    tick: int
    received_at_us: int
    sent_at_us: int
    keyframe: bool
    messages: tuple[bytes, ...]

    @property
    def size_bytes(self) -> int:
        return sum(map(len, self.messages))


@dataclass(frozen=True, slots=True)
class Gap:
    """Ticks ``from_tick`` to ``to_tick`` (both included) of which something is missing."""

    epoch: int
    from_tick: int
    to_tick: int
    reason: GapReason


class Tail(NamedTuple):
    """The end of a recording, for whoever goes on from there. ``messages``: (tick, part, parts) of the newest ones of
    the newest epoch, in the order in which they were recorded; ``gaps``: what is known to be missing of it."""

    messages: tuple[tuple[int, int, int], ...]
    gaps: tuple[Gap, ...] = ()


class Batch(NamedTuple):
    """One commit's worth. ``epoch, tick``: the durable mark once it is down (None: unchanged);
    every frame up to it that will ever be whole is in this batch or an earlier one."""

    frames: tuple[JournalFrame, ...]
    gaps: tuple[Gap, ...]
    epoch: int | None
    tick: int | None
    size_bytes: int


def order_of(epoch: int, tick: int) -> int:
    """(epoch, tick) as one integer that compares alike."""
    return epoch << 32 | tick


def gap_message(gap: Gap) -> bytes:
    """A gap as the control message ``gap`` (docs/FRAMES.md, "Control messages")."""
    told = {"from": gap.from_tick, "to": gap.to_tick}
    return encode_control("gap", epoch=gap.epoch, **told, reason=gap.reason)
