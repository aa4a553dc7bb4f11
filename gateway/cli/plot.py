"""``mvgateway plot``: a recording over time, as a picture. Room: cli."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import NamedTuple

from gateway.cli._files import add_file, file_of, write_whole
from gateway.cli._source import add_source_flags, open_recording
from gateway.cli._times import show_time
from gateway.errors import ConfigError
from gateway.wallclock import now_us

NAME = "plot"
HELP = "draw a recording over time: frame rate, size, time on the way to the gateway, gaps and marks"
EXAMPLE = """
mvgateway plot arena arena.svg
mvgateway plot film.sqlite film.svg --from goal
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("world", help="a world, or a film's file name")
    add_file(parser, "FILE.svg", "the picture")
    add_source_flags(parser)
    parser.add_argument("--from", dest="begin", metavar="WHEN", help="a tick, EPOCH:TICK, a time, or a mark")
    parser.add_argument("--to", dest="end", metavar="WHEN", help="the last one, likewise")


def run(args: argparse.Namespace) -> int:
    import asyncio

    args.out = file_of(args, "FILE.svg")
    if args.out.suffix.lower() in (".png", ".jpg", ".jpeg", ".gif", ".webp", ".pdf"):
        raise ConfigError(f"{args.out}: what is drawn is SVG; name a FILE.svg")
    return asyncio.run(plot(args))


class PlottedFrame(NamedTuple):
    """What is drawn of a frame: an hour of a hundred records is 10 MB so, and 700 with its bytes."""

    epoch: int
    tick: int
    received_at_us: int
    sent_at_us: int
    size_bytes: int


WIDTH, PANEL, LEFT, TOP, SLOTS = 960, 130, 70, 50, 240
INK, GRID, GAP, MARK = "#1f4e79", "#d9dee5", "#d9534f", "#2e8b57"


@dataclass(slots=True)
class TimeSlots:
    """Frames, bytes and time on the way, by slots of the recording's time (microseconds)."""

    begin_us: int
    end_us: int
    frames: list[int] = field(default_factory=lambda: [0] * SLOTS)
    bytes: list[int] = field(default_factory=lambda: [0] * SLOTS)
    way_us: list[int] = field(default_factory=lambda: [0] * SLOTS)

    @property
    def slot_s(self) -> float:
        return max(self.end_us - self.begin_us, 1) / SLOTS / 1e6

    def slot(self, at_us: int) -> int:
        """The slot that a time falls into."""
        return max(0, min(SLOTS - 1, (at_us - self.begin_us) * SLOTS // max(self.end_us - self.begin_us, 1)))

    def add(self, frame: PlottedFrame) -> None:
        at = self.slot(frame.received_at_us)
        self.frames[at] += 1
        self.bytes[at] += frame.size_bytes
        self.way_us[at] = max(self.way_us[at], frame.received_at_us - frame.sent_at_us)


async def plot(args: argparse.Namespace) -> int:
    """Read the span and draw it."""
    from gateway.cli._span import find_span, rows_of
    from gateway.wire.journal import Gap

    async with open_recording(args) as recording:
        span = await find_span(recording, args.begin, args.end, now_us())
        frames: list[PlottedFrame] = []
        recorded_gaps: list[Gap] = []
        async for item in rows_of(recording, span):
            if isinstance(item, Gap):
                recorded_gaps.append(item)
            else:
                frames.append(
                    PlottedFrame(item.epoch, item.tick, item.received_at_us, item.sent_at_us, item.size_bytes)
                )
        marks = await recording.marks()
    times = [frame.received_at_us for frame in frames] or [span.start.at_us]
    slots = TimeSlots(min(times), max(times))
    for frame in frames:
        slots.add(frame)
    when = _times_of(frames)
    gaps = [(when(gap.epoch, gap.from_tick), when(gap.epoch, gap.to_tick)) for gap in recorded_gaps]
    marked = [
        (mark["at_us"], mark["name"]) for mark in marks if slots.begin_us <= mark["at_us"] <= slots.end_us
    ]
    write_whole(Path(args.out), draw(args.world, slots, gaps, marked).encode())
    print(f"{args.out}: {len(frames)} frames, {len(gaps)} gaps, {len(marked)} marks")
    return 0


def _times_of(frames: Sequence[PlottedFrame]) -> Callable[[int, int], int]:
    """When a tick was, or would have been: the time of the first frame at or after it."""
    from bisect import bisect_left

    places = [(frame.epoch, frame.tick) for frame in frames]

    def when(epoch: int, tick: int) -> int:
        at = min(bisect_left(places, (epoch, tick)), len(frames) - 1)
        return frames[at].received_at_us if frames else 0

    return when


def draw(title: str, slots: TimeSlots, gaps: list[tuple[int, int]], marks: list[tuple[int, str]]) -> str:
    """The picture. ``gaps``: (from, to) and ``marks``: (at, name), in microseconds since 1970."""
    per_s = 1 / slots.slot_s
    panels: list[tuple[str, list[float]]] = [
        ("frames a second", [count * per_s for count in slots.frames]),
        ("KiB a second", [size * per_s / 1024 for size in slots.bytes]),
        ("ms from the publisher to the gateway (largest)", [max(way, 0) / 1000 for way in slots.way_us]),
    ]
    height = TOP + len(panels) * PANEL + 30
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="11">',
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
        f'<text x="{LEFT}" y="20" font-size="15">{escape(title)}</text>',
        f'<text x="{LEFT}" y="36" fill="#555">{show_time(slots.begin_us)} to {show_time(slots.end_us)}</text>',
    ]
    bottom = TOP + len(panels) * PANEL
    for begin, end in gaps:
        x, width = _x(slots, begin), max(1.5, _x(slots, end) - _x(slots, begin))
        parts.append(
            f'<rect x="{x:.1f}" y="{TOP}" width="{width:.1f}" height="{bottom - TOP - 20}" fill="{GAP}" opacity="0.25"><title>gap</title></rect>'
        )
    for number, (name, values) in enumerate(panels):
        parts += _panel(name, values, TOP + number * PANEL)
    for at, name in marks:
        x = _x(slots, at)
        parts.append(f'<line x1="{x:.1f}" y1="{TOP}" x2="{x:.1f}" y2="{bottom - 20}" stroke="{MARK}"/>')
        parts.append(f'<text x="{x + 3:.1f}" y="{bottom - 6}" fill="{MARK}">{escape(name)}</text>')
    return "\n".join([*parts, "</svg>", ""])


def _x(slots: TimeSlots, at_us: int) -> float:
    share = (at_us - slots.begin_us) / max(slots.end_us - slots.begin_us, 1)
    return LEFT + max(0.0, min(1.0, share)) * (WIDTH - LEFT - 20)


def _panel(name: str, values: list[float], top: int) -> list[str]:
    low, high = top + PANEL - 30, max(values) or 1.0
    step = (WIDTH - LEFT - 20) / len(values)
    points = " ".join(
        f"{LEFT + (at + 0.5) * step:.1f},{low - value / high * (PANEL - 50):.1f}"
        for at, value in enumerate(values)
    )
    right = WIDTH - 20
    return [
        f'<line x1="{LEFT}" y1="{low}" x2="{right}" y2="{low}" stroke="{GRID}"/>',
        f'<text x="{LEFT}" y="{top + 10}" fill="#333">{escape(name)}</text>',
        f'<text x="{LEFT - 6}" y="{low - PANEL + 56}" text-anchor="end" fill="#555">{_short(high)}</text>',
        f'<text x="{LEFT - 6}" y="{low}" text-anchor="end" fill="#555">0</text>',
        f'<polyline points="{points}" fill="none" stroke="{INK}" stroke-width="1.2"/>',
    ]


def _short(value: object) -> str:
    return f"{value:.3g}"
