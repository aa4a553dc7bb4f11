"""The keyframe that a reader is owed: from when it is wanted until it is there. Room: core. Pure.

On joining, for a new epoch, where the link took nothing at all for the lag bound, and where more than half of all records wait and
there is room for everything. A reader that is merely slow gets its records in turn: a keyframe would cost it more.
"""

from __future__ import annotations

from collections.abc import Iterable

from gateway.core.counters import Counters
from gateway.core.keyframes import KeyframeCache
from gateway.core.outlet import Outlet
from gateway.core.stale import StaleSet
from gateway.core.state import WorldState
from gateway.limits import PIECES_MAX
from gateway.wire.control import encode_control


class Rebase:
    """One reader's. While one is wanted nothing waits in ``stale``: it has everything."""

    __slots__ = (
        *("_counters", "_outlet", "_stale", "_state", "_zstd", "keyframes"),
        *("wanted", "yields"),
    )

    def __init__(
        self,
        state: WorldState,
        stale: StaleSet,
        outlet: Outlet,
        keyframes: KeyframeCache,
        counters: Counters,
        zstd: bool,
    ) -> None:
        self._state = state
        self._stale = stale
        self._outlet = outlet
        self.keyframes = keyframes
        self._counters = counters
        self._zstd = zstd
        self.wanted: str | None = None
        """Why everything is to be sent, as ``resync`` says it; None: it is not."""
        self.yields = False
        """Nothing goes before the keyframe that is on its way has arrived."""

    def want(self, reason: str) -> None:
        """Everything is to be sent, as soon as the link takes something."""
        self.wanted = reason
        self._stale.clear()

    def is_overtaken_by(self, keys: Iterable[int]) -> bool:
        """Whether values of these keys may be older than the keyframe that is on its way. It may not have them, and says that what
        it does not have is gone as of its frame; a datagram may overtake the stream, and who took such a value first would drop
        it, and refuse it ever after."""
        order = self._outlet.streams.keyframe_order
        return order is not None and self._has_older(keys, order)

    def has_arrived(self) -> bool:
        """Whether the one that was on its way is, or is given up: whatever yielded to it may go."""
        if self._outlet.streams.keyframe_order is None:
            self.yields = False
        return not self.yields

    def is_shorter(self) -> bool:
        """More than half of all records wait, they would take more datagrams than one stream is worth,
        and there is room for everything: then a keyframe is the shortest way."""
        outlet = self._outlet
        if outlet.budget is not None:
            return False
        waiting, records = len(self._stale), len(self._state)
        if waiting * 2 <= records or waiting <= PIECES_MAX or outlet.streams:
            return False
        keyframe_bytes = records * self._state.record_bytes
        bytes_max = outlet.link.message_bytes_max()
        return keyframe_bytes > PIECES_MAX * bytes_max and outlet.link.room_bytes() >= keyframe_bytes

    def send(self, mono: float) -> bool:
        """``resync`` and everything. False: the link takes nothing now."""
        outlet, reason = self._outlet, self.wanted
        if outlet.link.room_bytes() <= 0:
            return False
        self.wanted = None
        outlet.streams.reset_all()
        self._stale.clear()
        if not self._state.records and reason == "joined":
            return True
        keyframe = self.keyframes.get(mono, zstd=self._zstd)
        outlet.link.control(encode_control("resync", reason=reason))
        self._counters.resyncs += 1
        outlet.send_stream(keyframe.messages, keyframe.keys, keyframe.size_bytes, mono, keyframe=True)
        # It may be a shared one, some tenths of a second old: what changed since goes right behind it. If some of that is older than
        # the keyframe, not before it has arrived: see is_overtaken_by().
        self._stale.add(tuple(keyframe.changed))
        self.yields = outlet.lossy and self._has_older(keyframe.changed, keyframe.order)
        return True

    def _has_older(self, keys: Iterable[int], order: int) -> bool:
        order_at = self._state.order_at
        return any(order_at(key) < order for key in keys)
