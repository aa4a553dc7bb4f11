"""A stretch of a recording as ``--from`` and ``--to`` name it. Room: cli."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass

from gateway.cli._times import parse_time
from gateway.errors import ConfigError, GatewayError, NothingRecorded
from gateway.recordings.recording import Moment, Recording, Snapshot
from gateway.wire.journal import Gap, JournalFrame

Place = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Span:
    """Where a stretch begins and ends: (epoch, tick), both included; ``start`` is the state then."""

    begin: Place
    end: Place
    start: Snapshot


async def find_span(recording: Recording, begin: str | None, end: str | None, now_us: int) -> Span:
    """Resolve ``--from`` and ``--to`` (a tick of the newest epoch, EPOCH:TICK, a time, a mark; None:
    the ends of the recording; an end after that of the recording is that). Raises :class:`NothingRecorded` where they lie
    outside it."""
    summary = await recording.summary()
    oldest, newest = summary["first"], summary["last"]
    if oldest is None or newest is None:
        raise NothingRecorded(f"nothing was recorded of {recording.name} yet")
    first = (oldest["epoch"], oldest["tick"])
    last = (newest["epoch"], newest["tick"])
    marks = {mark["name"]: (mark["epoch"], mark["tick"]) for mark in await recording.marks()}
    begin_moment = _moment(begin, first, last, marks, now_us)
    end_moment = _moment(end, last, last, marks, now_us)
    if begin_moment.tick is not None and (begin_moment.epoch or 0, begin_moment.tick) > last:
        raise NothingRecorded(
            f"--from {begin_moment.epoch}:{begin_moment.tick} lies after the end of {recording.name}, {last[0]}:{last[1]}"
        )
    start = await state_from(recording, begin_moment)
    ends = end_moment.tick is not None and end_moment.epoch is not None
    stop = (end_moment.epoch or 0, end_moment.tick or 0) if ends else await _place(recording, end_moment)
    stop = min(stop, last)
    if stop < (start.epoch, start.tick):
        raise ConfigError(f"--to {stop[0]}:{stop[1]} lies before --from {start.epoch}:{start.tick}")
    return Span((start.epoch, start.tick), stop, start)


async def state_from(recording: Recording, moment: Moment) -> Snapshot:
    """The state at a moment; for a tick in a gap, at the recorded tick before it."""
    try:
        return await recording.state(moment)
    except NothingRecorded as error:
        before = error.facts.get("before")
        if moment.tick is None or not before:
            raise
        return await recording.state(Moment(before["epoch"], before["tick"]))


async def _place(recording: Recording, moment: Moment) -> Place:
    found = await recording.state(moment)
    return found.epoch, found.tick


def _moment(text: str | None, default: Place, last: Place, marks: dict[str, Place], now_us: int) -> Moment:
    if text is None:
        return Moment(*default)
    if text in marks:
        return Moment(*marks[text])
    if match := re.fullmatch(r"(\d+):(\d+)", text):
        return Moment(int(match[1]), int(match[2]))
    # Up to eight digits, 19 days at 60 Hz: from nine on it is a time in Unix seconds, and a tick is said as
    # EPOCH:TICK.
    if re.fullmatch(r"\d{1,8}", text):
        return Moment(last[0], int(text))
    try:
        return Moment(at_us=parse_time(text, now_us))
    except GatewayError as error:
        known = f"; marks: {', '.join(sorted(marks)[:10])}" if marks else ""
        raise ConfigError(f"{text!r} is neither a tick, EPOCH:TICK, a time nor a mark{known}") from error


async def rows_of(recording: Recording, span: Span) -> AsyncIterator[JournalFrame | Gap]:
    """Frames after the span's first tick up to its last, and the gaps between, epoch by epoch. After frames that the
    gateway had to let go comes the state as it was recorded then, as a keyframe: no later frame need have what they had."""
    for epoch in range(span.begin[0], span.end[0] + 1):
        begin = (epoch, span.begin[1] + 1 if epoch == span.begin[0] else 0)
        end = (epoch, span.end[1] if epoch == span.end[0] else 0xFFFF_FFFF)
        if begin > end:
            continue  # the span is a single tick, whose state is known
        lost = False
        async for item in recording.rows(begin, end):
            if isinstance(item, Gap):
                lost = lost or item.reason == "dropped"
            # Asked of the recording and not replayed here: what was let go is in no row.
            elif lost:
                lost = False
                found = await state_from(recording, Moment(item.epoch, item.tick))
                yield item._replace(keyframe=True, messages=found.messages)
            yield item
