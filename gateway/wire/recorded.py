"""What is told of a recording, as JSON has it: its span, its marks, its gaps, its branches (docs/API.md). Room: wire. Plain data."""

from __future__ import annotations

from typing import TypedDict, final

from gateway.wire.journal import GapReason


class ToldPlace(TypedDict):
    """A moment of a world."""

    epoch: int
    tick: int


class ToldRow(ToldPlace):
    """A row without its messages. ``received_at_us``: microseconds since the Unix epoch."""

    seq: int
    received_at_us: int


class ToldParent(ToldPlace):
    """Where a branch comes from."""

    world: str


@final
class ToldSummary(TypedDict):
    """What can be got back, and to when."""

    world: str
    stride: int
    retention: str
    ring_s: int
    first: ToldRow | None
    last: ToldRow | None
    last_keyframe: ToldRow | None
    rows: int
    gaps: int
    marks: int
    epochs: int
    layout: dict[str, object] | None
    parent: ToldParent | None


class NamedPlace(ToldPlace):
    """A mark without its data."""

    name: str
    at_us: int


class KeptMark(NamedPlace):
    """A mark as a database has it. ``data``: the text of the JSON value that was given."""

    data: str | None


class ToldMark(NamedPlace):
    """A mark as a gateway tells it. ``data``: the JSON value that was given."""

    data: object


ToldGap = TypedDict("ToldGap", {"epoch": int, "from": int, "to": int, "reason": GapReason})
"""What is known to be missing: ticks of one epoch, both ends included."""


class ToldBranch(TypedDict):
    """A world that was made of another's past."""

    world: str
    parent: ToldParent


ToldDamage = TypedDict("ToldDamage", {"from": ToldPlace, "to": ToldPlace, "why": str | None})
"""A stretch of a recording that does not add up."""


class ToldReport(TypedDict):
    """What a verification found: stretches that add up, that do not, and that cannot be checked."""

    ok: int
    damaged: list[ToldDamage]
    unchecked: int
    rows: int
    gaps: list[ToldGap]
