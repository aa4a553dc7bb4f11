"""How far a verb has come, for whoever watches. Room: cli."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from gateway import limits

if TYPE_CHECKING:
    from gateway.cli._span import Span
    from gateway.recordings.recording import Recording
    from gateway.wire.journal import JournalFrame


def is_watched(*, quiet: bool) -> bool:
    """True where somebody sees standard error, and did not ask for JSON (``quiet``)."""
    return not quiet and sys.stderr.isatty()


@contextmanager
def progress(what: str, total: int, unit: str, *, quiet: bool) -> Iterator[Callable[[int], None]]:
    """A line on standard error: how much is done of how much; call it with what is done by now. It is gone at the end,
    when the verb says what it has made."""
    if not is_watched(quiet=quiet):
        yield lambda done: None
        return
    shown_at, wide = 0.0, 0

    def show(done: int) -> None:
        nonlocal shown_at, wide
        now = time.monotonic()
        # The last one always: or else it would end at 97 %.
        if now - shown_at < limits.PROGRESS_EVERY_S and done < total:
            return
        share = f" ({min(100, 100 * done // total)} %)" if total else ""
        text = f"{what}: {done:,} of {total:,} {unit}{share}"
        print(f"\r{text:{wide}}", end="", file=sys.stderr, flush=True)
        shown_at, wide = now, max(wide, len(text))

    show(0)
    try:
        yield show
    finally:
        print(f"\r{'':{wide}}\r", end="", file=sys.stderr, flush=True)


class SpanGone:
    """How far along a span a recorded row lies: in ticks, or, where it has several epochs, in seconds."""

    def __init__(self, span: Span, end_us: int) -> None:
        self._span = span
        self._in_ticks = span.begin[0] == span.end[0]
        self.unit = "ticks" if self._in_ticks else "seconds"
        ticks, seconds = span.end[1] - span.begin[1], (end_us - span.start.at_us) // 1_000_000
        self.total = max(ticks if self._in_ticks else seconds, 0)

    def upto(self, frame: JournalFrame) -> int:
        """How far it is up to this frame."""
        if self._in_ticks:
            return frame.tick - self._span.begin[1]
        return min(self.total, max(0, frame.received_at_us - self._span.start.at_us) // 1_000_000)


async def way_of(recording: Recording, span: Span, *, quiet: bool) -> SpanGone:
    """Asks the recording when the span ends, where that is to be shown and its ticks don't say."""
    end_us = span.start.at_us
    if is_watched(quiet=quiet) and span.begin[0] != span.end[0]:
        from gateway.cli._span import state_from
        from gateway.recordings.recording import Moment

        end_us = (await state_from(recording, Moment(*span.end))).at_us
    return SpanGone(span, end_us)
