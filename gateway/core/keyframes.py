"""The keyframe that readers joining together share. Room: core. Pure.

Encoding every record for each joiner would make a hundred joiners cost a hundred encodings. One
keyframe serves all who come within :data:`KEYFRAME_SHARE_S`; what changed since it was made is remembered
and goes to the later ones as newest values right behind it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from gateway.core.counters import Counters
from gateway.core.outgoing import Outgoing
from gateway.core.state import WorldState
from gateway.limits import KEYFRAME_SHARE_S, WEBSOCKET_MESSAGE_BYTES_MAX


@dataclass(slots=True)
class SharedKeyframe:
    """An encoded keyframe, and the keys that changed after it was made."""

    messages: list[bytes]
    keys: tuple[int, ...]
    order: int
    revision: int
    sent_at: int
    size_bytes: int
    made_at: float
    changed: dict[int, None] = field(default_factory=dict)


class KeyframeCache:
    """Keyframes of one state, at most one plain and one zstd."""

    __slots__ = ("_cached", "_counters", "_state")

    def __init__(self, state: WorldState, counters: Counters) -> None:
        self._state = state
        self._counters = counters
        self._cached: dict[bool, SharedKeyframe] = {}

    def note(self, out: Outgoing, mono: float) -> None:
        """A message changed the state: later takers of a cached keyframe need its keys besides."""
        if self._cached:
            for zstd, cached in list(self._cached.items()):
                # Forgotten here, not only when it is asked for: it is as large as the state, and its list of
                # changes grows with each message.
                if mono - cached.made_at > KEYFRAME_SHARE_S:
                    del self._cached[zstd]
                else:
                    cached.changed.update(out.marks)

    def get(self, mono: float, *, zstd: bool = False) -> SharedKeyframe:
        """A keyframe in messages of at most 65,535 bytes (Godot's bound), not older than :data:`KEYFRAME_SHARE_S`."""
        cached = self._cached.get(zstd)
        if (
            cached is None
            or mono - cached.made_at > KEYFRAME_SHARE_S
            or cached.order >> 32 != self._state.epoch
        ):
            cached = self._renewed(mono, zstd)
        return cached

    def fresh(self, mono: float, *, zstd: bool = False) -> SharedKeyframe:
        """A keyframe of the state as it is now."""
        cached = self._cached.get(zstd)
        if cached is None or cached.revision != self._state.revision or cached.order != self._state.order:
            cached = self._renewed(mono, zstd)
        return cached

    def _renewed(self, mono: float, zstd: bool) -> SharedKeyframe:
        """The old one goes first: each is as large as the state."""
        self._cached.pop(zstd, None)
        made = self._cached[zstd] = self._make(mono, zstd)
        return made

    def forget(self) -> None:
        """Let no later joiner share what was made until now."""
        self._cached.clear()

    def _make(self, mono: float, zstd: bool) -> SharedKeyframe:
        state = self._state
        self._counters.keyframes_encoded += 1
        messages = state.keyframe_messages(WEBSOCKET_MESSAGE_BYTES_MAX, zstd=zstd)
        size = sum(map(len, messages))
        keys = (*state.records, *state.tombstones)
        return SharedKeyframe(messages, keys, state.order, state.revision, state.sent_at, size, mono)
