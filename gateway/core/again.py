"""Frames that are said again shortly, for the readers whose paths lose. Room: core. Pure.

Whoever loses nothing costs nothing here: without a watched reader no frame is noted. For each that is, the
rules are :mod:`gateway.core.redundancy`'s, and what goes is the same bytes for all of them: the frame's own messages, or
at once its parity.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from typing import TYPE_CHECKING

from gateway.core.bundle import Bundle
from gateway.core.outgoing import Outgoing
from gateway.core.window import Keys
from gateway.limits import AGAIN_WAITING_MAX, PIECES_MAX, REDUNDANCY_AGAIN_S

if TYPE_CHECKING:
    from gateway.core.reader import Reader


class _Said:
    """A frame, or what of it came together, as it was offered to everybody."""

    __slots__ = ("_bundle", "_is_large", "due", "outs", "told")

    def __init__(self, bundle: Bundle, due: float) -> None:
        self.due = due
        self.outs = list(bundle.outs)
        self.told: set[Reader] = set()
        """Who has its parity."""
        self._bundle: Bundle | None = bundle
        self._is_large = _is_streamed(bundle)

    def join(self, bundle: Bundle, due: float) -> None:
        """More of the same frame."""
        self.outs += bundle.outs
        self._bundle, self.due = None, due
        self._is_large = self._is_large or _is_streamed(bundle)

    def leave_out(self, newer: Bundle) -> None:
        """What has newer values on their way need not be said again."""
        # What is newer goes to the same readers in a few milliseconds anyway, at most AGAIN_WAITING_MAX frames
        # wait: no index is kept.
        kept = [out for out in self.outs if not any(_replaces(new, out) for new in newer.outs)]
        if len(kept) < len(self.outs):
            self.outs, self._bundle = kept, None

    def bundle(self) -> Bundle | None:
        """What is left of it; None: nothing, or more than goes as datagrams."""
        # A frame of more messages goes by a stream, which repeats what is lost by itself.
        if not 0 < len(self.outs) <= PIECES_MAX:
            return None
        if self._bundle is None:
            self._bundle = Bundle(self.outs, is_large=self._is_large)
        return None if _is_streamed(self._bundle) else self._bundle


class Again:
    """The readers that are watched, and what waits to be said to them again."""

    __slots__ = ("_frames", "_values", "readers")

    def __init__(self) -> None:
        self.readers: dict[Reader, None] = {}
        self._frames: deque[_Said] = deque()
        self._values: deque[tuple[float, Reader, Keys]] = deque()
        """Newest values that one reader was sent, who is on a budget and gets no frames."""

    @property
    def due(self) -> float | None:
        """When :meth:`poll` is wanted next (``mono``), or None."""
        frames = self._frames[0].due if self._frames else None
        values = self._values[0][0] if self._values else None
        return frames if values is None or (frames is not None and frames < values) else values

    def keep(self, readers: Collection[Reader]) -> None:
        """Others than these are gone."""
        still = set(readers)
        self.readers = {reader: None for reader in self.readers if reader in still}
        self._values = deque([said for said in self._values if said[1] in still])

    def note(self, bundle: Bundle, mono: float) -> None:
        """These were just offered to every reader."""
        frames = self._frames
        # Before the new one is noted: it replaces others, not itself.
        for said in frames:
            said.leave_out(bundle)
        if frames and frames[-1].outs and _is_same_frame(frames[-1].outs, bundle):
            frames[-1].join(bundle, mono + REDUNDANCY_AGAIN_S)
        else:
            frames.append(_Said(bundle, mono + REDUNDANCY_AGAIN_S))
            # The oldest is not said again: by now newer frames have replaced most of it.
            if len(frames) > AGAIN_WAITING_MAX:
                frames.popleft()
        self._say_parity(frames[-1], mono)

    def _say_parity(self, said: _Said, mono: float) -> None:
        """To those for whom that is enough, at once: nothing is gained by waiting."""
        bundle = said.bundle()
        if bundle is None:
            return
        for reader in self.readers:
            if not reader.metered and reader not in said.told and reader.say_parity(bundle, mono):
                said.told.add(reader)

    def note_values(self, reader: Reader, keys: Keys, mono: float) -> None:
        """A reader on a budget was just sent a message with the newest values of these keys."""
        self._values.append((mono + REDUNDANCY_AGAIN_S, reader, keys))
        if len(self._values) > AGAIN_WAITING_MAX:
            self._values.popleft()

    def poll(self, mono: float) -> None:
        """Say again what is due."""
        while self._frames and self._frames[0].due <= mono:
            said = self._frames.popleft()
            bundle = said.bundle()
            # A copy, for readers that lose nothing any more leave the dict.
            for reader in tuple(self.readers):
                again = None if reader in said.told else bundle
                if not reader.metered and not reader.say_again(again, mono):
                    del self.readers[reader]
        while self._values and self._values[0][0] <= mono:
            _, reader, keys = self._values.popleft()
            if reader in self.readers and not reader.say_values_again(keys, mono):
                del self.readers[reader]


def _is_streamed(bundle: Bundle) -> bool:
    return bundle.is_large or bundle.row is not None


def _is_same_frame(outs: list[Outgoing], bundle: Bundle) -> bool:
    return outs[-1].tick == bundle.outs[0].tick == bundle.outs[-1].tick


def _replaces(new: Outgoing, old: Outgoing) -> bool:
    """Whether every value that ``old`` carries has a newer one in ``new``."""
    if new.tick == old.tick:
        return False
    # Mostly the same tuple (World._shared), which is told without comparing hundreds of keys.
    return new.keys is old.keys or old.marks.keys() <= new.marks.keys()
